"""Retries of SDKs. A client of OpenAI repeats a POST whose answer it did not get, without a key for the repetition.

Such a repetition has the header x-stainless-retry-count. With it, the body's digest finds the task that the first attempt began,
and the client gets that answer. Without the header, equal requests are different ones: parallel samples of one prompt are
legitimate.
"""

from collections.abc import Mapping

from pynamodb.exceptions import PynamoDBException

from aideer.completions.callers import Caller
from aideer.core import aws_errors, clock
from aideer.data import lookup
from aideer.data.models import Record, Task
from aideer.data.transactions import Transaction
from aideer.tasks import control, leases

SECONDS = 900
"""How long an attempt is found: longer than an answer and the waits of a client take."""
_ASKED_ANEW = ("throttled",)
"""Failures after which the provider has done nothing, so a retry asks again."""


def is_retry(headers: Mapping[str, str]) -> bool:
    """Return whether a client says that it repeats a request."""
    count = headers.get("x-stainless-retry-count", "0")
    return count.isdecimal() and count.strip("0") != ""


def note_in(transaction: Transaction, caller: Caller, digest: str, task: Task) -> None:
    """Note the task of a request in the transaction that accepts it. Of equal requests, the newest is noted."""
    record = Record(*_key(caller, digest), data={"task_id": task.id}, ttl=int(clock.now()) + SECONDS)
    transaction.put("retry", record)


def find(caller: Caller, digest: str) -> Task | None:
    """Return the task of the earlier attempt, or None if there is none that a retry can go on with."""
    record = lookup.find(Record, *_key(caller, digest))
    if record is None or record.ttl <= clock.now():
        return None
    task = leases.read(record.data["task_id"])
    if task is None or control.is_deleted(task) or (task.status == "failed" and task.error_code in _ASKED_ANEW):
        return None
    return task


def forget(caller: Caller, digest: str) -> None:
    """Forget the task of an equal request, because this request was refused, and its client will repeat it.

    Otherwise the repetition would get the answer of that other request.
    """
    try:
        Record(*_key(caller, digest)).delete()
    except PynamoDBException as error:
        if not aws_errors.is_unavailable(error):
            raise


def _key(caller: Caller, digest: str) -> tuple[str, str]:
    return f"completion#{caller.scope}", digest
