"""Breaks one AWS call of a run, in every way in which AWS and Lambda have been seen to break one.

A `Wire` stands between botocore and the embedded AWS. It sends each attempt itself, so it knows what has really happened
there, whatever the caller is told. Without a fault it only records the calls, which are what can then be broken one by one.
A call is known by who made it (`actor`), by operation and table, and by which of those it is, so that it is the same call in
the next run, also where threads run in another order.
"""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from aideer.core import aws, settings
from aideer.data.base import connection
from tests.faults import CONFLICT, INTERNAL, THROTTLED

TABLES = {value: name for name, value in vars(settings).items() if name.endswith("_TABLE")}
OUTAGE_CALLS = 40
"""Longer than any one operation's patience."""
ALWAYS = 10**6

_BUSY = b'{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"busy"}'
_QUEUE_THROTTLED = b'{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}'

Send = Callable[[], AWSResponse]
actor: ContextVar[str] = ContextVar("actor", default="it")
"""Who makes the calls of this context: where two processes would be at work, each dies alone."""


class Abandoned(BaseException):
    """The process died at this point. Nothing catches it."""


@dataclass(frozen=True, slots=True)
class Call:
    """The nth call of its kind that an actor makes in a run."""

    actor: str
    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.actor}: {self.name} #{self.nth}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that botocore sends: a call and its repetitions are several."""

    call: Call
    operation: str
    body: dict[str, Any]
    url: str


Strike = Callable[[Attempt, Send], AWSResponse]


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break a call: what its first attempt meets, and its repetitions, of which so many are struck too."""

    kind: str
    """As the report names it."""
    name: str
    first: Strike
    again: Strike | None = None
    outage: int = 0
    """So many calls after it find nobody there."""
    applies: Callable[[Call], bool] = lambda call: True


def _refuse(attempt: Attempt, send: Send) -> AWSResponse:
    raise EndpointConnectionError(endpoint_url=attempt.url)


def _lose(attempt: Attempt, send: Send) -> AWSResponse:
    send()
    raise ReadTimeoutError(endpoint_url=attempt.url)


def _die(attempt: Attempt, send: Send) -> AWSResponse:
    raise Abandoned


def _die_after(attempt: Attempt, send: Send) -> AWSResponse:
    send()
    raise Abandoned


def _answer(attempt: Attempt, status: int, body: bytes) -> AWSResponse:
    headers = {"content-type": "application/x-amz-json-1.0", "content-length": str(len(body))}
    return AWSResponse(attempt.url, status, headers, _Raw(body))


def _throttle(attempt: Attempt, send: Send) -> AWSResponse:
    return _answer(attempt, 400, _QUEUE_THROTTLED if attempt.operation == "SendMessage" else THROTTLED)


def _conflict(attempt: Attempt, send: Send) -> AWSResponse:
    return _answer(attempt, 400, CONFLICT if attempt.operation == "TransactWriteItems" else _BUSY)


def _internal(attempt: Attempt, send: Send) -> AWSResponse:
    return _answer(attempt, 500, INTERNAL)


def _internal_after(attempt: Attempt, send: Send) -> AWSResponse:
    send()
    return _answer(attempt, 500, INTERNAL)


def _stale(attempt: Attempt, send: Send) -> AWSResponse:
    """What an eventually consistent read may answer: that there is nothing yet."""
    empty = b'{"Items":[],"Count":0,"ScannedCount":0}' if attempt.operation == "Query" else b"{}"
    return send() if attempt.body.get("ConsistentRead") else _answer(attempt, 200, empty)


def _writes(call: Call) -> bool:
    return call.name.startswith(("TransactWrite", "Put", "Update", "Delete", "BatchWrite", "Send"))


def _conflicts(call: Call) -> bool:
    return call.name.startswith(("TransactWrite", "Put", "Update", "Delete"))


def _reads(call: Call) -> bool:
    return call.name.startswith(("GetItem", "Query"))


REFUSED, LOST, CONFLICTING = "refused before it happened", "happened, answer lost", "TransactionConflict"
SLOWED, BROKEN, DEAD = "throttled", "internal error", "executor or caller abandoned"
OUT, STALE = "outage: this call and the next 40", "eventually consistent read that lags"
FAULTS = [
    Fault(REFUSED, "refused", _refuse),
    Fault(REFUSED, "refused, and each repetition", _refuse, _refuse),
    Fault(LOST, "answer lost", _lose, applies=_writes),
    Fault(LOST, "answer lost, and of each repetition", _lose, _lose),
    Fault(LOST, "answer lost, then throttled", _lose, _throttle, applies=_writes),
    Fault(LOST, "answer lost, then an outage", _lose, _refuse, OUTAGE_CALLS, _writes),
    Fault(CONFLICTING, "conflict", _conflict, applies=_conflicts),
    Fault(CONFLICTING, "answer lost, then conflict", _lose, _conflict, applies=_conflicts),
    Fault(SLOWED, "throttled", _throttle),
    Fault(SLOWED, "throttled, and each repetition", _throttle, _throttle),
    Fault(BROKEN, "internal error before", _internal),
    Fault(BROKEN, "internal error after", _internal_after, applies=_writes),
    Fault(BROKEN, "internal error after, and of each repetition", _internal_after, _internal_after),
    Fault(DEAD, "died before", _die),
    Fault(DEAD, "died after", _die_after, applies=_writes),
    Fault(OUT, "outage", _refuse, _refuse, OUTAGE_CALLS),
    Fault(STALE, "stale", _stale, _stale, applies=_reads),
]


class Wire:
    """All AWS calls of this process, while it is in place."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.struck = False
        """Whether the fault has met its call."""
        self._fault: Fault | None = None
        self._at: Call | None = None
        self._outage = 0
        self._dead: set[str] = set()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._known: dict[str, Call] = {}
        self._attempts: Counter[str] = Counter()
        self.heard: Callable[[Attempt], object] = bool
        """Is called with each attempt that has happened in AWS."""
        self._deaths: dict[str, Callable[[], object]] = {}

    def arm(self, fault: Fault | None = None, at: Call | None = None) -> None:
        """Begin to count calls, and break the one named."""
        with self._lock:
            self.calls, self.struck = [], False
            self._fault, self._at, self._outage = fault, at, 0
            self._dead.clear()
            self._counts.clear()
            self._known.clear()
            self._attempts.clear()

    def is_dead(self) -> bool:
        """Whether the actor of this context has died."""
        return actor.get() in self._dead

    @contextlib.contextmanager
    def mourned(self, name: str, died: Callable[[], object]) -> Iterator[None]:
        """Call `died` when this actor dies meanwhile."""
        self._deaths[name] = died
        try:
            yield
        finally:
            del self._deaths[name]

    @contextlib.contextmanager
    def in_place(self) -> Iterator["Wire"]:
        """Stand between botocore and AWS."""
        clients = [connection().client, aws.get_client("sqs"), aws.get_client("secretsmanager")]
        handlers = [(client.meta.events, self._handler(client)) for client in clients]
        for events, handler in handlers:
            events.register_first("before-send", handler)
        try:
            yield self
        finally:
            for events, handler in handlers:
                events.unregister("before-send", handler)

    def _handler(self, client: Any) -> Callable[..., AWSResponse]:
        def answer(request: Any, event_name: str, **_: Any) -> AWSResponse:
            return self._attempt(request, event_name.rpartition(".")[2], client._endpoint.http_session.send)

        return answer

    def _attempt(self, request: Any, operation: str, transport: Callable[[Any], AWSResponse]) -> AWSResponse:
        body = json.loads(request.body)
        who = actor.get()
        with self._lock:
            invocation = str(request.headers["amz-sdk-invocation-id"])
            if invocation not in self._known:
                name = f"{operation} {TABLES.get(_table(body), '').removesuffix('_TABLE')}".strip()
                self._known[invocation] = Call(who, name, self._counts[who, name])
                self._counts[who, name] += 1
                self.calls.append(self._known[invocation])
            call = self._known[invocation]
            self._attempts[invocation] += 1
            strike = self._strike(who, call, self._attempts[invocation])
        attempt = Attempt(call, operation, body, request.url)

        def send() -> AWSResponse:
            response = transport(request)
            self.heard(attempt)
            return response

        try:
            return strike(attempt, send) if strike else send()
        except Abandoned:
            self._dead.add(who)
            self._deaths.get(who, bool)()
            raise

    def _strike(self, who: str, call: Call, attempt: int) -> Strike | None:
        if who in self._dead:
            return _die
        fault = self._fault
        if fault and call == self._at:
            self.struck = True
            self._outage = fault.outage
            return fault.first if attempt == 1 else fault.again
        if self._outage:
            if attempt == 1:
                self._outage -= 1
            return _refuse
        return None


def _table(body: dict[str, Any]) -> str:
    return body.get("TableName") or next(iter(body.get("RequestItems", {})), "")


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body

    def read(self) -> bytes:
        return self._body
