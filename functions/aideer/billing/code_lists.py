"""Lists of redeem codes, for administrators.

The list of all codes is one partition of an index. Only making codes writes to it, and its pages cost the same however many codes
there are. All codes of a batch have the same create_time. So a list that shows one code of each batch goes on below that time.
"""

from itertools import islice
from typing import Any, NamedTuple

from aideer.billing import redeem_codes
from aideer.core.errors import Unprocessable
from aideer.data.models import Code, Record, User
from aideer.schemas.credits import RedeemCodeResponse
from aideer.security import audit_trail
from aideer.web import pagination

ROUNDS = 8
"""The most pairs of a query and a batch read for one page of a list with grouped batches."""
_GROUPED = "codes and batches"
_ROUND = 30
"""How many codes such a round reads."""


class _Place(NamedTuple):
    """The last code that a list has shown. `batch` is that of this code, if the rest of its batch is skipped."""

    create_time: str
    code: str
    batch: str


def list_page(
    admin: User, batch: str | None, limit: int, cursor: str | None, offset: int
) -> tuple[list[RedeemCodeResponse], str | None]:
    """Return a page of codes, and the cursor of the next page. All codes come newest first, and the codes of a batch by name."""
    most = offset + limit + 1
    if batch is None:
        place = _decode_cursor("codes", cursor, "create_time", "code")
        start = place and {"listed": {"S": Code.ALL}, **place}
        found = Code.by_create_time.query(Code.ALL, scan_index_forward=False, last_evaluated_key=start, limit=most)
    else:
        place = _decode_cursor(f"codes of {batch}", cursor, "code")
        start = place and {"batch": {"S": batch}, **place}
        found = Code.by_batch.query(batch, last_evaluated_key=start, limit=most)
    keys = list(islice(found, offset, most))
    codes = _read(keys[:limit])
    more = None
    if len(keys) > limit:
        last = keys[limit - 1]
        more = pagination.encode(
            *("codes", [last.create_time, last.code]) if batch is None else (f"codes of {batch}", [last.code])
        )
    audit_trail.record(admin, "codes.list", about=batch)
    return [redeem_codes.to_response(code) for code in codes], more


def list_grouped(
    admin: User, limit: int, cursor: str | None, offset: int
) -> tuple[list[RedeemCodeResponse], str | None]:
    """Return a page of codes, newest first, with one code of each batch, and the cursor of the next page.

    A page may be shorter than `limit` although there are more, because it makes at most ROUNDS queries. Raises Unprocessable.
    """
    if offset:
        raise Unprocessable("offset_with_filter", "With a filter, go on by the cursor of the page before.")
    place = _decode_place(cursor) if cursor is not None else None
    shown, place = _read_grouped(limit, place)
    audit_trail.record(admin, "codes.list")
    sizes = _read_sizes(shown)
    page = [redeem_codes.to_response(code).model_copy(update={"batch_size": sizes.get(code.batch)}) for code in shown]
    return page, pagination.encode(_GROUPED, list(place)) if place else None


def list_batch(admin: User, batch: str) -> list[RedeemCodeResponse]:
    """Return all codes of a batch, by name."""
    codes = _read(list(Code.by_batch.query(batch)))
    audit_trail.record(admin, "codes.list", about=batch)
    return [redeem_codes.to_response(code) for code in codes]


def _read_grouped(limit: int, place: _Place | None) -> tuple[list[Code], _Place | None]:
    """Return the next codes after a place, one of each batch, and the place after them, or None if there are no more."""
    shown: list[Code] = []
    for _ in range(ROUNDS):
        codes, more = _read_round(place)
        for code in codes:
            if not (place and place.batch and place.batch == code.batch):
                if len(shown) == limit:
                    return shown, place
                shown.append(code)
            place = _Place(code.create_time, code.code, code.batch or "")
        if not more:
            return shown, None
    return shown, place


def _read_round(place: _Place | None) -> tuple[list[Code], bool]:
    """Return the next codes after a place, and whether there are more."""
    below = start = None
    if place and place.batch:
        below = Code.create_time < place.create_time
    elif place:
        start = {"listed": {"S": Code.ALL}, "create_time": {"S": place.create_time}, "code": {"S": place.code}}
    pages = Code.by_create_time.query(
        *(Code.ALL, below), scan_index_forward=False, last_evaluated_key=start, page_size=_ROUND
    ).page_iter
    keys = [Code.from_raw_data(item) for item in next(pages)["Items"]]
    return _read(keys), pages.last_evaluated_key is not None


def _read(keys: list[Code]) -> list[Code]:
    """Return the codes of these keys of an index, in their order."""
    found = (
        {code.code: code for code in Code.batch_get([key.code for key in keys], consistent_read=True)} if keys else {}
    )
    return [found[key.code] for key in keys]


def _read_sizes(codes: list[Code]) -> dict[str, int]:
    """Return how many codes each batch of these codes has."""
    keys = [(f"batch#{code.batch}", "codes") for code in codes if code.batch]
    records = Record.batch_get(keys, consistent_read=True) if keys else ()
    return {record.pk.partition("#")[2]: len(record.data["names"]) for record in records}


def _decode_place(cursor: str) -> _Place:
    place = _Place(*pagination.decode(_GROUPED, cursor, (str, str, str)))
    if not all(len(value) <= redeem_codes.LONGEST for value in place) or not (place.create_time and place.code):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return place


def _decode_cursor(list_name: str, cursor: str | None, *names: str) -> dict[str, Any] | None:
    if cursor is None:
        return None
    values = pagination.decode(list_name, cursor, (str,) * len(names))
    if not all(0 < len(value) <= redeem_codes.LONGEST for value in values):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return {name: {"S": value} for name, value in zip(names, values, strict=True)}
