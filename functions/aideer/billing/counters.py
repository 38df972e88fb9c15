"""Counters by day (UTC) and model. They grow in the transaction that they count. statistics.py reads them.

Two transactions that touch one item at the same time conflict. So each counter has 64 items, over eight keys: a key takes 1,000
writes a second. So a day has few items, however many tasks it had. Items of a past day do not change, once the last transaction
of that day is over. The first count creates a counter, so these updates have no condition.

Until release 0.2, each counter of a day had 16 items under one key. They are read on.
"""

import secrets
from collections import Counter
from collections.abc import Mapping

from pynamodb.expressions.update import Action

from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.models import Record
from aideer.data.transactions import Transaction

USERS = "users"
_UNCOVERED = "uncovered#"
TOTAL = "statistics#total"
_SHARDS, _KEYS = 64, 8
FIRST_TOKEN_MS = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
"""Upper bounds, in milliseconds, of the groups by which times to the first token are counted. One more group is above them."""
MORE = "more"
"""The name of the group above FIRST_TOKEN_MS."""


def count_task(
    transaction: Transaction,
    model: str,
    now: float,
    usage: Usage | None,
    credits: int,
    *,
    failed: bool,
    first_token_ms: float | None = None,
) -> None:
    """Count the end of a task that was billed, or that failed. `first_token_ms` is given if a viewer waited for the answer."""
    actions: list[Action] = [Record.failed.add(1) if failed else Record.tasks.add(1)]
    if not failed:
        used = usage or Usage(0, 0)
        actions += [
            Record.input_tokens.add(used.input_tokens),
            Record.output_tokens.add(used.output_tokens),
            Record.credits.add(credits),
        ]
    if first_token_ms is not None:
        bound = next((str(bound) for bound in FIRST_TOKEN_MS if first_token_ms <= bound), MORE)
        actions.append(getattr(Record, first_token_name(bound)).add(1))
    transaction.update("statistics", _item(clock.timestamp(now)[:10], f"model#{model}"), actions, None)


def first_token_name(bound: str) -> str:
    """Return the name of the attribute that counts the answers of this group of times to the first token."""
    return f"first_token_{bound}"


def count_uncovered(transaction: Transaction, code: str, credits: int, now: float) -> None:
    """Count the cost, in credits, of an answer that no user pays, by the code of its end."""
    counter = _item(clock.timestamp(now)[:10], f"{_UNCOVERED}{code}")
    transaction.update("statistics_uncovered", counter, [Record.uncovered.add(credits)], None)


def count_ratings(transaction: Transaction, model: str, by_preset: Mapping[str, Mapping[str, int]], now: float) -> None:
    """Count a change of the ratings of a model's answers: what to add to `rated_up` and `rated_down`, by preset.

    A rating that is taken back counts -1 on the day on which that happens, because the counters of past days do not change.
    """
    day, of_model = clock.timestamp(now)[:10], Counter[str]()
    for preset_id, change in by_preset.items():
        of_model.update(change)
        shard = secrets.randbelow(_SHARDS)
        _add_ratings(transaction, Record(preset_key(day), f"{preset_id}#{shard:02}"), change)
    _add_ratings(transaction, _item(day, f"model#{model}"), of_model)


def count_user(transaction: Transaction, *, deleted: bool = False) -> None:
    """Count a new user, or a deleted one."""
    today = Record.deleted.add(1) if deleted else Record.users.add(1)
    transaction.update("statistics", _item(clock.timestamp()[:10], USERS), [today], None)
    total = Record(TOTAL, f"{USERS}#{secrets.randbelow(_SHARDS):02}")
    transaction.update("statistics", total, [Record.users.add(-1 if deleted else 1)], None)


def day_keys(date: str) -> list[str]:
    """Return the hash keys of a day's counters, with that of the releases before. `date` is YYYY-MM-DD."""
    return [f"statistics#{date}", *(f"statistics#{date}#{key}" for key in range(_KEYS)), preset_key(date)]


def preset_key(date: str) -> str:
    """Return the hash key of a day's counters of presets. They are few, because only ratings change them."""
    return f"statistics#{date}#presets"


def parse_uncovered_code(sort_key: str) -> str | None:
    """Return the code of the ends whose uncovered costs this counter sums, or None for every other counter."""
    name = sort_key.rpartition("#")[0]
    return name.removeprefix(_UNCOVERED) if name.startswith(_UNCOVERED) else None


def parse_preset(counter: Record) -> str | None:
    """Return the preset whose ratings this counter sums, or None for every other counter."""
    return str(counter.sk).rpartition("#")[0] if str(counter.pk).endswith("#presets") else None


def parse_model(sort_key: str) -> str | None:
    """Return the model of this counter, or None for the counter of users."""
    name = sort_key.rpartition("#")[0]
    return None if name == USERS else name.removeprefix("model#")


def _add_ratings(transaction: Transaction, counter: Record, change: Mapping[str, int]) -> None:
    actions: list[Action] = [getattr(Record, name).add(number) for name, number in change.items() if number]
    if actions:
        transaction.update("statistics_ratings", counter, actions, None)


def _item(date: str, name: str) -> Record:
    shard = secrets.randbelow(_SHARDS)
    return Record(f"statistics#{date}#{shard % _KEYS}", f"{name}#{shard:02}")
