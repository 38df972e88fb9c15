"""GET /api/v1/users/{id}/credits: a user's credits and ledger, for administrators."""

from aws_lambda_powertools.event_handler import Response

from aideer.billing import ledger as ledgers
from aideer.schemas.credits import LedgerResponse
from aideer.schemas.users import UserId
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe
from aideer.web.pagination import Cursor, Limit, Offset

__all__ = ["handler"]


@app.get("/api/v1/users/<id>/credits", **describe("List a user's credits", errors=(403, 404), headers=PAGE_HEADERS))
def ledger(
    admin: Admin, id: UserId, limit: Limit = 10, cursor: Cursor = None, offset: Offset = 0
) -> Response[LedgerResponse]:
    """A user's credits, and the ledger that they come from. The audit trail records each look at another user's."""
    page, more = ledgers.list_page_of(admin, id, limit, cursor, offset)
    return Response(status_code=200, content_type="application/json", body=page, headers=pagination.page_headers(more))
