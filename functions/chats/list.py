"""GET /chats: one's own chats, without their messages."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import chat_lists
from aideer.chats.chat_lists import Filters
from aideer.schemas.chats import ChatSummaryResponse, Order, OrderBy, PresetId, Visibility
from aideer.schemas.strings import Tag
from aideer.security.readers import Reader
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Prefix = Annotated[str, Query(max_length=50, description="A beginning of the title, case-sensitive; orders by title.")]
By = Annotated[OrderBy | None, Query(description="The default is create_time, or title if q is given.")]
Archived = Annotated[Literal["all", "true", "false"], Query(description="Only archived chats, or only the others.")]
Pinned = Annotated[Literal["true", "false"] | None, Query(description="Only pinned chats, or only the others.")]
WithTag = Annotated[Tag | None, Query(description="Only chats with this tag.")]
OfPreset = Annotated[PresetId | None, Query(description="Only chats on this preset.")]
Visible = Annotated[Visibility | None, Query(description="Only private or only shared chats.")]
_BOOLEANS = {"true": True, "false": False}


@app.get("/api/v1/chats", **describe("List one's own chats", errors=(429,), headers=PAGE_HEADERS))
def list_(
    user: Reader,
    order_by: By = None,
    order: Order = "desc",
    q: Prefix = "",
    archived: Archived = "all",
    pinned: Pinned = None,
    tag: WithTag = None,
    preset_id: OfPreset = None,
    visibility: Visible = None,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[ChatSummaryResponse]]:
    """List your chats. A page may be shorter than `limit`, or empty, even if more chats follow, so check X-Next-Cursor.

    A chat is in the list if it fits all filters. Filters exclude `offset`.
    """
    filters = Filters(_BOOLEANS.get(archived), _BOOLEANS.get(pinned or ""), tag, preset_id, visibility)
    found, next_cursor = chat_lists.list_page(
        user, order_by, order, prefix=q, limit=limit, cursor=cursor, offset=offset, filters=filters
    )
    return pagination.respond([ChatSummaryResponse.model_validate(chat) for chat in found], next_cursor)
