"""Copies of chats: of the user's own or of shared ones, whole or up to a message, to continue from there.

A copy is a new chat, independent of the original. Its messages are written before the chat. A job removes them if the chat is
never created. The copy has only what its maker may see of the original.

The copy keeps the preset version that the original pins if its maker may manage the original, as its owner or an administrator.
Otherwise it pins the preset's current version, because the maker may never have been allowed to use the pinned one.
"""

from aideer.chats import chat_access, chats, messages, quota
from aideer.chats.messages import Page, Window
from aideer.core import clock
from aideer.core.errors import Busy
from aideer.data import changes, jobs
from aideer.data.base import new_id
from aideer.data.models import Chat, Message, User
from aideer.data.retry import attempts
from aideer.data.transactions import Transaction
from aideer.security import audit_trail, auth, rate_limits
from aideer.uploads import references


def copy(user: User, chat_id: str, upto: int | None) -> tuple[Chat, Page]:
    """Copy a chat, whole or up to and including the message `upto`, and return the copy with its last messages.

    Raises NotFound, Forbidden (another user's private chat or preset), BadRequest (another user's chat, whose preset is gone),
    Unprocessable (no message `upto`), TooLarge, Conflict (too many chats), TooManyRequests, and Busy if other requests keep
    changing the chat.
    """
    rate_limits.count("copy", user.id)
    copied_id, generation = new_id(), new_id()
    original, preset_version, thread = _read_at_once(user, chat_id, f"{copied_id}#{generation}", upto)
    jobs.create("copy", chats.REPLACED_SECONDS, chat_id=copied_id, generation=generation)
    messages.write(thread)
    references.copy(thread, copied_id)
    now = clock.timestamp()
    chat = Chat(
        copied_id,
        owner_id=user.id,
        preset_id=original.preset_id,
        preset_version=preset_version,
        title=original.title,
        title_source=original.title_source,
        visibility="private",
        version=1,
        generation=generation,
        next_n=1 + (thread[-1].n if thread else 0),
        message_count=len(thread),
        create_time=now,
        update_time=now,
    )
    chats.set_preview(chat, thread)
    transaction = Transaction()
    transaction.put("chat", chat, Chat.id.does_not_exist())
    changes.mark_in(transaction, user.id, chat.id)
    if audit_trail.must_record(user, original.owner_id):
        audit_trail.record_in(transaction, user, "chat.copy", original.owner_id, original.id)
    quota.add_in(transaction, user.id)
    quota.commit(transaction, user.id, lambda: chat_access.exists(chat.id))
    return chat, messages.read_page(chat.path, Window(), hidden=True)


def _read_at_once(user: User, chat_id: str, new: str, upto: int | None) -> tuple[Chat, int, list[Message]]:
    """Return the chat, the preset version that the copy pins, and the copied thread.

    All three are of one moment, because the chat did not change between two reads.
    """
    chat = chat_access.get_readable(user, chat_id)
    for _ in attempts():
        own = auth.may_manage(user, chat.owner_id)
        version = chat.preset_version if own else chats.get_usable_preset(user, chat.preset_id).number
        thread = messages.copy_thread(chat.path, new, upto, own=own)
        read, chat = chat, chat_access.get_readable(user, chat_id)
        if (read.version, read.owner_id) == (chat.version, chat.owner_id):
            return chat, int(version), thread
    raise Busy
