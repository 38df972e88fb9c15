"""What a model is asked: the pinned preset's messages, then the chat's up to the prompt's end, except interrupted answers."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aideer.models import Message, Preset

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages as DashScope takes them: [{role, content}]."""

    messages: list[dict[str, Any]]
    asks: bool
    """Whether the chat's last message is the user's, interrupted answers aside."""

    @property
    def contents(self) -> list[str]:
        """Their texts."""
        return [message["content"] for message in self.messages]


@functools.lru_cache(maxsize=64)
def pinned(preset_id: str, version: int) -> Preset:
    """The preset version that a chat pins, to be read only.

    Versions never change and are never removed while a chat may pin them, so a process reads one once.
    """
    return Preset.get(preset_id, version, consistent_read=True)


def last(thread: str) -> Message | None:
    """A thread's last message, interrupted or not."""
    return next(iter(Message.query(thread, consistent_read=True, scan_index_forward=False, limit=1)), None)


def newest_first(thread: str, end: int) -> Iterator[Message]:
    """The messages of a thread below `end` that a prompt shows, from the newest on, read as they are asked for."""
    for message in Message.query(
        thread, Message.n < end, consistent_read=True, scan_index_forward=False, page_size=_PAGE
    ):
        if message.content and message.finish_reason != "interrupted":
            yield message


def build(preset: Preset, thread: str, end: int, enough_bytes: int) -> Prompt:
    """The prompt of a thread up to `end` (exclusive).

    Reading stops once the texts are more than `enough_bytes`: what is too long for the model needs no more of it.
    """
    head = [{"role": message["role"], "content": message["content"]} for message in preset.messages]
    size = sum(len(message["content"].encode()) for message in head)
    tail: list[dict[str, Any]] = []
    for message in newest_first(thread, end):
        tail.append({"role": message.role, "content": message.content})
        size += len(message.content.encode())
        if size > enough_bytes:
            break
    return Prompt(head + tail[::-1], asks=bool(tail) and tail[0]["role"] == "user")
