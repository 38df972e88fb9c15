"""Passwords of users. Users change their own with the old one, and an administrator can set one.

The identity's hash and the user's token_version change in one transaction. So a new password ends all sessions, the caller's own
too.
"""

from functools import partial

from pynamodb.expressions.condition import Condition

from aideer.accounts import freshness, users
from aideer.core import clock
from aideer.core.errors import BadRequest, Busy, InvalidToken
from aideer.data import lookup
from aideer.data.models import Identity, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.users import NewPassword, PasswordChange
from aideer.security import audit_trail, auth, password_hashing, rate_limits


def change_own(user: User, wanted: PasswordChange, auth_time: int | None = None) -> None:
    """Change the user's own password, or set a first one. A first one needs a fresh sign-in instead of an old password.

    `auth_time` is the time of the sign-in, in seconds since the epoch. Raises Forbidden if a fresh sign-in is missing, and
    BadRequest if the old password is wrong or the user has no username. Raises TooManyRequests after too many wrong passwords,
    Unprocessable if the new password is common, and InvalidToken if the session has ended meanwhile.
    """
    rate_limits.count("hash", user.id)
    session = auth.require_session(user.token_version, user.session_id)
    _replace(user.id, wanted, old=wanted, session=session, auth_time=auth_time)


def set_for_user(admin: User, user_id: str, wanted: NewPassword) -> None:
    """Set a user's password as an administrator.

    Raises NotFound, BadRequest if the user has no username, and Unprocessable if the password is common.
    """
    _replace(user_id, wanted, admin=admin)


def _replace(
    user_id: str,
    wanted: NewPassword | PasswordChange,
    *,
    old: PasswordChange | None = None,
    session: Condition | None = None,
    auth_time: int | None = None,
    admin: User | None = None,
) -> None:
    password_hashing.require_good(wanted.new_password)
    password_hash = None
    for _ in attempts():
        user = lookup.get_user(user_id)
        if user.username is None:
            raise BadRequest("no_username", "This user has no username. Choose one first.")
        identity = lookup.find(Identity, users.password_key(user.username))
        if identity is None:  # the user has just got another name
            continue
        if old:
            _require_old(user, identity, old.old_password, auth_time)
        password_hash = password_hash or password_hashing.hash_password(wanted.new_password)
        transaction = _replacement(user, identity, password_hash, session)
        if admin:
            audit_trail.record_in(transaction, admin, "user.password", user.id)
        try:
            transaction.commit(proof=partial(_is_stored, identity.key, password_hash))
        except Refused as refused:
            if session is not None and "user" in refused.steps:
                raise InvalidToken from None
            continue  # the name or the password has changed since: read again
        return
    raise Busy


def _replacement(user: User, identity: Identity, password_hash: str, session: Condition | None) -> Transaction:
    transaction = Transaction()
    transaction.update(
        "identity",
        Identity(identity.key),
        [Identity.password_hash.set(password_hash)],
        (Identity.user_id == user.id) & lookup.unchanged(Identity.password_hash, identity.password_hash),
    )
    good = User.id.exists() & User.deleted.does_not_exist()
    if session is not None:
        good &= session
    ended = [*auth.end_sessions(), User.update_time.set(clock.timestamp())]
    transaction.update("user", User(user.id), ended, good)
    return transaction


def _require_old(user: User, identity: Identity, password: str | None, auth_time: int | None) -> None:
    if identity.password_hash is None:
        freshness.require(user, auth_time)
    with rate_limits.count_attempt("password", user.id):  # only this check: another refusal is no guess
        if not _is_old(identity, password):
            raise BadRequest("wrong_password", "The old password is wrong.")


def _is_old(identity: Identity, password: str | None) -> bool:
    if identity.password_hash is None:  # a WeChat user that has a name but no password
        return password is None
    return password_hashing.is_match(identity.password_hash, password or "")


def _is_stored(key: str, password_hash: str) -> bool:
    identity = lookup.find(Identity, key)
    return identity is not None and bool(identity.password_hash == password_hash)
