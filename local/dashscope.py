"""A simulated DashScope that speaks the native protocol, for `make run` without a key and for tests.

    python -m local.dashscope --port 8899      prints "READY http://127.0.0.1:8899/api/v1"

It answers text-generation and multimodal-generation, streamed or not, with a deterministic text that echoes the last
user message, and counts the images. One token is one streamed event, so usage counts events. A directive in the last user
message changes the answer, so that any client can try a fault:

    /sim tokens=1000 delay=1 think=20 fail=drop_mid at=5 cut_emoji

tokens   tokens of the answer (max_tokens still cuts it)     delay    milliseconds between two tokens
think    tokens of reasoning (thinking_budget still cuts it) at       the token, counted from 0, at which `fail` strikes
fail     one of FAILS                                        cut_emoji  emoji arrive as two halves of a surrogate pair
details  the usage tells tokens of reasoning apart, as some models' does and others' does not

The header `x-fake-scenario: NAME` does the same as `fail=NAME`. GET /__requests lists what was received, as {path,
headers, body, conn}, and {client_gone_after_event, request_id} where a client closed early; POST /__reset clears it.
Tests run it in their own process: `with Server() as server: ... server.base_url ... server.wait_for(condition)`.
"""

import argparse
import asyncio
import itertools
import json
import re
import socket
import struct
import threading
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.simulation import Simulation

TEXT_PATH = "/api/v1/services/aigc/text-generation/generation"
MULTIMODAL_PATH = "/api/v1/services/aigc/multimodal-generation/generation"

_QUOTA = "Allocated quota exceeded, please increase your quota limit."
REFUSALS = {
    "throttle": (429, "Throttling", "Requests throttling triggered."),
    "throttle_twice": (429, "Throttling", "Requests throttling triggered."),
    "ratequota": (429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "allocationquota": (429, "Throttling.AllocationQuota", _QUOTA),
    "badkey": (401, "InvalidApiKey", "Invalid API-key provided."),
    "inspect_in": (400, "DataInspectionFailed", "Input data may contain inappropriate content."),
    "arrearage": (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
}
"""Answered before any event. NAME_sse gives the same refusal with an SSE body, as production sometimes does."""
EVENT_ERRORS = {
    "inspect_mid": (400, "DataInspectionFailed", "Output data may contain inappropriate content."),
    "throttle_mid": (429, "Throttling.AllocationQuota", _QUOTA),
}
FAILS = frozenset(
    {
        *REFUSALS,
        *(f"{name}_sse" for name in REFUSALS if name != "throttle_twice"),
        *EVENT_ERRORS,
        "drop_before",  # a reset instead of an answer
        "drop_mid",  # a reset
        "fin_mid",  # an orderly close inside the chunked body
        "truncate",  # a well-formed end without a finish_reason
        "badjson",
        "bigline",  # one event of more than 200 KB
        "huge",  # an answer of more than 300 KB
        "stall",  # silence
        "heartbeat",  # comment lines between the events: no fault
        "http503_html",
        "no_usage",
        "empty",
        "tools",
    }
)

_PHRASES = (
    "好的，我们慢慢说。🌿 ",
    "Every word of this arrives on its own, ",
    "就像雨点一样，一滴一滴地落下来。",
    "That is all a simulated model can do 🙂, ",
    "但它从不疲倦，也不收费。",
    "café, naïve, 日本語、한국어 — ",
    "all of it must reach you unbroken. 👩‍🚀✨\n",
)
_TOKENS = re.compile(r"[A-Za-z0-9']+ ?|[\u4e00-\u9fff]{1,2}|.", re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MULTIMODAL_ONLY = re.compile(r"qwen3\.[5-9]|qwen-?vl|qwen\d-vl|qvq|.*omni")
_RANGES: dict[str, Callable[[float], bool]] = {
    "temperature": lambda value: 0 <= value < 2,
    "top_p": lambda value: 0 < value <= 1,
    "top_k": lambda value: 0 <= value <= 100,
    "presence_penalty": lambda value: -2 <= value <= 2,
    "repetition_penalty": lambda value: value > 0,
    "seed": lambda value: 0 <= value < 2**31,
    "max_tokens": lambda value: value >= 1,
    "thinking_budget": lambda value: value >= 1,
}


@dataclass(slots=True)
class _Scenario:
    """What the directive asks for, and the message without it."""

    text: str
    tokens: int | None = None
    delay: float | None = None
    think: int | None = None
    fail: str = ""
    at: int = 3
    cut_emoji: bool = False
    details: bool = False


def _scenario(text: str) -> _Scenario:
    scenario = _Scenario(text)
    start = text.find("/sim ")
    if start < 0:
        return scenario
    line, newline, below = text[start + 5 :].partition("\n")
    said = []
    for word in line.split():
        match word.split("=", 1):
            case [("tokens" | "think" | "at") as name, value] if value.isdecimal():
                setattr(scenario, name, int(value))
            case ["delay", value] if re.fullmatch(r"\d+(\.\d+)?", value):
                scenario.delay = float(value)
            case ["fail", value] if value in FAILS:
                scenario.fail = value
            case [("cut_emoji" | "details") as name]:
                setattr(scenario, name, True)
            case _:
                said.append(word)
    scenario.text = f"{text[:start]}{' '.join(said)}{newline}{below}".strip()
    return scenario


def _words(*phrases: str) -> Iterator[str]:
    """Tokens without end: the phrases first, then the stock ones, over and over."""
    for phrase in itertools.chain(phrases, itertools.cycle(_PHRASES)):
        yield from _TOKENS.findall(phrase)


def _halves(token: str) -> Iterator[str]:
    """Cut a token inside each of its surrogate pairs."""
    units = token.encode("utf-16-le")
    piece = ""
    for (unit,) in struct.iter_unpack("<H", units):
        piece += chr(unit)
        if 0xD800 <= unit < 0xDC00:
            yield piece
            piece = ""
    if piece:
        yield piece


@dataclass(slots=True)
class _Answer:
    """What will be said: (is it reasoning, token), how it ends, how long between two tokens."""

    tokens: list[tuple[bool, str]]
    finish_reason: str
    delay_seconds: float


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _images_of(message: dict[str, Any]) -> int:
    content = message.get("content")
    return sum("image" in part for part in content if isinstance(part, dict)) if isinstance(content, list) else 0


def _invalid(model: Any, messages: Any, parameters: dict[str, Any], *, multimodal: bool, stream: bool) -> str:
    """DashScope's message for what it would refuse, or nothing."""
    if not isinstance(model, str) or not model:
        return "Required parameter(model) missing or invalid, please check the request parameters."
    if not multimodal and _MULTIMODAL_ONLY.match(model):
        return "url error, please check url！"
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "Required body invalid, please check the request body format."
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            return "Role must be in [user, system, assistant, tool]"
        if not isinstance(message.get("content"), list if multimodal else str):
            return f"Input should be a valid {'list' if multimodal else 'string'}: input.messages.content"
        for part in message["content"] if multimodal else []:
            if not isinstance(part, dict) or not part.keys() <= {"text", "image"}:
                return "Input should be a valid part: input.messages.content"
            if not re.match(r"https?://|oss://|data:image/", part.get("image", "https://")):
                return "The provided URL does not appear to be valid. Ensure it is correctly formatted."
    for name, allowed in _RANGES.items():
        value = parameters.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value)):
            return f"<400> InternalError.Algo.InvalidParameter: {name} is out of its range."
    if parameters.get("enable_thinking") and not (stream and parameters.get("incremental_output")):
        return "<400> InternalError.Algo.InvalidParameter: This model only support incremental_output set to True."
    return ""


class Server(Simulation):
    """The simulated DashScope."""

    NAME, PATH = "DashScope", "/api/v1"

    def __init__(
        self, port: int = 0, *, tokens: int | None = None, delay_ms: float = 20, host: str = "127.0.0.1"
    ) -> None:
        super().__init__(port, host)
        self._tokens = tokens
        self._delay_ms = delay_ms
        self._seen: deque[dict[str, Any]] = deque(maxlen=5000)
        self._changed = threading.Condition()
        self._throttled: Counter[str] = Counter()

    # In-process control

    def requests(self) -> list[dict[str, Any]]:
        """What GET /__requests answers."""
        with self._changed:
            return list(self._seen)

    def reset(self) -> None:
        """What POST /__reset does."""
        with self._changed:
            self._seen.clear()
            self._throttled.clear()

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool], timeout_seconds: float = 5) -> bool:
        """Wait until what was seen fulfils a condition; False where it does not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(list(self._seen)), timeout_seconds)

    def application(self) -> web.Application:
        """DashScope's API, and what shows what it was asked."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/__requests", self._list_requests)
        app.router.add_post("/__reset", self._reset)
        app.router.add_get("/api/v1/uploads", self._uploads)
        app.router.add_post("/{path:.*}", self._generate)
        return app

    # HTTP

    async def _list_requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests())

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _uploads(self, request: web.Request) -> web.Response:
        """Where the SDK asks for leave to upload a file of the machine that it runs on. Nobody here should."""
        self._record({"path": request.path, "headers": {}, "body": dict(request.query), "conn": 0})
        return web.json_response({"code": "AccessDenied", "message": "Uploads are not simulated."}, status=403)

    def _record(self, entry: dict[str, Any]) -> None:
        with self._changed:
            self._seen.append(entry)
            self._changed.notify_all()

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        request_id = str(uuid.uuid4())

        def refuse(status: int, code: str, message: str) -> web.Response:
            return web.json_response({"code": code, "message": message, "request_id": request_id}, status=status)

        try:
            body: dict[str, Any] = json.loads(await request.read())
            model, parameters = body.get("model", ""), body.get("parameters") or {}
            messages: list[dict[str, Any]] = (body.get("input") or {}).get("messages", [])
        except (ValueError, AttributeError):
            return refuse(400, "InvalidParameter", "Required body invalid, please check the request body format.")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._record({"path": request.path, "headers": headers, "body": body, "conn": peer[1] if peer else 0})
        if not headers.get("authorization", "").startswith("Bearer sk-"):
            return refuse(*REFUSALS["badkey"])
        multimodal = request.path == MULTIMODAL_PATH
        if request.path not in (TEXT_PATH, MULTIMODAL_PATH):
            return refuse(400, "InvalidParameter", "url error, please check url！")
        stream = headers.get("x-dashscope-sse") == "enable"
        if message := _invalid(model, messages, parameters, multimodal=multimodal, stream=stream):
            return refuse(400, "InvalidParameter", message)

        said = next((_text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
        scenario = _scenario(said)
        scenario.fail = headers.get("x-fake-scenario", scenario.fail)
        if scenario.fail == "drop_before":
            _cut(request)
            return web.Response()
        if scenario.fail == "http503_html":
            page = "<html><body>503 Service Unavailable</body></html>"
            return web.Response(status=503, text=page, content_type="text/html")
        if scenario.fail.removesuffix("_sse") in REFUSALS and not self._throttled_enough(scenario.fail, said):
            status, code, message = REFUSALS[scenario.fail.removesuffix("_sse")]
            if not scenario.fail.endswith("_sse"):
                return refuse(status, code, message)
            event = _event(1, {"code": code, "message": message, "request_id": request_id}, status)
            return web.Response(status=status, body=event, content_type="text/event-stream")

        answer = self._answer(scenario, model, parameters, sum(map(_images_of, messages)))
        frame = _Frame(
            parameters,
            messages,
            request_id,
            multimodal=multimodal,
            with_usage=scenario.fail != "no_usage",
            with_details=scenario.details,
        )
        if not stream:
            if scenario.fail == "stall":
                await asyncio.Event().wait()
            for is_reasoning, token in answer.tokens:
                frame.add(token, is_reasoning=is_reasoning)
            return web.json_response(frame.whole(answer.finish_reason), dumps=_dumps)
        return await self._stream(request, scenario, answer, frame)

    def _throttled_enough(self, fail: str, said: str) -> bool:
        if fail != "throttle_twice":
            return False
        self._throttled[said] += 1
        return self._throttled[said] > 2

    def _answer(self, scenario: _Scenario, model: str, parameters: dict[str, Any], images: int) -> _Answer:
        wanted = scenario.tokens or self._tokens or 60 + zlib.crc32(scenario.text.encode()) % 61
        seen = f"我看到 {images} 张图片。" if images else ""
        said: Iterator[str] = _words(f"{seen}你说：「{scenario.text}」。" if scenario.text else seen)
        if scenario.fail == "empty":
            wanted = 0
        if scenario.fail == "huge":
            wanted, said = 100, itertools.repeat("".join(itertools.islice(said, 2000)))
        if scenario.cut_emoji:
            said = itertools.chain.from_iterable(map(_halves, said))
        content = list(itertools.islice(said, min(wanted, parameters.get("max_tokens") or wanted)))

        reasoning: list[str] = []
        thinks = parameters.get("enable_thinking")
        if thinks or (thinks is None and (scenario.think or model.startswith("qwq"))):
            # A model that always thinks does so unasked; one that was told not to never does.
            count = scenario.think or 12
            thoughts: Iterator[str] = _words("先想一想🤔：")
            if scenario.cut_emoji:
                thoughts = itertools.chain.from_iterable(map(_halves, thoughts))
            reasoning = list(itertools.islice(thoughts, min(count, parameters.get("thinking_budget") or count)))
        delay_ms = self._delay_ms if scenario.delay is None else scenario.delay
        return _Answer(
            tokens=[(True, token) for token in reasoning] + [(False, token) for token in content],
            finish_reason="length" if len(content) < wanted else "stop",
            delay_seconds=delay_ms / 1000,
        )

    async def _stream(
        self, request: web.Request, scenario: _Scenario, answer: _Answer, frame: "_Frame"
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=UTF-8"})
        response.enable_chunked_encoding()
        loop = asyncio.get_running_loop()
        number = 0
        try:
            await response.prepare(request)
            started = loop.time()
            for index in range(len(answer.tokens) + 1):
                # Deadlines are absolute, so that late wake-ups do not add up.
                await asyncio.sleep(max(0.0, started + (index + 1) * answer.delay_seconds - loop.time()))
                is_reasoning, token = answer.tokens[index] if index < len(answer.tokens) else (False, "")
                if index == min(scenario.at, len(answer.tokens)):
                    match scenario.fail:
                        case "drop_mid":
                            await asyncio.sleep(0.05)  # what was sent shall be read before the reset
                            _cut(request)
                            return response
                        case "fin_mid":
                            if request.transport:
                                request.transport.close()
                            return response
                        case "truncate":
                            await response.write_eof()
                            return response
                        case "stall":
                            await asyncio.Event().wait()
                        case "badjson":
                            await response.write(b"id:0\nevent:result\n:HTTP_STATUS/200\ndata:{oops\n\n")
                        case "bigline":
                            token = "大" * 70_000
                        case "tools":
                            await response.write(_event(number + 1, frame.tool_calls()))
                            return response
                        case name if name in EVENT_ERRORS:
                            status, code, message = EVENT_ERRORS[name]
                            error = {"code": code, "message": message, "request_id": frame.request_id}
                            await response.write(_event(number + 1, error, status))
                            return response
                if index == len(answer.tokens):
                    break
                if scenario.fail == "heartbeat":
                    await response.write(b": keepalive\n\n")
                number += 1
                await response.write(_event(number, frame.add(token, is_reasoning=is_reasoning)))
            await response.write(_event(number + 1, frame.end(answer.finish_reason)))
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            self._record({"client_gone_after_event": number, "request_id": frame.request_id})
            raise
        return response


class _Frame:
    """Builds the events of one answer: what was said so far, and the usage, which is cumulative."""

    def __init__(
        self,
        parameters: dict[str, Any],
        messages: list[dict[str, Any]],
        request_id: str,
        *,
        multimodal: bool,
        with_usage: bool,
        with_details: bool,
    ) -> None:
        self.request_id = request_id
        self._multimodal = multimodal
        self._plain = not multimodal and parameters.get("result_format") != "message"
        self._incremental = bool(parameters.get("incremental_output"))
        self._with_usage, self._with_details = with_usage, with_details
        self._content = self._reasoning = ""
        self._output_tokens = self._reasoning_tokens = 0
        # Below the bytes of the messages, as real tokens are: no estimate in bytes may turn out too low.
        self._input_tokens = sum(4 + len(_text_of(message).encode()) // 3 for message in messages)
        self._image_tokens = 64 * sum(map(_images_of, messages))

    def add(self, token: str, *, is_reasoning: bool) -> dict[str, Any]:
        self._output_tokens += 1
        if is_reasoning:
            self._reasoning_tokens += 1
            self._reasoning += token
        else:
            self._content += token
        if self._incremental:
            return self._body("" if is_reasoning else token, token if is_reasoning else "", "null")
        return self._body(self._content, self._reasoning, "null")

    def end(self, finish_reason: str) -> dict[str, Any]:
        return self._body("", "", finish_reason) if self._incremental else self.whole(finish_reason)

    def whole(self, finish_reason: str) -> dict[str, Any]:
        return self._body(self._content, self._reasoning, finish_reason)

    def tool_calls(self) -> dict[str, Any]:
        body = self._body("", "", "tool_calls")
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        body["output"]["choices"][0]["message"]["tool_calls"] = [call]
        return body

    def _body(self, content: str, reasoning: str, finish_reason: str) -> dict[str, Any]:
        output: dict[str, Any]
        if self._plain:
            output = {"finish_reason": finish_reason, "text": content}
        else:
            parts = [{"text": content}] if content else []
            message = {"role": "assistant", "content": parts if self._multimodal else content}
            if self._reasoning_tokens:
                message["reasoning_content"] = reasoning
            output = {"choices": [{"message": message, "finish_reason": finish_reason}]}
        body = {"output": output, "request_id": self.request_id}
        if self._with_usage:
            input_tokens = self._input_tokens + self._image_tokens
            usage: dict[str, Any] = {
                "input_tokens": input_tokens,
                "output_tokens": self._output_tokens,
                "total_tokens": input_tokens + self._output_tokens,
                "prompt_tokens_details": {"cached_tokens": 0},
            }
            if self._multimodal:
                usage["image_tokens"] = self._image_tokens
            if self._reasoning_tokens and self._with_details:
                usage["output_tokens_details"] = {"reasoning_tokens": self._reasoning_tokens}
            body["usage"] = usage
        return body


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


def _dumps(value: object) -> str:
    text = _encode(value)
    # Half a surrogate pair has no UTF-8: it can only travel as an escape.
    return _encode_ascii(value) if _HALF_PAIR.search(text) else text


def _event(number: int, body: dict[str, Any], status: int = 200) -> bytes:
    kind = "result" if status == 200 else "error"
    return f"id:{number}\nevent:{kind}\n:HTTP_STATUS/{status}\ndata:{_dumps(body)}\n\n".encode()


def _cut(request: web.Request) -> None:
    """Reset the connection: closing with a zero linger sends RST."""
    if request.transport:
        sock: socket.socket = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.dashscope", description="A simulated DashScope on loopback.")
    parser.add_argument("--port", type=int, default=8899)
    parser.add_argument("--tokens", type=int, help="tokens of an answer (default: 60 to 120, by the message)")
    parser.add_argument("--delay-ms", type=float, default=20, help="milliseconds between two tokens (default: 20)")
    options = parser.parse_args()
    Server(options.port, tokens=options.tokens, delay_ms=options.delay_ms).serve()


if __name__ == "__main__":
    main()
