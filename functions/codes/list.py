"""GET /api/v1/codes: redeem codes, as administrators see them."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer import codes, pages
from aideer.auth import Admin
from aideer.contract.credits import RedeemCode
from aideer.http import app, handler
from aideer.responses import PAGE_HEADERS, documented

__all__ = ["handler"]

Batch = Annotated[str | None, Query(min_length=1, max_length=64, description="Only the codes of this batch.")]


@app.get("/api/v1/codes", **documented("List redeem codes", errors=(403,), headers=PAGE_HEADERS))
def list_(
    admin: Admin, batch: Batch = None, limit: pages.Limit = 10, cursor: pages.Cursor = None, offset: pages.Offset = 0
) -> Response[list[RedeemCode]]:
    """List the codes, newest first. With `batch`, list the codes of that batch by name."""
    return pages.answer(*codes.page(admin, batch, limit, cursor, offset))
