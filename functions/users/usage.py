"""GET /users/me/usage: what you were charged for, by day and model."""

from aws_lambda_powertools.event_handler import Response

from aideer.billing.usage import read_page
from aideer.schemas.oneself import From, To, UsageResponse, UtcOffset
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe
from aideer.web.pagination import Cursor

__all__ = ["handler"]


@app.get("/api/v1/users/me/usage", **describe("See one's use by day and model", errors=(429,), headers=PAGE_HEADERS))
def usage(
    user: Reader, first: From = None, last: To = None, utc_offset: UtcOffset = 0, cursor: Cursor = None
) -> Response[UsageResponse]:
    """Sum up your answers in at most 92 days, the newest day first. The sums are those of your ledger.

    A page has whole days, as long as one day has fewer than 10,000 entries. If a day is in two pages, add up its parts.
    """
    page, more = read_page(user, first, last, utc_offset, cursor)
    return Response(status_code=200, content_type="application/json", body=page, headers=pagination.page_headers(more))
