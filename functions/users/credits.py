"""GET /api/v1/users/me/credits: your credits, and the ledger that they come from."""

from aws_lambda_powertools.event_handler import Response

from aideer.billing import ledger
from aideer.schemas.credits import LedgerResponse
from aideer.security.callers import Visitor
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe
from aideer.web.pagination import Cursor, Limit, Offset

__all__ = ["handler"]


@app.get("/api/v1/users/me/credits", **describe("List one's credits", headers=PAGE_HEADERS))
def credits(user: Visitor, limit: Limit = 10, cursor: Cursor = None, offset: Offset = 0) -> Response[LedgerResponse]:
    page, more = ledger.list_page(user, limit, cursor, offset)
    return Response(status_code=200, content_type="application/json", body=page, headers=pagination.page_headers(more))
