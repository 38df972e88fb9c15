"""Messages of the AI SDK's clients, and a reader of their streams that is as strict as theirs. It needs no part of AIDeer."""

import json
from typing import Any
from uuid import uuid4

import httpx

FIELDS: dict[str, set[str]] = {
    "start": {"messageId", "messageMetadata"},
    "start-step": set(),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "reasoning-start": {"id"},
    "reasoning-delta": {"id", "delta"},
    "reasoning-end": {"id"},
    "source-url": {"sourceId", "url", "title"},
    "message-metadata": {"messageMetadata"},
    "finish-step": set(),
    "finish": {"finishReason"},
    "error": {"errorText"},
    "abort": {"reason"},
}
"""The types of chunks that two major versions of the client know, with their fields."""
REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


def new_id() -> str:
    """An id as the AI SDK makes it."""
    return uuid4().hex[:16]


def said(*parts: Any, id: str | None = None) -> dict[str, Any]:
    """A message of the user's: texts, and other parts."""
    shown = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"id": id or new_id(), "role": "user", "parts": shown}


def answered(id: str, text: str = "An answer.") -> dict[str, Any]:
    """An answer, as the client shows it."""
    return {"id": id, "role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": text}]}


def blocks(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """The (position, chunk) of a stream, without comments. It must end with [DONE] and have nothing else."""
    found = []
    *parts, rest = text.split("\n\n")
    assert rest == "", "the stream breaks off within an event"
    assert parts[-1] == "data: [DONE]"
    for part in parts[:-1]:
        if part.startswith(":"):
            continue
        *lines, data = part.split("\n")
        assert data.startswith("data: "), part
        assert len(lines) <= 1, part
        assert all(line.startswith("id: ") for line in lines), part
        found.append((lines[0].removeprefix("id: ") if lines else None, json.loads(data.removeprefix("data: "))))
    return found


class Shown:
    """What a client shows of a stream. It refuses what the AI SDK refuses."""

    def __init__(self, text: str) -> None:
        self.chunks = [chunk for _, chunk in blocks(text)]
        self.positions = [position for position, _ in blocks(text) if position]
        self.id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.parts: dict[str, list[Any]] = {}
        self.finish: str | None = None
        self.error: dict[str, Any] | None = None
        self.aborted = False
        open_parts: set[str] = set()
        for at, chunk in enumerate(self.chunks):
            kind = chunk["type"]
            assert chunk.keys() - {"type"} <= FIELDS[kind], chunk
            assert self.finish is None, "nothing follows `finish`"
            assert self.error is None, "nothing follows `error`"
            assert (kind == "start") == (at == 0), kind
            match kind.split("-"):
                case ["start"]:
                    self.id = chunk["messageId"]
                case ["text" | "reasoning", "start"]:
                    assert chunk["id"] not in self.parts, "a part has an id of its own"
                    self.parts[chunk["id"]] = [kind.split("-")[0], ""]
                    open_parts.add(chunk["id"])
                case ["text" | "reasoning", "delta"]:
                    assert chunk["id"] in open_parts, "a delta follows its start"
                    self.parts[chunk["id"]][1] += chunk["delta"]
                case ["text" | "reasoning", "end"]:
                    open_parts.remove(chunk["id"])
                case ["abort"]:
                    self.aborted = True
                case ["finish"]:
                    assert chunk["finishReason"] in REASONS
                    self.finish = chunk["finishReason"]
                case ["error"]:
                    self.error = json.loads(chunk["errorText"])
            self.metadata |= chunk.get("messageMetadata", {})
        assert not open_parts, "each part has ended"
        assert (self.finish is None) != (self.error is None), "a stream ends with `finish` or `error`"

    @classmethod
    def of(cls, response: httpx.Response) -> "Shown":
        """What a client shows of this response, whose headers must be a UI message stream's."""
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        return cls(response.text)

    def text(self, kind: str = "text") -> str:
        """The text of all parts of this kind."""
        return "".join(text for found, text in self.parts.values() if found == kind)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the parts, in their order."""
        return [kind for kind, _ in self.parts.values()]
