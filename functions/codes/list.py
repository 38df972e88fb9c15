"""GET /api/v1/codes: redeem codes, as administrators see them."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.billing import code_lists, redeem_codes
from aideer.schemas.credits import RedeemCodeResponse
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

CONTENT = {
    "application/json": {
        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/RedeemCodeResponse"}},
    },
    "text/csv": {"schema": {"type": "string"}},
}
Batch = Annotated[str | None, Query(min_length=1, max_length=64, description="Only the codes of this batch.")]
Grouped = Annotated[bool, Query(description="Only one code of each batch, with `batch_size`. Not with `offset`.")]
Format = Annotated[
    Literal["json", "csv"],
    Query(description="A table has all codes of a `batch`, or without it the codes of this page."),
]


@app.get("/api/v1/codes", **describe("List redeem codes", errors=(403,), headers=PAGE_HEADERS, content=CONTENT))
def list_(
    admin: Admin,
    batch: Batch = None,
    group_batches: Grouped = False,
    format: Format = "json",
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[RedeemCodeResponse] | str]:
    """List the codes, newest first. With `batch`, list the codes of that batch by name.

    With `group_batches`, a page may be shorter than `limit` even if more codes follow, so check X-Next-Cursor.
    """
    if format == "csv" and batch:
        page, more = code_lists.list_batch(admin, batch), None
    elif group_batches and not batch:
        page, more = code_lists.list_grouped(admin, limit, cursor, offset)
    else:
        page, more = code_lists.list_page(admin, batch, limit, cursor, offset)
    if format == "json":
        return Response(
            status_code=200, content_type="application/json", body=page, headers=pagination.page_headers(more)
        )
    table = redeem_codes.format_csv(page, uses=True)
    headers = {**pagination.page_headers(more), "Content-Disposition": 'attachment; filename="codes.csv"'}
    return Response(status_code=200, content_type="text/csv; charset=utf-8", body=table, headers=headers)
