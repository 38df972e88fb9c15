"""The bucket of uploads, as browsers reach it: under the port of the API, whose Guard knows which pages may use it.

The embedded AWS has a port of its own, which changes, and answers to no page. So addresses that the API signs lead here, and only
what a deployed bucket would do for a browser goes on: a signed form that posts a file, and a signed address of an image.

The embedded AWS checks a signature only if all of its parts are there. Otherwise it answers as to the bucket's owner. So the door
refuses what lacks a part.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import httpx

PREFIX = "/local/s3"
MOST_BYTES = 12 * 1024 * 1024
"""The most bytes of a form: the largest file, and its fields."""
_SIGNED = frozenset({"algorithm", "credential", "date", "signature"})
_SIGNED_ADDRESS = {f"x-amz-{part}" for part in _SIGNED | {"expires", "signedheaders"}}
_SIGNED_FORM = {"policy", *(f"x-amz-{part}" for part in _SIGNED)}
_KEPT = {b"content-type", b"content-length", b"content-disposition", b"cache-control", b"etag", b"last-modified"}
_CORS = [
    (b"access-control-allow-origin", b"*"),  # the Guard replaces it by the origin of a listed page
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"*"),
]

App = Callable[[Any, Any, Any], Awaitable[None]]


class UploadsDoor:
    """Serves the bucket below PREFIX, and gives all other requests to `app`."""

    def __init__(self, app: App, endpoint: str, bucket: str) -> None:
        self._app = app
        self._endpoint = endpoint
        self._bucket = bucket
        self._client = httpx.AsyncClient(base_url=endpoint, timeout=30, trust_env=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(f"{PREFIX}/"):
            await self._app(scope, receive, send)
            return
        status, headers, body = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *_CORS]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        method, path = scope["method"], scope["path"].removeprefix(PREFIX)
        if method == "OPTIONS":
            return 204, [], b""
        if not self._is_open(method, path, scope["query_string"].decode("latin-1")):
            return 403, [], b"This address is not signed."
        body = await _read(receive)
        if body is None:
            return 413, [], b"This form is too large."
        query = scope["query_string"].decode("latin-1")
        headers = [(name, value) for name, value in scope["headers"] if name in (b"content-type", b"range")]
        if method == "POST" and not _is_signed(dict(headers).get(b"content-type", b""), body):
            return 403, [], b"This form is not signed."
        answer = await self._client.request(method, f"{path}?{query}" if query else path, headers=headers, content=body)
        kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() in _KEPT]
        return answer.status_code, kept, b"" if method == "HEAD" else answer.content

    def _is_open(self, method: str, path: str, query: str) -> bool:
        if method == "POST":
            return path.rstrip("/") == f"/{self._bucket}"
        return (
            method in ("GET", "HEAD")
            and path.startswith(f"/{self._bucket}/images/")
            and {name.lower() for name in parse_qs(query)} >= _SIGNED_ADDRESS
        )


def _is_signed(content_type: bytes, form: bytes) -> bool:
    from aideer.web import multipart  # the server has no path to it before it starts

    try:
        return {name.lower() for name in multipart.parse(content_type.decode("latin-1"), form)} >= _SIGNED_FORM
    except ValueError:
        return False


async def _read(receive: Any) -> bytes | None:
    """Return the whole body, or None if it is too large or its sender left."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(body) > MOST_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)
