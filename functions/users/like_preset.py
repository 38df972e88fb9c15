"""POST /users/me/likes/preset/{id}: like a preset."""

from aideer.chats import likes
from aideer.schemas.paths import PresetId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/likes/preset/<id>", **describe("Like a preset", errors=(400, 403, 404, 409, 429)))
def like(user: Visitor, id: PresetId) -> DoneResponse:
    """Like a preset that you may read. Its like_count is the number of users that like it."""
    likes.like(user, "preset", id)
    return DoneResponse(message="Liked.")
