"""What a model is asked: the pinned preset's messages, then the chat's up to the prompt's end, except answers that were cut off."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aideer import images
from aideer.errors import TooLarge, Unprocessable
from aideer.models import Message, Preset
from aideer.pricing import Tariff

READS = 16
"""Queries for one prompt at most: what fills the largest context in the shortest messages is less."""
_PAGE = 100
MESSAGE_TOKENS = 5
"""What wraps a message, measured."""
_BYTES_A_TOKEN = 8
_BYTES_A_BYTE_OF_NFC = 3
_FIRST_RELEASE_MESSAGE = 16


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
    def has_system(self) -> bool:
        """Whether a system message is among them. Without one, the provider adds one of its own."""
        return any(message["role"] == "system" for message in self.messages)

    @property
    def images(self) -> int:
        """How many images are among them."""
        return sum("image" in part for message in self.messages if _parted(message) for part in message["content"])


@functools.lru_cache(maxsize=64)
def pinned(preset_id: str, version: int) -> Preset:
    """The preset version that a chat pins, to be read only.

    Versions never change, so a process reads one once. Raises Unprocessable where it went with its owner: the chat pins a version
    that was never its user's to use.
    """
    try:
        return Preset.get(preset_id, version, consistent_read=True)
    except Preset.DoesNotExist:
        raise Unprocessable("preset_gone", "The preset of this chat is gone. Choose another one for it.") from None


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
            if message.content and message.finish_reason not in Message.CUT_OFF:
                yield message
        if not pages.last_evaluated_key:
            return
    raise TooLarge("context_too_long", f"The conversation is longer than the {reads} MB that are read for an answer.")


def reach(tariff: Tariff) -> tuple[int, int]:
    """Return (how many bytes a prompt may be at most, how many of them each message is beside its text).

    A text of ordinary language has 4 bytes a token, Japanese 6: what has more than 8 is too long. If the model's vocabulary is
    not known, a text is priced by its bytes in NFC, which may be a third of its own.
    """
    if "max_input" not in tariff:  # of the first release, which priced each byte as a token
        return tariff["context"], _FIRST_RELEASE_MESSAGE
    bytes_a_token = _BYTES_A_TOKEN if tariff.get("tokenizer") == "qwen" else _BYTES_A_BYTE_OF_NFC
    return tariff["max_input"] * bytes_a_token, MESSAGE_TOKENS * bytes_a_token


def build(preset: Preset, thread: str, end: int, tariff: Tariff) -> Prompt:
    """The prompt of a thread up to `end` (exclusive).

    Raises TooLarge where the texts are longer than `reach`, or where READS do not reach the thread's beginning before that.
    """
    enough, each = reach(tariff)
    head = [(message["role"], message["type"], message["content"]) for message in preset.messages]
    size = sum(len(content.encode()) + each for _, _, content in head)
    tail: list[tuple[str, str, str]] = []
    for message in newest_first(thread, end, READS):
        tail.append((message.role, message.type, message.content))
        size += len(message.content.encode()) + each
        if size > enough:
            raise TooLarge("context_too_long", "The conversation is longer than what the model takes.")
    return Prompt(images.parts(head + tail[::-1]), asks=bool(tail) and tail[0][0] == "user")


def _parted(message: dict[str, Any]) -> bool:
    return isinstance(message["content"], list)


def _texts(content: str | list[dict[str, str]]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
