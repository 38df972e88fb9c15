"""POST /users/me/likes/chat/{id}: like a chat."""

from aideer.chats import likes
from aideer.schemas.paths import ChatId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/likes/chat/<id>", **describe("Like a chat", errors=(400, 403, 404, 409, 429)))
def like(user: Visitor, id: ChatId) -> DoneResponse:
    """Like a chat that you may read."""
    likes.like(user, "chat", id)
    return DoneResponse(message="Liked.")
