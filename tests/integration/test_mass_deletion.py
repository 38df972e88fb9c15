"""DELETE /chats: all chats of one's own go, those that come later stay, and no crash leaves anything behind."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.chats import chat_marks, messages, quota
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data import jobs, lookup
from aideer.data.models import Chat, Message, Record, Task
from aideer.security import limits
from aideer.tasks import mass_deletion
from jobs.run import WORKERS
from tests import faults
from tests.support import Answer, Api, Person, accepted, check_rules, make_chat

MakePerson = Callable[..., Person]


def delete_all(api: Api, me: Person, query: str = "?confirm=all") -> Answer:
    return api("chats.delete_all", "DELETE", f"/chats{query}", user=me)


def listed(me: Person) -> list[str]:
    return [key.id for key in Chat.by_create_time.query(me.id)]


def jobs_of(me: Person, *chats: Chat) -> list[Record]:
    """The jobs that are due, of this user's deletions and of the contents of these chats."""
    ids = {chat.id for chat in chats}
    return [
        job
        for job in jobs.list_due(clock.now() + 1)
        if job.data.get("user_id") == me.id or ids & set(job.data.get("chat_ids", job.data.get("chat_id", "")).split())
    ]


def run(job: Record, seconds: float = 60) -> bool:
    return jobs.run(job.pk, job.sk, time.monotonic() + seconds, WORKERS)


def work(me: Person, *chats: Chat) -> list[bool]:
    return [run(job) for job in jobs_of(me, *chats)]


def pass_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + mass_deletion.BEFORE_SECONDS + 1)


def contents(chat: Chat) -> list[str]:
    return [message.content for message in Message.query(chat.thread, consistent_read=True)]


def test_all_of_ones_own_chats_go_with_their_messages_and_nobody_elses(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, other = person(), person()
    mine = [make_chat(me, "secret", "more") for _ in range(3)]
    theirs = make_chat(other, "Hi")
    mine[0].update([Chat.visibility.set("shared")])
    api("chats.update", "PUT", f"/chats/{mine[1].id}", json={"pinned": True}, user=me)
    answer = delete_all(api, me)
    assert (answer.status, answer.json) == (200, {"message": "Deleted."})
    assert api("chats.list", "GET", "/chats", user=me).json == []
    assert [api("chats.get", "GET", f"/chats/{chat.id}", user=other).status for chat in mine] == [404] * 3
    assert chat_marks.list_pinned(me.id) == []
    pass_minute(monkeypatch)
    assert work(me, *mine) == [True, True]
    for chat in mine:
        assert contents(chat) == []
        assert lookup.find(Chat, chat.id) is None
    assert jobs_of(me, *mine) == []
    assert api("chats.get", "GET", f"/chats/{theirs.id}", user=other).status == 200


@pytest.mark.parametrize("query", ["", "?confirm=", "?confirm=true", "?confirm=all&x=1"])
def test_nothing_goes_without_the_confirmation(api: Api, person: MakePerson, query: str) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    assert delete_all(api, me, query).status == 422
    assert listed(me) == [chat.id]
    assert jobs_of(me, chat) == []


def test_the_count_of_chats_goes_down_by_as_many(api: Api, person: MakePerson) -> None:
    me = person()
    for _ in range(5):
        make_chat(me)
    quota.make_room(me.id)
    delete_all(api, me)
    assert lookup.find(Record, *quota.key(me.id)).uses == 0


def test_a_user_without_a_right_count_deletes_all_chats_too(api: Api, person: MakePerson) -> None:
    for known in (None, 1):
        me = person()
        for _ in range(3):
            make_chat(me)
        if known:
            Record(*quota.key(me.id), uses=known).save()
        assert delete_all(api, me).status == 200
        assert listed(me) == []


def test_a_request_makes_the_same_calls_for_one_chat_and_for_forty(
    api: Api, person: MakePerson, counted: list[str]
) -> None:
    for count in (1, mass_deletion.SIZE):
        me = person()
        for _ in range(count):
            make_chat(me)
        quota.make_room(me.id)
        counted.clear()
        delete_all(api, me)
        names = [call.split()[0] for call in counted]
        # The user; the rate limit; the job; then the chats, in one transaction; then their tasks; and the end of the list.
        expected = ["GetItem", "UpdateItem", "PutItem", "Query", "BatchGetItem", "TransactWriteItems", "BatchGetItem"]
        assert names[:7] == expected
        assert names[7:] in ([], ["Query"])


def test_a_request_deletes_so_many_chats_and_the_job_the_rest(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass_deletion, "SIZE", 2)
    monkeypatch.setattr(mass_deletion, "ROUNDS", 2)
    me = person()
    chats = [make_chat(me, "Hi") for _ in range(9)]
    answer = delete_all(api, me)
    assert (answer.status, answer.json) == (202, {"message": "Being deleted."})
    assert sorted(listed(me)) == sorted(chat.id for chat in chats[:5]), "the newest are gone at once"
    while any(job.data["kind"] == "all_chats" for job in jobs_of(me)):
        work(me, *chats)
        if not listed(me):
            pass_minute(monkeypatch)
    work(me, *chats)
    assert [lookup.find(Chat, chat.id) for chat in chats] == [None] * 9
    assert [contents(chat) for chat in chats] == [[]] * 9


def test_a_chat_that_is_opened_after_the_request_stays(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    old = make_chat(me)
    delete_all(api, me)
    new = make_chat(me, "Hi")
    pass_minute(monkeypatch)
    assert all(work(me, old, new))
    assert listed(me) == [new.id]
    assert contents(new) == ["Hi"]


def test_a_chat_whose_request_was_still_under_way_goes_with_the_job(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    late = make_chat(me, "Hi")
    late.delete()
    delete_all(api, me)
    late.save()  # as if only now
    assert work(me) == [False]
    assert listed(me) == []
    assert work(me) == [False], "another may come within the minute"
    pass_minute(monkeypatch)
    assert all(work(me, late))
    assert contents(late) == []
    assert jobs_of(me, late) == []


def test_tasks_of_deleted_chats_stop_and_are_billed_once(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    pending, one = accepted(me, "Hi")
    running, other = accepted(me, "Hi")
    still = Chat(make_chat(me, "Hi").id)
    Task(running).update([Task.status.set("running"), Task.executor.set("e"), Task.lease_until.set(time.time() + 60)])
    assert delete_all(api, me).status == 200
    assert Task.get(pending, consistent_read=True).status == "stopped"
    task = Task.get(running, consistent_read=True)
    assert task.stop_requested
    pass_minute(monkeypatch)
    assert sorted(work(me, one, other)) == [False, True], "the contents wait for the answer"
    assert lookup.find(Chat, still.id) is None, "but those of other chats do not"
    assert lookup.find(Chat, other.id).deleted
    ended = credits.settle(task, Closer.executor("e"), "stopped", Text(content="So"), "stopped", Usage(100, 10))
    assert ended.credits > 0
    assert work(me, one, other) == [True]
    assert [lookup.find(Chat, chat.id) for chat in (one, other)] == [None, None]
    check_rules(me)


@pytest.mark.parametrize("place", ["query", "commit", "stop"])
def test_a_crash_anywhere_leaves_nothing_behind(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(mass_deletion, "SIZE", 2)
    me = person()
    task_id, first = accepted(me, "Hi")
    chats = [first, *(make_chat(me, "Hi") for _ in range(4))]
    names = {"query": "_delete", "commit": "_commit", "stop": "_stop_tasks"}
    work_on, calls = getattr(mass_deletion, names[place]), []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) % 2 == 0:
            raise MemoryError
        return work_on(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(mass_deletion, names[place], dying)
        assert delete_all(api, me).status == 500
        for _ in range(6):  # the job dies as well
            for job in jobs_of(me):
                try:
                    run(job)
                except MemoryError:
                    continue
    pass_minute(monkeypatch)
    for _ in range(3):
        work(me, *chats)
    assert [lookup.find(Chat, chat.id) for chat in chats] == [None] * 5
    assert [contents(chat) for chat in chats] == [[]] * 5
    assert jobs_of(me, *chats) == []
    assert Task.get(task_id, consistent_read=True).status == "stopped"
    check_rules(me)


def test_a_transaction_whose_answer_was_lost_counts_its_chats_once(api: Api, person: MakePerson) -> None:
    for fault in (faults.answer_lost("TransactWriteItems"), faults.doubted()):
        me = person()
        for _ in range(3):
            make_chat(me)
        quota.make_room(me.id)
        with fault:
            assert delete_all(api, me).status == 200
        assert lookup.find(Record, *quota.key(me.id)).uses == 0
        assert listed(me) == []


def test_deletions_of_one_chat_and_of_all_at_once_count_each_chat_once(api: Api, person: MakePerson) -> None:
    from aideer.core.errors import NotFound
    from aideer.tasks import chat_deletion

    me = person()
    chats = [make_chat(me) for _ in range(12)]
    quota.make_room(me.id)

    def delete_one(chat: Chat) -> None:
        try:
            chat_deletion.delete(me.user, chat.id)
        except NotFound:
            return

    with ThreadPoolExecutor(8) as threads:
        both = [threads.submit(mass_deletion.begin, me.user) for _ in range(2)]
        list(threads.map(delete_one, chats))
        assert [one.result() for one in both] == [True, True]
    assert listed(me) == []
    assert lookup.find(Record, *quota.key(me.id)).uses == 0


def test_a_long_job_goes_on_where_its_time_ran_out(api: Api, person: MakePerson) -> None:
    me = person()
    chats = [make_chat(me) for _ in range(2)]
    now = clock.timestamp()
    for chat in chats:
        messages.write([Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(1, 101)])
    delete_all(api, me)
    (job,) = [job for job in jobs_of(me, *chats) if job.data["kind"] == "chats"]
    assert not run(job, seconds=-1)
    assert [len(contents(chat)) for chat in chats] == [100, 100]
    assert run(job)
    assert [contents(chat) for chat in chats] == [[], []]


def test_all_chats_are_deleted_so_many_times_an_hour(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.LIMITS, "delete_chats", limits.Limit(2, 3600))
    me = person()
    assert [delete_all(api, me).status for _ in range(2)] == [200, 200]
    make_chat(me)
    refused = delete_all(api, me)
    assert (refused.status, refused.json["code"]) == (429, "too_many_deletions")
    assert int(refused.headers["retry-after"]) <= 3600
    assert len(listed(me)) == 1
