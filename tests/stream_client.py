"""The stream's two doors, as they are knocked at in production."""

import asyncio
import base64
import threading
from typing import Any

import httpx

from tasks import stream
from tests.support import Answer, Context, http_event, in_loop
from tests.waiting import PATIENCE_SECONDS


def streamed(path: str, **headers: str) -> httpx.Response:
    """The Lambda URL's door."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(stream.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stream.test") as client:
            return await client.get(path, headers=headers)

    return in_loop(ask())


def asked(body: Any, token: str | None = None, /, **headers: str) -> httpx.Response:
    """POST /tasks/stream, at the Lambda URL's door."""
    return requested("POST", "/api/v1/tasks/stream", body, token, **headers)


def requested(method: str, path: str, body: Any, token: str | None = None, /, **headers: str) -> httpx.Response:
    """A call at the Lambda URL's door, to its end. The body is bytes, or is sent as JSON. None is no body."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(stream.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stream.test") as client:
            sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}
            content = {"content": body} if body is None or isinstance(body, bytes) else {"json": body}
            return await client.request(method, path, headers=sent, **content)

    return in_loop(ask())


def waited(path: str, task_id: str, token: str | None = None, **headers: str) -> Answer:
    """The HTTP API's door, in a thread with an event loop of its own, as Lambda's main thread has one."""
    event = http_event("GET", path, token=token, headers=headers, parameters={"id": task_id})
    results: list[dict[str, Any]] = []

    def invoke() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            results.append(stream.handler(event, Context()))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=invoke)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    [result] = results
    body = base64.b64decode(result["body"]).decode() if result["isBase64Encoded"] else result["body"]
    return Answer(result["statusCode"], result["headers"], body)
