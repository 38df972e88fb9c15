"""GET /uploads/{id}: one of one's own uploads."""

from aideer.schemas.paths import UploadId
from aideer.schemas.uploads import UploadResponse
from aideer.security.readers import Reader
from aideer.uploads import uploads
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/uploads/<id>", **describe("Get an upload", errors=(404, 429)))
def get(user: Reader, id: UploadId) -> UploadResponse:
    """Show your upload. If it is a ready image, `url` is a new address of it."""
    return uploads.show(user, id)
