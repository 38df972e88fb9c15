"""POST /chats/{id}/copy: a new chat of one's own that begins as a copy."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import copies
from aideer.schemas.chats import ChatResponse
from aideer.schemas.paths import ChatId
from aideer.security.callers import Member
from aideer.web.conditional_requests import ETAG_HEADER, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

Upto = Annotated[
    int | None, Query(ge=1, le=2**53, description="The n of the last message to copy, to branch off there.")
]


@app.post(
    "/api/v1/chats/<id>/copy", **describe("Copy a chat", errors=(400, 403, 404, 409, 413, 429), headers=ETAG_HEADER)
)
def copy(user: Member, id: ChatId, upto: Upto = None) -> Response[ChatResponse]:
    """Copy your own chat, or a shared one as you see it. Messages keep their n, and the copy is private.

    The copy of your own chat keeps the preset's version. The copy of another user's chat uses the preset's current version, as a
    new chat does.
    """
    chat, page = copies.copy(user, id, upto)
    return respond(ChatResponse.of(chat, page.messages, page.previous), chat.version)
