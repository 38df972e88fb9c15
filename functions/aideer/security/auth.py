"""Tokens and the authentication of callers.

A token is a JWT (RFC 7519), signed with HS256 by the newest signing key. Its claims are sub (user id), typ (access, refresh or
stream), amr (password or wechat), ver (the user's token_version when the token was made), sid (the session's id), iat, exp and jti.
A stream ticket also names its task. The refresh token of a WeChat session also names the openid that signed in.

Raising token_version revokes all tokens of the user at once, and taking an id from the user's `sessions` revokes those of one
session. This is because every call reads the user consistently. The exception is `Bearer`: its call checks both in a condition of
its own write. Tokens of release 0.1.0 have no sid. They are good until the user ends them (unnamed_ended).

The claim auth_time is the time of the sign-in (OpenID Connect Core 1.0, section 2), in seconds since the epoch. A refresh keeps
it. Tokens of release 0.1.0 do not have it. If a call needs a fresh sign-in, they count as old.
"""

import hashlib
from typing import Any, Literal, NotRequired, TypedDict
from uuid import uuid4

import jwt
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.core import aws, clock, settings, warmth
from aideer.core.errors import AideerError, Forbidden, InvalidToken, Unauthorized
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import User

ACCESS_SECONDS = 24 * 3600
REFRESH_SECONDS = 90 * 24 * 3600
VISITOR, USER, ADMIN = 0, 1, 2
Method = Literal["password", "wechat"]


@warmth.at_start
def _read_keys() -> None:
    if settings.SIGNING_SECRET_ARN:  # an operator's functions import this module and may not read the keys
        aws.read_signing_keys()


class Claims(TypedDict):
    """The claims of a token. Times are seconds since the epoch."""

    sub: str
    typ: Literal["access", "refresh", "stream"]
    amr: Method
    ver: int
    iat: int
    exp: int
    jti: str
    sid: NotRequired[str]
    auth_time: NotRequired[int]


def issue_pair(
    user: User,
    method: Method,
    openid: str | None = None,
    auth_time: int | None = None,
    session_id: str | None = None,
) -> dict[str, Any]:
    """Return the access token and the refresh token of a new sign-in. devices.begin begins its session.

    `openid` is the one that WeChat returned. In a mini program's session, a refresh uses it to ask WeChat whether that is still
    valid. The sign-in was at `auth_time`, in seconds since the epoch, by default now.
    """
    signed_in = {"auth_time": int(clock.now()) if auth_time is None else auth_time}
    more = {"openid": openid} if openid else {}
    return _pair(user, method, signed_in, {**more, "jti": uuid4().hex}, session_id)


def rotate_pair(user: User, claims: dict[str, Any], session_id: str | None) -> dict[str, Any]:
    """Return the token pair that replaces the refresh token with these claims, for the session with this id.

    The new refresh token's jti is derived from the old one. If two clients use one token at the same time, both get the same
    successor. So the second use of that successor is detected like any other second use.
    """
    signed_in = {"auth_time": claims["auth_time"]} if "auth_time" in claims else {}
    more = {"openid": claims["openid"]} if claims.get("openid") else {}
    return _pair(user, claims["amr"], signed_in, {**more, "jti": _successor(claims["jti"])}, session_id)


def _pair(
    user: User, method: Method, signed_in: dict[str, int], refresh: dict[str, str], session_id: str | None
) -> dict[str, Any]:
    both = signed_in if session_id is None else {**signed_in, "sid": session_id}
    return {
        "access_token": _issue(user, "access", method, ACCESS_SECONDS, {**both, "jti": uuid4().hex}),
        "refresh_token": _issue(user, "refresh", method, REFRESH_SECONDS, {**both, **refresh}),
        "token_type": "bearer",
        "expires_in": ACCESS_SECONDS,
        "session_id": session_id,
        "stream_base": find_stream_base(),
    }


def _successor(jti: str) -> str:
    # No key is involved: a jti is no secret, and the chain must survive a rotation of the signing keys.
    return hashlib.sha256(f"successor of {jti}".encode()).hexdigest()[:32]


def sign(claims: dict[str, Any]) -> str:
    """Sign claims with the newest key."""
    return jwt.encode(claims, aws.read_signing_keys()[0], algorithm="HS256")


def verify(token: str) -> dict[str, Any]:
    """Return a token's claims. Raises InvalidToken if none of our keys signed it, it is malformed, or it has expired."""
    for key in aws.read_signing_keys():
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                options={"require": ["sub", "typ", "amr", "ver", "iat", "exp", "jti"], "verify_iat": False},
                leeway=5,  # seconds: the clocks of two machines may differ
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise InvalidToken("token_expired", "This token has expired.") from None
        except (jwt.InvalidTokenError, ValueError):
            break
        return claims
    raise InvalidToken("invalid_token", "This token is not valid.")


def find_stream_base() -> str | None:
    """Return the origin of POST /tasks/stream, or None. Where nothing streams, STREAM_BASE_URL leads to the polls."""
    return (settings.STREAM_BASE_URL or None) if settings.STREAM_PATH == "stream" else None


def read_bearer(authorization: str | None) -> str:
    """Return the token of an Authorization header (RFC 6750, section 2.1). Raises Unauthorized if it has none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized
    return token.strip()


def get_holder(claims: dict[str, Any]) -> User:
    """Return the user of these claims. Raises InvalidToken if the token was revoked or the user was deleted."""
    user = lookup.find(User, claims["sub"])
    session_id = claims.get("sid")
    if user is None or not is_session_open(user, claims["ver"], session_id):
        raise InvalidToken
    user.session_id = session_id
    return user


def is_session_open(user: User | None, token_version: int, session_id: str | None) -> bool:
    """Return whether a token with these claims is good. `user` is its user as read just now, or None if there is none."""
    if user is None or user.deleted or user.token_version != token_version:
        return False
    return not user.unnamed_ended if session_id is None else session_id in (user.sessions or ())


def require_session(token_version: int, session_id: str | None) -> Condition:
    """Return the condition on a user that a token with these claims is good. Deleted users have another token_version."""
    named = User.unnamed_ended.does_not_exist() if session_id is None else User.sessions.contains(session_id)
    condition: Condition = (User.token_version == token_version) & named
    return condition


def end_sessions() -> list[Action]:
    """Return the actions on a user that revoke all of the user's tokens."""
    return [User.token_version.add(1), User.sessions.remove(), User.unnamed_ended.remove()]


def verify_access_token(authorization: str | None) -> dict[str, Any]:
    """Return the claims of the access token in an Authorization header.

    Raises Unauthorized if the header has no token, and InvalidToken if the token is invalid or of another kind.
    """
    claims = verify(read_bearer(authorization))
    if claims["typ"] != "access":
        raise InvalidToken("wrong_token_type", "This call takes an access token.")
    logger.thread_safe_append_keys(user_id=claims["sub"])
    return claims


class Bearer:
    """The holder of an access token that we signed. Its user has not been read yet.

    It serves the calls that create a task. They leave the check to a condition of their own write: credits.hold refuses revoked
    tokens and visitors, and `read` raises the matching error. Until one of these checks, the call must not reveal any data that it
    finds.
    """

    def __init__(self, claims: dict[str, Any]) -> None:
        self.id: str = claims["sub"]
        self.token_version: int = claims["ver"]
        self.session_id: str | None = claims.get("sid")
        self._claims = claims

    @classmethod
    def of(cls, user: User) -> "Bearer":
        """Return the bearer of a token of this user, who was just read."""
        return cls({"sub": user.id, "ver": user.token_version, "sid": user.session_id})

    def read(self) -> User:
        """Return the user as stored now. Raises InvalidToken if the token was revoked, and Forbidden for a visitor."""
        return require_member(get_holder(self._claims))


def require_member(user: User) -> User:
    """Return the user. Raises Forbidden for a visitor."""
    if user.permission < USER:
        raise Forbidden("visitor", "Visitors may not do this.")
    return user


def require_admin(user: User) -> User:
    """Return the user. Raises Forbidden unless the user is an administrator."""
    if user.permission < ADMIN:
        raise _not_admin()
    return user


def is_admin(user: User) -> bool:
    """Return whether this user is an administrator."""
    return user.permission >= ADMIN


def demotion_error(actor: User) -> AideerError | None:
    """Return the error if this caller is no administrator any more: InvalidToken if the caller was deleted, else Forbidden.

    Return None if the caller still is one. A transaction that requires it calls this after a refusal.
    """
    user = lookup.find(User, actor.id)
    if user is None or user.deleted:
        return InvalidToken()
    return None if is_admin(user) else _not_admin()


def may_manage(user: User, owner_id: str | None) -> bool:
    """Return whether this user may manage what `owner_id` owns: as its owner or as an administrator."""
    return user.id == owner_id or is_admin(user)


def _not_admin() -> Forbidden:
    return Forbidden("not_admin", "Only administrators may do this.")


def _issue(user: User, typ: str, method: Method, seconds: int, more: dict[str, Any]) -> str:
    now = int(clock.now())
    return sign(
        {
            "sub": user.id,
            "typ": typ,
            "amr": method,
            "ver": user.token_version,
            "iat": now,
            "exp": now + seconds,
            **more,
        }
    )
