"""Lists of a user's own chats, page by page.

A page without filters reads as many chats as it shows. A page with filters looks at chats in the order of the list until it is full
or has looked at LOOKED chats. Then its cursor continues after the last one that it looked at. Each chat that it looked at and does
not show counts as LOOK_BYTES of the reading budget. A page of pinned chats looks only at these, because a record names them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from aideer.chats import chat_marks
from aideer.core.errors import Unprocessable
from aideer.data.models import Chat, User
from aideer.schemas.chats import Order, OrderBy, Visibility
from aideer.security import budgets
from aideer.web import pagination

LOOKED = 1000
"""The most chats that a page with filters looks at."""
LOOK_BYTES = 1024
"""The bytes that a chat counts in the reading budget if the page has looked at it and does not show it."""
BATCH = 100
"""The most chats of one BatchGetItem."""

_INDEXES = {"create_time": Chat.by_create_time, "update_time": Chat.by_update_time, "title": Chat.by_title}


@dataclass(frozen=True, slots=True)
class Filters:
    """The features that all chats of a list have. A feature that is None is not asked for."""

    archived: bool | None = None
    pinned: bool | None = None
    tag: str | None = None
    preset_id: str | None = None
    visibility: Visibility | None = None

    def fit(self, chat: Chat) -> bool:
        """Return whether a chat is in the list."""
        return (
            self.archived in (None, bool(chat.archived))
            and self.pinned in (None, bool(chat.pinned))
            and (self.tag is None or self.tag in (chat.tags or []))
            and self.preset_id in (None, chat.preset_id)
            and self.visibility in (None, chat.visibility)
        )

    @property
    def wanted(self) -> dict[str, Any]:
        """The filters that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


ALL = Filters()


def list_page(
    user: User,
    order_by: OrderBy | None,
    order: Order,
    *,
    prefix: str,
    limit: int,
    cursor: str | None,
    offset: int,
    filters: Filters = ALL,
) -> tuple[list[Chat], str | None]:
    """Return a page of the user's own chats, and the cursor of the next page. A title prefix orders the chats by title.

    The page may be shorter than `limit` although more chats follow, because an index lags behind deletions, and because a page with
    filters looks at a limited number of chats. Raises Unprocessable, and TooManyRequests if the reading budget is used up.
    """
    if prefix and order_by not in (None, "title"):
        raise Unprocessable("order_by_not_title", "With q, chats are ordered by title.")
    by: OrderBy = order_by or ("title" if prefix else "create_time")
    wanted = filters.wanted
    if wanted and offset:
        raise Unprocessable("offset_with_filter", "With a filter, go on by the cursor of the page before.")
    name = f"chats {by} {order} {prefix}" + "".join(f" {key}={value}" for key, value in wanted.items())
    start = _decode_cursor(name, prefix, cursor) if cursor else None
    if filters.pinned:
        page, last = _read_pinned(user, by, order, prefix, filters, start, limit)
    elif wanted:
        page, last = _read_filtered(user, by, order, prefix, filters, start, limit)
    else:
        keys = list(_read_keys(user.id, by, order, prefix, start, offset + limit + 1))[offset:]
        page = get_own(user.id, [key.id for key in keys[:limit]])
        last = keys[limit - 1] if len(keys) > limit else None
    return page, pagination.encode(name, [getattr(last, by), last.id]) if last else None


def walk(
    owner_id: str,
    by: OrderBy,
    order: Order = "desc",
    *,
    prefix: str = "",
    start: tuple[str, str] | None = None,
    first: int = BATCH,
    most: int,
) -> Iterator[tuple[Any, Chat | None]]:
    """Yield the keys of at most `most` of a user's chats in an order of a list, each with its chat, or None if that is gone.

    `start` is the key (the value of the order, id) after which to begin. The first `first` chats are read before the others.
    """
    keys = list(_read_keys(owner_id, by, order, prefix, start, first))
    yield from _with_chats(owner_id, keys)
    if len(keys) == first < most:
        last = getattr(keys[-1], by), keys[-1].id
        rest = list(_read_keys(owner_id, by, order, prefix, last, most - first))
        for at in range(0, len(rest), BATCH):
            yield from _with_chats(owner_id, rest[at : at + BATCH])


def get_own(owner_id: str, ids: list[str]) -> list[Chat]:
    """Read chats in the order of their ids, without those that are gone or not the user's."""
    found = {chat.id: chat for chat in Chat.batch_get(ids, consistent_read=True)} if ids else {}
    return [found[id_] for id_ in ids if id_ in found and found[id_].owner_id == owner_id]


def _with_chats(owner_id: str, keys: list[Any]) -> Iterator[tuple[Any, Chat | None]]:
    found = {chat.id: chat for chat in get_own(owner_id, [key.id for key in keys])}
    for key in keys:
        yield key, found.get(key.id)


def _read_filtered(
    user: User, by: OrderBy, order: Order, prefix: str, filters: Filters, start: tuple[str, str] | None, limit: int
) -> tuple[list[Chat], Any]:
    found: list[tuple[Any, Chat]] = []
    looked, last = 0, None
    first = min(limit + 1, BATCH)
    for key, chat in walk(user.id, by, order, prefix=prefix, start=start, first=first, most=LOOKED):
        looked, last = looked + 1, key
        if chat is not None and filters.fit(chat):
            if len(found) == limit:
                last = found[-1][0]
                break
            found.append((key, chat))
    else:
        last = last if looked == LOOKED else None
    budgets.charge(user.id, max(0, looked - limit) * LOOK_BYTES)
    return [chat for _, chat in found], last


def _read_pinned(
    user: User, by: OrderBy, order: Order, prefix: str, filters: Filters, start: tuple[str, str] | None, limit: int
) -> tuple[list[Chat], Chat | None]:
    def place(chat: Chat) -> tuple[str, str]:
        return getattr(chat, by), chat.id

    down = order == "desc"
    chats = [
        chat
        for chat in get_own(user.id, chat_marks.list_pinned(user.id))
        if filters.fit(chat) and chat.title.startswith(prefix)
    ]
    chats.sort(key=place, reverse=down)
    if start is not None:
        chats = [chat for chat in chats if (place(chat) < start if down else place(chat) > start)]
    page = chats[:limit]
    return page, page[-1] if len(chats) > limit else None


def _read_keys(
    owner_id: str, by: OrderBy, order: Order, prefix: str, start: tuple[str, str] | None, limit: int
) -> Iterable[Any]:
    """Read the keys of the user's chats after `start`. Their order is that of the index `by`."""
    after = {"owner_id": {"S": owner_id}, by: {"S": start[0]}, "id": {"S": start[1]}} if start else None
    keys: Iterable[Any] = _INDEXES[by].query(
        owner_id,
        Chat.title.startswith(prefix) if prefix else None,
        scan_index_forward=order == "asc",
        limit=limit,
        last_evaluated_key=after,
    )
    return keys


def _decode_cursor(name: str, prefix: str, cursor: str) -> tuple[str, str]:
    value, chat_id = pagination.decode(name, cursor, (str, str))
    # DynamoDB refuses an impossible key, and a key outside the queried range.
    if not (0 < len(value.encode()) <= 1024 and 0 < len(chat_id) <= 64 and value.startswith(prefix)):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return value, chat_id
