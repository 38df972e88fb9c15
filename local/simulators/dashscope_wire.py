"""Writes the body of a streamed answer, with the faults that a scenario asks for."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from local.simulators.dashscope_frames import Frames, event
from local.simulators.dashscope_scenarios import EVENT_ERRORS, LATE_SECONDS, Scenario

_KEEPALIVE_SECONDS = 0.2


@dataclass(slots=True)
class Answer:
    """A planned answer: its tokens as (is reasoning, token), its finish_reason, and the delay between two tokens."""

    tokens: list[tuple[bool, str]]
    finish_reason: str
    delay_seconds: float
    calls: list[dict[str, Any]] = field(default_factory=list)
    """The pieces of a call of a tool, each an event of its own."""


class HungUpError(Exception):
    """The simulated provider has closed the connection."""


async def wire(request: web.Request, scenario: Scenario, answer: Answer, frames: Frames) -> AsyncIterator[bytes]:
    """Yield the body of a streamed answer, piece by piece. Raise HungUpError if a fault closes the connection."""
    started = asyncio.get_running_loop().time()
    form, number = scenario.form, 0
    if form == "bom":
        yield b"\xef\xbb\xbf"
    strikes_at = min(scenario.at, len(answer.tokens))
    for index, (is_reasoning, token) in enumerate([*answer.tokens, (False, "")]):
        await wait_for_turn(started, index, answer.delay_seconds)
        if index == strikes_at:
            async for piece in _strike(request, scenario, frames, number + 1):
                yield piece
            if _is_over(scenario.fail):
                return
            if scenario.fail == "bigline":
                token = "大" * 70_000
        if index == len(answer.tokens):
            break
        if scenario.fail == "heartbeat":
            yield b": keepalive\n\n"
        number += 1
        yield event(number, frames.add(token, is_reasoning=is_reasoning), form=form)
    for call in answer.calls:
        number += 1
        yield event(number, frames.call(call), form=form)
    last = event(number + 1, frames.end(answer.finish_reason), form=form)
    if scenario.tail == "more_usage":
        # Send it in one piece with the finish_reason, as a provider does.
        yield last + event(number + 2, frames.usage_alone(extra_tokens=3), form=form)
        return
    yield last
    async for piece in _tail(request, scenario, frames, number + 2):
        yield piece


async def wait_for_turn(started: float, index: int, delay_seconds: float) -> None:
    """Wait until the time of the token with this index. Deadlines are absolute, so that late wake-ups do not add up."""
    await asyncio.sleep(max(0.0, started + (index + 1) * delay_seconds - asyncio.get_running_loop().time()))


def _is_over(fail: str) -> bool:
    return fail in ("truncate", "tools") or fail.removesuffix("_plain") in EVENT_ERRORS


async def _strike(request: web.Request, scenario: Scenario, frames: Frames, number: int) -> AsyncIterator[bytes]:
    """Yield the events that a fault sends at its token."""
    fail = scenario.fail.removesuffix("_plain")
    match fail:
        case "drop_mid":
            await asyncio.sleep(0.05)  # let the client read the sent events before the reset
            cut(request)
            raise HungUpError
        case "fin_mid":
            if request.transport:
                request.transport.close()
            raise HungUpError
        case "stall":
            await asyncio.Event().wait()
        case "stall_keepalive" | "stall_empty":
            while True:
                yield b": keepalive\n\n" if fail == "stall_keepalive" else event(number, frames.nothing())
                await asyncio.sleep(_KEEPALIVE_SECONDS)
        case "badjson":
            yield b"id:0\nevent:result\n:HTTP_STATUS/200\ndata:{oops\n\n"
        case "tools":
            yield event(number, frames.tool_calls())
        case name if name in EVENT_ERRORS:
            status, code, message = EVENT_ERRORS[name]
            yield event(number, frames.error(code, message), status, plain=scenario.fail.endswith("_plain"))


async def _tail(request: web.Request, scenario: Scenario, frames: Frames, number: int) -> AsyncIterator[bytes]:
    """Yield the events after the finish_reason."""
    match scenario.tail:
        case "done":
            yield b"data: [DONE]\n\n"
        case "null":
            yield event(number, frames.usage_alone())
        case "empty":
            yield event(number, {**frames.usage_alone(), "output": {}})
        case "error":
            yield event(number, frames.error("InternalError.Algo", "inference internal error."), 500)
        case "filter":
            yield event(number, frames.error(*EVENT_ERRORS["inspect_mid"][1:]), 400)
        case "garbage":
            yield b"data:{oops\n\n\xff\xfe"
        case "text":
            yield event(number, frames.nothing())
        case "late_usage":
            await asyncio.sleep(LATE_SECONDS)
            yield event(number, frames.usage_alone())
        case "silence":
            await asyncio.Event().wait()
        case "reset":
            await asyncio.sleep(0.05)
            cut(request)
            raise HungUpError


def cut(request: web.Request) -> None:
    """Reset the connection. Closing with a zero linger sends RST."""
    if request.transport:
        sock: socket.socket = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
