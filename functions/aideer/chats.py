"""Chats: who may see and change them, and how they change.

A chat points to one thread (its generation) and counts it: version, next_n, message_count and preview change in the same
write as the messages do, or, where all are replaced, in the write that turns the pointer. Every such write requires the
version that it was made from, so that of two at once one is told. A deleted chat is a tombstone until its job has cleaned
up; to everyone but that job and its task it is gone.
"""

import contextlib
import random
import time
from collections.abc import Iterable
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer import auth, clock, etags, images, jobs, messages, pages, presets, prompts, trail
from aideer.contract.chats import ChatChange, NewChat, NewMessages, Order, OrderBy, PlacedMessage
from aideer.credits import PREVIEW_CHARACTERS
from aideer.errors import (
    BadRequest,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    Unprocessable,
)
from aideer.messages import Page, Window
from aideer.models import Chat, Message, Preset, User, new_id
from aideer.transactions import PATIENCE_SECONDS, Refused, Transaction

REPLACED_SECONDS = 20 * 60
"""How long a replaced thread stays for those who are reading it: from the beginning of the request that replaces it."""

_INDEXES = {"create_time": Chat.by_create_time, "update_time": Chat.by_update_time, "title": Chat.by_title}


def create(user: User, new: NewChat) -> tuple[Chat, list[Message]]:
    """Open a chat on a preset's current version, with these messages if any.

    Raises BadRequest where there is no such preset, and Forbidden where it is not this user's to use.
    """
    preset = usable_preset(user, new.preset_id)
    now = clock.timestamp()
    chat = Chat(
        new_id(),
        owner_id=user.id,
        preset_id=preset.id,
        preset_version=preset.number,
        title=new.title,
        visibility=new.visibility,
        version=1,
        generation=new_id(),
        next_n=1 + len(new.messages),
        message_count=len(new.messages),
        create_time=now,
        update_time=now,
    )
    stored = messages.stored(chat.thread, 1, new.messages, now)
    if _has_image(stored):
        images.require_vision(preset.parameters)
    show_last(chat, stored)
    transaction = Transaction()
    transaction.put("chat", chat, Chat.id.does_not_exist())
    _record_use(transaction, user, preset)
    _put(transaction, stored)
    transaction.commit(proof=lambda: exists(chat.id))
    return chat, stored


def listed(
    user: User, order_by: OrderBy | None, order: Order, *, prefix: str, limit: int, cursor: str | None, offset: int
) -> tuple[list[Chat], str | None]:
    """A page of one's own chats, and the cursor of the next. A prefix (of the title) orders by title.

    The page may be shorter than `limit` while there are more: an index lags behind what is deleted.
    """
    if prefix and order_by not in (None, "title"):
        raise Unprocessable("order_by_not_title", "With q, chats are ordered by title.")
    by = order_by or ("title" if prefix else "create_time")
    name = f"chats {by} {order} {prefix}"
    keys = list(
        _INDEXES[by].query(
            user.id,
            Chat.title.startswith(prefix) if prefix else None,
            scan_index_forward=order == "asc",
            limit=offset + limit + 1,
            last_evaluated_key=_start(user, name, by, prefix, cursor) if cursor else None,
        )
    )[offset:]
    page = keys[:limit]
    found = {chat.id: chat for chat in Chat.batch_get([key.id for key in page], consistent_read=True)} if page else {}
    chats = [found[key.id] for key in page if key.id in found and found[key.id].owner_id == user.id]
    more = len(keys) > limit
    return chats, pages.encode(name, [getattr(page[-1], by), page[-1].id]) if more else None


def read(user: User, chat_id: str, window: Window, if_none_match: str | None = None) -> tuple[Chat, Page]:
    """A chat and a window of its messages: all of them for who may manage it, only visible ones of a shared one.

    Raises NotFound, Forbidden for another's private one, and NotModified where the caller has this, as they are shown it.
    """
    chat = readable(user, chat_id)
    if if_none_match is not None and etags.names(if_none_match, tag := shown_tag(user, chat)):
        raise etags.NotModified(tag)
    own = auth.may_manage(user, chat.owner_id)
    if trail.concerns(user, chat.owner_id):
        trail.record(user, "chat.read", chat.owner_id, chat.id)
    return chat, messages.page(chat.thread, window, hidden=own)


def shown_tag(user: User, chat: Chat) -> int | str:
    """What names a chat as this user is shown it: the version, or another tag where hidden messages are left out."""
    version = int(chat.version)
    return version if auth.may_manage(user, chat.owner_id) else f"{version}-shared"


def readable(user: User, chat_id: str) -> Chat:
    """The chat, which this user may read. Raises NotFound, and Forbidden where it is another's private one."""
    chat = _found(chat_id)
    if not auth.may_manage(user, chat.owner_id) and chat.visibility != "shared":
        raise Forbidden("forbidden", "This chat is private.")
    return chat


def usable_preset(user: User, preset_id: str) -> Preset:
    """The head of a preset that this user may open a chat on. Raises BadRequest where there is none, and Forbidden."""
    try:
        return presets.readable(user, preset_id)
    except NotFound:
        raise BadRequest("preset_not_found", "There is no such preset.") from None


def change(user: User, chat_id: str, wanted: ChatChange, if_match: str | None) -> tuple[Chat, Page]:
    """Change what is given of a chat, all at once, and return it with its last messages.

    Raises NotFound, Forbidden, BadRequest (preset), and where messages are replaced or If-Match is given
    PreconditionRequired, Conflict (a task is running) and PreconditionFailed (the chat has moved).
    """
    chat = _managed(user, chat_id)
    if wanted.messages is not None:
        if if_match is None:
            raise PreconditionRequired(
                "if_match_required", "Replacing messages needs If-Match: the ETag that you read."
            )
        _require_no_task(chat)
    if if_match is not None and not etags.names(if_match, chat.version):
        raise _moved_on()
    actions, condition = _fields(user, wanted), Chat.id.exists() & Chat.deleted.does_not_exist()
    if if_match is not None:
        condition &= Chat.version == chat.version
    now = clock.timestamp()
    transaction = Transaction()
    if trail.concerns(user, chat.owner_id):
        trail.record_in(transaction, user, "chat.change", chat.owner_id, chat.id)
    elif wanted.preset_id is not None:
        _record_use(transaction, user, usable_preset(user, wanted.preset_id))
    if wanted.messages is not None:
        actions += _replacement(transaction, user, chat, wanted, wanted.messages, now)
        condition &= Chat.active_task.does_not_exist()
    if actions:
        actions += [Chat.version.add(1), Chat.update_time.set(now)]
        try:
            _write(transaction, chat, actions, condition, now)
        except Refused:
            chat = _found(chat_id)
            if wanted.messages is not None:
                _require_no_task(chat)
            raise _moved_on() from None
    elif trail.concerns(user, chat.owner_id):
        trail.record(user, "chat.read", chat.owner_id, chat.id)
    chat = _found(chat_id)
    return chat, messages.page(chat.thread, Window(), hidden=True)


def append(user: User, chat_id: str, new: NewMessages) -> list[Message]:
    """Append messages to one's own chat, while a task runs too: its answer has its n already.

    Raises NotFound, Forbidden (even to administrators), TooLarge, and Busy where others keep changing the chat.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        chat = _found(chat_id)
        if chat.owner_id != user.id:
            raise Forbidden("forbidden", "Only its owner writes into a chat.")
        now = clock.timestamp()
        stored = messages.stored(chat.thread, chat.next_n, new.messages, now)
        if _has_image(stored):
            images.require_vision(_pinned(chat).parameters)
        actions: list[Action] = [
            Chat.next_n.set(chat.next_n + len(stored)),
            Chat.message_count.add(len(stored)),
            Chat.version.add(1),
            Chat.update_time.set(now),
        ]
        if last := _last_visible(stored):
            actions += _previewed(last)
        transaction = Transaction()
        transaction.update(
            "chat", Chat(chat.id), actions, (Chat.version == chat.version) & Chat.deleted.does_not_exist()
        )
        _put(transaction, stored)
        try:
            transaction.commit(proof=lambda stored=stored: _is_stored(stored[0]))  # type: ignore[misc]
        except Refused:
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
            continue
        return stored
    raise Busy


def delete(user: User, chat_id: str) -> None:
    """Delete a chat: it is gone for everyone at once; its task is stopped, and a job removes what it held.

    Raises NotFound and Forbidden.
    """
    from aideer import tasks  # only this one needs it

    chat = _managed(user, chat_id)
    transaction = Transaction()
    transaction.update(
        "chat",
        Chat(chat.id),
        [Chat.deleted.set(True), Chat.owner_id.remove()],  # without an owner, it leaves the lists
        Chat.id.exists() & Chat.deleted.does_not_exist(),
    )
    jobs.joined(transaction, "chat", 0, chat_id=chat.id)
    if trail.concerns(user, chat.owner_id):
        trail.record_in(transaction, user, "chat.delete", chat.owner_id, chat.id)
    try:
        transaction.commit(proof=lambda: (_find(chat.id) or chat).deleted is True)
    except Refused:
        raise _gone() from None
    # No task can begin now; the one that had it at that moment is named on the tombstone.
    tombstone = _find(chat.id)
    if tombstone and tombstone.active_task:
        with contextlib.suppress(Busy):  # the job stops it again
            tasks.request_stop(tombstone.active_task)


def _record_use(transaction: Transaction, user: User, preset: Preset) -> None:
    if preset.visibility == "private" and trail.concerns(user, preset.owner_id):
        trail.record_in(transaction, user, "preset.use", preset.owner_id, preset.id)


def exists(chat_id: str) -> bool:
    """Whether there is a chat, or its tombstone."""
    return _find(chat_id) is not None


def show_last(chat: Chat, thread: list[Message]) -> None:
    """Let a new chat's preview show the last visible message of its thread."""
    if last := _last_visible(thread):
        chat.preview, chat.preview_n = last.content[:PREVIEW_CHARACTERS], last.n


def _found(chat_id: str) -> Chat:
    chat = _find(chat_id)
    if chat is None or chat.deleted:
        raise _gone()
    return chat


def _managed(user: User, chat_id: str) -> Chat:
    chat = _found(chat_id)
    if not auth.may_manage(user, chat.owner_id):
        raise Forbidden("forbidden", "This chat is not yours.")
    return chat


def _find(chat_id: str) -> Chat | None:
    try:
        return Chat.get(chat_id, consistent_read=True)
    except Chat.DoesNotExist:
        return None


def _start(user: User, name: str, by: OrderBy, prefix: str, cursor: str) -> dict[str, Any]:
    value, chat_id = pages.decode(name, cursor, (str, str))
    # DynamoDB refuses a key that cannot be, and one outside of what is asked for.
    if not (0 < len(value.encode()) <= 1024 and 0 < len(chat_id) <= 64 and value.startswith(prefix)):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return {"owner_id": {"S": user.id}, by: {"S": value}, "id": {"S": chat_id}}


def _fields(user: User, wanted: ChatChange) -> list[Action]:
    actions: list[Action] = []
    if wanted.title is not None:
        actions.append(Chat.title.set(wanted.title))
    if wanted.visibility is not None:
        actions.append(Chat.visibility.set(wanted.visibility))
    if wanted.preset_id is not None:
        preset = usable_preset(user, wanted.preset_id)
        actions += [Chat.preset_id.set(preset.id), Chat.preset_version.set(preset.number)]
    return actions


def _replacement(
    transaction: Transaction, user: User, chat: Chat, wanted: ChatChange, placed: list[PlacedMessage], now: str
) -> list[Action]:
    """Write the thread that a chat shall point to, and return the actions that make it do so.

    Its job goes before, and is about the new thread until the transaction that turns the pointer makes it about the old one:
    no crash leaves either behind, and what a younger replacement replaces is left to that one's job.
    """
    generation = new_id()
    thread = messages.laid_out(chat.thread, f"{chat.id}#{generation}", chat.next_n, placed, now)
    if _has_image(message for message in thread if message.create_time == now):  # what was there before may stay
        preset = usable_preset(user, wanted.preset_id) if wanted.preset_id else _pinned(chat)
        images.require_vision(preset.parameters)
    job = jobs.create("generation", REPLACED_SECONDS, chat_id=chat.id, generation=generation)
    jobs.turned(transaction, job, chat_id=chat.id, generation=chat.generation)
    messages.write(thread)
    last = _last_visible(thread)
    return [
        Chat.generation.set(generation),
        Chat.next_n.set(chat.next_n + sum(message.n is None for message in placed)),
        Chat.message_count.set(len(thread)),
        *(_previewed(last) if last else [Chat.preview.remove(), Chat.preview_n.remove()]),
    ]


def _write(transaction: Transaction, chat: Chat, actions: list[Action], condition: Condition, now: str) -> None:
    transaction.update("chat", Chat(chat.id), actions, condition)
    transaction.commit(proof=lambda: (found := _find(chat.id)) is not None and found.update_time == now)


def _require_no_task(chat: Chat) -> None:
    if chat.active_task:
        raise Conflict("task_running", "A task is answering in this chat.", task_id=chat.active_task)


def _put(transaction: Transaction, stored: list[Message]) -> None:
    for message in stored:
        transaction.put(f"message {message.n}", message, Message.n.does_not_exist())


def _is_stored(message: Message) -> bool:
    try:
        found = Message.get(message.thread, message.n, consistent_read=True)
    except Message.DoesNotExist:
        return False
    return (found.create_time, found.role, found.content) == (message.create_time, message.role, message.content)


def _has_image(thread: Iterable[Message]) -> bool:
    return any(message.type == "image" for message in thread)


def _pinned(chat: Chat) -> Preset:
    return prompts.pinned(chat.preset_id, int(chat.preset_version))


def _last_visible(thread: list[Message]) -> Message | None:
    # An answer without content, which was stopped while it thought, says nothing that could be quoted.
    return next((message for message in reversed(thread) if message.visibility and message.content), None)


def _previewed(message: Message) -> list[Action]:
    return [Chat.preview.set(message.content[:PREVIEW_CHARACTERS]), Chat.preview_n.set(message.n)]


def _gone() -> NotFound:
    return NotFound("chat_not_found", "There is no such chat.")


def _moved_on() -> PreconditionFailed:
    return PreconditionFailed("precondition_failed", "The chat has changed since: read it again.")
