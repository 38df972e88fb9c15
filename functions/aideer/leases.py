"""Who may work on a task. One executor, ever: a task is claimed once, from pending, and nobody claims a running one.

The executor's lease tells the sweep that it is alive. Where a lease has expired the sweep closes the task, and the executor,
should it come back, finds its conditions refused. Clocks of two machines differ, so a lease is renewed with two thirds left.
"""

import random
import time
from collections.abc import Sequence

from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer import clock, dynamodb, settings
from aideer.models import Task, new_id
from aideer.usage import Usage

RENEW_SECONDS = settings.LEASE_SECONDS / 3
RESEND_SECONDS = 60
"""After this long without an executor, the sweep sends a task's message again."""
QUEUE_SECONDS = 900
"""After this long without an executor, a task fails."""
SHARDS = 8

OPEN = ("pending", "running")
_PATIENCE_SECONDS = 2.0
_ID_CHARACTERS = 64
"""More than any id has: a caller may name anything, and DynamoDB answers a key of over 2,048 bytes with an error."""


def shard(task_id: str) -> str:
    """Where the sweep finds an open task. (The last hex digit of a UUIDv7 is random.)"""
    return str(int(task_id[-1], 16) % SHARDS)


def claim(task_id: str, *, viewer_of: str | None = None) -> Task | None:
    """Make a pending task this caller's to execute, or return None where it is not pending any more, or there is none.

    `viewer_of` is the user whose first viewer is attached: then the task must be theirs and no title's, and is marked as
    streamed.
    """
    if len(task_id) > _ID_CHARACTERS:
        return None
    executor = f"executor#{new_id()}"
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
    stored = read(task_id)  # the refusal may be the echo of our own write, its answer lost
    return stored if stored and stored.executor == executor else None


def renew(task: Task, usage: Usage | None = None) -> Task | None:
    """Prolong the executor's lease and store the usage so far, so that the sweep knows what a lost answer has cost.

    Returns the task as it is stored then, or None if it is no longer this executor's.
    """
    stored = Task(task.id)
    actions: list[Action] = [Task.lease_until.set(clock.now() + settings.LEASE_SECONDS)]
    if usage:
        actions.append(Task.usage_so_far.set(usage._asdict()))
    return stored if update(stored, actions, (Task.status == "running") & (Task.executor == task.executor)) else None


def mine(task: Task) -> Task | None:
    """The task as it is stored now, or None where it is the executor's no more."""
    stored = read(task.id)
    return stored if stored and stored.status == "running" and stored.executor == task.executor else None


def read(task_id: str) -> Task | None:
    """The task as it is stored now, if there is one."""
    if len(task_id) > _ID_CHARACTERS:
        return None
    try:
        return Task.get(task_id, consistent_read=True)
    except Task.DoesNotExist:
        return None


def who(task: Task) -> dict[str, str]:
    """The ids that every line of a log about this task has."""
    return {"task_id": task.id, "user_id": task.user_id}


def is_open(task: Task) -> bool:
    """Whether the task has yet to end."""
    return task.status in OPEN


def expired(task: Task) -> bool:
    """Whether the executor of a running task has let its lease run out."""
    return task.status == "running" and task.lease_until < clock.now()


def update(task: Task, actions: Sequence[Action], condition: Condition) -> bool:
    """Change a task on a condition, and `task` to what is stored then; False where the condition was refused.

    A close or a stop under way at that moment is waited for.
    """
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            task.update(actions=list(actions), condition=condition)
        except UpdateError as error:
            if dynamodb.refused(error):
                return False
            if not dynamodb.conflicting(error) or time.monotonic() > give_up_at:
                raise
        else:
            return True
        time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - jitter, not a secret
