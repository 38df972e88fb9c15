"""Answers as UI message streams of the AI SDK: chunks of JSON, made of the events of a task's stream.

The rules follow what the clients do (docs/decisions/ai-sdk-streams.md). Each chunk is of a type that they know. A delta follows the
start of its part. A stream ends with `finish`, or with `error`, because clients take any other end for a whole answer. Comments and
`id` lines are ignored by these clients. So a chunk of text has the position after it, as in the task's own stream.
"""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from aideer.core import texts
from aideer.core.errors import Detail
from aideer.tasks import sse

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
DONE = "data: [DONE]\n\n"
BROKEN = ("stream_broken", Detail("The stream broke off before the end of the answer. Open it again."))
_REASONS = {"stop": "stop", "length": "length", "content_filter": "content-filter", "stopped": "stop"}
"""What clients call the finish reasons. Any other one is `other`."""
_PARTS = {"reasoning": "reasoning", "content": "text"}
_TOLD = ("chat_version", "messages", "credits_held", "max_tokens")
"""Fields of the start event that the message's metadata has."""


async def translate(events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Yield the chunks of a task's stream. It reads the stream to its end, because the executor may work behind it."""
    form = Chunks()
    async with aclosing(events):
        async for event in events:
            for chunk in form.add(event):
                yield chunk
    for chunk in form.close():
        yield chunk


class Chunks:
    """Makes the chunks of one stream."""

    def __init__(self) -> None:
        self._open: str | None = None
        """The kind of the part that has begun and not ended."""
        self._parts = 0
        self._shown = {"reasoning": "", "content": ""}
        self._ended = False

    def add(self, event: str) -> Iterator[str]:
        """Yield the chunks of an event of the task's stream."""
        if event.startswith(":"):
            yield event
            return
        fields = dict(line.partition(": ")[::2] for line in event.rstrip("\n").split("\n"))
        if "data" not in fields or self._ended:
            return
        name, data = fields.get("event"), json.loads(fields["data"])
        if name == "start":
            yield from self._start(data)
        elif name is None and fields["id"] == sse.END:
            yield from self._end(data)
        elif name is None:
            for kind in self._shown:
                if kind in data:
                    yield from self._add_text(kind, data[kind], fields["id"])

    def close(self) -> Iterator[str]:
        """Yield what ends the stream. If the answer's end has not come, that is an error."""
        if not self._ended:
            yield from self._end_part()
            yield _error(*BROKEN)
        yield DONE

    def _start(self, data: dict[str, Any]) -> Iterator[str]:
        told = {name: data[name] for name in _TOLD if name in data}
        metadata = {"task_id": data["task_id"], "chat_id": data["chat_id"], "status": "running", **told}
        yield _chunk("start", position="0", messageId=data["task_id"], messageMetadata=metadata)
        yield _chunk("start-step")

    def _add_text(self, kind: str, new: str, position: str | None) -> Iterator[str]:
        if self._open != kind:
            yield from self._end_part()
            self._open, self._parts = kind, self._parts + 1
            yield _chunk(f"{_PARTS[kind]}-start", id=self._part_id)
        self._shown[kind] += new
        yield _chunk(f"{_PARTS[kind]}-delta", position=position, id=self._part_id, delta=new)

    def _end_part(self) -> Iterator[str]:
        if self._open:
            yield _chunk(f"{_PARTS[self._open]}-end", id=self._part_id)
            self._open = None

    @property
    def _part_id(self) -> str:
        return f"{_PARTS[self._open or 'content']}-{self._parts}"

    def _end(self, data: dict[str, Any]) -> Iterator[str]:
        """Yield the end of the answer. The last event has the whole text, and the log of an older stream may lack its end."""
        self._ended = True
        for kind, shown in self._shown.items():
            whole = data[kind]
            if (
                len(whole) > len(shown)
                and whole.startswith(shown)
                and not (kind == "reasoning" and self._shown["content"])
            ):
                yield from self._add_text(kind, whole[len(shown) :], None)
        yield from self._end_part()
        for source in data["sources"]:
            address = {"sourceId": str(source.get("index", source["url"])), "url": source["url"]}
            yield _chunk("source-url", **address, **({"title": source["title"]} if source.get("title") else {}))
        yield _chunk("message-metadata", messageMetadata=_metadata(data))
        if data["status"] == "failed":
            error = data["error"]
            yield _error(error["code"], error["message"])
            return
        yield _chunk("finish-step")
        if data["status"] == "stopped":
            yield _chunk("abort", reason="stopped")
        yield _chunk("finish", position=sse.END, finishReason=_REASONS.get(data["finish_reason"], "other"))


def _metadata(data: dict[str, Any]) -> dict[str, Any]:
    names = ("status", "finish_reason", "usage", "credits", "credits_left", "chat_version")
    message = data["message"]
    return {**{name: data[name] for name in names}, "n": message["n"] if message else None}


def _error(code: str, detail: str) -> str:
    """Return the chunk of an error. Its text has the form of a refusal, so clients read both in one way."""
    return _chunk("error", errorText=sse.to_json({"detail": texts.translate(detail), "code": code}))


def _chunk(kind: str, *, position: str | None = None, **fields: Any) -> str:
    line = f"id: {position}\n" if position is not None else ""
    return f"{line}data: {sse.to_json({'type': kind, **fields})}\n\n"
