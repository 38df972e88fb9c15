"""GET /api/v1/codes: redeem codes, as administrators see them."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.billing import redeem_codes
from aideer.schemas.credits import RedeemCodeResponse
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Batch = Annotated[str | None, Query(min_length=1, max_length=64, description="Only the codes of this batch.")]


@app.get("/api/v1/codes", **describe("List redeem codes", errors=(403,), headers=PAGE_HEADERS))
def list_(
    admin: Admin,
    batch: Batch = None,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[RedeemCodeResponse]]:
    """List the codes, newest first. With `batch`, list the codes of that batch by name."""
    return pagination.respond(*redeem_codes.list_page(admin, batch, limit, cursor, offset))
