"""Statistics for administrators, by day and model: the sums of counters.py. They take one query a day, and read no counted item."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from aideer.billing import counters
from aideer.core import clock
from aideer.core.errors import Unprocessable
from aideer.data.models import Record
from aideer.schemas.admin import DayStatistics, ModelStatistics, StatisticsResponse, UserStatistics

MOST_DAYS = 92
DAYS = 30
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
    with ThreadPoolExecutor(_THREADS) as pool:
        total, *by_day = pool.map(_counts, [counters.TOTAL, *map(counters.day_key, days)])
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
    for shard in Record.query(pk):
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
