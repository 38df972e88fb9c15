"""POST /chats/{id}/copy: a chat of one's own that begins as a copy."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer import copying
from aideer.auth import Member
from aideer.contract.chats import Chat, ChatId
from aideer.etags import ETAG_HEADER, tagged
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]

Upto = Annotated[
    int | None, Query(ge=1, le=2**53, description="The n of the last message to copy, to branch off there.")
]


@app.post("/api/v1/chats/<id>/copy", **documented("Copy a chat", errors=(400, 403, 404, 413), headers=ETAG_HEADER))
def copy(user: Member, id: ChatId, upto: Upto = None) -> Response[Chat]:
    """Copy one's own chat, or a shared one as one sees it; messages keep their n. The copy is private.

    The copy of one's own chat keeps the preset's version. A copy of another user's chat is on the preset's current version, as a
    new chat is.
    """
    chat, page = copying.copy(user, id, upto)
    return tagged(Chat.of(chat, page.messages), chat.version)
