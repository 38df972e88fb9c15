"""Sessions: sign-in by password, refresh, and sign-out everywhere. devices.py has the list of them, and ends single ones.

A refresh token is valid for one use, and for the minute after it. This is because a response can be lost, and a phone can ask
twice. A later use means that two parties hold the token. It ends all of the user's sessions (RFC 9700, section 4.14.2: rotation).
All uses within the minute return the same successor (auth.next_pair). So a thief that uses the token within the minute shares one
chain of tokens with the owner. When both continue, the second use is detected.
"""

import contextlib
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import PutError, PynamoDBException

from aideer.accounts import devices
from aideer.accounts.users import password_key
from aideer.core import aws_errors, clock
from aideer.core.errors import Busy, InvalidToken, TooManyRequests, Unauthorized
from aideer.data import lookup
from aideer.data.models import Identity, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.sessions import TokensResponse
from aideer.security import auth, password_hashing, rate_limits

GRACE_SECONDS = 60


def sign_in(typed: str, password: str, address: str, device: str | None = None) -> TokensResponse:
    """Return tokens for a correct name and password. `address` is the caller's IP address, and `device` the device's name.

    Raises Unauthorized, after the same time for a name that does not exist. Raises TooManyRequests after too many wrong passwords:
    of this name from this address, from this address, or of this name. The rate limits are checked in this order. So an attempt
    that the first one refuses does not bring the name nearer to a lock for everybody. The latter two do not apply to a name that
    has signed in from this address before.
    """
    username = " ".join(typed.split())  # as names are set now; an earlier release kept their spaces
    name = password_key(username)
    own, *wider = rate_limits.list_networks(address)
    with rate_limits.give_back_unless_refused() as counted:
        counted.append(rate_limits.count("sign_in", name, own.text))
        try:
            for network in wider:
                counted.append(rate_limits.count("sign_in", name, network.text, share=network.share))
            for one in rate_limits.count_networks("sign_in_address", address):
                counted.append(one)
            counted.append(rate_limits.count("sign_in_name", name))
        except TooManyRequests:
            if not rate_limits.is_remembered(name, address):  # others cannot lock users out of their known addresses
                raise
        tokens = _verify(username, typed, password, device)
        rate_limits.remember(name, address)
    return tokens


def _verify(username: str, typed: str, password: str, device: str | None) -> TokensResponse:
    identity = _identity(username) or (_identity(typed) if password_key(typed) != password_key(username) else None)
    form = password_hashing.find_matching_form(identity.password_hash if identity else None, password)
    if form is None or identity is None:
        raise _invalid_credentials()
    user = lookup.find(User, identity.user_id)
    # Read it again after the token_version. If the password changed in between, the old one must not get tokens of the new version.
    current = lookup.find(Identity, identity.key)
    if user is None or current is None or user.deleted:
        raise _invalid_credentials()
    if (current.user_id, current.password_hash) != (user.id, identity.password_hash):
        raise _invalid_credentials()
    if form == "raw":
        _hash_again(identity, password)
    try:
        return devices.begin(user, "password", device, version=user.token_version)
    except InvalidToken:
        raise _invalid_credentials() from None


def _hash_again(identity: Identity, password: str) -> None:
    """Replace the hash of a password that release 0.1 did not normalize. If this fails, the old hash stays valid."""
    with contextlib.suppress(PynamoDBException):
        Identity(identity.key).update(
            [Identity.password_hash.set(password_hashing.hash_password(password))],
            Identity.password_hash == identity.password_hash,
        )


def _authorization(request: Request) -> str | None:
    header: str | None = request.resolved_event.headers.get("authorization")
    return header


Authorization = Annotated[str | None, Depends(_authorization)]
"""Dependency: the Authorization header, or None. With a ticket in the body it is not needed."""


def verify_refresh_token(authorization: str | None) -> dict[str, Any]:
    """Return the claims of a password session's refresh token. Raises Unauthorized, and InvalidToken for another kind."""
    claims = auth.verify(auth.read_bearer(authorization))
    if claims["typ"] != "refresh" or claims["amr"] != "password":
        raise InvalidToken("wrong_token_type", "This call takes the refresh token of a password session.")
    return claims


def refresh(claims: dict[str, Any], device: str | None = None) -> TokensResponse:
    """Return a new pair for a password session's refresh token. Raises InvalidToken if it was used up or revoked.

    `device` names a session that has no name yet.
    """
    return renew(auth.get_holder(claims), claims, device)


def renew(user: User, claims: dict[str, Any], device: str | None = None) -> TokensResponse:
    """Return a new pair for a refresh token of this user. The caller has read the user. Raises InvalidToken if it was used up."""
    now = int(clock.now())
    use = Record(f"refresh#{user.id}", claims["jti"], at=now, ttl=claims["exp"] + 3600)
    session_id = claims.get("sid")
    if session_id is None:
        session_id = _name_session(user, claims, use, device)
    else:
        if not _is_first(use):
            _require_grace(user, use, now)
        # At a repetition too: the first use may have been cut off before this.
        devices.note_refresh(user.id, session_id)
    return TokensResponse(**auth.rotate_pair(user, claims, session_id))


def _is_first(use: Record) -> bool:
    """Note the use of a refresh token, and return whether it is the first one. If not, read the first one into `use`."""
    try:
        use.save(condition=Record.pk.does_not_exist())
    except PutError as error:
        if not aws_errors.is_refusal(error):
            raise
        use.refresh(consistent_read=True)
        return False
    return True


def _name_session(user: User, claims: dict[str, Any], use: Record, device: str | None) -> str | None:
    """Note the use of a refresh token of release 0.1, and give its session an id in the same transaction.

    A later use within the minute gets the id that the first one got. It is None if release 0.1 itself answered the first use.
    """
    session_id, now = devices.derive_id(claims["jti"]), int(clock.now())
    use.data = {"sid": session_id}
    for _ in attempts():
        transaction = Transaction()
        transaction.put("use", use, Record.pk.does_not_exist())
        still_unnamed = auth.require_session(user.token_version, None)
        devices.begin_in(transaction, user, session_id, claims["amr"], device, still_unnamed)
        try:
            transaction.commit()
        except Refused as refused:
            if "use" in refused.steps:
                use.refresh(consistent_read=True)
                _require_grace(user, use, now)
                return use.data["sid"] if use.data else None
            user = auth.get_holder(claims)
            continue
        return session_id
    raise Busy


def _require_grace(user: User, use: Record, now: int) -> None:
    """Raise InvalidToken, and end all sessions of the user, if the first use of a refresh token was too long ago."""
    if use.at is not None and now > use.at + GRACE_SECONDS:
        sign_out(user)
        raise InvalidToken(
            "token_reused", "This refresh token was used before. All sessions of this user have ended. Sign in again."
        )


def sign_out(user: User) -> None:
    """End all sessions of the user, as it was read. Do nothing if they have ended since."""
    transaction = Transaction()  # DynamoDB refuses a plain update while the user's credits change
    transaction.update("user", User(user.id), auth.end_sessions(), User.token_version == user.token_version)
    with contextlib.suppress(Refused):  # another request ended them first
        transaction.commit()


def _identity(username: str) -> Identity | None:
    return lookup.find(Identity, password_key(username))


def _invalid_credentials() -> Unauthorized:
    return Unauthorized("invalid_credentials", "The name or the password is wrong.")
