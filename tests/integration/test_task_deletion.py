"""A task that has ended can be deleted: it and its stream are gone; its message, its bill and what refers to it stay."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from aideer.billing import audit, credits
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.base import new_id
from aideer.data.models import CreditEntry, Message, Task
from aideer.tasks import control
from tests import faults
from tests.integration.test_chats import make_task, plain
from tests.integration.test_copies import answered
from tests.stream_client import waited
from tests.support import Answer, Api, Person, check_rules, make_chat

MakePerson = Callable[..., Person]


def delete(api: Api, task_id: str, user: Person) -> Answer:
    return api("tasks.delete", "DELETE", f"/tasks/{task_id}", user=user)


def get(api: Api, task_id: str, user: Person) -> Answer:
    return api("tasks.get", "GET", f"/tasks/{task_id}", user=user)


def test_a_deleted_task_is_gone_and_its_message_and_its_bill_stay(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task = answered(me, chat)
    assert get(api, task.id, me).status == 200
    answer = delete(api, task.id, me)
    assert (answer.status, answer.json) == (200, {"message": "Deleted."})
    for gone in (
        get(api, task.id, me),
        delete(api, task.id, me),
        api("tasks.stop", "POST", f"/tasks/{task.id}/stop", user=me),
        api("tasks.regenerate", "POST", f"/tasks/{task.id}/regenerate", user=me),
        waited(f"/tasks/{task.id}/stream", task.id, me.token),
        waited(f"/tasks/{task.id}/stream?after=0", task.id, me.token),
    ):
        assert (gone.status, gone.json["code"]) == (404, "task_not_found")
    message = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json["messages"][1]
    assert (message["content"], message["task_id"]) == ("An answer.", task.id)
    (line,) = [entry for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id]
    assert line.task_id == task.id
    check_rules(me)
    assert make_chat(me), "the chat takes its next question as ever"
    body = {"messages": [{"role": "user", "content": "and?"}]}
    api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me)
    assert make_task(me, chat)


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_task_that_has_not_ended_is_not_deleted(api: Api, person: MakePerson, status: str) -> None:
    me = person()
    task_id = make_task(me, make_chat(me, "Hi"))
    Task(task_id).update([Task.status.set(status)])
    answer = delete(api, task_id, me)
    assert (answer.status, answer.json["code"]) == (422, "task_not_ended")
    assert get(api, task_id, me).json["status"] == status
    check_rules(me)


@pytest.mark.parametrize("end", ["stopped", "failed"])
def test_every_end_is_one(api: Api, person: MakePerson, end: str) -> None:
    me = person()
    task_id = make_task(me, make_chat(me, "Hi"))
    if end == "stopped":
        control.request_stop(task_id)
    else:
        task = Task.get(task_id)
        task.update([Task.status.set("running"), Task.executor.set("e")])
        credits.release(task, credits.Closer.executor("e"), "upstream_error", credits.Text())
    assert Task.get(task_id, consistent_read=True).status == end
    assert delete(api, task_id, me).status == 200
    check_rules(me)


def test_others_tasks_are_not_there(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    task = answered(owner, make_chat(owner, "Hi"))
    for task_id in (task.id, new_id(), "nothing", "x" * 3000):
        for level in (me, person(permission=2)):
            answer = delete(api, task_id, level)
            assert (answer.status, answer.json["code"]) == (404, "task_not_found")
    assert get(api, task.id, owner).status == 200


def test_a_repeated_request_has_its_answer_after_the_task_is_deleted_and_after_it_is_removed(
    api: Api, person: MakePerson
) -> None:
    me = person()
    chat = make_chat(me, "Hi")

    def ask() -> Answer:
        headers = {"Idempotency-Key": "k"}
        return api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me, headers=headers)

    first = ask()
    control.request_stop(first.json["task_id"])
    delete(api, first.json["task_id"], me)
    assert (ask().status, ask().body) == (200, first.body)
    Task(first.json["task_id"]).delete()  # as DynamoDB does some time after its TTL
    assert ask().body == first.body
    assert len(list(CreditEntry.query(me.id, CreditEntry.entry_id > "0"))) == 2, "sign-up's, and the stopped one's"


def drifts(*task_ids: str) -> list[Any]:
    """What reconciliation finds about these tasks and their users, over all tables."""
    found: list[Any] = []
    with audit.Audit("run", "", time.monotonic() + 120) as looking:
        for look in (looking.users, looking.tasks):
            start = None
            while True:
                page = look(start)
                found += page.findings.examples
                if (start := page.next) is None:
                    break
    users = {Task.get(task_id).user_id for task_id in task_ids}
    return [example for example in found if example.get("task_id") in task_ids or example.get("user_id") in users]


def test_to_reconciliation_a_deleted_task_is_no_drift(api: Api, person: MakePerson) -> None:
    me = person()
    task = answered(me, make_chat(me, "Hi"))
    delete(api, task.id, me)
    assert drifts(task.id) == []
    stored = Task.get(task.id, consistent_read=True)
    stored.delete()
    try:
        with audit.Audit("run", "", time.monotonic() + 120) as looking:
            assert not audit._line_drifts(me.id, list(CreditEntry.query(me.id)))
            assert looking
    finally:
        stored.save()


def test_dynamodb_will_remove_it(api: Api, person: MakePerson) -> None:
    me = person()
    task = answered(me, make_chat(me, "Hi"))
    delete(api, task.id, me)
    ttl = Task.get(task.id, consistent_read=True).ttl
    assert clock.now() - 5 * 365 * 86400 < ttl < clock.now() - 60, (
        "past on every clock, and not past what DynamoDB looks at"
    )


def test_an_executor_that_comes_back_finds_its_task_ended(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task_id = make_task(me, chat)
    Task(task_id).update([Task.status.set("running"), Task.executor.set("slow"), Task.lease_until.set(1)])
    running = Task.get(task_id)
    credits.release(running, credits.Closer.sweep(running), "interrupted", credits.Text("", "half"))
    delete(api, task_id, me)
    end = credits.settle(
        running, credits.Closer.executor("slow"), "finished", credits.Text("", "whole"), "stop", Usage(1, 1)
    )
    assert (end.status, end.error_code) == ("failed", "interrupted")
    assert Message.get(chat.thread, 2).content == "half"
    assert not end.is_open
    check_rules(me)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("UpdateItem", faults.THROTTLED),
        lambda: faults.refused("UpdateItem", faults.INTERNAL, status=500),
    ],
    ids=["throttled", "internal error"],
)
def test_on_a_bad_day_too_it_is_deleted(
    api: Api, person: MakePerson, fault: Callable[[], AbstractContextManager[None]]
) -> None:
    me = person()
    task = answered(me, make_chat(me, "Hi"))
    with fault():
        assert delete(api, task.id, me).status == 200
    assert get(api, task.id, me).status == 404


def test_what_it_costs(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    task = answered(me, make_chat(me, "Hi"))
    counted.clear()
    delete(api, task.id, me)
    assert Counter(plain(counted)) == Counter(["GetItem Users", "GetItem Tasks", "UpdateItem Tasks"])
