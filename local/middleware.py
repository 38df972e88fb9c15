"""ASGI middleware of what the local stack serves: who may reach it, from which web pages, and a line for each request.

A web page that a developer has open in the same browser must not use the stack: it has well-known passwords, and perhaps a real
key of a provider. So answers may be read by pages of listed origins alone, and a name that somebody else points at 127.0.0.1 (DNS
rebinding) reaches nothing.
"""

import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DEFAULT_PORT = 80
"""Of http: a Host without a port means this one."""
MOST_PATH = 200

App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def loopback_hosts(port: int) -> set[str]:
    """Return the values of Host by which this machine's programs reach a port of its own."""
    return {f"{name}:{port}" for name in LOOPBACK} | (set(LOOPBACK) if port == DEFAULT_PORT else set())


class Guard:
    """Refuses requests under foreign names, and takes CORS headers off the answers to foreign pages.

    Parameters
    ----------
    app
        What is guarded. Its own CORS headers say which methods and headers a listed page may use.
    hosts
        Values of Host, in lower case; one without a port stands for all ports.
    origins
        Origins whose pages may read answers; "*" is all.
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
        listed = bool(origin) and ("*" in self._origins or origin.lower() in self._origins)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _cors(message.get("headers", ()), origin if listed else None)}
            await send(message)

        await self._app(scope, receive, guarded)

    def _knows(self, host: str) -> bool:
        return host in self._hosts or host.rpartition(":")[0] in self._hosts


def _cors(headers: Collection[tuple[bytes, bytes]], origin: str | None) -> Headers:
    """CORS headers for this origin alone; for none, there are none."""
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
    """Answer 403, as API Gateway does to a name that is not its own."""
    body = json.dumps({"message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestLog:
    """Writes a line for each request when its answer is over: method, path, status, milliseconds.

    The query is left out, because tickets and codes are in it, and so is every header. The path stays percent-encoded, so that
    nothing in it can be taken for another line or command a terminal.
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
