"""Dead letters for administrators: they are listed with what became of them, and put back where they came from."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from aideer.core import aws, settings
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, Record, Task
from aideer.tasks import dead_letters
from tests.support import Answer, Api, Person, recorded_calls

MakePerson = Callable[..., Person]
TASKS, JOBS, DEAD = settings.TASKS_QUEUE_URL, settings.JOBS_QUEUE_URL, settings.DEAD_LETTERS_URL


@pytest.fixture(autouse=True)
def _empty_queues() -> Iterator[None]:
    """Each test finds and leaves all three queues empty."""
    for url in (TASKS, JOBS, DEAD):
        take(url)
    yield
    for url in (TASKS, JOBS, DEAD):
        take(url)


def take(url: str) -> list[str]:
    """Take everything out of a queue."""
    sqs, found = aws.get_client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def bury(*bodies: str) -> None:
    """Put messages straight into the dead-letter queue."""
    for body in bodies:
        aws.get_client("sqs").send_message(QueueUrl=DEAD, MessageBody=body)


def fail(url: str, body: str) -> None:
    """Fail a message of a queue five times."""
    sqs = aws.get_client("sqs")
    sqs.send_message(QueueUrl=url, MessageBody=body)
    while sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages"):
        pass


def task(status: str, error_code: str | None = None) -> str:
    task_id = new_id()
    Task(task_id).update([Task.status.set(status), *([Task.error_code.set(error_code)] if error_code else [])])
    return task_id


def of_task(task_id: str) -> str:
    return json.dumps({"task_id": task_id})


def listed(api: Api, user: Person) -> Answer:
    return api("admin.dead_letters", "GET", "/admin/dead-letters", user=user)


def redriven(api: Api, user: Person) -> Answer:
    return api("admin.redrive", "POST", "/admin/dead-letters/redrive", user=user)


def test_letters_are_listed_with_what_became_of_their_tasks_and_jobs(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    failed, pending, gone = task("failed", "queue_timeout"), task("pending"), new_id()
    key = ("jobs#3", f"2026-11-22T13:20:00.000000Z#{new_id()}")
    Record(*key, data={"kind": "chat", "chat_id": new_id()}).save()
    for id in (failed, pending, gone):
        fail(TASKS, of_task(id))
    fail(JOBS, json.dumps({"pk": key[0], "sk": key[1]}))
    fail(JOBS, json.dumps({"pk": "jobs#1", "sk": "2026"}))
    fail(JOBS, "hello")
    told = listed(api, admin).json
    assert told["count"] == 6
    shown: list[dict[str, Any]] = [
        {name: value for name, value in letter.items() if name not in ("since", "received")}
        for letter in told["letters"]
    ]
    wanted = [
        {"queue": "tasks", "task_id": failed, "state": "failed", "error": "queue_timeout"},
        {"queue": "tasks", "task_id": pending, "state": "pending"},
        {"queue": "tasks", "task_id": gone, "state": "gone"},
        {"queue": "jobs", "job": " ".join(key), "state": "waiting"},
        {"queue": "jobs", "job": "jobs#1 2026", "state": "done"},
        {"queue": None, "state": "unknown"},
    ]
    assert sorted(shown, key=str) == sorted(wanted, key=str)
    since = [letter["since"] for letter in told["letters"]]
    assert since == sorted(since)
    assert all(letter["received"] >= 1 for letter in told["letters"])


def test_a_look_gives_every_letter_back_and_names_no_text_of_it(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    bodies = [of_task(new_id()) for _ in range(23)] + ["a private text"]
    bury(*bodies)
    first, second = listed(api, admin), listed(api, admin)
    assert len(first.json["letters"]) == len(second.json["letters"]) == 24
    assert "private" not in first.body
    assert sorted(take(DEAD)) == sorted(bodies)


def test_a_look_shows_at_most_a_hundred_and_counts_all(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST", 12)
    bury(*(of_task(new_id()) for _ in range(31)))
    told = listed(api, person(permission=2)).json
    assert (told["count"], len(told["letters"])) == (31, 12)
    assert len(take(DEAD)) == 31


def test_a_look_at_nothing_is_one_call_of_the_queue(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    assert listed(api, admin).json == {"count": 0, "letters": []}
    with recorded_calls() as calls:
        listed(api, admin)
    assert Counter(call.split()[0] for call in calls) == {"GetItem": 1, "GetQueueAttributes": 1}


def test_a_look_makes_two_reads_of_items_however_many_letters_there_are(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    listed(api, admin)
    bury(*(of_task(new_id()) for _ in range(15)), *(json.dumps({"pk": "jobs#1", "sk": str(n)}) for n in range(15)))
    with recorded_calls() as calls:
        assert len(listed(api, admin).json["letters"]) == 30
    counts = Counter(call.split()[0] for call in calls)
    assert counts["BatchGetItem"] == 2
    assert counts["ChangeMessageVisibilityBatch"] == 3


def test_letters_that_fail_to_be_read_are_given_back(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(body := of_task(new_id()))

    def broken(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(dead_letters, "_find_tasks", broken)
    assert listed(api, person(permission=2)).status == 500
    assert take(DEAD) == [body]


def test_each_letter_goes_back_to_the_queue_that_it_came_from(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    tasks = [of_task(new_id()) for _ in range(12)]
    jobs = [json.dumps({"pk": "jobs#1", "sk": str(n)}) for n in range(3)]
    for body in tasks:
        fail(TASKS, body)
    for body in jobs:
        fail(JOBS, body)
    bury("hello", '{"task_id": 5}')
    assert redriven(api, admin).json == {"moved": 15, "kept": 2}
    assert sorted(take(TASKS)) == sorted(tasks)
    assert sorted(take(JOBS)) == sorted(jobs)
    assert sorted(take(DEAD)) == sorted(["hello", '{"task_id": 5}'])


def test_a_redrive_ends_in_time_and_the_next_one_goes_on(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = person(permission=2)
    bury(*(of_task(new_id()) for _ in range(15)))
    ticks = iter([0.0, 0.0, 100.0])
    monkeypatch.setattr(dead_letters, "time", type("Clock", (), {"monotonic": lambda: next(ticks, time.monotonic())}))
    assert redriven(api, admin).json == {"moved": 10, "kept": 0}
    monkeypatch.undo()
    assert redriven(api, admin).json == {"moved": 5, "kept": 0}
    assert len(take(TASKS)) == 15


def test_a_redrive_is_recorded_and_only_administrators_may(api: Api, person: MakePerson) -> None:
    admin, user = person(permission=2), person()
    bury(body := of_task(str(uuid4())))
    for call in (listed, redriven):
        refused = call(api, user)
        assert (refused.status, refused.json["code"]) == (403, "not_admin")
    assert listed(api, admin).status == redriven(api, admin).status == 200
    records = [record for record in AuditRecord.query(AuditRecord.ALL) if record.actor_id in (admin.id, user.id)]
    assert [(record.action, record.user_id, record.about) for record in records] == [
        ("dead_letters.redrive", None, None)
    ]
    assert take(TASKS) == [body]
