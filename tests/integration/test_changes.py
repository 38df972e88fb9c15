"""GET /changes: what changed in one's own chats. aideer/chats/change_feed.py and aideer/data/changes.py have the rules."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from aideer.accounts import deletion
from aideer.billing.credits import Closer, Text, release, settle
from aideer.chats import change_feed
from aideer.core import clock, settings
from aideer.core.usage import Usage
from aideer.data import changes, transactions
from aideer.data.models import Chat, Record, Task, User
from aideer.data.transactions import Transaction
from aideer.web import pagination
from tests import faults
from tests.support import Answer, Api, Person, make_chat, sweep

MakePerson = Callable[..., Person]
DAY = 86400


def read(api: Api, who: Person, since: str | None = None, limit: int | None = None) -> Answer:
    query = urlencode({k: v for k, v in (("since", since), ("limit", limit)) if v is not None})
    return api("changes.list", "GET", f"/changes?{query}", user=who)


class Copy:
    """A client's copy of somebody's chats, kept by the recipe of the API's page."""

    def __init__(self, api: Api, who: Person, limit: int | None = None) -> None:
        self._api, self._who, self._limit = api, who, limit
        self.cursor: str | None = None
        self.chats: dict[str, Any] = {}

    def follow(self) -> list[str]:
        """Call until there is no more. Return the chats that came, in order."""
        came: list[str] = []
        for _ in range(1_000):
            answer = read(self._api, self._who, self.cursor, self._limit)
            assert answer.status == 200, answer.body
            page = answer.json
            for change in page["changes"]:
                came.append(change["chat_id"])
                if change.get("deleted"):
                    assert change.keys() == {"chat_id", "deleted"}
                    self.chats.pop(change["chat_id"], None)
                else:
                    assert change["version"] == change["chat"]["version"]
                    self.chats[change["chat_id"]] = change["chat"]
            self.cursor = page["next"]
            if not page["more"]:
                return came
        raise AssertionError("there is always more")


def stored(who: Person) -> dict[str, int]:
    """The versions of somebody's chats."""
    return {
        chat.id: chat.version for chat in Chat.scan(Chat.owner_id == who.id, consistent_read=True) if not chat.deleted
    }


def versions(copy: Copy) -> dict[str, int]:
    return {chat_id: chat["version"] for chat_id, chat in copy.chats.items()}


def records(who: Person) -> list[str]:
    return [record.sk for record in Record.query(changes.key(who.id), consistent_read=True)]


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets days pass."""
    shift = [0.0]
    really = clock.now
    monkeypatch.setattr(clock, "now", lambda: really() + shift[0])

    def passing(count: float) -> None:
        shift[0] += count * DAY

    return passing


def append(api: Api, who: Person, chat_id: str) -> None:
    body = {"messages": [{"role": "user", "content": "And?"}]}
    path = f"/chats/{chat_id}/messages"
    assert api("chats.append", "POST", path, json=body, user=who, parameters={"id": chat_id}).status == 200


def delete(api: Api, who: Person, chat_id: str) -> None:
    answer = api("chats.delete", "DELETE", f"/chats/{chat_id}", user=who, parameters={"id": chat_id})
    assert answer.status == 200, answer.body


def retitle(api: Api, who: Person, chat_id: str, title: str = "Another") -> None:
    path = f"/chats/{chat_id}"
    assert api("chats.update", "PUT", path, json={"title": title}, user=who, parameters={"id": chat_id}).status == 200


def test_the_first_calls_bring_every_chat_as_the_list_shows_it(api: Api, person: MakePerson) -> None:
    me = person()
    chat_ids = {make_chat(me, "hello").id for _ in range(5)}
    copy = Copy(api, me, limit=2)
    assert set(copy.follow()) == chat_ids
    listed = api("chats.list", "GET", "/chats", user=me).json
    assert {chat["id"]: chat for chat in listed} == copy.chats
    assert copy.follow() == []


def test_a_user_without_chats_gets_a_cursor(api: Api, person: MakePerson) -> None:
    me = person()
    copy = Copy(api, me)
    assert copy.follow() == []
    chat = make_chat(me, "hello")
    append(api, me, chat.id)
    assert copy.follow() == [chat.id]


def asks(api: Api, me: Person, chat_id: str) -> None:
    assert api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id}, user=me).status == 200


def answers(api: Api, me: Person, chat_id: str) -> None:
    asks(api, me, chat_id)
    (task_id,) = me.user.holds.attribute_values
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    settle(Task.get(task_id), Closer.executor("e"), "finished", Text("", "A deer."), "stop", Usage(1, 1))


def fails(api: Api, me: Person, chat_id: str) -> None:
    asks(api, me, chat_id)
    (task_id,) = me.user.holds.attribute_values
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    release(Task.get(task_id), Closer.executor("e"), "upstream_error", Text("", "A"))


def stops(api: Api, me: Person, chat_id: str) -> None:
    asks(api, me, chat_id)
    (task_id,) = me.user.holds.attribute_values
    path = f"/tasks/{task_id}/stop"
    assert api("tasks.stop", "POST", path, user=me, parameters={"id": task_id}).status == 200


def sweeps(api: Api, me: Person, chat_id: str) -> None:
    asks(api, me, chat_id)
    (task_id,) = me.user.holds.attribute_values
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e"), Task.lease_until.set(1)])
    sweep()


def entitles(api: Api, me: Person, chat_id: str) -> None:
    body = {"chat_id": chat_id, "type": "title_generation"}
    assert api("tasks.create", "POST", "/tasks", json=body, user=me).status == 200
    (task_id,) = me.user.holds.attribute_values
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e")])
    settle(Task.get(task_id), Closer.executor("e"), "finished", Text("", "About deer"), "stop", Usage(1, 1))
    assert Chat.get(chat_id, consistent_read=True).title == "About deer"


def pins(api: Api, me: Person, chat_id: str) -> None:
    path, body = f"/chats/{chat_id}", {"pinned": True, "tags": ["a"]}
    assert api("chats.update", "PUT", path, json=body, user=me, parameters={"id": chat_id}).status == 200


def replaces(api: Api, me: Person, chat_id: str) -> None:
    path, body = f"/chats/{chat_id}", {"messages": [{"role": "user", "content": "Anew"}]}
    tag = {"If-Match": f'"{Chat.get(chat_id).version}"'}
    sent = api("chats.update", "PUT", path, json=body, user=me, parameters={"id": chat_id}, headers=tag)
    assert sent.status == 200, sent.body


@pytest.mark.parametrize(
    "change", [append, retitle, asks, answers, fails, stops, sweeps, entitles, pins, replaces, delete]
)
def test_each_change_of_a_chat_comes(api: Api, person: MakePerson, change: Callable[..., None]) -> None:
    me = person()
    chat, other = make_chat(me, "hello"), make_chat(me, "hello")
    copy = Copy(api, me)
    assert set(copy.follow()) == {chat.id, other.id}
    change(api, me, chat.id)
    assert copy.follow() == [chat.id]
    assert versions(copy) == stored(me)


def test_each_way_to_a_new_chat_comes(api: Api, person: MakePerson) -> None:
    me = person()
    copy = Copy(api, me)
    first = make_chat(me, "hello")
    copy.follow()
    body = {"preset_id": first.preset_id, "title": "New"}
    created = api("chats.create", "POST", "/chats", json=body, user=me).json["id"]
    assert copy.follow() == [created]
    copied = api("chats.copy", "POST", f"/chats/{first.id}/copy", user=me, parameters={"id": first.id}).json["id"]
    assert copy.follow() == [copied]
    question = {"chat": {"preset_id": first.preset_id}, "messages": [{"role": "user", "content": "What is a deer?"}]}
    opened = api("tasks.create", "POST", "/tasks", json=question, user=me)
    assert opened.status == 200, opened.body
    assert copy.follow() == [opened.json["chat_id"]]
    assert versions(copy) == stored(me)


def test_a_change_of_an_administrator_comes_to_the_owner(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    chat = make_chat(me, "hello")
    mine, theirs = Copy(api, me), Copy(api, admin)
    mine.follow()
    theirs.follow()
    retitle(api, admin, chat.id)
    assert mine.follow() == [chat.id]
    delete(api, admin, chat.id)
    assert mine.follow() == [chat.id]
    assert mine.chats == {}
    assert theirs.follow() == []


def test_shared_chats_of_others_do_not_come(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    chat = make_chat(other, "hello")
    path = f"/chats/{chat.id}"
    api("chats.update", "PUT", path, json={"visibility": "shared"}, user=other, parameters={"id": chat.id})
    assert Copy(api, me).follow() == []


def test_a_chat_that_changed_often_comes_once(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    for _ in range(3):
        append(api, me, chat.id)
    assert copy.follow() == [chat.id]
    for _ in range(3):
        append(api, me, chat.id)
        copy.follow()
    late = Copy(api, me)
    assert late.follow() == [chat.id]
    assert len([sk for sk in records(me) if sk.startswith("seq#")]) == 1


def test_nothing_new_costs_one_call(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    for _ in range(3):
        make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    counted.clear()
    assert copy.follow() == []
    assert counted == [f"GetItem {settings.USERS_TABLE}", f"Query {settings.RECORDS_TABLE}"]


@pytest.mark.parametrize("others", [0, 30, 200])
def test_a_change_costs_the_same_among_many_chats(
    api: Api, person: MakePerson, counted: list[str], others: int
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    for _ in range(others):
        make_chat(me)
    copy = Copy(api, me, limit=100)
    copy.follow()
    append(api, me, chat.id)
    counted.clear()
    assert copy.follow() == [chat.id]
    records_table = settings.RECORDS_TABLE
    assert counted == [
        f"GetItem {settings.USERS_TABLE}",
        f"Query {records_table}",
        "TransactGetItems",
        "TransactWriteItems",
        f"Query {records_table}",
        "TransactGetItems",
    ]


def test_no_page_costs_more_than_its_bound(api: Api, person: MakePerson, counted: list[str]) -> None:
    """Whatever waits to be numbered: marks, and chats without one."""
    me = person()
    made = [make_chat(me, "hello") for _ in range(130)]
    for chat in made[:60]:
        append(api, me, chat.id)
    cursor, most, came, calls = None, 0, set(), 0
    while True:
        counted.clear()
        page = read(api, me, cursor, 100).json
        came |= {change["chat_id"] for change in page["changes"]}
        cursor, calls = page["next"], calls + 1
        most = max(most, len(counted))
        if not page["more"]:
            break
    assert came == {chat.id for chat in made}
    assert most <= 1 + 1 + change_feed.ROUNDS * 4 + 2
    assert calls <= 4


@pytest.mark.parametrize("since", ["", "x", "WyJjaGF0cyJd", "é", "bnVsbA"])
def test_a_malformed_cursor_is_refused(api: Api, person: MakePerson, since: str) -> None:
    answer = read(api, person(), since)
    assert (answer.status, answer.json["code"]) == (422, "invalid_cursor")


def test_a_cursor_of_another_user_is_refused(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    cursor = read(api, other).json["next"]
    answer = read(api, me, cursor)
    assert (answer.status, answer.json["code"]) == (422, "invalid_cursor")


def test_a_cursor_of_a_feed_that_was_lost_says_resync(api: Api, person: MakePerson) -> None:
    me = person()
    make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    assert changes.remove_all(me.id, 1e18)
    answer = read(api, me, copy.cursor)
    assert (answer.status, answer.json["code"]) == (410, "resync")
    assert records(me) == [], "a refusal writes nothing"
    anew = Copy(api, me)
    anew.follow()
    assert versions(anew) == stored(me)
    assert read(api, me, copy.cursor).status == 410, "the feed is another one"


@pytest.mark.parametrize("n", [10**6, 10**30])
def test_a_cursor_beyond_the_end_says_resync(api: Api, person: MakePerson, n: int) -> None:
    me = person()
    cursor = read(api, me).json["next"]
    name = f"changes {me.id}"
    feed, _, time = pagination.decode(name, cursor, (str, int, int))
    assert read(api, me, pagination.encode(name, [feed, n, time])).json["code"] == "resync"
    assert read(api, me, pagination.encode(name, [feed, -5, time])).status == 200


def test_deletions_are_told_for_90_days_and_then_the_cursor_is_too_old(
    api: Api, person: MakePerson, days: Callable[[float], None]
) -> None:
    me = person()
    chat, kept = make_chat(me, "hello"), make_chat(me, "hello")
    early, late = Copy(api, me), Copy(api, me)
    early.follow()
    days(2)
    early.follow()  # the second look
    late.follow()
    delete(api, me, chat.id)
    days(89.9)
    assert early.follow() == [chat.id]
    assert early.chats.keys() == {kept.id}
    days(0.2)
    answer = read(api, me, late.cursor)
    assert (answer.status, answer.json["code"]) == (410, "resync")
    assert early.follow() == [], "its cursor is of yesterday"
    anew = Copy(api, me)
    anew.follow()
    assert versions(anew) == stored(me)


def test_a_page_does_not_make_a_cursor_younger_than_what_it_has_not_read(
    api: Api, person: MakePerson, days: Callable[[float], None]
) -> None:
    me = person()
    first, second = make_chat(me, "hello"), make_chat(me, "hello")
    slow, fast = Copy(api, me), Copy(api, me)
    slow.follow()
    days(2)
    slow.follow()  # the second look
    append(api, me, first.id)
    delete(api, me, second.id)
    days(80)
    fast.follow()
    page = read(api, me, slow.cursor, 1).json
    assert ([change["chat_id"] for change in page["changes"]], page["more"]) == ([first.id], True)
    days(12)
    assert read(api, me, page["next"], 1).json["code"] == "resync", "the deletion is forgotten by now"
    assert read(api, me, fast.cursor, 1).status == 200


def test_an_entry_past_its_end_counts_as_absent(api: Api, person: MakePerson, days: Callable[[float], None]) -> None:
    me = person()
    chat, kept = make_chat(me, "hello"), make_chat(me, "hello")
    Copy(api, me).follow()
    delete(api, me, chat.id)
    days(80)
    assert set(Copy(api, me).follow()) == {chat.id, kept.id}
    days(11.5)
    assert Copy(api, me).follow() == [kept.id]
    assert [record for record in Record.query(changes.key(me.id)) if record.ttl], "DynamoDB still has it"


def test_records_of_deletions_end_by_themselves(api: Api, person: MakePerson) -> None:
    me = person()
    chat, unseen = make_chat(me, "hello"), make_chat(me, "hello")
    Copy(api, me).follow()
    delete(api, me, chat.id)
    Copy(api, me).follow()
    delete(api, me, unseen.id)
    left = list(Record.query(changes.key(me.id), consistent_read=True))
    assert sorted(record.sk.split("#")[0] for record in left if record.ttl) == ["at", "new", "seq"]
    now = clock.now()
    assert all(90 * DAY < record.ttl - now <= 91 * DAY for record in left if record.ttl)


def test_chats_of_release_0_1_come(api: Api, person: MakePerson) -> None:
    me = person()
    made = [make_chat(me, "hello").id for _ in range(60)]
    assert records(me) == []
    copy = Copy(api, me)
    came = copy.follow()
    assert sorted(came) == sorted(made)
    assert versions(copy) == stored(me)


def test_a_second_look_finds_what_functions_of_the_former_release_changed_meanwhile(
    api: Api, person: MakePerson, days: Callable[[float], None]
) -> None:
    me = person()
    long_ago = clock.timestamp(clock.now() - 30 * DAY)
    old = make_chat(me, "hello")
    old.update([Chat.update_time.set(long_ago)])
    chat = make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    chat.update([Chat.version.add(1), Chat.update_time.set(clock.timestamp())])  # by a function that makes no marks
    new = make_chat(me, "hello")
    days(0.9)
    assert copy.follow() == []
    days(0.2)
    assert set(copy.follow()) == {chat.id, new.id}
    assert versions(copy) == stored(me)
    days(3)
    assert copy.follow() == []


@pytest.fixture
def lagging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From its call on, the index of chats shows nothing that happens, for ever."""
    index = type(Chat.by_update_time)
    really = index.query
    frozen: dict[str, list[Any]] = {}

    def freeze() -> None:
        def query(self: Any, owner_id: str, *rest: Any, **named: Any) -> Any:
            return iter(frozen.setdefault(owner_id, []))

        monkeypatch.setattr(index, "query", query)

    yield freeze
    monkeypatch.setattr(index, "query", really)


def test_with_an_index_that_lags_for_ever_no_change_is_skipped(
    api: Api, person: MakePerson, lagging: Callable[[], None]
) -> None:
    me = person()
    lagging()
    template = make_chat(me, "hello")
    append(api, me, template.id)
    copy = Copy(api, me, limit=3)
    assert copy.follow() == [template.id]
    body = {"preset_id": template.preset_id, "title": "New"}
    made = [api("chats.create", "POST", "/chats", json=body, user=me).json["id"] for _ in range(8)]
    assert sorted(copy.follow()) == sorted(made)
    for chat_id in made[::2]:
        append(api, me, chat_id)
    delete(api, me, made[1])
    assert sorted(copy.follow()) == sorted([*made[::2], made[1]])
    assert versions(copy) == stored(me)


def test_a_change_that_is_committed_late_is_told_late(api: Api, person: MakePerson) -> None:
    """Its transaction was made before others that are told already."""
    me = person()
    slow, fast = make_chat(me, "hello"), make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    transaction = Transaction()
    transaction.update("chat", Chat(slow.id), [Chat.version.add(1)], Chat.id.exists())
    changes.mark_in(transaction, me.id, slow.id)
    append(api, me, fast.id)
    assert copy.follow() == [fast.id]
    transaction.commit()
    assert copy.follow() == [slow.id]
    assert versions(copy) == stored(me)


def test_readers_at_once_are_all_told_everything(api: Api, person: MakePerson) -> None:
    me = person()
    chats = [make_chat(me, "hello") for _ in range(30)]
    copies = [Copy(api, me, limit=n) for n in (7, 20, 100)]
    for copy in copies:
        copy.follow()
    for chat in chats:
        append(api, me, chat.id)
    barrier = threading.Barrier(3)
    users = {copy: User.get(me.id) for copy in copies}

    def follow(copy: Copy) -> None:
        # The resolver keeps one event a process, so threads call the feed itself.
        barrier.wait()
        while True:
            page = change_feed.read(users[copy], copy.cursor, copy._limit or 50)
            for change in page.changes:
                assert change.chat
                copy.chats[change.chat_id] = {"version": change.chat.version}
            copy.cursor = page.next
            if not page.more:
                return

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(follow, copies))
    for copy in copies:
        assert versions(copy) == stored(me)
    assert len([sk for sk in records(me) if sk.startswith("seq#")]) == 30


CALLS = 6


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("nth", range(CALLS))
def test_a_reader_may_die_at_each_call(api: Api, person: MakePerson, nth: int, after: bool) -> None:
    me = person()
    chats = [make_chat(me, "hello") for _ in range(3)]
    copy, other = Copy(api, me), Copy(api, me)
    copy.follow()
    other.follow()
    append(api, me, chats[0].id)
    delete(api, me, chats[1].id)
    with faults.dying(nth, after=after), pytest.raises(faults.Died):
        change_feed.read(me.user, copy.cursor, 50)
    assert set(copy.follow()) == {chats[0].id, chats[1].id}
    assert set(other.follow()) == {chats[0].id, chats[1].id}
    assert versions(copy) == versions(other) == stored(me)
    assert not [sk for sk in records(me) if sk.startswith("new#")]


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500),
        lambda: faults.answer_lost("TransactWriteItems", times=2),
        lambda: faults.doubted(),
        lambda: faults.refused("TransactGetItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactGetItems", faults.THROTTLED),
        lambda: faults.answer_lost("TransactGetItems"),
    ],
)
def test_faults_of_dynamodb_lose_nothing(api: Api, person: MakePerson, fault: Callable[[], Any]) -> None:
    me = person()
    chat = make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    append(api, me, chat.id)
    with fault():
        assert copy.follow() == [chat.id]
    assert versions(copy) == stored(me)
    assert not [sk for sk in records(me) if sk.startswith("new#")]


def test_a_deleted_users_feed_vanishes(api: Api, person: MakePerson, days: Callable[[float], None]) -> None:
    me = person()
    for _ in range(30):
        make_chat(me, "hello")
    chat = make_chat(me, "hello")
    Copy(api, me).follow()
    append(api, me, chat.id)
    assert records(me)
    deletion.delete(me.user, me.id)
    assert deletion.remove(me.id, 1e18)
    assert records(me) == []
    assert deletion.finish(me.id, 1e18)
    assert records(me) == []
    assert stored(me) == {}


def test_a_snapshot_that_keeps_meeting_writers_is_busy_and_loses_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    copy = Copy(api, me)
    copy.follow()
    append(api, me, chat.id)
    with monkeypatch.context() as impatient, faults.refused("TransactGetItems", faults.CONFLICT, times=1_000):
        impatient.setattr(transactions, "PATIENCE_SECONDS", 0.05)
        answer = read(api, me, copy.cursor)
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "busy", "1")
    assert copy.follow() == [chat.id]


def test_slow_numbering_shows_what_is_done(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    made = {make_chat(me, "hello").id for _ in range(60)}
    monkeypatch.setattr(change_feed, "attempts", lambda: iter([None]))
    page = read(api, me, None, 100).json
    assert (len(page["changes"]), page["more"]) == (change_feed.BATCH, True)
    copy = Copy(api, me, 100)
    assert set(copy.follow()) == made
