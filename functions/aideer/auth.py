"""Tokens, and who is calling. A token is a JWT (RFC 7519) signed with HS256 by the newest signing key.

Claims: sub (user id), typ (access, refresh or stream), amr (password or wechat), ver (the user's token_version when it was
made), iat, exp, jti; a stream ticket also names its task, and a WeChat session's refresh token the openid that signed in. Raising
token_version ends every token at once: the user is read, consistently, on every call.

auth_time is when the user signed in (OpenID Connect Core 1.0, section 2), in seconds since the epoch. A refresh keeps it. Tokens of
release 0.1.0 have none, and count as old wherever a fresh sign-in is needed.
"""

import hashlib
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from urllib.parse import unquote
from uuid import uuid4

import jwt
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Depends, Request

from aideer import aws, clock
from aideer.errors import AideerError, Busy, Forbidden, InvalidToken, Unauthorized
from aideer.models import User

ACCESS_SECONDS = 24 * 3600
REFRESH_SECONDS = 90 * 24 * 3600
VISITOR, USER, ADMIN = 0, 1, 2
REASON_CHARACTERS = 200

logger = Logger(service="aideer")
Method = Literal["password", "wechat"]


class Claims(TypedDict):
    """What a token says. Times are seconds since the epoch."""

    sub: str
    typ: Literal["access", "refresh", "stream"]
    amr: Method
    ver: int
    iat: int
    exp: int
    jti: str
    auth_time: NotRequired[int]


def token_pair(user: User, method: Method, openid: str | None = None, auth_time: int | None = None) -> dict[str, Any]:
    """Return the access and refresh token of a new sign-in.

    `openid` is whom WeChat said that it was: refreshing asks whether it still says so. `auth_time` is when the user signed in, if
    that was not now.
    """
    signed_in = {"auth_time": int(clock.now()) if auth_time is None else auth_time}
    more = {"openid": openid} if openid else {}
    return _pair(user, method, signed_in, {**more, "jti": uuid4().hex})


def next_pair(user: User, claims: dict[str, Any]) -> dict[str, Any]:
    """Return the pair that follows the refresh token with these claims.

    The new refresh token's jti follows from the old one's. Two who use one token at once get the same successor, so the second use
    of that one, by whoever is slower, is noticed as any other second use is.
    """
    signed_in = {"auth_time": claims["auth_time"]} if "auth_time" in claims else {}
    more = {"openid": claims["openid"]} if claims.get("openid") else {}
    return _pair(user, claims["amr"], signed_in, {**more, "jti": _successor(claims["jti"])})


def _pair(user: User, method: Method, signed_in: dict[str, int], refresh: dict[str, str]) -> dict[str, Any]:
    return {
        "access_token": _issue(user, "access", method, ACCESS_SECONDS, {**signed_in, "jti": uuid4().hex}),
        "refresh_token": _issue(user, "refresh", method, REFRESH_SECONDS, {**signed_in, **refresh}),
        "token_type": "bearer",
        "expires_in": ACCESS_SECONDS,
    }


def _successor(jti: str) -> str:
    # Without a key: a jti is no secret, and a rotation of the signing keys must not part a chain.
    return hashlib.sha256(f"successor of {jti}".encode()).hexdigest()[:32]


def sign(claims: dict[str, Any]) -> str:
    """Sign claims with the newest key."""
    return jwt.encode(claims, aws.signing_keys()[0], algorithm="HS256")


def verify(token: str) -> dict[str, Any]:
    """Return a token's claims. Raises InvalidToken where it is not ours, is no token, or has expired."""
    for key in aws.signing_keys():
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                options={"require": ["sub", "typ", "amr", "ver", "iat", "exp", "jti"], "verify_iat": False},
                leeway=5,  # two machines' clocks
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise InvalidToken("token_expired", "This token has expired.") from None
        except (jwt.InvalidTokenError, ValueError):
            break
        return claims
    raise InvalidToken("invalid_token", "This is no valid token.")


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750, section 2.1). Raises Unauthorized where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized
    return token.strip()


def holder(claims: dict[str, Any]) -> User:
    """The user of these claims, if the token is still good: neither signed out nor deleted since."""
    try:
        user = User.get(claims["sub"], consistent_read=True)
    except User.DoesNotExist:
        raise InvalidToken from None
    if user.deleted or user.token_version != claims["ver"]:
        raise InvalidToken
    return user


def access_claims(authorization: str | None) -> dict[str, Any]:
    """What the access token of an Authorization header says. Raises Unauthorized, and InvalidToken for another kind."""
    claims = verify(bearer(authorization))
    if claims["typ"] != "access":
        raise InvalidToken("wrong_token_type", "This takes an access token.")
    logger.thread_safe_append_keys(user_id=claims["sub"])
    return claims


def auth_time(request: Request) -> int | None:
    """Dependency: when the caller signed in, in seconds since the epoch; None where the token does not say."""
    said: int | None = access_claims(request.resolved_event.headers.get("authorization")).get("auth_time")
    return said


def signed_in(request: Request) -> User:
    """Dependency: whoever has an access token."""
    headers = request.resolved_event.headers
    user = holder(access_claims(headers.get("authorization")))
    user.reason = _reason(headers.get("x-reason"))
    return user


def _reason(header: str | None) -> str | None:
    """Return the text of X-Reason, which may be percent-encoded UTF-8, on one line and with an end."""
    text = unquote(header or "", errors="replace")
    return "".join(c if c.isprintable() else " " for c in text).strip()[:REASON_CHARACTERS] or None


class Bearer:
    """Whoever holds an access token that is ours, and has not been read yet.

    For the one call that can leave the reading to a condition of its own write: credits.hold refuses a token that was revoked and a
    visitor, and `read` says so. Until then nothing of what is found may be told.
    """

    def __init__(self, claims: dict[str, Any]) -> None:
        self.id: str = claims["sub"]
        self.token_version: int = claims["ver"]
        self._claims = claims

    def read(self) -> User:
        """The user, as stored now. Raises Unauthorized where the token is no longer good, and Forbidden for a visitor."""
        return member(holder(self._claims))


def bearer_only(request: Request) -> Bearer:
    """Dependency: an access token, whose user is not read."""
    return Bearer(access_claims(request.resolved_event.headers.get("authorization")))


def member(user: Annotated[User, Depends(signed_in)]) -> User:
    """Dependency: a user, not a visitor."""
    if user.permission < USER:
        raise Forbidden("visitor", "Visitors may not do this.")
    return user


def admin(user: Annotated[User, Depends(signed_in)]) -> User:
    """Dependency: an administrator."""
    if user.permission < ADMIN:
        raise _not_admin()
    return user


Visitor = Annotated[User, Depends(signed_in)]
Member = Annotated[User, Depends(member)]
Admin = Annotated[User, Depends(admin)]
Unread = Annotated[Bearer, Depends(bearer_only)]
AuthTime = Annotated[int | None, Depends(auth_time)]


def is_admin(user: User) -> bool:
    """Whether this user is an administrator."""
    return user.permission >= ADMIN


def no_admin_now(actor: User) -> AideerError:
    """Why a transaction was refused that required this caller to be an administrator still."""
    try:
        user = User.get(actor.id, consistent_read=True)
    except User.DoesNotExist:
        user = None
    if user is None or user.deleted:
        return InvalidToken()
    return _not_admin() if not is_admin(user) else Busy()


def may_manage(user: User, owner_id: str | None) -> bool:
    """What API.md calls "own": the owner's, or an administrator."""
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
