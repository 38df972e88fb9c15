"""Threads: the messages of one generation of a chat, one item each.

Within a chat, n only grows. A message's n is its position. chats.py decides which thread a chat points to, and chat_access.py says
who may read it.
This module reads a thread page by page, lays out a new one, writes it by batch writes, and deletes it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aideer.core.errors import TooLarge, Unprocessable
from aideer.data import batch_write
from aideer.data.models import Message
from aideer.prompts import image_urls
from aideer.schemas.chats import CONTENT_BYTES, READERS_FIELDS, NewMessage, PlacedMessage

PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes of a page in its response. A Lambda response may have 6 MB."""
TRANSACTION_BYTES = 3_000_000
"""The most bytes of contents in one transaction. A transaction may have 4 MB."""
REPLACED_READS = 32
"""The most queries (1 MB each) of a replacement. More would take longer than the request may last."""
REPLACED_HIDDEN = 2000
COPIED = 2000
COPIED_READS = 16
"""The most queries (1 MB each) of a copy. A partition takes about 1 MB of writes a second, and a request may last 30 seconds."""
_FILTERED_READS = 16
_FILTERED_PAGE = 200


@dataclass(frozen=True, slots=True)
class Window:
    """The messages of a thread to read: the last `limit` below `before`, or, with `after`, the first `limit` above it."""

    limit: int = 100
    before: int | None = None
    after: int | None = None

    def rest(self, last: int) -> "Window":
        """Return the next window in the direction of reading, after the message `last`."""
        return Window(self.limit, self.before, last) if self.after is not None else Window(self.limit, last)


@dataclass(frozen=True, slots=True)
class Page:
    """Messages in the order of n, and the next window if there may be more."""

    messages: list[Message]
    rest: Window | None = None


def read_page(thread: str, window: Window, *, hidden: bool) -> Page:
    """Return a window of a thread, with its hidden messages or without.

    The page has at most PAGE_BYTES, but at least one message. It can end early after many hidden messages, and `rest` continues
    it. The read is consistent. A page older than the chat's version would stay confirmed by that version's ETag.
    """
    forward = window.after is not None
    low = (window.after or 0) + 1
    high = window.before - 1 if window.before is not None else 2**53
    if low > high:
        return Page([])
    raw_pages = Message.query(
        thread,
        Message.n.between(low, high),
        filter_condition=None if hidden else Message.visibility == True,  # noqa: E712 - an expression
        consistent_read=True,
        scan_index_forward=forward,
        page_size=window.limit + 1 if hidden else max(window.limit + 1, _FILTERED_PAGE),
    ).page_iter
    found: list[Message] = []
    size = 0
    for raw in islice(raw_pages, None if hidden else _FILTERED_READS):
        for item in raw["Items"]:
            message = Message.from_raw_data(item)
            size += _sent_bytes(message)
            if len(found) == window.limit or (found and size > PAGE_BYTES):
                return Page(found if forward else found[::-1], window.rest(found[-1].n))
            found.append(message)
    reached = raw_pages.last_evaluated_key
    return Page(found if forward else found[::-1], window.rest(int(reached["n"]["N"])) if reached else None)


def new_items(thread: str, first_n: int, new: Sequence[NewMessage], create_time: str) -> list[Message]:
    """Return new messages as items of a thread, to be written in one transaction.

    Raises TooLarge if they exceed TRANSACTION_BYTES, and Unprocessable if a message is not supported.
    """
    if sum(len(message.content.encode()) for message in new) > TRANSACTION_BYTES:
        raise TooLarge("too_large", f"These messages are more than {TRANSACTION_BYTES} bytes of UTF-8 in all.")
    return [_new(thread, n, message, create_time) for n, message in enumerate(new, first_n)]


def arrange(old: str, new: str, next_n: int, placed: Sequence[PlacedMessage], create_time: str) -> list[Message]:
    """Return the thread `new`: the thread `old` with its visible messages replaced by these.

    A message with n keeps its position. It keeps all fields of an answer, unless its role, type or content differs. A message
    without n is new and goes to the end. Hidden messages stay in their positions, and can be addressed like others. Raises
    Unprocessable if `placed` does not fit the stored messages, and TooLarge if the thread is too long for one request.
    """
    sent = _by_n(placed)
    kept: dict[int, Message] = {}
    hidden = 0
    for message in _read_whole(old):
        if message.n in sent:
            kept[message.n] = _place(new, message, sent[message.n], create_time)
        elif not message.visibility:
            kept[message.n] = _move(new, message)
            hidden += 1
    if sent.keys() - kept.keys():
        raise Unprocessable("unknown_message", "This chat has no such message.")
    if hidden > REPLACED_HIDDEN:
        raise TooLarge("too_large", f"There are more than {REPLACED_HIDDEN} hidden messages to keep.")
    added = [message for message in placed if message.n is None]
    return [*kept.values(), *(_new(new, n, message, create_time) for n, message in enumerate(added, next_n))]


def copy_thread(old: str, new: str, upto: int | None, *, own: bool) -> list[Message]:
    """Return the thread `new`: a copy of `old`, whole or up to and including the message `upto`.

    An answer loses its task, because the task belongs to the old chat. A copy of another user's chat has only the visible
    messages, with the fields that a reader sees. Raises Unprocessable if there is no message `upto`, and TooLarge if the copy
    exceeds COPIED messages or COPIED_READS.
    """
    reads = Message.query(
        old,
        None if upto is None else Message.n <= upto,
        filter_condition=None if own else Message.visibility == True,  # noqa: E712 - an expression
        consistent_read=True,
    ).page_iter
    copies: list[Message] = []
    for raw in islice(reads, COPIED_READS):
        copies += [_copy(new, Message.from_raw_data(item), own=own) for item in raw["Items"]]
        if len(copies) > COPIED:
            break
    if len(copies) > COPIED or reads.last_evaluated_key:
        raise TooLarge("too_large", f"A copy can have at most {COPIED} messages and {COPIED_READS} MB.")
    if upto is not None and (not copies or copies[-1].n != upto):
        raise Unprocessable("unknown_message", "This chat has no such message.")
    return copies


def write(messages: Sequence[Message]) -> None:
    """Write a thread that no chat points to yet. Raises Busy if DynamoDB takes too long."""
    for start in range(0, len(messages), batch_write.SIZE):
        batch_write.write(Message, puts=[message.serialize() for message in messages[start : start + batch_write.SIZE]])


def delete(thread: str, deadline: float) -> bool:
    """Delete a thread's messages. Return False if `deadline` (of time.monotonic) comes first and some are left."""
    reads = Message.query(thread, consistent_read=True, attributes_to_get=["thread", "n"]).page_iter
    return all(batch_write.delete(Message, raw["Items"], deadline) for raw in reads)


def _read_whole(thread: str) -> Iterator[Message]:
    reads = Message.query(thread, consistent_read=True).page_iter
    for raw in islice(reads, REPLACED_READS):
        for item in raw["Items"]:
            yield Message.from_raw_data(item)
    if reads.last_evaluated_key:
        raise TooLarge("too_large", "This chat has too many messages to replace them in one call.")


def _by_n(placed: Sequence[PlacedMessage]) -> dict[int, PlacedMessage]:
    sent: dict[int, PlacedMessage] = {}
    last = 0
    new = False
    for message in placed:
        if message.n is None:
            new = True
        elif new or message.n <= last:
            raise Unprocessable(
                "invalid_order", "Send messages in the order of n. New messages have no n, and come last."
            )
        else:
            sent[message.n] = message
            last = message.n
    return sent


def _place(thread: str, message: Message, wanted: PlacedMessage, now: str) -> Message:
    visibility = message.visibility if wanted.visibility is None else wanted.visibility
    if (wanted.role, wanted.type, wanted.content) == (message.role, message.type, message.content):
        return _move(thread, message, visibility=visibility)
    return _new(thread, message.n, wanted, now, visibility=visibility)


def _move(thread: str, message: Message, **changes: Any) -> Message:
    return Message(**{**message.attribute_values, "thread": thread, **changes})


def _copy(thread: str, message: Message, *, own: bool) -> Message:
    if own:
        return _move(thread, message, task_id=None)
    copy = Message(thread, **{name: getattr(message, name) for name in READERS_FIELDS})
    if message.finish_reason in Message.CUT_OFF:
        copy.finish_reason = message.finish_reason
    return copy


def _new(
    thread: str, n: int, message: NewMessage | PlacedMessage, now: str, *, visibility: bool | None = None
) -> Message:
    if message.type == "image":
        image_urls.check(message.role, message.content)
    if not message.content:
        raise Unprocessable("empty_message", "A message needs content.")
    if len(message.content.encode()) > CONTENT_BYTES:
        raise Unprocessable("content_too_long", "A message can have at most 100 KB of UTF-8.")
    return Message(
        thread,
        n,
        role=message.role,
        type=message.type,
        content=message.content,
        visibility=message.visibility is not False if visibility is None else visibility,
        create_time=now,
    )


def _sent_bytes(message: Message) -> int:
    """Return a message's bytes in the response: JSON inside Lambda's JSON, which escapes the inner escapes once more."""
    text = json.dumps([message.content, message.reasoning], ensure_ascii=False)
    return len(json.dumps(text, ensure_ascii=False).encode()) + 500
