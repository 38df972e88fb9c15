"""GET /api/v1/presets: your own presets and the public ones."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import preset_lists
from aideer.schemas.presets import Order, OrderBy, PresetSummaryResponse
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe
from aideer.web.pagination import Cursor, Limit, Offset

__all__ = ["handler"]


@app.get("/api/v1/presets", **describe("List presets", errors=(429,), headers=PAGE_HEADERS))
def list_presets(
    user: Reader,
    order_by: OrderBy = "create_time",
    order: Order = "desc",
    limit: Limit = 10,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> Response[list[PresetSummaryResponse]]:
    return pagination.respond(*preset_lists.list_page(user, order_by, order, limit, cursor, offset))
