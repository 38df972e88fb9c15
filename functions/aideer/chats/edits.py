"""Changes of single messages, and of the branch that a chat shows.

Each change requires the chat's version, as its caller read it, and raises it. While a task is answering, only messages behind the
place of its answer can be changed, because the prompt below it was priced. A message that several branches share changes in all.
"""

from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.update import Action

from aideer.chats import chat_access, chats, messages
from aideer.chats.messages import TRANSACTION_BYTES, Page, Window
from aideer.core import clock
from aideer.core.errors import Conflict, Detail, TooLarge
from aideer.data import changes, lookup
from aideer.data.branches import Tree
from aideer.data.models import Chat, Message, Task, User
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.chats import MessageChange, PlacedMessage
from aideer.security import audit_trail, budgets
from aideer.web import etags

REMOVED = 90
"""The most messages of one removal. A transaction takes 100 items."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A changed message, and what its response needs: its chat with the new version, and the n of the message before it."""

    version: int
    chat: Chat
    message: Message
    previous: int


def edit(user: User, chat_id: str, n: int, wanted: MessageChange, if_match: str | None) -> Edited:
    """Change the content or the visibility of a message of the shown path.

    An answer with another content is an ordinary message, without what an answer has. Raises NotFound, Forbidden, Unprocessable,
    PreconditionRequired, PreconditionFailed, Conflict if a running task has read the message or replaces it, and TooManyRequests if
    the writing budget is used up.
    """
    chat = _get(user, chat_id, if_match)
    _require_unread(chat, n)
    stored, previous = messages.get_with_previous(chat.path, n)
    now = clock.timestamp()
    content = stored.content if wanted.content is None else wanted.content
    fields = {"role": stored.role, "type": stored.type, "content": content, "visibility": wanted.visibility}
    edited = messages.place(stored.thread, stored, PlacedMessage.model_validate(fields), now)
    if edited.attribute_values == stored.attribute_values:
        chat_access.record_reading(user, chat)
        return Edited(int(chat.version), chat, stored, previous)
    if edited.type == "image" and content != stored.content:
        chats.require_vision(chat)
    budgets.charge_writing(user.id, max(_stored_bytes(stored), _stored_bytes(edited)))
    transaction = Transaction()
    transaction.put("message", edited, Message.n.exists())
    _commit(user, chat, transaction, _preview_edit(chat, edited), now)
    return Edited(int(chat.version) + 1, chat, edited, previous)


def remove(user: User, chat_id: str, n: int, *, following: bool, if_match: str | None) -> tuple[Chat, Page]:
    """Remove a message of the shown path, alone or with all that follow it. Return the chat with its last messages.

    If a branch has no message left, the chat shows a sibling. Raises as `edit` does, TooLarge if more than REMOVED messages follow,
    and Conflict if another branch goes on from a message that would be removed with what follows.
    """
    chat = _get(user, chat_id, if_match)
    _require_unread(chat, n)
    first, previous = messages.get_with_previous(chat.path, n)
    gone = _read_following(user, chat, n) if following else [first]
    tree = chat.tree
    if following:
        _require_unshared(tree, gone)
    budgets.charge_writing(user.id, sum(_stored_bytes(message) for message in gone))
    transaction = Transaction()
    before = [previous, *(int(message.n) for message in gone)]
    for message, above in reversed(list(zip(gone, before, strict=False))):
        transaction.delete(f"message {message.n}", Message(message.thread, message.n))
        tree.remove(int(message.n), above)
    shown = tree.shown
    tree.settle()
    actions = chats.update_path(tree)
    if tree.shown != shown:
        chats.require_no_task(chat)  # its answer goes to the branch in which it was asked
        actions += chats.update_preview(messages.find_last_visible(tree.path, 2**53, without=gone))
    elif chat.preview_n is not None and (chat.preview_n >= n if following else chat.preview_n == n):
        actions += chats.update_preview(messages.find_last_visible(tree.path, n))
    _commit(user, chat, transaction, actions, clock.timestamp())
    return _read(chat_id)


def switch(user: User, chat_id: str, branch: str, if_match: str | None) -> tuple[Chat, Page]:
    """Show another branch of a chat to its end. Return the chat with its last messages.

    Raises as `edit` does, but NotFound for an unknown branch, and Conflict while any task is answering in the chat.
    """
    chat = _get(user, chat_id, if_match)
    chats.require_no_task(chat)
    tree = chat.tree
    if not tree.show(branch):
        raise chat_access.branch_not_found()
    if tree.shown != chat.tree.shown:
        budgets.charge_writing(user.id, 0)
        actions = [*chats.update_path(tree), *chats.update_preview(messages.find_last_visible(tree.path, 2**53))]
        _commit(user, chat, Transaction(), actions, clock.timestamp())
    else:
        chat_access.record_reading(user, chat)
    return _read(chat_id)


def _read_following(user: User, chat: Chat, n: int) -> list[Message]:
    """Return the messages of the shown path from `n` on. They count as reading. Raises TooLarge, and reads no more then."""
    found, size = [], 0
    for message in messages.read_following(chat.path, n):
        found.append(message)
        size += _stored_bytes(message)
        if len(found) > REMOVED or size > TRANSACTION_BYTES:
            break
    budgets.note(user.id, size)
    if len(found) > REMOVED or size > TRANSACTION_BYTES:
        raise TooLarge(
            "too_many_following",
            Detail("More than {most} messages or 3 MB follow. Begin with a later message.", most=REMOVED),
        )
    return found


def _get(user: User, chat_id: str, if_match: str | None) -> Chat:
    budgets.require(user.id, "write")
    chat = chat_access.get_manageable(user, chat_id)
    if not etags.matches(chats.require_if_match(if_match), chat.version):
        raise chats.precondition_failed()
    return chat


def _read(chat_id: str) -> tuple[Chat, Page]:
    chat = chat_access.get(chat_id)
    return chat, messages.read_page(chat.path, Window(), hidden=True)


def _require_unread(chat: Chat, n: int) -> None:
    """Raise Conflict if a running task has read the message, replaces it, or answers at its place."""
    if not chat.active_task:
        return
    task = lookup.find(Task, chat.active_task)
    if task is None or task.answer_n is None or n <= task.answer_n:
        chats.require_no_task(chat)


def _require_unshared(tree: Tree, gone: list[Message]) -> None:
    """Raise Conflict if an unshown branch continues one of these messages."""
    if any(len(tree.find_alternatives(int(message.n))) > 1 for message in gone):
        raise Conflict(
            "branches_follow", "Another branch goes on from one of these messages. Remove what follows it there first."
        )


def _commit(user: User, chat: Chat, transaction: Transaction, actions: list[Action], now: str) -> None:
    """Commit a change of the chat's version. Raises NotFound and PreconditionFailed."""
    actions = [*actions, Chat.version.add(1), Chat.update_time.set(now)]
    condition = (Chat.version == chat.version) & Chat.deleted.does_not_exist()
    transaction.update("chat", Chat(chat.id), actions, condition)
    changes.mark_in(transaction, chat.owner_id, chat.id)
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record_in(transaction, user, "chat.change", chat.owner_id, chat.id)
    version = int(chat.version) + 1

    def happened() -> bool:
        found = lookup.find(Chat, chat.id)
        return found is not None and (found.version, found.update_time) == (version, now)

    try:
        transaction.commit(proof=happened)
    except Refused:
        chat_access.get(chat.id)
        raise chats.precondition_failed() from None


def _preview_edit(chat: Chat, edited: Message) -> list[Action]:
    last = int(chat.preview_n or 0)
    if edited.visibility and edited.content and edited.n >= last:
        return chats.update_preview(edited)
    if edited.n == last:
        return chats.update_preview(messages.find_last_visible(chat.path, int(edited.n)))
    return []


def _stored_bytes(message: Message) -> int:
    fields: Any = (message.content, message.reasoning, message.sources)
    return sum(len(str(value).encode()) for value in fields if value) + 1000
