"""Statistics for administrators, by day and model: the sums of counters.py. They read no counted item.

A scheduled function adds up the counters of each finished day into one item. These sums are absolute, so that a day can be added up
again. A look reads the sums with one query, and the counters of the other days: of today, mostly.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from aideer.billing import counters
from aideer.billing.days import MOST_DAYS, parse_range
from aideer.core import clock
from aideer.data.models import Record
from aideer.schemas.admin import DayStatistics, ModelStatistics, PresetRatings, StatisticsResponse, UserStatistics

FINISHED_SECONDS = 3600
"""Seconds after a day's end in which its last transactions may still count."""
_SUMS = "statistics#sums"
_THREADS = 8
_OF_TASKS = ("tasks", "failed", "input_tokens", "output_tokens", "credits", "rated_up", "rated_down")
_OF_USERS = ("users", "deleted")
_OF_FIRST_TOKENS = {
    bound: counters.first_token_name(bound) for bound in (*map(str, counters.FIRST_TOKEN_MS), counters.MORE)
}
_OF_RATINGS = ("rated_up", "rated_down")
_STORED_PRESETS = 1_000
"""The most presets in the sum of a day, those with the most ratings. An item has at most 400 KB."""
_PRESETS = 100
"""The most presets in a response."""

_UNCOVERED = ""
_RATED = " "
_Counts = dict[str | None, Counter[str]]
"""Counts by model.

The key None has the counts of users. The key _UNCOVERED has uncovered credits by code, and the key _RATED has ratings by preset and
name, such as "<id> rated_up". No model has these names.
"""
_NO_MODELS = (None, _UNCOVERED, _RATED)


def read(first: str | None, last: str | None) -> StatisticsResponse:
    """Return the statistics from the day `first` to the day `last`, including empty days.

    Without both, these are the thirty days until today. Raises Unprocessable.
    """
    begin, end = parse_range(first, last)
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
        presets=_presets(all_days),
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
    models = {model: dict(counter) for model, counter in counts.items() if model not in _NO_MODELS}
    presets = {name: counts[_RATED][name] for name in _most_rated(counts, _STORED_PRESETS)}
    users, uncovered = dict(counts.get(None, {})), dict(counts.get(_UNCOVERED, {}))
    return {"models": models, "users": users, "uncovered": uncovered, "presets": presets}


def _from_data(data: dict[str, Any]) -> _Counts:
    models = {model: Counter(counts) for model, counts in data["models"].items()}
    rated = Counter(data.get("presets", {}))  # release 0.1.0 counted no ratings
    return {**models, None: Counter(data["users"]), _UNCOVERED: Counter(data["uncovered"]), _RATED: rated}


def _counts(pk: str) -> _Counts:
    counts: _Counts = {}
    for shard in Record.query(pk, consistent_read=True):
        if code := counters.parse_uncovered_code(shard.sk):
            counts.setdefault(_UNCOVERED, Counter())[code] += shard.uncovered or 0
            continue
        if preset := counters.parse_preset(shard):
            changes = {f"{preset} {name}": getattr(shard, name) or 0 for name in _OF_RATINGS}
            counts.setdefault(_RATED, Counter()).update(changes)
            continue
        counter = counts.setdefault(counters.parse_model(shard.sk), Counter())
        for name in (*_OF_TASKS, *_OF_USERS):
            counter[name] += getattr(shard, name) or 0
        for name in _OF_FIRST_TOKENS.values():
            if number := getattr(shard, name):
                counter[name] += number
    return counts


def _sum(days: Iterable[_Counts]) -> _Counts:
    together: _Counts = {}
    for counts in days:
        for model, counter in counts.items():
            together.setdefault(model, Counter()).update(counter)
    return together


def _models(counts: _Counts) -> list[ModelStatistics]:
    models = sorted(model for model in counts if model and model not in _NO_MODELS)
    return [ModelStatistics(model=model, **_sums({model: counts[model]})) for model in models]


def _presets(counts: _Counts) -> list[PresetRatings]:
    rated = _counter_of(counts, _RATED)
    presets = dict.fromkeys(name.rpartition(" ")[0] for name in _most_rated(counts, _PRESETS))
    return [
        PresetRatings(preset_id=preset, **{name: rated[f"{preset} {name}"] for name in _OF_RATINGS})
        for preset in presets
    ]


def _most_rated(counts: _Counts, most: int) -> list[str]:
    """Return the names of the counts of at most so many presets, those with the most ratings first."""
    rated = _counter_of(counts, _RATED)
    presets = Counter[str]()
    for name, number in rated.items():
        presets[name.rpartition(" ")[0]] += abs(number)
    return [f"{preset} {name}" for preset, _ in presets.most_common(most) for name in _OF_RATINGS]


def _sums(counts: _Counts) -> dict[str, Any]:
    of_tasks = [counter for key, counter in counts.items() if key not in _NO_MODELS]
    first_token = {bound: sum(counter[name] for counter in of_tasks) for bound, name in _OF_FIRST_TOKENS.items()}
    return {
        **{name: sum(counter[name] for counter in of_tasks) for name in _OF_TASKS},
        "first_token": {bound: number for bound, number in first_token.items() if number},
    }


def _came_and_went(counts: _Counts) -> dict[str, int]:
    users = _counter_of(counts, None)
    return {"signed_up": users["users"], "deleted": users["deleted"]}


def _counter_of(counts: _Counts, model: str | None) -> Counter[str]:
    return counts.get(model, Counter())
