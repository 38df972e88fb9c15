"""GET /api/v1/presets: your own presets and the public ones."""

from aws_lambda_powertools.event_handler import Response

from aideer import pages, presets
from aideer.auth import Visitor
from aideer.contract.presets import Order, OrderBy, PresetSummary
from aideer.http import app, handler
from aideer.pages import Cursor, Limit, Offset
from aideer.responses import PAGE_HEADERS, documented

__all__ = ["handler"]


@app.get("/api/v1/presets", **documented("List presets", headers=PAGE_HEADERS))
def list_presets(
    user: Visitor,
    order_by: OrderBy = "create_time",
    order: Order = "desc",
    limit: Limit = 10,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> Response[list[PresetSummary]]:
    return pages.answer(*presets.page(user, order_by, order, limit, cursor, offset))
