"""`make bench` in small: the ways on a stack, without LiteLLM, and the AWS calls that its table names."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aideer.core import aws
from aideer.data.base import connection
from aideer.providers import dashscope
from aideer.tasks import conversations
from local.bench import figures, rivals, run
from local.bench.answers import BenchError
from local.bench.calls import ASKED, BEFORE_THE_MODEL, COMPLETED, OPENED, QUEUED, READ, Round
from local.bench.memory import measure_memory
from local.bench.ways import COMPATIBLE, RELAY, STRAIGHT, Way, to_completions, to_provider
from local.simulators.dashscope import Server
from local.stack.ephemeral import EphemeralStack
from tests.api_keys import make_key
from tests.capacity import TABLE_NAMES
from tests.completion_client import complete
from tests.integration.stacks import Stack, running
from tests.stream_client import asked, streamed
from tests.support import Api, Person, make_chat

pytestmark = pytest.mark.early
MakePerson = Callable[..., Person]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("bench"), WORKERS="2") as started:
        yield started


def test_a_small_measurement(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WARM_UP", 1)
    case = figures.Case(tokens=8, pace_ms=2, last_target=1.02)
    trial = EphemeralStack(stack.url, int(stack.url.rpartition(":")[2]), stack.state_dir, ready_seconds=0)
    with run.open_ways(trial, tmp_path, Console(quiet=True), others=False) as (aideer, ways):
        run.measure(case, ways, 2)
        assert len(aideer.time_calls(2)) == 2
    assert set(case.answers) == {STRAIGHT, COMPATIBLE, RELAY, ASKED, OPENED, READ, QUEUED, COMPLETED}
    assert {len(answers) for answers in case.answers.values()} == {2}
    assert case.answers[ASKED][0].started > case.answers[ASKED][0].asked  # it counts from the start event
    assert f"| `{ASKED}` |" in figures.make_case_report(case)
    names = {item.name for item in measure_memory(stack.state_dir)}
    everything = {
        *("launcher", "supervisor", "ministack", "dashscope", "wechat"),
        *("front", "background", "workers' parent", "worker"),
    }
    assert names == everything


def test_another_answer_than_the_provider_s_ends_the_measurement() -> None:
    with Server(delay_ms=0) as server:
        provider = to_provider(server.base_url)
        other = Way("other", STRAIGHT, lambda _: provider.ask("/sim tokens=40 delay=0 another question"))
        with pytest.raises(BenchError, match="the same text"):
            run.measure(figures.Case(2, 0, 1), [provider, other], 1)
        with pytest.raises(BenchError, match="2 events with text instead of 3"):
            run.measure(figures.Case(3, 0, 1), [Way(STRAIGHT, STRAIGHT, lambda _: provider.ask("/sim tokens=2"))], 1)


def test_both_protocols_of_the_provider_bring_the_same_answer() -> None:
    with Server(delay_ms=0) as server:
        _, compatible = rivals.to_compatible(server.base_url)
        answers = [way.ask("/sim tokens=20 delay=1 hello") for way in (to_provider(server.base_url), compatible)]
        assert answers[0].text == answers[1].text
        assert [position for _, position in answers[0].arrivals] == [position for _, position in answers[1].arrivals]
        with pytest.raises(BenchError, match="refused with 401"):
            to_completions("other", rivals.to_compatible(server.base_url)[0], "no-key").ask("hello")


class Rounds:
    """The AWS calls before the model is asked, by their place in the sequence.

    A call is in the round after the last one that has a finished call. So calls that overlap can be in the same round.
    """

    SECONDS = 0.2
    """How much longer each call takes, so that simultaneous calls do overlap."""

    def __init__(self) -> None:
        self._rounds: list[set[str]] = []
        self._finished = 0
        self._over = False
        self._lock = threading.Lock()

    def begin(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        """Note a call. botocore calls this before it."""
        table = TABLE_NAMES.get(json.loads(params["body"]).get("TableName"), "")
        with self._lock:
            if self._over:
                return
            context["round"] = self._finished + 1
            if len(self._rounds) == self._finished:
                self._rounds.append(set())
            self._rounds[self._finished].add(f"{model.name} {table}".strip())
        time.sleep(self.SECONDS)

    def finish(self, context: dict[str, Any], **_: Any) -> None:
        """Note the end of a call. botocore calls this after it."""
        with self._lock:
            self._finished = max(self._finished, context.get("round", 0))

    def end(self) -> None:
        """End counting, because the model is asked."""
        with self._lock:
            self._over = True

    def take(self) -> tuple[Round, ...]:
        """Return the rounds, and begin anew."""
        taken = tuple(tuple(sorted(calls)) for calls in self._rounds)
        self._rounds, self._finished, self._over = [], 0, False
        return taken


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rounds]:
    noted, ask_model = Rounds(), dashscope.stream

    def noting(*arguments: Any, **named: Any) -> Any:
        noted.end()
        return ask_model(*arguments, **named)

    monkeypatch.setattr(dashscope, "stream", noting)
    events = [client.meta.events for client in (connection().client, aws.get_client("sqs"))]
    for each in events:
        each.register("before-call.*.*", noted.begin)
        each.register("after-call.*.*", noted.finish)
    yield noted
    for each in events:
        each.unregister("before-call.*.*", noted.begin)
        each.unregister("after-call.*.*", noted.finish)


def test_the_calls_before_the_model_are_those_of_the_table(api: Api, person: MakePerson, rounds: Rounds) -> None:
    me = person()
    chat, question = make_chat(me, "hello"), {"role": "user", "content": "/sim tokens=2 delay=1"}
    body, token = {"chat_id": chat.id, "messages": [question]}, me.token
    found, api_key = {}, make_key(me).key
    for number in range(2):  # the first time, a process also reads the secrets and the preset
        opening = {"chat": {"preset_id": chat.preset_id}, "messages": [question]}
        for way, sent in ((READ, body), (ASKED, body), (OPENED, opening)):
            rounds.take()
            assert asked(sent, token, **{"Idempotency-Key": f"{way}-{number}"}).status_code == 200
            found[way] = rounds.take()
        # The next question in this chat may be asked in any process: here, in one that knows nothing of it.
        conversations._remembered.clear()
        key = {"Idempotency-Key": f"queued-{number}"}
        accepted = api("tasks.create", "POST", "/tasks", json=body, token=token, headers=key).json
        assert streamed(accepted["stream_url"].removeprefix("http://stream.test")).status_code == 200
        found[QUEUED] = rounds.take()
        conversations._remembered.clear()
        assert complete(api_key, "/sim tokens=2 delay=1").status_code == 200
        found[COMPLETED] = rounds.take()
    assert found == BEFORE_THE_MODEL
