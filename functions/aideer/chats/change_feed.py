"""The feed of changes: which of a user's chats have changed since a cursor, with deletions.

Writers leave marks (data/changes.py), and a reader of the feed gives them numbers. Numbers only grow, so a change that is committed
late gets a number above all cursors. No index and no clock decides what a reader is told. These are the records of a user's feed,
all under one hash key:

    head       the last number, and the entries of the last numbering
    new#<chat> the mark of a chat that has changed since it was numbered
    seq#<n>    an entry: a chat that changed. A chat has one entry, the one with its last number
    at#<chat>  the number of the chat's entry

One transaction numbers up to BATCH chats. It requires that the head and the marks are as they were read. So of two readers at once,
one numbers and the other reads again. A reader that dies has numbered all of a batch or nothing of it.

A transaction appears item by item to plain reads. So a reader never relies on having seen all entries of the last numbering: the
head holds these. The next numbering begins with a snapshot of them, so all entries of earlier numberings can be read.
For the same reason the chats are read as a snapshot.

Entries of deletions, and cursors, end after changes.KEPT_DAYS. Chats that changed before there were marks are numbered from the
index of chats, in two looks (_Look).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aideer.core import clock
from aideer.core.errors import Busy, Gone
from aideer.data import changes, snapshots
from aideer.data.base import new_id
from aideer.data.models import Chat, Record, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.web import pagination

BATCH = 24
"""The most chats of one numbering: each takes up to four of a transaction's 100 items."""
ROUNDS = 4
"""The most numberings of one request."""
BETWEEN_LOOKS_SECONDS = 86400
_OVERLAP_SECONDS = 3600
"""The second look begins so long before the first one, because the index lags and clocks differ."""
_HEAD, _ENTRIES, _NUMBERS = "head", "seq#", "at#"


@dataclass(frozen=True, slots=True)
class Change:
    """A chat that changed, as it is now. None if it was deleted."""

    chat_id: str
    chat: Chat | None


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in the order of their numbers, the cursor that goes on after them, and whether more follow already."""

    changes: list[Change]
    next: str
    more: bool


def read(user: User, since: str | None, limit: int) -> Page:
    """Return what changed in the user's chats since a cursor, or all chats without one. At most `limit` chats are returned.

    Raises Unprocessable if the cursor is not from this user's feed, Gone if it is too old or from a feed that was lost, and Busy.
    """
    now = clock.now()
    cursor = None if since is None else _decode(user, since)
    head, left = _number_changes(user.id, cursor, limit, now)
    begin = cursor or _Cursor(head.feed, 0, int(now))
    page, end = _read_entries(user.id, head, begin.n, limit)
    more = left or end < head.n
    following = _Cursor(head.feed, end, begin.time if more else int(now))
    kept = [entry for entry in page if entry.ttl is None or entry.ttl > now]
    return Page(_read_chats(user.id, kept), _encode(user, following), more)


@dataclass(frozen=True, slots=True)
class _Cursor:
    """A place in a feed: all entries up to `n` were read.

    The deletions above `n` were made after `time`, in seconds since the epoch, or tell nothing new. So they are kept for KEPT_DAYS
    after it.
    """

    feed: str
    n: int
    time: int


@dataclass(frozen=True, slots=True)
class _Entry:
    n: int
    chat_id: str
    ttl: int | None
    """When the entry of a deletion ends. Entries of other changes do not end."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A walk along the index of chats by update_time, for chats that changed without a mark: release 0.1.0 made none.

    The first look takes all chats that have no entry. The second one follows a day later, and takes what changed since shortly
    before the first. It is needed because the index lags, and because functions of the previous release may have run on meanwhile.
    """

    due: int
    since: str = ""
    after: tuple[str, str] | None = None
    """The update_time and the id of the last chat that the look has passed."""

    @property
    def is_first(self) -> bool:
        return not self.since


@dataclass(frozen=True, slots=True)
class _Head:
    feed: str
    """The id of the feed. Cursors have it, so a cursor of a feed that was lost is recognised."""
    n: int
    last: tuple[tuple[str, int | None], ...]
    """The chats and ends of the entries of the last numbering. The last one has the number `n`."""
    look: _Look | None
    version: int
    """Raised by each write. 0 if the head is not stored yet."""

    def is_look_due(self, now: float) -> bool:
        return self.look is not None and self.look.due <= now

    @property
    def entries(self) -> list[_Entry]:
        first = self.n - len(self.last) + 1
        return [_Entry(first + i, chat_id, ttl) for i, (chat_id, ttl) in enumerate(self.last)]

    @classmethod
    def of(cls, record: Record) -> "_Head":
        data = record.data
        look = data.get("look")
        return cls(
            data["feed"],
            data["n"],
            tuple((chat_id, ttl) for chat_id, ttl in data["last"]),
            look and _Look(look["due"], look["since"], look["after"] and tuple(look["after"])),
            int(record.version),
        )

    def to_record(self, user_id: str) -> Record:
        look = self.look and {"due": self.look.due, "since": self.look.since, "after": self.look.after}
        data = {"feed": self.feed, "n": self.n, "last": self.last, "look": look}
        return Record(changes.key(user_id), _HEAD, data=data, version=self.version)


def _number_changes(user_id: str, cursor: _Cursor | None, limit: int, now: float) -> tuple[_Head, bool]:
    """Number changed chats until there are enough for a page. Return the head, and whether chats are left to be numbered.

    Raises Gone for a cursor that cannot be continued, and Busy.
    """
    rounds, numbered = 0, None
    for _ in attempts():
        head, marks = _read_head(user_id)
        head = head or _Head(new_id(), 0, (), _Look(int(now)), 0)
        if cursor:
            _check(cursor, head, now)
        left = bool(marks) or head.is_look_due(now)
        if not left or rounds == ROUNDS or (cursor and head.n - cursor.n >= limit):
            return head, left
        try:
            numbered = head = _number(user_id, head, marks[:BATCH]) if marks else _look(user_id, head, now)
        except Refused:
            continue  # another reader numbers, or a chat has changed again
        rounds += 1
        if len(marks) <= BATCH and not head.is_look_due(now):
            return head, False
    if numbered:  # it went slowly, and this much is done
        return numbered, True
    raise Busy


def _read_head(user_id: str) -> tuple[_Head | None, list[Record]]:
    """Return the head if there is one, and up to BATCH + 1 marks."""
    after_marks = changes.MARKS[:-1] + chr(ord(changes.MARKS[-1]) + 1)
    found = list(
        Record.query(changes.key(user_id), Record.sk.between(_HEAD, after_marks), consistent_read=True, limit=BATCH + 2)
    )
    heads = [_Head.of(record) for record in found if record.sk == _HEAD]
    marks = [record for record in found if record.sk.startswith(changes.MARKS)]
    return (heads[0] if heads else None), marks[: BATCH + 1]


def _number(user_id: str, head: _Head, marks: list[Record]) -> _Head:
    """Give numbers to marked chats, and remove the marks. Raises Refused if the head or a mark has changed."""
    transaction = Transaction()
    for mark in marks:
        transaction.delete(mark.sk, Record(mark.pk, mark.sk), Record.data == mark.data)
    chats = [(mark.sk.removeprefix(changes.MARKS), None if mark.ttl is None else int(mark.ttl)) for mark in marks]
    numbers = _read_numbers(user_id, head, [chat_id for chat_id, _ in chats])
    return _commit(transaction, user_id, head, chats, numbers)


def _look(user_id: str, head: _Head, now: float) -> _Head:
    """Take the next chats of the head's look, and number those that it is for. Raises Refused if the head has changed."""
    look = head.look or _Look(int(now))
    keys = list(
        Chat.by_update_time.query(
            user_id,
            None if look.is_first else Chat.update_time >= look.since,
            limit=BATCH,
            last_evaluated_key=_index_key(user_id, *look.after) if look.after else None,
        )
    )
    numbers = _read_numbers(user_id, head, [key.id for key in keys])
    kept = [key.id for key in keys if (old := numbers.get(key.id)) is None or (old.ttl is None and not look.is_first)]
    following: _Look | None
    if len(keys) == BATCH:
        following = replace(look, after=(keys[-1].update_time, keys[-1].id))
    elif look.is_first:
        since = clock.timestamp(look.due - _OVERLAP_SECONDS)
        following = _Look(int(now) + BETWEEN_LOOKS_SECONDS, since)
    else:
        following = None
    return _commit(Transaction(), user_id, replace(head, look=following), [(id, None) for id in kept], numbers)


def _index_key(user_id: str, update_time: str, chat_id: str) -> dict[str, Any]:
    return {"owner_id": {"S": user_id}, "update_time": {"S": update_time}, "id": {"S": chat_id}}


def _read_numbers(user_id: str, head: _Head, chat_ids: Iterable[str]) -> dict[str, Record]:
    """Return the numbers that these chats have. Raises Refused if there are later numbers than the head's.

    The snapshot includes the entries of the last numbering. When it succeeds, plain reads show these entries too.
    """
    pk = changes.key(user_id)
    wanted = [Record(pk, f"{_NUMBERS}{chat_id}") for chat_id in chat_ids]
    last = [Record(pk, _entry_key(entry.n)) for entry in head.entries]
    found = [record for record in snapshots.read([*wanted, *last])[: len(wanted)] if record]
    if any(record.data["n"] > head.n for record in found):
        raise Refused({_HEAD})
    return {record.sk.removeprefix(_NUMBERS): record for record in found}


def _commit(
    transaction: Transaction,
    user_id: str,
    head: _Head,
    chats: Sequence[tuple[str, int | None]],
    numbers: dict[str, Record],
) -> _Head:
    """Write the entries of these chats, each with its end, in place of their former ones. Return the new head."""
    pk = changes.key(user_id)
    condition = Record.version == head.version if head.version else Record.sk.does_not_exist()
    new = replace(head, n=head.n + len(chats), last=tuple(chats) or head.last, version=head.version + 1)
    transaction.put(_HEAD, new.to_record(user_id), condition)
    for n, (chat_id, ttl) in enumerate(chats, head.n + 1):
        transaction.put(_entry_key(n), Record(pk, _entry_key(n), data={"chat": chat_id}, ttl=ttl))
        number = f"{_NUMBERS}{chat_id}"
        transaction.put(number, Record(pk, number, data={"n": n}, ttl=ttl))
        if former := numbers.get(chat_id):
            key = _entry_key(former.data["n"])
            transaction.delete(key, Record(pk, key))
    transaction.commit()
    return new


def _read_entries(user_id: str, head: _Head, n: int, limit: int) -> tuple[list[_Entry], int]:
    """Return the first entries above a number, at most `limit`, and the number up to which these are all."""
    if head.n <= n:
        return [], head.n
    stored = Record.query(
        changes.key(user_id),
        Record.sk.between(_entry_key(n + 1), _entry_key(head.n)),
        consistent_read=True,
        limit=limit + 1,
    )
    found = [
        _Entry(int(r.sk.removeprefix(_ENTRIES)), r.data["chat"], None if r.ttl is None else int(r.ttl)) for r in stored
    ]
    # Entries that the last numbering has replaced may still show. So `found` may reach less far than it has chats.
    end = found[-1].n if len(found) > limit else head.n
    by_chat = {entry.chat_id: entry for entry in [*found, *head.entries] if entry.n > n}
    entries = sorted((entry for entry in by_chat.values() if entry.n <= end), key=lambda entry: entry.n)
    return (entries[:limit], entries[limit - 1].n) if len(entries) > limit else (entries, end)


def _read_chats(user_id: str, entries: list[_Entry]) -> list[Change]:
    found = snapshots.read([Chat(entry.chat_id) for entry in entries])
    return [
        Change(entry.chat_id, chat if chat and not chat.deleted and chat.owner_id == user_id else None)
        for entry, chat in zip(entries, found, strict=True)
    ]


def _entry_key(n: int) -> str:
    return f"{_ENTRIES}{n:016}"


def _check(cursor: _Cursor, head: _Head, now: float) -> None:
    """Raise Gone if deletions after the cursor may be forgotten, or if it is from a feed that was lost."""
    if cursor.feed != head.feed or cursor.n > head.n or now - cursor.time > changes.KEPT_DAYS * 86400:
        raise Gone("resync", "This cursor is too old. Drop your copy, and read all changes again, without `since`.")


def _encode(user: User, cursor: _Cursor) -> str:
    return pagination.encode(f"changes {user.id}", [cursor.feed, cursor.n, cursor.time])


def _decode(user: User, text: str) -> _Cursor:
    return _Cursor(*pagination.decode(f"changes {user.id}", text, (str, int, int)))
