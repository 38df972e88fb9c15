"""The marks that an owner puts on chats: pinned, archived, and tags. No other reader sees them, and copies do not take them.

A mark raises the chat's version, because the owner's page of the chat shows it. It leaves update_time, so an archived chat does not
move to the top of the list.

The pinned chats of a user are also a set of ids in a record, because a front end shows them first. The transaction that pins a
chat adds its id, with the limit PINNED as a condition. The transaction that unpins or deletes the chat removes it. So each pinned
chat is in the set. A chat that is pinned while it is deleted may stay in the set: `make_room` removes it when the set is full.
"""

from typing import Any

from pynamodb.attributes import Attribute
from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import size
from pynamodb.expressions.update import Action

from aideer.core import aws_errors
from aideer.core.errors import Conflict, Detail
from aideer.data import lookup
from aideer.data.models import Chat, Record
from aideer.data.transactions import Transaction
from aideer.schemas.chats import ChatChange

STEP = "pins"
"""The name of the step that refuses a transaction if the user has too many pinned chats."""
PINNED = 100
"""The most pinned chats of a user: one BatchGetItem reads them."""


def to_actions(wanted: ChatChange) -> list[Action]:
    """Return the actions that set the wanted marks. A chat without a mark has no attribute for it."""
    actions: list[Action] = []
    marks: tuple[tuple[Attribute[Any], Any], ...] = (
        (Chat.pinned, wanted.pinned),
        (Chat.archived, wanted.archived),
        (Chat.tags, wanted.tags),
    )
    for attribute, value in marks:
        if value is not None:
            actions.append(attribute.set(value) if value else attribute.remove())
    return actions


def are_set(chat: Chat, wanted: ChatChange) -> bool:
    """Return whether the chat has the wanted marks."""
    pairs = ((chat.pinned, wanted.pinned), (chat.archived, wanted.archived), (chat.tags, wanted.tags))
    return all(value is None or (stored or None) == (value or None) for stored, value in pairs)


def pin_in(transaction: Transaction, owner_id: str, chat_id: str, pinned: bool | None) -> None:
    """Add a chat to its owner's pinned chats, or remove it, in the transaction that changes the chat."""
    if pinned is None:
        return
    pins = Record(*_key(owner_id))
    if pinned:
        room = Record.ids.does_not_exist() | (size(Record.ids) < PINNED) | Record.ids.contains(chat_id)
        transaction.update(STEP, pins, [Record.ids.add({chat_id})], room)
    else:
        unpin_in(transaction, owner_id, {chat_id})


def unpin_in(transaction: Transaction, owner_id: str, chat_ids: set[str]) -> None:
    """Remove chats from their owner's pinned ones, if there are any, in the transaction that unpins or deletes them."""
    if chat_ids:
        transaction.update(STEP, Record(*_key(owner_id)), [Record.ids.delete(chat_ids)], None)


def make_room(owner_id: str) -> None:
    """Remove deleted chats from a full set of pinned chats. Raises Conflict if there are none.

    Call it after `pin_in` was refused, and then try again.
    """
    ids = list_pinned(owner_id)
    if len(ids) < PINNED:
        return  # a chat was unpinned meanwhile
    left = {chat.id for chat in Chat.batch_get(ids, consistent_read=True) if not chat.deleted}
    gone = set(ids) - left  # a deleted chat does not come back
    if not gone:
        raise Conflict("too_many_pins", Detail("You can pin at most {most} chats. Unpin some first.", most=PINNED))
    try:
        Record(*_key(owner_id)).update([Record.ids.delete(gone)], Record.ids.exists())
    except UpdateError as error:  # another request unpins the last one, or changes the set at this moment
        if not (aws_errors.is_refusal(error) or aws_errors.is_conflict(error)):
            raise


def list_pinned(owner_id: str) -> list[str]:
    """Return the ids of a user's pinned chats. A deleted chat may be among them."""
    pins = lookup.find(Record, *_key(owner_id))
    return sorted(pins.ids) if pins and pins.ids else []


def remove_pins(owner_id: str) -> None:
    """Remove the set of a deleted user."""
    Record(*_key(owner_id)).delete()


def _key(owner_id: str) -> tuple[str, str]:
    return f"chats#{owner_id}", "pinned"
