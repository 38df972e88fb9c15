"""WeChat's protocol: the user that a code stands for, the validity of a session, and the sign-in page for websites.

Invariants: Codes, secrets, session keys and tokens reach neither a log nor an error. Only the settings say the address of WeChat,
and redirects are not followed. If no answer came, a code is not sent again: it may be used up, and a repetition would only report
that. The answer "busy" (-1) is tried again. Any other failure to answer is a fault of WeChat (502).

Sources: developers.weixin.qq.com, "code2Session", "checkSessionKey", "getStableAccessToken", and for websites "网站应用微信登录".
"""

import functools
import hashlib
import hmac
import json
import logging
import random
import re
import ssl
import time
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlencode

import urllib3

from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, BadGateway, Forbidden, TooManyRequests, Unauthorized, Unavailable
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.models import Record

ATTEMPTS = 3
PATIENCE_SECONDS = 8.0
"""After this time, no call is repeated."""
TOKEN_MARGIN_SECONDS = 300
"""How long before its end an access token is renewed. WeChat keeps the old one valid for this time beside the new one."""
_TOO_OFTEN_SECONDS = 60  # WeChat's limits are per minute

_BUSY = -1
_CODE_USED = 40163
_BAD_CODES = {40029, 42003, 41008}  # wrong, expired, empty
_BLOCKED = 40226
_TOO_OFTEN = 45011
_REFUSED_TOKENS = {40001, 40014, 42001}
_SESSION_OVER = {87009, 40003}  # 40003: an openid of another app than the one that is configured now
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # at DEBUG it logs addresses, and ours hold secrets


class Person(NamedTuple):
    """The user that signed in. The openid is theirs in one application, the unionid in all of one account at the open platform."""

    openid: str
    unionid: str | None = None
    session_key: str | None = None  # for mini programs only


def exchange_mini_program_code(code: str) -> Person:
    """Return the user that a mini program's code stands for.

    Raises Unauthorized for a bad code, Forbidden if WeChat blocks the user, TooManyRequests, BadGateway, and Unavailable if this
    sign-in is not set up.
    """
    appid, secret = _application(website=False)
    query = {"appid": appid, "secret": secret, "js_code": code, "grant_type": "authorization_code"}
    return _person(_call("/sns/jscode2session", query), with_session=True)


def exchange_website_code(code: str) -> Person:
    """Return the user that a code from WeChat's sign-in page stands for. Raises as `exchange_mini_program_code` does."""
    appid, secret = _application(website=True)
    query = {"appid": appid, "secret": secret, "code": code, "grant_type": "authorization_code"}
    return _person(_call("/sns/oauth2/access_token", query), with_session=False)


def website_login_url(callback: str, state: str) -> str:
    """Return the URL of WeChat's page with the QR code, which sends the user back to `callback`.

    Raises Unavailable if this sign-in is not set up.
    """
    appid, _ = _application(website=True)
    query = {
        "appid": appid,
        "redirect_uri": callback,
        "response_type": "code",
        "scope": "snsapi_login",
        "state": state,
    }
    return f"{settings.WECHAT_OPEN_URL}/connect/qrconnect?{urlencode(query)}#wechat_redirect"


def is_session_valid(openid: str, session_key: str) -> bool:
    """Return whether the user's mini program session is still valid. Raises TooManyRequests, BadGateway and Unavailable."""
    token = _access_token()
    for last in (False, True):
        query = {
            "access_token": token,
            "openid": openid,
            "signature": sign(session_key),
            "sig_method": "hmac_sha256",
        }
        answer = _call("/wxa/checksession", query)
        if _errcode(answer) in _REFUSED_TOKENS and not last:
            token = _access_token(refused=token)
            continue
        break
    if _errcode(answer) in _SESSION_OVER:
        return False
    if _errcode(answer):
        _fail("/wxa/checksession", _errcode(answer))
    return True


def sign(session_key: str, body: str = "") -> str:
    """Return a body's signature with a session key. The key is its text itself, not the bytes that its base64 stands for."""
    return hmac.new(session_key.encode(), body.encode(), hashlib.sha256).hexdigest()


def _application(*, website: bool) -> tuple[str, str]:
    appid, secret = aws.read_wechat_application(website=website)
    if not (appid and secret):
        raise Unavailable("wechat_not_configured", "This way to sign in is not set up.")
    return appid, secret


def _person(answer: dict[str, Any], *, with_session: bool) -> Person:
    if _errcode(answer):
        _fail("code", _errcode(answer))
    openid, unionid, session_key = (answer.get(name) or None for name in ("openid", "unionid", "session_key"))
    given = [openid, *([unionid] if unionid else []), *([session_key] if with_session else [])]
    if not all(isinstance(value, str) and re.fullmatch(r"[!-~]{1,256}", value) for value in given):
        _fail("code", "nobody")
    return Person(str(openid), unionid, session_key if with_session else None)


def _access_token(refused: str | None = None) -> str:
    """Return the token for calls in the mini program's own name, one for all instances. Get a new one if it equals `refused`.

    WeChat returns the same token to every request while it is valid, so two requests at once do no harm.
    """
    appid, secret = _application(website=False)
    now = clock.now()
    pk, sk = "wechat", f"access_token#{appid}"
    if shared := lookup.find(Record, pk, sk):
        known = str(shared.data["token"])
        if known != refused and (shared.at or 0) - TOKEN_MARGIN_SECONDS > now:
            return known
    answer = _call("/cgi-bin/stable_token", body={"grant_type": "client_credential", "appid": appid, "secret": secret})
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not (isinstance(token, str) and token and isinstance(seconds, int)):
        _fail("/cgi-bin/stable_token", _errcode(answer) or "no token")
    Record(pk, sk, data={"token": token}, at=now + seconds, ttl=int(now) + seconds).save()
    return token


def _call(path: str, query: dict[str, str] | None = None, body: dict[str, str] | None = None) -> dict[str, Any]:
    """Return WeChat's answer, with any errcode. A busy answer is tried again, up to ATTEMPTS calls in all."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    pause = 0.2
    for _ in range(ATTEMPTS - 1):
        answer = _answer(path, query, body)
        if _errcode(answer) != _BUSY or time.monotonic() > give_up_at:
            return answer
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause *= 2
    return _answer(path, query, body)


def _answer(path: str, query: dict[str, str] | None, body: dict[str, str] | None) -> dict[str, Any]:
    address = f"{settings.WECHAT_BASE_URL}{path}{'?' + urlencode(query) if query else ''}"
    try:
        with _pool() as pool:
            response = pool.request("POST" if body else "GET", address, json=body)
        answer = json.loads(response.data)  # in spite of its content type: WeChat sends text/plain
    except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        _fail(path, type(error).__name__)
    if response.status != 200 or not isinstance(answer, dict):
        _fail(path, response.status)
    return answer


def _errcode(answer: dict[str, Any]) -> int:
    code = answer.get("errcode", 0)
    return code if isinstance(code, int) else _BUSY


def _fail(call: str, reason: int | str) -> NoReturn:
    """Raise the error that WeChat's errcode, or another `reason` for a missing answer, means to our caller."""
    if error := _map_error(reason):
        raise error from None
    logger.warning("wechat", extra={"call": call, "reason": reason})
    raise BadGateway("wechat_fault", "WeChat failed, or refused the request. Try again.") from None


def _map_error(reason: int | str) -> AideerError | None:
    if reason in _BAD_CODES:
        return Unauthorized(
            "wechat_code_invalid", "WeChat does not accept this code, or it has expired. Sign in again."
        )
    if reason == _CODE_USED:
        return Unauthorized("wechat_code_used", "This code was used before. Sign in again.")
    if reason == _BLOCKED:
        return Forbidden("wechat_user_blocked", "WeChat does not let this user sign in.")
    if reason == _TOO_OFTEN:
        detail = "WeChat says that this was too often. Try again later."
        return TooManyRequests("wechat_too_often", detail, retry_after=_TOO_OFTEN_SECONDS)
    return None


def _pool() -> urllib3.PoolManager:
    # One pool for each call. A kept connection dies while Lambda is frozen, and a request sent on it could not be repeated. The
    # option retries=False prevents redirects, and repetitions, which would use a code twice.
    timeout = urllib3.Timeout(connect=2.0, read=4.0)
    return urllib3.PoolManager(ssl_context=_tls(), timeout=timeout, retries=False)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # cached: reading all certificates takes longer than a call
