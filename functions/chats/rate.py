"""PUT /chats/{id}/messages/{n}/feedback: what the user thinks of an answer."""

from aideer.chats import feedback
from aideer.schemas.feedback import FeedbackChange, FeedbackResponse
from aideer.schemas.paths import ChatId, MessageNumber
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/chats/<id>/messages/<n>/feedback", **describe("Rate an answer", errors=(403, 404, 429)))
def rate(user: Visitor, id: ChatId, n: MessageNumber, change: FeedbackChange) -> FeedbackResponse:
    """Rate an answer in your own chat, with tags and a comment, in place of an earlier rating.

    GET /chats/{id} shows the feedback with the answer, to you and to administrators. A change raises the version of the chat.
    """
    return feedback.change(user, id, n, change)
