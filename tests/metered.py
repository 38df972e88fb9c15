"""A DashScope that says exactly what a test tells it to say, event by event, and keeps its own bill of every call.

with Metered() as provider:                       settings.DASHSCOPE_HTTP_BASE_URL is provider.base_url
    call = provider.called("a word of the question")
    call.say("Hello", usage=Usage(20, 1))         the first thing that is said accepts the call: status 200
    call.finish("stop", usage=Usage(20, 2))
    call.reported                                 Usage(20, 2): what AIDeer can know that the call costs
"""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from aideer.core.usage import Usage
from local.simulators.base import Simulation
from tests.waiting import PATIENCE_SECONDS

_Step = Callable[[], Any]


@dataclass(eq=False)
class Call:
    """One request that the provider got, and its bill."""

    provider: "Metered"
    question: str
    parameters: dict[str, Any]
    multimodal: bool
    accepted: bool = False
    """Answered with status 200: from here on the provider bills it."""
    thought: bool = False
    """Reasoning was said: output costs the price of thinking."""
    reported: Usage | None = None
    """The largest count of each field that was sent."""
    over: bool = False
    """Its connection is closed, by whomever."""
    _steps: "asyncio.Queue[tuple[_Step, threading.Event]]" = field(default_factory=asyncio.Queue)
    _request: web.Request | None = None
    _response: web.StreamResponse | None = None

    # --- what the provider does

    def accept(self) -> None:
        """Answer with status 200, and say nothing yet."""
        self._do(self._accept)

    def say(
        self,
        content: str = "",
        *,
        reasoning: str = "",
        usage: Usage | None = None,
        finish_reason: str = "null",
        late_usage: Usage | None = None,
    ) -> None:
        """Send an event; with `late_usage`, another one behind it that has nothing but this usage."""
        events = [self._event(content, reasoning, finish_reason, usage)]
        if late_usage:
            events.append(self._event("", "", finish_reason, late_usage))
        self._do(lambda: self._say(b"".join(events), usage, late_usage, thought=bool(reasoning)))

    def finish(
        self, finish_reason: str = "stop", *, usage: Usage | None = None, late_usage: Usage | None = None
    ) -> None:
        """Send the last event, and end the response."""
        self.say(usage=usage, finish_reason=finish_reason, late_usage=late_usage)
        self.end()

    def end(self) -> None:
        """End the response as it should be ended."""
        self._do(self._end)

    def error(self, code: str, status: int = 400) -> None:
        """Send an error in the place of an event, and end the response."""
        body = json.dumps({"code": code, "message": "injected", "request_id": "r"})
        event = f"id:9\nevent:error\n:HTTP_STATUS/{status}\ndata:{body}\n\n".encode()
        self._do(lambda: self._write(event))
        self.end()

    def refuse(self, status: int, code: str) -> None:
        """Answer with another status than 200: such a call is not billed."""
        self._do(lambda: self._refuse(status, code))

    def reset(self) -> None:
        """Reset the connection."""
        self._do(self._reset)

    # --- how

    def _do(self, step: _Step) -> None:
        done = threading.Event()
        self.provider.schedule(lambda: self._steps.put_nowait((step, done)))
        assert self.provider.wait(lambda: done.is_set() or self.over), "the provider's step was not done"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Do the steps until one ends the response."""
        self._request = request
        try:
            while True:
                step, done = await self._steps.get()
                answer = await step()
                if answer is not None:
                    self.over = True
                done.set()
                self.provider.notify()
                if answer is not None:
                    return answer  # type: ignore[no-any-return]
        except ConnectionError:
            return web.Response()
        finally:
            self.over = True
            self.provider.notify()

    async def _accept(self) -> None:
        if self._response is None:
            assert self._request
            self.accepted = True
            self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=UTF-8"})
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._request)

    async def _write(self, data: bytes) -> None:
        await self._accept()
        assert self._response
        await self._response.write(data)

    async def _say(self, data: bytes, *usages: Usage | None, thought: bool) -> None:
        self.thought = self.thought or thought
        for new in filter(None, usages):
            self.reported = new.maximum(self.reported)
        await self._write(data)

    async def _end(self) -> web.StreamResponse:
        await self._accept()
        assert self._response
        await self._response.write_eof()
        return self._response

    async def _refuse(self, status: int, code: str) -> web.StreamResponse:
        return web.json_response({"code": code, "message": "injected", "request_id": "r"}, status=status)

    async def _reset(self) -> web.StreamResponse:
        assert self._request
        if self._request.transport:
            sock: socket.socket = self._request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._request.transport.abort()
        return web.Response()

    def _event(self, content: str, reasoning: str, finish_reason: str, usage: Usage | None) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self.multimodal:
            message["content"] = [{"text": content}] if content else []
        if reasoning:
            message["reasoning_content"] = reasoning
        choice = {"message": message, "finish_reason": finish_reason}
        body: dict[str, Any] = {"output": {"choices": [choice]}, "request_id": "r"}
        if usage is not None:
            body["usage"] = {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            }
            if usage.reasoning_tokens:
                body["usage"]["output_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
        return f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(body)}\n\n".encode()


class Metered(Simulation):
    """The provider."""

    NAME, PATH = "metered DashScope", "/api/v1"

    def __init__(self) -> None:
        super().__init__(0, "127.0.0.1")
        self.calls: list[Call] = []
        self._changed = threading.Condition()

    def application(self) -> web.Application:
        """Every path generates."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._generate)
        return app

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        call = Call(
            self,
            json.dumps(body["input"], ensure_ascii=False),
            body.get("parameters") or {},
            "multimodal" in request.path,
        )
        self.calls.append(call)
        self.notify()
        return await call.serve(request)

    def asked(self, marker: str) -> list[Call]:
        """The calls whose prompt has this in it."""
        return [call for call in self.calls if marker in call.question]

    def called(self, marker: str, before: int = 0) -> Call:
        """Wait for a call whose prompt has this in it, after `before` of them; the newest one."""
        assert self.wait(lambda: len(self.asked(marker)) > before), "the provider was not called"
        return self.asked(marker)[-1]

    def schedule(self, what: Callable[[], Any]) -> None:
        """Do something on the server's event loop."""
        assert self._loop
        self._loop.call_soon_threadsafe(what)

    def notify(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until something holds, which is looked at whenever the provider has done something, and now and then."""
        with self._changed:
            for _ in range(int(seconds / 0.01)):
                if condition():
                    return True
                self._changed.wait(0.01)
        return condition()
