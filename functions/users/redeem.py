"""POST /api/v1/users/me/credits: redeem a code for credits."""

from aideer.billing import topups
from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.credits import NewRedemption, RedemptionResponse
from aideer.schemas.headers import IdempotencyKey
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/me/credits", **describe("Redeem a code", errors=(429,)))
def redeem(user: Visitor, body: NewRedemption, idempotency_key: IdempotencyKey = None) -> RedemptionResponse:
    request = IdempotentRequest(user.id, "POST /users/me/credits", idempotency_key, body)
    return RedemptionResponse.model_validate(topups.redeem(user, body.redeem_code, request))
