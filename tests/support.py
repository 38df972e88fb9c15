"""What tests share: calls of the endpoints through API Gateway's events, people, and a record of AWS calls."""

import asyncio
import base64
import contextlib
import importlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

from aideer.billing import credits
from aideer.core import aws, clock
from aideer.data import batch_write
from aideer.data.base import connection, new_id
from aideer.data.models import Chat, CreditEntry, Identity, Message, Preset, Task, User
from aideer.security import auth, password_hashing
from aideer.tasks import stream_access

T = TypeVar("T")
UsePrices = Callable[[dict[str, Any]], None]
"""The fixture `use_prices`."""
ADDRESS = "203.0.113.9"
"""Where requests come from, unless they say otherwise."""


@dataclass
class Context:
    """Lambda's context object."""

    function_name: str = "test"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:test"
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))
    seconds: float = 30.0
    began: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return int((self.began + self.seconds - time.monotonic()) * 1000)


@dataclass
class Answer:
    """An endpoint's answer; `json` is its body read as JSON."""

    status: int
    headers: dict[str, str]
    body: str
    cookies: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """Calls a handler file's `handler` with the event that API Gateway (HTTP API, payload 2.0) would make.

    `api("chats.create", "POST", "/chats", json={...}, user=person)`; paths are without /api/v1 unless they begin with it.
    """

    def __call__(
        self,
        module: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: dict[str, str] | None = None,
        raw: bytes | None = None,
        user: "Person | None" = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, str] | None = None,
        address: str = ADDRESS,
    ) -> Answer:
        event = http_event(
            method,
            path,
            json=json,
            form=form,
            raw=raw,
            token=token or (user.token if user else None),
            headers=headers,
            parameters=parameters,
            address=address,
        )
        result = importlib.import_module(module).handler(event, Context())
        body = result.get("body") or ""
        if result.get("isBase64Encoded"):
            body = base64.b64decode(body).decode("latin-1")
        sent = {k.lower(): v for k, v in result.get("headers", {}).items()}
        return Answer(result["statusCode"], sent, body, result.get("cookies", []))


def http_event(
    method: str,
    path: str,
    *,
    json: Any = None,
    form: dict[str, str] | None = None,
    raw: bytes | None = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    parameters: dict[str, str] | None = None,
    address: str = ADDRESS,
) -> dict[str, Any]:
    """An API Gateway HTTP API event, payload version 2.0."""
    parts = urlsplit(path if path.startswith(("/api/v1", "/openapi", "/docs")) else f"/api/v1{path}")
    sent = {"host": "api.test", "x-forwarded-for": "203.0.113.9", "user-agent": "pytest"}
    body: bytes | None = raw
    if json is not None:
        body, sent["content-type"] = _json_bytes(json), "application/json"
    elif form is not None:
        body, sent["content-type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
    if token:
        sent["authorization"] = f"Bearer {token}"
    sent.update({k.lower(): v for k, v in (headers or {}).items()})
    binary = form is not None or raw is not None
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {parts.path}",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": sent,
        "queryStringParameters": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "pathParameters": parameters or {},
        "requestContext": {
            "http": {"method": method, "path": parts.path, "sourceIp": address, "protocol": "HTTP/1.1"},
            "requestId": str(uuid4()),
            "routeKey": f"{method} {parts.path}",
            "stage": "$default",
            "domainName": "api.test",
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": binary and body is not None,
    }
    if cookie := sent.pop("cookie", None):
        event["cookies"] = cookie.split("; ")  # where API Gateway puts them
    if body is not None:
        event["body"] = base64.b64encode(body).decode() if binary else body.decode()
    return event


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@dataclass
class Person:
    """A user with tokens of each kind."""

    id: str
    username: str
    password: str
    token: str
    refresh_token: str

    @property
    def user(self) -> User:
        return User.get(self.id, consistent_read=True)


def caller(user: User) -> auth.Bearer:
    """This user as whoever holds their newest access token."""
    return auth.Bearer.of(user)


def viewer_of(user_id: str) -> stream_access.Viewer:
    """This user as somebody who watches a stream by their newest token."""
    user = User.get(user_id, consistent_read=True)
    return stream_access.Viewer(user_id, user.token_version, next(iter(user.sessions or ()), None))


def make_person(permission: int = 1, balance: int | None = None) -> Person:
    """A new user straight through the domain, signed in."""
    name = f"u{uuid4().hex[:12]}"
    now = clock.timestamp()
    session_id = uuid4().hex[:16]
    user = User(
        new_id(),
        username=name,
        nickname=name,
        permission=permission,
        sessions={session_id},
        create_time=now,
        update_time=now,
    )
    identity = Identity(f"password#{name}", user_id=user.id, password_hash=password_hashing.hash_password("secret-123"))
    credits.sign_up(user, identity, 1_000_000 if balance is None else balance)
    pair = auth.issue_pair(User.get(user.id, consistent_read=True), "password", session_id=session_id)
    return Person(user.id, name, "secret-123", pair["access_token"], pair["refresh_token"])


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Do this in an event loop of its own, to the end of every answer that it begins."""
    from aideer.tasks import executor  # heavy, and most tests do without

    async def closing() -> T:
        try:
            return await work
        finally:
            await executor.finish(30)

    return asyncio.run(closing())


@contextlib.contextmanager
def recorded_calls() -> Iterator[list[str]]:
    """The AWS calls that are made meanwhile, as "Operation Table" (or "Operation" alone), in order."""
    calls: list[str] = []

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        body = params.get("body")
        table = (
            json.loads(body).get("TableName", "") if isinstance(body, (bytes, str)) and body[:1] in (b"{", "{") else ""
        )
        calls.append(f"{model.name} {table}".strip())

    clients = [connection().client, *map(aws.get_client, ("sqs", "secretsmanager", "s3"))]
    for client in clients:
        client.meta.events.register("before-call.*.*", record)
    try:
        yield calls
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.*.*", record)


def sweep() -> None:
    """What happens every minute, through its handler."""
    importlib.import_module("tasks.sweep").handler({}, Context())


def make_chat(owner: Person, *questions: str, parameters: dict[str, Any] | None = None) -> Chat:
    """A chat of this person on a preset of their own, with these messages of the user's."""
    now = clock.timestamp()
    preset = {
        "number": 1,
        "title": "Test",
        "type": "chat_generation",
        "parameters": {"model": "qwen-plus", **(parameters or {})},
        "messages": [{"role": "system", "type": "text", "content": "You are helpful.", "visibility": False}],
        "create_time": now,
        "update_time": now,
    }
    preset_id = new_id()
    Preset(preset_id, 0, owner_id=owner.id, visibility="private", **preset).save()
    Preset(preset_id, 1, **preset).save()
    chat = Chat(
        new_id(),
        owner_id=owner.id,
        preset_id=preset_id,
        preset_version=1,
        title="Test",
        visibility="private",
        version=1,
        generation=new_id(),
        next_n=1 + len(questions),
        message_count=len(questions),
        create_time=now,
        update_time=now,
    )
    for n, question in enumerate(questions, 1):
        Message(chat.thread, n, role="user", content=question, create_time=now).save()
    chat.save()
    return chat


def make_chats(owner: Person, count: int, **fields: Callable[[int], Any]) -> list[Chat]:
    """So many chats without messages, the newest last. `fields` give the values that depend on a chat's number."""
    now = clock.now()
    made = []
    for n in range(count):
        at = clock.timestamp(now - count + n)
        chat = Chat(
            new_id(),
            owner_id=owner.id,
            preset_id="p",
            preset_version=1,
            title=f"Chat {n:05}",
            visibility="private",
            version=1,
            generation=new_id(),
            next_n=1,
            message_count=0,
            create_time=at,
            update_time=at,
        )
        for name, choose in fields.items():
            setattr(chat, name, choose(n))
        made.append(chat)
    for start in range(0, count, batch_write.SIZE):
        batch_write.write(Chat, puts=[chat.serialize() for chat in made[start : start + batch_write.SIZE]])
    return made


def accepted(person: Person, question: str, **parameters: Any) -> tuple[str, Chat]:
    """A task for the answer to this question, in a chat of its own: its id, and the chat."""
    from aideer.data.idempotency import IdempotentRequest
    from aideer.schemas.questions import NewTask
    from aideer.tasks import admission

    chat = make_chat(person, question, parameters=parameters)
    wanted = NewTask(chat_id=chat.id)
    request = IdempotentRequest(person.id, "POST /tasks", None, wanted)
    return admission.create(caller(person.user), wanted, request).task_id, chat


def check_rules(person: Person) -> None:
    """I1 to I4 of aideer/billing/credits.py, over all that this user has.

    Every change of a hold or of credits changes the user too. If the user is the same before and after, nothing has changed while
    the rest was read. An answer that ends meanwhile is no violation.
    """
    for _ in range(20):
        user = person.user
        entries = list(CreditEntry.query(person.id, consistent_read=True))
        tasks = list(Task.scan(Task.user_id == person.id, consistent_read=True))
        if person.user.serialize() == user.serialize():
            break
    else:
        raise AssertionError("the user changes all the time")
    assert user.credits >= 0, "I1"
    assert user.credits + credits.sum_holds(user) == sum(entry.amount for entry in entries), "I2"
    still_open = {task.id: task.hold for task in tasks if task.status in ("pending", "running")}
    assert dict(user.holds.attribute_values) == still_open, "I3"
    for task in tasks:
        billed = [entry for entry in entries if entry.task_id == task.id]
        assert len(billed) == (1 if task.status in ("finished", "stopped") else 0), "I4"
