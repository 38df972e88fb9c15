"""Marks of changed chats, for GET /changes.

Each transaction that changes what an owner can see of a chat also puts the chat's mark. tests/changes_rule.py holds all tests to
this. The reader of the feed (chats/change_feed.py) numbers the marks later. So writers read nothing, and writers of different chats
never wait for each other. A chat has at most one mark. Each mark has a new stamp, so the reader sees if it was put again.
"""

import secrets

from aideer.core import clock
from aideer.data import batch_write
from aideer.data.models import Record
from aideer.data.transactions import Transaction

KEPT_DAYS = 90
"""How many days the feed tells of a deleted chat."""
SLACK_SECONDS = 86400
"""The record of a deletion is kept so much longer, because clocks differ and a commit takes time."""
MARKS = "new#"
"""The range keys of marks begin with this."""


def mark_in(transaction: Transaction, owner_id: str, chat_id: str, *, deleted: bool = False) -> None:
    """Mark a chat as changed, in the transaction that changes it. `owner_id` is the chat's owner, whoever makes the change.

    A deletion is the last change of a chat. So no step that changes a chat may succeed after it.
    """
    mark = Record(key(owner_id), f"{MARKS}{chat_id}", data={"stamp": secrets.token_hex(8)})
    if deleted:
        mark.data["deleted"] = True
        mark.ttl = int(clock.now()) + KEPT_DAYS * 86400 + SLACK_SECONDS
    transaction.replace(f"mark of {chat_id}", mark)


def remove_all(owner_id: str, deadline: float) -> bool:
    """Remove the feed of a deleted user. Return False if `deadline` (of time.monotonic) comes first."""
    pages = Record.query(key(owner_id), consistent_read=True, attributes_to_get=["pk", "sk"]).page_iter
    return all(batch_write.delete(Record, raw["Items"], deadline) for raw in pages)


def key(owner_id: str) -> str:
    """Return the hash key of all records of a user's feed."""
    return f"changes#{owner_id}"
