"""POST /chats/{id}/messages: append messages to one's own chat."""

from aideer.chats import chats
from aideer.schemas.chats import MessageResponse, NewMessages
from aideer.schemas.paths import ChatId
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/chats/<id>/messages", **describe("Append messages", errors=(403, 404, 413, 429)))
def append(user: Visitor, id: ChatId, new: NewMessages) -> list[MessageResponse]:
    """Append messages, even while a task is answering. The response holds the messages as they are stored."""
    return [MessageResponse.model_validate(message) for message in chats.append(user, id, new)]
