"""DELETE /uploads/{id}: delete one of one's own uploads."""

from aideer.schemas.paths import UploadId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.uploads import uploads
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/uploads/<id>", **describe("Delete an upload", errors=(404,)))
def delete(user: Visitor, id: UploadId) -> DoneResponse:
    """Delete your upload at once, also from the chats that show it. Later answers in them go on without the image."""
    uploads.delete(user, id)
    return DoneResponse(message="Deleted.")
