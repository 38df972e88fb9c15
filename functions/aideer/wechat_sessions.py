"""Sessions of those who sign in by WeChat: a mini program's user by a code, and as long as WeChat's own session goes on.

A refresh asks WeChat first, and only then uses the refresh token up, by the rules of sessions.py: so that a fault of WeChat's
costs nobody their session. A session that WeChat calls valid counts as valid for VALID_SECONDS; one that it ends meanwhile is
refused after that. Refreshes are counted for each user, failed ones too, because WeChat limits how often an application may ask.
Who came by the website has no session at WeChat that could end, and none is asked for.
"""

from typing import Annotated, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import UpdateError

from aideer import auth, clock, dynamodb, sessions, throttling, wechat, wechat_users
from aideer.contract.sessions import Tokens
from aideer.errors import InvalidToken
from aideer.models import Identity

VALID_SECONDS = 300
"""A session counts as valid for so long after WeChat said so."""

logger = Logger(service="aideer")


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
        raise InvalidToken("wrong_token_type", "This takes the refresh token of a WeChat session.")
    return claims


RefreshClaims = Annotated[dict[str, Any], Depends(_refresh_claims)]
"""Dependency: what a WeChat session's refresh token says."""


def refresh(claims: dict[str, Any]) -> Tokens:
    """A new pair for a refresh token.

    Raises InvalidToken where it was used up or revoked, or WeChat's session is over; TooManyRequests, and what
    wechat.session_is_valid does.
    """
    user = auth.holder(claims)
    throttling.count("wechat_refresh", user.id)
    identity = wechat_users.find(wechat_users.key(claims["openid"])) if "openid" in claims else None
    if identity is None or identity.user_id != user.id:
        raise InvalidToken
    if identity.session_key and not _goes_on(claims["openid"], identity):
        raise InvalidToken("wechat_session_over", "WeChat's session is over. Sign in with a new code.")
    return sessions.renewed(user, claims)


def _goes_on(openid: str, identity: Identity) -> bool:
    now = int(clock.now())
    if identity.checked_at is not None and now < identity.checked_at + VALID_SECONDS:
        return True
    if not wechat.session_is_valid(openid, str(identity.session_key)):
        return False
    try:
        identity.update([Identity.checked_at.set(now)], Identity.session_key == identity.session_key)
    except UpdateError as error:
        if not dynamodb.refused(
            error
        ):  # a refusal: they have signed in anew meanwhile, and nothing is known of that session
            logger.warning("wechat", extra={"error": type(error).__name__})
    return True
