"""Tokens, and who is calling. A token is a JWT (RFC 7519) signed with HS256 by the newest signing key.

Claims: sub (user id), typ (access, refresh or stream), amr (password or wechat), ver (the user's token_version when it was
made), iat, exp, jti; a stream ticket also names its task, and a WeChat session's refresh token the openid that signed in. Raising
token_version ends every token at once: the user is read, consistently, on every call.
"""

from typing import Annotated, Any, Literal, TypedDict
from uuid import uuid4

import jwt
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Depends, Request

from aideer import aws, clock
from aideer.errors import AideerError, BadRequest, Busy, Forbidden, Unauthorized
from aideer.models import User

ACCESS_SECONDS = 24 * 3600
REFRESH_SECONDS = 90 * 24 * 3600
VISITOR, USER, ADMIN = 0, 1, 2

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


def token_pair(user: User, method: Method, openid: str | None = None) -> dict[str, Any]:
    """A new access and refresh token: the answer of every sign-in and refresh.

    `openid` is whom WeChat said that it was: refreshing asks whether it still says so.
    """
    more = {"openid": openid} if openid else {}
    return {
        "access_token": _issue(user, "access", method, ACCESS_SECONDS),
        "refresh_token": _issue(user, "refresh", method, REFRESH_SECONDS, more),
        "token_type": "bearer",
        "expires_in": ACCESS_SECONDS,
    }


def sign(claims: dict[str, Any]) -> str:
    """Sign claims with the newest key."""
    return jwt.encode(claims, aws.signing_keys()[0], algorithm="HS256")


def verify(token: str) -> dict[str, Any]:
    """Return a token's claims. Raises Unauthorized where it is not ours, is no token, or has expired."""
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
            raise Unauthorized("token_expired", "This token has expired.") from None
        except (jwt.InvalidTokenError, ValueError):
            break
        return claims
    raise Unauthorized("invalid_token", "This is no valid token.")


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
        raise Unauthorized("token_revoked", "This token is no longer good.") from None
    if user.deleted or user.token_version != claims["ver"]:
        raise Unauthorized("token_revoked", "This token is no longer good.")
    return user


def access_claims(authorization: str | None) -> dict[str, Any]:
    """What the access token of an Authorization header says. Raises Unauthorized or, for another kind of token, BadRequest."""
    claims = verify(bearer(authorization))
    if claims["typ"] != "access":
        raise BadRequest("wrong_token_type", "This takes an access token.")
    logger.thread_safe_append_keys(user_id=claims["sub"])
    return claims


def signed_in(request: Request) -> User:
    """Dependency: whoever has an access token."""
    return holder(access_claims(request.resolved_event.headers.get("authorization")))


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
        return Unauthorized("token_revoked", "This token is no longer good.")
    return _not_admin() if not is_admin(user) else Busy()


def may_manage(user: User, owner_id: str | None) -> bool:
    """What API.md calls "own": the owner's, or an administrator."""
    return user.id == owner_id or is_admin(user)


def _not_admin() -> Forbidden:
    return Forbidden("not_admin", "Only administrators may do this.")


def _issue(user: User, typ: str, method: Method, seconds: int, more: dict[str, str] | None = None) -> str:
    now = int(clock.now())
    return sign(
        {
            "sub": user.id,
            "typ": typ,
            "amr": method,
            "ver": user.token_version,
            "iat": now,
            "exp": now + seconds,
            "jti": uuid4().hex,
            **(more or {}),
        }
    )
