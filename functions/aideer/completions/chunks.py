"""Answers in the form of OpenAI's API: chunks of a stream, and whole completions.

The rules follow what the clients do (docs/decisions/openai-api.md): no `id:` and no `event:` lines, one id in all chunks, the role
in the first chunk only, the id of a tool's call once, the usage once and after the finish_reason, and a finish_reason always.
"""

import json
from collections.abc import Iterator
from typing import Any

from aideer.billing.credits import Text
from aideer.core import clock
from aideer.data.models import Task
from aideer.tasks import sse

KEEP_ALIVE = ": keep-alive\n\n"
DONE = "data: [DONE]\n\n"
ID_PREFIX = "chatcmpl-"
_REASONS = {"stopped": "stop", "interrupted": "length"}
"""Finish reasons that clients of OpenAI's API do not know."""


class Chunks:
    """Makes the chunks of one completion. `model` is as the client named it."""

    def __init__(self, task: Task, model: str, *, includes_usage: bool) -> None:
        self._base = {
            "id": f"{ID_PREFIX}{task.id}",
            "object": "chat.completion.chunk",
            "created": int(clock.parse(task.create_time)),
            "model": model,
        }
        self._includes_usage = includes_usage
        self._line = ""

    def start(self) -> str:
        """Return the first chunk, which has the role."""
        return self._choice({"role": "assistant", "content": ""})

    def add(self, kind: str, text: str) -> Iterator[str]:
        """Yield the chunks of a piece of the answer."""
        if kind == "reasoning":
            yield self._choice({"reasoning_content": text})
        elif kind == "content":
            yield self._choice({"content": text})
        else:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                yield self._choice({"tool_calls": [to_tool_call(json.loads(line))]})

    def end(self, task: Task) -> Iterator[str]:
        """Yield the chunks after the answer of a task that has not failed."""
        yield self._choice({}, finish_reason(task))
        if self._includes_usage:
            yield _data({**self._base, "choices": [], "usage": usage(task)})

    def _choice(self, delta: dict[str, Any], reason: str | None = None) -> str:
        chunk: dict[str, Any] = {**self._base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        if self._includes_usage:
            chunk["usage"] = None
        return _data(chunk)


def error_event(body: dict[str, Any]) -> str:
    """Return the event of an error after the first byte."""
    return _data(body)


def completion(task: Task, model: str, text: Text) -> dict[str, Any]:
    """Return a whole completion, of a task that has not failed."""
    calls = join_tool_calls(text.tools)
    message: dict[str, Any] = {"role": "assistant", "content": text.content or (None if calls else ""), "refusal": None}
    if text.reasoning:
        message["reasoning_content"] = text.reasoning
    if calls:
        message["tool_calls"] = calls
    return {
        "id": f"{ID_PREFIX}{task.id}",
        "object": "chat.completion",
        "created": int(clock.parse(task.create_time)),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(task), "logprobs": None}],
        "usage": usage(task),
    }


def finish_reason(task: Task) -> str:
    """Return one of stop, length, tool_calls and content_filter."""
    return _REASONS.get(task.finish_reason, task.finish_reason)


def usage(task: Task) -> dict[str, Any]:
    """Return the usage of a closed task, with its credits."""
    counts = task.usage or {}
    read, written = counts.get("input_tokens", 0), counts.get("output_tokens", 0)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": counts.get("cached_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": counts.get("reasoning_tokens", 0)},
        "aideer": {"credits": int(task.credits or 0), "task_id": task.id},
    }


def to_tool_call(piece: dict[str, Any]) -> dict[str, Any]:
    """Return a piece of a tool's call as a delta. Only the first piece of a call has an id, a type and a name."""
    if "id" not in piece:
        return {"index": piece["index"], "function": {"arguments": piece["arguments"]}}
    function = {"name": piece["name"], "arguments": piece["arguments"]}
    return {"index": piece["index"], "id": piece["id"], "type": "function", "function": function}


def join_tool_calls(lines: str) -> list[dict[str, Any]]:
    """Return whole calls of tools, from lines of JSON (Text.tools). A line that was cut off is left out."""
    calls: dict[int, dict[str, Any]] = {}
    for line in lines.split("\n")[:-1]:
        piece = json.loads(line)
        if "id" in piece:
            function = {"name": piece["name"], "arguments": piece["arguments"]}
            calls[piece["index"]] = {"id": piece["id"], "type": "function", "function": function}
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["arguments"]
    return [calls[index] for index in sorted(calls)]


def _data(value: dict[str, Any]) -> str:
    return f"data: {sse.to_json(value)}\n\n"
