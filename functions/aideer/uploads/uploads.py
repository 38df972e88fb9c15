"""Uploads: how they are opened, listed and removed. attachments.py says how messages use them.

An upload is a record, a posted file, and after its processing an image or a text. A user has at most OPEN uploads that no chat has
used yet. The transaction that opens an upload counts it, and writes the job that removes it KEPT_SECONDS later. If a chat uses the
image by then, the job leaves it. It belongs to the chats that use it, and `uses` counts them. The transaction that removes the last
of them writes another such job.

The owner may delete an upload at any time. Then its file is gone at once, and chats show that it is gone. A second removal follows
REMOVED_SECONDS later, because a request may have been about to store the file. The text of a document is part of the message that
shows it, and lives as long as the message.
"""

import contextlib
import time

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.expressions.condition import Condition

from aideer.core import clock, texts
from aideer.core.errors import Busy, Detail, NotFound, TooManyRequests, Unprocessable
from aideer.core.logs import logger
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Record, Upload, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.uploads import (
    FileAddressResponse,
    NewUpload,
    NewUploadResponse,
    PostForm,
    UploadErrorResponse,
    UploadResponse,
)
from aideer.security import rate_limits
from aideer.uploads import kinds, references, storage
from aideer.web import pagination

OPEN = 100
"""The most uploads of a user that no chat has used yet."""
KEPT_SECONDS = 86400
"""How long an upload is kept that no chat uses."""
REMOVED_SECONDS = 60
"""Longer than a request lasts."""
_FULL_SECONDS = 60
_LISTED = [name for name in Upload.get_attributes() if name != "text"]


def create(user: User, new: NewUpload, request: IdempotentRequest) -> NewUploadResponse:
    """Open an upload, and return it with the form that posts its file.

    Raises UnsupportedMediaType, TooLarge, and TooManyRequests for the user's limits.
    """
    if answer := request.find_answer():
        return _to_new_response(get(user, answer["id"]))
    kind = kinds.require(new.type, new.size).kind
    rate_limits.count("upload", user.id)
    rate_limits.count("upload_size", user.id, amount=-(-new.size // 1024))
    upload = Upload(
        new_id(),
        owner_id=user.id,
        kind=kind,
        type=new.type,
        name=new.name,
        size=new.size,
        status="pending",
        open=True,
        expires_at=int(clock.now()) + KEPT_SECONDS,
        create_time=clock.timestamp(),
    )
    try:
        _store(upload, request)
    except Refused:
        if answer := request.find_answer():
            return _to_new_response(get(user, answer["id"]))
        raise _too_many_open() from None
    return _to_new_response(upload)


def store_ready(upload: Upload) -> None:
    """Store an upload whose image is verified. The caller writes the image afterwards.

    Raises TooManyRequests if the user has too many open uploads.
    """
    try:
        _store(upload)
    except Refused:
        raise _too_many_open() from None


def get(user: User, upload_id: str) -> Upload:
    """Return this user's upload. Raises NotFound, also for another user's upload and for one that has expired."""
    upload = lookup.find(Upload, upload_id, attributes=_LISTED)
    if upload is None or upload.owner_id != user.id or not upload.is_there(clock.now()):
        raise not_found()
    return upload


def show(user: User, upload_id: str) -> UploadResponse:
    """Return this user's upload as its owner sees it. Raises NotFound, and TooManyRequests if the reading budget is used up."""
    upload = get(user, upload_id)
    references.charge_texts(user.id, [upload])
    return to_response(upload)


def list_page(user: User, *, limit: int, cursor: str | None, offset: int) -> tuple[list[Upload], str | None]:
    """Return a page of the user's uploads, the newest first, and the cursor of the next page.

    The page may be shorter than `limit` although more follow, because the index lags behind deletions. Raises Unprocessable, and
    TooManyRequests if the reading budget is used up.
    """
    start = None
    if cursor:
        [last] = pagination.decode("uploads", cursor, (str,))
        if not lookup.is_possible(last):
            raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
        start = {"owner_id": {"S": user.id}, "id": {"S": last}}
    found = Upload.by_owner.query(user.id, scan_index_forward=False, limit=offset + limit + 1, last_evaluated_key=start)
    keys = [item.id for item in found][offset:]
    page = keys[:limit]
    reads = Upload.batch_get(page, consistent_read=True, attributes_to_get=_LISTED) if page else ()
    now = clock.now()
    by_id = {upload.id: upload for upload in reads if upload.owner_id == user.id and upload.is_there(now)}
    uploads = [by_id[upload_id] for upload_id in page if upload_id in by_id]
    references.charge_texts(user.id, uploads)
    return uploads, pagination.encode("uploads", [page[-1]]) if len(keys) > limit else None


def delete(user: User, upload_id: str) -> None:
    """Delete this user's upload, also from the chats that use it. Raises NotFound."""
    for _ in attempts():
        upload = get(user, upload_id)
        transaction = Transaction()
        jobs.enqueue_in(transaction, "upload", REMOVED_SECONDS, upload_id=upload.id)
        if not _mark_deleted(transaction, upload, Upload.id.exists()):
            continue
        with contextlib.suppress(BotoCoreError, ClientError):  # the job removes it too
            _remove_files(upload)
        return
    raise Busy


def remove_unused(upload_id: str) -> bool:
    """Remove an upload that its owner has deleted, or that no chat uses. This is the worker of a job (jobs.py)."""
    upload = lookup.find(Upload, upload_id)
    if upload is None or (not upload.deleted and upload.uses > 0):
        return True
    if not upload.deleted:
        unused: Condition = (Upload.uses == 0) & (Upload.expires_at <= int(clock.now()))
        if not _mark_deleted(Transaction(), upload, unused):
            return False  # a chat has just used it, or it has not expired yet
    _remove_files(upload)
    Upload(upload.id).delete()
    return True


def remove_all(user_id: str, deadline: float) -> bool:
    """Remove all uploads of a deleted user. Return False if `deadline` (of time.monotonic) comes first."""
    for item in Upload.by_owner.query(user_id):
        if time.monotonic() > deadline:
            return False
        Upload(item.id).delete()
    if not storage.remove_all(user_id, deadline):
        return False
    Record(*references.count_key(user_id)).delete()
    return True


def to_response(upload: Upload) -> UploadResponse:
    """Return an upload as its owner sees it, with a new address of its image."""
    address = storage.sign_image(upload) if upload.kind == kinds.IMAGE and upload.status == "ready" else None
    error = None
    if upload.error_code:
        reason = texts.translate(Detail.restore(upload.error_detail))
        error = UploadErrorResponse(code=upload.error_code, message=reason)
    return UploadResponse(
        **_facts(upload),
        kind=upload.kind,
        content=references.to_content(upload.id),
        status=upload.status,
        create_time=upload.create_time,
        expires_at=None if upload.uses > 0 else clock.timestamp(upload.expires_at),
        url=address and address.url,
        url_expires_at=address and clock.timestamp(address.expires_at),
        error=error,
    )


def to_address(upload: Upload) -> FileAddressResponse:
    """Return the image of an upload as readers of a chat see it, with a new address of it."""
    address = storage.sign_image(upload)
    return FileAddressResponse(**_facts(upload), url=address.url, url_expires_at=clock.timestamp(address.expires_at))


def not_found() -> NotFound:
    """Return the error for an upload that does not exist, has expired, or is another user's."""
    return NotFound("upload_not_found", "There is no such upload. It may have expired.")


def _store(upload: Upload, request: IdempotentRequest | None = None) -> None:
    """Store an open upload, count it, and write the job that removes it. Raises Refused."""
    transaction = Transaction()
    transaction.put("upload", upload, Upload.id.does_not_exist())
    room = Record.uses.does_not_exist() | (Record.uses < OPEN)
    transaction.update("open", Record(*references.count_key(upload.owner_id)), [Record.uses.add(1)], room)
    jobs.enqueue_in(transaction, "upload", KEPT_SECONDS + REMOVED_SECONDS, upload_id=upload.id)
    if request:
        request.store_in(transaction, {"id": upload.id})
    transaction.commit(proof=lambda: lookup.find(Upload, upload.id, attributes=["id"]) is not None)


def _too_many_open() -> TooManyRequests:
    return TooManyRequests(
        "too_many_open_uploads",
        Detail("You may have {most} uploads that no chat uses. Delete some, or use them.", most=OPEN),
        retry_after=_FULL_SECONDS,
    )


def _to_new_response(upload: Upload) -> NewUploadResponse:
    form = storage.sign_form(upload)
    post = PostForm(url=form.url, fields=form.fields, expires_at=clock.timestamp(form.expires_at))
    return NewUploadResponse(**dict(to_response(upload)), post=post)


def _facts(upload: Upload) -> dict[str, object]:
    return {name: getattr(upload, name) for name in references.FACTS}


def _mark_deleted(transaction: Transaction, upload: Upload, condition: Condition) -> bool:
    """Mark an upload as deleted with the rest of a transaction. Return False if it has changed, or `condition` does not hold."""
    condition &= Upload.deleted.does_not_exist() & lookup.unchanged(Upload.open, upload.open)
    transaction.update("upload", Upload(upload.id), [Upload.deleted.set(True), Upload.open.remove()], condition)
    if upload.open:
        references.discount_in(transaction, upload.owner_id, 1)
    try:
        transaction.commit(proof=lambda: _is_deleted(upload.id))
    except Refused:
        return False
    return True


def _is_deleted(upload_id: str) -> bool:
    upload = lookup.find(Upload, upload_id, attributes=["id", "deleted"])
    return upload is None or upload.deleted is True


def _remove_files(upload: Upload) -> None:
    storage.remove_incoming(upload)
    if upload.kind == kinds.IMAGE:
        storage.remove_image(upload)
    logger.info("upload removed", extra={"upload_id": upload.id, "user_id": upload.owner_id})
