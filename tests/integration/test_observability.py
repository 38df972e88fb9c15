"""What an operator sees: each line of a log names its request, its user and its task, and no text; numbers are written once."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from aideer.billing import statistics
from aideer.core import aws, clock, metrics, settings
from aideer.core.errors import TooManyRequests
from aideer.data.models import Task
from aideer.security import rate_limits
from aideer.security.limits import Limit
from aideer.tasks import admission, attached, executor, leases
from aideer.web.http import logger
from tasks import on_queued, stream
from tests.faults import INTERNAL, refused
from tests.stream_client import streamed, waited
from tests.support import Api, Context, Person, accepted, make_chat, sweep

MakePerson = Callable[..., Person]
SECRET = "a private remark"


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Reads the log as it is written."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logger.registered_formatter)
    logging.getLogger("aideer").addHandler(handler)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logging.getLogger("aideer").removeHandler(handler)
    assert SECRET not in output.getvalue()


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, dict[str, str]]]:
    """The metrics that are written."""
    found: list[tuple[str, float, dict[str, str]]] = []

    def note(values: dict[str, float], **by: str) -> None:
        assert values.keys() <= metrics.UNITS.keys()
        found.extend((name, value, by) for name, value in values.items())

    monkeypatch.setattr(metrics, "emit", note)
    return found


def queued(*task_ids: str) -> None:
    records = [{"messageId": f"m{n}", "body": json.dumps({"task_id": task_id})} for n, task_id in enumerate(task_ids)]
    context: Any = Context(seconds=60)
    on_queued.handler({"Records": records}, context)


def named(found: list[tuple[str, float, dict[str, str]]], name: str) -> list[tuple[float, dict[str, str]]]:
    return [(value, by) for metric, value, by in found if metric == name]


# --- logs


def test_a_broken_request_is_logged_with_its_id_and_its_user(
    api: Api, person: MakePerson, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, SECRET)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(admission, "create", broken)
    assert api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me).status == 500
    [line] = lines()
    assert (line["message"], line["error"], line["user_id"]) == ("unhandled", "RuntimeError", me.id)
    assert line["correlation_id"]
    assert line["function_request_id"]
    assert line["at"][-1].startswith(f"{__name__}:")


def test_nothing_of_one_request_is_in_the_next_ones_lines(
    api: Api, person: MakePerson, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api("users.me", "GET", "/users/me", user=person())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("aideer.accounts.sessions.sign_in", broken)
    form = {"grant_type": "password", "username": "nobody", "password": "nothing-1"}
    assert api("session.create", "POST", "/session/oauth2/token", form=form).status == 500
    [line] = lines()
    assert "user_id" not in line


def test_a_stream_that_breaks_is_logged_with_its_ids_and_answers_500(
    person: MakePerson, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, SECRET)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(attached, "claim", broken)
    monkeypatch.setattr(stream, "_wait", broken)
    url = f"/api/v1/tasks/{task_id}/stream"
    context = json.dumps({"requestId": "url-request"})
    answers = (
        streamed(url, authorization=f"Bearer {me.token}", **{"x-amzn-request-context": context}),
        waited(url, task_id, me.token),
    )
    at_once, later = lines()
    assert [answers[0].status_code, answers[1].status] == [500, 500]
    assert answers[0].json() == answers[1].json == {"detail": "The service had an internal error.", "code": "internal"}
    for line in (at_once, later):
        assert (line["message"], line["error"]) == ("unhandled", "RuntimeError")
        assert (line["task_id"], line["user_id"]) == (task_id, me.id)
    assert at_once["correlation_id"] == "url-request"
    assert len(later["correlation_id"]) == 36


def test_a_failed_answers_line_has_its_task_and_its_user(person: MakePerson, lines: Any) -> None:
    me = person()
    task_id, _ = accepted(me, f"/sim fail=badkey {SECRET}")
    queued(task_id)
    [line] = lines()
    assert (line["message"], line["code"]) == ("upstream", "upstream_auth")
    assert (line["task_id"], line["user_id"]) == (task_id, me.id)
    assert line["function_request_id"]


def test_a_message_that_could_not_be_worked_names_its_task_only(
    person: MakePerson, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "claim", lambda *_: 1 / 0)
    record = {"messageId": "m1", "body": "{"}
    context: Any = Context(seconds=60)
    on_queued.handler({"Records": [{"messageId": "m0", "body": '{"task_id": "t0"}'}, record]}, context)
    first, second = lines()
    assert (first["message_id"], first["task_id"]) == ("m0", "t0")
    assert second["message_id"] == "m1"
    assert "task_id" not in second


def test_what_the_sweep_cannot_mend_is_named(person: MakePerson, lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    task_id, _ = accepted(me, SECRET)
    leases.claim(task_id)
    Task(task_id).update([Task.lease_until.set(clock.now() - 1)])
    with refused("TransactWriteItems", INTERNAL, 500, times=1000):
        monkeypatch.setattr("aideer.data.transactions.PATIENCE_SECONDS", 0.1)
        sweep()
    line = next(line for line in lines() if line.get("task_id") == task_id)
    assert (line["message"], line["user_id"]) == ("sweep", me.id)
    sweep()
    assert Task.get(task_id, consistent_read=True).error_code == "interrupted"


# --- metrics


def test_an_answer_is_counted_once_with_its_tokens_and_its_price(
    person: MakePerson, numbers: Any, counted: list[str]
) -> None:
    before = sum(statistics.read(None, None).first_token.values())
    me = person()
    task_id, _ = accepted(me, "hello")
    answer = streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {me.token}")
    assert answer.status_code == 200
    queued(task_id)  # the message comes all the same
    task = Task.get(task_id, consistent_read=True)
    assert named(numbers, "AnswersFinished") == [(1, {})]
    assert named(numbers, "CreditsSettled") == [(task.credits, {})]
    assert named(numbers, "InputTokens") == [(task.usage["input_tokens"], {})]
    assert named(numbers, "OutputTokens") == [(task.usage["output_tokens"], {})]
    [(all_of_it, _)] = named(numbers, "TimeToFirstToken")
    [(providers, _)] = named(numbers, "ProviderTimeToFirstToken")
    assert 0 < providers < all_of_it < 60_000
    assert sum(statistics.read(None, None).first_token.values()) == before + 1
    assert not named(numbers, "Shortfalls")
    assert not named(numbers, "AnswersFailed")


def test_a_failure_is_counted_by_its_code_and_the_providers_apart(
    person: MakePerson, numbers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RETRY_SECONDS", 0.8)
    me = person()
    queued(accepted(me, "/sim fail=inspect_in")[0])
    assert named(numbers, "AnswersFailed") == [(1, {"code": "content_filtered"})]
    assert not named(numbers, "ProviderFailures")
    queued(accepted(me, f"/sim fail=throttle {uuid4()}")[0])
    assert named(numbers, "AnswersFailed")[1:] == [(1, {"code": "throttled"})]
    assert named(numbers, "ProviderFailures") == [(1, {})]
    assert named(numbers, "ProviderThrottles")
    assert not named(numbers, "TimeToFirstToken")


def test_a_stop_before_anybody_began_costs_nothing_and_counts(api: Api, person: MakePerson, numbers: Any) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    path = f"/tasks/{task_id}/stop"
    for _ in range(2):
        api("tasks.stop", "POST", path, user=me, parameters={"id": task_id})
    assert named(numbers, "AnswersStopped") == [(1, {})]
    assert named(numbers, "CreditsSettled") == [(0, {})]


def test_what_an_answer_cost_beyond_its_hold_is_told(
    person: MakePerson, numbers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    hold = int(Task.get(task_id).hold)
    monkeypatch.setattr("aideer.billing.pricing.compute_cost", lambda *_, **__: hold + 5)
    queued(task_id)
    assert named(numbers, "Shortfalls") == [(5, {})]
    assert named(numbers, "CreditsSettled") == [(hold, {})]


def test_the_sweep_counts_what_is_open_and_whom_it_lost(person: MakePerson, numbers: Any, counted: list[str]) -> None:
    me = person()
    lost, waiting = accepted(me, "one")[0], accepted(me, "two")[0]
    leases.claim(lost)
    sweep()
    [(before, _)] = named(numbers, "HoldsOutstanding")
    assert before >= 2
    Task(lost).update([Task.lease_until.set(clock.now() - 1)])
    numbers.clear()
    sweep()
    assert (1, {}) in named(numbers, "ExpiredLeases")
    assert (1, {"code": "interrupted"}) in named(numbers, "AnswersFailed")
    assert Task.get(waiting).is_open


def test_a_refused_attempt_is_counted_by_its_kind(numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "redeem", Limit(1, 60))
    who = uuid4().hex
    rate_limits.count("redeem", who)
    with pytest.raises(TooManyRequests):
        rate_limits.count("redeem", who)
    assert named(numbers, "Throttles") == [(1, {"kind": "redeem"})]


# --- keys


def test_a_token_signed_by_the_previous_key_is_good_until_that_is_gone(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    [old, *_] = aws.read_signing_keys()
    new = uuid4().hex * 2

    def rotated(**keys: str) -> None:
        monkeypatch.setitem(aws._secrets, settings.SIGNING_SECRET_ARN, aws._Secret(clock.now(), keys))

    def status(token: str) -> int:
        return api("users.me", "GET", "/users/me", token=token).status

    rotated(current=old, previous=new)  # known everywhere before it signs
    assert status(me.token) == 200
    rotated(current=new, previous=old)
    assert status(me.token) == 200
    renewed = api("session.refresh", "POST", "/session/refresh", token=me.refresh_token)
    assert renewed.status == 200, renewed.json
    assert status(renewed.json["access_token"]) == 200
    rotated(current=new, previous="")
    assert status(me.token) == 401
    assert status(renewed.json["access_token"]) == 200
    rotated(current=old, previous=new)
    assert status(renewed.json["access_token"]) == 200, "where this key was learnt a moment later"
