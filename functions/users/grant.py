"""POST /api/v1/users/{id}/credits: give credits to a user, or take some."""

from aideer import topups
from aideer.auth import Admin
from aideer.contract.credits import Granted, NewGrant
from aideer.contract.headers import IdempotencyKey
from aideer.contract.users import UserId
from aideer.http import app, handler
from aideer.idempotency import Once
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/users/<id>/credits", **documented("Grant credits to a user", errors=(402, 403, 404)))
def grant(user: Admin, id: UserId, body: NewGrant, idempotency_key: IdempotencyKey = None) -> Granted:
    """Give credits, or take some with an amount below 0. You cannot take more than the user has without the held credits."""
    once = Once(user.id, f"POST /users/{id}/credits", idempotency_key, body)
    return Granted.model_validate(topups.grant(id, body, user, once))
