"""Signing in to a website: a way to WeChat's page with the QR code, and the way back.

What goes with a person is a state: when it ends, and a MAC over that and over a secret of their browser's, which is in a cookie
that only our own host can set and read. So a state that we did not make, that is too old, or that was given to another browser is
refused: nobody can be signed in to an attacker's account by a link with the attacker's code (RFC 6749, section 10.12). Where people
go and where they come back to is the operator's to say, and no part of a request; so nobody is redirected anywhere else.
"""

import hashlib
import hmac
import re
import secrets
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from aws_lambda_powertools.event_handler import Depends, Request, Response
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from aideer import auth, aws, clock, settings, throttling, tickets, wechat, wechat_users
from aideer.contract.sessions import Tokens
from aideer.errors import Unauthorized
from aideer.http import app
from aideer.responses import NO_STORE

STATE_SECONDS = 600
_PATH = "/api/v1/session/wechat/callback"
_STATE = re.compile(r"([0-9a-f]{8})([0-9a-f]{64})")  # WeChat takes letters and digits, 128 at most
_SECRET = re.compile(r"[0-9a-f]{32}")


class SeeOther(Exception):
    """Somebody is sent on to a page of the operator's."""

    def __init__(self, location: str) -> None:
        self.location = location


class Browser(NamedTuple):
    """What a request says of where it comes from."""

    callback: str
    """Where WeChat sends this browser back to."""
    secret: str | None
    """Of the cookie that it brings, if it brings one."""


def _browser(request: Request) -> Browser:
    event = request.resolved_event
    # The domain is the one that API Gateway was reached by, and not what a header says.
    domain = event.request_context.domain_name  # type: ignore[attr-defined]
    callback = settings.WECHAT_CALLBACK_URL or f"https://{domain}{_PATH}"
    cookies = dict(pair.strip().partition("=")[::2] for pair in event.raw_event.get("cookies") or [])
    secret = cookies.get(_cookie_name(callback), "")
    return Browser(callback, secret if _SECRET.fullmatch(secret) else None)


FromBrowser = Annotated[Browser, Depends(_browser)]
"""Dependency: the browser that asks."""


def begin(browser: Browser) -> tuple[str, Cookie]:
    """Where to send this browser, and the cookie that it must bring back. Raises Unavailable (not set up)."""
    secret = browser.secret or secrets.token_hex(16)  # kept, where there is one: another tab may be on its way
    ends = f"{int(clock.now()) + STATE_SECONDS:08x}"
    location = wechat.website_login_url(browser.callback, ends + _mac(aws.signing_keys()[0], ends, secret))
    cookie = Cookie(
        name=_cookie_name(browser.callback),
        value=secret,
        path="/",
        secure=_is_secure(browser.callback),
        http_only=True,
        max_age=STATE_SECONDS,
        same_site=SameSite.LAX_MODE,  # it must come along when WeChat's page leads back
    )
    return location, cookie


def finish(browser: Browser, code: str | None, state: str, address: str) -> Tokens:
    """Tokens for whom WeChat has sent back. Raises SeeOther where a page is to have a ticket for them.

    Raises Unauthorized (the state is not this browser's, or the code is bad), and what wechat.website does.
    """
    _check(state, browser.secret)
    if not code:
        raise Unauthorized("wechat_declined", "WeChat says that the sign-in was declined.")
    with throttling.attempt_from("wechat", address):
        person = wechat.website(code)
    user = wechat_users.user_of(person)
    if settings.WECHAT_LOGIN_PAGE:
        raise SeeOther(_with_ticket(settings.WECHAT_LOGIN_PAGE, tickets.issue(user, person.openid)))
    return Tokens(**auth.token_pair(user, "wechat", person.openid))


def _check(state: str, secret: str | None) -> None:
    match = _STATE.fullmatch(state)
    if not (match and secret):
        raise _wrong_state()
    ends, mac = match.groups()
    if not any(hmac.compare_digest(_mac(key, ends, secret), mac) for key in aws.signing_keys()):
        raise _wrong_state()
    if int(ends, 16) < clock.now():
        raise Unauthorized("state_expired", "This sign-in has taken too long. Begin again.")


def _mac(key: str, ends: str, secret: str) -> str:
    # No token's signed text begins so: one key for both is no danger.
    return hmac.new(key.encode(), f"wechat-state {ends} {secret}".encode(), hashlib.sha256).hexdigest()


def _wrong_state() -> Unauthorized:
    return Unauthorized("state_invalid", "This sign-in was not begun in this browser. Begin again.")


def _with_ticket(page: str, ticket: str) -> str:
    """The page's address with the ticket in its fragment, which browsers send to no server and in no Referer."""
    fragment = urlsplit(page).fragment
    joint = "#" if "#" not in page else "&" if "?" in fragment else "?"  # a fragment may be a route of the page's own
    return f"{page}{joint}ticket={ticket}"


def _cookie_name(callback: str) -> str:
    # The prefix keeps other hosts of the domain from setting it, and browsers want https for it.
    return "__Host-wechat" if _is_secure(callback) else "wechat"


def _is_secure(callback: str) -> bool:
    return callback.startswith("https:")


@app.exception_handler(SeeOther)
def _see_other(elsewhere: SeeOther) -> Response[Any]:
    return Response(status_code=303, headers={"Location": elsewhere.location, **NO_STORE}, body="")
