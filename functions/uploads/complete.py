"""POST /uploads/{id}/complete: verify a posted file, and make it ready for messages."""

from aideer.schemas.paths import UploadId
from aideer.schemas.uploads import UploadResponse
from aideer.security.callers import Member
from aideer.uploads import processing, uploads
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/uploads/<id>/complete", **describe("Complete an upload", errors=(403, 404, 409, 429)))
def complete(user: Member, id: UploadId) -> UploadResponse:
    """Verify the posted file. An image becomes a JPEG of at most 2,048 pixels a side, without metadata.

    An animated image gives its first frame. A document's text is kept, with its likely `tokens`. Repeat the call freely: it
    has no second effect.
    """
    return uploads.to_response(processing.complete(user, id))
