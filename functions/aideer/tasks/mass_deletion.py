"""The deletion of all chats of a user. Each chat is gone for everyone at once, and its task stops, as chat_deletion.py does it.

A job is written first, with the time of the request. It deletes the chats that were opened until then, and leaves later ones. The
request begins the same work, so that most users see an empty list. The job does the rest. It is done when it finds no chat
BEFORE_SECONDS after the request. By then, no request that opened a chat earlier is still writing, and the index shows each chat.

One transaction deletes at most SIZE chats. It also writes the job that removes their contents, and counts the chats. So a crash
leaves each chat either as it was, or deleted with its job.
"""

import contextlib
import time
from functools import partial
from itertools import islice
from typing import Any

from aideer.chats import chat_marks, quota
from aideer.core import clock
from aideer.core.errors import Busy
from aideer.data import jobs
from aideer.data.models import Chat, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.security import rate_limits
from aideer.tasks import chat_deletion, control

SIZE = 40
"""The most chats of a transaction. It has two items for each, and the count, the pins and a job. It can have 100 items."""
ROUNDS = 25
"""The most transactions of a request. The job deletes the chats that are left."""
REQUEST_SECONDS = 8
BEFORE_SECONDS = 60
"""Longer than any request lasts."""


def begin(user: User) -> bool:
    """Begin to delete all of the user's chats, and return whether all that are listed are gone. A job does the rest.

    Raises TooManyRequests.
    """
    rate_limits.count("delete_chats", user.id)
    before = clock.timestamp()
    jobs.create("all_chats", 0, user_id=user.id, before=before)
    try:
        return _delete_until(user.id, before, time.monotonic() + REQUEST_SECONDS, ROUNDS) is not None
    except Busy:  # the job tries again
        return False


def remove_all(data: dict[str, Any], deadline: float) -> bool:
    """Delete a user's chats that were opened until a time. This is the worker of a job (jobs.py)."""
    found = _delete_until(data["user_id"], data["before"], deadline)
    return found == 0 and clock.now() > clock.parse(data["before"]) + BEFORE_SECONDS


def remove_contents(data: dict[str, Any], deadline: float) -> bool:
    """Remove the contents and tombstones of deleted chats. This is the worker of a job.

    A chat whose task has not ended does not keep the others waiting.
    """
    removed = [chat_deletion.remove({"chat_id": chat_id}, deadline) for chat_id in data["chat_ids"].split()]
    return all(removed)


def _delete_until(user_id: str, before: str, deadline: float, rounds: int | None = None) -> int | None:
    """Delete the user's chats, and return how many there were, or None if `deadline` or `rounds` ended it."""
    pages = Chat.by_create_time.query(
        user_id, Chat.create_time <= before, scan_index_forward=False, page_size=SIZE
    ).page_iter
    found = 0
    for raw in islice(pages, rounds):
        if time.monotonic() > deadline:
            return None
        found += _delete(user_id, [item["id"]["S"] for item in raw["Items"]])
    return None if pages.last_evaluated_key else found


def _delete(user_id: str, ids: list[str]) -> int:
    """Delete those of these chats that are the user's, and return how many there were. Raises Busy."""
    counted = True
    for _ in attempts():
        chats = [chat for chat in _read(ids) if chat.owner_id == user_id]
        if not chats:
            return 0
        try:
            _commit(user_id, chats, counted=counted)
        except Refused as refused:
            # If all of them were still there, the user's count is wrong (quota.py). Otherwise another request deleted one.
            counted = counted and refused.steps != {quota.STEP}
            continue
        _stop_tasks([chat.id for chat in chats])
        return len(chats)
    raise Busy


def _commit(user_id: str, chats: list[Chat], *, counted: bool) -> None:
    ids = [chat.id for chat in chats]
    transaction = Transaction()
    for chat in chats:
        chat_deletion.delete_in(transaction, user_id, chat.id, Chat.owner_id == user_id, step=chat.id)
    jobs.enqueue_in(transaction, "chats", 0, chat_ids=" ".join(ids))
    chat_marks.unpin_in(transaction, user_id, {chat.id for chat in chats if chat.pinned})
    if counted:
        quota.remove_in(transaction, user_id, len(chats))
    transaction.commit(proof=partial(_are_deleted, ids))


def _stop_tasks(ids: list[str]) -> None:
    """Stop the tasks of deleted chats. No task can begin in them now, so a tombstone names the last one."""
    for chat in _read(ids):
        if chat.active_task:
            with contextlib.suppress(Busy):  # the job stops it too
                control.request_stop(chat.active_task)


def _are_deleted(ids: list[str]) -> bool:
    return all(chat.deleted for chat in _read(ids))


def _read(ids: list[str]) -> list[Chat]:
    return list(Chat.batch_get(ids, consistent_read=True)) if ids else []
