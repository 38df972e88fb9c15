"""A write that has happened, whose answer was lost, and whose repetition is refused: a read says that it was ours.

Each endpoint has its own reads for that, and the permissions for them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ReadTimeoutError

from aideer.chats import quota
from aideer.core import clock, settings
from aideer.core.errors import Busy
from aideer.data import lookup, transactions
from aideer.data.base import connection
from aideer.data.models import Code, Task, User
from aideer.data.transactions import Transaction
from aideer.tasks import executor
from tests import faults
from tests.events import parse
from tests.stream_client import asked, requested, streamed, waited
from tests.support import Answer, Api, Person, accepted, check_rules, in_loop, make_chat
from tests.ui_messages import Shown

MakePerson = Callable[..., Person]
MESSAGE = {"role": "user", "type": "text", "content": "hello", "visibility": True}
PRESET = {"title": "Test", "type": "chat_generation", "parameters": {"model": "qwen-plus"}, "messages": []}


def sign_up(api: Api, me: Person) -> Answer:
    return api("users.create", "POST", "/users", json={"username": f"u{uuid4().hex[:12]}", "password": "secret-123"})


def redeem(api: Api, me: Person) -> Answer:
    text = f"TEST-{uuid4().hex[:12].upper()}"
    Code(text, value=10, max_uses=1, create_time=clock.timestamp()).save()
    return api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=me)


def grant(api: Api, me: Person) -> Answer:
    body = {"amount": 10, "description": "Sorry"}
    return call(api, "users.grant", "POST", "/users/{id}/credits", me.id, me, body)


def create_preset(api: Api, me: Person) -> Answer:
    return api("presets.create", "POST", "/presets", json=PRESET, user=me)


def create_chat(api: Api, me: Person) -> Answer:
    quota.make_room(me.id)  # without a count, the first transaction is refused
    body = {"preset_id": make_chat(me).preset_id, "title": "Test", "visibility": "private", "messages": [MESSAGE]}
    return api("chats.create", "POST", "/chats", json=body, user=me)


def append(api: Api, me: Person) -> Answer:
    chat = make_chat(me, "hello")
    return call(api, "chats.append", "POST", "/chats/{id}/messages", chat.id, me, {"messages": [MESSAGE]})


def create_task(api: Api, me: Person) -> Answer:
    return api("tasks.create", "POST", "/tasks", json={"chat_id": make_chat(me, "hello").id}, user=me)


def ask(api: Api, me: Person) -> Answer:
    body = {"chat_id": make_chat(me).id, "messages": [MESSAGE]}
    answer = asked(body, me.token, **{"Idempotency-Key": uuid4().hex})
    assert parse(answer.text).final["status"] == "finished"
    return Answer(answer.status_code, dict(answer.headers), answer.text)


def ask_ui(api: Api, me: Person) -> Answer:
    quota.make_room(me.id)
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    body = {"id": uuid4().hex, "messages": [message], "preset_id": make_chat(me).preset_id}
    answer = requested("POST", "/api/v1/ui/chat", body, me.token)
    assert Shown(answer.text).finish == "stop"
    again = requested("POST", "/api/v1/ui/chat", body, me.token)
    assert Shown(again.text).id == Shown(answer.text).id
    return Answer(answer.status_code, dict(answer.headers), answer.text)


def make_key(api: Api, me: Person) -> Answer:
    return api("users.create_key", "POST", "/users/me/keys", json={"name": "Laptop"}, user=me)


def like_chat(api: Api, me: Person) -> Answer:
    return call(api, "users.like_chat", "POST", "/users/me/likes/chat/{id}", make_chat(me).id, me)


def like_preset(api: Api, me: Person) -> Answer:
    return call(api, "users.like_preset", "POST", "/users/me/likes/preset/{id}", make_chat(me).preset_id, me)


def call(api: Api, module: str, method: str, path: str, id: str, me: Person, body: Any = None) -> Answer:
    return api(module, method, path.format(id=id), json=body, user=me, parameters={"id": id})


@pytest.mark.parametrize(
    "act",
    [
        sign_up,
        redeem,
        grant,
        create_preset,
        create_chat,
        append,
        create_task,
        ask,
        ask_ui,
        like_chat,
        like_preset,
        make_key,
    ],
)
def test_what_has_happened_is_not_taken_for_refused(
    api: Api, person: MakePerson, act: Callable[[Api, Person], Answer]
) -> None:
    me = person(permission=2)
    with faults.doubted():
        answer = act(api, me)
    assert answer.status == 200, answer.body
    check_rules(me)


def test_where_the_read_that_would_tell_fails_too_the_outcome_stays_unknown(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears Busy, and no error of DynamoDB's: only then do those that must know find out by other means."""
    monkeypatch.setattr(transactions, "PATIENCE_SECONDS", 0.0)
    user = person().user
    transaction = Transaction()
    transaction.update("user", User(user.id), [User.nickname.set("other")], User.id.exists())
    with (
        faults.answer_lost("TransactWriteItems", 100),
        faults.refused("GetItem", faults.INTERNAL, 500, 100),
        pytest.raises(Busy),
    ):
        transaction.commit(proof=lambda: lookup.exists(user))


@contextlib.contextmanager
def repeated() -> Iterator[None]:
    """Each change of a task happens, its answer is lost, and botocore sends it a second time."""
    lost: set[str] = set()

    def lose(request: Any, **_: Any) -> None:
        call = request.headers["amz-sdk-invocation-id"]  # the same for each time that botocore sends one call
        if settings.TASKS_TABLE.encode() in request.body and call not in lost:
            lost.add(call)
            connection().client._endpoint.http_session.send(request)
            raise ReadTimeoutError(endpoint_url="embedded")

    events = connection().client.meta.events
    events.register_first("before-send.dynamodb.UpdateItem", lose)
    try:
        yield
    finally:
        events.unregister("before-send.dynamodb.UpdateItem", lose)
    assert lost


@pytest.mark.parametrize("door", ["streams", "waits"])
def test_the_first_viewer_is_not_taken_for_a_second(person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    in_loop(executor.execute(task_id, clock.now() + 60))  # the queue was faster
    path = f"/api/v1/tasks/{task_id}/stream"

    def opened() -> tuple[int, str]:
        if door == "streams":
            answer = streamed(path, authorization=f"Bearer {me.token}")
            return answer.status_code, answer.text
        polled = waited(path, task_id, me.token)
        return polled.status, polled.body

    with repeated():
        status, body = opened()
    assert status == 200, body
    assert parse(body).final["status"] == "finished"
    assert opened()[0] == 422


@pytest.mark.parametrize("door", ["streams", "waits"])
def test_what_was_opened_before_requests_left_their_mark_stays_opened(person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    in_loop(executor.execute(task_id, clock.now() + 60))
    Task(task_id).update([Task.streamed.set(True)])
    path = f"/api/v1/tasks/{task_id}/stream"
    if door == "streams":
        assert streamed(path, authorization=f"Bearer {me.token}").status_code == 422
    else:
        assert waited(path, task_id, me.token).status == 422


def test_an_executor_whose_claim_was_repeated_makes_the_answer(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    with repeated():
        answer = streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {me.token}")
    assert answer.status_code == 200
    assert parse(answer.text).final["status"] == "finished"
    check_rules(me)
