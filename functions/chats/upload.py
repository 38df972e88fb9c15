"""GET /chats/{id}/messages/{n}/upload: the address of a message's image, for the readers of a chat."""

from aideer.chats import message_files
from aideer.schemas.paths import ChatId, MessageNumber
from aideer.schemas.uploads import FileAddressResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/chats/<id>/messages/<n>/upload", **describe("Get a message's image", errors=(403, 404)))
def get_upload(user: Visitor, id: ChatId, n: MessageNumber) -> FileAddressResponse:
    """Return an address of the uploaded image that a message shows. It works for 15 minutes, without a token.

    Readers of a shared chat get those of visible messages. An image that its owner has deleted is not found.
    """
    return message_files.get_address(user, id, n)
