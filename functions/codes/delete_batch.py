"""DELETE /api/v1/codes?batch=: revoke a batch. Its unused codes cannot be redeemed any more."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer import codes
from aideer.auth import Admin
from aideer.contract.users import Done
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.delete("/api/v1/codes", **documented("Revoke a batch of redeem codes", errors=(403, 404)))
def delete(admin: Admin, batch: Annotated[str, Query(min_length=1, max_length=64)]) -> Done:
    """Revoke a batch. If the request fails in the middle, send it again to complete it."""
    codes.revoke_batch(admin, batch)
    return Done(message="Revoked.")
