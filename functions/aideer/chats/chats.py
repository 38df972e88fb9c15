"""Chats: how they are opened and changed. chat_access.py reads them.

A chat points to the threads of one generation, one for each of its branches (data/branches.py). A write that changes the messages
also updates the chat's version, next_n, message_count and preview. If all messages are replaced, the write that changes the pointer
updates these fields. Each such write requires the version that it was made from, so one of two concurrent writes is refused. The
close of a task requires instead that the task is the chat's active task. A deleted chat stays as a tombstone until its job has
cleaned up. Only that job and the chat's task still use the tombstone.
"""

import functools
from collections.abc import Iterable, Sequence

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.billing.credits import PREVIEW_CHARACTERS
from aideer.chats import chat_access, chat_marks, chat_titles, messages, presets, quota
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
from aideer.data import changes, jobs, lookup
from aideer.data.base import new_id
from aideer.data.branches import Tree
from aideer.data.models import Chat, Message, Preset, User
from aideer.data.retry import attempts, pause
from aideer.data.transactions import Refused, Transaction
from aideer.prompts import image_urls, prompts
from aideer.schemas.chats import ChatChange, NewChat, NewMessage, NewMessages, PlacedMessage
from aideer.schemas.questions import OpenedChat
from aideer.security import audit_trail, budgets, rate_limits
from aideer.uploads.attachments import Attachments
from aideer.web import etags

REPLACED_SECONDS = 20 * 60
"""How long a replaced thread stays for its current readers, from the start of the request that replaces it."""


def create(user: User, new: NewChat) -> tuple[Chat, list[Message]]:
    """Create a chat on a preset's current version, with these messages if any.

    Raises BadRequest if there is no such preset, Forbidden if this user may not use it, Conflict for too many chats, and
    TooManyRequests if the writing budget is used up.
    """
    budgets.charge_writing(user.id, measure(new.messages))
    preset = get_usable_preset(user, new.preset_id)
    for _ in attempts():
        now = clock.timestamp()
        chat = new_chat(user.id, preset, new, new.messages, now)
        attachments = Attachments.read(user.id, chat.id, new.messages, is_new=True)
        stored = messages.new_items(chat.thread, 1, new.messages, now, attachments)
        if _has_image(stored):
            image_urls.require_vision(preset.parameters)
        fill(chat, stored)
        transaction = Transaction()
        transaction.put("chat", chat, Chat.id.does_not_exist())
        changes.mark_in(transaction, user.id, chat.id)
        record_use(transaction, user, preset)
        put_in(transaction, stored)
        attachments.put_in(transaction)
        quota.add_in(transaction, user.id)
        try:
            quota.commit(transaction, user.id, functools.partial(chat_access.exists, chat.id))
        except Refused:  # another request uses the same upload at this moment
            if not attachments:
                raise
            continue
        return chat, stored
    raise Busy


def new_chat(owner_id: str, preset: Preset, wanted: NewChat | OpenedChat, said: Sequence[NewMessage], now: str) -> Chat:
    """Return a new chat without messages, on the version of the preset that its head shows. It is not stored yet.

    `said` are its first messages. Without a title, they give it one.
    """
    title, source = chat_titles.choose(wanted.title, said)
    return Chat(
        new_id(),
        owner_id=owner_id,
        preset_id=preset.id,
        preset_version=preset.number,
        title=title,
        title_source=source,
        auto_title=wanted.auto_title,
        visibility=wanted.visibility,
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

    Raises NotFound, Forbidden, BadRequest (preset) and Conflict (too many pins). Replacing messages also raises
    PreconditionRequired without If-Match, Conflict while a task is running, and TooManyRequests. If-Match raises PreconditionFailed
    if the chat has changed. TooManyRequests is also raised if the writing budget is used up.
    """
    budgets.charge_writing(user.id, 0)
    chat = chat_access.get_manageable(user, chat_id)
    if wanted.messages is not None:
        require_if_match(if_match)
        require_no_task(chat)
        if chat.branches:
            raise Conflict(
                "chat_branched", "This chat has branches. Change its messages one by one, or copy the chat first."
            )
    if if_match is not None and not etags.matches(if_match, chat.version):
        raise precondition_failed()
    if wanted.auto_title is not None and user.id != chat.owner_id:
        raise Forbidden("not_owner", "Only the owner of a chat, who pays for it, can let the model make its title.")
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
        actions.append(Chat.update_time.set(now))
    if marks := chat_marks.to_actions(wanted):
        chat_marks.pin_in(transaction, str(chat.owner_id), chat.id, wanted.pinned)
    if actions or marks:
        moved = now if actions else None
        try:
            _commit(transaction, chat, wanted, [*actions, *marks, Chat.version.add(1)], condition, moved)
        except Refused:
            chat = chat_access.get(chat_id)
            if wanted.messages is not None:
                require_no_task(chat)
            raise precondition_failed() from None
    else:
        chat_access.record_reading(user, chat)
    chat = chat_access.get(chat_id)
    return chat, messages.read_page(chat.path, Window(), hidden=True)


def append(user: User, chat_id: str, new: NewMessages) -> list[Message]:
    """Append messages to the user's own chat. A running task is no obstacle, because its answer already has its n.

    Raises NotFound, Forbidden (even for administrators), TooLarge, TooManyRequests if the writing budget is used up, and Busy if
    other writes keep changing the chat.
    """
    budgets.charge_writing(user.id, measure(new.messages))
    refusal = Forbidden("forbidden", "Only the owner of a chat can add messages to it.")
    for _ in attempts():
        chat = chat_access.get_owned(user.id, chat_id, refusal)
        now = clock.timestamp()
        attachments = Attachments.read(user.id, chat.id, new.messages)
        stored = messages.new_items(chat.shown_thread, chat.next_n, new.messages, now, attachments)
        if _has_image(stored):
            require_vision(chat)
        actions = [Chat.next_n.set(chat.next_n + len(stored)), Chat.version.add(1), *growth(stored)]
        actions += chat_titles.retitle(chat, stored)
        transaction = Transaction()
        transaction.update(
            "chat", Chat(chat.id), actions, (Chat.version == chat.version) & Chat.deleted.does_not_exist()
        )
        changes.mark_in(transaction, user.id, chat.id)
        put_in(transaction, stored)
        attachments.put_in(transaction)
        try:
            transaction.commit(proof=functools.partial(_is_stored, stored[0]))
        except Refused:
            pause()
            continue
        return stored
    raise Busy


def growth(stored: list[Message]) -> list[Action]:
    """Return the actions by which a chat grows by these messages, besides next_n and version."""
    if not stored:
        return []
    actions: list[Action] = [Chat.message_count.add(len(stored)), Chat.update_time.set(stored[0].create_time)]
    last = find_last_visible(stored)
    return actions + update_preview(last) if last else actions


def put_in(transaction: Transaction, stored: list[Message]) -> None:
    """Write new messages in the transaction that changes their chat."""
    for message in stored:
        transaction.put(f"message {message.n}", message, Message.n.does_not_exist())


def measure(new: Sequence[NewMessage]) -> int:
    """Return the bytes of new messages."""
    return sum(len(message.content.encode()) for message in new)


def record_use(transaction: Transaction, user: User, preset: Preset) -> None:
    """Record in the audit trail if an administrator opens a chat on another user's private preset."""
    if preset.visibility == "private" and audit_trail.must_record(user, preset.owner_id):
        audit_trail.record_in(transaction, user, "preset.use", preset.owner_id, preset.id)


def set_preview(chat: Chat, thread: list[Message]) -> None:
    """Set a new chat's preview to the last visible message of its thread."""
    if last := find_last_visible(thread):
        chat.preview, chat.preview_n = _make_preview(last), last.n


def find_last_visible(thread: list[Message]) -> Message | None:
    """Return the last of these messages that a preview can show, or None."""
    # An answer that was stopped during its reasoning has no content to quote.
    return next((message for message in reversed(thread) if message.visibility and message.content), None)


def update_preview(message: Message | None) -> list[Action]:
    """Return the actions that make this message the preview, or leave the chat without one."""
    if message is None:
        return [Chat.preview.remove(), Chat.preview_n.remove()]
    return [Chat.preview.set(_make_preview(message)), Chat.preview_n.set(message.n)]


def update_path(tree: Tree) -> list[Action]:
    """Return the actions that store a chat's changed branches, with the count and the next n of the shown one."""
    fields = tree.to_fields().items()
    return [getattr(Chat, name).remove() if value is None else getattr(Chat, name).set(value) for name, value in fields]


def require_no_task(chat: Chat) -> None:
    """Raise Conflict if a task is answering in the chat."""
    if chat.active_task:
        raise Conflict(
            "task_running",
            "Another task is answering in this chat. Wait for its end, or stop it.",
            task_id=chat.active_task,
        )


def require_if_match(if_match: str | None) -> str:
    """Return the tags of an If-Match header. Raises PreconditionRequired without it."""
    if if_match is None:
        raise PreconditionRequired("if_match_required", "Send If-Match with the ETag of the chat that you read.")
    return if_match


def precondition_failed() -> PreconditionFailed:
    """Return the error for a chat that has another version than the caller's."""
    return PreconditionFailed("precondition_failed", "The chat has changed since you read it. Read it again.")


def require_vision(chat: Chat) -> None:
    """Raise Unprocessable if the model of the chat's preset takes no images."""
    image_urls.require_vision(_get_pinned(chat).parameters)


def _fields(user: User, wanted: ChatChange) -> list[Action]:
    actions: list[Action] = []
    if wanted.title is not None:
        actions += [Chat.title.set(wanted.title), Chat.title_source.set(Chat.PERSON)]
    if wanted.auto_title is not None:
        actions.append(Chat.auto_title.set(wanted.auto_title))
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
    attachments = Attachments.read(user.id, chat.id, placed)
    thread = messages.arrange(chat.path, f"{chat.id}#{generation}", chat.next_n, placed, now, attachments)
    if _has_image(message for message in thread if message.create_time == now):  # earlier images may stay
        preset = get_usable_preset(user, wanted.preset_id) if wanted.preset_id else _get_pinned(chat)
        image_urls.require_vision(preset.parameters)
    job = jobs.create("generation", REPLACED_SECONDS, chat_id=chat.id, generation=generation)
    jobs.retarget_in(transaction, job, chat_id=chat.id, generation=chat.generation)
    attachments.put_in(transaction)
    messages.write(thread)
    last = find_last_visible(thread)
    return [
        Chat.generation.set(generation),
        Chat.next_n.set(chat.next_n + sum(message.n is None for message in placed)),
        Chat.message_count.set(len(thread)),
        *update_preview(last),
        *(chat_titles.retitle(chat, thread) if wanted.title is None else ()),
    ]


def _commit(
    transaction: Transaction,
    chat: Chat,
    wanted: ChatChange,
    actions: list[Action],
    condition: Condition,
    moved: str | None,
) -> None:
    """Commit a change. `moved` is the new update_time, or None if the change leaves it."""

    def is_done() -> bool:
        found = lookup.find(Chat, chat.id)
        if found is None or moved is not None:
            return found is not None and found.update_time == moved
        return found.version == chat.version + 1 and chat_marks.are_set(found, wanted)

    transaction.update("chat", Chat(chat.id), actions, condition)
    changes.mark_in(transaction, chat.owner_id, chat.id)
    for _ in attempts():
        try:
            return transaction.commit(proof=is_done)
        except Refused as refused:
            if refused.steps != {chat_marks.STEP}:
                raise
        chat_marks.make_room(str(chat.owner_id))
    raise Busy


def _is_stored(message: Message) -> bool:
    found = lookup.find(Message, message.thread, message.n)
    if found is None:
        return False
    return (found.create_time, found.role, found.content) == (message.create_time, message.role, message.content)


def _has_image(thread: Iterable[Message]) -> bool:
    return any(message.type == "image" for message in thread)


def _get_pinned(chat: Chat) -> Preset:
    return prompts.get_preset(chat.preset_id, int(chat.preset_version))


def _make_preview(message: Message) -> str:
    shown: str = message.upload["name"] if message.upload else message.content
    return shown[:PREVIEW_CHARACTERS]
