"""Threads: the messages of one branch of a chat, one item each.

Within a thread, n only grows. A message's n is its position. A chat's path (data/branches.py) says which threads a reader is shown,
and chat_access.py says who may read it.
This module reads a path page by page, lays out a new thread, writes it by batch writes, and deletes it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aideer.core.errors import Detail, NotFound, TooLarge, Unprocessable
from aideer.data import batch_write
from aideer.data.branches import Path
from aideer.data.models import Chat, Message
from aideer.prompts import image_urls
from aideer.schemas.chats import CONTENT_BYTES, READERS_FIELDS, NewMessage, PlacedMessage
from aideer.uploads import references
from aideer.uploads.attachments import Attachments

PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes of a page in its response. A Lambda response may have 6 MB."""
TRANSACTION_BYTES = 3_000_000
"""The most bytes of contents in one transaction. A transaction may have 4 MB."""
_FOLLOWING = 100
"""The most messages of one query for what follows a message."""
REPLACED_READS = 32
"""The most queries (1 MB each) of a replacement. More would take longer than the request may last."""
REPLACED_HIDDEN = 2000
COPIED = 2000
COPIED_READS = 16
"""The most queries (1 MB each) of a copy. A partition takes about 1 MB of writes a second, and a request may last 30 seconds."""
_FILTERED_READS = 16
_FILTERED_PAGE = 200
_UNIT = 4096
"""The bytes of a unit of a consistent read."""


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
    previous: int = 0
    """The n of the message before the page. A page that was read forward has its window's `after` instead."""
    unsent: int = 0
    """The bytes that DynamoDB has read for the page beside its messages. There may be many hidden messages."""


def read_page(path: Path, window: Window, *, hidden: bool) -> Page:
    """Return a window of a path, with its hidden messages or without.

    The page has at most PAGE_BYTES, but at least one message. It can end early after many hidden messages, and `rest` continues
    it. The read is consistent. A page older than the chat's version would stay confirmed by that version's ETag.
    """
    forward = window.after is not None
    found: list[Message] = []
    size, read, ended = 0, 0, None

    def to_page(rest: Window | None = None, previous: int = 0) -> Page:
        shown = found if forward else found[::-1]
        return Page(shown, rest, int(window.after or 0) if forward else previous, max(0, read - size))

    queries = _read_window(path, window, hidden=hidden)
    for items, reached, billed in islice(queries, None if hidden else _FILTERED_READS):
        read += billed
        for item in items:
            message = Message.from_raw_data(item)
            size += _sent_bytes(message)
            if len(found) == window.limit or (found and size > PAGE_BYTES):
                return to_page(window.rest(found[-1].n), message.n)
            found.append(message)
        ended = reached
    return to_page(window.rest(ended) if ended else None)


def _read_window(path: Path, window: Window, *, hidden: bool) -> Iterator[tuple[list[Any], int | None, int]]:
    """Yield what each query of a window gives.

    These are its items, the n from which the next query goes on, or None at the end, and the bytes that DynamoDB has read.
    """
    forward = window.after is not None
    low = (window.after or 0) + 1
    high = window.before - 1 if window.before is not None else 2**53
    parts = [(segment.thread, part) for segment in path if (part := segment.clip(low, high))]
    if not forward:
        parts.reverse()
    for left, (thread, (bottom, top)) in enumerate(parts, 1 - len(parts)):
        raw_pages = Message.query(
            thread,
            Message.n.between(bottom, top),
            filter_condition=None if hidden else Message.visibility == True,  # noqa: E712 - an expression
            consistent_read=True,
            scan_index_forward=forward,
            page_size=window.limit + 1 if hidden else max(window.limit + 1, _FILTERED_PAGE),
        ).page_iter
        for raw in raw_pages:
            reached = raw_pages.last_evaluated_key
            billed = int(raw.get("ConsumedCapacity", {}).get("CapacityUnits", 0) * _UNIT)  # pynamodb always asks for it
            following = int(reached["n"]["N"]) if reached else (top if forward else bottom) if left else None
            yield raw["Items"], following, billed


def get_with_previous(path: Path, n: int) -> tuple[Message, int]:
    """Return the message `n` of a path, and the n of the message before it, or 0. Raises NotFound."""
    found: list[Message] = []
    for segment in reversed(path):
        if part := segment.clip(1, n):
            query = Message.query(
                segment.thread,
                Message.n <= part[1],
                consistent_read=True,
                scan_index_forward=False,
                limit=2 - len(found),
            )
            found += query
        if len(found) == 2 or (found and found[0].n != n):
            break
    if not found or found[0].n != n:
        raise NotFound("message_not_found", "This chat has no such message.")
    return found[0], int(found[1].n) if len(found) > 1 else 0


def read_following(path: Path, n: int) -> Iterator[Message]:
    """Yield the messages of a path from `n` on. They are read on demand, by queries of at most 1 MB."""
    for segment in path:
        if part := segment.clip(n, 2**53):
            yield from Message.query(
                segment.thread, Message.n.between(*part), consistent_read=True, page_size=_FOLLOWING
            )


def find_last_visible(path: Path, below: int, without: Sequence[Message] = ()) -> Message | None:
    """Return the last message of a path below `below` that a preview can show, or None. It is none of `without`.

    Like a page, it gives up after many hidden messages. The chat then has no preview until its next message.
    """
    skipped = {(message.thread, message.n) for message in without}
    queries = _read_window(path, Window(1, before=below), hidden=False)
    for items, *_ in islice(queries, _FILTERED_READS):
        for item in items:
            message = Message.from_raw_data(item)
            if message.content and (message.thread, message.n) not in skipped:
                return message
    return None


def new_items(
    thread: str, first_n: int, new: Sequence[NewMessage], create_time: str, attachments: Attachments | None = None
) -> list[Message]:
    """Return new messages as items of a thread, to be written in one transaction.

    The transaction also uses the `attachments`, the uploads that the messages name. Raises TooLarge if the messages exceed
    TRANSACTION_BYTES, and Unprocessable if a message is not supported.
    """
    made = [_new(thread, n, message, create_time, attachments) for n, message in enumerate(new, first_n)]
    if sum(len(message.content.encode()) for message in made) > TRANSACTION_BYTES:
        raise TooLarge(
            "too_large", Detail("These messages are more than {most} bytes of UTF-8 in all.", most=TRANSACTION_BYTES)
        )
    return made


def arrange(
    old: Path,
    new: str,
    next_n: int,
    placed: Sequence[PlacedMessage],
    create_time: str,
    attachments: Attachments | None = None,
) -> list[Message]:
    """Return the thread `new`: the path `old` with its visible messages replaced by these.

    A message with n keeps its position. It keeps all fields of an answer, unless its role, type or content differs. A message
    without n is new and goes to the end. Hidden messages stay in their positions, and can be addressed like others. New and edited
    messages may name `attachments`. Raises
    Unprocessable if `placed` does not fit the stored messages, and TooLarge if the thread is too long for one request.
    """
    sent = _by_n(placed)
    kept: dict[int, Message] = {}
    hidden = 0
    too_long = TooLarge("too_large", "This chat has too many messages to replace them in one call.")
    for message in _read_whole(old, REPLACED_READS, too_long):
        if message.n in sent:
            kept[message.n] = place(new, message, sent[message.n], create_time, attachments)
        elif not message.visibility:
            kept[message.n] = _move(new, message)
            hidden += 1
    if sent.keys() - kept.keys():
        raise Unprocessable("unknown_message", "This chat has no such message.")
    if hidden > REPLACED_HIDDEN:
        raise TooLarge("too_large", Detail("There are more than {most} hidden messages to keep.", most=REPLACED_HIDDEN))
    added = [message for message in placed if message.n is None]
    return [
        *kept.values(),
        *(_new(new, n, message, create_time, attachments) for n, message in enumerate(added, next_n)),
    ]


def place(
    thread: str, message: Message, wanted: PlacedMessage, now: str, attachments: Attachments | None = None
) -> Message:
    """Return a stored message as `wanted` has it, for a thread. If it says something else, it loses all fields of an answer."""
    visibility = message.visibility if wanted.visibility is None else wanted.visibility
    if (wanted.role, wanted.type, wanted.content) == (message.role, message.type, message.content):
        return _move(thread, message, visibility=visibility)
    return _new(thread, message.n, wanted, now, attachments, visibility=visibility)


def copy_thread(old: Path, new: str, upto: int | None, *, own: bool) -> list[Message]:
    """Return the thread `new`: a copy of the path `old`, whole or up to and including the message `upto`.

    An answer loses its task and its feedback, because they belong to the old chat. A copy of another user's chat has only the
    visible messages, with the fields that a reader sees. Raises Unprocessable if there is no message `upto`, and TooLarge if the
    copy exceeds COPIED messages or COPIED_READS.
    """
    too_long = TooLarge(
        "too_large",
        Detail("A copy can have at most {messages} messages and {size} MB.", messages=COPIED, size=COPIED_READS),
    )
    copies: list[Message] = []
    for message in _read_whole(old, COPIED_READS, too_long, upto=upto, hidden=own):
        if len(copies) == COPIED:
            raise too_long
        copies.append(_copy(new, message, own=own))
    if upto is not None and (not copies or copies[-1].n != upto):
        raise Unprocessable("unknown_message", "This chat has no such message.")
    return copies


def write(messages: Sequence[Message]) -> None:
    """Write a thread that no chat points to yet. Raises Busy if DynamoDB takes too long."""
    for start in range(0, len(messages), batch_write.SIZE):
        batch_write.write(Message, puts=[message.serialize() for message in messages[start : start + batch_write.SIZE]])


def delete_branches(chat: Chat, deadline: float) -> bool:
    """Delete the messages of all branches of a chat. Return False as `delete` does."""
    return all(delete(thread, deadline) for thread in chat.tree.threads)


def delete(thread: str, deadline: float) -> bool:
    """Delete a thread's messages. Return False if `deadline` (of time.monotonic) comes first and some are left."""
    reads = Message.query(thread, consistent_read=True, attributes_to_get=["thread", "n"]).page_iter
    return all(batch_write.delete(Message, raw["Items"], deadline) for raw in reads)


def _read_whole(
    path: Path, reads: int, too_long: TooLarge, *, upto: int | None = None, hidden: bool = True
) -> Iterator[Message]:
    """Yield the messages of a path up to `upto`, with its hidden ones or without.

    Raises `too_long` after `reads` queries (1 MB each). Each segment of the path after the first adds one query to the limit.
    """
    left = reads + len(path) - 1
    for segment in path:
        if not (part := segment.clip(1, 2**53 if upto is None else upto)):
            continue
        pages = Message.query(
            segment.thread,
            Message.n.between(*part),
            filter_condition=None if hidden else Message.visibility == True,  # noqa: E712 - an expression
            consistent_read=True,
        ).page_iter
        more: Any = True
        while more:
            if not left:
                raise too_long
            left -= 1
            yield from map(Message.from_raw_data, next(pages)["Items"])
            more = pages.last_evaluated_key


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


def _move(thread: str, message: Message, **changes: Any) -> Message:
    return Message(**{**message.attribute_values, "thread": thread, **changes})


def _copy(thread: str, message: Message, *, own: bool) -> Message:
    if own:
        return _move(thread, message, task_id=None, feedback=None)
    copy = Message(thread, **{name: getattr(message, name) for name in READERS_FIELDS})
    if message.finish_reason in Message.CUT_OFF:
        copy.finish_reason = message.finish_reason
    return copy


def _new(
    thread: str,
    n: int,
    message: NewMessage | PlacedMessage,
    now: str,
    attachments: Attachments | None,
    *,
    visibility: bool | None = None,
) -> Message:
    made = Message(
        thread,
        n,
        role=message.role,
        type=message.type,
        content=message.content,
        visibility=message.visibility is not False if visibility is None else visibility,
        create_time=now,
    )
    if attachments is not None and references.find_id(message.type, message.content) is not None:
        attachments.fill(made)
        return made
    if message.type == "image":
        image_urls.check(message.role, message.content)
    if message.type == "document":
        raise Unprocessable("upload_required", "The content of a new document is the content of an upload.")
    if not message.content:
        raise Unprocessable("empty_message", "A message needs content.")
    if len(message.content.encode()) > CONTENT_BYTES:
        raise Unprocessable("content_too_long", "A message can have at most 100 KB of UTF-8.")
    return made


def _sent_bytes(message: Message) -> int:
    """Return a message's bytes in the response: JSON inside Lambda's JSON, which escapes the inner escapes once more."""
    text = json.dumps([message.content, message.reasoning], ensure_ascii=False)
    return len(json.dumps(text, ensure_ascii=False).encode()) + 500
