"""Images that come within a request, as data: addresses. Each becomes an upload, as if its user had uploaded it before.

So the image is verified and drawn anew, readers of the chat see it, and it is removed with the chats that use it. If no message is
stored, the upload expires as any other.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from aideer.core import clock
from aideer.core.errors import Detail, Unprocessable, UnsupportedMediaType
from aideer.data.base import new_id
from aideer.data.models import Upload
from aideer.security import rate_limits
from aideer.uploads import kinds, redrawing, references, storage, uploads

MOST_PIXELS = 12_500_000
"""The most pixels of such an image. The largest takes 200 MB to decode. The function that streams has 512 MB."""
PREFIX = "data:"
_DATA = re.compile(r"data:(?P<type>[a-z]+/[a-z0-9.+-]+)(?:;[a-z0-9=._-]+)*;base64,", re.ASCII | re.IGNORECASE)
_HEAD_CHARACTERS = 255
"""The most characters before the base64. The expression's memory grows with them: 6 MB of parameters took 400 MB."""
_NAME = "image"


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image as it came: its name for people, its type and its file."""

    name: str
    type: str
    file: bytes


def parse(address: str, name: str | None) -> InlineImage:
    """Return the image of a data: address (RFC 2397) in base64.

    Raises Unprocessable if it cannot be read, UnsupportedMediaType for another type than an image's, and TooLarge.
    """
    match = _DATA.match(address, 0, _HEAD_CHARACTERS)
    if match is None:
        raise _unreadable()
    try:
        file = base64.b64decode(address[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable() from None
    media_type = match["type"].lower()
    if not file:
        raise _unreadable()
    if kinds.require(media_type, len(file)).kind != kinds.IMAGE:
        raise UnsupportedMediaType(
            "upload_required", Detail("A document is uploaded first (POST /uploads). Then its content is the url.")
        )
    shown = "".join(character for character in name or "" if character.isprintable()).strip()
    return InlineImage(shown or _NAME, media_type, file)


def store(owner_id: str, image: InlineImage) -> str:
    """Store an image as a ready upload, and return the content of a message that shows it.

    Raises Unprocessable if it cannot be used, and TooManyRequests for the user's limits of uploads.
    """
    rate_limits.count("upload", owner_id)
    rate_limits.count("upload_size", owner_id, amount=-(-len(image.file) // 1024))
    drawn = redrawing.redraw_whole(image.file, image.type, kinds.TYPES[image.type].decoder, MOST_PIXELS)
    upload = Upload(
        new_id(),
        owner_id=owner_id,
        kind=kinds.IMAGE,
        type=image.type,
        name=image.name,
        size=len(image.file),
        status="ready",
        open=True,
        width=drawn.width,
        height=drawn.height,
        expires_at=int(clock.now()) + uploads.KEPT_SECONDS,
        create_time=clock.timestamp(),
    )
    uploads.store_ready(upload)  # before its file: the job that it writes removes the file too
    storage.write_image(upload, drawn.jpeg)
    return references.to_content(upload.id)


def _unreadable() -> Unprocessable:
    return Unprocessable("invalid_data_url", "A data: URL has the type of an image, and base64.")
