"""OpenAI's API under the real Lambda Web Adapter, as `make build` built it, in Lambda's image.

`make clients` has the real clients, on a local stack. Here it is about Lambda: chunks, deadlines, refusals, clients that leave,
pings and the end of an environment.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.release.web_adapter import AdapterError, layer
from local.simulators import wechat
from local.simulators.dashscope import Server
from tests.e2e.calls import Place, Someone
from tests.e2e.cloud import V1, Cloud, api
from tests.e2e.environment import Environment, environment
from tests.e2e.questions import get, post
from tests.e2e.runtime_api import CONTENT_TYPE, TIMEOUT_SECONDS, FunctionUrl, Invocation
from tests.waiting import until
from tests.windows import limit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's
PING = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
PATH = "/v1/chat/completions"
MODEL = "qwen-plus"
COMPLAINTS = ('"level":"ERROR"', '"level":"CRITICAL"', "Traceback", "panicked")


class Door:
    """The function under the adapter, and the deployed API."""

    def __init__(self, here: Environment, place: Place, model: Server) -> None:
        self.here, self.place, self.model = here, place, model


class Question:
    """A question of a user's own by an API key. The provider obeys the directive."""

    def __init__(self, door: Door, directive: str = "tokens=5 delay=1", **body: Any) -> None:
        self.door = door
        self.who = Someone(door.place)
        self.key = str(self.who.call("POST", "/users/me/keys", {"name": "Laptop"})["key"])
        content = f"/sim {directive} Hello {self.who.username}"
        self.body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True, **body}

    def event(self, **headers: str) -> dict[str, Any]:
        """The request."""
        return post(PATH, self.body, **{"authorization": f"Bearer {self.key}", **headers})

    def ask(self, seconds: float = TIMEOUT_SECONDS, *, at: Environment | None = None, **headers: str) -> Invocation:
        """Ask, at the door or at another environment."""
        return (at or self.door.here).api.invoke(self.event(**headers), seconds)

    def check_settled(self, status: str = "finished") -> dict[str, Any]:
        """Return the only task of the user. It has ended like this, is paid, and holds nothing any more."""
        ledger = self.who.call("GET", "/users/me/credits")
        [line] = [record for record in ledger["credit_records"] if record.get("task_id")]
        task: dict[str, Any] = self.who.call("GET", f"/tasks/{line['task_id']}")
        assert (task["status"], ledger["credits_held"], -line["amount"]) == (status, 0, task["credits"])
        assert sum(record["amount"] for record in ledger["credit_records"]) == ledger["credits_left"]
        return task


@pytest.fixture(scope="module")
def door(
    cloud: Cloud, providers: tuple[Server, wechat.Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    try:
        layer()
    except AdapterError as error:
        pytest.fail(str(error), pytrace=False)
    model, people = providers
    with environment(cloud, tmp_path_factory.mktemp("v1"), of=V1) as here, api(cloud, "") as address:
        yield Door(here, Place(address, people), model)
        log = here.log
    assert not [line for line in log.splitlines() if any(complaint in line for complaint in COMPLAINTS)]


@pytest.fixture
def idle(door: Door) -> Door:
    """The environment, with no invocation under way."""
    door.here.api.wait_until_idle()
    return door


def data_of(answer: Invocation) -> list[str]:
    """The data of the events that have come. There is nothing else but comments."""
    blocks = answer.text.split("\n\n")[:-1]
    assert all(block.startswith(("data: ", ":")) for block in blocks), answer.text
    return [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]


def content_of(answer: Invocation) -> str:
    """The text that has come."""
    chunks = [json.loads(data) for data in data_of(answer) if data != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


def finish_of(answer: Invocation) -> str:
    """Why an answer ended that was streamed to its end."""
    assert answer.wait().status == 200, answer.text
    *_, last, done = data_of(answer)
    assert done == "[DONE]"
    return str(json.loads(last)["choices"][0]["finish_reason"])


def test_a_streamed_completion_has_its_status_and_headers_before_its_body(idle: Door) -> None:
    question = Question(idle)
    answer = question.ask()
    assert finish_of(answer) == "stop"
    assert (answer.mode, answer.content_type) == ("streaming", CONTENT_TYPE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    task = question.check_settled()
    assert (task["content"], task["task_id"]) == (content_of(answer), answer.headers["x-request-id"])


def test_a_whole_completion_is_one_object(idle: Door) -> None:
    question = Question(idle, stream=False)
    answer = question.ask().wait()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    [choice] = json.loads(answer.body)["choices"]
    assert choice["message"]["content"] == question.check_settled()["content"]


def test_each_chunk_leaves_at_once_and_comments_keep_a_silent_stream_open(idle: Door) -> None:
    question = Question(idle, "tokens=9 delay=20 fail=stall at=3")
    answer = question.ask()
    answer.wait_for(lambda: len(content_of(answer).split()) == 3, "the text before the provider's silence")
    assert not answer.over
    assert all(chunk.endswith(b"\n\n") for chunk in answer.body_chunks)
    count = len(answer.body_chunks)
    answer.wait_for(lambda: answer.body_chunks[count:], "a comment")
    assert answer.body_chunks[-1].startswith(b":")
    question.who.call("POST", f"/tasks/{answer.headers['x-request-id']}/stop")
    assert finish_of(answer) == "stop"
    question.check_settled("stopped")


def test_a_completion_whose_client_leaves_is_made_and_paid(idle: Door) -> None:
    question = Question(idle, "tokens=40 delay=20")
    with FunctionUrl(idle.here.api) as url:
        headers = {"authorization": f"Bearer {question.key}"}
        with httpx.stream("POST", f"{url.base_url}{PATH}", headers=headers, json=question.body, timeout=60) as response:
            assert next(piece for piece in response.iter_text() if '"content"' in piece)
        [invocation] = url.invocations
        assert not invocation.over
        invocation.wait()
    task = question.check_settled()
    [bill] = idle.model.bills(question.who.username)
    assert task["usage"]["output_tokens"] == bill["output_tokens"]


def test_a_retry_gets_the_answer_of_its_first_attempt(idle: Door) -> None:
    question = Question(idle)
    first = question.ask().wait()
    again = question.ask(**{"x-stainless-retry-count": "1"}).wait()
    assert content_of(again) == content_of(first)
    assert len(idle.model.bills(question.who.username)) == 1
    question.check_settled()


def test_a_completion_ends_before_the_deadline_of_its_invocation(idle: Door) -> None:
    question = Question(idle, "tokens=3000 delay=10")
    answer = question.ask(18)
    assert finish_of(answer) == "length"
    question.check_settled()


def test_models_are_listed(idle: Door) -> None:
    question = Question(idle)
    answer = idle.here.api.invoke(get("/v1/models", authorization=f"Bearer {question.key}")).wait()
    assert MODEL in [model["id"] for model in json.loads(answer.body)["data"]]


REFUSALS = {
    "no key": (401, "invalid_api_key", {"authorization": ""}, {}),
    "an unknown key": (401, "invalid_api_key", {"authorization": "Bearer sk-none"}, {}),
    "an unknown model": (404, "model_not_found", {}, {"model": "none"}),
    "no messages": (400, "invalid_value", {}, {"messages": []}),
}


@pytest.mark.parametrize(("status", "code", "headers", "body"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_has_openais_form(
    idle: Door, status: int, code: str, headers: dict[str, str], body: dict[str, Any]
) -> None:
    check_refused(Question(idle, **body).ask(**headers), status, code)


def test_without_credits_a_completion_is_refused(idle: Door) -> None:
    question = Question(idle)
    left = question.who.call("GET", "/users/me")["credits_left"]
    grant = {"amount": -left, "description": "test"}
    idle.place.admin.call("POST", f"/users/{question.who.id}/credits", grant)
    check_refused(question.ask(), 402, "insufficient_credits")


def test_too_many_completions_are_refused(cloud: Cloud, idle: Door, tmp_path: Path) -> None:
    question = Question(idle)
    with environment(cloud, tmp_path, of=V1, THROTTLES=limit("answer", 1)) as here:
        assert finish_of(question.ask(at=here)) == "stop"
        check_refused(question.ask(at=here), 429, "rate_limit_exceeded")


def check_refused(answer: Invocation, status: int, code: str) -> None:
    """The response is a refusal of this kind, in the form that OpenAI's clients read."""
    assert answer.wait().status == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert (int(answer.headers.get("retry-after", 0)) > 0) == (status in (429, 503))
    assert json.loads(answer.body)["error"]["code"] == code


def test_a_ping_gets_an_empty_204(idle: Door) -> None:
    answer = idle.here.api.invoke(PING).wait()
    assert (answer.status, answer.body, answer.error) == (204, b"", None)


def test_an_environment_answers_after_a_freeze(idle: Door) -> None:
    question = Question(idle)
    assert finish_of(question.ask()) == "stop"
    with idle.here.frozen():
        frozen = Question(idle).ask()
    assert finish_of(frozen) == "stop"


def test_a_completion_under_way_is_made_and_paid_after_sigterm(cloud: Cloud, idle: Door, tmp_path: Path) -> None:
    question = Question(idle, "tokens=40 delay=20")
    with environment(cloud, tmp_path, of=V1) as here:
        answer = question.ask(at=here)
        answer.wait_for(lambda: content_of(answer), "the first text")
        assert here.terminate() == 0
        until(lambda: not here.is_running, "the end of the environment", pause_seconds=0.2)
    assert finish_of(answer) == "stop"
    question.check_settled()
