"""POST /chats: open a chat on a preset, with the first messages if there are any."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import chats
from aideer.schemas.chats import ChatResponse, NewChat
from aideer.security.callers import Member
from aideer.web.conditional_requests import ETAG_HEADER, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/chats", **describe("Open a chat", errors=(400, 403, 409, 413, 429), headers=ETAG_HEADER))
def create(user: Member, new: NewChat) -> Response[ChatResponse]:
    """Open a chat. It keeps this version of the preset, even if the preset is changed or deleted later."""
    chat, messages = chats.create(user, new)
    return respond(ChatResponse.of(chat, messages), chat.version)
