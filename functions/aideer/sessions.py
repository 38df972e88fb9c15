"""Sessions: signing in by password, going on, and signing out.

A refresh token is good for one use, and for the minute after it, because an answer can be lost and a phone can ask twice. A use
later than that means that two people hold it, and ends all of the user's sessions (RFC 9700, section 4.14.2: rotation). All uses
within the minute give one successor (auth.next_pair): a thief who is in time shares a chain with its owner, and is noticed when
both go on.
"""

import contextlib
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import PutError, PynamoDBException

from aideer import auth, clock, dynamodb, passwords, throttling
from aideer.contract.sessions import Tokens
from aideer.errors import InvalidToken, TooManyRequests, Unauthorized
from aideer.models import Identity, Record, User
from aideer.transactions import Refused, Transaction
from aideer.users import is_key, password_key

GRACE_SECONDS = 60


def sign_in(typed: str, password: str, address: str) -> Tokens:
    """Tokens for whoever has this name and password.

    Raises Unauthorized, at equal length for a name that nobody has, and TooManyRequests after too many wrong passwords: of this
    name from this address, from this address, or of this name. In this order, so that who is stopped by the first does not bring
    the name nearer to being locked for everybody. The latter two are not for a name that has signed in from this address before.
    """
    username = " ".join(typed.split())  # as names are set; an earlier release left their spaces as they were
    name = password_key(username)
    own, *wider = throttling.networks(address)
    with throttling.counting() as counted:
        counted.append(throttling.count("sign_in", name, own.text))
        try:
            for network in wider:
                counted.append(throttling.count("sign_in", name, network.text, share=network.share))
            for one in throttling.count_networks("sign_in_address", address):
                counted.append(one)
            counted.append(throttling.count("sign_in_name", name))
        except TooManyRequests:
            if not throttling.remembered(name, address):  # nobody else locks them out of where they always are
                raise
        tokens = _signed_in(username, typed, password)
        throttling.remember(name, address)
    return tokens


def _signed_in(username: str, typed: str, password: str) -> Tokens:
    identity = _identity(username) or (_identity(typed) if password_key(typed) != password_key(username) else None)
    form = passwords.matching_form(identity.password_hash if identity else None, password)
    if form is None or identity is None:
        raise _wrong()
    try:
        user = User.get(identity.user_id, consistent_read=True)
        # Again, now that the token_version is known: a password changed in between must not get tokens of the new version.
        current = Identity.get(identity.key, consistent_read=True)
    except (User.DoesNotExist, Identity.DoesNotExist):
        raise _wrong() from None
    if user.deleted or (current.user_id, current.password_hash) != (user.id, identity.password_hash):
        raise _wrong()
    if form == "raw":
        _hash_again(identity, password)
    return Tokens(**auth.token_pair(user, "password"))


def _hash_again(identity: Identity, password: str) -> None:
    """Replace the hash of a password that release 0.1 did not normalize. It can wait: whatever fails, the old one is good."""
    with contextlib.suppress(PynamoDBException):
        Identity(identity.key).update(
            [Identity.password_hash.set(passwords.hashed(password))], Identity.password_hash == identity.password_hash
        )


def _authorization(request: Request) -> str | None:
    header: str | None = request.resolved_event.headers.get("authorization")
    return header


Authorization = Annotated[str | None, Depends(_authorization)]
"""Dependency: the header, which a ticket in the body makes needless."""


def refresh_claims(authorization: str | None) -> dict[str, Any]:
    """What a password session's refresh token says. Raises Unauthorized, and InvalidToken for another kind."""
    claims = auth.verify(auth.bearer(authorization))
    if claims["typ"] != "refresh" or claims["amr"] != "password":
        raise InvalidToken("wrong_token_type", "This takes the refresh token of a password session.")
    return claims


def refresh(claims: dict[str, Any]) -> Tokens:
    """A new pair for a password session's refresh token. Raises Unauthorized where it was used up or revoked."""
    return renewed(auth.holder(claims), claims)


def renewed(user: User, claims: dict[str, Any]) -> Tokens:
    """A new pair for a refresh token of this user, who has been read. Raises Unauthorized where it was used up."""
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
            raise InvalidToken(
                "token_reused", "This refresh token was used before. All sessions have been ended."
            ) from None
    return Tokens(**auth.next_pair(user, claims))


def sign_out(user: User) -> None:
    """End all of the user's sessions that this one is among."""
    transaction = Transaction()  # of one step: a plain update would be turned away while the user's credits move
    version = User.token_version
    transaction.update("user", User(user.id), [version.add(1)], version == user.token_version)
    with contextlib.suppress(Refused):  # somebody else ended them first
        transaction.commit()


def _identity(username: str) -> Identity | None:
    key = password_key(username)
    if not is_key(key):
        return None
    try:
        return Identity.get(key, consistent_read=True)
    except Identity.DoesNotExist:
        return None


def _wrong() -> Unauthorized:
    return Unauthorized("invalid_credentials", "The name or the password is wrong.")
