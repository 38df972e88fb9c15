"""Avatars: small pictures in S3, each under a name that its user's `avatar` has.

What always holds: a name is used once (it is the picture's hash and a new id), so nothing is ever written over, and what a name
stands for never changes. A user names only what is stored. Which of two uploads wins is a condition of the user's item. Before
a picture is stored, a job is: a minute later it removes the old and the new one, except the one that the user names then. So
whatever breaks off leaves nothing behind, and who has just read the old name can still read the picture.
"""

import functools
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from botocore.exceptions import ClientError

from aideer import aws, clock, credits, etags, settings
from aideer.errors import Busy
from aideer.models import User, new_id
from aideer.transactions import PATIENCE_SECONDS, Refused, Transaction

REPLACED_SECONDS = 60
"""Longer than a request, which may still be reading the old picture or be about to name the new one."""
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

_VERSION = 16
"""Characters of the hash that a path has."""
_GONE = {"NoSuchKey", "AccessDenied"}  # the latter is S3's word for it to who may not list

logger = Logger(service="aideer")


def path(user: User) -> str | None:
    """Where a user's picture is, where there is one: another picture has another path, so it may be kept."""
    return f"/api/v1/users/{user.id}/avatar?v={user.avatar[:_VERSION]}" if user.avatar else None


def replace(user: User, file: bytes) -> User:
    """Make this file's picture the user's, and return the user as stored.

    Raises what pictures.square does, Unauthorized where the user is gone, and Busy.
    """
    from aideer import jobs, pictures  # which only this one function needs

    picture = pictures.square(file)
    digest = hashlib.sha256(picture).hexdigest()
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if user.avatar and user.avatar.startswith(digest):
            return user
        name = f"{digest}-{new_id()}"
        jobs.create("avatar", REPLACED_SECONDS, user_id=user.id, old=user.avatar or "", new=name)
        aws.client("s3").put_object(
            Bucket=settings.AVATARS_BUCKET, Key=_key(user.id, name), Body=picture, ContentType=TYPE
        )
        try:
            return _named(user, name)
        except Refused:  # another picture, or the end of the user, was faster
            user = credits.reread(user)
    raise Busy


def shown(user: User, version: str | None, if_none_match: str | None) -> Response[Any]:
    """The answer that shows a user's picture, or that the caller has it."""
    picture = _default() if user.avatar is None else _Picture(user.avatar[:64])
    keep = user.avatar is not None and version == user.avatar[:_VERSION]
    headers = etags.headers(picture.digest)
    if keep:
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if if_none_match is not None and etags.names(if_none_match, picture.digest):
        return Response(status_code=304, headers=headers, body="")
    body = picture.body if user.avatar is None else _stored(user.id, user.avatar)
    if body is None:
        logger.error("avatar lost", extra={"user_id": user.id})
        headers = {"Cache-Control": "no-store"}
        body = _default().body
    return Response(status_code=200, content_type=TYPE, headers=headers, body=body)


def remove(user_id: str) -> None:
    """Remove all pictures of a user who is gone."""
    s3 = aws.client("s3")
    while found := s3.list_objects_v2(Bucket=settings.AVATARS_BUCKET, Prefix=f"avatars/{user_id}/").get("Contents"):
        for item in found:
            s3.delete_object(Bucket=settings.AVATARS_BUCKET, Key=item["Key"])


def remove_unnamed(user_id: str, names: tuple[str, ...]) -> None:
    """Remove those of these pictures that are not the user's: none of them can become it again."""
    try:
        current = User.get(user_id, consistent_read=True).avatar
    except User.DoesNotExist:
        current = None
    for name in names:
        if name and name != current:
            aws.client("s3").delete_object(Bucket=settings.AVATARS_BUCKET, Key=_key(user_id, name))


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


def _named(user: User, name: str) -> User:
    as_read = User.avatar.does_not_exist() if user.avatar is None else User.avatar == user.avatar
    transaction = Transaction()
    transaction.update(
        "user",
        User(user.id),
        [User.avatar.set(name), User.update_time.set(clock.timestamp())],
        User.id.exists() & User.deleted.does_not_exist() & as_read,
    )
    transaction.commit(proof=lambda: credits.reread(user).avatar == name)
    return credits.reread(user)


def _stored(user_id: str, name: str) -> bytes | None:
    try:
        answer = aws.client("s3").get_object(Bucket=settings.AVATARS_BUCKET, Key=_key(user_id, name))
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return None
        raise
    body: bytes = answer["Body"].read()
    return body
