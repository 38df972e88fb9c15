"""AWS as it is on a bad day: what the embedded one never shows, put in by botocore's hooks."""

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError

from aideer.data.base import connection

CONFLICT = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled",'
    b'"CancellationReasons":[{"Code":"TransactionConflict","Message":"busy"},{"Code":"None"}]}'
)
REFUSED = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled",'
    b'"CancellationReasons":[{"Code":"ConditionalCheckFailed","Message":"no"}]}'
)
THROTTLED = b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","Message":"slow down"}'
INTERNAL = b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","Message":"oops"}'


@contextlib.contextmanager
def refused(operation: str, body: bytes, status: int = 400, times: int = 1) -> Iterator[None]:
    """The next calls of this DynamoDB operation are answered with an error, and do not happen."""
    left = [times]

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        if not left[0]:
            return None
        left[0] -= 1
        return respond(request, body, status)

    with _registered(f"before-send.dynamodb.{operation}", answer):
        yield


def respond(request: Any, body: bytes, status: int = 400) -> AWSResponse:
    """An error of DynamoDB, as the answer to a request."""
    headers = {"content-type": "application/x-amz-json-1.0", "content-length": str(len(body))}
    return AWSResponse(request.url, status, headers, _Raw(body))


@contextlib.contextmanager
def answer_lost(operation: str, times: int = 1) -> Iterator[None]:
    """The next calls of this DynamoDB operation happen, and their answers never arrive."""
    left = [times]

    def lose(**_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise ReadTimeoutError(endpoint_url="embedded")

    with _registered(f"after-call.dynamodb.{operation}", lose):
        yield


@contextlib.contextmanager
def _registered(event: str, handler: Any) -> Iterator[None]:
    events = connection().client.meta.events
    events.register_first(event, handler)
    try:
        yield
    finally:
        events.unregister(event, handler)


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body

    def read(self) -> bytes:
        return self._body


@contextlib.contextmanager
def doubted() -> Iterator[None]:
    """The next transaction happens, its answer is lost, and its repetition is refused, as long after DynamoDB knows its token."""
    calls: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        call = request.headers["amz-sdk-invocation-id"]  # the same for each time that botocore sends one call
        if call not in calls:
            calls.append(call)
        if calls.index(call) != 1:
            return None
        return respond(request, REFUSED)

    with answer_lost("TransactWriteItems"), _registered("before-send.dynamodb.TransactWriteItems", answer):
        yield


class Died(BaseException):
    """The end of a process in the middle of its work. No product code catches it."""


@contextlib.contextmanager
def dying(nth: int, *, after: bool) -> Iterator[None]:
    """The nth call of DynamoDB (from 0) is this process's last one. It happens only if the process dies after it."""
    left = [nth]

    def die(**_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Died

    with _registered("after-call.dynamodb.*" if after else "before-call.dynamodb.*", die):
        yield
