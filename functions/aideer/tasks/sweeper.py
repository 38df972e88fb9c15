"""The sweeper ends open tasks whose lease has expired, and hands over jobs that are due.

Before a claim, SQS's own redelivery repairs a crash. The sweeper repairs everything else that a crash leaves behind. The sweeper
ends a task only if the lease at the write is the same expired lease that it read. So a late renewal wins over the sweeper.
"""

from collections.abc import Callable
from typing import TypeVar

from aideer.billing import credits, uncovered
from aideer.billing.credits import Closer, Text
from aideer.core import aws, clock, metrics, settings
from aideer.core.logs import logger
from aideer.data import jobs
from aideer.data.models import Task
from aideer.tasks import leases, stream_log

T = TypeVar("T")


def sweep() -> None:
    """Attend once to every expired task and every due job."""
    now, holds = clock.now(), 0
    for shard in range(leases.SHARDS):
        for key in Task.open.query(str(shard)):  # the expired ones come first; the others are only counted
            holds += 1
            if key.lease_until < now:
                _log_errors(attend, key.id, task_id=key.id)
    metrics.emit({"HoldsOutstanding": holds})
    for job in jobs.list_due(now):
        _log_errors(jobs.hand_over, job, job=job.sk)


def attend(task_id: str) -> None:
    """Send a task's message again, or end the task, depending on its state."""
    task = leases.read(task_id)
    now = clock.now()
    if task is None or not task.is_open or task.lease_until >= now:
        return
    logger.thread_safe_append_keys(user_id=task.user_id)
    if task.status == "running":
        interrupt(task)
        return
    fails_at = clock.parse(task.create_time) + leases.QUEUE_SECONDS
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

    The sweeper calls this, and so does the first follower that sees the expired lease. It is one transaction on one condition. So a
    late renewal wins over both, and of two closers one wins.
    """
    closer = Closer.sweep(task)
    text, cost = stream_log.read_text(task.id), uncovered.compute_bound(task)
    end = credits.release(task, closer, "interrupted", text, uncovered_credits=cost)
    if end.closed_by == closer.by:
        metrics.emit({"ExpiredLeases": 1})
        logger.warning("lost_executor", extra=leases.log_ids(task))
    return end


def _log_errors(step: Callable[[T], None], item: T, **ids: str) -> None:
    """Run a step for one item and log its error, so that the sweeper goes on with the others.

    The next sweep tries the item again.
    """
    try:
        step(item)
    except Exception as error:
        logger.error("sweep", extra={"step": step.__name__, "error": type(error).__name__, **ids})
    finally:
        logger.thread_safe_clear_keys()
