"""Lists of presets: the user's own and the shared ones, page by page."""

import heapq
from collections.abc import Iterator
from itertools import islice, repeat
from operator import attrgetter

from pynamodb.indexes import GlobalSecondaryIndex

from aideer.chats import presets
from aideer.core.errors import Unprocessable
from aideer.data.models import Preset, User
from aideer.schemas import presets as schemas
from aideer.security import auth
from aideer.web import pagination

_LONGEST_SORT_KEY = 1024  # DynamoDB's limit, in bytes

_Place = tuple[str, str] | None
"""The position of one source of a list: the sort value and the id of its last preset."""


def list_page(
    user: User, order_by: schemas.OrderBy, order: schemas.Order, limit: int, cursor: str | None, offset: int
) -> tuple[list[schemas.PresetSummaryResponse], str | None]:
    """Return a page of the user's own presets and the public ones, and the next cursor. Administrators also get unlisted presets.

    The page merges all of the user's own presets with one query of each index. So it costs the same however many public presets
    there are. A cursor holds the position of each source. So it is exact, even if many presets have the same title.
    """
    list_name, descending = f"presets by {order_by} {order}", order == "desc"
    places = _decode_cursor(list_name, cursor)
    visibilities = ("public", "unlisted") if auth.is_admin(user) else ("public",)
    most = offset + limit + 1
    sources = [_list_own(user, order_by, descending, places[0])] + [
        _iterate_shared(user, visibility, order_by, descending, place, most)
        for visibility, place in zip(visibilities, places[1:], strict=False)
    ]
    numbered = [zip(repeat(n), source) for n, source in enumerate(sources)]
    merged = heapq.merge(*numbered, key=lambda found: str(getattr(found[1], order_by)), reverse=descending)
    found = list(islice(merged, most))
    for n, head in found[: offset + limit]:
        places[n] = (getattr(head, order_by), head.id)
    key = [part for place in places for part in (place or ("", ""))]
    more = pagination.encode(list_name, key) if len(found) == most else None
    return [presets.to_summary(head) for _, head in found[offset : offset + limit]], more


def _list_own(user: User, order_by: str, descending: bool, after: _Place) -> list[Preset]:
    heads = sorted(Preset.by_owner.query(user.id), key=attrgetter(order_by, "id"), reverse=descending)
    return [head for head in heads if after is None or _is_after(head, order_by, descending, after)]


def _is_after(head: Preset, order_by: str, descending: bool, after: tuple[str, str]) -> bool:
    place = (getattr(head, order_by), head.id)
    return place < after if descending else place > after


def _iterate_shared(
    user: User, visibility: str, order_by: str, descending: bool, after: _Place, most: int
) -> Iterator[Preset]:
    indexes: dict[str, GlobalSecondaryIndex[Preset]] = {
        "create_time": Preset.by_create_time,
        "update_time": Preset.by_update_time,
        "title": Preset.by_title,
    }
    start = after and {
        "visibility": {"S": visibility},
        order_by: {"S": after[0]},
        "id": {"S": after[1]},
        "version": {"N": str(Preset.HEAD)},
    }
    found = indexes[order_by].query(
        visibility, scan_index_forward=not descending, last_evaluated_key=start, page_size=most
    )
    return (head for head in found if head.owner_id != user.id)


def _decode_cursor(list_name: str, cursor: str | None) -> list[_Place]:
    if cursor is None:
        return [None, None, None]
    key = pagination.decode(list_name, cursor, (str,) * 6)
    places = list(zip(key[::2], key[1::2], strict=True))
    if any(bool(value) != bool(id) or len(value.encode()) > _LONGEST_SORT_KEY for value, id in places):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return [place if place[1] else None for place in places]
