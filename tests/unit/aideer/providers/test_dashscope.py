"""The DashScope adapter against real sockets: the simulated DashScope, and a server that plays bytes as told."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideer.core.usage import Usage
from aideer.providers import dashscope, dashscope_connections
from aideer.providers.dashscope import Chunk, UpstreamError
from aideer.providers.dashscope_connections import Call
from local.simulators.dashscope import MULTIMODAL_PATH, TEXT_PATH, Server
from tests.waiting import PATIENCE_SECONDS, until

Endpoint = Literal["text", "multimodal"]
OK = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    with Server(delay_ms=0) as server:
        yield server


@pytest.fixture
def server(simulated: Server) -> Server:
    simulated.reset()
    return simulated


def call(
    base_url: str,
    content: str | list[dict[str, str]],
    *,
    endpoint: Endpoint = "text",
    idle_seconds: float = 60,
    first_seconds: float | None = None,
    parameters: dict[str, Any] | None = None,
    progress: Call | None = None,
    log_ids: dict[str, str] | None = None,
) -> AsyncGenerator[Chunk, None]:
    return dashscope.stream(
        "qwen-plus" if endpoint == "text" else "qwen3.5-plus",
        [{"role": "user", "content": content}],
        parameters or {},
        endpoint=endpoint,
        api_key="sk-test",
        base_url=base_url,
        idle_seconds=idle_seconds,
        first_seconds=first_seconds,
        call=progress,
        log_ids=log_ids,
    )


async def talk(base_url: str, content: str | list[dict[str, str]], **options: Any) -> list[Chunk]:
    return [chunk async for chunk in call(base_url, content, **options)]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


class Player:
    """Answers every request with the same bytes, one TCP segment each, and hangs up (or not) without saying so."""

    def __init__(self) -> None:
        self.base_url = ""
        self.segments: list[bytes] = []
        self.hang_up = True
        self.requests = 0
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Player"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
        self.requests += 1
        for segment in self.segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0)  # so that the client, on the same loop, reads this segment before the next
        if not self.hang_up:
            await reader.read()
        writer.close()
        await writer.wait_closed()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body) if body else b""


def sse(*data: object, kind: str = "result") -> bytes:
    events = [f"id:{n}\nevent:{kind}\n:HTTP_STATUS/200\ndata:{json.dumps(value)}\n\n" for n, value in enumerate(data)]
    return "".join(events).encode()


def said(content: object, reasoning: str = "", finish_reason: str = "null") -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    return {"output": {"choices": [{"message": message, "finish_reason": finish_reason}]}, "request_id": "r"}


async def play(body: bytes, *, head: str = OK, hang_up: bool = True, end: bytes = b"0\r\n\r\n") -> list[Chunk]:
    player = Player()
    player.segments = [head.encode() + (chunked(body) if head is OK else body), end if head is OK else b""]
    player.hang_up = hang_up
    async with player.running():
        return await talk(player.base_url, "hi")


# What is sent is what arrives

AWKWARD = '🙂👩\u200d🚀𝄞e\u0301漢字\u2028\u2029\x85\x0b\x00\n\r"\\\ufeff'
TEXTS = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(exclude_categories=["Cs"])), max_size=30)
Cut = TypeVar("Cut", str, bytes)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(whole: Cut, at: list[int]) -> list[Cut]:
    places = [0, *sorted(place % (len(whole) + 1) for place in at), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


def code_units(value: str) -> str:
    """The same text with every astral character as two halves of a surrogate pair."""
    units = value.encode("utf-16-le", "surrogatepass")
    return "".join(chr(int.from_bytes(units[i : i + 2], "little")) for i in range(0, len(units), 2))


def encode(value: dict[str, Any], *, raw: bool) -> str:
    if raw:
        try:
            return json.dumps(value, ensure_ascii=False).encode().decode()
        except UnicodeEncodeError:
            pass  # half a pair can only be sent escaped
    return json.dumps(value)


@pytest.fixture(scope="module")
def player() -> Iterator[Callable[[list[bytes], Endpoint], list[Chunk]]]:
    """Plays segments to the adapter on one loop, so that its pooled connections meet a server that hung up."""
    with asyncio.Runner() as runner:
        server = Player()
        running = server.running()
        runner.run(running.__aenter__())

        def play(segments: list[bytes], endpoint: Endpoint) -> list[Chunk]:
            server.segments = segments
            return runner.run(talk(server.base_url, "hi", endpoint=endpoint))

        yield play
        runner.run(running.__aexit__(None, None, None))


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, CUTS, CUTS, CUTS, CUTS, st.booleans(), st.sampled_from(["text", "multimodal"]))
def test_any_text_arrives_whole_however_it_is_cut(
    player: Callable[[list[bytes], Endpoint], list[Chunk]],
    reasoning: str,
    content: str,
    reasoning_cuts: list[int],
    content_cuts: list[int],
    chunk_cuts: list[int],
    segment_cuts: list[int],
    raw: bool,
    endpoint: Endpoint,
) -> None:
    pieces = zip_longest(
        cut(code_units(reasoning), reasoning_cuts), cut(code_units(content), content_cuts), fillvalue=""
    )
    events = [
        said(piece if endpoint == "text" else [{"text": piece}] if piece else [], thought) for thought, piece in pieces
    ]
    events.append(said("", finish_reason="stop"))
    body = "".join(f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{encode(event, raw=raw)}\n\n" for event in events)
    wire = OK.encode() + b"".join(map(chunked, cut(body.encode(), chunk_cuts))) + b"0\r\n\r\n"
    chunks = player(cut(wire, segment_cuts), endpoint)
    assert text(chunks) == content
    assert "".join(chunk.reasoning for chunk in chunks) == reasoning
    for chunk in chunks:
        (chunk.reasoning + chunk.content).encode()
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("a漢🙂\ud83d\ude42\udbff\udc00"), max_size=4), max_size=6))
def test_halves_without_their_other_half_become_replacement_characters(
    player: Callable[[list[bytes], Endpoint], list[Chunk]], pieces: list[str]
) -> None:
    body = sse(*(said(piece) for piece in pieces), said("", finish_reason="stop"))
    chunks = player([OK.encode() + chunked(body), b"0\r\n\r\n"], "text")
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert text(chunks) == whole
    for chunk in chunks:
        chunk.content.encode()


@pytest.mark.parametrize("endpoint", ["text", "multimodal"])
async def test_thinking_comes_first_and_usage_counts_up(server: Server, endpoint: Endpoint) -> None:
    chunks = await talk(
        server.base_url,
        "/sim tokens=30 think=8 details 你好",
        endpoint=endpoint,
        parameters={"enable_thinking": True, "max_tokens": 20, "thinking_budget": 5},
    )
    assert [bool(chunk.reasoning) for chunk in chunks] == [True] * 5 + [False] * 21
    assert text(chunks).startswith("你好！")
    assert [chunk.usage.output_tokens for chunk in chunks if chunk.usage] == [*range(1, 26), 25]
    assert chunks[-1].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.output_tokens, chunks[-1].usage.reasoning_tokens) == (25, 5)
    [request] = server.requests()
    assert request["path"] == (TEXT_PATH if endpoint == "text" else MULTIMODAL_PATH)
    assert request["headers"]["x-dashscope-sse"] == "enable"
    assert request["headers"]["authorization"] == "Bearer sk-test"
    assert request["body"]["parameters"] == {
        "result_format": "message",
        "incremental_output": True,
        "enable_thinking": True,
        "max_tokens": 20,
        "thinking_budget": 5,
    }


async def test_an_event_of_200_kb_and_an_answer_of_300_kb_arrive(server: Server) -> None:
    assert "大" * 70_000 in text(await talk(server.base_url, "/sim tokens=5 fail=bigline"))
    assert len(text(await talk(server.base_url, "/sim fail=huge")).encode()) > 300_000


async def test_usage_is_none_where_none_is_reported(server: Server) -> None:
    chunks = await talk(server.base_url, "/sim tokens=5 fail=no_usage")
    assert {chunk.usage for chunk in chunks} == {None}
    nonsense = [
        {},
        None,
        7,
        [1],
        {"input_tokens": "seven"},
        {"input_tokens": " 7"},
        {"input_tokens": "٧"},
        {"output_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": True},
        {"input_tokens": float("nan")},
    ]
    nonsense += [{"input_tokens": 10**12}, {"input_tokens": 0, "output_tokens": 0}, {"plugins": {"search": 1}}]
    body = sse(*({**said("a"), "usage": usage} for usage in nonsense), said("", finish_reason="stop"))
    assert {chunk.usage for chunk in await play(body)} == {None}


COUNTS = st.none() | st.integers(-5, 50) | st.sampled_from(["7", 8.0, 1.5, -3.0, True, [], {}, 10**12])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("input_tokens", "output_tokens"), COUNTS)), max_size=6)
)
def test_usage_only_grows_and_counts_whatever_is_a_count(
    player: Callable[[list[bytes], Endpoint], list[Chunk]], reports: list[dict[str, Any]]
) -> None:
    body = sse(*({**said("a"), "usage": usage} for usage in reports), said("", finish_reason="stop"))
    told = [chunk.usage for chunk in player([OK.encode() + chunked(body), b"0\r\n\r\n"], "text") if chunk.usage]
    assert all(later == later.maximum(earlier) for earlier, later in pairwise(told))

    def most(name: str) -> int:
        counts = [report.get(name) for report in reports]
        return max((int(n) for n in counts if n in ("7", 8.0) or (type(n) is int and 0 < n < 10**9)), default=0)

    assert (told[-1] if told else Usage())[:2] == (most("input_tokens"), most("output_tokens"))


async def test_usage_tells_cached_tokens_reasoning_and_searches() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 64},
        "output_tokens_details": {"reasoning_tokens": 5},
        "plugins": {"search": {"count": 1, "strategy": "turbo"}},
    }
    assert (await play(sse({**said("a", finish_reason="stop"), "usage": usage})))[-1].usage == Usage(100, 9, 5, 64, 1)
    usage = {"input_tokens": 50, "output_tokens": 1, "input_tokens_details": {"text_tokens": 1, "cached_tokens": 64}}
    # More than the input cannot have been cached.
    assert (await play(sse({**said("a", finish_reason="stop"), "usage": usage})))[-1].usage == Usage(50, 1, 0, 50)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""])
@pytest.mark.parametrize(
    "fault",
    [
        sse({"code": "InternalError.Algo", "message": "x"}, kind="error"),
        sse({"code": "Arrearage", "message": "x"}),
        sse(said("", finish_reason="tool_calls")),
        b"data:{oops\n\n",
        b'data:{"code":"InternalError.Algo"}\ndata:{"usage":{"output_tokens":7}}\n\n',
    ],
)
async def test_a_usage_that_came_together_with_a_fault_counts(fault: bytes, end: bytes) -> None:
    player, usages = Player(), []
    player.hang_up = bool(end)
    behind = b"data:oops\n\n" + sse({"usage": {"input_tokens": 10, "output_tokens": 90}})
    player.segments = [OK.encode() + chunked(sse({**said("a"), "usage": {"input_tokens": 10}}) + fault + behind) + end]
    async with player.running():
        chunks = call(player.base_url, "hi")
        while True:
            try:
                usages.append((await anext(chunks)).usage)
            except UpstreamError:
                break
    assert usages[-1] == Usage(10, 90)


async def test_counts_that_cannot_be_read_are_logged_once_without_their_values(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = {"input_tokens": -1, "output_tokens": "secret", "plugins": {"search": {"count": 1.5}}}
    body = sse(*[{**said("a"), "usage": usage}] * 3, {**said("", finish_reason="stop"), "usage": {"input_tokens": 3}})
    player = Player()
    player.segments = [OK.encode() + chunked(body), b"0\r\n\r\n"]
    async with player.running():
        async for _ in call(player.base_url, "hi", log_ids={"task_id": "t"}):
            pass
    [record] = [record for record in caplog.records if record.name == "aideer"]
    assert (record.levelname, record.message) == ("WARNING", "usage")
    told = vars(record)
    assert (told["task_id"], told["model"]) == ("t", "qwen-plus")
    assert told["fields"] == ["count", "input_tokens", "output_tokens"]
    assert "secret" not in f"{told} {capsys.readouterr()}"


async def test_counts_that_can_be_read_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    usage = {"input_tokens": 10.0, "output_tokens": "7", "prompt_tokens_details": None, "plugins": {}}
    assert (await play(sse({**said("a", finish_reason="stop"), "usage": usage})))[-1].usage == Usage(10, 7)
    assert not [record for record in caplog.records if record.name == "aideer"]


async def test_an_empty_answer_is_an_answer(server: Server) -> None:
    assert await talk(server.base_url, "/sim fail=empty") == [Chunk("", "", "stop", Usage(6, 0, 0))]


async def test_heartbeats_are_ignored(server: Server) -> None:
    assert text(await talk(server.base_url, "/sim tokens=3 fail=heartbeat hi")) == "Yes, of course."


# What can go wrong


@pytest.mark.parametrize("endpoint", ["text", "multimodal"])
@pytest.mark.parametrize(
    ("fail", "code", "retryable", "tokens"),
    [
        ("throttle", "throttled", True, 0),
        ("throttle_sse", "throttled", True, 0),
        ("ratequota", "throttled", True, 0),
        ("allocationquota", "throttled", True, 0),
        ("throttle_mid", "throttled", False, 3),
        ("badkey", "upstream_auth", False, 0),
        ("badkey_sse", "upstream_auth", False, 0),
        ("arrearage", "upstream_auth", False, 0),
        ("inspect_in", "content_filtered", False, 0),
        ("drop_before", "upstream_error", False, 0),
        ("drop_mid", "upstream_error", False, 3),
        ("fin_mid", "upstream_error", False, 3),
        ("http503_html", "upstream_error", True, 0),
        ("truncate", "upstream_error", False, 3),
        ("badjson", "upstream_error", False, 3),
        ("tools", "upstream_error", False, 3),
        ("stall", "upstream_timeout", False, 3),
    ],
)
async def test_faults_have_stable_codes(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    endpoint: Endpoint,
    fail: str,
    code: str,
    retryable: bool,
    tokens: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    chunks: list[Chunk] = []

    async def listen() -> None:
        content = f"/sim tokens=8 at=3 fail={fail} my secret"
        async for chunk in call(server.base_url, content, endpoint=endpoint, idle_seconds=0.3):
            chunks.append(chunk)

    with pytest.raises(UpstreamError) as raised:
        await listen()
    said = [chunk for chunk in chunks if chunk.content]  # a usage behind the fault may follow
    assert (raised.value.code, raised.value.retryable, len(said)) == (code, retryable, tokens)
    assert raised.value.accepted == (tokens > 0)
    output = capfd.readouterr()
    told = f"{raised.value!s} {raised.value.detail} {caplog.text} {output.out} {output.err}"
    assert not any(quoted in told for quoted in ("secret", "sk-test", "You ", "oops", "<html>", "inappropriate"))
    assert not [record for record in caplog.records if record.name.startswith("dashscope")]


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (429, {}, "throttled", True),
        (400, {"code": "Throttling.BurstRate", "message": "m"}, "throttled", True),
        (401, {}, "upstream_auth", False),
        (403, {"code": "Model.AccessDenied", "message": "m"}, "upstream_auth", False),
        (504, {}, "upstream_timeout", True),
        (500, {"code": "RequestTimeOut", "message": "m"}, "upstream_timeout", True),
        (500, {"code": "InternalError.Algo", "message": "m"}, "upstream_error", True),
        (400, {"code": "InvalidParameter", "message": "m"}, "model_unavailable", False),
        (404, {"code": "ModelNotFound", "message": "m"}, "model_unavailable", False),
        (400, {"error": {"code": "data_inspection_failed", "message": "m"}}, "content_filtered", False),
        (418, {"code": ["no", "text"], "message": None}, "upstream_error", False),
    ],
)
async def test_refusals_are_told_by_code_then_by_status(
    status: int, body: dict[str, Any], code: str, retryable: bool
) -> None:
    answer = json.dumps(body)
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
    with pytest.raises(UpstreamError) as raised:
        await play(answer.encode(), head=head)
    assert (raised.value.code, raised.value.retryable) == (code, retryable)


@pytest.mark.parametrize(
    "body",
    [
        b"data:[1]\n\n",
        b'data:"x"\n\n',
        b"data:1\n\n",
        b"data:null\n\n",
        b"data:{}\n\n",
        b'data:{"output":null}\n\n',
        b'data:{"output":{"choices":[1]}}\n\n',
        b'data:{"output":{"choices":[{"message":{"content":7}}]}}\n\n',
        b'data:{"output":{"choices":[{"message":{"content":"a"}}]},"usage":7}\n\n',
        b"data:\xff\xfe\n\n",
        b"data:" + b"[" * 100_000 + b"\n\n",
        b"event:error\ndata:{}\n\n",
        b"event:error\ndata:oops\n\n",
        b"status:oops\n\n",
        b'data:{"code":"NeverHeardOf","message":"m"}\n\n',
        b"",
        sse(said("a", finish_reason="tool_calls")),
    ],
)
async def test_what_cannot_be_read_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(UpstreamError) as raised:
        await play(body)
    assert (raised.value.code, raised.value.accepted) == ("upstream_error", True)
    # Errors of parsers may quote what they could not read.
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "head", ["200 OK\r\nContent-Type: text/html", "200 OK\r\nContent-Type: application/json", "502 X\r\nX-Y: z"]
)
@pytest.mark.parametrize("body", [b"<html>\xff</html>", b"", b"[]", b"7"])
async def test_answers_that_are_no_stream_are_upstream_errors(head: str, body: bytes) -> None:
    with pytest.raises(UpstreamError) as raised:
        await play(body, head=f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n")
    assert raised.value.code == "upstream_error"


async def test_nobody_listening_is_an_upstream_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamError) as raised:
            await talk(f"http://127.0.0.1:{unused.getsockname()[1]}/api/v1", "hi")
    assert (raised.value.code, raised.value.retryable) == ("upstream_error", True)


async def test_silence_before_the_response_times_out_after_one_request() -> None:
    player = Player()
    player.hang_up = False
    async with player.running():
        with pytest.raises(UpstreamError, match="upstream_timeout"):
            await talk(player.base_url, "hi", idle_seconds=0.2)
        assert player.requests == 1


async def test_a_complete_answer_stands_though_its_body_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "_LATE_USAGE_SECONDS", 0.05)
    body = sse(said("a"), said("b", finish_reason="stop"))
    async with asyncio.timeout(30):  # less than the silence after which a call gives up
        assert text(await play(body, hang_up=False, end=b"")) == "ab"
        assert text(await play(body, hang_up=True, end=b"")) == "ab"


async def test_json_that_is_nested_too_deeply_hides_no_usage_behind_it() -> None:
    usage = sse({"usage": {"input_tokens": 3}})
    chunks = await play(sse(said("a", finish_reason="stop")) + b"data:" + b"[" * 100_000 + b"\n\n" + usage)
    assert (text(chunks), chunks[-1].usage) == ("a", Usage(3))


async def test_silence_is_measured_from_the_last_progress(server: Server) -> None:
    for fail in ("stall", "stall_keepalive", "stall_empty"):
        with pytest.raises(UpstreamError, match=r"no progress for 0\.5 s") as raised:
            await talk(server.base_url, f"/sim fail={fail} at=3", idle_seconds=0.5)
        assert (raised.value.code, raised.value.accepted) == ("upstream_timeout", True)


async def test_the_first_text_has_a_patience_of_its_own(server: Server) -> None:
    chunks = [
        chunk async for chunk in call(server.base_url, "/sim tokens=2 delay=600", idle_seconds=60, first_seconds=60)
    ]
    assert text(chunks)
    with pytest.raises(UpstreamError, match=r"no progress for 0\.2 s"):
        async for _ in call(server.base_url, "/sim tokens=2 delay=2000", idle_seconds=60, first_seconds=0.2):
            pass
    # Whoever reads slowly waits for nobody.
    heard = 0
    async for _ in call(server.base_url, "/sim tokens=3 delay=1", idle_seconds=0.3):
        heard += 1
        await asyncio.sleep(0.4)
    assert heard == 4


async def test_sources_arrive_once_and_hold_no_traps(server: Server) -> None:
    chunks = await talk(server.base_url, "/sim tokens=4 search=5", parameters={"enable_search": True})
    assert [len(chunk.sources) for chunk in chunks] == [5, 0, 0, 0, 0]
    assert [source["index"] for source in chunks[0].sources] == [1, 2, 3, 4, 5]
    assert (chunks[-1].usage or Usage()).searches == 1
    traps: list[Any] = [
        {"index": 1, "url": "javascript:alert(1)"},
        {"index": 2, "url": "https://a.example/\u202egpj"},
        {"index": 3, "url": "https://a.example/ b"},
        {"index": 4, "url": 7},
        "https://a.example/",
        {"index": True, "url": "https://a.example/", "title": "a\x00\x1b[31m\u202eb\nc\ud800", "site_name": None},
        *({"index": n, "url": f"https://b.example/{n}"} for n in range(100, 200)),
    ]
    event = said("a", finish_reason="stop")
    event["output"]["search_info"] = {"search_results": traps}
    [chunk] = await play(sse(event))
    assert chunk.sources[0] == {"index": 1, "title": "ab c", "url": "https://a.example/", "site_name": ""}
    assert len(chunk.sources) == 50


async def test_throttling_passes(server: Server) -> None:
    for _ in range(2):
        with pytest.raises(UpstreamError, match="throttled"):
            await talk(server.base_url, "/sim tokens=3 fail=throttle_twice again")
    assert len(await talk(server.base_url, "/sim tokens=3 fail=throttle_twice again")) == 4


# Nothing but the one request


@pytest.mark.parametrize("spell", [str, "file://{}".format, lambda path: f"oss://{path.name}"])
async def test_text_that_names_a_file_is_text(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spell: Callable[[Path], str]
) -> None:
    # Where the SDK would ask for leave to upload, whatever address the call was given.
    monkeypatch.setattr("dashscope.base_http_api_url", server.base_url)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for content in (spell(secret), [{"text": spell(secret)}]):
        await talk(server.base_url, content, endpoint="multimodal")
        [request] = server.requests()
        assert request["path"] == MULTIMODAL_PATH
        assert request["body"]["input"] == {"messages": [{"role": "user", "content": [{"text": spell(secret)}]}]}
        assert "x-dashscope-ossresourceresolve" not in request["headers"]
        server.reset()


async def test_an_upload_would_be_seen_here(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above can fail: the SDK's own class does ask for leave to upload what a text names."""
    from dashscope import AioMultiModalConversation

    monkeypatch.setattr("dashscope.base_http_api_url", server.base_url)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    messages = [{"role": "user", "content": [{"text": str(secret)}]}]
    with pytest.raises(Exception, match="upload"):
        await AioMultiModalConversation.call(model="qwen-vl-max", messages=messages, api_key="sk-test")
    assert [request["path"] for request in server.requests()] == ["/api/v1/uploads"]


async def test_media_are_https_images_only(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.touch()
    for part in (
        {"image": str(picture)},
        {"image": f"file://{picture}"},
        {"image": "oss://picture.png"},
        {"image": "http://example.com/a.png"},
        {"image": "data:text/html;base64,YQ=="},
        {"image": "data:image/png,YQ=="},
        {"video": "https://example.com/a.mp4"},
    ):
        with pytest.raises(ValueError, match="https"):
            await talk(server.base_url, [part], endpoint="multimodal")
    with pytest.raises(ValueError, match="text only"):
        await talk(server.base_url, [{"text": "hi"}], endpoint="text")
    assert server.requests() == []
    images = [{"image": "https://example.com/a.png"}, {"image": "data:image/png;base64,iVBORw0KGgo="}]
    parts = [{"text": "/sim tokens=3 what is it?"}, *images]
    assert len(await talk(server.base_url, parts, endpoint="multimodal")) == 4
    assert server.requests()[0]["body"]["input"]["messages"][0]["content"] == parts


@pytest.mark.parametrize("name", ["base_address", "headers", "session", "workspace", "stream", "api_key", "model"])
async def test_parameters_cannot_steer_the_sdk(server: Server, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        await talk(server.base_url, "hi", parameters={name: "http://example.com"})
    assert server.requests() == []


async def test_a_proxy_is_never_asked_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert await talk(server.base_url, "/sim tokens=3")
    assert dashscope_connections._proxy("https://dashscope.aliyuncs.com/api/v1") == "http://proxy.invalid:3128"
    assert dashscope_connections._proxy("https://inside.example/api/v1") is None


# Connections


async def gone(server: Server) -> bool:
    return await asyncio.to_thread(
        server.wait_for, lambda seen: any("client_gone_after_event" in entry for entry in seen)
    )


async def test_leaving_the_generator_hangs_up(server: Server) -> None:
    chunks = call(server.base_url, "/sim tokens=100000 delay=50")
    await anext(chunks)
    await chunks.aclose()
    session, _ = dashscope_connections._sessions[asyncio.get_running_loop(), server.base_url]
    assert session.connector
    assert not session.connector._acquired  # by then, and not once the garbage collector comes by
    assert await gone(server)


@pytest.mark.parametrize("moment", ["at=0 fail=stall", "at=3 fail=stall", "delay=20"])
async def test_cancelling_hangs_up(server: Server, moment: str) -> None:
    task = asyncio.create_task(talk(server.base_url, f"/sim tokens=100000 {moment}"))
    assert await asyncio.to_thread(server.wait_for, lambda seen: len(seen) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(server)


async def test_a_connection_is_used_again_and_200_are_open_at_once(server: Server) -> None:
    for _ in range(3):
        await talk(server.base_url, "/sim tokens=3")
    assert len({entry["conn"] for entry in server.requests()}) == 1
    server.reset()
    together = asyncio.Barrier(200)

    async def one() -> int:
        chunks = call(server.base_url, "/sim tokens=5", idle_seconds=60)
        await anext(chunks)
        await together.wait()
        return len([chunk async for chunk in chunks])

    assert await asyncio.gather(*(one() for _ in range(200))) == [5] * 200
    assert len({entry["conn"] for entry in server.requests()}) == 200


class Port:
    """A server that only takes connections, and notes what comes over them."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.received: list[bytes] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.set()
        self.received.append(await reader.read())
        writer.close()


@asynccontextmanager
async def port() -> AsyncIterator[tuple[Port, str]]:
    taken = Port()
    listening = await asyncio.start_server(taken.take, "127.0.0.1", 0)
    async with listening:
        yield taken, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/api/v1"


async def test_nothing_is_sent_over_a_connection_that_is_opened_ahead() -> None:
    async with port() as (taken, base_url):
        dashscope_connections.open_ahead(base_url)
        assert await asyncio.to_thread(taken.opened.wait, PATIENCE_SECONDS)
        await asyncio.sleep(0.05)
        assert taken.received == []
        await dashscope_connections.close()
        await asyncio.to_thread(until, lambda: taken.received, "the connection is closed")
        assert taken.received == [b""]


async def test_a_call_uses_the_connection_that_was_opened_ahead(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []
    make = dashscope_connections._socket
    monkeypatch.setattr(dashscope_connections, "_socket", lambda address: opened.append(make(address)) or opened[-1])
    dashscope_connections.open_ahead(server.base_url)
    assert text(await talk(server.base_url, "/sim tokens=3"))
    assert len(opened) == 1
    dashscope_connections.open_ahead(server.base_url)  # the pool has one
    assert text(await talk(server.base_url, "/sim tokens=3"))
    assert len(opened) == 1


async def test_a_connection_that_cannot_be_opened_ahead_changes_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
    dashscope_connections.open_ahead(nobody)
    with pytest.raises(UpstreamError) as failed:
        await talk(nobody, "hi")
    assert (failed.value.code, failed.value.retryable) == ("upstream_error", True)


async def test_a_call_opens_its_connection_itself_if_the_one_ahead_failed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, failing = dashscope_connections._socket, [OSError("no route")]

    def fail_once(address: Any) -> socket.socket:
        if failing:
            raise failing.pop()
        return make(address)

    monkeypatch.setattr(dashscope_connections, "_socket", fail_once)
    dashscope_connections.open_ahead(server.base_url)
    assert text(await talk(server.base_url, "/sim tokens=3"))
    assert not failing


def test_loops_in_threads_have_their_own_connections_and_leave_none(server: Server) -> None:
    together = threading.Barrier(4)

    async def several() -> int:
        together.wait()
        return sum(map(len, await asyncio.gather(*(talk(server.base_url, "/sim tokens=9") for _ in range(5)))))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(asyncio.run, (several() for _ in range(4)))) == [50] * 4
    assert server.base_url not in {base_url for _, base_url in dashscope_connections._sessions}


async def test_close_closes_this_loops_connections(server: Server) -> None:
    await talk(server.base_url, "/sim tokens=3")
    await dashscope_connections.close()
    assert asyncio.get_running_loop() not in {loop for loop, _ in dashscope_connections._sessions}
    assert await talk(server.base_url, "/sim tokens=3")


async def test_a_call_tells_that_it_was_sent_and_accepted(server: Server) -> None:
    progress = Call()
    chunks = [chunk async for chunk in call(server.base_url, "/sim tokens=3", progress=progress)]
    assert chunks
    assert (progress.sent, progress.accepted) == (True, True)


async def test_a_refused_call_was_sent_and_not_accepted(server: Server) -> None:
    progress = Call()
    with pytest.raises(UpstreamError):
        await talk(server.base_url, "/sim fail=throttle", progress=progress)
    assert (progress.sent, progress.accepted) == (True, False)


async def test_a_call_that_never_connects_was_not_sent() -> None:
    progress = Call()
    with pytest.raises(UpstreamError):
        await talk("http://127.0.0.1:9/api/v1", "hello", progress=progress)
    assert (progress.sent, progress.accepted) == (False, False)


def test_unacknowledged_requests_fail_within_seconds() -> None:
    with dashscope_connections._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))) as connection:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
