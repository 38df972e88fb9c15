"""The use of models by day: sums of a user's own ledger.

The ledger is read for each look, and nothing is counted beside it. So the sums equal the ledger, answers of earlier releases are in
them, and no answer costs a write more. Days follow the reader's clock, which no counter by days of UTC could do.

A page makes at most QUERIES queries, however much a user has asked. It ends between two days, if it has more than one. Entries are
in the order of their ids, which is their order in time up to SLACK_SECONDS. So one day can be in two pages: its parts add up.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import islice
from typing import Any, NamedTuple

from aideer.billing.days import parse_range
from aideer.core.errors import Unprocessable
from aideer.data.models import CreditEntry, Task, User
from aideer.schemas.oneself import DayUsage, ModelUsage, UsageResponse
from aideer.security import budgets
from aideer.web import pagination

QUERIES = 4
ENTRIES = 2500
"""The most entries that one query reads. An entry has some 350 bytes, and DynamoDB ends a query at 1 MB."""
SLACK_SECONDS = 600
"""The most seconds between the time in an entry's id and its create_time."""
_ENTRY_BYTES = 350
_LIST = "usage"
_LONGEST_ID = 64
_SUMS = ("answers", "titles", "input_tokens", "output_tokens", "credits")
_READ = ["entry_id", "create_time", "amount", "kind", "model", "input_tokens", "output_tokens"]


class _Entry(NamedTuple):
    """An entry of the ledger. `day` is the reader's. `model` is None if the entry charged for no answer."""

    id: str
    day: str
    model: str | None
    counts: dict[str, int]


def read_page(
    user: User, first: str | None, last: str | None, utc_offset: int, cursor: str | None
) -> tuple[UsageResponse, str | None]:
    """Return the sums from the day `first` to the day `last`, and the cursor of the next page.

    Without both, these are the thirty days until today. `utc_offset` is in minutes. Raises Unprocessable for a range that is none
    or is too long, and TooManyRequests if the user has used up the reading budget.
    """
    zone = timezone(timedelta(minutes=utc_offset))
    begin, end = parse_range(first, last, zone)
    entries, more = _read(user.id, _id_at(begin, zone, -SLACK_SECONDS), _upper_id(end, zone, cursor), zone)
    budgets.charge(user.id, len(entries) * _ENTRY_BYTES)
    if more:
        entries = _whole_days(entries)
    wanted = [entry for entry in entries if entry.model and begin.isoformat() <= entry.day <= end.isoformat()]
    response = UsageResponse(first=begin.isoformat(), last=end.isoformat(), utc_offset=utc_offset, days=_sum(wanted))
    return response, pagination.encode(_LIST, [entries[-1].id]) if more else None


def _read(user_id: str, low: str, high: str, zone: timezone) -> tuple[list[_Entry], bool]:
    """Return the newest entries with ids from `low` to below `high`, and whether there may be more."""
    if low >= high:
        return [], False
    reads = CreditEntry.query(
        user_id,
        CreditEntry.entry_id.between(low, high),
        scan_index_forward=False,
        page_size=ENTRIES,
        consistent_read=True,
        attributes_to_get=_READ,
    ).page_iter
    pages: list[dict[str, Any]] = list(islice(reads, QUERIES))
    entries = [_parse(item, zone) for page in pages for item in page["Items"] if item["entry_id"]["S"] != high]
    return entries, bool(entries and pages[-1].get("LastEvaluatedKey"))


def _parse(item: dict[str, dict[str, str]], zone: timezone) -> _Entry:
    def whole(name: str) -> int:
        return int(item[name]["N"]) if name in item else 0

    title = item["kind"]["S"] == Task.TITLE
    return _Entry(
        item["entry_id"]["S"],
        datetime.fromisoformat(item["create_time"]["S"]).astimezone(zone).date().isoformat(),
        item["model"]["S"] if "model" in item else None,
        {
            "answers": int(not title),
            "titles": int(title),
            "input_tokens": whole("input_tokens"),
            "output_tokens": whole("output_tokens"),
            "credits": -whole("amount"),
        },
    )


def _whole_days(entries: list[_Entry]) -> list[_Entry]:
    """Return the entries before the oldest day, of which there may be more. If there is no other day, return all of them."""
    oldest = next(at for at, entry in enumerate(entries) if entry.day == entries[-1].day)
    return entries[:oldest] or entries


def _sum(entries: Sequence[_Entry]) -> list[DayUsage]:
    days: dict[str, dict[str, Counter[str]]] = {}
    for entry in entries:
        days.setdefault(entry.day, {}).setdefault(str(entry.model), Counter()).update(entry.counts)
    return [
        DayUsage(
            day=day,
            **{name: sum(counter[name] for counter in models.values()) for name in _SUMS},
            models=[
                ModelUsage(model=model, **{name: counter[name] for name in _SUMS})
                for model, counter in sorted(models.items())
            ],
        )
        for day, models in sorted(days.items(), reverse=True)
    ]


def _id_at(day: date, zone: timezone, more_seconds: float) -> str:
    """Return the least id that is made so many seconds after the beginning of a day (RFC 9562, section 5.7)."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moment = datetime.combine(day, time(), UTC) - epoch - (zone.utcoffset(None) or timedelta())
    milliseconds = max(0, int((moment.total_seconds() + more_seconds) * 1000))
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _upper_id(end: date, zone: timezone, cursor: str | None) -> str:
    high = _id_at(end, zone, 86400 + SLACK_SECONDS)
    if cursor is None:
        return high
    [entry_id] = pagination.decode(_LIST, cursor, (str,))
    if not 0 < len(entry_id.encode()) <= _LONGEST_ID:
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return min(high, str(entry_id))
