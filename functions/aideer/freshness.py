"""Fresh sign-ins: what an access token alone may not do, because it lives for a day and can be stolen.

    freshness.require(user, auth_time, body.current_password)  # raises Forbidden

Changes of how a user signs in, and the deletion of an account, need a sign-in within FRESH_SECONDS, or the caller's password beside
the token. The claim auth_time says when the sign-in was; refreshing keeps it, and a token without it counts as old. A user without
a password signs in anew: a mini program sends another code to the sign-in, a website goes by WeChat's page once more. An
administrator who acts on somebody else confirms with their own password.

The refusal is 403, not 401: a client that is told 401 refreshes its tokens and tries again, which would change nothing.
"""

from aideer import clock, passwords, throttling, users
from aideer.contract.users import UserChange
from aideer.errors import Forbidden
from aideer.models import Identity, User

FRESH_SECONDS = 600


def require(user: User, auth_time: int | None, password: str | None = None) -> None:
    """Require that this caller signed in within FRESH_SECONDS, or that this is their password.

    Raises Forbidden, and TooManyRequests after too many wrong passwords.
    """
    if auth_time is not None and clock.now() <= auth_time + FRESH_SECONDS:
        return
    if password is None:
        raise Forbidden("fresh_sign_in_required", "Sign in again, or send your current password.")
    with throttling.attempt("password", user.id):
        if not passwords.matches(_password_hash(user), password):
            raise Forbidden("fresh_sign_in_required", "The current password is wrong.")


def require_for_change(caller: User, auth_time: int | None, user_id: str, wanted: UserChange) -> None:
    """Require it for a change of a username or of a permission, but not of a nickname. Raises what `require` does."""
    renames = wanted.username is not None and (user_id != caller.id or wanted.username != caller.username)
    if renames or wanted.permission is not None:
        require(caller, auth_time, wanted.current_password)


def _password_hash(user: User) -> str | None:
    if user.username is None:
        return None
    try:
        identity = Identity.get(users.password_key(user.username), consistent_read=True)
    except Identity.DoesNotExist:
        return None
    return identity.password_hash if identity.user_id == user.id else None
