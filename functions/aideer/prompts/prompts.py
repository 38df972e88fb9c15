"""Prompts: the pinned preset's messages, then the chat's messages up to the prompt's end.

Answers that were cut off are left out.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aideer.billing.pricing import Tariff
from aideer.core.errors import Detail, TooLarge, Unprocessable
from aideer.data import lookup
from aideer.data.branches import Path
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


CONTINUE = (
    "Your last answer was cut off. Continue it exactly where it ends, in the same language and format. Do not repeat any of it, "
    "and do not comment on it."
)
"""The last message of a prompt that continues an answer. No reader sees it."""


Turn = tuple[str, str, str]
"""A message as prompts show it: its role, type and content."""


@dataclass(frozen=True, slots=True)
class Turns:
    """All messages of a path up to some end."""

    shown: tuple[Turn, ...]
    """Those that a prompt shows, from the newest on."""
    stored: int
    """The number of all of them."""

    def add(self, message: Message) -> "Turns":
        """Return these messages with one more behind them."""
        return Turns(_to_turns(message) + self.shown, self.stored + 1)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages in DashScope's form: [{role, content}]. The content is a text, or a list of {text} and {image}."""

    messages: list[dict[str, Any]]
    asks: bool
    """Whether the last message of the chat is the user's. Answers that were cut off do not count."""
    stored: int = 0
    """The number of stored messages that it was made from, with those that it leaves out."""
    turns: Turns = Turns((), 0)
    """The messages that it was made from: the stored ones, and the new ones behind them."""
    beside: dict[str, Any] = field(default_factory=dict)
    """Parameters of the call that belong to the prompt and are not stored: the tools and the form of the answer of a completion."""

    @property
    def contents(self) -> list[str]:
        """The texts of the messages, with the calls of tools in them, and with the ids of the calls that they answer."""
        whole = [message["content"] for message in self.messages]
        calls = [json.dumps(message["tool_calls"]) for message in self.messages if "tool_calls" in message]
        calls += [message["tool_call_id"] for message in self.messages if "tool_call_id" in message]
        return [text for content in whole for text in _texts(content)] + calls

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


def read_last(path: Path) -> Message | None:
    """Return a path's last message, interrupted or not."""
    for segment in reversed(path):
        below = None if segment.last is None else Message.n <= segment.last
        query = Message.query(segment.thread, below, consistent_read=True, scan_index_forward=False, limit=1)
        if last := next(iter(query), None):
            return last
    return None


def newest_first(path: Path, end: int, reads: int) -> Iterator[Message]:
    """Yield the messages of a path below `end` that a prompt shows, from the newest on. They are read on demand.

    The first query reads few messages, because callers mostly need few. Each later query reads as many as DynamoDB gives (1 MB).
    Messages that are not shown are read too, so the limit counts queries. Each segment of the path after the first adds one query
    to the limit. Raises TooLarge if the queries do not reach the message that the caller needs.
    """
    return filter(_is_shown, _read_back(path, end, reads))


def _read_back(path: Path, end: int, reads: int) -> Iterator[Message]:
    left = reads + len(path) - 1
    for segment in reversed(path):
        part = segment.clip(1, end - 1)
        below = part[1] + 1 if part else 0
        size: int | None = _PAGE
        while below:
            if not left:
                raise TooLarge(
                    "context_too_long",
                    Detail("The conversation is longer than the {size} MB that are read for an answer.", size=reads),
                )
            left -= 1
            pages = Message.query(
                segment.thread, Message.n < below, consistent_read=True, scan_index_forward=False, page_size=size
            ).page_iter
            for item in next(pages)["Items"]:
                message = Message.from_raw_data(item)
                below = message.n
                yield message
            below, size = below if pages.last_evaluated_key else 0, None


def _is_shown(message: Message) -> bool:
    return bool(message.content) and message.finish_reason not in Message.CUT_OFF


def continue_answer(answer: Message) -> list[Message]:
    """Return the messages that end a prompt for the rest of an answer: its text so far, and CONTINUE."""
    return [
        Message(answer.thread, answer.n, role="assistant", content=answer.content),
        Message(answer.thread, answer.n, role="user", content=CONTINUE),
    ]


def compute_reach(tariff: Tariff) -> tuple[int, int]:
    """Return (the most bytes of a prompt, the bytes that each message counts for beside its text).

    Ordinary text has 4 bytes a token, and Japanese text has 6. So a prompt is too long if it has more than 8 bytes for each token
    of the limit. If the model's vocabulary is not known, a text is priced by its bytes in NFC, which may be a third of its own.
    """
    if "max_input" not in tariff:  # a tariff of the first release, which priced each byte as a token
        return tariff["context"], _FIRST_RELEASE_MESSAGE
    bytes_a_token = _BYTES_A_TOKEN if tariff.get("tokenizer") == "qwen" else _BYTES_A_BYTE_OF_NFC
    return tariff["max_input"] * bytes_a_token, MESSAGE_TOKENS * bytes_a_token


def build(
    preset: Preset, path: Path, end: int, tariff: Tariff, new: Sequence[Message] = (), known: Turns | None = None
) -> Prompt:
    """Return the prompt of a path up to `end` (exclusive), followed by the messages `new`, which are not stored yet.

    The messages of the path are read, unless they are `known`. Raises TooLarge if the texts are longer than `reach`, or if READS
    queries do not reach the path's beginning.
    """
    enough, each = compute_reach(tariff)
    head = [(message["role"], message["type"], message["content"]) for message in preset.messages]
    size = sum(len(content.encode()) + each for _, _, content in head)
    tail: list[Turn] = []

    def put_before(turns: tuple[Turn, ...]) -> None:
        nonlocal size
        tail.extend(turns)
        size += sum(len(content.encode()) + each for _, _, content in turns)
        if size > enough:
            raise TooLarge("context_too_long", "The conversation is longer than what the model takes.")

    for message in reversed(new):
        put_before(_to_turns(message))
    stored = known.stored if known else 0
    if known:
        put_before(known.shown)
    else:
        for stored, message in enumerate(_read_back(path, end, READS), 1):  # noqa: B007 - used behind the loop
            put_before(_to_turns(message))
    asks = bool(tail) and tail[0][0] == "user"
    turns = Turns(tuple(tail), stored + len(new))
    return Prompt(image_urls.to_parts(head + tail[::-1]), asks=asks, stored=stored, turns=turns)


def _to_turns(message: Message) -> tuple[Turn, ...]:
    return ((message.role, message.type, message.content),) if _is_shown(message) else ()


def _has_parts(message: dict[str, Any]) -> bool:
    return isinstance(message["content"], list)


def _texts(content: str | list[dict[str, str]]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
