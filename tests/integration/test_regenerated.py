"""An answer made again, by each function that makes answers; and a task that the waiting door sends on to one of them."""

import importlib
import json
from collections.abc import Callable
from uuid import uuid4

import pytest

from aideer.core import aws, settings
from aideer.data.models import Message, Task
from tests.stream_client import streamed, waited
from tests.support import Api, Context, Person, check_rules, make_chat

MakePerson = Callable[..., Person]


def queued(task_id: str, stream_url: str) -> None:
    record = {"messageId": uuid4().hex, "body": f'{{"task_id": "{task_id}"}}'}
    handler = importlib.import_module("tasks.on_queued").handler
    assert handler({"Records": [record]}, Context(seconds=60)) == {"batchItemFailures": []}


def watched(task_id: str, stream_url: str) -> None:
    assert streamed(stream_url).status_code == 200


@pytest.mark.parametrize("make", [queued, watched])
def test_the_new_answer_takes_the_place_of_the_old_one(
    api: Api, person: MakePerson, make: Callable[[str, str], None]
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me).json
    make(first["task_id"], first["stream_url"])
    path, parameters = f"/tasks/{first['task_id']}/regenerate", {"id": first["task_id"]}
    again = api("tasks.regenerate", "POST", path, user=me, parameters=parameters)
    assert again.status == 200, again.body
    make(again.json["task_id"], again.json["stream_url"])
    old, new = (Task.get(made["task_id"], consistent_read=True) for made in (first, again.json))
    assert [message.n for message in Message.query(chat.thread, consistent_read=True)] == [1, new.answer_n]
    assert new.replaces == old.answer_n
    check_rules(me)


def start_event(body: str) -> dict[str, object]:
    """The data of a stream's first event."""
    name, _, data = body.split("\n\n")[0].removeprefix("retry: 500\n\n").split("\n")
    assert name == "event: start"
    return dict(json.loads(data.removeprefix("data: ")))


def test_a_task_tells_whose_place_its_answer_takes_to_a_page_that_was_opened_since(
    api: Api, person: MakePerson
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me).json
    new = {"replaces": None, "continued": None}
    assert start_event(streamed(first["stream_url"]).text) == {
        "task_id": first["task_id"],
        "chat_id": chat.id,
        "position": 0,
        **new,
    }
    path, parameters = f"/tasks/{first['task_id']}/regenerate", {"id": first["task_id"]}
    again = api("tasks.regenerate", "POST", path, user=me, parameters=parameters).json
    old = Task.get(first["task_id"], consistent_read=True)
    in_its_place = {"replaces": old.answer_n, "continued": False}
    for made in (streamed, streamed):  # by the executor itself, and by a follower that reads the log
        told = start_event(
            made(f"/api/v1/tasks/{again['task_id']}/stream?after=0", Authorization=f"Bearer {me.token}").text
        )
        assert {name: told[name] for name in in_its_place} == in_its_place
    for task_id, expected in ((first["task_id"], new), (again["task_id"], in_its_place)):
        shown = api("tasks.get", "GET", f"/tasks/{task_id}", user=me, parameters={"id": task_id}).json
        assert {name: shown[name] for name in expected} == expected


def test_the_door_that_cannot_stream_asks_for_an_answer(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("tasks.stream"), "WAIT_SECONDS", 0.2)
    me = person()
    body = {"chat_id": make_chat(me, "hello").id}
    task_id = api("tasks.create", "POST", "/tasks", json=body, user=me).json["task_id"]
    aws.get_client("sqs").purge_queue(QueueUrl=settings.TASKS_QUEUE_URL)
    assert waited(f"/tasks/{task_id}/stream?after=0", task_id, me.token).status == 200
    found = aws.get_client("sqs").receive_message(QueueUrl=settings.TASKS_QUEUE_URL, MaxNumberOfMessages=10)
    assert any(task_id in message["Body"] for message in found.get("Messages", []))
