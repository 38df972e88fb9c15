"""The processing of a posted file: verify that it is what it was declared to be, and make what messages show of it.

The client asks for it after the post, and gets the result or the reason of a refusal. One request at a time processes an upload.
A file that cannot be used stays refused, with its reason. The posted file is removed in either case.
"""

import contextlib
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import UpdateError
from pynamodb.expressions.update import Action

from aideer.core import aws_errors, clock, texts
from aideer.core.errors import AideerError, Conflict, Detail, Unprocessable
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import Upload, User
from aideer.data.transactions import Refused, Transaction
from aideer.security import budgets
from aideer.uploads import attachments, kinds, redrawing, references, storage, uploads

CLAIM_SECONDS = 60
"""Longer than a request lasts. A request that broke off is no obstacle after that."""


def complete(user: User, upload_id: str) -> Upload:
    """Process the posted file of this user's upload, and return the upload, which is ready then. Repeating it has no effect.

    Raises NotFound, Conflict if there is no file yet or another request processes it, Unprocessable if the file cannot be used, and
    TooManyRequests if the reading budget is used up.
    """
    budgets.require(user.id)
    upload = uploads.get(user, upload_id)
    references.charge_texts(user.id, [upload])
    if upload.status == "pending":
        upload = _process(user, upload)
    if upload.status == "failed":
        raise Unprocessable(upload.error_code, Detail.restore(upload.error_detail))
    return upload


def _process(user: User, upload: Upload) -> Upload:
    file = storage.read_incoming(upload)
    if file is None:
        return _get_processed(
            user, upload, Conflict("upload_missing", "The file is not there yet. Post it with the form first.")
        )
    if not _claim(upload):
        return _get_processed(
            user, upload, Conflict("upload_processing", "This upload is being processed. Ask again in a moment.")
        )
    try:
        found = _read(upload, file)
    except AideerError as error:
        fields = {"status": "failed", "error_code": error.code, "error_detail": texts.to_stored(error.detail)}
        logger.info("upload refused", extra={"upload_id": upload.id, "user_id": user.id, "code": error.code})
    else:
        fields = {"status": "ready", **found}
    if not _finish(upload, fields):  # the owner has deleted it meanwhile
        storage.remove_image(upload)
    with contextlib.suppress(BotoCoreError, ClientError):  # the bucket's lifecycle removes it too
        storage.remove_incoming(upload)
    return uploads.get(user, upload.id)


def _get_processed(user: User, upload: Upload, refusal: Conflict) -> Upload:
    """Return the upload if another request has just processed it, and removed its file with that. Otherwise, raise the refusal."""
    found = uploads.get(user, upload.id)
    if found.status == "pending":
        raise refusal
    return found


def _claim(upload: Upload) -> bool:
    """Keep other requests from processing this upload. Return False if it is not to be processed, or not by this request."""
    now = int(clock.now())
    free = Upload.claimed_until.does_not_exist() | (Upload.claimed_until < now)
    condition = (Upload.status == "pending") & Upload.deleted.does_not_exist() & free
    try:
        Upload(upload.id).update([Upload.claimed_until.set(now + CLAIM_SECONDS)], condition)
    except UpdateError as error:
        if not (aws_errors.is_refusal(error) or aws_errors.is_conflict(error)):
            raise
        return False
    return True


def _read(upload: Upload, file: bytes) -> dict[str, Any]:
    """Return what the upload says about its file, and store its image."""
    if len(file) != upload.size:
        raise Unprocessable("wrong_file_size", Detail("The file was declared to have {size} bytes.", size=upload.size))
    decoder = kinds.TYPES[upload.type].decoder
    return _read_image(upload, file, decoder) if upload.kind == kinds.IMAGE else _read_document(upload, file, decoder)


def _read_image(upload: Upload, file: bytes, decoder: str) -> dict[str, Any]:
    drawn = redrawing.redraw_whole(file, upload.type, decoder)
    storage.write_image(upload, drawn.jpeg)
    return {"width": drawn.width, "height": drawn.height}


def _read_document(upload: Upload, file: bytes, decoder: str) -> dict[str, Any]:
    from aideer.prompts import tokenizer
    from aideer.uploads import document_reader

    text = document_reader.read(file, decoder)
    tokens = tokenizer.count([attachments.to_document(upload.name, text)])
    return {"text": text, "text_bytes": len(text.encode()), "tokens": tokens}


def _finish(upload: Upload, fields: dict[str, Any]) -> bool:
    """Store the result. Return False if the upload is not there any more."""
    attributes = Upload.get_attributes()
    transaction = Transaction()
    actions: list[Action] = [attributes[name].set(value) for name, value in fields.items() if value is not None]
    actions.append(Upload.claimed_until.remove())
    if fields["status"] == "failed":  # it holds nothing any more
        actions.append(Upload.open.remove())
        references.discount_in(transaction, upload.owner_id, 1)
    condition = (Upload.status == "pending") & Upload.deleted.does_not_exist()
    transaction.update("upload", Upload(upload.id), actions, condition)
    try:
        transaction.commit(proof=lambda: _is_stored(upload, fields["status"]))
    except Refused:
        return False
    return True


def _is_stored(upload: Upload, status: str) -> bool:
    found = lookup.find(Upload, upload.id, attributes=["id", "status"])
    return found is not None and found.status == status
