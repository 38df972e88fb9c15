"""PUT /chats/{id}/messages/{n}: change a message."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import edits
from aideer.schemas.chats import MessageChange, MessageResponse
from aideer.schemas.paths import ChatId, MessageNumber
from aideer.security.readers import Reader
from aideer.web.conditional_requests import ETAG_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put(
    "/api/v1/chats/<id>/messages/<n>",
    **describe("Change a message", errors=(403, 404, 409, 412, 428, 429), headers=ETAG_HEADER),
)
def message_update(
    user: Reader, id: ChatId, n: MessageNumber, change: MessageChange, if_match: IfMatch = None
) -> Response[MessageResponse]:
    """Change a message of the shown path. If-Match is required, and the response has the chat's new ETag.

    An answer with another content becomes an ordinary message. While a task is answering, only messages after its answer can be
    changed. If branches share the message, it changes in all of them.
    """
    edited = edits.edit(user, id, n, change, if_match)
    return respond(MessageResponse.of(edited.chat, edited.message, edited.previous), edited.version)
