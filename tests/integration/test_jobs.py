"""Jobs: written with their cause, handed over when due, worked to their end whatever happens in between."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.chats import chats, messages
from aideer.core import aws, clock, settings
from aideer.core.usage import Usage
from aideer.data import batch_write, jobs
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Record, Task
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, control
from jobs.run import WORKERS, handler
from tests import faults
from tests.support import Api, Context, Person, caller, check_rules, make_chat

MakePerson = Callable[..., Person]
LATER = 21 * 60


def jobs_of(chat: Chat, after: float = 0) -> list[Record]:
    """The chat's jobs that are due so many seconds from now."""
    return [job for job in jobs.list_due(clock.now() + after) if job.data.get("chat_id") == chat.id]


def replaced(api: Api, person: Person, chat: Chat) -> Chat:
    answer = api(
        "chats.update",
        "PUT",
        f"/chats/{chat.id}",
        json={"messages": [{"role": "user", "content": "new"}]},
        user=person,
        headers={"If-Match": "*"},
    )
    assert answer.status == 200, answer.body
    return Chat.get(chat.id, consistent_read=True)


def contents(thread: str) -> list[str]:
    return [message.content for message in Message.query(thread, consistent_read=True)]


def run(job: Record, seconds: float = 60) -> bool:
    return jobs.run(job.pk, job.sk, time.monotonic() + seconds, WORKERS)


def exists(job: Record) -> bool:
    return bool(list(Record.query(job.pk, Record.sk == job.sk, consistent_read=True)))


# --- threads that were replaced


def test_a_replaced_thread_stays_for_its_readers_and_then_goes(api: Api, person: MakePerson) -> None:
    me = person()
    old = make_chat(me, "a", "b")
    new = replaced(api, me, old)
    assert contents(old.thread) == ["a", "b"]
    assert jobs_of(old) == []
    (job,) = jobs_of(old, LATER)
    assert run(job)
    assert contents(old.thread) == []
    assert contents(new.thread) == ["new"]
    assert not exists(job)


def test_a_replacement_that_died_before_its_end_leaves_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "a", "b")

    def die(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(chats, "_commit", die)
        answer = api(
            "chats.update",
            "PUT",
            f"/chats/{chat.id}",
            json={"messages": [{"role": "user", "content": "new"}]},
            user=me,
            headers={"If-Match": '"1"'},
        )
        assert answer.status == 500
    (job,) = jobs_of(chat, LATER)
    broken_off = f"{chat.id}#{job.data['generation']}"
    assert contents(broken_off) == ["new"]
    last = replaced(api, me, chat)
    assert run(job)
    assert contents(broken_off) == []
    assert contents(chat.thread) == ["a", "b"], "what has only just been replaced is left to its own job"
    (job,) = jobs_of(chat, LATER)
    assert run(job)
    assert contents(chat.thread) == []
    assert contents(last.thread) == ["new"]


def test_of_many_replacements_only_the_last_thread_stays(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    threads = [chat.thread, *(replaced(api, me, chat).thread for _ in range(3))]
    for gone, job in enumerate(sorted(jobs_of(chat, LATER), key=lambda job: job.sk), 1):
        assert run(job)
        assert [bool(contents(thread)) for thread in threads] == [at >= gone for at in range(4)], "each in its time"
    assert jobs_of(chat, LATER) == []


def test_a_replacement_that_got_no_answer_leaves_its_old_thread_for_the_same_time(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    with faults.answer_lost("TransactWriteItems"):
        new = replaced(api, me, chat)
    (job,) = jobs_of(chat, LATER)
    last = replaced(api, me, chat)
    assert run(job)
    assert [contents(thread) for thread in (chat.thread, new.thread, last.thread)] == [[], ["new"], ["new"]]


def test_a_chat_never_points_to_a_thread_whose_job_was_worked(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "a")
    write = messages.write

    def late(thread: list[Message]) -> None:
        write(thread)
        (job,) = jobs_of(chat, LATER)
        assert run(job)

    monkeypatch.setattr(messages, "write", late)
    body = {"messages": [{"role": "user", "content": "new"}]}
    answer = api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers={"If-Match": '"1"'})
    assert (answer.status, answer.json["code"]) == (412, "precondition_failed")
    assert contents(Chat.get(chat.id, consistent_read=True).thread) == ["a"]
    assert jobs_of(chat, LATER) == []


def test_a_job_of_an_earlier_release_keeps_the_current_one_of_its_two_threads(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "current")
    other = f"{chat.id}#other"
    for old, new in (("other", chat.generation), (chat.generation, "other")):
        messages.write([Message(other, 1, role="user", content="x", create_time=clock.timestamp())])
        jobs.create("generation", -1, chat_id=chat.id, old=old, new=new)
        (job,) = jobs_of(chat)
        assert run(job)
        assert contents(other) == []
        assert contents(chat.thread) == ["current"]


def test_a_job_that_runs_out_of_time_is_left_for_the_next_sweep(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    now = clock.timestamp()
    messages.write([Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(1, 101)])
    replaced(api, me, chat)
    (job,) = jobs_of(chat, LATER)
    job.update([Record.at.set(int(clock.now()) + 10**6)])  # in somebody's hands: ours
    assert not run(job, seconds=-1)
    assert len(contents(chat.thread)) == 100
    assert len(jobs_of(chat, LATER)) == 1, "free to be handed over"
    assert run(job)
    assert contents(chat.thread) == []


def test_a_job_that_fails_halfway_goes_on_where_it_was(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me)
    now = clock.timestamp()
    messages.write([Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(1, 101)])
    replaced(api, me, chat)
    (job,) = jobs_of(chat, LATER)
    write, calls = batch_write.write, []

    def failing(*args: Any, **kwargs: Any) -> None:
        calls.append(kwargs)
        if len(calls) == 3:
            raise ConnectionError
        write(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(batch_write, "write", failing)
        with pytest.raises(ConnectionError):
            run(job)
    assert len(contents(chat.thread)) == 50
    assert run(job)
    assert contents(chat.thread) == []


# --- chats that were deleted


def test_a_deleted_chat_is_removed_with_its_messages(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a", "b")
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    (job,) = jobs_of(chat, 1)
    assert run(job)
    assert contents(chat.thread) == []
    assert list(Chat.query(chat.id, consistent_read=True)) == []
    assert not exists(job)
    assert run(job), "once more, as queues do"


def test_a_chat_that_is_deleted_after_a_replacement_leaves_no_thread(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    new = replaced(api, me, chat)
    api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    for job in sorted(jobs_of(chat, LATER), key=lambda job: job.sk):
        assert run(job)
    assert contents(chat.thread) + contents(new.thread) == []


def test_a_deleted_chat_stays_until_its_task_has_been_billed(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    wanted = NewTask(chat_id=chat.id)
    task_id = admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted)).task_id
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e"), Task.lease_until.set(time.time() + 60)])
    api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    (job,) = jobs_of(chat, 1)
    assert not run(job)
    assert contents(chat.thread) == ["Hi"]
    (job,) = jobs_of(chat, 1)
    task = Task.get(task_id, consistent_read=True)
    assert task.stop_requested
    ended = credits.settle(task, Closer.executor("e"), "stopped", Text(content="So"), "stopped", Usage(100, 10))
    assert ended.status == "stopped"
    assert ended.credits > 0
    assert run(job)
    assert list(Chat.query(chat.id, consistent_read=True)) == []
    assert contents(chat.thread) == []
    check_rules(me)


def test_a_task_whose_stop_was_never_asked_for_is_stopped_by_the_job(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    wanted = NewTask(chat_id=chat.id)
    task_id = admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted)).task_id

    def die(_: str) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(control, "request_stop", die)
        assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 500
    (job,) = jobs_of(chat, 1)
    assert run(job)
    assert Task.get(task_id, consistent_read=True).status == "stopped"
    assert list(Chat.query(chat.id, consistent_read=True)) == []
    check_rules(me)


# --- handing over


def received() -> list[dict[str, str]]:
    """What the queue holds."""
    found: list[dict[str, str]] = []
    sqs = aws.get_client("sqs")
    while True:
        answer = sqs.receive_message(QueueUrl=settings.JOBS_QUEUE_URL, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        for message in answer.get("Messages", []):
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=settings.JOBS_QUEUE_URL, ReceiptHandle=message["ReceiptHandle"])
        if not answer.get("Messages"):
            return found


def test_of_two_sweeps_at_once_one_hands_a_job_over_and_not_again_for_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received()
    chat = Chat(new_id())
    jobs.create("chat", -1, chat_id=chat.id)
    (job,) = jobs_of(chat)
    (same,) = jobs_of(chat)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    jobs.hand_over(job)
    jobs.hand_over(same)
    assert received() == [{"pk": job.pk, "sk": job.sk}]
    monkeypatch.setattr(clock, "now", lambda: now + 299)
    assert jobs_of(chat) == []
    monkeypatch.setattr(clock, "now", lambda: now + 301)
    (job,) = jobs_of(chat)
    jobs.hand_over(job)
    assert received() == [{"pk": job.pk, "sk": job.sk}]


def test_a_job_that_is_done_is_not_handed_over_again() -> None:
    received()
    chat = Chat(new_id())
    jobs.create("chat", -1, chat_id=chat.id)
    (job,) = jobs_of(chat)
    assert run(job)
    jobs.hand_over(job)
    assert received() == []
    assert not exists(job), "an update must not make it again"


def test_jobs_of_all_shards_are_found_when_they_are_due() -> None:
    chat = Chat(new_id())
    for seconds in (*range(-40, 0), 3600):
        jobs.create("chat", seconds, chat_id=chat.id)
    assert len(jobs_of(chat)) == 40
    assert len(jobs_of(chat, 3601)) == 41
    assert len({job.pk for job in jobs_of(chat)}) > 1


# --- the queue's consumer


def event(*bodies: str) -> dict[str, Any]:
    return {"Records": [{"messageId": f"m{i}", "body": body} for i, body in enumerate(bodies)]}


def test_the_consumer_works_every_job_and_returns_those_that_failed(
    api: Api, person: MakePerson, caplog: pytest.LogCaptureFixture
) -> None:
    me = person()
    chat = make_chat(me, "a private remark")
    api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    (job,) = jobs_of(chat, 1)
    good, gone = json.dumps({"pk": job.pk, "sk": job.sk}), json.dumps({"pk": "jobs#0", "sk": "2026#none"})
    context: Any = Context(seconds=60)
    assert handler(event(gone, "{", good, "{}"), context) == {
        "batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m3"}]
    }
    assert not exists(job)
    logged = [vars(record) for record in caplog.records]
    assert [line["error"] for line in logged] == ["JSONDecodeError", "KeyError"]
    assert "private remark" not in str(logged)


def test_the_consumer_stops_before_lambda_stops_it(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "a")
    api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    (job,) = jobs_of(chat, 1)
    context: Any = Context(seconds=5)
    assert handler(event(json.dumps({"pk": job.pk, "sk": job.sk})), context) == {"batchItemFailures": []}
    assert exists(job)
    assert contents(chat.thread) == ["a"]
