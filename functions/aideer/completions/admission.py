"""Admission of completions: the hold, the task and the retry's record in one transaction, and then the executor in this process.

A completion is a task without a chat. Its prompt is stored nowhere: the process that accepts the task also makes the answer. If
that process dies, the sweeper ends the task for free.
"""

import functools
from dataclasses import dataclass
from typing import Any

from aideer.billing import credits, key_room
from aideer.billing.estimates import Estimate
from aideer.completions import calls, retries
from aideer.completions.callers import Caller
from aideer.completions.requests import IncomingRequest
from aideer.core import clock
from aideer.core.errors import AideerError, Busy, InvalidToken, PaymentRequired
from aideer.data.base import new_id
from aideer.data.models import Task
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.prompts.prompts import Prompt
from aideer.security import exhausted, rate_limits
from aideer.security.api_keys import UNLIMITED
from aideer.tasks import leases
from aideer.tasks.admission import Here, find_limit
from aideer.tasks.ask_limit import AskCount, count_ask
from aideer.tasks.priced_call import PricedPrompt


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted completion."""

    task: Task
    prompt: Prompt | None
    """The prompt, if this process must start the executor now. None if somebody has asked to stop the task already."""


def begin(caller: Caller, request: IncomingRequest) -> Accepted:
    """Accept a completion that this process executes at once.

    Raises as `calls.prepare` and PricedPrompt do. Raises PaymentRequired, also for the limit of the key, TooManyRequests for one of
    the user's limits, InvalidToken, Forbidden for a visitor, and Busy. After Busy, nothing was asked and nothing is held.
    """
    with count_ask(caller.user_id) as count:
        try:
            return _begin(caller, request, count)
        except InvalidToken:
            count.give_back()
            raise
        except Busy:  # no fault of the user
            raise
        except AideerError as error:
            raise (count.refuse() or error) from None


def require_room(caller: Caller) -> None:
    """Raise TooManyRequests if this process knows that the user may not ask now. This makes no call."""
    exhausted.require_room("ask", caller.user_id)


def refuse(caller: Caller, error: AideerError) -> AideerError:
    """Count a request that cannot be read as a refused ask. Return its error, or that of the limit if it is used up.

    Raises as `Caller.read` does.
    """
    caller.read(visitors=True)
    return AskCount(caller.user_id).refuse() or error


def _begin(caller: Caller, request: IncomingRequest, count: AskCount) -> Accepted:
    credits_left = UNLIMITED  # assume enough credits until the hold is refused
    for _ in attempts():
        try:
            with count.beside():
                call = calls.prepare(caller, request.wanted)
            estimate = _estimate(call, caller, credits_left)
        except AideerError:
            caller.read()
            raise
        way = Here()
        task = _make_task(caller, request, estimate, way.fields())
        transaction = Transaction()
        retries.note_in(transaction, caller, request.digest, task)
        for kind in rate_limits.ANSWERS:
            rate_limits.count_in(transaction, kind, caller.user_id)
        try:
            runs = way.store(task, functools.partial(credits.hold, transaction, task, caller.session, caller.key))
        except Refused as refused:
            user = caller.read()
            if limit := find_limit(refused.steps, user, caller.key):
                raise limit from None
            if refused.steps != {key_room.STEP}:
                credits_left = int(user.credits)
            continue  # the key or the credits have changed: price again
        return Accepted(task, call.prompt if runs else None)
    raise Busy


def _estimate(call: PricedPrompt, caller: Caller, credits_left: int) -> Estimate:
    """Price the call. The longest answer is reduced to what the user's credits and the key's limit pay for."""
    try:
        return call.estimate(min(credits_left, caller.room))
    except PaymentRequired as error:
        if caller.room < credits_left:
            raise PaymentRequired(
                "key_limit_reached", "The limit of this API key leaves too few credits for an answer.", **error.extra
            ) from None
        raise


def _make_task(caller: Caller, request: IncomingRequest, accepted: Estimate, fields: dict[str, Any]) -> Task:
    task_id = new_id()
    return Task(
        task_id,
        user_id=caller.user_id,
        type=Task.API,
        key={"id": caller.key.id, "hash": caller.key.hash} if caller.key else None,
        hold=accepted.hold,
        model=accepted.tariff["model"],
        tariff=accepted.tariff,
        parameters=accepted.parameters,
        max_tokens=accepted.max_tokens,
        input_tokens=accepted.input_tokens,
        prompt={"hash": request.digest, "messages": len(request.wanted.messages)},
        open_shard=leases.shard_of(task_id),
        create_time=clock.timestamp(),
        **fields,
    )
