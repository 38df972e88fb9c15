"""`make dlq`: what is dead is listed with what became of it, put back where it came from, or deleted."""

import json
import os
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from aideer.core import aws, settings
from aideer.data.base import new_id
from aideer.data.models import Record, Task
from local.operations import dlq
from local.stack.state import Stack


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> str:
    """The local stack is the tests' own AWS, with empty queues. Returns the dead letters' URL."""
    sqs = aws.get_client("sqs")
    policy = sqs.get_queue_attributes(QueueUrl=settings.TASKS_QUEUE_URL, AttributeNames=["RedrivePolicy"])
    arn = json.loads(policy["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"]
    names = {
        "DeadLetters": arn.rpartition(":")[2],
        "TasksQueue": settings.TASKS_QUEUE_URL.rpartition("/")[2],
        "JobsQueue": settings.JOBS_QUEUE_URL.rpartition("/")[2],
    }
    resources = {name: {"QueueName": queue} for name, queue in names.items()}
    resources |= {"TasksTable": {"Ref": settings.TASKS_TABLE}, "RecordsTable": {"Ref": settings.RECORDS_TABLE}}
    running = Stack(os.environ["AWS_ENDPOINT_URL"], {}, resources)
    monkeypatch.setattr(dlq.Stack, "wait", lambda *_, **__: running)
    url = f"{settings.TASKS_QUEUE_URL.rpartition('/')[0]}/{names['DeadLetters']}"
    for queue in (url, settings.TASKS_QUEUE_URL, settings.JOBS_QUEUE_URL):
        bodies(queue)
    return url


def bodies(url: str) -> list[str]:
    """Take everything out of a queue."""
    sqs, found = aws.get_client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def die(url: str, body: str) -> None:
    """Fail a message five times."""
    sqs = aws.get_client("sqs")
    sqs.send_message(QueueUrl=url, MessageBody=body)
    while sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages"):
        pass


def task(status: str, error_code: str | None = None) -> str:
    task_id = new_id()
    Task(task_id).update([Task.status.set(status), *([Task.error_code.set(error_code)] if error_code else [])])
    return json.dumps({"task_id": task_id})


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert dlq.main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def test_with_none_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == ["no dead letters"]
    assert listed(capsys, "--purge") == ["no dead letters"]
    assert listed(capsys, "--redrive") == ["0 put back"]


def test_they_are_listed_with_where_they_came_from_and_what_became_of_it(
    capsys: pytest.CaptureFixture[str], stack: str
) -> None:
    failed, gone = task("failed", "queue_timeout"), json.dumps({"task_id": new_id()})
    key = ("jobs#3", f"2026-11-22T13:20:00.000000Z#{new_id()}")
    Record(*key, data={"kind": "chat", "chat_id": new_id()}).save()
    job, done = (json.dumps({"pk": pk, "sk": sk}) for pk, sk in (key, ("jobs#1", "2026")))
    die(settings.TASKS_QUEUE_URL, failed)
    die(settings.TASKS_QUEUE_URL, gone)
    die(settings.JOBS_QUEUE_URL, job)
    die(settings.JOBS_QUEUE_URL, done)
    die(settings.JOBS_QUEUE_URL, "hello")
    for _ in range(2):  # what was looked at is given back
        head, *rows, count = listed(capsys)
        assert head.split() == ["from", "task", "or", "job", "since", "received", "now"]
        assert count == "5 dead"
        assert [row.split()[0] for row in rows] == ["TasksQueue"] * 2 + ["JobsQueue"] * 3
        assert rows[0].split()[1] == json.loads(failed)["task_id"]
        assert rows[0].endswith("failed (queue_timeout)")
        assert rows[1].endswith("gone")
        assert "jobs#3 2026-11-22T13:20:00.000000Z#" in rows[2]
        assert rows[2].endswith("still to be done")
        assert rows[3].endswith("done")
        assert "hello" not in rows[4], "nobody knows what it says"
        assert rows[4].endswith("?")
    received = [int(row.split("Z  ")[1].split()[0]) for row in rows]
    assert all(count >= 6 for count in received)
    assert len(bodies(stack)) == 5


def test_they_are_put_back_on_the_queues_that_they_came_from(capsys: pytest.CaptureFixture[str], stack: str) -> None:
    tasks_, jobs_ = [task("pending") for _ in range(12)], ['{"pk":"jobs#1","sk":"2026"}', "hello"]
    for body in tasks_:
        die(settings.TASKS_QUEUE_URL, body)
    for body in jobs_:
        die(settings.JOBS_QUEUE_URL, body)
    assert listed(capsys, "--redrive") == ["14 put back"]
    assert sorted(bodies(settings.TASKS_QUEUE_URL)) == sorted(tasks_)
    assert sorted(bodies(settings.JOBS_QUEUE_URL)) == sorted(jobs_)
    assert bodies(stack) == []


def test_what_was_sent_there_by_hand_goes_by_what_it_says(capsys: pytest.CaptureFixture[str], stack: str) -> None:
    for body in ('{"task_id":"t"}', '{"pk":"jobs#1","sk":"2026"}', "{}", "[1]", '{"task_id":1}'):
        aws.get_client("sqs").send_message(QueueUrl=stack, MessageBody=body)
    assert listed(capsys, "--redrive") == ["2 put back, 3 kept: nothing tells where they came from"]
    assert bodies(settings.TASKS_QUEUE_URL) == ['{"task_id":"t"}']
    assert bodies(settings.JOBS_QUEUE_URL) == ['{"pk":"jobs#1","sk":"2026"}']
    assert sorted(bodies(stack)) == ["[1]", '{"task_id":1}', "{}"]


@pytest.mark.parametrize(("answer", "left"), [("yes", 0), ("y", 2), ("", 2), (None, 2)])
def test_they_are_deleted_only_after_a_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stack: str, answer: str | None, left: int
) -> None:
    for _ in range(2):
        die(settings.TASKS_QUEUE_URL, task("failed"))

    def asked(question: str) -> str:
        assert question.startswith("Delete 2 for good?")
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", asked)
    assert dlq.main(["--purge"]) == (1 if left else 0)
    assert capsys.readouterr().out == ("nothing deleted\n" if left else "2 deleted\n")
    assert len(bodies(stack)) == left


def test_nobody_is_asked_with_yes(capsys: pytest.CaptureFixture[str], stack: str) -> None:
    die(settings.TASKS_QUEUE_URL, task("failed"))
    assert listed(capsys, "--purge", "--yes") == ["1 deleted"]
    assert bodies(stack) == []


def test_a_deployed_stack_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    body = task("running")
    die(settings.TASKS_QUEUE_URL, body)
    _, row, count = listed(capsys, "--stack", "local", "--region", "us-east-1")
    assert json.loads(body)["task_id"] in row
    assert count == "1 dead"


def test_what_is_not_there_is_said_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dlq.main(["--stack", "no-such-stack"]) == 1
    assert "no-such-stack" in capsys.readouterr().err

    def missing(*_: Any, **__: Any) -> Stack:
        raise TimeoutError

    def stopped(*_: Any, **__: Any) -> Stack:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    for failing in (missing, stopped):
        monkeypatch.setattr(dlq.Stack, "wait", failing)
        assert dlq.main([]) == 1
        assert "make run" in capsys.readouterr().err
