"""WeChat's protocol: whom a code stands for, whether a session is still valid, and where a website sends people to sign in.

What always holds: codes, secrets, session keys and tokens reach neither a log nor an error. Only the operator says where WeChat is
(settings), and no answer of its takes us anywhere else. A code is sent once: where no answer came it may have been used up, so that
asking again would only say so. "Busy" (-1) is asked again; everything else that is no answer is a fault of WeChat's (502).

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
from aws_lambda_powertools import Logger

from aideer import aws, clock, settings
from aideer.errors import AideerError, BadGateway, Forbidden, TooManyRequests, Unauthorized, Unavailable
from aideer.models import Record

ATTEMPTS = 3
PATIENCE_SECONDS = 8.0
"""Nothing is asked again after this."""
TOKEN_MARGIN_SECONDS = 300
"""An access token is renewed so long before its end: for as long WeChat lets the old one live beside the new one."""
_TOO_OFTEN_SECONDS = 60  # WeChat's limits are per minute

_BUSY = -1
_CODE_USED = 40163
_BAD_CODES = {40029, 42003, 41008}  # wrong, expired, empty
_BLOCKED = 40226
_TOO_OFTEN = 45011
_REFUSED_TOKENS = {40001, 40014, 42001}
_SESSION_OVER = {87009, 40003}  # 40003: an openid of another app than the one that is configured now

logger = Logger(service="aideer")
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # at DEBUG it logs addresses, and ours hold secrets


class Person(NamedTuple):
    """Who signed in. The openid is theirs in one application, the unionid in all of one account at the open platform."""

    openid: str
    unionid: str | None = None
    session_key: str | None = None  # of mini programs only


def mini_program(code: str) -> Person:
    """Whom a mini program's code stands for.

    Raises Unauthorized (a bad code), Forbidden (WeChat blocks them), TooManyRequests, BadGateway and Unavailable (not set up).
    """
    appid, secret = _application(website=False)
    query = {"appid": appid, "secret": secret, "js_code": code, "grant_type": "authorization_code"}
    return _person(_call("/sns/jscode2session", query), with_session=True)


def website(code: str) -> Person:
    """Whom the code stands for that WeChat's page has sent back. Raises as `mini_program` does."""
    appid, secret = _application(website=True)
    query = {"appid": appid, "secret": secret, "code": code, "grant_type": "authorization_code"}
    return _person(_call("/sns/oauth2/access_token", query), with_session=False)


def website_login_url(callback: str, state: str) -> str:
    """WeChat's page with the QR code, from which a person comes back to `callback`. Raises Unavailable (not set up)."""
    appid, _ = _application(website=True)
    query = {
        "appid": appid,
        "redirect_uri": callback,
        "response_type": "code",
        "scope": "snsapi_login",
        "state": state,
    }
    return f"{settings.WECHAT_OPEN_URL}/connect/qrconnect?{urlencode(query)}#wechat_redirect"


def session_is_valid(openid: str, session_key: str) -> bool:
    """Whether the mini program's session of this person goes on. Raises TooManyRequests, BadGateway and Unavailable."""
    token = _access_token()
    for last in (False, True):
        query = {
            "access_token": token,
            "openid": openid,
            "signature": signature(session_key),
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


def signature(session_key: str, body: str = "") -> str:
    """A body signed with a session key, which is taken as the text that it is: not as the bytes that its base64 stands for."""
    return hmac.new(session_key.encode(), body.encode(), hashlib.sha256).hexdigest()


def _application(*, website: bool) -> tuple[str, str]:
    appid, secret = aws.wechat_application(website=website)
    if not (appid and secret):
        raise Unavailable("wechat_not_configured", "Signing in this way is not set up here.")
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
    """The token for calls in the mini program's own name, one for all instances; a new one in the place of what was refused.

    WeChat gives the same token to all who ask while it lives, so nothing is lost where two ask at once.
    """
    appid, secret = _application(website=False)
    now = clock.now()
    shared = Record("wechat", f"access_token#{appid}")
    try:
        shared.refresh(consistent_read=True)
    except Record.DoesNotExist:
        pass
    else:
        known = str(shared.data["token"])
        if known != refused and (shared.at or 0) - TOKEN_MARGIN_SECONDS > now:
            return known
    answer = _call("/cgi-bin/stable_token", body={"grant_type": "client_credential", "appid": appid, "secret": secret})
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not (isinstance(token, str) and token and isinstance(seconds, int)):
        _fail("/cgi-bin/stable_token", _errcode(answer) or "no token")
    Record(shared.pk, shared.sk, data={"token": token}, at=now + seconds, ttl=int(now) + seconds).save()
    return token


def _call(path: str, query: dict[str, str] | None = None, body: dict[str, str] | None = None) -> dict[str, Any]:
    """WeChat's answer, whatever its errcode; a busy one is asked again a few times."""
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
        answer = json.loads(response.data)  # whatever its type is said to be: WeChat says text/plain
    except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        _fail(path, type(error).__name__)
    if response.status != 200 or not isinstance(answer, dict):
        _fail(path, response.status)
    return answer


def _errcode(answer: dict[str, Any]) -> int:
    code = answer.get("errcode", 0)
    return code if isinstance(code, int) else _BUSY


def _fail(call: str, reason: int | str) -> NoReturn:
    """Raise what WeChat's errcode, or what came in the place of an answer, means to our caller."""
    if error := _ours(reason):
        raise error from None
    logger.warning("wechat", extra={"call": call, "reason": reason})
    raise BadGateway("wechat_fault", "WeChat has a fault, or refuses to be asked. Try again.") from None


def _ours(reason: int | str) -> AideerError | None:
    if reason in _BAD_CODES:
        return Unauthorized("wechat_code_invalid", "WeChat does not know this code (any more). Sign in once more.")
    if reason == _CODE_USED:
        return Unauthorized("wechat_code_used", "This code has been used. Sign in once more.")
    if reason == _BLOCKED:
        return Forbidden("wechat_user_blocked", "WeChat does not let this user sign in.")
    if reason == _TOO_OFTEN:
        detail = "WeChat says that this was too often. Try again later."
        return TooManyRequests("wechat_too_often", detail, retry_after=_TOO_OFTEN_SECONDS)
    return None


def _pool() -> urllib3.PoolManager:
    # One for each call: a connection that was kept has died where Lambda was frozen for a while, and what was sent on it could not
    # be sent again. retries=False: neither repetitions, which would use a code twice, nor redirects.
    timeout = urllib3.Timeout(connect=2.0, read=4.0)
    return urllib3.PoolManager(ssl_context=_tls(), timeout=timeout, retries=False)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading all certificates takes longer than a call does
