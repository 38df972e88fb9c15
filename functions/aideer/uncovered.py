"""Costs of the provider that no user pays: counted in the transaction that closes the task, and bounded per user and day.

A failure of the provider or of AIDeer is free for the user, but the provider bills what it had accepted. Each user has one item
per day (UTC) that sums these costs. A hold requires that the sum of the day is below settings.UNCOVERED_CREDITS, so every way to
provoke free answers ends there. What one user can cost in a day is that bound and what the tasks cost that were open when it was
reached: at most their holds, unless the provider bills more than a hold foresees.
"""

from pynamodb.expressions.update import Action

from aideer import clock, counters, pricing, settings
from aideer.errors import TooManyRequests
from aideer.models import Record, Task
from aideer.transactions import Transaction
from aideer.usage import Usage

STEP = "uncovered"
"""The step of a hold that is refused where the user has reached the bound."""
HOLD_EXCEEDED = "hold_exceeded"
UNCOUNTED = "uncounted"
"""The codes of a cost above the hold, and of an answer without any usage. Every other code is a task's error code."""
_DAY_SECONDS = 86400
_KEPT_SECONDS = 7 * _DAY_SECONDS
_EXCESS_TOKENS = 10
"""The provider may exceed max_tokens by so many tokens."""


def require_room(transaction: Transaction, user_id: str) -> None:
    """Add the condition that this user's uncovered costs of today are below the bound."""
    condition = Record.uncovered.does_not_exist() | (Record.uncovered < settings.UNCOVERED_CREDITS)
    transaction.check(STEP, Record, *_key(user_id, clock.now()), condition)


def refusal() -> TooManyRequests:
    """Return the error of a user who has reached the bound: it ends with the day (UTC)."""
    return TooManyRequests(
        "too_many_failed_answers",
        "Too many of your answers have failed today. Try again tomorrow (UTC).",
        retry_after=int(_DAY_SECONDS - clock.now() % _DAY_SECONDS) + 1,
    )


def count(transaction: Transaction, user_id: str, code: str, credits: int, now: float) -> None:
    """Add a cost that nobody pays, in credits, to the counters of (day, code) and of (user, day)."""
    ttl = int(now) + _KEPT_SECONDS
    actions: list[Action] = [Record.uncovered.add(credits), Record.ttl.set(ttl)]
    if code == HOLD_EXCEEDED:
        actions.append(Record.shortfalls.add(1))
    transaction.update("uncovered", Record(*_key(user_id, now)), actions, None)
    counters.count_uncovered(transaction, code, credits, now)


def cost(task: Task, usage: Usage | None, *, thought: bool) -> int:
    """Return what the provider bills for a failed call, in credits: the cost of what it reported."""
    return pricing.cost(task.tariff, usage, thought=thought) if usage else 0


def most(task: Task) -> int:
    """Return an upper bound of what the provider bills for an answer whose executor is lost.

    The executor stored the usage at its last renewal of the lease. After that, the model can have generated up to the limits of the
    call. Without any stored usage, the bound is the hold.
    """
    if not task.usage_so_far:
        return int(task.hold)
    usage, parameters = Usage(**task.usage_so_far), task.parameters
    thought = bool(parameters.get("enable_thinking")) or pricing.thinking(task.tariff) == "always"
    unbounded = task.tariff.get("max_thinking", 0) if thought else 0  # where the call could not say a budget
    limit = int(task.max_tokens) + int(parameters.get("thinking_budget") or unbounded) + _EXCESS_TOKENS
    bound = cost(task, usage._replace(output_tokens=max(usage.output_tokens, limit)), thought=thought)
    # A search may have added to the input, and its fee, after the usage was stored.
    return max(bound, int(task.hold)) if parameters.get("enable_search") else bound


def had_shortfall(user_id: str) -> bool:
    """Return whether an answer of this user cost more than its hold, today or yesterday (UTC)."""
    now = clock.now()
    keys = [_key(user_id, now), _key(user_id, now - _DAY_SECONDS)]
    return any(record.shortfalls for record in Record.batch_get(keys, consistent_read=True))


def _key(user_id: str, now: float) -> tuple[str, str]:
    return f"uncovered#{user_id}", clock.timestamp(now)[:10]
