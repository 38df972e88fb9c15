"""The chats that use images, and the count of a user's open uploads.

A record of each chat and image says that the chat uses the image, and `uses` of the upload counts these records. The transaction
that stores a message also writes the record, so an image is never removed under a message that was just accepted. A chat keeps its
images until it is deleted, whatever becomes of their messages. A copy of a chat uses the images of the original.
"""

import time
from collections.abc import Iterable, Sequence

from pynamodb.expressions.update import Action

from aideer.core import clock
from aideer.core.errors import Busy
from aideer.data import jobs, lookup
from aideer.data.models import Message, Record, Upload
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.security import budgets

PREFIX = "upload:"
"""The content of a message that names an upload begins so, and its id follows."""
FACTS = ("id", "name", "type", "size", "width", "height", "tokens")
"""The fields of a message about its file."""
_COPIED_AT_ONCE = 40


def to_content(upload_id: str) -> str:
    """Return the content of a message that names this upload."""
    return f"{PREFIX}{upload_id}"


def find_id(kind: str, content: str) -> str | None:
    """Return the id of the upload that a message of this kind and content names, or None if it names none."""
    return content.removeprefix(PREFIX) if kind != "text" and content.startswith(PREFIX) else None


def find_image(message: Message) -> Upload | None:
    """Return the upload whose image a stored message shows. Return None if it shows none, or if that was deleted."""
    upload_id = find_id(message.type, message.content)
    upload = lookup.find(Upload, upload_id) if upload_id else None
    return upload if upload and upload.is_there(clock.now()) else None


def key(chat_id: str, upload_id: str) -> tuple[str, str]:
    """Return the key of the record that a chat uses an image."""
    return f"chat_uploads#{chat_id}", upload_id


def count_key(user_id: str) -> tuple[str, str]:
    """Return the key of the count of a user's open uploads."""
    return f"uploads#{user_id}", "open"


def add_in(transaction: Transaction, chat_id: str, upload_id: str) -> None:
    """Let a chat use an image that it does not use yet. The caller adds the conditions of the upload."""
    transaction.put(f"reference {upload_id}", Record(*key(chat_id, upload_id)), Record.pk.does_not_exist())
    transaction.update(f"upload {upload_id}", Upload(upload_id), [Upload.uses.add(1), Upload.open.remove()], None)


def discount_in(transaction: Transaction, user_id: str, number: int) -> None:
    """Count so many open uploads less."""
    transaction.update("open", Record(*count_key(user_id)), [Record.uses.add(-number)], Record.pk.exists())


def copy(thread: Sequence[Message], chat_id: str) -> None:
    """Let a chat that is about to be created use the images of its messages. Those that are gone stay gone.

    The job that removes the messages of a chat that was never created calls `remove` too. Raises Busy.
    """
    named = {find_id(message.type, message.content) for message in thread} - {None}
    ids = sorted(upload_id for upload_id in named if upload_id and lookup.is_possible(upload_id))
    for start in range(0, len(ids), _COPIED_AT_ONCE):
        _copy_some(ids[start : start + _COPIED_AT_ONCE], chat_id)


def remove(chat_id: str, deadline: float) -> bool:
    """End the uses of a chat that is gone. Return False if `deadline` (of time.monotonic) comes first.

    An image that no chat uses any more is removed by a job.
    """
    pk, _ = key(chat_id, "")
    for record in Record.query(pk, consistent_read=True):
        if time.monotonic() > deadline:
            return False
        _remove(record)
    return True


def _copy_some(ids: Iterable[str], chat_id: str) -> None:
    for _ in attempts():
        transaction = Transaction()
        for upload in Upload.batch_get(list(ids), consistent_read=True, attributes_to_get=["id", "uses", "deleted"]):
            if upload.uses > 0 and not upload.deleted:
                add_in(transaction, chat_id, upload.id)
                used = (Upload.uses > 0) & Upload.deleted.does_not_exist()
                transaction.check(f"upload {upload.id}", Upload(upload.id), used)
        if not transaction.has_steps:
            return
        try:
            transaction.commit()
        except Refused as refused:
            if any(step.startswith("reference") for step in refused.steps):
                return  # an earlier attempt of ours, whose answer was lost
            continue
        return
    raise Busy


def _remove(record: Record) -> None:
    for _ in attempts():
        upload = lookup.find(Upload, record.sk, attributes=["id", "uses", "expires_at"])
        if upload is None:
            record.delete()
            return
        transaction = Transaction()
        transaction.delete("reference", Record(record.pk, record.sk), Record.pk.exists())
        is_last = upload.uses <= 1
        actions: list[Action] = [Upload.uses.add(-1), *([Upload.expires_at.set(int(clock.now()))] if is_last else [])]
        transaction.update("upload", Upload(upload.id), actions, Upload.uses == upload.uses)
        if is_last:
            jobs.enqueue_in(transaction, "upload", 0, upload_id=upload.id)
        try:
            transaction.commit()
        except Refused as refused:
            if "reference" in refused.steps:
                return  # another worker was faster
            continue
        return
    raise Busy


def charge_texts(user_id: str, read: Iterable[Upload]) -> None:
    """Count the texts of documents as reading, because DynamoDB bills a read of their records for them."""
    budgets.charge(user_id, sum(int(upload.text_bytes or 0) for upload in read))


def get_facts(upload: Upload) -> dict[str, object]:
    """Return what a message says about its file."""
    facts = {name: getattr(upload, name) for name in FACTS}
    return {name: value for name, value in facts.items() if value is not None}
