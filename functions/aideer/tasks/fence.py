"""Fences: whether a transaction whose outcome is unknown has happened.

An executor must not ask the model for a task that may not exist. If DynamoDB gave no final answer to the transaction that accepts
a task, the process puts a task of the same id, on the condition that there is none. If that succeeds, the transaction can never
happen any more, because it has the same condition. If it is refused, the transaction has happened.
"""

import random
import time

from pynamodb.exceptions import PutError, PynamoDBException

from aideer.core import aws_errors, clock
from aideer.core.errors import Busy
from aideer.data.base import new_id
from aideer.data.models import Task
from aideer.tasks import leases

_KEPT_SECONDS = 86400


def require_accepted(task: Task) -> Task:
    """Return the task as it is stored. Raises Busy if it is not stored, and then it never will be.

    Also raises Busy if DynamoDB does not answer while the lease of the task lasts. If the task is stored, the sweeper closes it.
    """
    fence = _fence(task)
    pause = 0.05
    while clock.now() < task.lease_until:
        try:
            stored = _put(fence)
        except PynamoDBException as error:
            if not aws_errors.is_unavailable(error):
                raise
        else:
            if stored is None:
                break
            return stored
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 1.0)
    raise Busy


def is_ours(task: Task, stored: Task) -> bool:
    """Return whether the model may be asked for this task: it runs here, nobody has asked to stop it, and its lease is long enough.

    Two thirds of the lease must be left. If less is left, the lease is renewed. `stored` is the task as it was stored last.
    """
    if stored.status != "running" or stored.executor != task.executor or stored.stop_requested:
        return False
    if stored.lease_until - clock.now() >= 2 * leases.RENEW_SECONDS:
        return True
    renewed = leases.renew(task)
    return renewed is not None and not renewed.stop_requested


def _put(fence: Task) -> Task | None:
    """Put the fence, and return None. If another task is stored in its place, return that one."""
    try:
        fence.save(condition=Task.id.does_not_exist())
    except PutError as error:
        if not aws_errors.is_refusal(error):
            raise
        stored = Task.get(fence.id, consistent_read=True)
        # A put whose answer was lost is refused by itself when botocore repeats it.
        return None if stored.closed_by == fence.closed_by else stored
    return None


def _fence(task: Task) -> Task:
    """Return a task that has failed for nothing, with the id of `task`. No list and no job shows it, and it expires in a day."""
    now = clock.now()
    kept = ("user_id", "chat_id", "type", "model", "tariff", "preset_id", "preset_version", "parameters", "thread")
    return Task(
        task.id,
        **{name: getattr(task, name) for name in (*kept, "prompt_end", "max_tokens", "create_time")},
        status="failed",
        hold=0,
        credits=0,
        finish_reason="interrupted",
        error_code="internal_error",
        closed_by=f"fence#{new_id()}",
        text_length=0,
        end_time=clock.timestamp(now),
        ttl=int(now) + _KEPT_SECONDS,
    )
