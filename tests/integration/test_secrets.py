"""Secrets are kept for five minutes, and for an hour while Secrets Manager does not answer."""

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


def test_a_secret_is_read_again_after_five_minutes(manager: SecretsManager, read: Callable[[float], str]) -> None:
    assert read(0) == "first"
    manager.value = {"key": "second"}
    assert [read(5 * MINUTE), read(5 * MINUTE + 1)] == ["first", "second"]
    assert manager.asked == 2


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
