"""GET /users/me/likes: the chats and presets that you like."""

from aideer.chats import likes as domain
from aideer.schemas.users import LikesResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/users/me/likes", **describe("List what one likes"))
def likes(user: Visitor) -> LikesResponse:
    """List the presets and chats that you like, newest first."""
    return domain.list_all(user)
