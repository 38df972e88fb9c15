"""The sign-in of a website: the redirect to WeChat's page with the QR code, and the callback from it.

A state goes with the browser. It holds the time at which it ends, and a MAC over that time and over a secret of the browser. The
secret is in a cookie that only our own host can set and read. So a state is refused if we did not make it, if it is too old, or if
it was given to another browser. An attacker therefore cannot sign a victim in to the attacker's account with a link that has the
attacker's code (RFC 6749, section 10.12). The operator sets all redirect targets, and no part of a request can change them. So
nobody is redirected to another site.

If a page receives a ticket (WECHAT_LOGIN_PAGE), the cookie is not enough. An attacker can finish a sign-in of their own and send a
victim to the page with the attacker's ticket. So the page gives a challenge (PKCE, RFC 7636). The state carries it, and it binds
the ticket to the page's verifier.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from aws_lambda_powertools.event_handler import Depends, Request, Response
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from aideer.accounts import devices, login_tickets, wechat_users
from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, BadRequest, Unauthorized
from aideer.core.logs import logger
from aideer.providers import wechat
from aideer.schemas.sessions import TokensResponse
from aideer.security import rate_limits
from aideer.web import http
from aideer.web.http import app
from aideer.web.openapi import NO_STORE

STATE_SECONDS = 600
_PATH = "/api/v1/session/wechat/callback"
# WeChat accepts letters and digits, at most 128. So a challenge is in hexadecimal, and the MAC beside it is shorter.
_STATE = re.compile(r"([0-9a-f]{8})(?:([0-9a-f]{64})|([0-9a-f]{64})([0-9a-f]{48}))")
_SHORT_MAC = 48  # hexadecimal digits: 192 bits
_SECRET = re.compile(r"[0-9a-f]{32}")


class SeeOther(Exception):
    """Redirects the browser to a page of the operator's, with status 303."""

    def __init__(self, location: str) -> None:
        self.location = location


class Browser(NamedTuple):
    """The browser that sent a request."""

    callback: str
    """The address to which WeChat redirects this browser."""
    secret: str | None
    """The secret in the browser's cookie, if it sent a valid one."""


def _browser(request: Request) -> Browser:
    event = request.resolved_event
    # The domain is the one under which API Gateway was called. A header could name any domain.
    domain = event.request_context.domain_name  # type: ignore[attr-defined]
    callback = settings.WECHAT_CALLBACK_URL or f"https://{domain}{_PATH}"
    cookies = dict(pair.strip().partition("=")[::2] for pair in event.raw_event.get("cookies") or [])
    secret = cookies.get(_cookie_name(callback), "")
    return Browser(callback, secret if _SECRET.fullmatch(secret) else None)


FromBrowser = Annotated[Browser, Depends(_browser)]
"""Dependency: the browser that sent the request."""


def begin(browser: Browser, challenge: str | None = None, method: str | None = None) -> tuple[str, Cookie]:
    """Return the address to redirect this browser to, and the cookie that it must bring back.

    `challenge` and `method` come from the page that receives the ticket. Raises BadRequest if only one of them is given, or if a
    page is set up and gives none. Raises Unavailable if the sign-in is not set up.
    """
    if bool(challenge) != bool(method) or (settings.WECHAT_LOGIN_PAGE and not challenge):
        raise BadRequest("code_challenge_required", "Send code_challenge, and code_challenge_method=S256.")
    secret = browser.secret or secrets.token_hex(16)  # kept if there is one: a sign-in may be under way in another tab
    ends = f"{int(clock.now()) + STATE_SECONDS:08x}"
    state = _state(aws.read_signing_keys()[0], ends, _in_hex(challenge) if challenge else "", secret)
    location = wechat.website_login_url(browser.callback, state)
    cookie = Cookie(
        name=_cookie_name(browser.callback),
        value=secret,
        path="/",
        secure=_is_secure(browser.callback),
        http_only=True,
        max_age=STATE_SECONDS,
        same_site=SameSite.LAX_MODE,  # the browser must send it when WeChat's page redirects back
    )
    return location, cookie


def finish(browser: Browser, code: str | None, state: str, address: str, device: str | None = None) -> TokensResponse:
    """Return tokens for the user that WeChat has redirected back. `device` is the name of the device.

    Raises SeeOther if a page receives a ticket instead. Raises Unauthorized if the state is not this browser's or has expired, if
    the sign-in was declined, or if the code is bad. Raises the errors of wechat.exchange_website_code, and TooManyRequests.
    """
    challenge = _verify_state(state, browser.secret)
    if settings.WECHAT_LOGIN_PAGE and not challenge:  # begun before a page was set up, or under release 0.1.0
        raise _too_long()
    if not code:
        raise Unauthorized("wechat_declined", "The sign-in was declined in WeChat.")
    with rate_limits.count_attempt_from("wechat", address):
        person = wechat.exchange_website_code(code)
    user = wechat_users.get_or_create(person)
    if settings.WECHAT_LOGIN_PAGE:
        raise SeeOther(_page_with("ticket", login_tickets.issue(user, person.openid, challenge)))
    return devices.begin(user, "wechat", device, openid=person.openid)


def _verify_state(state: str, secret: str | None) -> str | None:
    """Return the challenge of a state that this browser was given, or None if the sign-in began without one.

    Raises Unauthorized if the state is not this browser's, or has expired.
    """
    match = _STATE.fullmatch(state)
    if not (match and secret):
        raise _wrong_state()
    ends, challenge = match[1], match[3] or ""
    if not any(hmac.compare_digest(_state(key, ends, challenge, secret), state) for key in aws.read_signing_keys()):
        raise _wrong_state()
    if int(ends, 16) < clock.now():
        raise _too_long()
    return _in_base64(challenge) if challenge else None


def _state(key: str, ends: str, challenge: str, secret: str) -> str:
    # No token's signed text begins so, so both can safely share one key.
    signed = " ".join(filter(None, ["wechat-state", ends, challenge, secret]))
    mac = hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return ends + challenge + mac[: _SHORT_MAC if challenge else None]


def _in_hex(challenge: str) -> str:
    return base64.urlsafe_b64decode(challenge + "=").hex()


def _in_base64(challenge: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(challenge)).decode().rstrip("=")


def _too_long() -> Unauthorized:
    return Unauthorized("state_expired", "This sign-in took too long. Start again.")


def _wrong_state() -> Unauthorized:
    return Unauthorized("state_invalid", "This sign-in did not start in this browser. Start again.")


def lead_back(answer: dict[str, Any], _: AideerError) -> dict[str, Any]:
    """Redirect a browser with a refusal to the page that receives tickets, if there is one.

    `answer` is the refusal as Lambda returns it.

    A person looks at this browser, and would otherwise see JSON. The page gets the refusal's code as `error` (RFC 6749, section
    4.2.2.1) in the fragment.
    """
    if not settings.WECHAT_LOGIN_PAGE:
        return answer
    code = json.loads(answer["body"])["code"]
    # A redirect is in no metric of statuses, so the log counts it. A fault of our own is in the log already.
    if answer["statusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR and code != "internal":
        logger.error("wechat sign-in", extra={"code": code})
    headers = {name: value for name, value in answer["headers"].items() if not name.lower().startswith("content-")}
    headers = {**headers, "Location": _page_with("error", code), **NO_STORE}
    return {**answer, "statusCode": 303, "headers": headers, "body": ""}


http.refusals[_PATH] = lead_back


def _page_with(name: str, value: str) -> str:
    """Return the page's address with a value in its fragment. Browsers send a fragment to no server and in no Referer."""
    page = settings.WECHAT_LOGIN_PAGE
    fragment = urlsplit(page).fragment
    joint = "#" if "#" not in page else "&" if "?" in fragment else "?"  # a fragment may be a route within the page
    return f"{page}{joint}{name}={value}"


def _cookie_name(callback: str) -> str:
    # The prefix keeps other hosts of the domain from setting the cookie. Browsers require https for it.
    return "__Host-wechat" if _is_secure(callback) else "wechat"


def _is_secure(callback: str) -> bool:
    return callback.startswith("https:")


@app.exception_handler(SeeOther)
def _see_other(elsewhere: SeeOther) -> Response[Any]:
    return Response(status_code=303, headers={"Location": elsewhere.location, **NO_STORE}, body="")
