"""POST /api/v1/users/{id}/credits: give credits to a user, or take some."""

from aideer.billing import topups
from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.credits import GrantResponse, NewGrant
from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.users import UserId
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users/<id>/credits", **describe("Grant credits to a user", errors=(402, 403, 404)))
def grant(user: Admin, id: UserId, body: NewGrant, idempotency_key: IdempotencyKey = None) -> GrantResponse:
    """Give credits, or take some with an amount below 0. You cannot take more than the user has without the held credits."""
    request = IdempotentRequest(user.id, f"POST /users/{id}/credits", idempotency_key, body)
    return GrantResponse.model_validate(topups.grant(id, body, user, request))
