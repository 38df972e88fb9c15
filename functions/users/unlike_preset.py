"""DELETE /users/me/likes/preset/{id}: remove your like of a preset."""

from aideer.chats import likes
from aideer.schemas.paths import PresetId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete(
    "/api/v1/users/me/likes/preset/<id>", **describe("Take back the like of a preset", errors=(400, 403, 404, 429))
)
def unlike(user: Visitor, id: PresetId) -> DoneResponse:
    """Remove your like, even if the preset was deleted or made private since."""
    likes.unlike(user, "preset", id)
    return DoneResponse(message="Not liked any more.")
