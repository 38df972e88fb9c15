"""Claims on tasks. A task has one executor, ever: it is claimed once, from pending, and a running task is never claimed again.

The executor's lease shows the sweeper that the executor is alive. If the lease has expired, the sweeper closes the task. If the
executor comes back after that, its conditions are refused. Clocks of two machines differ, so an executor renews its lease with two
thirds left.
"""

import random
import time
from collections.abc import Sequence

from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.core import aws_errors, clock, settings
from aideer.core.usage import Usage
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Task

RENEW_SECONDS = settings.LEASE_SECONDS / 3
RESEND_SECONDS = 60
"""Seconds without an executor after which the sweeper sends a task's message again."""
QUEUE_SECONDS = 900
"""Seconds without an executor after which a task fails."""
SHARDS = 8

_PATIENCE_SECONDS = 2.0


def shard_of(task_id: str) -> str:
    """Return the shard in which the sweeper finds an open task. The last hex digit of a UUIDv7 is random."""
    return str(int(task_id[-1], 16) % SHARDS)


def claim(task_id: str, *, viewer_of: str | None = None) -> Task | None:
    """Claim a pending task for this caller as its executor. Return None if the task is not pending any more or does not exist.

    `viewer_of` is the user whose first viewer is attached. Then the task must belong to this user, must not have been streamed
    before, and must not be a title's. The claim marks it as streamed.
    """
    if not lookup.is_possible(task_id):
        return None
    executor = new_executor()
    actions: list[Action] = [
        Task.status.set("running"),
        Task.executor.set(executor),
        Task.lease_until.set(clock.now() + settings.LEASE_SECONDS),
    ]
    condition: Condition = Task.status == "pending"
    if viewer_of:
        actions.append(Task.streamed.set(True))
        condition &= (Task.user_id == viewer_of) & Task.streamed.does_not_exist() & Task.title_before.does_not_exist()
    task = Task(task_id)
    if update(task, actions, condition):
        return task
    stored = read(task_id)  # our own write may have happened, with its answer lost
    return stored if stored and stored.executor == executor else None


def new_executor() -> str:
    """Return the id of a new executor."""
    return f"executor#{new_id()}"


def mark_polled(task: Task) -> bool:
    """Mark a pending task as sent to the queue by a poll. Return False if it was marked before, or is not pending any more."""
    if task.polled:
        return False
    return update(Task(task.id), [Task.polled.set(True)], (Task.status == "pending") & Task.polled.does_not_exist())


def renew(task: Task, usage: Usage | None = None) -> Task | None:
    """Renew the executor's lease and store the usage so far, so that the sweeper knows the cost of a lost answer.

    Return the task as it is stored then, or None if it does not belong to this executor any more.
    """
    stored = Task(task.id)
    actions: list[Action] = [Task.lease_until.set(clock.now() + settings.LEASE_SECONDS)]
    if usage:
        actions.append(Task.usage_so_far.set(usage._asdict()))
    return stored if update(stored, actions, (Task.status == "running") & (Task.executor == task.executor)) else None


def reload_if_owner(task: Task) -> Task | None:
    """Return the task as it is stored now, or None if it does not belong to this executor any more."""
    stored = read(task.id)
    return stored if stored and stored.status == "running" and stored.executor == task.executor else None


def read(task_id: str) -> Task | None:
    """Return the task as it is stored now, or None if there is none."""
    return lookup.find(Task, task_id)


def log_ids(task: Task) -> dict[str, str]:
    """Return the ids that every log line about this task has."""
    return {"task_id": task.id, "user_id": task.user_id}


def is_expired(task: Task) -> bool:
    """Return whether the task is running and its lease has expired."""
    return task.status == "running" and task.lease_until < clock.now()


def update(task: Task, actions: Sequence[Action], condition: Condition) -> bool:
    """Change a task on a condition, and `task` to the stored state. Return False if the condition was refused.

    If a close or a stop is under way at that moment, wait for it.
    """
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            task.update(actions=list(actions), condition=condition)
        except UpdateError as error:
            if aws_errors.is_refusal(error):
                return False
            if not aws_errors.is_conflict(error) or time.monotonic() > give_up_at:
                raise
        else:
            return True
        time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - jitter, not a secret
