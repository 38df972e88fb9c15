"""Counters by day (UTC) and model. They grow in the transaction that they count. statistics.py reads them.

Each counter has 16 shards, so that many transactions can count at the same time. So a day has few items, all under one key,
however many tasks it had. Items of a past day do not change. The first count creates a counter, so these updates have no
condition.
"""

import secrets

from pynamodb.expressions.update import Action

from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.models import Record
from aideer.data.transactions import Transaction

USERS = "users"
_UNCOVERED = "uncovered#"
TOTAL = "statistics#total"
_SHARDS = 16


def count_task(
    transaction: Transaction, model: str, now: float, usage: Usage | None, credits: int, *, failed: bool
) -> None:
    """Count the end of a task that was billed, or that failed."""
    actions: list[Action] = [Record.failed.add(1) if failed else Record.tasks.add(1)]
    if not failed:
        used = usage or Usage(0, 0)
        actions += [
            Record.input_tokens.add(used.input_tokens),
            Record.output_tokens.add(used.output_tokens),
            Record.credits.add(credits),
        ]
    transaction.update(
        "statistics", Record(day_key(clock.timestamp(now)[:10]), f"model#{model}#{_shard()}"), actions, None
    )


def count_uncovered(transaction: Transaction, code: str, credits: int, now: float) -> None:
    """Count the cost, in credits, of an answer that no user pays, by the code of its end."""
    key = day_key(clock.timestamp(now)[:10]), f"{_UNCOVERED}{code}#{_shard()}"
    transaction.update("statistics_uncovered", Record(*key), [Record.uncovered.add(credits)], None)


def count_user(transaction: Transaction, *, deleted: bool = False) -> None:
    """Count a new user, or a deleted one."""
    shard = f"{USERS}#{_shard()}"
    today = Record.deleted.add(1) if deleted else Record.users.add(1)
    transaction.update("statistics", Record(day_key(clock.timestamp()[:10]), shard), [today], None)
    transaction.update("statistics", Record(TOTAL, shard), [Record.users.add(-1 if deleted else 1)], None)


def day_key(date: str) -> str:
    """Return the hash key of a day's counters. `date` is YYYY-MM-DD."""
    return f"statistics#{date}"


def parse_uncovered_code(sort_key: str) -> str | None:
    """Return the code of the ends whose uncovered costs this counter sums, or None for every other counter."""
    name = sort_key.rpartition("#")[0]
    return name.removeprefix(_UNCOVERED) if name.startswith(_UNCOVERED) else None


def parse_model(sort_key: str) -> str | None:
    """Return the model of this counter, or None for the counter of users."""
    name = sort_key.rpartition("#")[0]
    return None if name == USERS else name.removeprefix("model#")


def _shard() -> str:
    return f"{secrets.randbelow(_SHARDS):02}"
