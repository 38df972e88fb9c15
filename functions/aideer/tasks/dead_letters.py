"""Dead letters: messages of the two queues that failed five times. SQS keeps them for 14 days.

A look receives each message, holds it for HOLD_SECONDS, and gives it back. So two looks at the same time see different messages.
A message may be put back on its queue at any time, and twice: consumers pass over a task that is not pending, and a job that is
done.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from aideer.core import aws, clock, settings
from aideer.data.models import Record, Task, User
from aideer.schemas.admin import DeadLetterResponse, DeadLettersResponse, RedriveResponse, State
from aideer.security import audit_trail

MOST = 100
"""The most messages in a response."""
HOLD_SECONDS = 60
"""Seconds for which a look or a redrive holds a message. It is above a function's timeout."""
REDRIVE_SECONDS = 20.0
"""Seconds after which a redrive receives no more messages. The gateway gives up after 30."""
_BATCH = 10
"""The most messages of one call of SQS."""

Queue = Literal["tasks", "jobs"]


@dataclass(frozen=True)
class _Letter:
    receipt: str
    body: str
    since: str
    received: int
    about: dict[str, str]
    """{"task_id"}, or {"pk", "sk"} of a job, or {} if the body is neither."""

    @property
    def queue(self) -> Queue | None:
        """The queue that it came from. Its body tells, because each queue has bodies of its own."""
        return "tasks" if "task_id" in self.about else "jobs" if self.about else None


def read() -> DeadLettersResponse:
    """Return the dead letters, oldest first, with the state of the task or job that each one is about."""
    count = _count()
    letters = list(_receive(most=MOST)) if count else []
    try:
        tasks, jobs = _find_tasks(letters), _find_jobs(letters)
    finally:
        _give_back(letters)
    letters.sort(key=lambda letter: letter.since)
    return DeadLettersResponse(
        count=max(count, len(letters)), letters=[_to_response(letter, tasks, jobs) for letter in letters]
    )


def redrive(admin: User) -> RedriveResponse:
    """Put dead letters back on their queues, for at most REDRIVE_SECONDS, and record it in the audit trail.

    A letter stays if its body does not tell its queue.
    """
    audit_trail.record(admin, "dead_letters.redrive")
    urls: dict[Queue | None, str] = {"tasks": settings.TASKS_QUEUE_URL, "jobs": settings.JOBS_QUEUE_URL}
    sqs, until, moved, kept = aws.get_client("sqs"), time.monotonic() + REDRIVE_SECONDS, 0, list[_Letter]()
    try:
        for letter in _receive(until=until):
            if url := urls.get(letter.queue):
                sqs.send_message(QueueUrl=url, MessageBody=letter.body)
                sqs.delete_message(QueueUrl=settings.DEAD_LETTERS_URL, ReceiptHandle=letter.receipt)
                moved += 1
            else:
                kept.append(letter)
    finally:
        _give_back(kept)
    return RedriveResponse(moved=moved, kept=len(kept))


def _count() -> int:
    """Return about how many dead letters there are, those that somebody holds included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = aws.get_client("sqs").get_queue_attributes(QueueUrl=settings.DEAD_LETTERS_URL, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


def _receive(most: int | None = None, until: float | None = None) -> Iterator[_Letter]:
    """Yield each message once, and hold it: at most so many of them, and until this time of time.monotonic."""
    seen = 0
    while (most is None or seen < most) and (until is None or time.monotonic() < until):
        answer = aws.get_client("sqs").receive_message(
            QueueUrl=settings.DEAD_LETTERS_URL,
            MaxNumberOfMessages=_BATCH if most is None else min(_BATCH, most - seen),
            VisibilityTimeout=HOLD_SECONDS,
            WaitTimeSeconds=1,  # this asks all of the queue's servers
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return
        seen += len(messages)
        yield from map(_to_letter, messages)


def _give_back(letters: list[_Letter]) -> None:
    for start in range(0, len(letters), _BATCH):
        entries = [
            {"Id": str(n), "ReceiptHandle": letter.receipt, "VisibilityTimeout": 0}
            for n, letter in enumerate(letters[start : start + _BATCH])
        ]
        aws.get_client("sqs").change_message_visibility_batch(QueueUrl=settings.DEAD_LETTERS_URL, Entries=entries)


def _to_letter(message: dict[str, Any]) -> _Letter:
    attributes = message["Attributes"]
    return _Letter(
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        since=clock.timestamp(int(attributes["SentTimestamp"]) / 1000),
        received=int(attributes["ApproximateReceiveCount"]),
        about=_parse(message["Body"]),
    )


def _parse(body: str) -> dict[str, str]:
    try:
        message = json.loads(body)
    except ValueError:
        return {}
    for names in ({"task_id"}, {"pk", "sk"}):
        if isinstance(message, dict) and message.keys() == names and all(isinstance(v, str) for v in message.values()):
            return message
    return {}


def _find_tasks(letters: list[_Letter]) -> dict[str, Task]:
    ids = {letter.about["task_id"] for letter in letters if letter.queue == "tasks"}
    found = Task.batch_get(ids, consistent_read=True, attributes_to_get=["id", "status", "error_code"]) if ids else ()
    return {task.id: task for task in found}


def _find_jobs(letters: list[_Letter]) -> set[tuple[str, str]]:
    keys = {(letter.about["pk"], letter.about["sk"]) for letter in letters if letter.queue == "jobs"}
    found = Record.batch_get(keys, consistent_read=True, attributes_to_get=["pk", "sk"]) if keys else ()
    return {(record.pk, record.sk) for record in found}


def _to_response(letter: _Letter, tasks: dict[str, Task], jobs: set[tuple[str, str]]) -> DeadLetterResponse:
    state: State = "unknown"
    task = None
    if letter.queue == "tasks":
        task = tasks.get(letter.about["task_id"])
        state = cast(State, task.status) if task else "gone"
    elif letter.queue == "jobs":
        state = "waiting" if (letter.about["pk"], letter.about["sk"]) in jobs else "done"
    return DeadLetterResponse(
        queue=letter.queue,
        task_id=letter.about.get("task_id"),
        job=" ".join(letter.about.values()) if letter.queue == "jobs" else None,
        state=state,
        error=task.error_code if task else None,
        since=letter.since,
        received=letter.received,
    )
