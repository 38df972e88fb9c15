"""DELETE /chats/{id}: remove a chat with its messages."""

from aideer.schemas.paths import ChatId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.tasks import chat_deletion
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/chats/<id>", **describe("Delete a chat", errors=(403, 404)))
def delete(user: Visitor, id: ChatId) -> DoneResponse:
    """Delete a chat. If a task is answering in it, the task stops, and you pay for its answer so far."""
    chat_deletion.delete(user, id)
    return DoneResponse(message="Deleted.")
