"""POST /api/v1/codes: make a redeem code, or a batch of them."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.billing import redeem_codes
from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.credits import CodeBatchResponse, NewCode, RedeemCodeResponse
from aideer.schemas.headers import IdempotencyKey
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

CONTENT = {
    "application/json": {
        "schema": {
            "anyOf": [
                {"$ref": "#/components/schemas/RedeemCodeResponse"},
                {"$ref": "#/components/schemas/CodeBatchResponse"},
            ],
        }
    },
    "text/csv": {"schema": {"type": "string"}},
}


@app.post("/api/v1/codes", **describe("Make redeem codes", errors=(403, 409), content=CONTENT))
def create(
    user: Admin,
    body: NewCode,
    idempotency_key: IdempotencyKey = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",
) -> Response[RedeemCodeResponse | CodeBatchResponse | str]:
    """Make a code, or with `count` a batch.

    If a batch breaks off, send the same request with its Idempotency-Key to complete it.
    """
    made = redeem_codes.create(user, body, IdempotentRequest(user.id, "POST /codes", idempotency_key, body))
    if format == "json":
        return Response(status_code=200, content_type="application/json", body=made)
    name, rows = (f"codes-{made.batch}", made.codes) if isinstance(made, CodeBatchResponse) else ("code", [made])
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    table = redeem_codes.format_csv(rows)
    return Response(status_code=200, content_type="text/csv; charset=utf-8", body=table, headers=headers)
