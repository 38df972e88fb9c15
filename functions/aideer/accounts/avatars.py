"""Avatar images: small images in S3. The user's `avatar` attribute holds the name of the current one.

A name is used once, because it is the image's hash and a new id. So no object is ever overwritten, and a name always stands for
the same image. A user item names only images that are stored. A condition on the user's item decides which of two uploads wins.

A job is stored before the image. A minute later it removes the old and the new image, except the one that the user names by then.
So an upload that breaks off leaves no image behind. A client that has just read the old name can still load the old image.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import Response

from aideer.core import aws, clock, settings
from aideer.core.errors import Busy, NotFound
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.web import etags, origin

REPLACED_SECONDS = 60
"""Longer than a request lasts. A request may still be reading the old image, or be about to name the new one."""
TYPE = "image/jpeg"
ANSWER: dict[str, Any] = {TYPE: {"schema": {"type": "string", "format": "binary"}}}
HEADERS: dict[str, Any] = {
    "ETag": {"description": "The picture's, quoted: for If-None-Match.", "schema": {"type": "string"}},
    "Cache-Control": {
        "description": "With the picture's own `v` it may be kept for a year, else it is to be asked for.",
        "schema": {"type": "string"},
    },
}
"""For `documented(...)`."""

PUBLIC_SECONDS = 7 * 86400
"""How long a cache may keep a picture by its public address. A deleted one is gone from caches after it."""
PUBLIC_HEADERS: dict[str, Any] = {
    "ETag": HEADERS["ETag"],
    "Cache-Control": {"description": "Any cache may keep it for a week.", "schema": {"type": "string"}},
}

_VERSION = 16
"""The number of the hash's characters in a path."""


def get_path(user: User) -> str | None:
    """Return the path of a user's avatar image, or None without one.

    Each image has its own path, so clients may cache it.
    """
    return f"/api/v1/users/{user.id}/avatar?v={user.avatar[:_VERSION]}" if user.avatar else None


def get_url(user: User) -> str | None:
    """Return the public address of a user's avatar image, or None without one.

    It needs no token, and nobody can guess it: it has the image's hash and a random id. So only a reader that was shown the user
    knows it.
    """
    if not user.avatar:
        return None
    return f"{origin.base_url(settings.PUBLIC_BASE_URL)}/api/v1/users/{user.id}/avatars/{user.avatar}"


def get_public_image(user_id: str, name: str, if_none_match: str | None) -> Response[Any]:
    """Return the response with the avatar image of this name. Raises NotFound, and NotModified if the caller already has it.

    The user is not read. An image that was replaced is removed a minute later, and those of a deleted user with the user's data.
    """
    body = _read_image(user_id, name)
    if body is None:
        raise NotFound("avatar_not_found", "There is no such picture.")
    digest = name[:64]
    headers = etags.public_headers(digest, PUBLIC_SECONDS)
    headers["Cache-Control"] = f"{headers['Cache-Control']}, immutable"
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # pages of other origins may show it, also isolated ones
    etags.require_modified(if_none_match, digest, headers)
    return Response(status_code=200, content_type=TYPE, headers=headers, body=body)


def replace(user: User, file: bytes) -> User:
    """Replace the user's avatar image by one made from this file, and return the user as stored.

    Raises the errors of image_processing.make_avatar, TooManyRequests for the user's limit, Unauthorized if the user is gone, and
    Busy.
    """
    from aideer.accounts import image_processing  # only this function needs them
    from aideer.data import jobs
    from aideer.security import rate_limits

    rate_limits.count("avatar", user.id)
    picture = image_processing.make_avatar(file)
    digest = hashlib.sha256(picture).hexdigest()
    for _ in attempts():
        if user.avatar and user.avatar.startswith(digest):
            return user
        name = f"{digest}-{new_id()}"
        jobs.create("avatar", REPLACED_SECONDS, user_id=user.id, old=user.avatar or "", new=name)
        aws.get_client("s3").put_object(
            Bucket=settings.AVATARS_BUCKET, Key=_key(user.id, name), Body=picture, ContentType=TYPE
        )
        try:
            return _set_name(user, name)
        except Refused:  # another upload, or the deletion of the user, was faster
            user = lookup.reread_user(user)
    raise Busy


def get_image(user: User, version: str | None, if_none_match: str | None) -> Response[Any]:
    """Return the response with a user's avatar image. Raises NotModified if the caller already has it.

    A user without an image gets the default one. `version` is the `v` of the request's path. If it names the current image, the
    response may be cached for a year.
    """
    picture = _default() if user.avatar is None else _Picture(user.avatar[:64])
    keep = user.avatar is not None and version == user.avatar[:_VERSION]
    headers = etags.tag_headers(picture.digest)
    if keep:
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    etags.require_modified(if_none_match, picture.digest, headers)
    body = picture.body if user.avatar is None else _read_image(user.id, user.avatar)
    if body is None:
        logger.error("avatar lost", extra={"user_id": user.id})
        headers = {"Cache-Control": "no-store"}
        body = _default().body
    return Response(status_code=200, content_type=TYPE, headers=headers, body=body)


def remove(user_id: str, deadline: float) -> bool:
    """Remove all avatar images of a deleted user. Return False if `deadline` (of time.monotonic) comes first."""
    return aws.remove_objects(settings.AVATARS_BUCKET, f"avatars/{user_id}/", deadline)


def remove_unnamed(user_id: str, names: tuple[str, ...]) -> None:
    """Remove the images with these names, except the user's current one.

    This is safe because a name is used once: none of the removed ones can become current again.
    """
    user = lookup.find(User, user_id)
    current = user.avatar if user else None
    for name in names:
        if name and name != current:
            aws.get_client("s3").delete_object(Bucket=settings.AVATARS_BUCKET, Key=_key(user_id, name))


@dataclass(frozen=True, slots=True)
class _Picture:
    digest: str
    body: bytes | None = None


@functools.cache
def _default() -> _Picture:
    body = Path(__file__).with_name("avatar.jpg").read_bytes()
    return _Picture(hashlib.sha256(body).hexdigest(), body)


def _key(user_id: str, name: str) -> str:
    return f"avatars/{user_id}/{name}.jpg"


def _set_name(user: User, name: str) -> User:
    as_read = User.avatar.does_not_exist() if user.avatar is None else User.avatar == user.avatar
    transaction = Transaction()
    transaction.update(
        "user",
        User(user.id),
        [User.avatar.set(name), User.update_time.set(clock.timestamp())],
        User.id.exists() & User.deleted.does_not_exist() & as_read,
    )
    transaction.commit(proof=lambda: lookup.reread_user(user).avatar == name)
    return lookup.reread_user(user)


def _read_image(user_id: str, name: str) -> bytes | None:
    return aws.read_object(settings.AVATARS_BUCKET, _key(user_id, name))
