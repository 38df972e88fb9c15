"""The uploads that new messages name: who may use them, and how the transaction that stores the messages uses them.

Only the owner of an upload may name it. To others it is as if there were none. The upload must be ready, and its condition is
checked once more in the transaction. So a message is stored only if its file is there, and a file that a message shows does not
expire.
"""

import functools
from collections.abc import Sequence
from typing import Protocol

from pynamodb.expressions.condition import Condition

from aideer.core import clock
from aideer.core.errors import AideerError, Detail, Unprocessable
from aideer.data import lookup
from aideer.data.models import Message, Record, Upload
from aideer.data.transactions import Transaction
from aideer.security import budgets
from aideer.uploads import kinds, references

MOST = 10
"""The most uploads that one request may add to a chat. A transaction takes 100 items."""


class NamingMessage(Protocol):
    """A message that may name an upload."""

    @property
    def type(self) -> str:
        """text, image or document."""

    @property
    def content(self) -> str:
        """The text, an address, or the content of an upload."""


class Attachments:
    """The uploads that the messages of one request name."""

    def __init__(self, owner_id: str, chat_id: str, uploads: dict[str, Upload], shown: set[str]) -> None:
        self._owner_id, self._chat_id = owner_id, chat_id
        self._uploads, self._shown = uploads, shown
        self._used: dict[str, Upload] = {}

    @classmethod
    def read(
        cls, owner_id: str, chat_id: str, messages: Sequence[NamingMessage], *, is_new: bool = False
    ) -> "Attachments":
        """Read the uploads that these messages name. Without any, this makes no call.

        `is_new` says that the chat is not stored yet. Raises TooManyRequests if the reading budget is used up: a short request can
        name long documents, whose texts are read and stored.
        """
        named = {references.find_id(message.type, message.content) for message in messages}
        ids = [upload_id for upload_id in named if upload_id and lookup.is_possible(upload_id)]
        if not ids:
            return cls(owner_id, chat_id, {}, set())
        budgets.require(owner_id)
        uploads = {upload.id: upload for upload in Upload.batch_get(ids, consistent_read=True)}
        references.charge_texts(owner_id, uploads.values())
        keys = [] if is_new else [references.key(chat_id, upload_id) for upload_id in uploads]
        shown = {record.sk for record in Record.batch_get(keys, consistent_read=True)} if keys else set()
        return cls(owner_id, chat_id, uploads, shown)

    def __bool__(self) -> bool:
        """Return whether the messages use an upload."""
        return bool(self._used)

    def fill(self, message: Message) -> None:
        """Give a new message what it shows of the upload that it names, to be used by `put_in`. Raises Unprocessable."""
        upload = self._use(message)
        message.upload = references.get_facts(upload)
        if upload.kind == kinds.DOCUMENT:
            message.content = to_document(upload.name, upload.text or "")

    def _use(self, message: Message) -> Upload:
        if message.role != "user":
            raise Unprocessable("image_not_users", "Only messages with the role user can show files.")
        upload_id = references.find_id(message.type, message.content) or ""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.owner_id != self._owner_id or not upload.is_there(clock.now()):
            raise _not_found()
        if upload.status != "ready":
            raise Unprocessable("upload_not_ready", "This upload is not ready. Post its file, and complete it first.")
        if upload.kind != message.type:
            raise Unprocessable(
                "wrong_upload_kind",
                Detail("This upload is no {type}, but {kind}.", type=message.type, kind=upload.kind),
            )
        self._used[upload_id] = upload
        if len(self._used) > MOST:
            raise too_many()
        return upload

    def put_in(self, transaction: Transaction) -> None:
        """Use the uploads in the transaction that stores their messages.

        Its commit raises Unprocessable if an upload is gone. If something else has changed, it is refused with a step of the
        upload: read again, and try again.
        """
        opened = 0
        for upload_id, upload in self._used.items():
            if upload.kind == kinds.IMAGE and upload_id not in self._shown:
                references.add_in(transaction, self._chat_id, upload_id)
                opened += bool(upload.open)
            elif upload.kind == kinds.DOCUMENT and upload.open:
                transaction.update(f"upload {upload_id}", Upload(upload_id), [Upload.open.remove()], None)
                opened += 1
            condition = _condition(upload)
            transaction.check(
                f"upload {upload_id}", Upload(upload_id), condition, functools.partial(_find_error, upload_id)
            )
        if opened:
            references.discount_in(transaction, self._owner_id, opened)


def too_many() -> Unprocessable:
    """Return the error of a request that adds more than MOST uploads to a chat."""
    return Unprocessable("too_many_uploads", Detail("One request can add at most {most} uploads to a chat.", most=MOST))


def to_document(name: str, text: str) -> str:
    """Return the content of a message that shows a document: its name and its text. The model reads it as it is."""
    return f"[{name}]\n\n{text}"


def _condition(upload: Upload) -> Condition:
    there = Upload.uses > 0 if upload.uses > 0 else Upload.expires_at > int(clock.now())
    condition: Condition = Upload.id.exists() & Upload.deleted.does_not_exist() & there
    condition &= lookup.unchanged(Upload.open, upload.open)
    return condition


def _find_error(upload_id: str) -> AideerError | None:
    upload = lookup.find(Upload, upload_id, attributes=["id", "uses", "deleted", "expires_at"])
    return None if upload and upload.is_there(clock.now()) else _not_found()


def _not_found() -> Unprocessable:
    return Unprocessable("upload_not_found", "There is no such upload. It may have expired.")
