"""DELETE /api/v1/codes?batch=: revoke a batch. Its unused codes cannot be redeemed any more."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.billing import redeem_codes
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/codes", **describe("Revoke a batch of redeem codes", errors=(403, 404)))
def delete(admin: Admin, batch: Annotated[str, Query(min_length=1, max_length=64)]) -> DoneResponse:
    """Revoke a batch. If the request fails in the middle, send it again to complete it."""
    redeem_codes.revoke_batch(admin, batch)
    return DoneResponse(message="Revoked.")
