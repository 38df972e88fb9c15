"""The feed of changes in any order of calls, and with transactions that readers see by halves (aideer/chats/change_feed.py)."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.chats import change_feed, chats
from aideer.core import aws, clock
from aideer.core import settings as tables
from aideer.core.errors import Gone, NotFound
from aideer.data import changes
from aideer.data.base import connection
from aideer.data.models import Chat, Record
from aideer.data.transactions import Refused, Transaction
from aideer.schemas.chats import NewChat, NewMessages
from aideer.tasks import chat_deletion
from tests import faults
from tests.support import Person, make_chat, make_person

DAY = 86400
TOUCHES = 2
"""How many transactional calls meet an unfinished transaction, before it is finished."""


class Client:
    """A client that follows the feed of a user, page by page."""

    def __init__(self, who: Person, limit: int = 50) -> None:
        self._user, self._limit = who.user, limit
        self.cursor: str | None = None
        self.copy: dict[str, int] = {}

    def call(self) -> bool:
        """Take one page. Return whether there is more."""
        try:
            page = change_feed.read(self._user, self.cursor, self._limit)
        except Gone:
            self.cursor, self.copy = None, {}
            return True
        for change in page.changes:
            if change.chat is None:
                self.copy.pop(change.chat_id, None)
            else:
                self.copy[change.chat_id] = int(change.chat.version)
        self.cursor = page.next
        return page.more

    def follow(self) -> dict[str, int]:
        """Take all pages, and return the copy."""
        for _ in range(1_000):
            if not self.call():
                return self.copy
        raise AssertionError("there is always more")


def stored(who: Person) -> dict[str, int]:
    found = Chat.scan(Chat.owner_id == who.id, consistent_read=True)
    return {chat.id: int(chat.version) for chat in found if not chat.deleted}


def append(who: Person, chat_id: str) -> None:
    chats.append(who.user, chat_id, NewMessages.model_validate({"messages": [{"role": "user", "content": "And?"}]}))


@contextlib.contextmanager
def half_seen(is_hidden: Callable[[str, str], bool]) -> Iterator[list[str]]:
    """Let the next transaction with such items happen, and hide these from plain reads, as DynamoDB may for a moment.

    `is_hidden` takes a table's name and the last part of a key. A transactional call that touches a hidden item meets a conflict.
    After TOUCHES of them, everything shows. Yields the keys that are hidden.
    """
    client = connection().client
    plain = aws.shared_session().create_client("dynamodb")
    parts = {tables.CHATS_TABLE: ("id",), tables.RECORDS_TABLE: ("pk", "sk")}
    before: dict[str, Any] = {}
    hidden: list[str] = []
    touches = [0]

    def name(table: str, key: dict[str, Any]) -> str:
        return json.dumps([table, *(key[part]["S"] for part in parts.get(table, ()))])

    def steps(request: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for item in request["TransactItems"]:
            for kind, what in item.items():
                yield kind, what["TableName"], what.get("Key") or what["Item"]

    def begin(params: dict[str, Any], **_: Any) -> None:
        if touches[0] or hidden:
            return
        for kind, table, key in steps(json.loads(params["body"])):
            only_key = {part: key[part] for part in parts.get(table, ())}
            if kind in ("Put", "Update") and only_key and is_hidden(table, list(only_key.values())[-1]["S"]):
                hidden.append(name(table, key))
                before[hidden[-1]] = plain.get_item(TableName=table, Key=only_key, ConsistentRead=True).get("Item")

    def conflict(request: Any, **_: Any) -> Any:
        call = request.headers["amz-sdk-invocation-id"]
        if not any(name(table, key) in hidden for _, table, key in steps(json.loads(request.body))) or call == own[0]:
            return None
        if not own[0]:
            own[0] = call  # the transaction itself
            return None
        touches[0] += 1
        if touches[0] > TOUCHES:
            hidden.clear()
            return None
        return faults.respond(request, faults.CONFLICT)

    def hide(parsed: dict[str, Any], params: Any = None, context: Any = None, model: Any = None, **_: Any) -> None:
        if not hidden or not own[0]:
            return
        table = context["asked"].get("TableName")
        if "Item" in parsed and (key := name(table, parsed["Item"])) in hidden:
            parsed["Item"] = before[key]
        if "Items" in parsed and "IndexName" not in context["asked"]:
            shown = [before.get(name(table, item), item) for item in parsed["Items"]]
            parsed["Items"] = [item for item in shown if item is not None]
        for one, items in parsed.get("Responses", {}).items() if model.name == "BatchGetItem" else ():
            shown = [before.get(name(one, item), item) for item in items]
            parsed["Responses"][one] = [item for item in shown if item is not None]

    def note(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = json.loads(params["body"])

    own = [""]
    hooks = [
        ("before-call.dynamodb.TransactWriteItems", begin),
        ("before-send.dynamodb.TransactWriteItems", conflict),
        ("before-send.dynamodb.TransactGetItems", conflict),
        *((f"before-call.dynamodb.{read}", note) for read in ("GetItem", "Query", "BatchGetItem")),
        *((f"after-call.dynamodb.{read}", hide) for read in ("GetItem", "Query", "BatchGetItem")),
    ]
    for event, hook in hooks:
        client.meta.events.register_first(event, hook)
    try:
        yield hidden
    finally:
        for event, hook in hooks:
            client.meta.events.unregister(event, hook)


def test_a_mark_that_shows_before_its_change_tells_the_change() -> None:
    me = make_person()
    chat = make_chat(me, "hello")
    client = Client(me)
    client.follow()
    with half_seen(lambda table, _: table == tables.CHATS_TABLE) as hidden:
        append(me, chat.id)
        assert hidden, "the change does not show yet"
        assert Chat.get(chat.id, consistent_read=True).version == 1
        assert client.follow() == {chat.id: 2}


@pytest.mark.parametrize("part", ["head", "seq#", "at#"])
def test_a_numbering_that_shows_by_halves_hides_no_change(part: str) -> None:
    me = make_person()
    first, second = make_chat(me, "hello"), make_chat(me, "hello")
    one, two, three = Client(me), Client(me), Client(me)
    for client in (one, two, three):
        client.follow()
    append(me, first.id)
    with half_seen(lambda table, key: table == tables.RECORDS_TABLE and key.startswith(part)) as hidden:
        assert one.follow() == {first.id: 2, second.id: 1}
        assert hidden, "the numbering does not show yet"
        two.follow()
        append(me, second.id)
        for client in (one, two, three):
            client.follow()
    for client in (one, two, three):
        assert client.follow() == {first.id: 2, second.id: 2} == stored(me)


def test_entries_that_show_after_they_were_replaced_hide_no_change() -> None:
    me = make_person()
    for _ in range(6):
        make_chat(me, "hello")
    first = Client(me)
    first.follow()
    entries = list(Record.query(changes.key(me.id), Record.sk.startswith("seq#"), consistent_read=True))
    for entry in entries[:2]:
        append(me, entry.data["chat"])
    first.follow()
    for entry in entries[:2]:
        Record(entry.pk, entry.sk, data=entry.data).save()  # as a reader may see it for a moment
    second = Client(me, limit=2)
    assert second.call(), "there is more"
    for entry in entries[:2]:
        Record(entry.pk, entry.sk).delete()
    assert second.follow() == stored(me) == first.copy


class Feed:
    """A user with some chats, writers and clients."""

    def __init__(self) -> None:
        self.me = make_person()
        self.made = [make_chat(self.me, "hello").id for _ in range(3)]
        self._preset_id = Chat.get(self.made[0]).preset_id
        self.clients = [Client(self.me, limit) for limit in (1, 3, 50)]
        self.late: list[Transaction] = []
        self.shift = 0.0

    def do(self, step: tuple[Any, ...]) -> None:
        """Do one of STEPS."""
        kind, *rest = step
        getattr(self, kind)(*rest)

    def create(self) -> None:
        new = NewChat.model_validate({"preset_id": self._preset_id, "title": "New"})
        self.made.append(chats.create(self.me.user, new)[0].id)

    def append(self, which: int) -> None:
        with contextlib.suppress(NotFound):
            append(self.me, self.made[which % len(self.made)])

    def delete(self, which: int) -> None:
        with contextlib.suppress(NotFound):
            chat_deletion.delete(self.me.user, self.made[which % len(self.made)])

    def begin(self, which: int) -> None:
        """A change whose transaction is made now, and committed later."""
        transaction, chat_id = Transaction(), self.made[which % len(self.made)]
        there = Chat.id.exists() & Chat.deleted.does_not_exist()
        transaction.update("chat", Chat(chat_id), [Chat.version.add(1)], there)
        changes.mark_in(transaction, self.me.id, chat_id)
        self.late.append(transaction)

    def commit(self) -> None:
        while self.late:
            with contextlib.suppress(Refused):
                self.late.pop().commit()

    def read(self, who: int, at: int, meanwhile: list[tuple[Any, ...]]) -> None:
        """A call of a client, before whose nth call of DynamoDB other things happen."""
        left = [at]

        def interrupt(**_: Any) -> None:
            left[0] -= 1
            if left[0] == -1:
                for step in meanwhile:
                    self.do(step)

        events = connection().client.meta.events
        events.register_first("before-call.dynamodb.*", interrupt)
        try:
            self.clients[who].call()
        finally:
            events.unregister("before-call.dynamodb.*", interrupt)

    def die(self, who: int, at: int, after: bool) -> None:
        """A reader that dies: its client learns nothing."""
        client = self.clients[who]
        with contextlib.suppress(faults.Died), faults.dying(at, after=after):
            change_feed.read(client._user, client.cursor, client._limit)

    def wait(self, days: int) -> None:
        """Time passes. DynamoDB removes what has ended, or some of it."""
        self.shift += days * DAY
        for n, record in enumerate(Record.query(changes.key(self.me.id), consistent_read=True)):
            if record.ttl and record.ttl < clock.now() and n % 2:
                record.delete()


WHICH, WHO = st.integers(0, 7), st.integers(0, 2)
WRITES = st.one_of(
    st.tuples(st.just("create")),
    st.tuples(st.just("append"), WHICH),
    st.tuples(st.just("delete"), WHICH),
    st.tuples(st.just("begin"), WHICH),
    st.tuples(st.just("commit")),
)
READS = st.tuples(st.just("read"), WHO, st.just(99), st.just([]))
STEPS = st.one_of(
    WRITES,
    st.tuples(st.just("read"), WHO, st.integers(0, 8), st.lists(WRITES | READS, min_size=1, max_size=3)),
    st.tuples(st.just("die"), WHO, st.integers(0, 8), st.booleans()),
    st.tuples(st.just("wait"), st.integers(1, 60)),
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=3, max_size=14))
def test_in_any_order_each_client_has_each_chats_last_version(steps: list[tuple[Any, ...]]) -> None:
    """Writers, late commits, readers in the midst of each other, readers that die, and time."""
    feed = Feed()
    really = clock.now
    with (
        mock.patch.object(clock, "now", side_effect=lambda: really() + feed.shift),
        mock.patch.object(change_feed, "BATCH", 2),
        mock.patch.object(change_feed, "ROUNDS", 2),
    ):
        for step in steps:
            feed.do(step)
        feed.commit()
        for client in feed.clients:
            assert client.follow() == stored(feed.me)
    left = [record.sk for record in Record.query(changes.key(feed.me.id), consistent_read=True)]
    assert not [sk for sk in left if sk.startswith(changes.MARKS)]
    entries = [sk for sk in left if sk.startswith("seq#")]
    assert len(entries) <= len(feed.made), "one entry a chat"
