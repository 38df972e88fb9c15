"""Search in the titles and messages of a user's own chats, newest chat first.

A page looks at the chats in the order of their last change, and reads the messages of each. So it needs no index, and finds what
release 0.1.0 stored. A page ends when it has enough hits, or has looked at CHATS chats, or has read BYTES, or took SECONDS. Then
its cursor goes on, within a long chat too. The bytes that a page reads count in the reading budget, at least 4 KB for each query.

Chats are read consistently, so a deleted chat is not found. Only the messages on the shown path of a chat are searched.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any

from aideer.chats import chat_lists
from aideer.core import text_search
from aideer.core.errors import Unprocessable
from aideer.data.models import Chat, Message, User
from aideer.schemas.search import Scope, SearchHitResponse
from aideer.security import budgets, rate_limits
from aideer.web import pagination

CHATS = 100
"""The most chats whose messages a page reads."""
TITLES = 1000
"""The most chats that a page looks at if it searches in titles only."""
FIRST = 25
"""The chats that a page reads at first. Most searches end there."""
BYTES = 4 * 1024 * 1024
"""A page begins no query after so many bytes of messages."""
SECONDS = 8
WIDTH = 4
"""The chats that are read at one time."""
QUERIES = 4
"""The most queries (1 MB each) of one chat in a page. The next page goes on in the chat."""
_LEAST = 4096  # bytes that DynamoDB bills for a query
_END = 2**53

Key = tuple[str, str]
"""The place of a chat in the list: its update_time and id."""


@dataclass(slots=True)
class _Found:
    """The hits in a chat. If `rest` is not 0, the messages below it were not read."""

    messages: list[Message] = field(default_factory=list)
    read: int = 0
    rest: int = 0


def search(
    user: User, query: str, scope: Scope, limit: int, cursor: str | None
) -> tuple[list[SearchHitResponse], str | None]:
    """Return hits of a search, newest chat first, and the cursor of the next page.

    A page may have fewer hits than `limit`, or none, although more follow. Raises Unprocessable and TooManyRequests.
    """
    words = text_search.split_words(query)
    if not words:
        raise Unprocessable("empty_query", "Name something to search for.")
    name = f"search {scope} {sha256(' '.join(words).encode()).hexdigest()[:16]}"
    start = _decode_cursor(name, cursor) if cursor else None
    rate_limits.count("search", user.id)
    return _Page(user.id, words, scope, limit).fill(name, start)


class _Page:
    """A page of hits, as it fills."""

    def __init__(self, user_id: str, words: list[str], scope: Scope, limit: int) -> None:
        self._user_id, self._words, self._scope, self._limit = user_id, words, scope, limit
        self._hits: list[SearchHitResponse] = []
        self._read = 0

    def fill(self, name: str, start: tuple[str, str, int] | None) -> tuple[list[SearchHitResponse], str | None]:
        """Look at chats from `start` on until the page is full. Return its hits, and its cursor."""
        deadline = time.monotonic() + SECONDS
        most = CHATS if self._scope == "all" else TITLES
        looked, place = 0, start
        chats = self._list_chats(start, most)
        with ThreadPoolExecutor(WIDTH) as threads:
            while wave := list(islice(chats, WIDTH)):
                found = threads.map(partial(self._search_chat, deadline), wave)
                for (key, chat, below), one in zip(wave, list(found), strict=True):
                    looked += 1
                    place = self._take(key, chat, below, one)
                    if place[2] or len(self._hits) >= self._limit:
                        break
                else:
                    if self._read < BYTES and time.monotonic() < deadline:
                        continue
                break
            else:
                place = place if looked >= most else None
        budgets.charge(self._user_id, self._read)
        return self._hits, pagination.encode(name, list(place)) if place else None

    def _list_chats(self, start: tuple[str, str, int] | None, most: int) -> Iterator[tuple[Key, Chat | None, int]]:
        """Yield keys and chats, newest first, each with the n below which to begin. The first may be one that was begun before."""
        key = start[:2] if start else None
        if start and key and start[2]:
            begun = chat_lists.get_own(self._user_id, [key[1]])
            yield key, begun[0] if begun else None, start[2]
            most -= 1
        for item, chat in chat_lists.walk(self._user_id, "update_time", start=key, first=FIRST, most=most):
            yield (item.update_time, item.id), chat, _END

    def _search_chat(self, deadline: float, place: tuple[Key, Chat | None, int]) -> _Found:
        _, chat, below = place
        found = _Found()
        if chat is None or self._scope == "titles" or not chat.message_count:
            return found
        queries = 0
        for segment in reversed(chat.path):
            first, last = segment.clip(1, below - 1) or (1, 0)
            while last >= first:
                if queries == QUERIES or (queries and time.monotonic() > deadline):
                    found.rest = last + 1
                    return found
                queries += 1
                last = self._query(segment.thread, first, last, found)
        return found

    def _query(self, thread: str, first: int, last: int, found: _Found) -> int:
        """Search messages of a thread, and return the n of the last one that is left, or 0."""
        pages = Message.query(thread, Message.n.between(first, last), scan_index_forward=False).page_iter
        raw = next(pages)
        size = 0
        for item in raw["Items"]:
            size += sum(len(value["S"].encode()) for value in item.values() if "S" in value)
            if _is_searched(item) and text_search.contains(item["content"]["S"], self._words):
                found.messages.append(Message.from_raw_data(item))
        found.read += max(size, _LEAST)
        reached: dict[str, Any] | None = pages.last_evaluated_key
        return int(reached["n"]["N"]) - 1 if reached else 0

    def _take(self, key: Key, chat: Chat | None, below: int, found: _Found) -> tuple[str, str, int]:
        """Add the hits of a chat while there is room, and return where the next page goes on."""
        self._read += found.read + chat_lists.LOOK_BYTES
        if chat is None:
            return (*key, 0)
        if below == _END and text_search.contains(chat.title, self._words):
            self._add(chat, chat.title, chat.create_time)
        for message in found.messages:
            if len(self._hits) >= self._limit:
                return (*key, int(message.n) + 1)
            self._add(chat, message.content, message.create_time, n=int(message.n), role=message.role)
        return (*key, found.rest)

    def _add(self, chat: Chat, text: str, create_time: str, **more: Any) -> None:
        snippet = text_search.cut_snippet(text, self._words)
        hit = SearchHitResponse(
            chat_id=chat.id,
            title=chat.title,
            archived=bool(chat.archived),
            update_time=chat.update_time,
            snippet=snippet,
            create_time=create_time,
            **more,
        )
        self._hits.append(hit)


def _is_searched(item: dict[str, Any]) -> bool:
    """Return whether a stored message is a visible text."""
    visible: bool = item.get("visibility", {"BOOL": True})["BOOL"]
    return visible and item.get("type", {"S": "text"})["S"] == "text"


def _decode_cursor(name: str, cursor: str) -> tuple[str, str, int]:
    update_time, chat_id, n = pagination.decode(name, cursor, (str, str, int))
    if not (0 < len(update_time.encode()) <= 64 and 0 < len(chat_id) <= 64 and 0 <= n <= _END):
        raise Unprocessable("invalid_cursor", "This cursor is not from this list.")
    return update_time, chat_id, n
