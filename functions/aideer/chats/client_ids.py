"""The ids that clients of the AI SDK make: of their chats, and of the messages of users in them.

Such a client names a chat and a message before the service knows them. A record of the user and the client's id names the chat. A
record of the chat and the message's id names what became of the message: its n, and the task that answers it. Both are put in the
transaction that accepts the question, if there is none yet. So a message that is sent again is asked once.

The records of messages are removed with their chat, and those of chats too. For that, a chat has a record of the key of its own.
"""

import functools
import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynamodb.exceptions import DeleteError

from aideer.core import aws_errors
from aideer.data import batch_write, lookup
from aideer.data.models import Record
from aideer.data.transactions import Transaction

CHAT_STEP, MESSAGE_STEP = "client chat", "client message"
"""The steps of a transaction that is refused because another request has brought the id."""
_OWN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
LONGEST = 128
"""The most characters of a client's id."""
_MOST = 10_000
"""The most chats whose ids a process remembers. They never change while a chat exists."""

_remembered: OrderedDict[tuple[str, str], str] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What became of a client's message, as it was sent last."""

    digest: str
    """The SHA-256 of what the message says."""
    numbers: Sequence[int]
    """The n of each stored message that was made of it."""
    answer: dict[str, Any]
    """The accepted task, as admission.Accepted.to_record gives it."""
    version: int

    def to_record(self, chat_id: str, message_id: str) -> Record:
        """Return the record that holds it."""
        data = {"digest": self.digest, "numbers": list(self.numbers), "answer": self.answer}
        return Record(*_message_key(chat_id, message_id), data=data, version=self.version)


def is_own_id(text: str) -> bool:
    """Return whether a text has the form of the ids that the service makes (UUIDv7)."""
    return _OWN_ID.fullmatch(text) is not None


def may_exist(client_id: str) -> bool:
    """Return whether a text can be a client's id. DynamoDB refuses keys of more than 1,024 bytes, and what is no UTF-8."""
    try:
        client_id.encode()
    except UnicodeEncodeError:  # a surrogate alone, which JSON can have
        return False
    return 0 < len(client_id) <= LONGEST


def find_chat(user_id: str, client_id: str) -> str | None:
    """Return the id of the chat that this user's client calls `client_id`, or None. The chat may be deleted meanwhile."""
    if not may_exist(client_id):
        return None
    if known := recall_chat(user_id, client_id):
        return known
    record = lookup.find(Record, *_chat_key(user_id, client_id))
    if record is None:
        return None
    chat_id = str(record.data["chat_id"])
    remember_chat(user_id, client_id, chat_id)
    return chat_id


def recall_chat(user_id: str, client_id: str) -> str | None:
    """Return the id of the chat if this process remembers it."""
    with _lock:
        return _remembered.get((user_id, client_id))


def remember_chat(user_id: str, client_id: str, chat_id: str) -> None:
    """Let this process remember the id of a chat that is stored."""
    with _lock:
        _remembered[user_id, client_id] = chat_id
        _remembered.move_to_end((user_id, client_id))
        while len(_remembered) > _MOST:
            _remembered.popitem(last=False)


def forget_chat(user_id: str, client_id: str) -> bool:
    """Forget what this process remembers of a chat. Return whether it remembered anything."""
    with _lock:
        return _remembered.pop((user_id, client_id), None) is not None


def name_chat_in(transaction: Transaction, user_id: str, client_id: str, chat_id: str) -> None:
    """Give a chat that the transaction opens the client's id. It is refused with CHAT_STEP if that names a chat already."""
    record = Record(*_chat_key(user_id, client_id), data={"chat_id": chat_id})
    transaction.put(CHAT_STEP, record, Record.pk.does_not_exist())
    key = {"user_id": user_id, "client_id": client_id}
    transaction.put("client key", Record(*_name_key(chat_id), data=key))


def find_message(chat_id: str, message_id: str) -> SentMessage | None:
    """Return what became of a client's message, or None if no such message was accepted."""
    if not may_exist(message_id):
        return None
    record = lookup.find(Record, *_message_key(chat_id, message_id))
    return None if record is None else SentMessage(**record.data, version=int(record.version))


def name_message_in(
    transaction: Transaction, chat_id: str, message_id: str, sent: SentMessage, former: SentMessage | None
) -> None:
    """Note a message in the transaction that accepts its question. `former` is what was noted of it before.

    The transaction is refused with MESSAGE_STEP if that is not so any more.
    """
    unchanged = lookup.unchanged(Record.version, former.version if former else None)
    transaction.put(MESSAGE_STEP, sent.to_record(chat_id, message_id), unchanged)


def digest(*parts: str) -> str:
    """Return the SHA-256 of what a message says, part by part."""
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{len(part.encode())}:".encode())
        found.update(part.encode())
    return found.hexdigest()


def remove_of_chat(chat_id: str, deadline: float) -> bool:
    """Remove the ids of a chat that is gone, and of its messages. Return False if `deadline` (of time.monotonic) comes first."""
    name = lookup.find(Record, *_name_key(chat_id))
    if name is not None:
        if time.monotonic() > deadline:
            return False
        _remove_name(Record(*_chat_key(name.data["user_id"], name.data["client_id"])), chat_id)
    return _remove(_message_key(chat_id, "")[0], deadline)


def remove_of_user(user_id: str, deadline: float) -> bool:
    """Remove the ids of a deleted user's chats. Return False if `deadline` (of time.monotonic) comes first."""
    return _remove(_chat_key(user_id, "")[0], deadline)


def _remove(pk: str, deadline: float) -> bool:
    pages = Record.query(pk, consistent_read=True, attributes_to_get=["pk", "sk"]).page_iter
    remove = functools.partial(batch_write.delete, Record, deadline=deadline)
    return all(remove(raw["Items"]) for raw in pages)


def _remove_name(record: Record, chat_id: str) -> None:
    """Remove the record of a chat's name, unless the name is another chat's by now."""
    try:
        record.delete(Record.data == {"chat_id": chat_id})
    except DeleteError as error:
        if not aws_errors.is_refusal(error):
            raise


def _chat_key(user_id: str, client_id: str) -> tuple[str, str]:
    return f"client_chats#{user_id}", client_id


def _message_key(chat_id: str, message_id: str) -> tuple[str, str]:
    return f"client_messages#{chat_id}", f"message#{message_id}"


def _name_key(chat_id: str) -> tuple[str, str]:
    return f"client_messages#{chat_id}", "name"
