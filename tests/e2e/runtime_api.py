"""A stand-in for Lambda's Runtime API and Extensions API, as AWS documents them, for one execution environment.

An extension registers, and Lambda's init is over when the runtime asks for its first invocation. A streamed response is a chunked
POST: a JSON prelude with status, headers and cookies, eight NUL bytes, and then the body. The stand-in keeps each HTTP chunk as it
came. As on AWS, it reads a response to its end, even if nobody wants it any more, and an environment has one invocation at a time.
"""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from local.simulators.base import Simulation
from tests.waiting import PATIENCE_SECONDS

SEPARATOR = bytes(8)
CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
URL_HOST = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"
TIMEOUT_SECONDS = 660.0
"""The streaming function's, in template.yaml."""


class Invocation:
    """One invocation, and what has come of its response so far."""

    def __init__(self, event: Any, seconds: float) -> None:
        self.id = str(uuid.uuid4())
        self.event = json.dumps(event)
        self.deadline = time.time() + seconds
        self.mode = self.content_type = ""
        self.chunks: list[bytes] = []
        """The HTTP chunks of the response, as they came."""
        self.error: Any = None
        """The reported error, if the invocation failed."""
        self.over = False
        self._changed = threading.Condition()

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until the response meets a condition, and return its value."""
        with self._changed:
            value = self._changed.wait_for(condition, PATIENCE_SECONDS)
        assert value, f"not within {PATIENCE_SECONDS:.0f} s: {what}; this came: {b''.join(self.chunks)!r} {self.error}"
        return value

    def wait(self) -> "Invocation":
        """Wait until the response is over."""
        self.wait_for(lambda: self.over, "the end of the response")
        return self

    def wait_for_text(self, text: str) -> None:
        """Wait until this text is in the body."""
        self.wait_for(lambda: text in self.text, f"{text!r} in the body")

    @property
    def has_begun(self) -> bool:
        """Whether the prelude has come, or an error instead."""
        return self.error is not None or SEPARATOR in b"".join(self.chunks)

    @property
    def prelude(self) -> dict[str, Any]:
        """Status, headers and cookies: {statusCode, headers, cookies}."""
        assert self.error is None, self.error
        prelude, separator, _ = b"".join(self.chunks).partition(SEPARATOR)
        assert separator, "no prelude yet"
        read: dict[str, Any] = json.loads(prelude)
        return read

    @property
    def status(self) -> int:
        return int(self.prelude["statusCode"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.prelude["headers"].items()}

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks).partition(SEPARATOR)[2]

    @property
    def text(self) -> str:
        return self.body.decode(errors="ignore")  # a chunk may end within a character

    @property
    def body_chunks(self) -> list[bytes]:
        """The chunks of the body, without those of the prelude."""
        pieces, before = [], b""
        for chunk in self.chunks:
            if SEPARATOR in before:
                pieces.append(chunk)
            before += chunk
        return pieces

    def change(self, **values: Any) -> None:
        """Set attributes, and wake whoever waits."""
        with self._changed:
            vars(self).update(values)
            self._changed.notify_all()

    def add(self, chunk: bytes) -> None:
        """Add a chunk of the response."""
        with self._changed:
            self.chunks.append(chunk)
            self._changed.notify_all()


class RuntimeApi(Simulation):
    """The two APIs of one environment. `address` is the value of AWS_LAMBDA_RUNTIME_API on this machine."""

    NAME = "Runtime API"

    def __init__(self, host: str) -> None:
        super().__init__(0, host)
        self.extensions: dict[str, list[str]] = {}
        """The registered extensions, each with the events that it wants."""
        self.init_errors: list[Any] = []
        self._coming: asyncio.Queue[Invocation] = asyncio.Queue()
        self._under_way: dict[str, Invocation] = {}
        self._state = threading.Condition()
        self._asked = False

    @property
    def address(self) -> str:
        return self.base_url.removeprefix("http://")

    def invoke(self, event: Any, seconds: float = TIMEOUT_SECONDS) -> Invocation:
        """Invoke the function with an event. It has `seconds` until its deadline."""
        assert self._loop
        invocation = Invocation(event, seconds)
        self._loop.call_soon_threadsafe(self._coming.put_nowait, invocation)
        return invocation

    @property
    def is_idle(self) -> bool:
        """Whether the runtime asks for an invocation, and there is none."""
        return self._asked and self._coming.empty()

    def wait_until_idle(self) -> None:
        """Wait until the runtime asks for an invocation and there is none. Lambda freezes the environment then."""
        with self._state:
            idle = self._state.wait_for(lambda: self.is_idle, PATIENCE_SECONDS)
        assert idle, f"the runtime does not ask for an invocation; errors: {self.init_errors}"

    def application(self) -> web.Application:
        """Return both APIs."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        runtime, extension = "/2018-06-01/runtime", "/2020-01-01/extension"
        app.router.add_get(f"{runtime}/invocation/next", self._next)
        app.router.add_post(f"{runtime}/invocation/{{id}}/response", self._respond)
        app.router.add_post(f"{runtime}/invocation/{{id}}/error", self._fail)
        app.router.add_post(f"{extension}/register", self._register)
        app.router.add_get(f"{extension}/event/next", self._next_event)
        for path in (f"{runtime}/init/error", f"{extension}/init/error", f"{extension}/exit/error"):
            app.router.add_post(path, self._fail_init)
        return app

    async def _next(self, _: web.Request) -> web.Response:
        self._set_asked(True)
        try:
            invocation = await self._coming.get()
        finally:
            self._set_asked(False)
        self._under_way[invocation.id] = invocation
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:stream",
            "Lambda-Runtime-Trace-Id": "Root=1-6921b2c0-3f8e1a7d5c9b40e26d1f8a3c;Sampled=0",
        }
        return web.Response(text=invocation.event, content_type="application/json", headers=headers)

    async def _respond(self, request: web.Request) -> web.Response:
        invocation = self._under_way.pop(request.match_info["id"])
        mode = request.headers.get("Lambda-Runtime-Function-Response-Mode", "buffered")
        invocation.change(mode=mode, content_type=request.headers.get("Content-Type", ""))
        try:
            chunk = b""
            async for piece, is_whole in request.content.iter_chunks():
                chunk += piece
                if is_whole and chunk:
                    invocation.add(chunk)
                    chunk = b""
        except (asyncio.CancelledError, OSError):
            invocation.change(error="the environment ended during the response")
            raise
        finally:
            invocation.change(over=True)
        return web.json_response({"status": "OK"}, status=202)

    async def _fail(self, request: web.Request) -> web.Response:
        self._under_way.pop(request.match_info["id"]).change(error=await request.json(), over=True)
        return web.json_response({"status": "OK"}, status=202)

    async def _register(self, request: web.Request) -> web.Response:
        name = request.headers["Lambda-Extension-Name"]
        self.extensions[name] = (await request.json())["events"]
        body = {"functionName": "stream", "functionVersion": "$LATEST", "handler": "tasks/stream.sh"}
        return web.json_response(body, headers={"Lambda-Extension-Identifier": str(uuid.uuid4())})

    async def _next_event(self, _: web.Request) -> web.Response:
        await asyncio.Event().wait()  # the adapter wants no event
        raise AssertionError

    async def _fail_init(self, request: web.Request) -> web.Response:
        self.init_errors.append(await request.json())
        return web.json_response({"status": "OK"}, status=202)

    def _set_asked(self, asked: bool) -> None:
        with self._state:
            self._asked = asked
            self._state.notify_all()


class FunctionUrl(Simulation):
    """A Lambda URL that streams. As on AWS, the function is not told that a client has left, and a failure is a 502."""

    NAME = "Lambda URL"

    def __init__(self, api: RuntimeApi) -> None:
        super().__init__(0, "127.0.0.1")
        self._api = api
        self.invocations: list[Invocation] = []
        """All invocations, in order."""

    def application(self) -> web.Application:
        """Return an app that turns each request into an invocation."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers |= {"x-forwarded-proto": "http"}
        event = make_event(request.method, request.raw_path, headers, (await request.read()).decode())
        invocation = self._api.invoke(event)
        self.invocations.append(invocation)
        await asyncio.to_thread(invocation.wait_for, lambda: invocation.has_begun, "the prelude")
        if invocation.error is not None:
            return web.json_response({"Message": "Internal Server Error"}, status=502)
        kept = {name: value for name, value in invocation.headers.items() if name not in _HOP}
        response = web.StreamResponse(status=invocation.status, headers=kept)
        await response.prepare(request)
        sent = 0
        while not (invocation.over and sent == len(invocation.body)):
            more = partial(lambda seen: invocation.over or len(invocation.body) > seen, sent)
            await asyncio.to_thread(invocation.wait_for, more, "more of the body")
            piece = invocation.body[sent:]
            sent += len(piece)
            await response.write(piece)
        return response


_HOP = {"content-length", "transfer-encoding", "connection", "date", "server"}


def make_event(method: str, url: str, headers: dict[str, str] | None = None, body: str = "") -> dict[str, Any]:
    """Return a Lambda URL's event for a request to this path and query."""
    path, _, query = url.partition("?")
    address = {"x-forwarded-for": "203.0.113.7", "x-forwarded-port": "443", "x-forwarded-proto": "https"}
    sent = {"host": URL_HOST, **address, **(headers or {})}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": sent,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": URL_HOST.partition(".")[0],
            "domainName": URL_HOST,
            "domainPrefix": URL_HOST.partition(".")[0],
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": (headers or {}).get("user-agent", "AIDeer/1.0"),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "time": "22/Nov/2026:13:20:00 +0000",
            "timeEpoch": 1795353600000,
        },
        "isBase64Encoded": False,
        **({"body": body} if body else {}),
    }
