"""Sessions of users that sign in by WeChat.

A mini program's user signs in by a code, and the session lasts as long as WeChat's own. A refresh first asks WeChat, and only then
uses the refresh token up, by the rules of sessions.py. So no user loses a session to a fault of WeChat. A session that WeChat
calls valid counts as valid for VALID_SECONDS. If WeChat ends it meanwhile, refreshes are refused after that time.

Refreshes are counted for each user, failed ones too, because WeChat limits how often an application may ask. A user that signed in
on a website has no session at WeChat that could end, so those refreshes do not ask WeChat.
"""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Depends, Request
from pynamodb.exceptions import UpdateError

from aideer.accounts import devices, sessions, wechat_users
from aideer.core import aws_errors, clock
from aideer.core.errors import InvalidToken
from aideer.core.logs import logger
from aideer.data.models import Identity
from aideer.providers import wechat
from aideer.schemas.sessions import TokensResponse
from aideer.security import auth, rate_limits

VALID_SECONDS = 300
"""The number of seconds for which a session counts as valid after WeChat confirmed it."""


def sign_in(code: str, address: str, device: str | None = None) -> TokensResponse:
    """Return tokens for the user of a mini program's code. If the user does not exist yet, create it. `device` is its name.

    Raises the errors of wechat.exchange_mini_program_code, and TooManyRequests after too many bad codes from this address.
    """
    with rate_limits.count_attempt_from("wechat", address):
        person = wechat.exchange_mini_program_code(code)
    return devices.begin(wechat_users.get_or_create(person), "wechat", device, openid=person.openid)


def _refresh_claims(request: Request) -> dict[str, Any]:
    claims = auth.verify(auth.read_bearer(request.resolved_event.headers.get("authorization")))
    if claims["typ"] != "refresh" or claims["amr"] != "wechat":
        raise InvalidToken("wrong_token_type", "This call takes the refresh token of a WeChat session.")
    return claims


RefreshClaims = Annotated[dict[str, Any], Depends(_refresh_claims)]
"""Dependency: the claims of a WeChat session's refresh token."""


def refresh(claims: dict[str, Any], device: str | None = None) -> TokensResponse:
    """Return a new token pair for the claims of a refresh token. `device` names a session that has no name yet.

    Raises InvalidToken if the token was used up or revoked, or if WeChat's session is over. Raises TooManyRequests, and the errors
    of wechat.is_session_valid.
    """
    user = auth.get_holder(claims)
    rate_limits.count("wechat_refresh", user.id)
    identity = wechat_users.find_identity(wechat_users.openid_key(claims["openid"])) if "openid" in claims else None
    if identity is None or identity.user_id != user.id:
        raise InvalidToken
    if identity.session_key and not _is_valid(claims["openid"], identity):
        raise InvalidToken("wechat_session_over", "The WeChat session has ended. Sign in with a new code.")
    return sessions.renew(user, claims, device)


def _is_valid(openid: str, identity: Identity) -> bool:
    now = int(clock.now())
    if identity.checked_at is not None and now < identity.checked_at + VALID_SECONDS:
        return True
    if not wechat.is_session_valid(openid, str(identity.session_key)):
        return False
    try:
        identity.update([Identity.checked_at.set(now)], Identity.session_key == identity.session_key)
    except UpdateError as error:
        # A refusal means that the user has signed in again meanwhile. WeChat has not confirmed that new session yet.
        if not aws_errors.is_refusal(error):
            logger.warning("wechat", extra={"error": type(error).__name__})
    return True
