"""PUT /chats/{id}: change a chat's fields, or replace its messages."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import chats
from aideer.schemas.chats import ChatChange, ChatResponse
from aideer.schemas.paths import ChatId
from aideer.security.readers import Reader
from aideer.web.conditional_requests import ETAG_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put(
    "/api/v1/chats/<id>",
    **describe("Change a chat", errors=(400, 403, 404, 409, 412, 413, 428, 429), headers=ETAG_HEADER),
)
def update(user: Reader, id: ChatId, change: ChatChange, if_match: IfMatch = None) -> Response[ChatResponse]:
    """Change the fields that you send; `messages` needs If-Match. The response is the chat with its last messages."""
    chat, page = chats.change(user, id, change, if_match)
    return respond(ChatResponse.of(chat, page.messages, page.previous), chat.version)
