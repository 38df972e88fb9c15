"""The streaming function under the real Lambda Web Adapter, as `make build` built it, in Lambda's image.

A stand-in for Lambda's Runtime API invokes it. REFUSALS has a row for each refusal of each route: a new route gets rows there, and
its events are of `make_event`, with a body if it takes one.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from local.clients.client import Client, End
from local.clients.demo import Demo
from local.release.web_adapter import AdapterError, layer
from local.simulators import wechat
from local.simulators.dashscope import Server
from local.stack.settings import Settings
from tests.e2e.calls import ADMIN, Place, Someone
from tests.e2e.cloud import Cloud, api, until
from tests.e2e.environment import Environment, environment
from tests.e2e.lines import Death, Line
from tests.e2e.runtime_api import CONTENT_TYPE, FunctionUrl, Invocation, make_event
from tests.events import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's
PING = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
COMPLAINTS = ('"level":"ERROR"', '"level":"CRITICAL"', "Traceback", "panicked")


@dataclass
class Door:
    """The streaming function under the adapter, the API before it, and the ways from it to AWS and to the provider."""

    environment: Environment
    url: FunctionUrl
    place: Place
    cloud: Cloud
    aws: Line
    provider: Line
    model: Server

    def invoke(self, url: str, seconds: float = 660, **headers: str) -> Invocation:
        """Invoke the function with a GET of this URL."""
        return self.environment.api.invoke(make_event("GET", _path(url), headers), seconds)


@dataclass
class Question:
    """A task of a user's own, which waits for its viewer."""

    door: Door
    directive: str = "tokens=5 delay=1"
    who: Someone = field(init=False)
    task: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.who = Someone(self.door.place)
        messages = [{"role": "user", "content": f"/sim {self.directive} Hello {self.who.username}"}]
        chat = self.who.call("POST", "/chats", {"preset_id": self.who.preset, "title": "Test", "messages": messages})
        self._chat, self._messages = str(chat["id"]), messages
        self.task = self.who.call("POST", "/tasks", {"chat_id": self._chat})

    def ask_again(self) -> None:
        """Ask the same question again. The task is the new one."""
        self.who.call("POST", f"/chats/{self._chat}/messages", {"messages": self._messages})
        self.task = self.who.call("POST", "/tasks", {"chat_id": self._chat})

    @property
    def url(self) -> str:
        return str(self.task["stream_url"])

    @property
    def path(self) -> str:
        """Without the ticket."""
        return _path(self.url).partition("?")[0]

    def stored(self) -> dict[str, Any]:
        """The task as it is stored now."""
        found: dict[str, Any] = self.who.call("GET", f"/tasks/{self.task['task_id']}")
        return found

    def stop(self) -> None:
        self.who.call("POST", f"/tasks/{self.task['task_id']}/stop")

    def check_settled(self, status: str = "finished") -> None:
        """The task has ended like this, is paid, and holds nothing any more."""
        task, ledger = self.stored(), self.who.call("GET", "/users/me/credits")
        assert (task["status"], ledger["credits_held"]) == (status, 0)
        records = ledger["credit_records"]
        assert [-record["amount"] for record in records if record.get("task_id") == task["task_id"]] == [
            task["credits"]
        ]
        assert sum(record["amount"] for record in records) == ledger["credits_left"]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@pytest.fixture(scope="module")
def door(
    cloud: Cloud, providers: tuple[Server, wechat.Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """One environment for all tests that leave it idle."""
    try:
        layer()
    except AdapterError as error:
        pytest.fail(str(error), pytrace=False)
    model, people = providers
    with Line(cloud.host, cloud.endpoint) as aws, Line(cloud.host, model.base_url) as provider:
        addresses = {"AWS_ENDPOINT_URL": aws.seen, "DASHSCOPE_HTTP_BASE_URL": provider.seen}
        with (
            environment(cloud, tmp_path_factory.mktemp("adapter"), **addresses) as here,
            FunctionUrl(here.api) as url,
            api(cloud, url.base_url) as address,
        ):
            yield Door(here, url, Place(address, people), cloud, aws, provider, model)
            log = here.log
    assert not [line for line in log.splitlines() if any(complaint in line for complaint in COMPLAINTS)]


@pytest.fixture
def idle(door: Door) -> Door:
    """The environment, with no invocation under way."""
    door.environment.api.wait_until_idle()
    return door


# Start


def test_the_adapter_registers_and_asks_for_an_invocation_when_the_function_is_ready(idle: Door) -> None:
    assert idle.environment.api.extensions == {"lambda-adapter": []}
    assert idle.environment.api.init_errors == []


def test_an_invocation_waits_for_a_function_that_starts_later_than_lambdas_init_ends(
    cloud: Cloud, idle: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    idle.environment.freeze()  # for the next test, because this one takes longer than any connection is kept idle
    with environment(cloud, tmp_path_factory.mktemp("held"), held=True) as here:
        here.api.wait_until_idle()  # the adapter does not wait for longer than Lambda does
        early = here.api.invoke(make_event("GET", "/api/v1/tasks/none/stream"))
        until(lambda: not here.api.is_idle, 10, "the invocation to be taken")
        assert not early.over
        here.release()
        assert early.wait().status == 401
    idle.environment.thaw()


def test_an_environment_answers_after_a_long_freeze(door: Door) -> None:
    frozen = door.environment.api.invoke(PING)
    assert frozen.wait().status == 204


# Streams


def test_the_journey(door: Door) -> None:
    address = {"PORT": door.place.url.rpartition(":")[2]}
    settings = Settings.read(address | {"ADMIN_USERNAME": ADMIN["username"], "ADMIN_PASSWORD": ADMIN["password"]})
    shown = io.StringIO()
    before = len(door.url.invocations)
    with Client(door.place.url) as client, Client(door.place.url) as admin:
        Demo(client, admin, Console(file=shown), settings).run()
    assert "the sum of this ledger" in shown.getvalue()
    assert len(door.url.invocations) > before


def test_a_streamed_response_has_its_status_and_headers_before_its_body(idle: Door) -> None:
    question = Question(idle)
    answer = idle.invoke(question.url).wait()
    assert (answer.mode, answer.content_type) == ("streaming", CONTENT_TYPE)
    assert answer.prelude["cookies"] == []
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-content-type-options"] == "nosniff"
    stream = parse(answer.text)
    assert (stream.events[0], stream.events[-1]) == ("start", "close")
    assert stream.content == stream.final["content"] == question.stored()["content"]
    question.check_settled()


def test_each_event_leaves_at_once_and_in_a_chunk_of_its_own(idle: Door) -> None:
    question = Question(idle, "tokens=9 delay=20 fail=stall at=3")
    answer = idle.invoke(question.url)
    answer.wait_for(lambda: len(_content(answer).split()) == 3, "the text before the provider's silence")
    assert not answer.over
    assert all(chunk.count(b"\n\n") == 1 and chunk.endswith(b"\n\n") for chunk in answer.body_chunks)
    question.stop()
    assert parse(answer.wait().text).final["status"] == "stopped"
    question.check_settled("stopped")


def test_comments_keep_a_silent_stream_open(idle: Door) -> None:
    question = Question(idle, "tokens=9 delay=1 fail=stall at=1")
    answer = idle.invoke(question.url)
    answer.wait_for_text("\n:")
    assert answer.body_chunks[-1].startswith(b":")
    question.stop()
    assert parse(answer.wait().text).final["status"] == "stopped"


def test_a_stream_goes_on_from_a_position(idle: Door) -> None:
    question = Question(idle)
    whole = parse(idle.invoke(question.url).wait().text)
    for url, headers in (
        (question.url, {"last-event-id": "3"}),
        (f"{question.url}&after=3", {}),
        (question.path, {"last-event-id": "3", "authorization": f"Bearer {question.who.tokens['access_token']}"}),
    ):
        rest = parse(idle.invoke(url, **headers).wait().text)
        assert rest.content == whole.content[3:]
        assert rest.final == whole.final


def test_an_answer_whose_viewer_leaves_is_made_and_paid_before_its_response_ends(idle: Door) -> None:
    question = Question(idle, "tokens=40 delay=20")
    with Client(idle.place.url) as client, closing(client.follow(question.url)) as items:
        assert not isinstance(next(items), End)
    invocation = idle.url.invocations[-1]
    assert not invocation.over
    invocation.wait()
    question.check_settled()
    [bill] = idle.model.bills(question.who.username)
    assert question.stored()["usage"]["output_tokens"] == bill["output_tokens"]
    rest = parse(idle.invoke(question.url, **{"last-event-id": "0"}).wait().text)
    assert rest.content == question.stored()["content"]


# Deadlines


def test_an_answer_ends_before_the_deadline_of_its_invocation(idle: Door) -> None:
    question = Question(idle, "tokens=3000 delay=10")
    answer = idle.invoke(question.url, seconds=18).wait()
    assert time.time() < answer.deadline
    assert parse(answer.text).final["finish_reason"] == "length"
    question.check_settled()


def test_a_client_cannot_set_a_deadline(idle: Door) -> None:
    question = Question(idle)
    answer = idle.invoke(question.url, **{"x-amzn-lambda-context": json.dumps({"deadline": 1})}).wait()
    assert parse(answer.text).final["finish_reason"] == "stop"


# Refusals


def _ended(door: Door) -> Question:
    question = Question(door)
    assert door.invoke(question.url).wait().status == 200
    return question


@dataclass(frozen=True)
class Refusal:
    """A request that the function refuses."""

    status: int
    code: str
    event: Callable[[Door], dict[str, Any]]


def _get(path: str, **headers: str) -> dict[str, Any]:
    return make_event("GET", path, headers)


REFUSALS = {
    "nobody": Refusal(401, "unauthorized", lambda door: _get(_ended(door).path)),
    "a wrong ticket": Refusal(401, "invalid_token", lambda door: _get(f"{_ended(door).path}?ticket=x")),
    "an access token as a ticket": Refusal(
        401,
        "wrong_token_type",
        lambda door: _get(f"/api/v1/tasks/x/stream?ticket={Someone(door.place).tokens['access_token']}"),
    ),
    "another's task": Refusal(
        404,
        "task_not_found",
        lambda door: _get(_ended(door).path, authorization=f"Bearer {Someone(door.place).tokens['access_token']}"),
    ),
    "an unknown path": Refusal(404, "not_found", lambda door: _get("/api/v1/nothing?x=1")),
    "another method": Refusal(404, "not_found", lambda door: make_event("PUT", "/api/v1/tasks/x/stream")),
    "the end again": Refusal(
        410, "stream_ended", lambda door: _get(_path(_ended(door).url), **{"last-event-id": "end"})
    ),
    "a second stream": Refusal(422, "already_streamed", lambda door: _get(_path(_ended(door).url))),
    "a wrong position": Refusal(
        422, "invalid_position", lambda door: _get(_path(_ended(door).url), **{"last-event-id": "x"})
    ),
    "a position too far": Refusal(
        422, "invalid_position", lambda door: _get(_path(_ended(door).url), **{"last-event-id": "99999"})
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_has_its_status_and_reason(idle: Door, refusal: Refusal) -> None:
    check_refused(idle.environment.api.invoke(refusal.event(idle)).wait(), refusal.status, refusal.code)


def test_too_many_streams_are_refused_with_the_time_to_wait_and_their_answers_are_made(
    cloud: Cloud, idle: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    question = Question(idle, "tokens=40 delay=20")
    with environment(cloud, tmp_path_factory.mktemp("limited"), THROTTLES="stream=1/3600") as here:
        assert here.api.invoke(_get(_path(question.url))).wait().status == 200
        question.ask_again()
        refused = here.api.invoke(_get(_path(question.url)))
        refused.wait_for_text("}")
        assert not refused.over  # the answer is being made: Lambda would freeze it at the end of the response
        check_refused(refused.wait(), 429, "too_many_attempts")
        question.check_settled()
        check_refused(here.api.invoke(_get(_path(question.url))).wait(), 429, "too_many_attempts")


def check_refused(answer: Invocation, status: int, code: str) -> None:
    """The response is a refusal of this kind, in the usual shape."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert (int(answer.headers.get("retry-after", 0)) > 0) == (status in (429, 503))
    assert json.loads(answer.body)["code"] == code


# Events that are no requests


def test_a_ping_gets_an_empty_204_and_calls_no_service(idle: Door) -> None:
    before = idle.aws.carried, idle.provider.carried
    answer = idle.environment.api.invoke(PING).wait()
    assert (answer.status, answer.body, answer.error) == (204, b"", None)
    assert (idle.aws.carried, idle.provider.carried) == before


# Freezing


@pytest.mark.parametrize("how", get_args(Death))
def test_connections_that_died_while_frozen_are_no_failure(idle: Door, how: Death) -> None:
    _ended(idle)  # all connections are open
    question = Question(idle)
    idle.environment.freeze()
    assert idle.aws.cut(how) > 0
    assert idle.provider.cut("closed" if how == "reset_when_used" else how) > 0
    frozen = idle.invoke(question.url)
    idle.environment.thaw()
    assert parse(frozen.wait().text).final["status"] == "finished"
    question.check_settled()


def test_an_outage_is_a_503_and_over_with_the_outage(idle: Door) -> None:
    question = Question(idle)
    with idle.aws.outage():
        check_refused(idle.invoke(question.url).wait(), 503, "busy")
    assert parse(idle.invoke(question.url).wait().text).final["status"] == "finished"


def test_an_answer_outlives_an_outage_and_its_log_lines_name_the_request(idle: Door) -> None:
    question = Question(idle, "tokens=9 delay=1 fail=stall at=1")
    answer = idle.invoke(question.url)
    answer.wait_for(lambda: _content(answer), "the first text")
    with idle.aws.outage():
        until(lambda: '"message":"lease"' in idle.environment.log, 30, "a refused renewal of the lease")
    question.stop()
    assert parse(answer.wait().text).final["status"] == "stopped"
    question.check_settled("stopped")
    lines = [json.loads(line) for line in idle.environment.log.splitlines() if line.startswith("{")]
    [name] = {line["correlation_id"] for line in lines if line.get("task_id") == question.task["task_id"]}
    assert name == json.loads(answer.event)["requestContext"]["requestId"]


# The end


def test_an_idle_function_obeys_sigterm(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> None:
    with environment(cloud, tmp_path_factory.mktemp("idle")) as here:
        assert here.api.invoke(PING).wait().status == 204
        here.api.wait_until_idle()
        assert here.terminate() == 0


def test_an_answer_under_way_is_made_and_paid_after_sigterm(
    cloud: Cloud, idle: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    question = Question(idle, "tokens=40 delay=20")
    with environment(cloud, tmp_path_factory.mktemp("busy")) as here:
        answer = here.api.invoke(_get(_path(question.url)))
        answer.wait_for(lambda: _content(answer), "the first text")
        assert here.terminate() == 0
    assert parse(answer.wait().text).final["status"] == "finished"
    question.check_settled()


def _content(answer: Invocation) -> str:
    """The text of the events that have come."""
    return parse(answer.text).content
