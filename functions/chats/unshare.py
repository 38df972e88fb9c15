"""DELETE /chats/{id}/shares/{share_id}: revoke a link."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Path

from aideer.chats import shares
from aideer.schemas.paths import ChatId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

ShareId = Annotated[str, Path(min_length=1, max_length=64)]


@app.delete("/api/v1/chats/<id>/shares/<share_id>", **describe("Revoke a link", errors=(403, 404)))
def unshare(user: Visitor, id: ChatId, share_id: ShareId) -> DoneResponse:
    """Revoke a link. From now on it answers as a link that never existed."""
    shares.revoke(user, id, share_id)
    return DoneResponse(message="Revoked.")
