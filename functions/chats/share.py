"""POST /chats/{id}/shares: a link by which anybody reads a chat without signing in."""

from aideer.chats import shares
from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.paths import ChatId
from aideer.schemas.shares import NewShare, NewShareResponse
from aideer.security.callers import Member
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/chats/<id>/shares", **describe("Share a chat by a link", errors=(403, 404, 409, 413, 429)))
def share(user: Member, id: ChatId, new: NewShare, key: IdempotencyKey = None) -> NewShareResponse:
    """Make a link to your own chat. Only this response has its `token`, so keep it: no other call shows it again.

    The link shows the messages that are visible now. It never shows messages that are written or edited later, hidden messages or
    costs. A message that you delete or hide disappears from it at once.
    """
    request = IdempotentRequest(user.id, f"POST /chats/{id}/shares", key, new)
    return shares.create(user, id, new, request)
