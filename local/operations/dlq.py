"""`make dlq`: list the messages that failed five times, put them back on their queues, or delete them.

It uses the local stack, or with STAGE or --stack a deployed one, with the credentials and region that botocore finds. Listing
receives each message: it is held for HOLD_SECONDS and then given back, and its receive count goes up by one.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from local.release.stacks import Where, explain
from local.release.stages import OperationError
from local.stack import resources
from local.stack.settings import SettingsError, state_dir
from local.stack.state import Stack

HOLD_SECONDS = 300
SHOWN = 1000
QUEUES = ("TasksQueue", "JobsQueue")


@dataclass(frozen=True)
class Place:
    """The queues and tables of a stack, by logical id, with clients for them."""

    sqs: Any
    dynamodb: Any
    urls: dict[str, str]
    tables: dict[str, str]

    @classmethod
    def local(cls, stack: Stack) -> "Place":
        """Return the place of the running local stack."""
        names = stack.resources
        return cls(
            resources.client("sqs", stack.endpoint),
            resources.client("dynamodb", stack.endpoint),
            {name: resources.queue_url(stack.endpoint, names[name]["QueueName"]) for name in ("DeadLetters", *QUEUES)},
            {name: names[name]["Ref"] for name in ("TasksTable", "RecordsTable")},
        )

    @classmethod
    def deployed(cls, where: Where) -> "Place":
        """Return the place of a stack in AWS."""
        cloudformation = where.client("cloudformation")

        def physical(name: str) -> str:
            answer = cloudformation.describe_stack_resource(StackName=where.stack, LogicalResourceId=name)
            physical_id: str = answer["StackResourceDetail"]["PhysicalResourceId"]
            return physical_id

        return cls(
            where.client("sqs"),
            where.client("dynamodb"),
            {name: physical(name) for name in ("DeadLetters", *QUEUES)},
            {name: physical(name) for name in ("TasksTable", "RecordsTable")},
        )


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead-letter queue."""

    receipt: str
    body: str
    queue: str | None
    """The logical id of the queue that it came from, or None if it is unknown."""
    about: dict[str, str]
    """{"task_id"}, or {"pk", "sk"} of a job. Empty if the body is neither."""
    since: datetime
    received: int


class DeadLetters:
    """The dead letters of a place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = place.urls["DeadLetters"]

    def receive(self) -> Iterator[DeadLetter]:
        """Yield each message once, and hold it."""
        while True:
            answer = self._place.sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=HOLD_SECONDS,
                WaitTimeSeconds=1,  # this asks all of the queue's servers
                MessageSystemAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return
            yield from map(self._letter, answer["Messages"])

    def give_back(self, letter: DeadLetter) -> None:
        """Make the message visible to other receivers."""
        self._place.sqs.change_message_visibility(QueueUrl=self._url, ReceiptHandle=letter.receipt, VisibilityTimeout=0)

    def redrive(self, letter: DeadLetter, queue: str) -> None:
        """Put the message back on its queue. After an interruption it may be on both queues, which consumers tolerate."""
        self._place.sqs.send_message(QueueUrl=self._place.urls[queue], MessageBody=letter.body)
        self.delete(letter)

    def delete(self, letter: DeadLetter) -> None:
        """Delete the message for good."""
        self._place.sqs.delete_message(QueueUrl=self._url, ReceiptHandle=letter.receipt)

    def now(self, letter: DeadLetter) -> str:
        """Return the state of the message's task or job, which shows whether work is left."""
        if "task_id" in letter.about:
            task = self._item("TasksTable", {"id": letter.about["task_id"]})
            if task is None:
                return "gone"
            code = task.get("error_code", {}).get("S")
            status: str = task["status"]["S"]
            return f"{status} ({code})" if code else status
        if "pk" in letter.about:
            job = self._item("RecordsTable", {"pk": letter.about["pk"], "sk": letter.about["sk"]})
            return "done" if job is None else "still to be done"
        return "?"

    def _item(self, table: str, key: dict[str, str]) -> dict[str, Any] | None:
        answer = self._place.dynamodb.get_item(
            TableName=self._place.tables[table],
            Key={name: {"S": value} for name, value in key.items()},
            ConsistentRead=True,
        )
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def _letter(self, message: dict[str, Any]) -> DeadLetter:
        attributes, about = message["Attributes"], _about(message["Body"])
        source = attributes.get("DeadLetterQueueSourceArn", "").rpartition(":")[2]
        names = {url.rpartition("/")[2]: name for name, url in self._place.urls.items()}
        by_body = "TasksQueue" if "task_id" in about else "JobsQueue" if about else None
        return DeadLetter(
            receipt=message["ReceiptHandle"],
            body=message["Body"],
            queue=names.get(source, by_body),
            about=about,
            since=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
            received=int(attributes["ApproximateReceiveCount"]),
        )


def _about(body: str) -> dict[str, str]:
    try:
        message = json.loads(body)
    except ValueError:
        return {}
    for names in ({"task_id"}, {"pk", "sk"}):
        if isinstance(message, dict) and message.keys() == names and all(isinstance(v, str) for v in message.values()):
            return message
    return {}


def show(letters: DeadLetters) -> None:
    """List the dead letters."""
    rows = []
    held = list(islice(letters.receive(), SHOWN))
    try:
        for letter in sorted(held, key=lambda letter: letter.since):
            what = letter.about.get("task_id") or " ".join(letter.about.values()) or f"{len(letter.body)} characters"
            since = letter.since.strftime("%Y-%m-%d %H:%M:%SZ")
            rows.append((letter.queue or "?", what, since, str(letter.received), letters.now(letter)))
    finally:
        for letter in held:
            letters.give_back(letter)
    if not rows:
        print("no dead letters")
        return
    rows.insert(0, ("from", "task or job", "since", "received", "now"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(held)} dead" + (", and maybe more" if len(held) == SHOWN else ""))


def redrive(letters: DeadLetters) -> None:
    """Put every message back on the queue that it came from."""
    moved, kept = 0, []
    try:
        for letter in letters.receive():
            if letter.queue is None:
                kept.append(letter)
            else:
                letters.redrive(letter, letter.queue)
                moved += 1
    finally:
        for letter in kept:
            letters.give_back(letter)
    print(f"{moved} put back" + (f", {len(kept)} kept: nothing tells where they came from" if kept else ""))


def purge(letters: DeadLetters, *, sure: bool) -> int:
    """Delete every message that exists before the question, after asking. Later messages stay."""
    held = list(letters.receive())
    if not held:
        print("no dead letters")
        return 0
    with contextlib.suppress(EOFError):
        sure = sure or input(f"Delete {len(held)} for good? Type yes: ") == "yes"
    for letter in held:
        (letters.delete if sure else letters.give_back)(letter)
    print(f"{len(held)} deleted" if sure else "nothing deleted")
    return 0 if sure else 1


def main(arguments: list[str]) -> int:
    """Run the command, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make dlq", description="Dead letters: lists them, unless told otherwise.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--redrive", action="store_true", help="put them back on the queues that they came from")
    action.add_argument("--purge", action="store_true", help="delete them, after asking")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--stack", help="of this CloudFormation stack, not of the local one")
    parser.add_argument("--region", help="where that is")
    given = parser.parse_args(arguments)
    try:
        place = (
            Place.deployed(Where.said(given.stack, given.region))
            if given.stack or os.environ.get("STAGE")
            else Place.local(Stack.wait(state_dir(), seconds=0.1))
        )
        letters = DeadLetters(place)
        if given.purge:
            return purge(letters, sure=given.yes)
        (redrive if given.redrive else show)(letters)
    except (OSError, BotoCoreError, ClientError, OperationError, SettingsError) as error:
        gone = not (given.stack or os.environ.get("STAGE")) and isinstance(
            error, (TimeoutError, EndpointConnectionError)
        )
        print(
            "no local stack is running (make run); STAGE=production is for the deployed one"
            if gone
            else explain(error),
            file=sys.stderr,
        )
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
