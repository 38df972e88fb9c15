"""Lists of a user's own chats, page by page."""

from typing import Any

from aideer.core.errors import Unprocessable
from aideer.data.models import Chat, User
from aideer.schemas.chats import Order, OrderBy
from aideer.web import pagination

_INDEXES = {"create_time": Chat.by_create_time, "update_time": Chat.by_update_time, "title": Chat.by_title}


def list_page(
    user: User, order_by: OrderBy | None, order: Order, *, prefix: str, limit: int, cursor: str | None, offset: int
) -> tuple[list[Chat], str | None]:
    """Return a page of the user's own chats, and the cursor of the next page. A title prefix orders the chats by title.

    The page may be shorter than `limit` although more chats follow, because an index lags behind deletions.
    """
    if prefix and order_by not in (None, "title"):
        raise Unprocessable("order_by_not_title", "With q, chats are ordered by title.")
    by = order_by or ("title" if prefix else "create_time")
    name = f"chats {by} {order} {prefix}"
    keys = list(
        _INDEXES[by].query(
            user.id,
            Chat.title.startswith(prefix) if prefix else None,
            scan_index_forward=order == "asc",
            limit=offset + limit + 1,
            last_evaluated_key=_decode_cursor(user, name, by, prefix, cursor) if cursor else None,
        )
    )[offset:]
    page = keys[:limit]
    found = {chat.id: chat for chat in Chat.batch_get([key.id for key in page], consistent_read=True)} if page else {}
    chats = [found[key.id] for key in page if key.id in found and found[key.id].owner_id == user.id]
    more = len(keys) > limit
    return chats, pagination.encode(name, [getattr(page[-1], by), page[-1].id]) if more else None


def _decode_cursor(user: User, name: str, by: OrderBy, prefix: str, cursor: str) -> dict[str, Any]:
    value, chat_id = pagination.decode(name, cursor, (str, str))
    # DynamoDB refuses an impossible key, and a key outside the queried range.
    if not (0 < len(value.encode()) <= 1024 and 0 < len(chat_id) <= 64 and value.startswith(prefix)):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return {"owner_id": {"S": user.id}, by: {"S": value}, "id": {"S": chat_id}}
