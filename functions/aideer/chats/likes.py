"""Likes: the presets and chats that a user likes. Each like is a record.

A preset's like_count counts the likes of it, and a user's like_count counts the likes of that user. The transaction that writes or
removes the record also changes the counts, so they always agree with it. The limit is a condition on the user's count.

A liked preset or chat may become private or be deleted. The like then stays until the user takes it back, for which the user needs
no read access.
"""

import contextlib
import time
from functools import partial
from typing import Literal

from pynamodb.expressions.condition import Condition

from aideer.chats import chat_access, presets
from aideer.core import clock
from aideer.core.errors import BadRequest, Busy, Conflict, Detail, InvalidToken, NotFound
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, Preset, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.users import LikesResponse
from aideer.security import audit_trail, auth, budgets

Kind = Literal["preset", "chat"]

MOST = 1_000
"""The most likes of one user, so that one response can list all of them."""


def like(user: User, kind: Kind, id: str) -> None:
    """Add a user's like of a preset or chat that the user may read.

    Raises NotFound, Forbidden (another user's private one), BadRequest if the user likes it already, Conflict if the user has too
    many likes, TooManyRequests if the writing budget is used up, InvalidToken if the user was deleted meanwhile, and Busy.
    """
    budgets.charge_writing(user.id, 0)
    _require_count(user)
    for _ in attempts():
        seen = _get_readable(user, kind, id)
        record = _record(user.id, kind, id)
        record.data, record.at = {"id": new_id()}, clock.now()
        transaction = Transaction()
        transaction.put("like", record, Record.pk.does_not_exist())
        theirs = _is_there() & (User.like_count < MOST)
        if seen.visibility == "private" and audit_trail.must_record(user, seen.owner_id):
            action: audit_trail.Action = "preset.like" if kind == "preset" else "chat.like"
            audit_trail.record_in(transaction, user, action, seen.owner_id, id)
        transaction.update("user", User(user.id), [User.like_count.add(1)], theirs)
        if kind == "preset":
            condition = Preset.id.exists()
            if not auth.is_admin(user):
                condition &= (Preset.visibility != "private") | (Preset.owner_id == user.id)
            transaction.update("preset", Preset(id, Preset.HEAD), [Preset.like_count.add(1)], condition)
        try:
            transaction.commit(proof=partial(_is_stored, record))
        except Refused as refused:
            if "like" in refused.steps:
                raise BadRequest("already_liked", "You like this already.") from None
            if "user" in refused.steps and _current_count(user) >= MOST:
                raise Conflict("too_many_likes", Detail("A user can have at most {most} likes.", most=MOST)) from None
            continue  # the preset has become private or is gone, or a like was taken back
        return
    raise Busy


def unlike(user: User, kind: Kind, id: str) -> None:
    """Take a like back.

    Raises InvalidToken if the user was deleted meanwhile. If there is no like, raises BadRequest, or NotFound or Forbidden for a
    preset or chat that the user may not read. Raises TooManyRequests if the writing budget is used up.
    """
    budgets.charge_writing(user.id, 0)
    record = _record(user.id, kind, id)
    if _find(record) is None or not _take_back(record, user):
        _get_readable(user, kind, id)
        raise BadRequest("not_liked", "You do not like this.")


def list_all(user: User) -> LikesResponse:
    """Return the likes of a user, newest first."""
    records = sorted(Record.query(_pk(user.id), consistent_read=True), key=lambda record: record.at, reverse=True)
    liked = [record.sk.split("#", 1) for record in records]
    return LikesResponse(
        preset_ids=[id for kind, id in liked if kind == "preset"],
        chat_ids=[id for kind, id in liked if kind == "chat"],
    )


def has_any(user_id: str) -> bool:
    """Return whether a user likes anything."""
    return next(iter(Record.query(_pk(user_id), consistent_read=True, limit=1)), None) is not None


def remove_all(user_id: str, deadline: float) -> bool:
    """Take back all likes of a deleted user.

    Return False if `deadline` (of time.monotonic) came first, so that some likes are left.
    """
    for record in Record.query(_pk(user_id), consistent_read=True):
        if time.monotonic() > deadline:
            return False
        _take_back(record)
    return True


def _take_back(record: Record, user: User | None = None) -> bool:
    """Remove a like and subtract it from the counts. Return whether the like was there.

    Without `user`, no user's count changes: a deleted user has none.
    """
    kind, id = record.sk.split("#", 1)
    counted = kind == "preset"
    if user:
        _require_count(user)
    while True:
        transaction = Transaction()
        transaction.delete("like", Record(record.pk, record.sk), Record.pk.exists())
        if user:
            transaction.update("user", User(user.id), [User.like_count.add(-1)], _is_there() & (User.like_count > 0))
        if counted:
            transaction.update(
                "preset",
                Preset(id, Preset.HEAD),
                [Preset.like_count.add(-1)],
                Preset.id.exists() & (Preset.like_count > 0),
            )
        try:
            transaction.commit(proof=lambda: _find(record) is None)
        except Refused as refused:
            if "like" in refused.steps:
                return False
            if "preset" in refused.steps:
                counted = False  # the preset is gone, and its count with it
            if user and "user" in refused.steps and _current_count(user) == 0:
                user = None  # a function of release 0.1 wrote this like without counting it
            continue
        return True


def _get_readable(user: User, kind: Kind, id: str) -> Preset | Chat:
    return presets.get_readable(user, id) if kind == "preset" else chat_access.get_readable(user, id)


def _require_count(user: User) -> None:
    """Store the count of likes of a user that release 0.1 created.

    Every change of likes needs the count. So if the count does not exist at the write, no like has changed since they were read.
    """
    if user.like_count is not None:
        return
    stored = int(Record.count(_pk(user.id), consistent_read=True))
    # A transaction of one step: DynamoDB would refuse a plain update while another transaction moves the user's credits.
    transaction = Transaction()
    transaction.update(
        "user", User(user.id), [User.like_count.set(stored)], _is_there() & User.like_count.does_not_exist()
    )
    with contextlib.suppress(Refused):  # another request did it, or the user is gone
        transaction.commit()


def _current_count(user: User) -> int:
    try:
        return int(lookup.get_user(user.id).like_count or 0)
    except NotFound:
        raise InvalidToken from None


def _is_there() -> Condition:
    condition: Condition = User.id.exists() & User.deleted.does_not_exist()
    return condition


def _find(record: Record) -> Record | None:
    return lookup.find(Record, record.pk, record.sk)


def _is_stored(record: Record) -> bool:
    stored = _find(record)
    return stored is not None and bool(stored.data == record.data)


def _record(user_id: str, kind: Kind, id: str) -> Record:
    return Record(_pk(user_id), f"{kind}#{id}")


def _pk(user_id: str) -> str:
    return f"likes#{user_id}"
