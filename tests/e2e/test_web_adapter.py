"""The streaming function under the real Lambda Web Adapter, as `make build` built it, in Lambda's image.

A stand-in for Lambda's Runtime API invokes it. A new route of the function needs a row in `questions.ROUTES`, if it opens a stream,
and a row in `refusals.REFUSALS` for each of its refusals.
"""

import io
import json
import time
from collections.abc import Iterator
from typing import get_args

import httpx
import pytest
from rich.console import Console

from local.clients.client import Client
from local.clients.demo import Demo
from local.release.web_adapter import AdapterError, layer
from local.simulators import wechat
from local.simulators.dashscope import Server
from local.stack.settings import Settings
from tests.e2e.calls import ADMIN, Place
from tests.e2e.cloud import Cloud, api
from tests.e2e.environment import environment
from tests.e2e.lines import Death, Line
from tests.e2e.questions import (
    ROUTES,
    Asked,
    Door,
    Followed,
    Question,
    UiAsked,
    content_of,
    final_of,
    get,
    path_of,
    start_of,
)
from tests.e2e.refusals import REFUSALS, Refusal
from tests.e2e.runtime_api import CONTENT_TYPE, URL_HOST, FunctionUrl, Invocation
from tests.events import parse
from tests.ui_messages import Shown
from tests.waiting import until
from tests.windows import limit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's
each_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
PING = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
COMPLAINTS = ('"level":"ERROR"', '"level":"CRITICAL"', "Traceback", "panicked")


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
            yield Door(here, url, Place(address, people), aws, provider, model)
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
    with (
        idle.environment.frozen(),  # for the next test, because this one takes longer than any connection is kept idle
        environment(cloud, tmp_path_factory.mktemp("held"), held=True) as here,
    ):
        here.api.wait_until_idle()  # the adapter does not wait for longer than Lambda does
        early = here.api.invoke(get("/api/v1/tasks/none/stream"))
        until(lambda: not here.api.is_idle, "the invocation to be taken")
        assert not early.over
        here.release()
        assert early.wait().status == 401


def test_an_environment_answers_after_a_long_freeze(door: Door) -> None:
    assert door.invoke(PING).wait().status == 204


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


@each_route
def test_a_streamed_response_has_its_status_and_headers_before_its_body(idle: Door, route: type[Question]) -> None:
    question = route(idle)
    answer = question.stream().wait()
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


@each_route
def test_each_event_leaves_at_once_and_in_a_chunk_of_its_own(idle: Door, route: type[Question]) -> None:
    question = route(idle, "tokens=9 delay=20 fail=stall at=3")
    answer = question.stream()
    answer.wait_for(lambda: len(content_of(answer).split()) == 3, "the text before the provider's silence")
    assert not answer.over
    assert all(chunk.count(b"\n\n") == 1 and chunk.endswith(b"\n\n") for chunk in answer.body_chunks)
    question.stop()
    assert final_of(answer)["status"] == "stopped"
    question.check_settled("stopped")


def test_comments_keep_a_silent_stream_open(idle: Door) -> None:
    question = Followed(idle, "tokens=9 delay=1 fail=stall at=1")
    answer = question.stream()
    answer.wait_for_text("\n:")
    assert answer.body_chunks[-1].startswith(b":")
    question.stop()
    assert final_of(answer)["status"] == "stopped"


@each_route
def test_a_stream_goes_on_from_a_position(idle: Door, route: type[Question]) -> None:
    question = route(idle)
    whole = parse(question.stream().wait().text)
    rest = parse(idle.invoke(question.resume("3")).wait().text)
    assert (rest.content, rest.final) == (whole.content[3:], whole.final)


def test_a_ticket_goes_on_from_a_position(idle: Door) -> None:
    question = Followed(idle)
    whole = parse(question.stream().wait().text)
    for event in (get(question.ticket, **{"last-event-id": "3"}), get(f"{question.ticket}&after=3")):
        assert parse(idle.invoke(event).wait().text).content == whole.content[3:]


def test_the_stream_of_a_question_names_the_function_urls_own_address_for_going_on(idle: Door) -> None:
    question = Asked(idle)
    start = start_of(question.stream().wait())
    assert start["resume_url"].startswith(f"https://{URL_HOST}{question.path}?ticket=")
    assert final_of(idle.invoke(get(path_of(start["resume_url"]))))["status"] == "finished"


def test_a_repeated_question_gets_the_same_answer(idle: Door) -> None:
    question = Asked(idle)
    first, again = question.stream().wait(), question.stream().wait()
    assert start_of(again)["task_id"] == question.task_id
    assert final_of(again) == final_of(first)
    question.check_settled()


@each_route
def test_an_answer_whose_viewer_leaves_is_made_and_paid_before_its_response_ends(
    idle: Door, route: type[Question]
) -> None:
    question = route(idle, "tokens=40 delay=20")
    event = question.event()
    url = f"{idle.url.base_url}{event['rawPath']}?{event['rawQueryString']}"
    sent = {name: event["headers"][name] for name in event["headers"] if not name.startswith(("x-", "host"))}
    method = event["requestContext"]["http"]["method"]
    with httpx.stream(method, url, headers=sent, content=event.get("body"), timeout=60) as response:
        assert next(piece for piece in response.iter_text() if "content" in piece)
    invocation = idle.url.invocations[-1]
    question.opened.append(invocation)
    assert not invocation.over
    invocation.wait()
    question.check_settled()
    [bill] = idle.model.bills(question.who.username)
    assert question.stored()["usage"]["output_tokens"] == bill["output_tokens"]
    assert parse(idle.invoke(question.resume("0")).wait().text).content == question.stored()["content"]


def test_the_ai_sdks_stream_leaves_chunk_by_chunk_and_comes_again(idle: Door) -> None:
    question = UiAsked(idle, "tokens=9 delay=20 fail=stall at=3")
    answer = question.stream()
    answer.wait_for(lambda: answer.text.count("text-delta") == 3, "the text before the provider's silence")
    assert (answer.mode, answer.content_type, answer.status) == ("streaming", CONTENT_TYPE, 200)
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert all(chunk.count(b"\n\n") == 1 and chunk.endswith(b"\n\n") for chunk in answer.body_chunks)
    question.stop()  # by the API, because an environment has one invocation at a time
    shown = Shown(answer.wait().text)
    assert (shown.aborted, shown.finish, shown.text()) == (True, "stop", question.stored()["content"])
    assert [question.call(*way).wait().status for way in (("GET", "stream"), ("POST", "stop"))] == [204, 204]
    assert Shown(question.stream().wait().text).id == shown.id
    question.check_settled("stopped")


# Deadlines


@each_route
def test_an_answer_ends_before_the_deadline_of_its_invocation(idle: Door, route: type[Question]) -> None:
    question = route(idle, "tokens=3000 delay=10")
    answer = question.stream(seconds=18).wait()
    assert time.time() < answer.deadline
    assert final_of(answer)["finish_reason"] == "length"
    question.check_settled()


@each_route
def test_a_client_cannot_set_a_deadline(idle: Door, route: type[Question]) -> None:
    answer = route(idle).stream(**{"x-amzn-lambda-context": json.dumps({"deadline": 1})})
    assert final_of(answer)["finish_reason"] == "stop"


# Refusals


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_has_its_status_and_reason(idle: Door, refusal: Refusal) -> None:
    check_refused(idle.invoke(refusal.event(idle)).wait(), refusal.status, refusal.code)


def test_too_many_streams_are_refused_and_their_answers_are_made(
    cloud: Cloud, idle: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    question = Followed(idle, "tokens=40 delay=20")
    with environment(cloud, tmp_path_factory.mktemp("limited"), THROTTLES=limit("stream", 1)) as here:
        assert question.stream(at=here).wait().status == 200
        question.ask_again()
        refused = question.stream(at=here)
        refused.wait_for_text("}")
        assert not refused.over  # the answer is being made: Lambda would freeze it at the end of the response
        check_refused(refused.wait(), 429, "too_many_attempts")
        question.check_settled()
        check_refused(question.stream(at=here).wait(), 429, "too_many_attempts")


def test_too_many_questions_are_refused(cloud: Cloud, idle: Door, tmp_path_factory: pytest.TempPathFactory) -> None:
    question = Asked(idle)
    with environment(cloud, tmp_path_factory.mktemp("limited"), THROTTLES=limit("answer", 1)) as here:
        assert question.stream(at=here).wait().status == 200
        question.key = "another"
        check_refused(question.stream(at=here).wait(), 429, "too_many_answers")


def check_refused(answer: Invocation, status: int, code: str) -> None:
    """The response is a refusal of this kind, in the usual shape."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert (int(answer.headers.get("retry-after", 0)) > 0) == (status in (429, 503))
    assert json.loads(answer.body)["code"] == code


# Events that are no requests


def test_a_ping_gets_an_empty_204_and_calls_no_service(idle: Door) -> None:
    before = idle.aws.carried, idle.provider.carried
    answer = idle.invoke(PING).wait()
    assert (answer.status, answer.body, answer.error) == (204, b"", None)
    assert (idle.aws.carried, idle.provider.carried) == before


# Freezes and outages


@each_route
@pytest.mark.parametrize("how", get_args(Death))
def test_connections_that_died_while_frozen_are_no_failure(idle: Door, route: type[Question], how: Death) -> None:
    assert final_of(Asked(idle).stream())  # all connections are open
    question = route(idle)
    with idle.environment.frozen():
        assert idle.aws.cut(how) > 0
        # A request to the provider is never repeated, so a connection that dies only then is a failure by design.
        assert idle.provider.cut("closed" if how == "reset_when_used" else how) > 0
        frozen = question.stream()
    assert final_of(frozen)["status"] == "finished"
    question.check_settled()


@each_route
def test_an_outage_is_a_503_and_over_with_the_outage(idle: Door, route: type[Question]) -> None:
    question = route(idle)
    with idle.aws.outage():
        check_refused(question.stream().wait(), 503, "busy")
    question.opened.clear()
    assert final_of(question.stream())["status"] == "finished"
    question.check_settled()


def test_an_answer_outlives_an_outage_and_its_log_lines_name_the_request(idle: Door) -> None:
    question = Followed(idle, "tokens=9 delay=1 fail=stall at=1")
    answer = question.stream()
    answer.wait_for(lambda: content_of(answer), "the first text")
    with idle.aws.outage():
        until(lambda: '"message":"lease"' in idle.environment.log, "a refused renewal of the lease", pause_seconds=0.2)
    question.stop()
    assert final_of(answer)["status"] == "stopped"
    question.check_settled("stopped")
    lines = [json.loads(line) for line in idle.environment.log.splitlines() if line.startswith("{")]
    [name] = {line["correlation_id"] for line in lines if line.get("task_id") == question.task_id}
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
    question = Followed(idle, "tokens=40 delay=20")
    with environment(cloud, tmp_path_factory.mktemp("busy")) as here:
        answer = question.stream(at=here)
        answer.wait_for(lambda: content_of(answer), "the first text")
        assert here.terminate() == 0
    assert final_of(answer)["status"] == "finished"
    question.check_settled()
