"""GET /chats/{id}/shares: the links of a chat."""

from aideer.chats import shares
from aideer.schemas.paths import ChatId
from aideer.schemas.shares import ShareResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/chats/<id>/shares", **describe("List the links of a chat", errors=(403, 404)))
def list_shares(user: Visitor, id: ChatId) -> list[ShareResponse]:
    """List the links that are open, newest first. The list has no tokens. A chat has at most 20 links."""
    return shares.list_all(user, id)
