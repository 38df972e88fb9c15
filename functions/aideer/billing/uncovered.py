"""Uncovered costs: the provider bills them, and no user pays them. They are counted at the close, and limited per user and day.

The transaction that closes a task counts its uncovered cost. A failure of the provider or of AIDeer is free for the user, but
the provider bills every call that it accepted. Each user has one item per day (UTC) that sums these costs. A hold requires that
the sum of the day is below settings.UNCOVERED_CREDITS. So every way to provoke free answers is limited. In a day, one user can
cost that limit, plus the cost of the tasks that were open when it was reached. These cost at most their holds, unless the
provider bills more than a hold covers.
"""

from pynamodb.expressions.update import Action

from aideer.billing import counters, pricing
from aideer.core import clock, settings
from aideer.core.errors import TooManyRequests
from aideer.core.usage import Usage
from aideer.data.models import Record, Task
from aideer.data.transactions import Transaction

STEP = "uncovered"
"""The name of the step that refuses a hold if the user has reached the limit."""
HOLD_EXCEEDED = "hold_exceeded"
UNCOUNTED = "uncounted"
"""The codes of a cost above the hold, and of an answer without any usage. Every other code is a task's error code."""
_DAY_SECONDS = 86400
_KEPT_SECONDS = 7 * _DAY_SECONDS
_EXCESS_TOKENS = 10
"""The provider may exceed max_tokens by so many tokens."""


def require_room(transaction: Transaction, user_id: str) -> None:
    """Add the condition that this user's uncovered costs of today are below the limit."""
    condition = Record.uncovered.does_not_exist() | (Record.uncovered < settings.UNCOVERED_CREDITS)
    transaction.check(STEP, Record(*_key(user_id, clock.now())), condition)


def limit_error() -> TooManyRequests:
    """Return the error for a user that has reached the limit, which ends with the day (UTC)."""
    return TooManyRequests(
        "too_many_failed_answers",
        "Too many of your answers have failed today. Try again tomorrow (UTC).",
        retry_after=int(_DAY_SECONDS - clock.now() % _DAY_SECONDS) + 1,
    )


def count(transaction: Transaction, user_id: str, code: str, credits: int, now: float) -> None:
    """Add an uncovered cost, in credits, to the counters of (day, code) and of (user, day)."""
    ttl = int(now) + _KEPT_SECONDS
    actions: list[Action] = [Record.uncovered.add(credits), Record.ttl.set(ttl)]
    if code == HOLD_EXCEEDED:
        actions.append(Record.shortfalls.add(1))
    transaction.update("uncovered", Record(*_key(user_id, now)), actions, None)
    counters.count_uncovered(transaction, code, credits, now)


def compute_cost(task: Task, usage: Usage | None, *, thought: bool) -> int:
    """Return the provider's charge for a failed call, in credits: the cost of the reported usage."""
    return pricing.compute_cost(task.tariff, usage, thought=thought) if usage else 0


def compute_bound(task: Task) -> int:
    """Return an upper bound, in credits, of the provider's charge for an answer whose executor is lost.

    The executor stored the usage at its last renewal of the lease. After that, the model can have generated up to the limits of
    the call. Without any stored usage, the bound is the hold.
    """
    if not task.usage_so_far:
        return int(task.hold)
    usage, parameters = Usage(**task.usage_so_far), task.parameters
    thought = bool(parameters.get("enable_thinking")) or pricing.thinks(task.tariff) == "always"
    unbounded = task.tariff.get("max_thinking", 0) if thought else 0  # for a call without a budget
    limit = int(task.max_tokens) + int(parameters.get("thinking_budget") or unbounded) + _EXCESS_TOKENS
    bound = compute_cost(task, usage._replace(output_tokens=max(usage.output_tokens, limit)), thought=thought)
    # A search may have added to the input, and its fee, after the usage was stored.
    return max(bound, int(task.hold)) if parameters.get("enable_search") else bound


def had_shortfall(user_id: str) -> bool:
    """Return whether an answer of this user cost more than its hold, today or yesterday (UTC)."""
    now = clock.now()
    keys = [_key(user_id, now), _key(user_id, now - _DAY_SECONDS)]
    return any(record.shortfalls for record in Record.batch_get(keys, consistent_read=True))


def _key(user_id: str, now: float) -> tuple[str, str]:
    return f"uncovered#{user_id}", clock.timestamp(now)[:10]
