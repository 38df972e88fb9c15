"""The door of /v1, as its Lambda URL is knocked at."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tests.support import in_loop
from v1 import serve

QUESTION = {"role": "user", "content": "What is a deer?"}


def call(method: str, path: str, key: str | None = None, body: Any = None, **headers: str) -> httpx.Response:
    """One call of /v1, to its end."""

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, path, **content(body))

    return connected(ask, key, **headers)


def connected(
    ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]], key: str | None, **headers: str
) -> httpx.Response:
    """What this asks of /v1 by a client with a key."""

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(serve.app)
        sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **headers}
        async with httpx.AsyncClient(transport=transport, base_url="http://v1.test", headers=sent) as client:
            return await ask(client)

    return in_loop(asking())


def content(body: Any) -> dict[str, Any]:
    """The arguments of httpx for this body."""
    if body is None or isinstance(body, bytes):
        return {"content": body}
    return {"json": body}


def complete(key: str | None, text: str | None = None, /, **body: Any) -> httpx.Response:
    """POST /v1/chat/completions."""
    messages = [{"role": "user", "content": text}] if text else [QUESTION]
    return call("POST", "/v1/chat/completions", key, {"model": "qwen-plus", "messages": messages, **body})


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, which must end with [DONE] and have nothing but data and comments."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    assert blocks[-1] == "data: [DONE]"
    found = [block for block in blocks[:-1] if not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in found)
    return [json.loads(block.removeprefix("data: ")) for block in found]


def deltas(shown: list[dict[str, Any]], name: str) -> list[Any]:
    """What the chunks add under this name."""
    return [
        chunk["choices"][0]["delta"][name]
        for chunk in shown
        if chunk["choices"] and name in chunk["choices"][0]["delta"]
    ]
