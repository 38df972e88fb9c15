"""Fresh sign-ins: a second check for calls that an access token alone may not make, because it lives a day and can be stolen.

    freshness.require(user, auth_time, body.current_password)  # raises Forbidden

Three things need a sign-in within FRESH_SECONDS or, beside the token, the caller's password: to change how a user signs in, to
change a permission, and to delete an account. The claim auth_time has the time of the sign-in. A refresh keeps it, and a token
without it counts as old.

A user without a password signs in again: a mini program sends another code, and a website goes through WeChat's page once more. An
administrator that acts on another user confirms with the administrator's own password.

The error is 403, not 401. After a 401, a client would refresh its tokens and retry, which would change nothing.
"""

from aideer.accounts import users
from aideer.core import clock
from aideer.core.errors import Forbidden
from aideer.data import lookup
from aideer.data.models import Identity, User
from aideer.schemas.users import UserChange
from aideer.security import password_hashing, rate_limits

FRESH_SECONDS = 600


def require(user: User, auth_time: int | None, password: str | None = None) -> None:
    """Require that this caller signed in within FRESH_SECONDS, or that `password` is their password.

    `auth_time` is in seconds since the epoch. Raises Forbidden, and TooManyRequests after too many wrong passwords.
    """
    if auth_time is not None and clock.now() <= auth_time + FRESH_SECONDS:
        return
    if password is None:
        raise Forbidden("fresh_sign_in_required", "Sign in again, or send your current password.")
    rate_limits.count("hash", user.id)
    with rate_limits.count_attempt("password", user.id):
        if not password_hashing.is_match(_password_hash(user), password):
            raise Forbidden("fresh_sign_in_required", "The current password is wrong.")


def require_for_change(caller: User, auth_time: int | None, user_id: str, wanted: UserChange) -> None:
    """Require a fresh sign-in to change a username or a permission, but not to change a nickname.

    Raises the errors of `require`.
    """
    renames = wanted.username is not None and (user_id != caller.id or wanted.username != caller.username)
    if renames or wanted.permission is not None:
        require(caller, auth_time, wanted.current_password)


def _password_hash(user: User) -> str | None:
    if user.username is None:
        return None
    identity = lookup.find(Identity, users.password_key(user.username))
    return identity.password_hash if identity and identity.user_id == user.id else None
