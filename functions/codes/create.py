"""POST /api/v1/codes: make a redeem code."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer import codes
from aideer.auth import Admin
from aideer.contract.credits import NewCode, RedeemCode
from aideer.contract.headers import IdempotencyKey
from aideer.errors import Unprocessable
from aideer.http import app, handler
from aideer.idempotency import Once
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/codes", **documented("Make a redeem code", errors=(403, 409)))
def create(
    user: Admin,
    body: NewCode,
    idempotency_key: IdempotencyKey = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",
) -> RedeemCode:
    if format == "csv":
        raise Unprocessable("not_supported", "CSV is not supported yet.")
    return codes.create(body, Once(user.id, "POST /codes", idempotency_key, body))
