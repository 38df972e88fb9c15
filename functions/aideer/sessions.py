"""Sessions: signing in by password, going on, and signing out.

A refresh token is good for one use, and for the minute after it, because an answer can be lost and a phone can ask twice. A use
later than that means that two people hold it, and ends all of the user's sessions (RFC 9700, section 4.14.2: rotation).
"""

import contextlib
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import PutError

from aideer import auth, clock, dynamodb, passwords
from aideer.contract.sessions import Tokens
from aideer.errors import BadRequest, Unauthorized
from aideer.models import Identity, Record, User
from aideer.transactions import Refused, Transaction
from aideer.users import password_key

GRACE_SECONDS = 60
_LONGEST_NAME = 50


def sign_in(username: str, password: str) -> Tokens:
    """Tokens for whoever has this name and password. Raises Unauthorized, at equal length for a name that nobody has."""
    identity = _identity(username)
    if not passwords.matches(identity.password_hash if identity else None, password) or identity is None:
        raise _wrong()
    try:
        user = User.get(identity.user_id, consistent_read=True)
        # Again, now that the token_version is known: a password changed in between must not get tokens of the new version.
        current = Identity.get(identity.key, consistent_read=True)
    except (User.DoesNotExist, Identity.DoesNotExist):
        raise _wrong() from None
    if user.deleted or (current.user_id, current.password_hash) != (user.id, identity.password_hash):
        raise _wrong()
    return Tokens(**auth.token_pair(user, "password"))


def _refresh_claims(request: Request) -> dict[str, Any]:
    claims = auth.verify(auth.bearer(request.resolved_event.headers.get("authorization")))
    if claims["typ"] != "refresh" or claims["amr"] != "password":
        raise BadRequest("wrong_token_type", "This takes the refresh token of a password session.")
    return claims


RefreshClaims = Annotated[dict[str, Any], Depends(_refresh_claims)]
"""Dependency: what a password session's refresh token says."""


def refresh(claims: dict[str, Any]) -> Tokens:
    """A new pair for a refresh token. Raises Unauthorized where it was used up or revoked."""
    user = auth.holder(claims)
    now = int(clock.now())
    use = Record(f"refresh#{user.id}", claims["jti"], at=now, ttl=claims["exp"] + 3600)
    try:
        use.save(condition=Record.pk.does_not_exist())
    except PutError as error:
        if not dynamodb.refused(error):
            raise
        use.refresh(consistent_read=True)
        if use.at is not None and now > use.at + GRACE_SECONDS:
            sign_out(user)
            raise Unauthorized(
                "token_reused", "This refresh token was used before. All sessions have been ended."
            ) from None
    return Tokens(**auth.token_pair(user, claims["amr"]))


def sign_out(user: User) -> None:
    """End all of the user's sessions that this one is among."""
    transaction = Transaction()  # of one step: a plain update would be turned away while the user's credits move
    version = User.token_version
    transaction.update("user", User(user.id), [version.add(1)], version == user.token_version)
    with contextlib.suppress(Refused):  # somebody else ended them first
        transaction.commit()


def _identity(username: str) -> Identity | None:
    if len(username.strip()) > _LONGEST_NAME:
        return None
    try:
        return Identity.get(password_key(username), consistent_read=True)
    except Identity.DoesNotExist:
        return None


def _wrong() -> Unauthorized:
    return Unauthorized("invalid_credentials", "The name or the password is wrong.")
