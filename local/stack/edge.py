"""API Gateway's checks before it looks up a route: its limits, and a complete body.

The SAM CLI's gateway is WSGI, which does not support chunked bodies and waits for a body for ever.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

MAX_HEAD = 10_240
"""Bytes of the request line and the headers (the quotas of HTTP APIs)."""
MAX_BODY = 10 * 1024 * 1024
BODY_SECONDS = 30.0
"""The longest time in which a whole body must arrive."""
_LINE = len("  HTTP/1.1\r\n")
_FIELD = len(": \r\n")

App = Callable[[Any, Any, Any], Awaitable[None]]


class Edge:
    """Reads whole requests for `app`. It refuses a request that is too large, or that does not arrive within `seconds`."""

    def __init__(self, app: App, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _head_bytes(scope) > MAX_HEAD:
            await _refuse(send, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        try:
            body = await asyncio.wait_for(_read(receive), self._seconds)
        except TimeoutError:
            await _refuse(send, HTTPStatus.REQUEST_TIMEOUT)
            return
        except _TooLargeError:
            await _refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        if body is None:
            return
        framing = (b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in scope["headers"] if name not in framing]
        if body:
            headers.append((b"content-length", str(len(body)).encode()))
        await self._app({**scope, "headers": headers}, _replaying(body, receive), send)


class _TooLargeError(Exception):
    """The body has more than MAX_BODY bytes."""


def _head_bytes(scope: Any) -> int:
    path = scope.get("raw_path") or scope["path"].encode()
    line = len(scope["method"]) + len(path) + len(scope["query_string"]) + bool(scope["query_string"]) + _LINE
    return line + sum(len(name) + len(value) + _FIELD for name, value in scope["headers"])


async def _read(receive: Any) -> bytes | None:
    """Return the whole body, or None if the client left before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _TooLargeError
        if not message.get("more_body"):
            return bytes(body)


def _replaying(body: bytes, receive: Any) -> Callable[[], Awaitable[Any]]:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(send: Any, status: HTTPStatus) -> None:
    """Answer as API Gateway does, and close the connection, because the rest of the request is not read."""
    phrases = {413: "Request Entity Too Large"}
    body = json.dumps({"message": phrases.get(status, status.phrase)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
