"""DELETE /chats/{id}/messages/{n}: remove a message, alone or with what follows it."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import edits
from aideer.schemas.chats import ChatResponse
from aideer.schemas.paths import ChatId, MessageNumber
from aideer.security.readers import Reader
from aideer.web.conditional_requests import ETAG_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

Following = Annotated[
    bool, Query(description="Also remove what follows it on the shown path, at most 90 messages in all.")
]


@app.delete(
    "/api/v1/chats/<id>/messages/<n>",
    **describe("Remove a message", errors=(403, 404, 409, 412, 413, 428, 429), headers=ETAG_HEADER),
)
def message_delete(
    user: Reader, id: ChatId, n: MessageNumber, following: Following = False, if_match: IfMatch = None
) -> Response[ChatResponse]:
    """Remove a message of the shown path. If-Match is required, and the response is the chat with its last messages.

    The other messages keep their n. Branches that continued the message continue the one before it. If the shown branch has no
    message left, the chat shows a sibling. While a task is answering, only messages after its answer can be removed.
    """
    chat, page = edits.remove(user, id, n, following=following, if_match=if_match)
    return respond(ChatResponse.of(chat, page.messages, page.previous), int(chat.version))
