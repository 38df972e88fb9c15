"""Steps of a process's start, pings, and what a copy of a snapshot must not share with its original."""

import importlib
import random
import sys
import types
from typing import Any

import pytest

from aideer.core import aws, settings, warmth
from local.stack.template import Template

MODULES = sorted({function.module for function in Template().functions.values() if function.runs_here})


@pytest.fixture(autouse=True)
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmth, "_steps", [])


@pytest.fixture
def in_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "INITIALIZATION", "on-demand")


@pytest.mark.parametrize("module", MODULES)
def test_every_handler_answers_a_ping_before_anything_else(module: str) -> None:
    """There is no context here: whatever a handler does first would fail without it."""
    assert importlib.import_module(module).handler(dict(warmth.PING), None) == warmth.PONG


def test_any_other_event_reaches_the_handler() -> None:
    seen: list[Any] = []
    entry = warmth.answers_pings(lambda event, context: seen.append((event, context)))
    for event in ({}, {"aideer": "ping", "more": 1}, [], None, "ping"):
        assert entry(event, "context") is None
    assert len(seen) == 5


def test_an_import_calls_nothing_outside_of_lambda() -> None:
    called: list[str] = []
    warmth.at_start(lambda: called.append("read"))
    assert called == []


def test_a_process_does_at_its_start_what_its_first_request_would_wait_for(in_lambda: None) -> None:
    called: list[str] = []
    warmth.at_start(lambda: called.append("read"))
    assert called == ["read"]


def test_a_step_that_fails_leaves_its_work_to_the_first_request(
    in_lambda: None, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ConnectionError("the address of a secret")

    warmth.at_start(fail)
    warmth.at_start(lambda: None)
    assert len(warmth._steps) == 2


def test_a_copy_of_a_snapshot_reads_connects_and_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[Any] = []
    runtime = types.ModuleType("snapshot_restore_py")
    runtime.register_after_restore = restored.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", runtime)
    monkeypatch.setattr(settings, "INITIALIZATION", "snap-start")
    events: list[str] = []
    monkeypatch.setattr(aws, "forget", lambda: events.append("forget"))
    warmth.at_start(lambda: events.append("connect"))
    warmth.at_start(lambda: events.append("read"))
    assert restored == [warmth.restore], "once, however many steps there are"
    random.seed(1)
    drawn = []
    for _ in range(2):  # two copies of one process
        random.seed(1)
        events.clear()
        restored[0]()
        drawn.append(random.random())
        assert events == ["forget", "connect", "read"]
    assert drawn[0] != drawn[1]


class Session:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closed = 0

    def send(self, request: Any) -> Any:
        self.sent.append(f"{request.method} {request.url}")
        return types.SimpleNamespace(content=b"healthy")

    def close(self) -> None:
        self.closed += 1


def test_a_connection_is_opened_without_a_call_and_closed_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    endpoint = types.SimpleNamespace(http_session=session, host="https://dynamodb.us-east-1.amazonaws.com")
    client = types.SimpleNamespace(_endpoint=endpoint)
    monkeypatch.setattr(aws, "_clients", [])
    monkeypatch.setattr(aws, "_secrets", {"arn": aws._Secret(1.0, {"current": "a key that was taken away"})})
    aws.connect(aws.remember(client))
    assert session.sent == ["GET https://dynamodb.us-east-1.amazonaws.com"]
    aws.forget()
    assert session.closed == 1
    assert aws._secrets == {}
