"""The local stack's pollers: events as Lambda makes them, and messages that stay until they are worked."""

import json
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from local.stack.event_sources import Consumer, Schedule, seconds_of
from local.stack.resources import client
from local.stack.state import Stack
from local.stack.template import Event, Function
from tests.waiting import PATIENCE_SECONDS, until


class Handler:
    """A handler that notes its events, and answers or fails as told."""

    def __init__(self) -> None:
        self.module = f"noted_{uuid4().hex}"
        self.events: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Any] = lambda event: None

    def handler(self, event: dict[str, Any], context: Any) -> Any:
        assert context.get_remaining_time_in_millis() > 0
        self.events.append(event)
        return self.answer(event)

    @property
    def bodies(self) -> list[str]:
        return [record["body"] for event in self.events for record in event["Records"]]


class Queue:
    """A queue in the embedded AWS."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:us-east-1:000000000000:{self._url.rpartition('/')[2]}"

    def send(self, body: str) -> None:
        self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def count(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Handler:
    handler = Handler()
    module = types.ModuleType(handler.module)
    module.handler = handler.handler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, handler.module, module)
    return handler


@pytest.fixture
def function(handler: Handler) -> Function:
    return Function("Noted", f"{handler.module}.handler", 30, 512, {}, (Event("SQS", {}),))


@pytest.fixture
def dead_letters() -> Queue:
    return _queue({})


@pytest.fixture
def queue(dead_letters: Queue) -> Queue:
    redrive = json.dumps({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": 2})
    return _queue({"VisibilityTimeout": "1", "RedrivePolicy": redrive})


def _queue(attributes: dict[str, str]) -> Queue:
    sqs = client("sqs", os.environ["AWS_ENDPOINT_URL"])
    return Queue(sqs, sqs.create_queue(QueueName=f"test-{uuid4()}", Attributes=attributes)["QueueUrl"])


@pytest.fixture
def consumer(queue: Queue, handler: Handler, function: Function) -> Iterator[Consumer]:
    consumer = Consumer(function, queue.arn, Stack(os.environ["AWS_ENDPOINT_URL"], {}, {}))
    consumer.start()
    yield consumer
    consumer.stop()
    handler.answer = lambda _: None
    queue.send("the poller may be waiting for this")  # or it has ended already, and leaves it
    poller = f"{function.module} poller"
    until(
        lambda: not consumer.running and poller not in {thread.name for thread in threading.enumerate()},
        "the end of both threads",
    )


@pytest.mark.usefixtures("consumer")
class TestConsumer:
    def test_a_message_is_one_event(self, handler: Handler, queue: Queue) -> None:
        queue.send("one")
        queue.send("two")

        until(lambda: len(handler.events) == 2 and queue.count() == 0, "two deliveries")
        assert sorted(handler.bodies) == ["one", "two"]
        [record] = handler.events[0]["Records"]
        assert record["eventSourceARN"] == queue.arn
        assert record["eventSource"] == "aws:sqs"
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert record["messageId"]
        assert record["receiptHandle"]

    def test_what_is_reported_as_failed_comes_again(self, handler: Handler, queue: Queue) -> None:
        failed: list[str] = []

        def fail_once(event: dict[str, Any]) -> Any:
            identifier = event["Records"][0]["messageId"]
            again = identifier in failed
            failed.append(identifier)
            return {"batchItemFailures": [] if again else [{"itemIdentifier": identifier}]}

        handler.answer = fail_once
        queue.send("one")

        until(lambda: len(handler.events) == 2 and queue.count() == 0, "two deliveries")
        assert handler.bodies == ["one", "one"]

    def test_what_always_fails_ends_as_a_dead_letter(
        self, handler: Handler, queue: Queue, dead_letters: Queue, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(_: Any) -> Any:
            raise KeyError("broken")

        handler.answer = fail
        queue.send("one")

        until(lambda: dead_letters.count() == 1, "a dead letter")
        assert handler.bodies == ["one", "one"]
        assert "KeyError" in capsys.readouterr().err

    def test_two_are_worked_on_at_once_and_the_others_wait(self, handler: Handler, queue: Queue) -> None:
        gate = threading.Event()
        handler.answer = lambda _: gate.wait(PATIENCE_SECONDS) and None
        for _ in range(4):
            queue.send("slow")

        until(lambda: len(handler.events) == 2, "two deliveries")
        assert not gate.wait(0.3)
        assert len(handler.events) == 2
        gate.set()
        until(lambda: queue.count() == 0, "an empty queue")


def test_a_schedule_goes_on_after_a_failure(
    handler: Handler, function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()

    def fail(_: Any) -> Any:
        if len(handler.events) >= 3:
            over.wait()
        raise KeyError("broken")

    handler.answer = fail
    Schedule(function, "Every", 0.01).start()

    until(lambda: len(handler.events) == 3, "three deliveries")
    assert {event["detail-type"] for event in handler.events} == {"Scheduled Event"}
    assert len({event["id"] for event in handler.events}) == 3
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [("rate(1 minute)", 60), ("rate(15 minutes)", 900), ("rate(1 day)", 86400), ("cron(0 3 * * ? *)", 86400)],
)
def test_how_often_a_schedule_comes(expression: str, seconds: float) -> None:
    assert seconds_of(expression) == seconds


def test_a_schedule_with_an_input_is_that_event(handler: Handler, function: Function) -> None:
    Schedule(function, "Every", 3600, '{"begin": true}').start()

    until(lambda: bool(handler.events), "an event")
    assert handler.events == [{"begin": True}]
