"""Tasks over HTTP: accepted or refused, looked at, stopped, and streamed through both doors."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.core import aws, clock, settings
from aideer.data.models import Chat, Message, Record, Task
from aideer.security import auth
from aideer.tasks import admission, control, executor
from tasks import stream as stream_function
from tests.events import parse
from tests.stream_client import streamed, waited
from tests.support import Answer, Api, Person, caller, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
PATHS = {
    "tasks.get": ("GET", "/tasks/{id}"),
    "tasks.stop": ("POST", "/tasks/{id}/stop"),
}


def create(api: Api, person: Person, chat_id: str, **more: Any) -> Answer:
    return api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id, **more.pop("body", {})}, user=person, **more)


# Accepting


def test_a_task_is_accepted_with_its_hold_and_a_stream(api: Api, person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    chat = make_chat(me, "hello")
    answer = create(api, me, chat.id)
    assert answer.status == 200
    body = answer.json
    assert (body["chat_id"], body["chat_version"], body["messages"]) == (chat.id, 2, [])
    assert body["status"] == "pending"
    assert me.user.credits == before - body["credits_held"]
    assert body["stream_url"].startswith(f"http://stream.test/api/v1/tasks/{body['task_id']}/stream?ticket=")
    assert Chat.get(chat.id, consistent_read=True).active_task == body["task_id"]
    check_rules(me)


def test_the_queue_waits_for_a_viewer_only_when_one_is_coming(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[int] = []
    monkeypatch.setattr(aws, "enqueue", lambda _url, _message, delay=0: delays.append(delay))
    me = person()
    create(api, me, make_chat(me, "hello").id)
    create(api, me, make_chat(me, "hello").id, body={"stream": False})
    assert delays == [admission.VIEWER_SECONDS, 0]


def test_a_queue_that_does_not_answer_loses_no_task(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(aws, "enqueue", broken)
    me = person()
    assert create(api, me, make_chat(me, "hello").id).status == 200
    check_rules(me)


def test_a_second_task_in_a_chat_is_told_of_the_first(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first = create(api, me, chat.id).json
    second = create(api, me, chat.id)
    assert (second.status, second.json["code"]) == (409, "task_running")
    assert second.json["task_id"] == first["task_id"]
    assert second.json["stream_url"] == first["stream_url"]
    assert second.json["resume_url"] == first["resume_url"]
    check_rules(me)


def test_of_many_at_once_in_one_chat_one_is_accepted(api: Api, person: MakePerson) -> None:
    from aideer.core.errors import Conflict
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.questions import NewTask

    me = person()
    wanted = NewTask(chat_id=make_chat(me, "hello").id)

    def ask(_: int) -> int:
        try:
            admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
        except Conflict:
            return 409
        return 200

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(ask, range(20)))
    assert sorted(outcomes) == [200] + [409] * 19
    check_rules(me)


def test_without_credits_nothing_happens(api: Api, person: MakePerson) -> None:
    me = person(credits=0)
    chat = make_chat(me, "hello")
    answer = create(api, me, chat.id, headers={"Idempotency-Key": "k"})
    assert (answer.status, answer.json["code"]) == (402, "insufficient_credits")
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    assert not list(Record.query(f"idempotency#{me.id}#POST /tasks"))
    check_rules(me)


def test_an_answer_shrinks_to_what_can_be_paid(api: Api, person: MakePerson) -> None:
    me = person(credits=3)
    answer = create(api, me, make_chat(me, "hello", parameters={"max_tokens": 1000}).id)
    assert answer.status == 200
    assert 16 <= answer.json["max_tokens"] < 1000
    assert answer.json["credits_held"] <= 3
    check_rules(me)


def test_exactly_as_many_are_accepted_as_can_be_paid(api: Api, person: MakePerson) -> None:
    from aideer.core.errors import PaymentRequired
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.questions import NewTask

    rich = person()
    price = create(api, rich, make_chat(rich, "hello", parameters={"max_tokens": 16}).id).json["credits_held"]
    me = person(credits=5 * price)
    chats = [make_chat(me, "hello", parameters={"max_tokens": 16}) for _ in range(20)]

    def ask(chat: Chat) -> int:
        wanted = NewTask(chat_id=chat.id)
        try:
            admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
        except PaymentRequired:
            return 402
        return 200

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(ask, chats))
    assert sorted(outcomes) == [200] * 5 + [402] * 15
    check_rules(me)


def test_the_same_key_gives_the_same_answer_and_no_second_task(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    key = {"Idempotency-Key": "tap"}
    first = create(api, me, chat.id, headers=key)
    again = create(api, me, chat.id, headers=key)
    assert (again.status, again.body) == (200, first.body)
    other = create(api, me, chat.id, headers=key, body={"type": "title_generation"})
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    assert len(me.user.holds.attribute_values) == 1


def test_a_key_is_forgotten_after_a_day(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first = create(api, me, chat.id, headers={"Idempotency-Key": "tap"}).json
    control.request_stop(first["task_id"])
    real_now = clock.now
    monkeypatch.setattr(clock, "now", lambda: real_now() + 86_401)
    token = auth.issue_pair(me.user, "password")["access_token"]
    again = api(
        "tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, token=token, headers={"Idempotency-Key": "tap"}
    )
    assert again.json["task_id"] != first["task_id"]


def test_the_last_message_must_be_the_users(api: Api, person: MakePerson) -> None:
    me = person()
    for chat in (make_chat(me), make_chat(me, "hello")):
        if chat.message_count:
            Message(chat.thread, 2, role="assistant", content="hi", create_time=clock.timestamp()).save()
            Chat(chat.id).update([Chat.next_n.set(3)])
        answer = create(api, me, chat.id)
        assert (answer.status, answer.json["code"]) == (422, "last_message_not_user")


def test_what_is_longer_than_the_model_reads_is_refused(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, *["7" * 20_000] * 2, parameters={"model": "qwen-max"})
    answer = create(api, me, chat.id)
    assert (answer.status, answer.json["code"]) == (413, "context_too_long")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"chat_id": 7}, {"chat_id": ""}, {"chat_id": "x" * 65}, {"chat_id": "x", "type": "song"},
        {"chat_id": "x", "stream": "perhaps"}, {"chat_id": "x", "extra": 1}, [], "x", None, {"chat_id": "\ud800"},
    ],
)  # fmt: skip
def test_a_bad_body_is_a_clear_422(api: Api, person: MakePerson, body: Any) -> None:
    answer = api("tasks.create", "POST", "/tasks", json=body, user=person())
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert isinstance(answer.json["detail"], list)


def test_a_task_needs_a_chat_of_ones_own(api: Api, person: MakePerson) -> None:
    owner, stranger, visitor, admin = person(), person(), person(permission=0), person(permission=2)
    chat = make_chat(owner, "hello")
    assert create(api, stranger, chat.id).status == 403
    assert create(api, admin, chat.id).status == 403
    assert create(api, visitor, chat.id).status == 403
    assert create(api, owner, "no-such-chat").status == 404


# Who may look


def test_others_find_no_task(api: Api, person: MakePerson) -> None:
    owner = person()
    task_id = create(api, owner, make_chat(owner, "hello").id).json["task_id"]
    for other in (person(), person(permission=0), person(permission=2)):
        for module, (method, path) in PATHS.items():
            answer = api(module, method, path.format(id=task_id), user=other)
            assert (answer.status, answer.json["code"]) == (404, "task_not_found")
        assert streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {other.token}").status_code == 404
    assert Task.get(task_id).status == "pending"


@pytest.mark.parametrize("task_id", ["a" * 65, "a" * 3000, "%F0%9F%99%82" * 600])
def test_what_can_be_no_id_is_no_task(api: Api, person: MakePerson, task_id: str) -> None:
    me = person()
    path, bearer = f"/api/v1/tasks/{task_id}/stream", f"Bearer {me.token}"
    for after in ("", "?after=0", "?after=5"):
        answer = streamed(path + after, authorization=bearer)
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
        polled = waited(path + after, task_id, me.token)
        assert (polled.status, polled.json["code"]) == (404, "task_not_found")
    for method, action in (("GET", "get"), ("POST", "stop"), ("POST", "regenerate"), ("DELETE", "delete")):
        path = f"/tasks/{task_id}" + (f"/{action}" if method == "POST" else "")
        answer = api(f"tasks.{action}", method, path, user=me)
        assert (answer.status, answer.json["code"]) == (404, "task_not_found")


@pytest.mark.parametrize("kind", ["none", "garbage", "refresh", "expired", "stream", "foreign"])
def test_a_wrong_token_gets_nowhere(api: Api, person: MakePerson, kind: str) -> None:
    me = person()
    chat = make_chat(me, "hello")
    accepted = create(api, me, chat.id).json
    claims = auth.verify(me.token)
    token = {
        "none": None,
        "garbage": "x.y.z",
        "refresh": me.refresh_token,
        "expired": auth.sign({**claims, "exp": int(clock.now()) - 60}),
        "stream": accepted["stream_url"].partition("ticket=")[2],
        "foreign": me.token[:-4] + "AAAA",
    }[kind]
    task_id = accepted["task_id"]
    answers = [api(module, method, path.format(id=task_id), token=token) for module, (method, path) in PATHS.items()]
    answers.append(api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, token=token))
    answers.append(api("tasks.create", "POST", "/tasks", json={"chat_id": 7}, token=token))
    answers.append(waited(f"/tasks/{task_id}/stream", task_id, token))
    for answer in answers:
        assert answer.status == 401
        assert set(answer.json) == {"detail", "code"}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    assert streamed(f"/api/v1/tasks/{task_id}/stream", **headers).status_code == 401
    assert Task.get(task_id).status == "pending"


def test_a_ticket_opens_its_own_stream_alone(api: Api, person: MakePerson) -> None:
    me = person()
    mine, other = (create(api, me, make_chat(me, "hello").id).json for _ in range(2))
    ticket = mine["stream_url"].partition("ticket=")[2]
    assert streamed(f"/api/v1/tasks/{other['task_id']}/stream?ticket={ticket}").status_code == 401
    assert streamed(f"/api/v1/tasks/{mine['task_id']}/stream?ticket={me.token}").status_code == 401
    assert streamed(f"/api/v1/tasks/{mine['task_id']}/stream?ticket=x").status_code == 401
    assert streamed(mine["stream_url"]).status_code == 200


def test_a_ticket_ends_with_its_users_sign_out_and_its_answer_is_made_all_the_same(
    api: Api, person: MakePerson
) -> None:
    me = person()
    mine = create(api, me, make_chat(me, "hello").id).json
    user = me.user
    user.update([type(user).token_version.add(1)])
    answer = streamed(mine["stream_url"])
    assert answer.status_code == 401
    assert "content" not in answer.text
    assert Task.get(mine["task_id"], consistent_read=True).status == "finished"
    check_rules(me)


def test_a_token_that_was_revoked_asks_for_nothing_and_learns_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat, running, empty = make_chat(me, "hello"), make_chat(me, "hello"), make_chat(me)
    key = {"Idempotency-Key": "once"}
    assert create(api, me, running.id, headers=key).status == 200
    user = me.user
    user.update([type(user).token_version.add(1)])
    for chat_id in (chat.id, running.id, empty.id, "nothing"):
        for headers in ({}, key):
            answer = create(api, me, chat_id, headers=headers)
            assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    check_rules(me)


def test_a_visitor_asks_for_nothing_in_a_chat_that_they_had_as_a_user(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    user = me.user
    user.update([type(user).permission.set(0)])
    answer = create(api, me, chat.id)
    assert (answer.status, answer.json["code"]) == (403, "visitor")
    check_rules(me)


def test_a_user_who_was_deleted_asks_for_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    user = me.user
    user.update([type(user).deleted.set(True)])
    assert create(api, me, chat.id).status == 401
    assert Chat.get(chat.id, consistent_read=True).active_task is None


# Streaming


def test_the_journey_through_the_streaming_door(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "你好 🙂")
    accepted = create(api, me, chat.id).json
    answer = streamed(accepted["stream_url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    stream = parse(answer.text)
    assert stream.events[0] == "start"
    assert stream.ids[0] == "0"
    assert stream.events[-1] == "close"
    assert stream.final["status"] == "finished"
    assert stream.content == stream.final["content"]
    shown = api("tasks.get", "GET", f"/tasks/{accepted['task_id']}", user=me).json
    for name in ("status", "content", "reasoning", "finish_reason", "usage", "credits", "error"):
        assert shown[name] == stream.final[name]
    check_rules(me)


def test_a_second_stream_from_the_start_is_refused_and_a_resumed_one_is_not(api: Api, person: MakePerson) -> None:
    me = person()
    accepted = create(api, me, make_chat(me, "hello").id).json
    whole = parse(streamed(accepted["stream_url"]).text)
    again = streamed(accepted["stream_url"])
    assert (again.status_code, again.json()["code"]) == (422, "already_streamed")
    assert parse(streamed(accepted["stream_url"], **{"last-event-id": "3"}).text).content == whole.content[3:]
    over = streamed(accepted["stream_url"], **{"last-event-id": "end"})
    assert (over.status_code, over.json()["code"]) == (410, "stream_ended")
    assert streamed(accepted["stream_url"], **{"last-event-id": "x"}).status_code == 422


def test_the_waiting_door_never_claims_and_loses_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_function, "WAIT_SECONDS", 0.3)
    sent: list[str] = []
    monkeypatch.setattr(aws, "enqueue", lambda _url, message, *_: sent.append(message["task_id"]))
    me = person()
    accepted = create(api, me, make_chat(me, "hello").id).json
    task_id = accepted["task_id"]
    sent.clear()
    path = f"/tasks/{task_id}/stream"
    first = waited(path, task_id, me.token)
    assert first.status == 200
    assert parse(first.body).content == ""
    assert sent == [task_id]  # asked for immediate execution
    assert Task.get(task_id, consistent_read=True).status == "pending"
    in_loop(executor.execute(task_id, clock.now() + 60))
    second = parse(waited(path, task_id, me.token, **{"last-event-id": "0"}).body)
    assert second.final["status"] == "finished"
    assert second.content == second.final["content"]
    assert waited(path, task_id, me.token).status == 422
    assert waited(path, task_id, me.token, **{"last-event-id": "end"}).status == 410


def test_unknown_paths_and_methods_answer_in_the_error_shape() -> None:
    answer = streamed("/api/v1/tasks/x/streams")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# Looking and stopping


def test_a_pending_task_is_shown_and_stopped(api: Api, person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    task_id = create(api, me, make_chat(me, "hello").id).json["task_id"]
    shown = api("tasks.get", "GET", f"/tasks/{task_id}", user=me).json
    assert (shown["status"], shown["content"], shown["credits"]) == ("pending", "", None)
    stopped = api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=me)
    assert (stopped.status, stopped.json["status"], stopped.json["credits"]) == (200, "stopped", 0)
    again = api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=me)
    assert again.json == stopped.json
    assert me.user.credits == before
    check_rules(me)


def test_a_stop_that_takes_longer_is_a_202(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    import tasks.stop as stop_function  # type: ignore[import-not-found]
    from aideer.tasks import leases

    monkeypatch.setattr(stop_function, "PATIENCE_SECONDS", 0.2)
    me = person()
    task_id = create(api, me, make_chat(me, "hello").id).json["task_id"]
    assert leases.claim(task_id)  # an executor that sees nothing
    answer = api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=me)
    assert (answer.status, answer.json["status"]) == (202, "running")
    assert Task.get(task_id, consistent_read=True).stop_requested


# What it costs in calls


def test_the_calls_that_it_takes(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me, *["question"] * 5)
    tokens = me.token  # the secret is read by now
    counted.clear()
    accepted = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, token=tokens).json
    assert counted[:3] == [
        f"GetItem {settings.CHATS_TABLE}",
        f"GetItem {settings.PRESETS_TABLE}",
        f"Query {settings.MESSAGES_TABLE}",
    ]  # the user is a condition of the hold
    assert sorted(counted[3:]) == ["SendMessage", "TransactWriteItems"]  # at the same time
    counted.clear()
    api("tasks.get", "GET", f"/tasks/{accepted['task_id']}", token=tokens)
    assert Counter(counted) == Counter(
        [
            f"GetItem {settings.USERS_TABLE}",
            f"GetItem {settings.TASKS_TABLE}",
            f"Query {settings.TASK_EVENTS_TABLE}",
        ]
    )
    counted.clear()
    streamed(accepted["stream_url"])
    calls = [call for call in counted if not call.startswith("GetSecretValue")]
    assert calls[0] == f"UpdateItem {settings.TASKS_TABLE}"
    # All at the same time: the first token waits for none of the throttle and the user.
    assert sorted(calls[1:4]) == [
        f"GetItem {settings.USERS_TABLE}",
        f"Query {settings.MESSAGES_TABLE}",
        f"UpdateItem {settings.RECORDS_TABLE}",
    ]
    assert counted.count("TransactWriteItems") == 1


def test_the_same_key_at_the_same_time_makes_one_task_and_one_answer(person: MakePerson) -> None:
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.questions import NewTask

    me = person()
    for _ in range(5):
        wanted = NewTask(chat_id=make_chat(me, "hello").id)

        def ask(_: int, wanted: NewTask = wanted) -> str:
            return admission.create(
                caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", wanted.chat_id, wanted)
            ).model_dump_json()

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(ask, range(8)))) == 1
    check_rules(me)
