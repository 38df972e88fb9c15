"""Pings of functions, with a Lambda that notes how many run at once."""

import io
import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from aideer.core import aws, clock, pings, warmth
from tests.waiting import PATIENCE_SECONDS

NAMES = [f"f{n}" for n in range(8)]


class Lambda:
    """Answers pings, two at a time, because the first one waits for the second."""

    def __init__(self) -> None:
        self.pinged: list[str] = []
        self.at_once = self.most = 0
        self.failures: dict[str, Exception | str] = {}
        self.both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
        self.waits = False
        self._lock = threading.Lock()

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.pinged.append(FunctionName)
        assert json.loads(Payload) == warmth.PING
        if self.waits:
            self.both.wait()
        with self._lock:
            self.at_once -= 1
        failure = self.failures.get(FunctionName)
        if isinstance(failure, Exception):
            raise failure
        answer = {"Payload": io.BytesIO(b"{}")}
        return answer | ({"FunctionError": failure} if failure else {})


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Lambda:
    functions = Lambda()
    monkeypatch.setattr(aws, "get_client", lambda _: functions)
    return functions


def event(concurrency: int = 1000, streaming: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"concurrency": concurrency, "streaming": list(streaming), "functions": NAMES}


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "Invoke")


def test_every_function_is_pinged_and_two_at_once_at_most(functions: Lambda) -> None:
    functions.waits = True
    assert pings.ping_all(event(), 200) == {"pinged": 8, "failed": 0}
    assert sorted(functions.pinged) == NAMES
    assert functions.most == 2


@pytest.mark.parametrize(("concurrency", "streams"), [(10, []), (99, []), (100, ["s:live"]), (1000, ["s:live"])])
def test_a_small_account_keeps_its_concurrency_for_real_streams(
    functions: Lambda, concurrency: int, streams: list[str]
) -> None:
    pings.ping_all(event(concurrency, ("s:live",)), 200)
    assert [name for name in functions.pinged if name.startswith("s")] == streams


def test_one_that_fails_keeps_no_other_cold(functions: Lambda) -> None:
    functions.failures = {
        "f1": refusal("ResourceNotFoundException"),
        "f2": ReadTimeoutError(endpoint_url="lambda"),
        "f3": "Unhandled",
    }
    assert pings.ping_all(event(), 200) == {"pinged": 5, "failed": 3}
    assert sorted(functions.pinged) == NAMES


def test_where_no_concurrency_is_left_the_rest_is_left_to_people(functions: Lambda) -> None:
    functions.failures = {"f0": refusal("TooManyRequestsException"), "f1": refusal("TooManyRequestsException")}
    counts = pings.ping_all(event(), 200)
    assert len(functions.pinged) <= 4, "the two, and what had begun beside them"
    assert counts["pinged"] + counts["failed"] == 8


def test_no_call_begins_that_the_invocation_could_not_await(functions: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: 1_800_000_000.0)
    assert pings.ping_all(event(), pings.LAST_SECONDS - 1) == {"pinged": 0, "failed": 8}
    assert functions.pinged == []


def test_a_ping_waits_for_a_cold_start_and_is_not_repeated() -> None:
    config = aws.get_client("lambda").meta.config
    assert config.read_timeout < pings.LAST_SECONDS
    assert config.retries["total_max_attempts"] == 1
