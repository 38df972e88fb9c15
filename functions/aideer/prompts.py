"""What a model is asked: the pinned preset's messages, then the chat's up to the prompt's end, except answers that were cut off."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aideer import images, pricing
from aideer.errors import TooLarge
from aideer.models import Message, Preset

CUT_OFF = ("interrupted", "content_filter")
"""Answers with these finish reasons are kept for their reader, and left out of later prompts."""
READS = 16
"""Queries for one prompt at most: what fills the largest context in the shortest messages is less."""
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages as DashScope takes them: [{role, content}], where content is a text, or a list of {text} and {image}."""

    messages: list[dict[str, Any]]
    asks: bool
    """Whether the last message of the chat is the user's, leaving out answers that were cut off."""

    @property
    def contents(self) -> list[str]:
        """Their texts."""
        whole = [message["content"] for message in self.messages]
        return [text for content in whole for text in _texts(content)]

    @property
    def images(self) -> int:
        """How many images are among them."""
        return sum("image" in part for message in self.messages if _parted(message) for part in message["content"])


@functools.lru_cache(maxsize=64)
def pinned(preset_id: str, version: int) -> Preset:
    """The preset version that a chat pins, to be read only.

    Versions never change and are never removed while a chat may pin them, so a process reads one once.
    """
    return Preset.get(preset_id, version, consistent_read=True)


def last(thread: str) -> Message | None:
    """A thread's last message, interrupted or not."""
    return next(iter(Message.query(thread, consistent_read=True, scan_index_forward=False, limit=1)), None)


def newest_first(thread: str, end: int, reads: int) -> Iterator[Message]:
    """The messages of a thread below `end` that a prompt shows, from the newest on, read as they are asked for.

    Few are read at first, because mostly few are asked for; then as many at a time as DynamoDB gives (1 MB). What is not
    shown is read all the same, so it is the queries that are counted: raises TooLarge where `reads` of them do not reach
    what is asked for.
    """
    for size in (_PAGE, *[None] * (reads - 1)):
        pages = Message.query(
            thread, Message.n < end, consistent_read=True, scan_index_forward=False, page_size=size
        ).page_iter
        for item in next(pages)["Items"]:
            message = Message.from_raw_data(item)
            end = message.n
            if message.content and message.finish_reason not in CUT_OFF:
                yield message
        if not pages.last_evaluated_key:
            return
    raise TooLarge("context_too_long", f"The conversation is longer than the {reads} MB that are read for an answer.")


def build(preset: Preset, thread: str, end: int, enough: int) -> Prompt:
    """The prompt of a thread up to `end` (exclusive).

    Reading stops once the texts are estimated (pricing.py) at more than `enough` tokens: what is too long for the model needs
    no more of it. Raises TooLarge where READS do not reach the thread's beginning before that.
    """
    head = [(message["role"], message["type"], message["content"]) for message in preset.messages]
    size = pricing.estimate_input(content for _, _, content in head)
    tail: list[tuple[str, str, str]] = []
    for message in newest_first(thread, end, READS):
        tail.append((message.role, message.type, message.content))
        size += pricing.estimate_input([message.content])
        if size > enough:
            break
    return Prompt(images.parts(head + tail[::-1]), asks=bool(tail) and tail[0][0] == "user")


def _parted(message: dict[str, Any]) -> bool:
    return isinstance(message["content"], list)


def _texts(content: str | list[dict[str, str]]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
