"""The part of an answer that has come from the provider: its text, shown or not, its usage and its sources."""

import json

from aideer.billing.credits import Text
from aideer.core.usage import Source, Usage
from aideer.providers.dashscope import Chunk

TEXT_BYTES = 300_000
"""The most bytes of reasoning and content together, in UTF-8. A message item holds them with room to spare."""
SOURCES_BYTES = 50_000
"""The most bytes of sources beside that text, as JSON in UTF-8. A DynamoDB item has at most 400 KB."""


class Received:
    """Grows with each chunk, and only the executor changes it."""

    def __init__(self, room: int = TEXT_BYTES) -> None:
        """Take at most `room` bytes of text."""
        self._room = room
        self.shown: list[tuple[str, str]] = []
        """(kind, text) in order of arrival: reasoning, content, or tools (Chunk.tool_calls). It is only appended to."""
        self.hidden: list[str] = []
        """Text that came and is not shown: after a stop, or beyond the longest answer."""
        self.usage: Usage | None = None
        """The largest count of each field that the provider has reported."""
        self.sources: tuple[Source, ...] = ()
        self.thought = False
        """Set by the first reasoning of the model, shown or not. It decides the price of the output."""
        self.muted = False
        """Set by a stop that waits for the usage. Later text is not shown."""
        self.cut = False
        """Set when the text has filled its room. Later text is not shown."""
        self._bytes = 0

    @property
    def text(self) -> Text:
        """All text that was shown."""
        return Text.join(self.shown)

    @property
    def all_texts(self) -> list[str]:
        """All text that came, shown or not."""
        shown = self.text
        return [shown.reasoning, shown.content, shown.tools, *self.hidden]

    def add(self, chunk: Chunk) -> bool:
        """Add a chunk. Return whether there is more to show."""
        if chunk.usage:
            self.usage = chunk.usage.maximum(self.usage)
        self.thought = self.thought or bool(chunk.reasoning)
        self.sources = _limit(chunk.sources) or self.sources
        shown = len(self.shown)
        self._show("reasoning", chunk.reasoning)
        self._show("content", chunk.content)
        self._show("tools", chunk.tool_calls)
        return len(self.shown) > shown

    def _show(self, kind: str, text: str) -> None:
        """Show a piece of text, as far as there is room for it."""
        if not text:
            return
        if self.muted or self.cut:
            self.hidden.append(text)
            return
        size = len(text.encode())
        room = self._room - self._bytes
        if size > room:
            self.cut, text = True, text.encode()[:room].decode(errors="ignore")
        self._bytes += size
        self.shown.append((kind, text))


def _limit(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    left = SOURCES_BYTES
    for number, source in enumerate(sources):
        left -= len(json.dumps(source, ensure_ascii=False).encode())
        if left < 0:
            return sources[:number]
    return sources
