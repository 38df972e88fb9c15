"""DELETE /users/me/likes/chat/{id}: remove your like of a chat."""

from aideer.chats import likes
from aideer.schemas.paths import ChatId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/users/me/likes/chat/<id>", **describe("Take back the like of a chat", errors=(400, 403, 404, 429)))
def unlike(user: Visitor, id: ChatId) -> DoneResponse:
    """Remove your like, even if the chat was deleted or made private since."""
    likes.unlike(user, "chat", id)
    return DoneResponse(message="Not liked any more.")
