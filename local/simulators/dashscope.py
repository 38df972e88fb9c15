"""A simulated DashScope that speaks the native protocol, for `make run` without a key and for tests.

    python -m local.simulators.dashscope --port 8899      prints "READY http://127.0.0.1:8899/api/v1"

It serves text-generation and multimodal-generation, streamed or not. dashscope_compatible.py adds OpenAI's protocol. The simulation
answers in the language of the last user message, and always gives the same answer to the same question. Each token is one streamed
event, so the usage counts events.

Like DashScope, it refuses a model on the wrong endpoint, an unknown or retired model, and parameters out of their range. It also
refuses a JSON format if no message mentions JSON.

A directive in the last user message changes the answer, so any client can rehearse a fault:

    /sim tokens=1000 delay=1 think=20 fail=drop_mid at=20 cut_emoji

    tokens     tokens of the answer (max_tokens still cuts it)
    delay      milliseconds between two tokens
    think      tokens of reasoning (thinking_budget still cuts it)
    fail       one of FAILS (dashscope_scenarios.py): NAME_sse and NAME_200 are refusals in other shapes, NAME_plain is an error
               within a stream in the other shape
    at         the token, counted from 0, at which `fail` takes effect
    filter     the content filter ends the answer (fail=inspect_mid)
    cached     number of cached input tokens
    search     the answer uses a web search: search=5 finds 5 pages
    usage      one of USAGES: a fault of the usage
    tail       one of TAILS: the data after the finish_reason
    form       one of FORMS: the format of the event stream
    tool       the answer calls this tool, if the request offers it: tool=get_weather
    cut_emoji  emoji arrive as two halves of a surrogate pair
    echo       the answer is the message itself, without the directive: the lines below it stay as they are
    details    the text endpoint reports reasoning tokens separately, as some models do; the multimodal endpoint always does

With enable_search, it also searches for Chinese questions, and for other questions if forced_search is set. The header
`x-fake-scenario: NAME` has the same effect as `fail=NAME`.

GET /__requests lists the received requests as {path, headers, body, conn, bill}. If a client closed early, it also lists
{client_gone_after_event, request_id}. POST /__reset clears the list. A bill shows the amounts that a provider would charge:
{request_id, accepted, input_tokens, output_tokens, reasoning_tokens, cached_tokens, searches, open}.

Tests run it in their own process: `with Server() as server: ... server.base_url ... server.wait_for(condition)`.
"""

import argparse
import asyncio
import json
import threading
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from local.simulators import prose
from local.simulators.base import Simulation
from local.simulators.dashscope_compatible import COMPATIBLE_PATH, complete
from local.simulators.dashscope_frames import Bill, Frames, dumps, event
from local.simulators.dashscope_scenarios import (
    FAILS,
    REFUSALS,
    RETIRED,
    URL_ERROR,
    Scenario,
    as_json,
    call_pieces,
    called_tool,
    images_of,
    refusal,
    text_of,
    thinks,
)
from local.simulators.dashscope_wire import Answer, HungUpError, cut, wire

__all__ = ["FAILS", "MULTIMODAL_PATH", "TEXT_PATH", "Server"]

TEXT_PATH = "/api/v1/services/aigc/text-generation/generation"
MULTIMODAL_PATH = "/api/v1/services/aigc/multimodal-generation/generation"


class Server(Simulation):
    """The simulated DashScope."""

    NAME, PATH = "DashScope", "/api/v1"

    def __init__(
        self,
        port: int = 0,
        *,
        tokens: int | None = None,
        delay_ms: float = 20,
        host: str = "127.0.0.1",
        retired: frozenset[str] = RETIRED,
    ) -> None:
        super().__init__(port, host)
        self._tokens = tokens
        self._delay_ms = delay_ms
        self._retired = retired
        self._seen: deque[dict[str, Any]] = deque(maxlen=5000)
        self._changed = threading.Condition()
        self._throttled: Counter[str] = Counter()

    # In-process control

    def requests(self) -> list[dict[str, Any]]:
        """Return the same list as GET /__requests."""
        with self._changed:
            return list(map(_to_json, self._seen))

    def bills(self, text: str = "") -> list[dict[str, Any]]:
        """Return the bills of the requests whose body contains this text."""
        return [entry["bill"] for entry in self.requests() if "bill" in entry and text in dumps(entry["body"])]

    def reset(self) -> None:
        """Clear the list of requests, as POST /__reset does."""
        with self._changed:
            self._seen.clear()
            self._throttled.clear()

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool], timeout_seconds: float = 60) -> bool:
        """Wait until the recorded requests meet a condition. Return False on a timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(list(map(_to_json, self._seen))), timeout_seconds)

    def application(self) -> web.Application:
        """Return DashScope's API, with the endpoints that show and clear the recorded requests."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/__requests", self._list_requests)
        app.router.add_post("/__reset", self._reset)
        app.router.add_get("/api/v1/uploads", self._uploads)
        app.router.add_post(COMPATIBLE_PATH, self._complete)
        app.router.add_post("/{path:.*}", self._generate)
        return app

    # HTTP

    async def _list_requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests())

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _uploads(self, request: web.Request) -> web.Response:
        """Refuse the SDK's request to upload a local file, and record it. AIDeer should never send one."""
        self._record({"path": request.path, "headers": {}, "body": dict(request.query), "conn": 0})
        return web.json_response({"code": "AccessDenied", "message": "Uploads are not simulated."}, status=403)

    def _record(self, entry: dict[str, Any]) -> None:
        with self._changed:
            self._seen.append(entry)
            self._changed.notify_all()

    def _close(self, bill: Bill) -> None:
        with self._changed:
            bill.open = False
            self._changed.notify_all()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        def plan(said: str, model: str, parameters: dict[str, Any]) -> Answer:
            return self._answer(Scenario.read(said), model, parameters, images=0)

        return await complete(request, plan)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        bill = Bill(str(uuid.uuid4()))

        def refuse(status: int, code: str, message: str) -> web.Response:
            return web.json_response({"code": code, "message": message, "request_id": bill.request_id}, status=status)

        try:
            body: dict[str, Any] = json.loads(await request.read())
            model, parameters = body.get("model", ""), body.get("parameters") or {}
            messages: list[dict[str, Any]] = (body.get("input") or {}).get("messages", [])
        except (ValueError, AttributeError):
            return refuse(400, "InvalidParameter", "Required body invalid, please check the request body format.")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._record(
            {"path": request.path, "headers": headers, "body": body, "conn": peer[1] if peer else 0, "bill": bill}
        )
        try:
            if not headers.get("authorization", "").startswith("Bearer sk-"):
                return refuse(*REFUSALS["badkey"])
            multimodal = request.path == MULTIMODAL_PATH
            if request.path not in (TEXT_PATH, MULTIMODAL_PATH):
                return refuse(*URL_ERROR)
            stream = headers.get("x-dashscope-sse") == "enable"
            kinds = {"multimodal": multimodal, "stream": stream}
            if refused := refusal(model, messages, parameters, retired=self._retired, **kinds):
                return refuse(*refused)
            said = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
            scenario = Scenario.read(said)
            scenario.fail = headers.get("x-fake-scenario", scenario.fail)
            if failed := self._failed(request, scenario, said, bill):
                return failed
            answer = self._answer(scenario, model, parameters, sum(map(images_of, messages)))
            if tool := called_tool(scenario, messages, parameters):
                answer = replace(answer, finish_reason="tool_calls", calls=call_pieces(tool, scenario.text))
                answer.tokens = [token for token in answer.tokens if token[0]]
            if scenario.fail == "no_usage":
                scenario.usage = "none"
            frames = Frames(parameters, messages, scenario, bill, multimodal, _has_searched(scenario, parameters))
            frames.accept()
            if stream:
                return await self._stream(request, scenario, answer, frames)
            if scenario.fail == "stall":
                await asyncio.Event().wait()
            for is_reasoning, token in answer.tokens:
                frames.add(token, is_reasoning=is_reasoning)
            return web.json_response(frames.whole(answer.finish_reason), dumps=dumps)
        finally:
            self._close(bill)

    def _failed(self, request: web.Request, scenario: Scenario, said: str, bill: Bill) -> web.Response | None:
        """Return a refusal before anything is generated, if the scenario asks for one."""
        if scenario.fail == "drop_before":
            cut(request)
            return web.Response()
        if scenario.fail == "http503_html":
            page = "<html><body>503 Service Unavailable</body></html>"
            return web.Response(status=503, text=page, content_type="text/html")
        name, _, shape = scenario.fail.rpartition("_")
        if shape not in ("sse", "200"):
            name, shape = scenario.fail, ""
        if name not in REFUSALS or self._throttled_enough(scenario.fail, said):
            return None
        status, code, message = REFUSALS[name]
        error = {"code": code, "message": message, "request_id": bill.request_id}
        if shape == "sse":
            return web.Response(status=status, body=event(1, error, status), content_type="text/event-stream")
        bill.accepted = shape == "200"
        return web.json_response(error, status=200 if shape == "200" else status)

    def _throttled_enough(self, fail: str, said: str) -> bool:
        if fail != "throttle_twice":
            return False
        self._throttled[said] += 1
        return self._throttled[said] > 2

    def _answer(self, scenario: Scenario, model: str, parameters: dict[str, Any], images: int) -> Answer:
        wanted = scenario.tokens or self._tokens or 60 + zlib.crc32(scenario.text.encode("utf-8", "replace")) % 61
        said = (
            []
            if scenario.fail == "empty"
            else prose.answer(scenario.text, wanted, images=images, cut_emoji=scenario.cut_emoji)
        )
        if scenario.echo:
            said = prose.pieces(scenario.text)
        if parameters.get("response_format"):
            said = prose.pieces(as_json("".join(said), parameters["response_format"]))
        if scenario.fail == "huge":
            said = ["".join(prose.answer(scenario.text, 2000))] * 100
        reasoning: list[str] = []
        if thinks(model, parameters, scenario):
            count = scenario.think or 12
            reasoning = prose.thoughts(scenario.text, count, cut_emoji=scenario.cut_emoji)
            reasoning = reasoning[: parameters.get("thinking_budget") or count]
        most = parameters.get("max_tokens") or len(said)
        if together := parameters.get("max_completion_tokens"):
            reasoning = reasoning[:together]
            most = min(most, together - len(reasoning))
        delay_ms = self._delay_ms if scenario.delay is None else scenario.delay
        return Answer(
            tokens=[(True, token) for token in reasoning] + [(False, token) for token in said[:most]],
            finish_reason="length" if most < len(said) else "stop",
            delay_seconds=delay_ms / 1000,
        )

    async def _stream(
        self, request: web.Request, scenario: Scenario, answer: Answer, frames: Frames
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=UTF-8"})
        response.enable_chunked_encoding()
        number = 0
        try:
            await response.prepare(request)
            async for piece in wire(request, scenario, answer, frames):
                await response.write(piece)
                number += piece.startswith(b"id:")
            await response.write_eof()
        except HungUpError:
            pass
        except (asyncio.CancelledError, ConnectionError):
            self._close(frames.bill)
            self._record({"client_gone_after_event": number, "request_id": frames.bill.request_id})
            raise
        return response


def _has_searched(scenario: Scenario, parameters: dict[str, Any]) -> bool:
    if scenario.search is not None and parameters.get("enable_search"):
        return scenario.search > 0
    options = parameters.get("search_options")
    forced = isinstance(options, dict) and bool(options.get("forced_search"))
    return bool(parameters.get("enable_search")) and (forced or prose.language_of(scenario.text) == "zh")


def _to_json(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "bill": asdict(entry["bill"])} if "bill" in entry else entry


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.simulators.dashscope", description="A simulated DashScope on loopback."
    )
    parser.add_argument("--port", type=int, default=8899)
    parser.add_argument("--tokens", type=int, help="tokens of an answer (default: 60 to 120, by the message)")
    parser.add_argument("--delay-ms", type=float, default=20, help="milliseconds between two tokens (default: 20)")
    options = parser.parse_args()
    Server(options.port, tokens=options.tokens, delay_ms=options.delay_ms).serve()


if __name__ == "__main__":
    main()
