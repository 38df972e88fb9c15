"""Prompts: the pinned preset's messages, then the chat's messages up to the prompt's end.

Answers that were cut off are left out.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from aideer.billing.pricing import Tariff
from aideer.core.errors import TooLarge, Unprocessable
from aideer.data import lookup
from aideer.data.models import Message, Preset
from aideer.prompts import image_urls

READS = 16
"""The most queries for one prompt. Even the largest context in the shortest messages needs fewer."""
_PAGE = 100
MESSAGE_TOKENS = 5
"""Tokens that wrap a message, measured."""
_BYTES_A_TOKEN = 8
_BYTES_A_BYTE_OF_NFC = 3
_FIRST_RELEASE_MESSAGE = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages in DashScope's form: [{role, content}]. The content is a text, or a list of {text} and {image}."""

    messages: list[dict[str, Any]]
    asks: bool
    """Whether the last message of the chat is the user's. Answers that were cut off do not count."""

    @property
    def contents(self) -> list[str]:
        """The texts of the messages."""
        whole = [message["content"] for message in self.messages]
        return [text for content in whole for text in _texts(content)]

    @property
    def has_system(self) -> bool:
        """Whether there is a system message. Without one, the provider adds one of its own."""
        return any(message["role"] == "system" for message in self.messages)

    @property
    def images(self) -> int:
        """The number of images in the messages."""
        return sum("image" in part for message in self.messages if _has_parts(message) for part in message["content"])


@functools.lru_cache(maxsize=64)
def get_preset(preset_id: str, version: int) -> Preset:
    """Return the preset version that a chat pins. Callers must not change it.

    Versions never change, so a process reads each version once. Raises Unprocessable if the version was deleted with its owner.
    This happens only if the chat pins a version that its user was never allowed to use.
    """
    preset = lookup.find(Preset, preset_id, version)
    if preset is None:
        raise Unprocessable("preset_gone", "The preset of this chat is gone. Choose another one for it.")
    return preset


def read_last(thread: str) -> Message | None:
    """Return a thread's last message, interrupted or not."""
    return next(iter(Message.query(thread, consistent_read=True, scan_index_forward=False, limit=1)), None)


def newest_first(thread: str, end: int, reads: int) -> Iterator[Message]:
    """Yield the messages of a thread below `end` that a prompt shows, from the newest on. They are read on demand.

    The first query reads few messages, because callers mostly need few. Each later query reads as many as DynamoDB gives (1 MB).
    Messages that are not shown are read too, so the limit counts queries. Raises TooLarge if `reads` queries do not reach the
    message that the caller needs.
    """
    if end <= 1:
        return  # n counts from 1
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


def compute_reach(tariff: Tariff) -> tuple[int, int]:
    """Return (the most bytes of a prompt, the bytes that each message counts for beside its text).

    Ordinary text has 4 bytes a token, and Japanese text has 6. So a prompt is too long if it has more than 8 bytes for each token
    of the limit. If the model's vocabulary is not known, a text is priced by its bytes in NFC, which may be a third of its own.
    """
    if "max_input" not in tariff:  # a tariff of the first release, which priced each byte as a token
        return tariff["context"], _FIRST_RELEASE_MESSAGE
    bytes_a_token = _BYTES_A_TOKEN if tariff.get("tokenizer") == "qwen" else _BYTES_A_BYTE_OF_NFC
    return tariff["max_input"] * bytes_a_token, MESSAGE_TOKENS * bytes_a_token


def build(preset: Preset, thread: str, end: int, tariff: Tariff, new: Sequence[Message] = ()) -> Prompt:
    """Return the prompt of a thread up to `end` (exclusive), followed by the messages `new`, which are not stored yet.

    Raises TooLarge if the texts are longer than `reach`, or if READS queries do not reach the thread's beginning.
    """
    enough, each = compute_reach(tariff)
    head = [(message["role"], message["type"], message["content"]) for message in preset.messages]
    size = sum(len(content.encode()) + each for _, _, content in head)
    tail: list[tuple[str, str, str]] = []
    for message in chain(reversed(new), newest_first(thread, end, READS)):
        tail.append((message.role, message.type, message.content))
        size += len(message.content.encode()) + each
        if size > enough:
            raise TooLarge("context_too_long", "The conversation is longer than what the model takes.")
    return Prompt(image_urls.to_parts(head + tail[::-1]), asks=bool(tail) and tail[0][0] == "user")


def _has_parts(message: dict[str, Any]) -> bool:
    return isinstance(message["content"], list)


def _texts(content: str | list[dict[str, str]]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
