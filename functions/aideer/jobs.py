"""Jobs: work that a request causes and does not wait for.

A job is a record. It is written in the same transaction as its cause, or before it, so that a crash cannot lose it. The sweeper
sends due jobs to the queue, and jobs/run.py runs each one.

Every job can be interrupted at any point and run again, because its record is deleted last. A job may be unfinished because its
time ran out or because it waits for something. The sweeper then sends it to the queue again.
"""

import secrets
from collections.abc import Iterator
from typing import Any

from pynamodb.exceptions import UpdateError

from aideer import aws, clock, dynamodb, messages, settings
from aideer.models import Chat, Record, Task, new_id
from aideer.transactions import Transaction

SHARDS = 8
HANDED_OVER_SECONDS = 300
"""Seconds after a job was sent to the queue until it may be sent again."""


def create(kind: str, due_seconds: float, **data: str) -> Record:
    """Write a job that is due in this many seconds, and return it."""
    job = _record(kind, due_seconds, data)
    job.save()
    return job


def joined(transaction: Transaction, kind: str, due_seconds: float, **data: str) -> None:
    """Write a job in the transaction that makes it necessary."""
    transaction.put("job", _record(kind, due_seconds, data))


def turned(transaction: Transaction, job: Record, **data: str) -> None:
    """Replace the data of a job within a transaction, and keep its due time.

    The transaction is refused if the job has already run.
    """
    about = Record(job.pk, job.sk, data={"kind": job.data["kind"], **data})
    transaction.put("job", about, Record.pk.exists())


def due(now: float) -> Iterator[Record]:
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
    if _changed(job, Record.at.set(int(now) + HANDED_OVER_SECONDS), free):
        aws.enqueue(settings.JOBS_QUEUE_URL, {"pk": job.pk, "sk": job.sk})


def run(pk: str, sk: str, deadline: float) -> bool:
    """Run a job until it is done or `deadline` (of time.monotonic) comes. Return whether it is done.

    A job whose record is gone is done.
    """
    try:
        job = Record.get(pk, sk, consistent_read=True)
    except Record.DoesNotExist:
        return True
    done = _KINDS[job.data["kind"]](job.data, deadline)
    if done:
        job.delete()
    else:
        _changed(job, Record.at.remove(), Record.pk.exists())
    return done


def _remove_generation(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread that was replaced or, if the replacement broke off, the new thread."""
    # A job of an earlier release names both threads. The one that the chat points to is kept.
    generations = [data["generation"]] if "generation" in data else [data["old"], data["new"]]
    chat = _chat(data["chat_id"])
    current = chat.generation if chat else None
    return all(_remove_thread(data, generation, deadline) for generation in generations if generation != current)


def _remove_copy(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread of a copy whose chat was never created.

    If the chat was created, the thread belongs to it and to its other jobs.
    """
    return _chat(data["chat_id"]) is not None or _remove_thread(data, data["generation"], deadline)


def _remove_thread(data: dict[str, Any], generation: str, deadline: float) -> bool:
    return messages.delete(f"{data['chat_id']}#{generation}", deadline)


def _remove_chat(data: dict[str, Any], deadline: float) -> bool:
    """Remove the messages and the tombstone of a deleted chat, once its task has ended."""
    from aideer import tasks  # only this function needs it

    chat = _chat(data["chat_id"])
    if chat is None or not chat.deleted:
        return True
    if chat.active_task:
        tasks.request_stop(chat.active_task)
        if not _closed(chat.active_task):
            return False
    if not messages.delete(chat.thread, deadline):
        return False
    chat.delete()
    return True


def _remove_user(data: dict[str, Any], deadline: float) -> bool:
    """Remove the data of a deleted user."""
    from aideer import deletion  # only this function and _finish_user need it

    return deletion.remove(data["user_id"], deadline)


def _finish_user(data: dict[str, Any], deadline: float) -> bool:
    """Look for data that is left, then remove the user too."""
    from aideer import deletion

    return deletion.finish(data["user_id"], deadline)


def _remove_replaced_avatar(data: dict[str, Any], _: float) -> bool:
    """Remove the old and the new image of a replacement, except the user's current one."""
    from aideer import avatars  # only this function needs it

    avatars.remove_unnamed(data["user_id"], (data["old"], data["new"]))
    return True


_KINDS = {
    "generation": _remove_generation,
    "copy": _remove_copy,
    "chat": _remove_chat,
    "user": _remove_user,
    "user_last": _finish_user,
    "avatar": _remove_replaced_avatar,
}


def _record(kind: str, due_seconds: float, data: dict[str, str]) -> Record:
    due_at = clock.timestamp(clock.now() + due_seconds)
    return Record(_pk(secrets.randbelow(SHARDS)), f"{due_at}#{new_id()}", data={"kind": kind, **data})


def _pk(shard: int) -> str:
    return f"jobs#{shard}"


def _chat(chat_id: str) -> Chat | None:
    try:
        return Chat.get(chat_id, consistent_read=True)
    except Chat.DoesNotExist:
        return None


def _closed(task_id: str) -> bool:
    try:
        return Task.get(task_id, consistent_read=True).closed_by is not None
    except Task.DoesNotExist:
        return True


def _changed(job: Record, action: Any, condition: Any) -> bool:
    try:
        job.update([action], condition)
    except UpdateError as error:
        if dynamodb.refused(error):
            return False
        raise
    return True
