"""Sessions of those who sign in by WeChat: a mini program's user by a code, and as long as WeChat's own session goes on.

A refresh asks WeChat first, and only then uses the refresh token up, by the rules of sessions.py: so that a fault of WeChat's
costs nobody their session. Who came by the website has no session at WeChat that could end, and none is asked for.
"""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Depends, Request

from aideer import auth, sessions, throttling, wechat, wechat_users
from aideer.contract.sessions import Tokens
from aideer.errors import BadRequest, Unauthorized


def sign_in(code: str, address: str) -> Tokens:
    """Tokens for whom a mini program's code stands for; their user is made if there is none.

    Raises what wechat.mini_program does, and TooManyRequests after too many bad codes from this address.
    """
    with throttling.attempt_from("wechat", address):
        person = wechat.mini_program(code)
    return Tokens(**auth.token_pair(wechat_users.user_of(person), "wechat", person.openid))


def _refresh_claims(request: Request) -> dict[str, Any]:
    claims = auth.verify(auth.bearer(request.resolved_event.headers.get("authorization")))
    if claims["typ"] != "refresh" or claims["amr"] != "wechat":
        raise BadRequest("wrong_token_type", "This takes the refresh token of a WeChat session.")
    return claims


RefreshClaims = Annotated[dict[str, Any], Depends(_refresh_claims)]
"""Dependency: what a WeChat session's refresh token says."""


def refresh(claims: dict[str, Any]) -> Tokens:
    """A new pair for a refresh token. Raises Unauthorized where it was used up or revoked, or WeChat's session is over."""
    user = auth.holder(claims)
    identity = wechat_users.find(wechat_users.key(claims["openid"])) if "openid" in claims else None
    if identity is None or identity.user_id != user.id:
        raise Unauthorized("token_revoked", "This token is no longer good.")
    if identity.session_key and not wechat.session_is_valid(claims["openid"], identity.session_key):
        raise Unauthorized("wechat_session_over", "WeChat's session is over. Sign in with a new code.")
    return sessions.renewed(user, claims)
