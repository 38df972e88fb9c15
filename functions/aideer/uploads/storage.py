"""The bucket of uploads.

A client posts a file to `incoming/<user>/<upload>`. Only calls of its owner read it there, and the bucket's lifecycle
removes it after a day. `images/<user>/<upload>` has the image that was made of it. This image is removed with its upload's record.

Addresses are signed when they are asked for, and never stored. They say nothing about the permissions of their bearers, so they are
short-lived.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from aideer.core import aws, clock, settings
from aideer.data.models import Upload

POST_SECONDS = 900
"""How long a client may begin to post the file."""
GET_SECONDS = 900
"""How long an address of an image can be opened."""
IMAGE_TYPE = "image/jpeg"
_PLAIN = re.compile(r"[^\w.-]+", re.ASCII)


class Form(NamedTuple):
    """A form to post a file with, and when it ceases to be accepted, in seconds since the epoch."""

    url: str
    fields: dict[str, str]
    expires_at: float


class Address(NamedTuple):
    """A signed address, and when it ceases to work, in seconds since the epoch."""

    url: str
    expires_at: float


def sign_form(upload: Upload) -> Form:
    """Return the form that lets a browser post this file: this key, this type and this size alone."""
    key, pinned = _incoming_key(upload), {"Content-Type": upload.type}
    until = clock.now() + POST_SECONDS
    form = aws.get_client("s3").generate_presigned_post(
        settings.UPLOADS_BUCKET,
        key,
        Fields=pinned,
        Conditions=[pinned, ["content-length-range", int(upload.size), int(upload.size)]],
        ExpiresIn=POST_SECONDS,
    )
    return Form(_reach(form["url"]), form["fields"], until)


def sign_image(upload: Upload) -> Address:
    """Return an address of the image of a ready upload, for browsers."""
    address = _sign_image(upload)
    return Address(_reach(address.url), address.expires_at)


def sign_image_for_provider(upload: Upload) -> str:
    """Return an address from which the provider fetches the image."""
    return _sign_image(upload).url


def read_incoming(upload: Upload) -> bytes | None:
    """Return the posted file, or None if there is none. At most `size` bytes and one more are read."""
    return aws.read_object(settings.UPLOADS_BUCKET, _incoming_key(upload), int(upload.size) + 1)


def read_image(upload: Upload) -> bytes | None:
    """Return the image of an upload, or None if there is none."""
    return aws.read_object(settings.UPLOADS_BUCKET, _image_key(upload))


def write_image(upload: Upload, jpeg: bytes) -> None:
    """Store the image that was made of an upload."""
    aws.get_client("s3").put_object(
        Bucket=settings.UPLOADS_BUCKET,
        Key=_image_key(upload),
        Body=jpeg,
        ContentType=IMAGE_TYPE,
        CacheControl=f"private, max-age={GET_SECONDS}",
    )


def remove_incoming(upload: Upload) -> None:
    """Remove the posted file."""
    _remove(_incoming_key(upload))


def remove_image(upload: Upload) -> None:
    """Remove the image of an upload."""
    _remove(_image_key(upload))


def remove_all(user_id: str, deadline: float) -> bool:
    """Remove all files of a deleted user, also those that no record names.

    Return False if `deadline` (of time.monotonic) comes first.
    """
    prefixes = (f"{folder}/{user_id}/" for folder in ("incoming", "images"))
    return all(aws.remove_objects(settings.UPLOADS_BUCKET, prefix, deadline) for prefix in prefixes)


def _sign_image(upload: Upload) -> Address:
    params = {
        "Bucket": settings.UPLOADS_BUCKET,
        "Key": _image_key(upload),
        "ResponseContentDisposition": f'inline; filename="{_ascii_name(upload.name)}.jpg"',
    }
    until = clock.now() + GET_SECONDS
    url: str = aws.get_client("s3").generate_presigned_url("get_object", Params=params, ExpiresIn=GET_SECONDS)
    return Address(url, until)


def _ascii_name(name: str) -> str:
    return _PLAIN.sub("_", name.rpartition(".")[0] or name)[:100] or "image"


def _reach(url: str) -> str:
    """Return a signed address as browsers reach it. On a local stack, that is the port of the API."""
    if not settings.UPLOADS_ORIGIN:
        return url
    parts = urlsplit(url)
    return settings.UPLOADS_ORIGIN + quote(parts.path, safe="/%") + (f"?{parts.query}" if parts.query else "")


def _incoming_key(upload: Upload) -> str:
    return f"incoming/{upload.owner_id}/{upload.id}"


def _image_key(upload: Upload) -> str:
    return f"images/{upload.owner_id}/{upload.id}"


def _remove(key: str) -> None:
    aws.get_client("s3").delete_object(Bucket=settings.UPLOADS_BUCKET, Key=key)
