"""DELETE /chats/{id}/messages/{n}/feedback: take back what one thinks of an answer."""

from aideer.chats import feedback
from aideer.schemas.paths import ChatId, MessageNumber
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/chats/<id>/messages/<n>/feedback", **describe("Take a rating back", errors=(403, 404, 429)))
def unrate(user: Visitor, id: ChatId, n: MessageNumber) -> DoneResponse:
    """Remove the feedback on an answer in your own chat. A change raises the version of the chat."""
    feedback.remove(user, id, n)
    return DoneResponse(message="Removed.")
