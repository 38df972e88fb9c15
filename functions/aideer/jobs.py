"""Work that what was done makes necessary, and that a request does not wait for.

A job is a record, written with (or before) its cause, so that no crash in between loses it. The sweep hands those that are
due to the queue; jobs/run.py works one. Every job can be broken off anywhere and worked again: its record goes last. One that
is not done, because its time ran out or because it waits for something, is handed over again by the next sweep.
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
"""How long one who was handed a job has before it is handed over again."""


def create(kind: str, due_seconds: float, **data: str) -> Record:
    """Write a job that is due in this many seconds, and return it."""
    job = _record(kind, due_seconds, data)
    job.save()
    return job


def joined(transaction: Transaction, kind: str, due_seconds: float, **data: str) -> None:
    """Write a job in the transaction that makes it necessary."""
    transaction.put("job", _record(kind, due_seconds, data))


def turned(transaction: Transaction, job: Record, **data: str) -> None:
    """Make a job about something else, in the transaction that makes it so: refused once it was worked. It is due as before."""
    about = Record(job.pk, job.sk, data={"kind": job.data["kind"], **data})
    transaction.put("job", about, Record.pk.exists())


def due(now: float) -> Iterator[Record]:
    """The jobs that are due at this time and in nobody's hands. The sweep hands them over."""
    for shard in range(SHARDS):
        yield from Record.query(
            _pk(shard),
            Record.sk < clock.timestamp(now),
            filter_condition=Record.at.does_not_exist() | (Record.at <= now),
        )


def hand_over(job: Record) -> None:
    """Put a job into the queue, unless another sweep just did."""
    now = clock.now()
    free = Record.pk.exists() & (Record.at.does_not_exist() | (Record.at <= now))
    if _changed(job, Record.at.set(int(now) + HANDED_OVER_SECONDS), free):
        aws.enqueue(settings.JOBS_QUEUE_URL, {"pk": job.pk, "sk": job.sk})


def run(pk: str, sk: str, deadline: float) -> bool:
    """Work a job until it is done or `deadline` (of time.monotonic) comes; whether it is done. One that is gone is done."""
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
    """Remove the thread that was replaced, or, where the replacement broke off, the one that was to be."""
    # A job that an earlier release wrote names both, of which it keeps the one that the chat points to.
    generations = [data["generation"]] if "generation" in data else [data["old"], data["new"]]
    chat = _chat(data["chat_id"])
    current = chat.generation if chat else None
    return all(_remove_thread(data, generation, deadline) for generation in generations if generation != current)


def _remove_copy(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread of a copy that never came to be: of one that did, the thread is the chat's and its other jobs'."""
    return _chat(data["chat_id"]) is not None or _remove_thread(data, data["generation"], deadline)


def _remove_thread(data: dict[str, Any], generation: str, deadline: float) -> bool:
    return messages.delete(f"{data['chat_id']}#{generation}", deadline)


def _remove_chat(data: dict[str, Any], deadline: float) -> bool:
    """Remove what a deleted chat's tombstone stands for, once its task has ended."""
    from aideer import tasks  # only this one needs it

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
    """Remove what is a deleted user's."""
    from aideer import deletion  # only these two need it

    return deletion.remove(data["user_id"], deadline)


def _finish_user(data: dict[str, Any], deadline: float) -> bool:
    """Look again, and remove the user too."""
    from aideer import deletion

    return deletion.finish(data["user_id"], deadline)


def _remove_replaced_avatar(data: dict[str, Any], _: float) -> bool:
    """Of the two pictures of a replacement, keep the one that is the user's."""
    from aideer import avatars  # only this one needs it

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
