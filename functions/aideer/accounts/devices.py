"""The sessions of a user, one for each sign-in on a device. Each can be ended by itself.

The tokens of a session name its id (the claim sid). The user's item has the ids of all sessions that go on (`sessions`). Each call
reads this item, or has a condition on it. So an ended session is refused at once, by access tokens, refresh tokens and streams, and
no call reads more. A refresh at the same moment returns tokens of a session that is not on the list, so they are worth nothing.

A record beside the user has what a list of devices shows. It is written when the session begins, and at each refresh. So `at`, the
last use, is right to about a day, and no call writes it. The user's list decides, and a record alone means nothing. A record that
is past its ttl belongs to a session whose last refresh token has expired.

A user has at most MOST sessions. A new one ends the one that was unused for the longest time. Tokens of release 0.1 name no
session. They work until they expire. The first refresh gives them one (sessions.py), and `end_others` refuses the rest
(unnamed_ended).
"""

import hashlib
import secrets
from functools import partial
from typing import Any

from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import Condition, size
from pynamodb.expressions.update import Action

from aideer.core import aws_errors, clock
from aideer.core.errors import Busy, Conflict, InvalidToken, NotFound
from aideer.data import batch_write, lookup
from aideer.data.models import Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.sessions import SessionResponse, TokensResponse
from aideer.security import auth

MOST = 50
"""The most sessions of one user."""
CURRENT = "current"
"""Names the caller's own session in a path."""
_KEPT_SECONDS = auth.REFRESH_SECONDS + 86400
"""How long a session's record outlives its last refresh: longer than its refresh token."""


def begin(
    user: User,
    method: auth.Method,
    device: str | None,
    *,
    openid: str | None = None,
    auth_time: int | None = None,
    version: int | None = None,
) -> TokensResponse:
    """Begin a session of the user and return its first tokens.

    `device` is the name of the device. `openid` and `auth_time` are those of auth.issue_pair. If `version` is given, the session
    begins only under this token_version. Raises InvalidToken if the user is gone or has another one, and Busy.
    """
    session_id = secrets.token_hex(8)
    for _ in attempts():
        if user.deleted or version not in (None, user.token_version):
            raise InvalidToken
        transaction = Transaction()
        begin_in(transaction, user, session_id, method, device)
        try:
            transaction.commit(proof=partial(_is_listed, user.id, session_id))
        except Refused:  # the user or the list has changed meanwhile: read again
            user = lookup.reread_user(user)
            continue
        return TokensResponse(**auth.issue_pair(user, method, openid, auth_time, session_id))
    raise Busy


def begin_in(
    transaction: Transaction,
    user: User,
    session_id: str,
    method: auth.Method,
    device: str | None,
    more: Condition | None = None,
) -> None:
    """Begin a session of the user, as it was read, in this transaction. If the list is full, it ends the least used sessions.

    `more` is another condition on the user. The step "user" is refused if it does not hold, if the user has ended all sessions
    meanwhile, or if the list has become full.
    """
    known = set(user.sessions or ())
    good = User.id.exists() & User.deleted.does_not_exist() & (User.token_version == user.token_version)
    if more is not None:
        good &= more
    if len(known) < MOST:
        room = User.sessions.does_not_exist() | (size(User.sessions) < MOST)
        transaction.update("user", User(user.id), [User.sessions.add({session_id})], good & room)
    else:
        kept = _find_most_used(user)
        for ended in known - kept:
            transaction.delete("ended", Record(_pk(user.id), ended))
        transaction.update(
            "user", User(user.id), [User.sessions.set({*kept, session_id})], good & (User.sessions == known)
        )
    now = int(clock.now())
    said = {"device": device, "method": method, "create_time": clock.timestamp(now)}
    record = Record(_pk(user.id), session_id, data=said, at=now, version=user.token_version, ttl=now + _KEPT_SECONDS)
    transaction.put("session", record)


def note_refresh(user_id: str, session_id: str) -> None:
    """Note that a session was refreshed now."""
    now = int(clock.now())
    try:
        Record(_pk(user_id), session_id).update(
            [Record.at.set(now), Record.ttl.set(now + _KEPT_SECONDS)], Record.pk.exists()
        )
    except UpdateError as error:
        if not aws_errors.is_refusal(error):  # a refusal: the session has just ended
            raise


def derive_id(jti: str) -> str:
    """Return the id of the session that a refresh token of release 0.1 gets. All uses of the token give it the same one."""
    return hashlib.sha256(f"session of {jti}".encode()).hexdigest()[:16]


def list_all(user: User) -> list[SessionResponse]:
    """Return the user's sessions, the last used one first. This costs one call."""
    return [
        SessionResponse(
            id=record.sk,
            device=record.data["device"],
            method=record.data["method"],
            create_time=record.data["create_time"],
            last_used_time=clock.timestamp(record.at),
            current=record.sk == user.session_id,
        )
        for record in _find_records(user)
    ]


def end(user: User, session_id: str) -> None:
    """End one session of the caller.

    Raises NotFound if there is none of this id, Conflict if CURRENT is a session without an id, and InvalidToken if the caller's
    own session has ended.
    """
    if session_id == CURRENT:
        session_id = _require_id(user)
    if session_id not in (user.sessions or ()):
        raise _not_found()
    transaction = Transaction()
    _update_in(transaction, user, [User.sessions.delete({session_id})], User.sessions.contains(session_id))
    transaction.delete("session", Record(_pk(user.id), session_id))
    try:
        transaction.commit(proof=lambda: session_id not in (lookup.reread_user(user).sessions or ()))
    except Refused:
        _require_still_open(user)
        raise _not_found() from None


def end_others(user: User) -> None:
    """End all sessions of the caller but the one that calls.

    Raises Conflict if that one has no id, and InvalidToken if it has ended.
    """
    own = _require_id(user)
    transaction = Transaction()
    _update_in(transaction, user, [User.sessions.set({own}), User.unnamed_ended.set(True)])
    for other in sorted(set(user.sessions or ()) - {own}):
        transaction.delete("others", Record(_pk(user.id), other))
    try:
        transaction.commit(proof=lambda: lookup.reread_user(user).sessions == {own})
    except Refused:
        _require_still_open(user)
        raise Busy from None


def remove_all(user_id: str, deadline: float) -> bool:
    """Remove the records of a deleted user's sessions. Return whether all are gone."""
    keys = [
        {"pk": {"S": record.pk}, "sk": {"S": record.sk}} for record in Record.query(_pk(user_id), consistent_read=True)
    ]
    return batch_write.delete(Record, keys, deadline)


def _update_in(transaction: Transaction, user: User, actions: list[Action], more: Condition | None = None) -> None:
    """Change the caller's sessions, if the caller's own one goes on."""
    condition = User.deleted.does_not_exist() & auth.require_session(user.token_version, user.session_id)
    transaction.update("user", User(user.id), actions, condition if more is None else condition & more)


def _require_id(user: User) -> str:
    if user.session_id is None:
        raise Conflict("session_without_id", "This session began before sessions had ids. Refresh your tokens first.")
    return user.session_id


def _require_still_open(user: User) -> None:
    if not auth.is_session_open(lookup.find(User, user.id), user.token_version, user.session_id):
        raise InvalidToken


def _find_records(user: User) -> list[Any]:
    """Return the records of the sessions that go on, the last used one first."""
    keys = [(_pk(user.id), session_id) for session_id in sorted(user.sessions or ())]
    found = Record.batch_get(keys, consistent_read=True) if keys else []
    now = clock.now()
    valid = [one for one in found if one.ttl > now and one.version == user.token_version]
    return sorted(valid, key=lambda one: (one.at, one.sk), reverse=True)


def _find_most_used(user: User) -> set[str]:
    """Return the sessions that stay when one more begins on a full list."""
    return {record.sk for record in _find_records(user)[: MOST - 1]}


def _is_listed(user_id: str, session_id: str) -> bool:
    user = lookup.find(User, user_id)
    return user is not None and session_id in (user.sessions or ())


def _not_found() -> NotFound:
    return NotFound("session_not_found", "You have no such session.")


def _pk(user_id: str) -> str:
    return f"session#{user_id}"
