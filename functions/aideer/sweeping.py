"""The safety net: open tasks whose lease has run out, and jobs that are due.

With SQS's own redelivery before a claim, this is all that mends what a crash leaves behind. Each task's end is conditioned on
its lease being still as expired at the write as it was when it was read, so a late heartbeat wins over the sweep.
"""

from collections.abc import Callable
from typing import TypeVar

from aws_lambda_powertools import Logger

from aideer import aws, clock, credits, jobs, leases, metrics, settings, streamlog, uncovered
from aideer.credits import Closer, Text
from aideer.models import Task

logger = Logger(service="aideer")
T = TypeVar("T")


def sweep() -> None:
    """Look once at everything whose time has come."""
    now, holds = clock.now(), 0
    for shard in range(leases.SHARDS):
        for key in Task.open.query(str(shard)):  # the expired ones come first; the others are counted on the way
            holds += 1
            if key.lease_until < now:
                _guarded(attend, key.id, task_id=key.id)
    metrics.emit({"HoldsOutstanding": holds})
    for job in jobs.due(now):
        _guarded(jobs.hand_over, job, job=job.sk)


def attend(task_id: str) -> None:
    """Send a task's message again, or end it, as its state asks for."""
    task = leases.read(task_id)
    now = clock.now()
    if task is None or not leases.is_open(task) or task.lease_until >= now:
        return
    logger.thread_safe_append_keys(user_id=task.user_id)
    if task.status == "running":
        interrupt(task)
        return
    fails_at = clock.seconds(task.create_time) + leases.QUEUE_SECONDS
    if now >= fails_at:
        credits.release(task, Closer.sweep(task), "queue_timeout", Text())
        return
    again_at = min(now + leases.RESEND_SECONDS * 2 ** (task.resends + 1), fails_at)
    if leases.update(
        Task(task.id),
        [Task.lease_until.set(again_at), Task.resends.set(task.resends + 1)],
        (Task.status == "pending") & (Task.lease_until == task.lease_until),
    ):
        aws.enqueue(settings.TASKS_QUEUE_URL, {"task_id": task.id})


def interrupt(task: Task) -> Task:
    """Close a running task whose lease has expired, and return it as it is stored then, open or closed.

    The sweep calls this, and so does the first follower that sees the lease expired. It is one transaction on one condition: a late
    renewal wins over both, and of two closers one wins.
    """
    closer = Closer.sweep(task)
    text, cost = streamlog.text(task.id), uncovered.most(task)
    end = credits.release(task, closer, "interrupted", text, uncovered_credits=cost)
    if end.closed_by == closer.by:
        metrics.emit({"ExpiredLeases": 1})
    return end


def _guarded(step: Callable[[T], None], item: T, **ids: str) -> None:
    """One item that cannot be mended now must not keep the sweep from the others; the next sweep meets it again."""
    try:
        step(item)
    except Exception as error:
        logger.error("sweep", extra={"step": step.__name__, "error": type(error).__name__, **ids})
    finally:
        logger.thread_safe_clear_keys()
