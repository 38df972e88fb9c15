"""What the local gateway takes in whole, and what it refuses, as API Gateway does."""

import asyncio
import json
from typing import Any

import pytest

from local.stack import edge
from local.stack.edge import Edge


class Inner:
    """Stands in for the gateway: keeps the request that reaches it."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body: bytes | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = dict(scope["headers"])
        message = await receive()
        assert not message["more_body"]
        self.body = message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def asked(
    inner: Inner, parts: list[bytes], *, ends: bool = True, seconds: float = 30, leaves: bool = False, **scope: Any
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The status, headers and body of the answer to a request whose body arrives in these parts."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    if leaves:
        messages.append({"type": "http.disconnect"})

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [], **scope}
    asyncio.run(Edge(inner, seconds)(whole, receive, send))
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("parts", [[], [b"ab"], [b"a", b"b"], [b"", b"a", b"", b"b"]])
def test_a_body_arrives_whole_with_its_length_however_it_was_sent(parts: list[bytes]) -> None:
    inner = Inner()
    status, _, _ = asked(inner, parts, headers=[(b"transfer-encoding", b"chunked")])
    assert status == 200
    assert inner.body == b"".join(parts)
    assert inner.headers == ({b"content-length": b"2"} if parts else {})


def test_a_body_that_never_comes_ends_in_bounded_time() -> None:
    inner = Inner()
    status, headers, body = asked(inner, [b"a"], ends=False, seconds=0.01)
    assert (status, json.loads(body)) == (408, {"message": "Request Timeout"})
    assert headers[b"connection"] == b"close"
    assert inner.body is None


def test_a_client_that_leaves_before_the_end_reaches_nothing() -> None:
    inner = Inner()
    assert asked(inner, [b"a"], ends=False, leaves=True)[0] == 0
    assert inner.body is None


def test_too_large_a_body_is_refused_before_its_end() -> None:
    inner = Inner()
    status, _, body = asked(inner, [b"a" * edge.MAX_BODY, b"b"], ends=False)
    assert (status, json.loads(body)) == (413, {"message": "Request Entity Too Large"})
    assert asked(inner, [b"a" * edge.MAX_BODY])[0] == 200


@pytest.mark.parametrize(
    "make",
    [
        lambda size: {"path": "/" + "a" * size},
        lambda size: {"query_string": b"a" * size},
        lambda size: {"headers": [(b"cookie", b"a" * size)]},
        lambda size: {"headers": [(b"x", b"a" * (size // 100))] * 100},
    ],
    ids=["path", "query", "header", "headers"],
)
def test_a_head_above_ten_kilobytes_is_refused(make: Any) -> None:
    status, _, body = asked(Inner(), [], **make(edge.MAX_HEAD))
    assert (status, json.loads(body)) == (431, {"message": "Request Header Fields Too Large"})
    assert asked(Inner(), [], **make(edge.MAX_HEAD - 1000))[0] == 200
