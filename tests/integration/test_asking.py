"""POST /tasks/stream: one request from the question to the answer, and the same questions at POST /tasks."""

import contextlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.billing import credits
from aideer.chats import quota
from aideer.core import clock, settings
from aideer.core.errors import Busy, TooManyRequests
from aideer.data import transactions
from aideer.data.base import new_id
from aideer.data.models import AuditRecord, Chat, Message, Preset, Task
from aideer.data.transactions import Transaction
from aideer.providers import dashscope_connections
from aideer.security import limits, rate_limits
from aideer.security.limits import Kind, Limit
from aideer.tasks import admission, control, conversations, fence, leases
from local.simulators import dashscope
from tests.stream_client import asked, streamed
from tests.support import Api, Person, accepted, check_rules, in_loop, make_chat, sweep
from tests.waiting import PATIENCE_SECONDS, until

MakePerson = Callable[..., Person]
QUESTION = {"role": "user", "content": "Who are you?"}


def ask(me: Person, body: dict[str, Any], key: str | None = None, **headers: str) -> Any:
    return asked(body, me.token, **{"Idempotency-Key": key or new_id()}, **headers)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream: {event, id, data}, with the data as JSON. Comments are left out."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def answered(response: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data of the start event and of the last data event."""
    assert response.status_code == 200, response.text
    shown = events(response.text)
    assert (shown[0]["event"], shown[0]["id"]) == ("start", "0")
    assert shown[-1]["event"] == "close"
    assert shown[-2]["id"] == "end"
    return shown[0]["data"], shown[-2]["data"]


def messages(chat_id: str) -> list[Message]:
    return list(Message.query(Chat.get(chat_id, consistent_read=True).thread, consistent_read=True))


# What it does


def test_one_request_adds_the_question_and_streams_the_answer(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    start, end = answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
    stored = Chat.get(chat.id, consistent_read=True)
    assert (start["chat_id"], start["messages"], start["position"]) == (chat.id, [1], 0)
    assert start["chat_version"] == chat.version + 1
    assert start["resume_url"].startswith(f"http://stream.test/api/v1/tasks/{start['task_id']}/stream?ticket=")
    assert (end["status"], end["chat_version"]) == ("finished", stored.version)
    assert end["credits_left"] == me.user.credits
    assert [(message.n, message.role) for message in messages(chat.id)] == [(1, "user"), (2, "assistant")]
    assert messages(chat.id)[1].content == end["content"] == end["message"]["content"]
    assert (stored.active_task, stored.next_n, stored.message_count) == (None, 3, 2)
    check_rules(me)


def test_one_request_opens_a_chat_and_answers_in_it(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    preset = make_chat(me).preset_id
    question = {"role": "user", "content": "What is\na deer? " + "x" * 80}
    start, end = answered(ask(me, {"chat": {"preset_id": preset}, "messages": [question]}))
    chat = Chat.get(start["chat_id"], consistent_read=True)
    assert (chat.owner_id, chat.preset_id, chat.preset_version) == (me.id, preset, 1)
    assert chat.title == ("What is a deer? " + "x" * 80)[:50]
    assert (start["chat_version"], start["messages"], chat.message_count) == (1, [1], 2)
    assert end["message"]["n"] == 2
    check_rules(me)


@pytest.mark.parametrize(("title", "kept"), [("Deer", "Deer"), (None, "New chat")])
def test_an_opened_chat_has_the_given_title_or_one_that_can_be_shown(
    person: MakePerson, title: str | None, kept: str
) -> None:
    me = person()
    chat = {"preset_id": make_chat(me).preset_id, "visibility": "shared"} | ({"title": title} if title else {})
    start, _ = answered(ask(me, {"chat": chat, "messages": [{"role": "user", "content": "\u200b"}]}))
    stored = Chat.get(start["chat_id"], consistent_read=True)
    assert (stored.title, stored.visibility) == (kept, "shared")


def test_one_request_answers_again(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first, _ = answered(ask(me, {"chat_id": chat.id}))
    start, _ = answered(ask(me, {"regenerate": first["task_id"]}))
    assert start["messages"] == []
    assert [(message.n, message.role) for message in messages(chat.id)] == [(1, "user"), (3, "assistant")]
    assert messages(chat.id)[1].task_id == start["task_id"]
    check_rules(me)


def test_the_prompt_has_the_stored_messages_and_then_the_new_ones(
    person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = make_chat(me, "first")
    answered(ask(me, {"chat_id": chat.id, "messages": [{"role": "user", "content": "second"}, QUESTION]}))
    sent = [
        message["content"]
        for message in [seen for seen in provider.requests() if "body" in seen][-1]["body"]["input"]["messages"]
    ]
    assert sent == ["You are helpful.", "first", "second", QUESTION["content"]]


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_both_doors_take_the_same_questions(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    chat = make_chat(me)
    body = {"chat_id": chat.id, "messages": [QUESTION]}
    if door == "stream":
        got, _ = answered(ask(me, body))
    else:
        answer = api("tasks.create", "POST", "/tasks", json=body, user=me)
        assert answer.status == 200, answer.body
        got = answer.json
        streamed(got["stream_url"])
    assert (got["chat_id"], got["chat_version"], got["messages"]) == (chat.id, 2, [1])
    assert len(messages(chat.id)) == 2
    check_rules(me)


def test_a_queued_question_opens_its_chat(api: Api, person: MakePerson) -> None:
    me = person()
    body = {"chat": {"preset_id": make_chat(me).preset_id}, "messages": [QUESTION]}
    got = api("tasks.create", "POST", "/tasks", json=body, user=me).json
    assert Chat.get(got["chat_id"], consistent_read=True).active_task == got["task_id"]
    streamed(got["stream_url"])
    assert len(messages(got["chat_id"])) == 2
    check_rules(me)


def test_a_quote_prices_what_would_be_asked(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    first, _ = answered(ask(me, {"chat_id": chat.id}))
    for body in (
        {"regenerate": first["task_id"]},
        {"chat_id": chat.id, "messages": [QUESTION]},
        {"chat": {"preset_id": chat.preset_id}, "messages": [QUESTION]},
    ):
        quoted = api("tasks.quote", "POST", "/tasks/quote", json=body, user=me).json
        start, _ = answered(ask(me, body))
        assert start["credits_held"] == quoted["credits_at_most"]


# What it refuses


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "validation_error"),
        ({"messages": [QUESTION]}, "validation_error"),
        ({"chat_id": "x", "chat": {"preset_id": "y"}}, "validation_error"),
        ({"regenerate": "x", "messages": [QUESTION]}, "validation_error"),
        ({"regenerate": "x", "chat": {"preset_id": "y"}}, "validation_error"),
        ({"chat_id": "x", "type": "title_generation"}, "validation_error"),
        ({"chat_id": "x", "extra": 1}, "validation_error"),
        ({"chat_id": "x", "messages": [{"role": "robot", "content": "x"}]}, "validation_error"),
        ({"chat_id": "\ud800"}, "validation_error"),
        ([], "validation_error"),
        (b"{", "validation_error"),
        (b"\xff", "validation_error"),
        (b"", "validation_error"),
    ],
)
def test_a_bad_body_is_a_clear_422(person: MakePerson, body: Any, code: str) -> None:
    me = person()
    sent = json.dumps(body).encode() if not isinstance(body, bytes) else body
    answer = asked(sent, me.token, **{"Idempotency-Key": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert isinstance(answer.json()["detail"], list)


def test_an_unknown_field_is_named_by_its_object(person: MakePerson) -> None:
    [error] = ask(person(), {"chat_id": "x", "secret-field": 1}).json()["detail"]
    assert error["loc"] == ["body"]
    assert "secret-field" not in error["msg"]
    assert "regenerate" in error["msg"]


def test_other_media_types_and_bodies_beyond_the_limit_are_refused(person: MakePerson) -> None:
    me = person()
    other = asked(b"chat_id=x", me.token, **{"Idempotency-Key": "x", "Content-Type": "text/plain"})
    assert (other.status_code, other.json()["code"]) == (415, "unsupported_media_type")
    large = asked(b" " * 1_000_001, me.token, **{"Idempotency-Key": "x"})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("key", [None, "", "x" * 129])
def test_a_key_is_required(person: MakePerson, key: str | None) -> None:
    me = person()
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = asked({"chat_id": make_chat(me, "hello").id}, me.token, **headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")


def test_longer_messages_are_appended_first(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    long = [{"role": "user", "content": "x" * 100_000}] * 4
    refused = ask(me, {"chat_id": chat.id, "messages": [*long, QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (413, "append_first")
    assert messages(chat.id) == []


def test_a_refused_question_leaves_nothing(person: MakePerson) -> None:
    poor = person(credits=0)
    chat = make_chat(poor)
    refused = ask(poor, {"chat_id": chat.id, "messages": [QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    opened = ask(poor, {"chat": {"preset_id": chat.preset_id}, "messages": [QUESTION]})
    assert opened.status_code == 402
    assert messages(chat.id) == []
    assert [found.id for found in Chat.by_create_time.query(poor.id)] == [chat.id]
    check_rules(poor)


def test_another_persons_chat_preset_and_task_are_refused(person: MakePerson) -> None:
    owner, stranger = person(), person()
    chat = make_chat(owner, "hello")
    task = answered(ask(owner, {"chat_id": chat.id}))[0]["task_id"]
    assert ask(stranger, {"chat_id": chat.id, "messages": [QUESTION]}).status_code == 403
    private = ask(stranger, {"chat": {"preset_id": chat.preset_id}, "messages": [QUESTION]})
    assert (private.status_code, private.json()["code"]) == (403, "preset_private")
    assert ask(stranger, {"regenerate": task}).status_code == 404
    assert ask(owner, {"regenerate": task, "chat_id": make_chat(owner).id}).status_code == 404
    missing = ask(owner, {"chat": {"preset_id": "none"}, "messages": [QUESTION]})
    assert (missing.status_code, missing.json()["code"]) == (400, "preset_not_found")


@pytest.mark.parametrize("door", ["stream", "queue"])
def test_an_administrators_use_of_a_private_preset_is_recorded(api: Api, person: MakePerson, door: str) -> None:
    owner, admin = person(), person(permission=2)
    body = {"chat": {"preset_id": make_chat(owner).preset_id}, "messages": [QUESTION]}
    if door == "stream":
        answered(ask(admin, body))
    else:
        streamed(api("tasks.create", "POST", "/tasks", json=body, user=admin).json["stream_url"])
    records = [record for record in AuditRecord.scan() if record.actor_id == admin.id]
    assert [record.action for record in records] == ["preset.use"]


def test_where_the_preset_ends_the_prompt_there_is_no_question(person: MakePerson) -> None:
    me = person()
    refused = ask(me, {"chat": {"preset_id": make_chat(me).preset_id}})
    assert (refused.status_code, refused.json()["code"]) == (422, "last_message_not_user")


# Repetition


def test_a_repeated_request_gets_the_first_answer_and_asks_nothing(
    person: MakePerson, provider: dashscope.Server
) -> None:
    me = person()
    chat = make_chat(me)
    body = {"chat_id": chat.id, "messages": [QUESTION]}
    first = answered(ask(me, body, "tap"))
    calls = len(provider.requests())
    again = answered(ask(me, body, "tap"))
    assert again == first
    assert len(provider.requests()) == calls
    assert len(messages(chat.id)) == 2
    check_rules(me)


def test_a_client_may_fall_back_from_one_door_to_the_other(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    body = {"chat_id": chat.id, "messages": [QUESTION]}
    key = {"Idempotency-Key": "tap"}
    start, end = answered(ask(me, body, "tap"))
    queued = api("tasks.create", "POST", "/tasks", json={**body, "stream": False}, user=me, headers=key).json
    assert queued["task_id"] == start["task_id"]
    other = {"chat_id": make_chat(me, "hello").id}
    first = api("tasks.create", "POST", "/tasks", json=other, user=me, headers={"Idempotency-Key": "top"}).json
    assert answered(ask(me, other, "top"))[0]["task_id"] == first["task_id"]  # which is executed here
    assert end["status"] == "finished"
    check_rules(me)


def test_the_same_key_with_another_question_is_refused(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}, "tap"))
    other = ask(me, {"chat_id": chat.id, "messages": [{**QUESTION, "content": "Who am I?"}]}, "tap")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_the_record_answers_for_a_deleted_task(api: Api, person: MakePerson) -> None:
    me = person()
    body = {"chat_id": make_chat(me).id, "messages": [QUESTION]}
    start, _ = answered(ask(me, body, "tap"))
    api("tasks.delete", "DELETE", f"/tasks/{start['task_id']}", user=me, parameters={"id": start["task_id"]})
    again = events(ask(me, body, "tap").text)
    assert [event["event"] for event in again] == ["start", "close"]
    assert again[0]["data"] == start


def test_the_same_key_at_the_same_time_asks_once(person: MakePerson, provider: dashscope.Server) -> None:
    me = person()
    chat = make_chat(me)
    body = {"chat_id": chat.id, "messages": [QUESTION]}
    calls = len(provider.requests())
    with ThreadPoolExecutor(4) as pool:
        got = [answered(response) for response in pool.map(lambda _: ask(me, body, "tap"), range(4))]
    assert len({start["task_id"] for start, _ in got}) == 1
    assert len({end["content"] for _, end in got}) == 1
    assert len(provider.requests()) == calls + 1
    assert len(messages(chat.id)) == 2
    check_rules(me)


def test_a_signed_out_caller_gets_no_answer_of_an_earlier_request(api: Api, person: MakePerson) -> None:
    me = person()
    body = {"chat_id": make_chat(me).id, "messages": [QUESTION]}
    answered(ask(me, body, "tap"))
    api("session.delete", "DELETE", "/session", user=me)
    assert ask(me, body, "tap").status_code == 401


# A doubtful commit


def doubtful(monkeypatch: pytest.MonkeyPatch, *, happens: bool) -> None:
    """Let the outcome of the next hold stay unknown."""
    commit = Transaction.commit

    def lost(self: Transaction, proof: Any = None) -> None:
        if happens:
            commit(self, proof)
        raise Busy

    real = admission.credits.hold

    def hold(transaction: Transaction, task: Task, version: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(transactions.Transaction, "commit", lost)
            real(transaction, task, version)

    monkeypatch.setattr(admission.credits, "hold", hold)


def test_a_hold_that_happened_unseen_is_gone_on_with(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    chat = make_chat(me)
    doubtful(monkeypatch, happens=True)
    _, end = answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
    assert end["status"] == "finished"
    assert len(messages(chat.id)) == 2
    check_rules(me)


def test_a_hold_that_did_not_happen_never_does(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, provider: dashscope.Server
) -> None:
    me = person()
    chat = make_chat(me)
    calls = len(provider.requests())
    late: list[tuple[Transaction, Any]] = []
    commit = Transaction.commit
    doubtful(monkeypatch, happens=False)
    real = admission.credits.hold

    def hold(transaction: Transaction, task: Task, version: int) -> None:
        late.append((transaction, task))
        real(transaction, task, version)

    monkeypatch.setattr(admission.credits, "hold", hold)
    refused = ask(me, {"chat_id": chat.id, "messages": [QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    [(transaction, task)] = late
    with pytest.raises(transactions.Refused, match="task"):  # the lost request arrives at last
        commit(transaction)
    assert len(provider.requests()) == calls
    assert messages(chat.id) == []
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    assert Task.get(task.id, consistent_read=True).status == "failed"
    sweep()
    check_rules(me)


def test_the_model_is_not_asked_for_a_task_that_was_stopped_meanwhile(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, provider: dashscope.Server
) -> None:
    me = person()
    chat = make_chat(me)
    calls = len(provider.requests())
    doubtful(monkeypatch, happens=True)
    require = fence.require_accepted

    def stopped(task: Task) -> Task:
        control.request_stop(task.id)
        found = require(task)
        Task(task.id).update([Task.lease_until.set(clock.now() - 1)])  # its executor gives it up
        sweep()
        return found

    monkeypatch.setattr(fence, "require_accepted", stopped)
    _, end = answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
    assert end["status"] == "failed"
    assert len(provider.requests()) == calls
    check_rules(me)


def test_a_short_lease_is_renewed_before_the_model_is_asked(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    task = leases.claim(task_id)
    assert task
    task.lease_until = clock.now() + leases.RENEW_SECONDS
    assert fence.is_ours(task, task)
    assert Task.get(task_id, consistent_read=True).lease_until > task.lease_until
    Task(task_id).update([Task.executor.set("executor#other")])
    assert not fence.is_ours(task, task)


def test_a_fence_that_is_not_answered_is_tried_while_the_lease_lasts(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task.get(accepted(person(), "hello")[0], consistent_read=True)
    tries: list[Task] = []

    def failing(fenced: Task) -> Task | None:
        tries.append(fenced)
        task.lease_until = clock.now() + (1 if len(tries) < 3 else -1)
        raise unavailable

    from botocore.exceptions import EndpointConnectionError
    from pynamodb.exceptions import PutError

    unavailable = PutError(cause=EndpointConnectionError(endpoint_url="x"))
    task.lease_until = clock.now() + 1
    monkeypatch.setattr(fence, "_put", failing)
    with pytest.raises(Busy):
        fence.require_accepted(task)
    assert len(tries) == 3


# Limits


def test_open_tasks_are_limited(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OPEN_TASKS", 2)
    me = person()
    for _ in range(2):
        accepted(me, "hello")
    for refused in (
        ask(me, {"chat_id": make_chat(me, "hello").id}),
        api("tasks.create", "POST", "/tasks", json={"chat_id": make_chat(me, "hello").id}, user=me),
    ):
        body = refused.json() if callable(refused.json) else refused.json
        assert body["code"] == "too_many_open_tasks"
        assert {k.lower(): v for k, v in refused.headers.items()}["retry-after"] == "5"
    control.request_stop(next(iter(me.user.holds.attribute_values)))
    answered(ask(me, {"chat_id": make_chat(me, "hello").id}))
    check_rules(me)


def test_of_fifty_asks_at_once_no_more_than_the_limit_are_open(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OPEN_TASKS", 3)
    me = person()

    def one(_: int) -> bool:
        try:
            accepted(me, "hello")
        except (TooManyRequests, Busy):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(50))) == 3
    check_rules(me)


@pytest.mark.parametrize("kind", rate_limits.ANSWERS)
def test_answers_are_limited(person: MakePerson, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    limit = Limit(2, limits.DEFAULTS[kind].seconds)
    monkeypatch.setitem(rate_limits.LIMITS, kind, limit)
    me = person()
    chat = make_chat(me)
    real_now = clock.now
    now = real_now() // 86400 * 86400 + 43200  # the middle of a day, at the beginning of a minute
    offset = now - real_now()
    monkeypatch.setattr(clock, "now", lambda: real_now() + offset)
    for _ in range(2):
        answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
    refused = ask(me, {"chat_id": chat.id, "messages": [QUESTION]})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_answers")
    assert "2 answers" in refused.json()["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= limit.seconds
    check_rules(me)


# What it costs in calls


def test_three_calls_come_before_the_model_is_asked(
    person: MakePerson, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, "hello")
    answered(ask(me, {"chat_id": chat.id}))  # the secrets and the preset are known by now
    quota.make_room(me.id)  # and so is the number of chats
    conversations._remembered.clear()  # but not the chat (test_conversations.py)
    first: list[list[str]] = []
    from aideer.providers import dashscope as client

    real = client.stream

    def noted(*arguments: Any, **named: Any) -> Any:
        first.append(list(counted))
        return real(*arguments, **named)

    monkeypatch.setattr(client, "stream", noted)
    counted.clear()
    answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
    assert Counter(first[0]) == Counter(
        [
            f"GetItem {settings.CHATS_TABLE}",
            f"Query {settings.MESSAGES_TABLE}",
            "TransactWriteItems",
        ]
    )
    assert first[0][-1] == "TransactWriteItems"
    counted.clear()
    answered(ask(me, {"chat": {"preset_id": chat.preset_id}, "messages": [QUESTION]}))
    assert Counter(first[1]) == Counter(
        [
            f"GetItem {settings.PRESETS_TABLE}",
            "TransactWriteItems",
        ]
    )


class MutePort:
    """A provider that takes connections, notes what comes over them, and hangs up without an answer."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.received: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api/v1"
        self._thread = threading.Thread(target=self._take)

    def __enter__(self) -> "MutePort":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                with client:
                    self.opened.set()
                    self.received.append(client.recv(65_536))


def test_the_connection_opens_beside_the_transaction_and_nothing_is_sent_before_it(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me)
    hold = credits.hold
    with MutePort() as port:

        def watched(*arguments: Any) -> None:
            assert port.opened.wait(PATIENCE_SECONDS), "no connection before the transaction"
            hold(*arguments)
            time.sleep(0.05)  # what was sent by now would have come
            assert port.received == []

        monkeypatch.setattr(settings, "DASHSCOPE_HTTP_BASE_URL", port.base_url)
        monkeypatch.setattr(credits, "hold", watched)
        _, end = answered(ask(me, {"chat_id": chat.id, "messages": [QUESTION]}))
        assert (end["status"], end["error"]["code"], end["credits"]) == ("failed", "upstream_error", 0)
        [request] = port.received
    assert request.startswith(b"POST /api/v1/")
    check_rules(me)


def test_a_refused_question_sends_nothing_over_its_connection(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person(credits=0)
    chat = make_chat(me)
    with MutePort() as port:
        monkeypatch.setattr(settings, "DASHSCOPE_HTTP_BASE_URL", port.base_url)
        assert ask(me, {"chat_id": chat.id, "messages": [QUESTION]}).status_code == 402
        assert port.opened.wait(PATIENCE_SECONDS)
        in_loop(dashscope_connections.close())
        assert until_received(port) == [b""]


def until_received(port: MutePort) -> list[bytes]:
    """What came over the first connection until it was closed."""
    until(lambda: port.received, "the connection is closed")
    return port.received


def test_nothing_is_logged_of_what_was_said(person: MakePerson, capsys: pytest.CaptureFixture[str]) -> None:
    me = person()
    secret = "a-secret-question"
    answered(ask(me, {"chat_id": make_chat(me).id, "messages": [{"role": "user", "content": secret}]}))
    ask(me, {"chat_id": "x", "messages": [{"role": "user", "content": secret}], secret: 1})
    written = capsys.readouterr()
    assert secret not in written.out + written.err
    assert not re.search(re.escape(me.token), written.out + written.err)


def test_a_preset_that_changed_is_opened_as_it_is_now(person: MakePerson) -> None:
    me = person()
    preset = make_chat(me).preset_id
    head = Preset.get(preset, 0)
    Preset(
        preset, 2, **{k: v for k, v in head.attribute_values.items() if k not in ("id", "version", "number")}, number=2
    ).save()
    head.update([Preset.number.set(2)])
    start, _ = answered(ask(me, {"chat": {"preset_id": preset}, "messages": [QUESTION]}))
    assert Chat.get(start["chat_id"], consistent_read=True).preset_version == 2
