"""A simulated WeChat that speaks the real protocol, for `make run` without an app id and for tests.

    python -m local.simulators.wechat --port 8898      prints "READY http://127.0.0.1:8898"

It has two applications, a mini program and a website, bound to one account at the open platform. It accepts every user name. The
openid follows from the name and the application. The unionid follows from the name alone.

    GET  /sns/jscode2session, /sns/oauth2/access_token, /wxa/checksession, POST /cgi-bin/stable_token    as WeChat's, in text/plain
    GET  /connect/qrconnect       WeChat's page: choose a user, and return to the website; ?as=ada chooses at once
    GET  /__code?as=ada           {"code": …} of the mini program, as wx.login gives it; &app=web of the website, &unionid=no
    POST /__invalidate?as=ada     ends this user's session: checksession answers 87009 until the next sign-in
    POST /__expire                makes all access tokens and codes expire
    POST /__fail?path=/sns/jscode2session&errcode=-1&times=2      the next calls fail; or with how=http503, html, drop or stall
    GET  /__requests, POST /__reset

A code works once, for five minutes. Without an app id, WeChat's developer tools always give the code MOCK_CODE. Here it signs one
user in, again and again. Access tokens live two hours, and a repeated request returns the same token. Signed requests need
WeChat's signature. Tests run it in their own process: `with Server() as server: ... server.base_url`.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import html
import json
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from aiohttp import web

from local.simulators.base import Simulation
from local.stack.settings import SIMULATED_WECHAT

CODE_SECONDS = 300
MOCK_CODE = "the code is a mock one"
"""The code that wx.login has in WeChat's developer tools with the app id `touristappid`."""
TOURIST = "tourist"
"""The user of that code."""
TOKEN_SECONDS = 7200
APPS = {
    "mini": (SIMULATED_WECHAT["wechat_appid"], SIMULATED_WECHAT["wechat_secret"]),
    "web": (SIMULATED_WECHAT["wechat_web_appid"], SIMULATED_WECHAT["wechat_web_secret"]),
}
"""App id and secret of each application."""
PEOPLE = ("ada", "bo", "小鹿")
"""The users that the page offers."""
FAULTS = frozenset({"http503", "html", "drop", "stall"})

Refusal = tuple[int, str]
_BAD_APPID: Refusal = (40013, "invalid appid")
_BAD_SECRET: Refusal = (40125, "invalid appsecret")
_BAD_GRANT: Refusal = (40002, "invalid grant_type")
_NO_CODE: Refusal = (41008, "missing code")
_BAD_CODE: Refusal = (40029, "invalid code")
_USED_CODE: Refusal = (40163, "code been used")
_OLD_TOKEN: Refusal = (42001, "access_token expired")
_BAD_TOKEN: Refusal = (40001, "invalid credential, access_token is invalid or not latest")
_BAD_OPENID: Refusal = (40003, "invalid openid")
_BAD_SIGNATURE: Refusal = (87009, "invalid signature")


@dataclass
class _Code:
    app: str
    openid: str
    unionid: str | None
    made_at: float
    used: bool = False


@dataclass
class _Fault:
    path: str
    times: int
    errcode: int | None
    how: str


@dataclass
class _State:
    codes: dict[str, _Code] = field(default_factory=dict)
    session_keys: dict[str, str] = field(default_factory=dict)  # keys are openids
    token: str = ""
    token_ends: float = 0.0
    old_tokens: set[str] = field(default_factory=set)
    faults: list[_Fault] = field(default_factory=list)
    seen: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=5000))


def openid(person: str, app: str = "mini") -> str:
    """Return a person's openid in an application."""
    return "o" + _digest(f"{APPS[app][0]} {person}")[:27]


def unionid(person: str) -> str:
    """Return a person's unionid."""
    return "u" + _digest(person)[:27]


class Server(Simulation):
    """The simulated WeChat."""

    NAME = "WeChat"

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self._state = _State()
        self._lock = threading.RLock()

    # In-process control

    def code(self, person: str, app: str = "mini", *, with_unionid: bool = True) -> str:
        """Return a code, as this person's phone or the website's page would receive it."""
        with self._lock:
            code = secrets.token_urlsafe(24)
            union = unionid(person) if with_unionid else None
            self._state.codes[code] = _Code(app, openid(person, app), union, time.time())
            return code

    def invalidate(self, person: str) -> None:
        """End this person's session of the mini program."""
        with self._lock:
            self._state.session_keys.pop(openid(person), None)

    def expire(self) -> None:
        """Make all codes and access tokens expire."""
        with self._lock:
            self._state.token_ends = 0.0
            for code in self._state.codes.values():
                code.made_at -= CODE_SECONDS + 1

    def fail(self, path: str, errcode: int | None = None, *, how: str = "", times: int = 1) -> None:
        """Answer the next calls of this path with an errcode, or with one of FAULTS."""
        with self._lock:
            self._state.faults.append(_Fault(path, times, errcode, how))

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """Return the recorded requests as {path, query, body}. With `path`, return only those of this path."""
        with self._lock:
            return [request for request in self._state.seen if not path or request["path"] == path]

    def reset(self) -> None:
        """Clear the recorded requests and the pending faults."""
        with self._lock:
            self._state.seen.clear()
            self._state.faults.clear()

    def application(self) -> web.Application:
        """Return WeChat's API, with the endpoints that control it by hand."""
        app = web.Application(middlewares=[self._watched])
        routes: list[tuple[str, str, Any]] = [
            ("GET", "/sns/jscode2session", self._jscode2session),
            ("GET", "/sns/oauth2/access_token", self._oauth2),
            ("GET", "/wxa/checksession", self._checksession),
            ("POST", "/cgi-bin/stable_token", self._stable_token),
            ("GET", "/connect/qrconnect", self._qrconnect),
            ("GET", "/__code", self._give_code),
            ("POST", "/__invalidate", self._do_invalidate),
            ("POST", "/__expire", self._do_expire),
            ("POST", "/__fail", self._do_fail),
            ("GET", "/__requests", self._list_requests),
            ("POST", "/__reset", self._do_reset),
        ]
        for method, path, handle in routes:
            app.router.add_route(method, path, handle)
        return app

    # WeChat's API

    @web.middleware
    async def _watched(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        if request.path.startswith("/__") or request.path == "/connect/qrconnect":
            return await handler(request)  # type: ignore[no-any-return]
        with self._lock:
            body = (await request.read()).decode(errors="replace")
            self._state.seen.append({"path": request.path, "query": dict(request.query), "body": body})
            fault = self._struck(request.path)
        if fault and fault.errcode is not None:
            return _refuse((fault.errcode, "injected"))
        match fault.how if fault else "":
            case "http503":
                return web.Response(status=503, text="Service Unavailable")
            case "html":
                return web.Response(text="<html><body>busy</body></html>", content_type="text/html")
            case "stall":
                await asyncio.Event().wait()
            case "drop":
                if request.transport:
                    request.transport.abort()
        return await handler(request)  # type: ignore[no-any-return]

    def _struck(self, path: str) -> _Fault | None:
        for fault in self._state.faults:
            if fault.path == path:
                fault.times -= 1
                if not fault.times:
                    self._state.faults.remove(fault)
                return fault
        return None

    async def _jscode2session(self, request: web.Request) -> web.Response:
        code, refusal = self._use(request.query.get("js_code", ""), request.query, "mini")
        if code is None:
            return _refuse(refusal)
        with self._lock:
            key = self._state.session_keys.setdefault(code.openid, base64.b64encode(secrets.token_bytes(16)).decode())
        answer = {"session_key": key, "openid": code.openid}
        return _answer({**answer, "unionid": code.unionid} if code.unionid else answer)

    async def _oauth2(self, request: web.Request) -> web.Response:
        code, refusal = self._use(request.query.get("code", ""), request.query, "web")
        if code is None:
            return _refuse(refusal)
        answer = {
            "access_token": secrets.token_urlsafe(48),
            "expires_in": TOKEN_SECONDS,
            "refresh_token": secrets.token_urlsafe(48),
            "openid": code.openid,
            "scope": "snsapi_login",
        }
        return _answer({**answer, "unionid": code.unionid} if code.unionid else answer)

    def _use(self, text: str, query: Any, app: str) -> tuple[_Code | None, Refusal]:
        appid, secret = APPS[app]
        if query.get("appid") != appid:
            return None, _BAD_APPID
        if query.get("secret") != secret:
            return None, _BAD_SECRET
        if query.get("grant_type") != "authorization_code":
            return None, _BAD_GRANT
        if not text:
            return None, _NO_CODE
        with self._lock:
            if text == MOCK_CODE:
                self._state.codes[text] = _Code("mini", openid(TOURIST), unionid(TOURIST), time.time())
            code = self._state.codes.get(text)
            if code is None or code.app != app or time.time() > code.made_at + CODE_SECONDS:
                return None, _BAD_CODE
            if code.used:
                return None, _USED_CODE
            code.used = True
            return code, _BAD_CODE

    async def _checksession(self, request: web.Request) -> web.Response:
        query = request.query
        with self._lock:
            if query.get("access_token") != self._state.token:
                return _refuse(_OLD_TOKEN if query.get("access_token") in self._state.old_tokens else _BAD_TOKEN)
            if time.time() > self._state.token_ends:
                return _refuse(_OLD_TOKEN)
            known = {code.openid for code in self._state.codes.values() if code.app == "mini"}
            if query.get("openid", "") not in known:
                return _refuse(_BAD_OPENID)
            key = self._state.session_keys.get(query["openid"])
        expected = hmac.new((key or "").encode(), b"", hashlib.sha256).hexdigest()
        given = query.get("signature", "")
        if key is None or query.get("sig_method") != "hmac_sha256" or not hmac.compare_digest(expected, given):
            return _refuse(_BAD_SIGNATURE)
        return _answer({"errcode": 0, "errmsg": "ok"})

    async def _stable_token(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read())
            given = (body["grant_type"], body["appid"], body["secret"])
        except (ValueError, TypeError, KeyError):
            return _refuse((47001, "data format error"))
        if given[0] != "client_credential":
            return _refuse(_BAD_GRANT)
        if given[1:] != APPS["mini"]:
            return _refuse(_BAD_APPID if given[1] != APPS["mini"][0] else _BAD_SECRET)
        with self._lock:
            now = time.time()
            if now > self._state.token_ends or body.get("force_refresh") is True:
                self._state.old_tokens.add(self._state.token)
                self._state.token, self._state.token_ends = secrets.token_urlsafe(64), now + TOKEN_SECONDS
            return _answer({"access_token": self._state.token, "expires_in": int(self._state.token_ends - now)})

    # WeChat's page

    async def _qrconnect(self, request: web.Request) -> web.Response:
        query = request.query
        if (
            query.get("appid") != APPS["web"][0]
            or not query.get("redirect_uri")
            or query.get("scope") != "snsapi_login"
        ):
            return web.Response(status=400, text="appid, redirect_uri or scope is wrong")
        if not re.fullmatch(r"[A-Za-z0-9]{0,128}", query.get("state", "")):
            return web.Response(status=400, text="state is more than 128 letters and digits")
        if "as" in query:
            back = {"state": query.get("state", "")}
            if query["as"]:  # without a name, the user declined
                back = {"code": self.code(query["as"], "web"), **back}
            parts = urlsplit(query["redirect_uri"])
            joined = "&".join(filter(None, [parts.query, urlencode(back)]))
            return web.Response(status=302, headers={"Location": urlunsplit(parts._replace(query=joined))})
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in query.items()
        )
        people = "".join(f'<button name="as" value="{person}">{person}</button> ' for person in PEOPLE)
        page = f"""<!doctype html><meta charset="utf-8"><title>Simulated WeChat</title>
<h1>Simulated WeChat</h1><p>Who scans the code?</p><form>{hidden}{people}<button name="as" value="">nobody</button></form>
<form>{hidden}<input name="as" placeholder="somebody else" required> <button>sign in</button></form>"""
        return web.Response(text=page, content_type="text/html")

    # By hand

    async def _give_code(self, request: web.Request) -> web.Response:
        person, app = request.query.get("as") or PEOPLE[0], request.query.get("app", "mini")
        if app not in APPS:
            return web.json_response({"error": f"app is one of {', '.join(APPS)}"}, status=400)
        return web.json_response({"code": self.code(person, app, with_unionid=request.query.get("unionid") != "no")})

    async def _do_invalidate(self, request: web.Request) -> web.Response:
        self.invalidate(request.query.get("as") or PEOPLE[0])
        return web.json_response({})

    async def _do_expire(self, _: web.Request) -> web.Response:
        self.expire()
        return web.json_response({})

    async def _do_fail(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            errcode = int(query["errcode"]) if "errcode" in query else None
            times = int(query.get("times", "1"))
        except ValueError:
            return web.json_response({"error": "errcode and times are numbers"}, status=400)
        if not query.get("path") or (errcode is None and query.get("how") not in FAULTS):
            return web.json_response({"error": f"path, and errcode or how={'|'.join(sorted(FAULTS))}"}, status=400)
        self.fail(query["path"], errcode, how=query.get("how", ""), times=max(times, 1))
        return web.json_response({})

    async def _list_requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests())

    async def _do_reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _answer(answer: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps(answer, ensure_ascii=False), content_type="text/plain")


def _refuse(refusal: Refusal) -> web.Response:
    errcode, message = refusal
    return _answer({"errcode": errcode, "errmsg": f"{message}, rid: {secrets.token_hex(4)}-{secrets.token_hex(4)}"})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.simulators.wechat", description="A simulated WeChat on loopback."
    )
    parser.add_argument("--port", type=int, default=8898)
    Server(parser.parse_args().port).serve()


if __name__ == "__main__":
    main()
