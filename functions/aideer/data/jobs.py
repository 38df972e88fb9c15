"""Jobs: work that a request causes and does not wait for.

A job is a record. It is written in the same transaction as its cause, or before it, so that a crash cannot lose it. The sweeper
sends due jobs to the queue, and jobs/run.py runs each one with the worker of its kind.

Every job can be interrupted at any point and run again, because its record is deleted last. A job may be unfinished because its
time ran out or because it waits for something. The sweeper then sends it to the queue again.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pynamodb.exceptions import UpdateError

from aideer.core import aws, aws_errors, clock, settings
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Record
from aideer.data.transactions import Transaction

Worker = Callable[[dict[str, Any], float], bool]
"""Works on a job: takes its data and the deadline (of time.monotonic), and returns whether the job is done."""

SHARDS = 8
HANDED_OVER_SECONDS = 300
"""Seconds after a job was sent to the queue until it may be sent again."""


def create(kind: str, due_seconds: float, **data: str) -> Record:
    """Write a job that is due in this many seconds, and return it."""
    job = _record(kind, due_seconds, data)
    job.save()
    return job


def create_once(kind: str, due_seconds: float, name: str, **data: str) -> None:
    """Write a job that is due in this many seconds, at the next full hour after that.

    A second job with the same name for the same hour replaces the first. So a worker that creates its own successor, and is then
    run twice, leaves one successor.
    """
    due_at = -(-(clock.now() + due_seconds) // 3600) * 3600
    pk, sk = _named_key(kind, clock.timestamp(due_at), name)
    Record(pk, sk, data={"kind": kind, **data}).save()


def enqueue_named_in(transaction: Transaction, kind: str, due_at: str, name: str, **data: str) -> None:
    """Write a job in the transaction that makes it necessary. A caller that knows its name can send it to the queue at once."""
    pk, sk = _named_key(kind, due_at, name)
    transaction.put("job", Record(pk, sk, data={"kind": kind, **data}))


def send_named(kind: str, due_at: str, name: str) -> None:
    """Send a job to the queue at once. If that fails, the sweeper sends it within a minute or two.

    It may be sent twice, and it may be done already. Neither has an effect.
    """
    pk, sk = _named_key(kind, due_at, name)
    aws.enqueue(settings.JOBS_QUEUE_URL, {"pk": pk, "sk": sk})


def enqueue_in(transaction: Transaction, kind: str, due_seconds: float, **data: str) -> None:
    """Write a job in the transaction that makes it necessary."""
    transaction.put("job", _record(kind, due_seconds, data))


def retarget_in(transaction: Transaction, job: Record, **data: str) -> None:
    """Replace the data of a job within a transaction, and keep its due time.

    The transaction is refused if the job has already run.
    """
    about = Record(job.pk, job.sk, data={"kind": job.data["kind"], **data})
    transaction.put("job", about, Record.pk.exists())


def list_due(now: float) -> Iterator[Record]:
    """Yield the jobs that are due at this time and that no worker has at the moment. The sweeper sends them to the queue.

    `now` is in seconds since the epoch.
    """
    for shard in range(SHARDS):
        yield from Record.query(
            _pk(shard),
            Record.sk < clock.timestamp(now),
            filter_condition=Record.at.does_not_exist() | (Record.at <= now),
        )


def hand_over(job: Record) -> None:
    """Send a job to the queue, unless another run of the sweeper has just done so."""
    now = clock.now()
    free = Record.pk.exists() & (Record.at.does_not_exist() | (Record.at <= now))
    if _try_update(job, Record.at.set(int(now) + HANDED_OVER_SECONDS), free):
        aws.enqueue(settings.JOBS_QUEUE_URL, {"pk": job.pk, "sk": job.sk})


def run(pk: str, sk: str, deadline: float, workers: Mapping[str, Worker]) -> bool:
    """Run a job until it is done or `deadline` (of time.monotonic) comes. Return whether it is done.

    `workers` has a worker for each kind of job. A job whose record is gone is done.
    """
    job = lookup.find(Record, pk, sk)
    if job is None:
        return True
    done = workers[job.data["kind"]](job.data, deadline)
    if done:
        job.delete()
    else:
        _try_update(job, Record.at.remove(), Record.pk.exists())
    return done


def _record(kind: str, due_seconds: float, data: dict[str, str]) -> Record:
    due_at = clock.timestamp(clock.now() + due_seconds)
    return Record(_pk(secrets.randbelow(SHARDS)), f"{due_at}#{new_id()}", data={"kind": kind, **data})


def _named_key(kind: str, due_at: str, name: str) -> tuple[str, str]:
    """Return the key of the one job with this name that is due at this time (as of clock.timestamp)."""
    shard = int(hashlib.sha256(name.encode()).hexdigest(), 16) % SHARDS
    return _pk(shard), f"{due_at}#{kind}#{name}"


def _pk(shard: int) -> str:
    return f"jobs#{shard}"


def _try_update(job: Record, action: Any, condition: Any) -> bool:
    try:
        job.update([action], condition)
    except UpdateError as error:
        if aws_errors.is_refusal(error):
            return False
        raise
    return True
