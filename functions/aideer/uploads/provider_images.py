"""Uploaded images in a prompt, as the provider gets them: an address that is signed at the call, and never stored.

An AWS on this machine has no address that a provider could fetch. There, the image itself is part of the call, as a data: address.
An image that its owner has deleted since is replaced by a text, so that its chat can go on.
"""

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aideer.core import settings
from aideer.data import lookup
from aideer.data.models import Upload
from aideer.uploads import references, storage

DELETED = "[deleted image]"
_THREADS = 8


def resolve(messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the messages with addresses of their uploaded images. Without such images, this makes no call.

    Call it in a thread.
    """
    ids = {upload_id for message in messages for part in _parts(message) if (upload_id := _find_id(part))}
    if not ids:
        return messages
    sources = _find_sources(ids)
    return [
        {**message, "content": [_resolve_part(part, sources) for part in parts]}
        if (parts := _parts(message))
        else message
        for message in messages
    ]


def _parts(message: dict[str, Any]) -> list[dict[str, str]]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _find_id(part: dict[str, str]) -> str | None:
    return references.find_id("image", part.get("image", ""))


def _resolve_part(part: dict[str, str], sources: dict[str, str]) -> dict[str, str]:
    upload_id = _find_id(part)
    if upload_id is None:
        return part
    return {"image": sources[upload_id]} if upload_id in sources else {"text": DELETED}


def _find_sources(ids: set[str]) -> dict[str, str]:
    names = ["id", "owner_id", "name", "deleted"]
    possible = filter(lookup.is_possible, ids)
    reads = Upload.batch_get(possible, consistent_read=True, attributes_to_get=names)
    found = [upload for upload in reads if not upload.deleted]
    if not settings.AWS_ENDPOINT_URL:
        return {upload.id: storage.sign_image_for_provider(upload) for upload in found}
    with ThreadPoolExecutor(_THREADS) as threads:
        images = zip(found, threads.map(storage.read_image, found), strict=True)
        return {upload.id: _to_data(image) for upload, image in images if image is not None}


def _to_data(image: bytes) -> str:
    return f"data:{storage.IMAGE_TYPE};base64,{base64.b64encode(image).decode()}"
