"""Chats: how they are opened and changed. chat_access.py reads them.

A chat points to one thread, its generation. A write that changes the messages also updates the chat's version, next_n,
message_count and preview. If all messages are replaced, the write that changes the pointer updates these fields. Each such
write requires the version that it was made from, so one of two concurrent writes is refused. The close of a task requires
instead that the task is the chat's active task. A deleted chat stays as a tombstone until its job has cleaned up. Only that
job and the chat's task still use the tombstone.
"""

import random
import time
from collections.abc import Iterable

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.billing.credits import PREVIEW_CHARACTERS
from aideer.chats import chat_access, messages, presets, quota
from aideer.chats.messages import Page, Window
from aideer.core import clock
from aideer.core.errors import (
    BadRequest,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
)
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, Message, Preset, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.prompts import image_urls, prompts
from aideer.schemas.chats import ChatChange, NewChat, NewMessages, PlacedMessage
from aideer.security import audit_trail, rate_limits
from aideer.web import etags

REPLACED_SECONDS = 20 * 60
"""How long a replaced thread stays for its current readers, from the start of the request that replaces it."""


def create(user: User, new: NewChat) -> tuple[Chat, list[Message]]:
    """Create a chat on a preset's current version, with these messages if any.

    Raises BadRequest if there is no such preset, Forbidden if this user may not use it, and Conflict for too many chats.
    """
    preset = get_usable_preset(user, new.preset_id)
    now = clock.timestamp()
    chat = new_chat(user.id, preset, new.title, new.visibility, now)
    stored = messages.new_items(chat.thread, 1, new.messages, now)
    if _has_image(stored):
        image_urls.require_vision(preset.parameters)
    fill(chat, stored)
    transaction = Transaction()
    transaction.put("chat", chat, Chat.id.does_not_exist())
    record_use(transaction, user, preset)
    put_in(transaction, stored)
    quota.add_in(transaction, user.id)
    quota.commit(transaction, user.id, lambda: chat_access.exists(chat.id))
    return chat, stored


def new_chat(owner_id: str, preset: Preset, title: str, visibility: str, now: str) -> Chat:
    """Return a new chat without messages, on the version of the preset that its head shows. It is not stored yet."""
    return Chat(
        new_id(),
        owner_id=owner_id,
        preset_id=preset.id,
        preset_version=preset.number,
        title=title,
        visibility=visibility,
        version=1,
        generation=new_id(),
        next_n=1,
        message_count=0,
        create_time=now,
        update_time=now,
    )


def fill(chat: Chat, stored: list[Message]) -> None:
    """Give a new chat its first messages, which the caller writes."""
    chat.next_n, chat.message_count = 1 + len(stored), len(stored)
    set_preview(chat, stored)


def get_usable_preset(user: User, preset_id: str) -> Preset:
    """Return the head of a preset that this user may open a chat on. Raises BadRequest if there is none, and Forbidden."""
    try:
        return presets.get_readable(user, preset_id)
    except NotFound:
        raise BadRequest("preset_not_found", "There is no such preset.") from None


def change(user: User, chat_id: str, wanted: ChatChange, if_match: str | None) -> tuple[Chat, Page]:
    """Change the given fields of a chat in one write, and return the chat with its last messages.

    Raises NotFound, Forbidden and BadRequest (preset). Replacing messages also raises PreconditionRequired without If-Match,
    Conflict while a task is running, and TooManyRequests. If-Match raises PreconditionFailed if the chat has changed.
    """
    chat = chat_access.get_manageable(user, chat_id)
    if wanted.messages is not None:
        if if_match is None:
            raise PreconditionRequired("if_match_required", "Send If-Match with the ETag of the chat that you read.")
        _require_no_task(chat)
    if if_match is not None and not etags.matches(if_match, chat.version):
        raise _precondition_failed()
    actions, condition = _fields(user, wanted), Chat.id.exists() & Chat.deleted.does_not_exist()
    if if_match is not None:
        condition &= Chat.version == chat.version
    now = clock.timestamp()
    transaction = Transaction()
    if audit_trail.must_record(user, chat.owner_id):
        audit_trail.record_in(transaction, user, "chat.change", chat.owner_id, chat.id)
    elif wanted.preset_id is not None:
        record_use(transaction, user, get_usable_preset(user, wanted.preset_id))
    if wanted.messages is not None:
        rate_limits.count("replace", user.id)
        actions += _replacement(transaction, user, chat, wanted, wanted.messages, now)
        condition &= Chat.active_task.does_not_exist()
    if actions:
        actions += [Chat.version.add(1), Chat.update_time.set(now)]
        try:
            _commit(transaction, chat, actions, condition, now)
        except Refused:
            chat = chat_access.get(chat_id)
            if wanted.messages is not None:
                _require_no_task(chat)
            raise _precondition_failed() from None
    elif audit_trail.must_record(user, chat.owner_id):
        audit_trail.record(user, "chat.read", chat.owner_id, chat.id)
    chat = chat_access.get(chat_id)
    return chat, messages.read_page(chat.thread, Window(), hidden=True)


def append(user: User, chat_id: str, new: NewMessages) -> list[Message]:
    """Append messages to the user's own chat. A running task is no obstacle, because its answer already has its n.

    Raises NotFound, Forbidden (even for administrators), TooLarge, and Busy if other writes keep changing the chat.
    """
    for _ in attempts():
        chat = chat_access.get(chat_id)
        if chat.owner_id != user.id:
            raise Forbidden("forbidden", "Only the owner of a chat can add messages to it.")
        now = clock.timestamp()
        stored = messages.new_items(chat.thread, chat.next_n, new.messages, now)
        if _has_image(stored):
            image_urls.require_vision(_get_pinned(chat).parameters)
        actions = [Chat.next_n.set(chat.next_n + len(stored)), Chat.version.add(1), *growth(stored)]
        transaction = Transaction()
        transaction.update(
            "chat", Chat(chat.id), actions, (Chat.version == chat.version) & Chat.deleted.does_not_exist()
        )
        put_in(transaction, stored)
        try:
            transaction.commit(proof=lambda stored=stored: _is_stored(stored[0]))  # type: ignore[misc]
        except Refused:
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
            continue
        return stored
    raise Busy


def growth(stored: list[Message]) -> list[Action]:
    """Return the actions by which a chat grows by these messages, besides next_n and version."""
    if not stored:
        return []
    actions: list[Action] = [Chat.message_count.add(len(stored)), Chat.update_time.set(stored[0].create_time)]
    last = _last_visible(stored)
    return actions + _set_preview(last) if last else actions


def put_in(transaction: Transaction, stored: list[Message]) -> None:
    """Write new messages in the transaction that changes their chat."""
    for message in stored:
        transaction.put(f"message {message.n}", message, Message.n.does_not_exist())


def record_use(transaction: Transaction, user: User, preset: Preset) -> None:
    """Record in the audit trail if an administrator opens a chat on another user's private preset."""
    if preset.visibility == "private" and audit_trail.must_record(user, preset.owner_id):
        audit_trail.record_in(transaction, user, "preset.use", preset.owner_id, preset.id)


def set_preview(chat: Chat, thread: list[Message]) -> None:
    """Set a new chat's preview to the last visible message of its thread."""
    if last := _last_visible(thread):
        chat.preview, chat.preview_n = last.content[:PREVIEW_CHARACTERS], last.n


def _fields(user: User, wanted: ChatChange) -> list[Action]:
    actions: list[Action] = []
    if wanted.title is not None:
        actions.append(Chat.title.set(wanted.title))
    if wanted.visibility is not None:
        actions.append(Chat.visibility.set(wanted.visibility))
    if wanted.preset_id is not None:
        preset = get_usable_preset(user, wanted.preset_id)
        actions += [Chat.preset_id.set(preset.id), Chat.preset_version.set(preset.number)]
    return actions


def _replacement(
    transaction: Transaction, user: User, chat: Chat, wanted: ChatChange, placed: list[PlacedMessage], now: str
) -> list[Action]:
    """Write a chat's new thread, and return the actions that make the chat point to it.

    A job that removes the new thread is written first. The transaction that changes the pointer retargets the job to the old
    thread, so no crash leaves either thread behind. If a later replacement replaces the new thread, its own job removes it.
    """
    generation = new_id()
    thread = messages.arrange(chat.thread, f"{chat.id}#{generation}", chat.next_n, placed, now)
    if _has_image(message for message in thread if message.create_time == now):  # earlier images may stay
        preset = get_usable_preset(user, wanted.preset_id) if wanted.preset_id else _get_pinned(chat)
        image_urls.require_vision(preset.parameters)
    job = jobs.create("generation", REPLACED_SECONDS, chat_id=chat.id, generation=generation)
    jobs.retarget_in(transaction, job, chat_id=chat.id, generation=chat.generation)
    messages.write(thread)
    last = _last_visible(thread)
    return [
        Chat.generation.set(generation),
        Chat.next_n.set(chat.next_n + sum(message.n is None for message in placed)),
        Chat.message_count.set(len(thread)),
        *(_set_preview(last) if last else [Chat.preview.remove(), Chat.preview_n.remove()]),
    ]


def _commit(transaction: Transaction, chat: Chat, actions: list[Action], condition: Condition, now: str) -> None:
    transaction.update("chat", Chat(chat.id), actions, condition)
    transaction.commit(proof=lambda: (found := lookup.find(Chat, chat.id)) is not None and found.update_time == now)


def _require_no_task(chat: Chat) -> None:
    if chat.active_task:
        raise Conflict(
            "task_running",
            "Another task is answering in this chat. Wait for its end, or stop it.",
            task_id=chat.active_task,
        )


def _is_stored(message: Message) -> bool:
    found = lookup.find(Message, message.thread, message.n)
    if found is None:
        return False
    return (found.create_time, found.role, found.content) == (message.create_time, message.role, message.content)


def _has_image(thread: Iterable[Message]) -> bool:
    return any(message.type == "image" for message in thread)


def _get_pinned(chat: Chat) -> Preset:
    return prompts.get_preset(chat.preset_id, int(chat.preset_version))


def _last_visible(thread: list[Message]) -> Message | None:
    # An answer that was stopped during its reasoning has no content to quote.
    return next((message for message in reversed(thread) if message.visibility and message.content), None)


def _set_preview(message: Message) -> list[Action]:
    return [Chat.preview.set(message.content[:PREVIEW_CHARACTERS]), Chat.preview_n.set(message.n)]


def _precondition_failed() -> PreconditionFailed:
    return PreconditionFailed("precondition_failed", "The chat has changed since you read it. Read it again.")
