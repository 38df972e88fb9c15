"""Secrets are kept for five minutes, and for an hour while Secrets Manager does not answer.

After four minutes they are read again beside whoever asks. The threads that do so are in the test's hands here.
"""

import json
from collections.abc import Callable
from uuid import uuid4

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from aideer.core import aws, clock

NOW = 1_800_000_000.0
MINUTE = 60.0
NO_ANSWER = EndpointConnectionError(endpoint_url="secretsmanager")


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetSecretValue")  # type: ignore[typeddict-item]


class SecretsManager:
    """Answers with a value, or fails."""

    def __init__(self) -> None:
        self.value = {"key": "first"}
        self.failure: BotoCoreError | ClientError | None = None
        self.asked = 0

    def get_secret_value(self, **_: str) -> dict[str, str]:
        self.asked += 1
        if self.failure:
            raise self.failure
        return {"SecretString": json.dumps(self.value)}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> SecretsManager:
    manager = SecretsManager()
    monkeypatch.setattr(aws, "get_client", lambda _: manager)
    return manager


@pytest.fixture
def read(manager: SecretsManager, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], str]:
    """What a secret says so many seconds after it was read for the first time."""
    arn = f"arn:{uuid4()}"

    def read(seconds: float) -> str:
        monkeypatch.setattr(clock, "now", lambda: NOW + seconds)
        return aws.read_secret(arn)["key"]

    return read


class Threads:
    """Threads that begin when the test lets them, as in a process that is frozen."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, target: Callable[[str], None], args: tuple[str], daemon: bool) -> "Threads":
        assert daemon, "or a process could not end"
        self.waiting.append(lambda: target(*args))
        return self

    def start(self) -> None:
        pass

    def let_run(self) -> None:
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()
    monkeypatch.setattr(aws.threading, "Thread", threads)
    return threads


def test_a_secret_older_than_five_minutes_is_awaited(
    manager: SecretsManager, read: Callable[[float], str], threads: Threads
) -> None:
    """A process that was frozen for an hour must not accept a key that was taken away meanwhile."""
    assert read(0) == "first"
    manager.value = {"key": "second"}
    assert [read(4 * MINUTE), read(5 * MINUTE + 1)] == ["first", "second"]
    assert manager.asked == 2
    assert threads.waiting == []


def test_after_four_minutes_it_is_read_beside_the_caller_once(
    manager: SecretsManager, read: Callable[[float], str], threads: Threads
) -> None:
    read(0)
    manager.value = {"key": "second"}
    assert [read(4 * MINUTE + 1), read(4 * MINUTE + 2), read(5 * MINUTE)] == ["first"] * 3
    assert (manager.asked, len(threads.waiting)) == (1, 1), "nobody has waited, and one thread will read"
    threads.let_run()
    assert read(5 * MINUTE) == "second"
    assert read(9 * MINUTE) == "second"
    assert manager.asked == 2
    assert threads.waiting == []


def test_a_thread_that_was_frozen_undoes_no_newer_secret(
    manager: SecretsManager, read: Callable[[float], str], threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(0)
    read(4 * MINUTE + 1)
    [thaw] = threads.waiting

    def get_secret_value(**_: str) -> dict[str, str]:
        """The thread's call begins, the process is frozen, and thawed by a request that reads the newer secret."""
        monkeypatch.setattr(manager, "get_secret_value", SecretsManager.get_secret_value.__get__(manager))
        manager.value = {"key": "second"}
        assert read(20 * MINUTE) == "second"
        return {"SecretString": json.dumps({"key": "first"})}

    monkeypatch.setattr(manager, "get_secret_value", get_secret_value)
    monkeypatch.setattr(clock, "now", lambda: NOW + 4 * MINUTE + 1)
    thaw()
    assert read(21 * MINUTE) == "second"


def test_a_failure_beside_the_caller_is_tried_again_after_a_minute_at_most(
    manager: SecretsManager, read: Callable[[float], str], threads: Threads
) -> None:
    read(0)
    manager.failure = NO_ANSWER
    read(4 * MINUTE + 1)
    threads.let_run()
    for second in range(2, 60):
        assert read(4 * MINUTE + second) == "first"
    assert threads.waiting == []
    manager.failure, manager.value = None, {"key": "second"}
    assert read(5 * MINUTE + 1) == "first", "it was asked a minute ago, and what is known is good"
    assert read(5 * MINUTE + 2) == "second"


def test_a_refusal_beside_the_caller_is_no_outage_either(
    manager: SecretsManager, read: Callable[[float], str], threads: Threads
) -> None:
    read(0)
    manager.failure = refusal("AccessDeniedException")
    assert read(5 * MINUTE) == "first"
    threads.let_run()
    with pytest.raises(ClientError):
        read(5 * MINUTE + 1)


@pytest.mark.parametrize("failure", [NO_ANSWER, refusal("InternalServiceError", 500), refusal("ThrottlingException")])
def test_while_nobody_answers_what_is_known_is_good_for_an_hour(
    manager: SecretsManager, read: Callable[[float], str], failure: BotoCoreError | ClientError
) -> None:
    read(0)
    manager.failure = failure
    assert {read(minute * MINUTE) for minute in range(6, 61)} == {"first"}
    with pytest.raises(type(failure)):
        read(60 * MINUTE + 1)
    manager.failure, manager.value = None, {"key": "second"}
    assert read(60 * MINUTE + 2) == "second"


def test_it_is_asked_for_once_a_minute_meanwhile(manager: SecretsManager, read: Callable[[float], str]) -> None:
    read(0)
    manager.failure = NO_ANSWER
    for second in range(60):
        read(10 * MINUTE + second)
    assert manager.asked == 2
    manager.failure, manager.value = None, {"key": "second"}
    assert read(11 * MINUTE + 1) == "second"


def test_a_refusal_is_no_outage(manager: SecretsManager, read: Callable[[float], str]) -> None:
    read(0)
    for code in ("AccessDeniedException", "ResourceNotFoundException"):
        manager.failure = refusal(code)
        with pytest.raises(ClientError):
            read(10 * MINUTE)


def test_what_was_never_read_is_not_known(manager: SecretsManager, read: Callable[[float], str]) -> None:
    manager.failure = NO_ANSWER
    for _ in range(2):
        with pytest.raises(EndpointConnectionError):
            read(0)
    assert manager.asked == 2


def test_a_closed_client_connects_again() -> None:
    """A copy goes on with the clients of its original: botocore makes new connections for them."""
    client = aws.get_client("sqs")
    aws.forget()
    assert client.list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
