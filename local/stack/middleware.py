"""ASGI middleware of the local stack: checks of hosts and web origins, and a log line for each request.

A web page in a developer's browser must not use the stack: it has well-known passwords, and perhaps a real provider's key. So
only pages of listed origins may read answers. A foreign name that points at 127.0.0.1 (DNS rebinding) reaches no service.
"""

import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DEFAULT_PORT = 80
"""The port of http: a Host without a port means this one."""
MOST_PATH = 200

App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def loopback_hosts(port: int) -> set[str]:
    """Return the Host values with which programs on this machine reach one of its ports."""
    return {f"{name}:{port}" for name in LOOPBACK} | (set(LOOPBACK) if port == DEFAULT_PORT else set())


class Guard:
    """Refuses requests under foreign names, and removes CORS headers from answers to foreign pages.

    Parameters
    ----------
    app
        The guarded app. Its own CORS headers name the methods and headers that a listed page may use.
    hosts
        Values of Host, in lower case. A value without a port stands for all ports.
    origins
        Origins whose pages may read answers. "*" allows all.
    """

    def __init__(self, app: App, hosts: Collection[str], origins: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        host, origin = given.get(b"host", b"").decode("latin-1"), given.get(b"origin", b"").decode("latin-1")
        if not self._knows(host.lower()):
            await refuse(
                send, f"This stack does not answer to {host or 'a request without Host'}: ALLOWED_HOSTS may name it."
            )
            return
        is_own = origin == f"http://{host}"  # a browser needs no CORS there, and the page's modules are many answers
        listed = bool(origin) and not is_own and ("*" in self._origins or origin.lower() in self._origins)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _cors(message.get("headers", ()), origin if listed else None)}
            await send(message)

        await self._app(scope, receive, guarded)

    def _knows(self, host: str) -> bool:
        return host in self._hosts or host.rpartition(":")[0] in self._hosts


def _cors(headers: Collection[tuple[bytes, bytes]], origin: str | None) -> Headers:
    """Return the headers with CORS for this origin alone, or without CORS if there is none."""
    kept: Headers = []
    for name, value in headers:
        if not name.lower().startswith(b"access-control-"):
            kept.append((name, value))
        elif origin and name.lower() == b"access-control-allow-origin":
            kept += [(name, origin.encode("latin-1")), (b"Vary", b"Origin")]
        elif origin:
            kept.append((name, value))
    return kept


async def refuse(send: Any, message: str) -> None:
    """Answer 403, as API Gateway does for a foreign host name."""
    body = json.dumps({"message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestLog:
    """Writes a line for each request when its answer ends: method, path, status, milliseconds.

    It leaves out the query, which contains tickets and codes, and all headers. The path stays percent-encoded, so it cannot
    contain a line break or a terminal command.
    """

    def __init__(self, app: App, write: Callable[[str], object]) -> None:
        self._app = app
        self._write = write

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), "left"

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
            took = (time.perf_counter() - began) * 1000
            self._write(f"{scope['method']} {_printable(path)} {status} {took:.0f} ms")


def _printable(path: str) -> str:
    shown = "".join(letter if "!" <= letter <= "~" else "?" for letter in path)
    return shown if len(shown) <= MOST_PATH else f"{shown[:MOST_PATH]}..."
