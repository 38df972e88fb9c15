"""Invokes functions without a request: for the queues' messages and for the template's schedules."""

import concurrent.futures
import contextlib
import importlib
import json
import os
import re
import signal
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.stack.invocation import InvocationError, run
from local.stack.processes import ROOT, announce_ready
from local.stack.resources import client, queue_url
from local.stack.settings import Settings, hide_secrets
from local.stack.state import ACCOUNT, REGION, Stack
from local.stack.template import Function, Template

CONCURRENCY = {"tasks.on_queued": 32}
"""Messages that a function handles at once here. Any other function handles two."""
EXECUTOR = "aideer.tasks.executor"
"""The module that a consumer imports after its first claim. Loading it early keeps that time out of the first answer."""
POLL_SECONDS = 20
STOP_SECONDS = 5.0
DAY = 24 * 3600


class Consumer:
    """Lambda's poller of one queue. Each message is one invocation. A failed message stays in the queue and returns later."""

    def __init__(self, function: Function, queue_arn: str, stack: Stack) -> None:
        self._function = function
        self._arn = queue_arn
        self._queue = queue_url(stack.endpoint, queue_arn.rpartition(":")[2])
        self._sqs = client("sqs", stack.endpoint)
        workers = CONCURRENCY.get(function.module, 2)
        self._free = threading.Semaphore(workers)
        self._threads = concurrent.futures.ThreadPoolExecutor(workers, function.module)
        self._stop = threading.Event()
        self.running: set[concurrent.futures.Future[None]] = set()

    def start(self) -> None:
        """Begin to poll."""
        threading.Thread(target=self._poll, name=f"{self._function.module} poller", daemon=True).start()

    def stop(self) -> None:
        """Receive no more messages."""
        self._stop.set()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._free.acquire()
            messages = self._receive()
            if not messages:
                self._free.release()
            for message in messages:
                future = self._threads.submit(self._work, message)
                self.running.add(future)
                future.add_done_callback(self._done)

    def _receive(self) -> list[dict[str, Any]]:
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._queue,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=POLL_SECONDS,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except (BotoCoreError, ClientError) as error:
            print(f"ERROR {self._function.module}: cannot receive: {error}", file=sys.stderr, flush=True)
            self._stop.wait(1)
            return []
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _done(self, future: concurrent.futures.Future[None]) -> None:
        self.running.discard(future)
        self._free.release()
        if error := future.exception():
            print(f"ERROR {self._function.module}: {error!r}", file=sys.stderr, flush=True)

    def _work(self, message: dict[str, Any]) -> None:
        try:
            answer = json.loads(run({"Records": [self._record(message)]}, self._function.context())) or {}
        except InvocationError:
            return
        failed = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures", [])}
        if message["MessageId"] in failed:
            return
        try:
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        except (BotoCoreError, ClientError) as error:
            print(f"ERROR {self._function.module}: cannot delete: {error}", file=sys.stderr, flush=True)

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: {"dataType": value["DataType"], "stringValue": value.get("StringValue")}
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": REGION,
        }


class Schedule:
    """EventBridge's invocations of one function. Here they never overlap."""

    def __init__(self, function: Function, rule: str, seconds: float, event: str | None = None) -> None:
        self._function = function
        self._rule = rule
        self._seconds = seconds
        self._input = event

    def start(self) -> None:
        """Begin with one invocation now, because a killed stack may have left work open."""
        threading.Thread(target=self._repeat, name=f"{self._function.module} schedule", daemon=True).start()

    def _repeat(self) -> None:
        due = time.monotonic()
        while True:
            with contextlib.suppress(InvocationError):  # the error is logged, and the next invocation follows
                run(self._event(), self._function.context())
            now = time.monotonic()
            due = max(due + self._seconds, now)
            time.sleep(due - now)

    def _event(self) -> Any:
        if self._input is not None:
            return json.loads(self._input)
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{self._rule}"],
            "detail": {},
        }


def seconds_of(expression: str) -> float:
    """Return the seconds between two invocations. A rate gives them; a cron expression means once a day here."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    return int(rate[1]) * {"minute": 60, "hour": 3600, "day": DAY}[rate[2]] if rate else DAY


def main() -> None:
    """Invoke functions until SIGTERM."""
    settings, template = Settings.read(), Template()
    hide_secrets()
    stack = Stack.wait(settings.state_dir)
    os.environ.update(stack.environment)
    sys.path.insert(0, str(ROOT / "functions"))
    consumers, schedules = [], []
    for function in template.functions.values():
        for event in function.events:
            if event.type == "SQS":
                arn = template.resolve(event.properties["Queue"], stack.resources)
                consumers.append(Consumer(function, arn, stack))
            elif event.type == "Schedule":
                every = seconds_of(template.resolve(event.properties["Schedule"], stack.resources))
                if function.module == "tasks.sweep":
                    every = settings.sweep_seconds
                schedules.append(Schedule(function, function.name, every, event.properties.get("Input")))
            else:
                continue
            importlib.import_module(function.module)
    importlib.import_module(EXECUTOR)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for consumer in consumers:
        consumer.start()
    for schedule in schedules:
        schedule.start()
    announce_ready()
    stopping.wait()
    for consumer in consumers:
        consumer.stop()
    running = [future for consumer in consumers for future in list(consumer.running)]
    concurrent.futures.wait(running, timeout=STOP_SECONDS)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
