"""Statistics for administrators, by day and model: the sums of counters.py. They read no counted item.

A scheduled function adds up the counters of each finished day into one item. These sums are absolute, so that a day can be added up
again. A look reads the sums with one query, and the counters of the other days: of today, mostly.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

from aideer.billing import counters
from aideer.core import clock
from aideer.core.errors import Unprocessable
from aideer.data.models import Record
from aideer.schemas.admin import DayStatistics, ModelStatistics, StatisticsResponse, UserStatistics

MOST_DAYS = 92
DAYS = 30
FINISHED_SECONDS = 3600
"""Seconds after a day's end in which its last transactions may still count."""
_SUMS = "statistics#sums"
_THREADS = 8
_OF_TASKS = ("tasks", "failed", "input_tokens", "output_tokens", "credits")
_OF_USERS = ("users", "deleted")

_UNCOVERED = ""
_Counts = dict[str | None, Counter[str]]
"""Counts by model.

The key None has the counts of users, and the key _UNCOVERED has uncovered credits by code: no model has this name.
"""


def read(first: str | None, last: str | None) -> StatisticsResponse:
    """Return the statistics from the day `first` to the day `last`, including empty days.

    Without both, these are the thirty days until today. Raises Unprocessable.
    """
    begin, end = _range(first, last)
    days = [(begin + timedelta(n)).isoformat() for n in range((end - begin).days + 1)]
    sums = _stored_sums(days[0], days[-1])
    with ThreadPoolExecutor(_THREADS) as pool:
        keys = [counters.TOTAL, *(key for day in days if day not in sums for key in counters.day_keys(day))]
        total, *parts = pool.map(_counts, keys)
    counted = iter(parts)
    by_day = [sums.get(day) or _sum([next(counted) for _ in counters.day_keys(day)]) for day in days]
    all_days = _sum(by_day)
    return StatisticsResponse(
        first=days[0],
        last=days[-1],
        users=UserStatistics(total=_counter_of(total, None)["users"], **_came_and_went(all_days)),
        **_sums(all_days),
        uncovered=_counter_of(all_days, _UNCOVERED),
        models=_models(all_days),
        days=[
            DayStatistics(
                day=day,
                **_came_and_went(counts),
                **_sums(counts),
                uncovered=_counter_of(counts, _UNCOVERED),
                models=_models(counts),
            )
            for day, counts in zip(days, by_day, strict=True)
        ],
    )


def sum_finished_days() -> int:
    """Add up the counters of finished days that have no sum yet, and those of the last one again. Return the number of days.

    A second run at the same time, or a later one, writes the same sums.
    """
    last = datetime.fromtimestamp(clock.now() - FINISHED_SECONDS, UTC).date() - timedelta(1)
    days = [(last - timedelta(n)).isoformat() for n in range(MOST_DAYS)]
    known = _stored_sums(days[-1], days[0])
    due = [day for day in days if day not in known or day == days[0]]
    for day in due:
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = _sum(pool.map(_counts, counters.day_keys(day)))
        Record(_SUMS, day, data=_to_data(counts)).save()
    return len(due)


def _stored_sums(first: str, last: str) -> dict[str, _Counts]:
    """Return the sums of finished days, by day."""
    found = Record.query(_SUMS, Record.sk.between(first, last), consistent_read=True)
    return {record.sk: _from_data(record.data) for record in found}


def _to_data(counts: _Counts) -> dict[str, Any]:
    models = {model: dict(counter) for model, counter in counts.items() if model}
    return {"models": models, "users": dict(counts.get(None, {})), "uncovered": dict(counts.get(_UNCOVERED, {}))}


def _from_data(data: dict[str, Any]) -> _Counts:
    models = {model: Counter(counts) for model, counts in data["models"].items()}
    return {**models, None: Counter(data["users"]), _UNCOVERED: Counter(data["uncovered"])}


def _range(first: str | None, last: str | None) -> tuple[date, date]:
    try:
        end = date.fromisoformat(last or clock.timestamp()[:10])
        begin = date.fromisoformat(first) if first else end - timedelta(DAYS - 1)
    except (ValueError, OverflowError):
        raise Unprocessable("invalid_date", "There is no such day.") from None
    if not 0 <= (end - begin).days < MOST_DAYS:
        raise Unprocessable(
            "invalid_range", f"The range must end after it begins, and can have at most {MOST_DAYS} days."
        )
    return begin, end


def _counts(pk: str) -> _Counts:
    counts: _Counts = {}
    for shard in Record.query(pk, consistent_read=True):
        if code := counters.parse_uncovered_code(shard.sk):
            counts.setdefault(_UNCOVERED, Counter())[code] += shard.uncovered or 0
            continue
        counter = counts.setdefault(counters.parse_model(shard.sk), Counter())
        for name in (*_OF_TASKS, *_OF_USERS):
            counter[name] += getattr(shard, name) or 0
    return counts


def _sum(days: Iterable[_Counts]) -> _Counts:
    together: _Counts = {}
    for counts in days:
        for model, counter in counts.items():
            together.setdefault(model, Counter()).update(counter)
    return together


def _models(counts: _Counts) -> list[ModelStatistics]:
    models = sorted(model for model in counts if model)
    return [ModelStatistics(model=model, **{name: counts[model][name] for name in _OF_TASKS}) for model in models]


def _sums(counts: _Counts) -> dict[str, int]:
    return {name: sum(counter[name] for key, counter in counts.items() if key != _UNCOVERED) for name in _OF_TASKS}


def _came_and_went(counts: _Counts) -> dict[str, int]:
    users = _counter_of(counts, None)
    return {"signed_up": users["users"], "deleted": users["deleted"]}


def _counter_of(counts: _Counts, model: str | None) -> Counter[str]:
    return counts.get(model, Counter())
