"""GET /chats: one's own chats, without their messages."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import chat_lists
from aideer.schemas.chats import ChatSummaryResponse, Order, OrderBy
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Prefix = Annotated[str, Query(max_length=50, description="A beginning of the title, case-sensitive; orders by title.")]
By = Annotated[OrderBy | None, Query(description="The default is create_time, or title if q is given.")]


@app.get("/api/v1/chats", **describe("List one's own chats", errors=(429,), headers=PAGE_HEADERS))
def list_(
    user: Reader,
    order_by: By = None,
    order: Order = "desc",
    q: Prefix = "",
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[ChatSummaryResponse]]:
    """List your chats. A page may be shorter than `limit` even if more chats follow, so check X-Next-Cursor."""
    found, next_cursor = chat_lists.list_page(
        user, order_by, order, prefix=q, limit=limit, cursor=cursor, offset=offset
    )
    return pagination.respond([ChatSummaryResponse.model_validate(chat) for chat in found], next_cursor)
