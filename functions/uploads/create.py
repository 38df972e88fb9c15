"""POST /uploads: announce a file, and get the form that posts it."""

from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.uploads import NewUpload, NewUploadResponse
from aideer.security.callers import Member
from aideer.uploads import uploads
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/uploads", **describe("Upload a file", errors=(403, 413, 415, 429)))
def create(user: Member, new: NewUpload, key: IdempotencyKey = None) -> NewUploadResponse:
    """Announce a file. Post it with the form in `post` within 15 minutes, then complete the upload.

    The form takes this file's type and size alone. A file that no chat uses is removed after a day.
    """
    return uploads.create(user, new, IdempotentRequest(user.id, "POST /uploads", key, new))
