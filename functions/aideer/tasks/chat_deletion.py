"""The deletion of a chat: it is gone for everyone at once, its task stops, and a job removes its messages."""

import contextlib
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.chats import chat_access, chat_marks, client_ids, feedback, messages, quota, shares
from aideer.core.errors import Busy
from aideer.data import changes, jobs, lookup
from aideer.data.models import Chat, Task, User
from aideer.data.transactions import Refused, Transaction
from aideer.security import audit_trail
from aideer.tasks import control
from aideer.uploads import references


def delete(user: User, chat_id: str) -> None:
    """Delete a chat for everyone at once, and stop its task. A job removes the chat's contents.

    Raises NotFound and Forbidden.
    """
    chat = chat_access.get_manageable(user, chat_id)
    try:
        _commit(user, chat, counted=True)
    except Refused as refused:
        if quota.STEP not in refused.steps:
            raise chat_access.not_found() from None
        _commit_uncounted(user, chat)
    # No task can begin now. The tombstone names the task that was active at the deletion.
    tombstone = lookup.find(Chat, chat.id)
    if tombstone and tombstone.active_task:
        with contextlib.suppress(Busy):  # the job stops the task too
            control.request_stop(tombstone.active_task)


def _commit_uncounted(user: User, chat: Chat) -> None:
    """Delete a chat whose owner has no count of chats yet, or a count that is too low (quota.py)."""
    try:
        _commit(user, chat, counted=False)
    except Refused:
        raise chat_access.not_found() from None


def _commit(user: User, chat: Chat, *, counted: bool) -> None:
    transaction = Transaction()
    delete_in(transaction, chat.owner_id, chat.id, Chat.id.exists())
    jobs.enqueue_in(transaction, "chat", 0, chat_id=chat.id)
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record_in(transaction, user, "chat.delete", chat.owner_id, chat.id)
    if chat.pinned:
        chat_marks.unpin_in(transaction, chat.owner_id, {chat.id})
    if counted:
        quota.remove_in(transaction, chat.owner_id)
    transaction.commit(proof=lambda: (lookup.find(Chat, chat.id) or chat).deleted is True)


def delete_in(transaction: Transaction, owner_id: str, chat_id: str, condition: Condition, step: str = "chat") -> None:
    """Delete a chat in a transaction, with its mark, and leave its tombstone. A job must remove that."""
    # Without an owner, the chat leaves the lists.
    actions: list[Action] = [Chat.deleted.set(True), Chat.owner_id.remove()]
    transaction.update(step, Chat(chat_id), actions, condition & Chat.deleted.does_not_exist())
    changes.mark_in(transaction, owner_id, chat_id, deleted=True)


def remove(data: dict[str, Any], deadline: float) -> bool:
    """Remove what a deleted chat has left, once its task has ended. This is the worker of a job (jobs.py)."""
    chat = lookup.find(Chat, data["chat_id"])
    if chat is None or not chat.deleted:
        return True
    if chat.active_task:
        control.request_stop(chat.active_task)
        if not _is_closed(chat.active_task):
            return False
    if not messages.delete_branches(chat, deadline):
        return False
    steps = (feedback.remove_of_chat, shares.remove_of_chat, client_ids.remove_of_chat, references.remove)
    if not all(step(chat.id, deadline) for step in steps):
        return False
    chat.delete()
    return True


def _is_closed(task_id: str) -> bool:
    task = lookup.find(Task, task_id)
    return task is None or task.closed_by is not None
