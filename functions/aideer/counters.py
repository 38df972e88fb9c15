"""Counters by day (UTC) and model, added in the transaction that is counted. statistics.py reads them.

Each is in 16 shards, so that many transactions can count at once; so a day is a handful of items under one key, however much
happened on it, and one that is over does not change. A counter begins to exist with its first count, so there is no condition.
"""

import secrets

from pynamodb.expressions.update import Action

from aideer import clock
from aideer.models import Record
from aideer.transactions import Transaction
from aideer.usage import Usage

USERS = "users"
_UNCOVERED = "uncovered#"
TOTAL = "statistics#total"
_SHARDS = 16


def count_task(
    transaction: Transaction, model: str, now: float, usage: Usage | None, credits: int, *, failed: bool
) -> None:
    """Count a task's end: one that was billed, or one that failed."""
    actions: list[Action] = [Record.failed.add(1) if failed else Record.tasks.add(1)]
    if not failed:
        used = usage or Usage(0, 0)
        actions += [
            Record.input_tokens.add(used.input_tokens),
            Record.output_tokens.add(used.output_tokens),
            Record.credits.add(credits),
        ]
    transaction.update("statistics", Record(day(clock.timestamp(now)[:10]), f"model#{model}#{_shard()}"), actions, None)


def count_uncovered(transaction: Transaction, code: str, credits: int, now: float) -> None:
    """Count the cost of an answer that nobody pays, in credits, by the code of its end."""
    key = day(clock.timestamp(now)[:10]), f"{_UNCOVERED}{code}#{_shard()}"
    transaction.update("statistics_uncovered", Record(*key), [Record.uncovered.add(credits)], None)


def count_user(transaction: Transaction, *, deleted: bool = False) -> None:
    """Count a new user, or one who goes."""
    shard = f"{USERS}#{_shard()}"
    today = Record.deleted.add(1) if deleted else Record.users.add(1)
    transaction.update("statistics", Record(day(clock.timestamp()[:10]), shard), [today], None)
    transaction.update("statistics", Record(TOTAL, shard), [Record.users.add(-1 if deleted else 1)], None)


def day(date: str) -> str:
    """The hash key of a day's counters."""
    return f"statistics#{date}"


def uncovered_code(sort_key: str) -> str | None:
    """Return the code of the ends whose uncovered costs this counts, or None for every other counter."""
    name = sort_key.rpartition("#")[0]
    return name.removeprefix(_UNCOVERED) if name.startswith(_UNCOVERED) else None


def model_of(sort_key: str) -> str | None:
    """The model whose counter this is, or None of the users'."""
    name = sort_key.rpartition("#")[0]
    return None if name == USERS else name.removeprefix("model#")


def _shard() -> str:
    return f"{secrets.randbelow(_SHARDS):02}"
