"""Copies of chats: one's own or a shared one, whole or up to a message, to branch off there.

A copy is a chat of its own from the start: its messages are in place before it is, under a job that removes them should it never
come to be. What its maker does not see of the original is not in it. It keeps the preset's version that the original pins
only where the original is the maker's own; another's may pin a version that was never theirs to use.
"""

import time

from aideer import auth, chats, clock, jobs, messages, trail
from aideer.errors import Busy
from aideer.messages import Page, Window
from aideer.models import Chat, Message, User, new_id
from aideer.transactions import PATIENCE_SECONDS, Transaction


def copy(user: User, chat_id: str, upto: int | None) -> tuple[Chat, Page]:
    """Copy a chat, whole or up to and including the message `upto`, and return the copy with its last messages.

    Raises NotFound, Forbidden (another's private chat, or on another's private preset), BadRequest (another's, whose preset is
    gone), Unprocessable (no such message), TooLarge, and Busy where others keep changing the chat.
    """
    copied_id, generation = new_id(), new_id()
    original, preset_version, thread = _taken(user, chat_id, f"{copied_id}#{generation}", upto)
    jobs.create("copy", chats.REPLACED_SECONDS, chat_id=copied_id, generation=generation)
    messages.write(thread)
    now = clock.timestamp()
    chat = Chat(
        copied_id,
        owner_id=user.id,
        preset_id=original.preset_id,
        preset_version=preset_version,
        title=original.title,
        visibility="private",
        version=1,
        generation=generation,
        next_n=1 + (thread[-1].n if thread else 0),
        message_count=len(thread),
        create_time=now,
        update_time=now,
    )
    chats.show_last(chat, thread)
    transaction = Transaction()
    transaction.put("chat", chat, Chat.id.does_not_exist())
    if trail.concerns(user, original.owner_id):
        trail.record_in(transaction, user, "chat.copy", original.owner_id, original.id)
    transaction.commit(proof=lambda: chats.exists(chat.id))
    return chat, messages.page(chat.thread, Window(), hidden=True)


def _taken(user: User, chat_id: str, new: str, upto: int | None) -> tuple[Chat, int, list[Message]]:
    """The chat, the preset's version that a copy pins, and its thread: all of one moment, as the chat did not change."""
    chat = chats.readable(user, chat_id)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        own = auth.may_manage(user, chat.owner_id)
        version = chat.preset_version if own else chats.usable_preset(user, chat.preset_id).number
        thread = messages.copied(chat.thread, new, upto, own=own)
        read, chat = chat, chats.readable(user, chat_id)
        if (read.version, read.owner_id) == (chat.version, chat.owner_id):
            return chat, int(version), thread
    raise Busy
