"""A client of AIDeer's API: calls, and questions whose answers are followed to their end through broken connections."""

import ipaddress
import json
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import EventSource, connect_sse

PATIENCE_SECONDS = 60.0
"""Seconds to keep reopening a broken stream that brings no new text. A stack that lost a process takes some seconds."""
SILENCE_SECONDS = 40.0
"""A stream sends a line every 15 seconds. After this silence it is broken."""
HELD_SECONDS = 5.0
"""A connection that lasted longer than this did connect."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
ATTEMPTS = 3
QUESTION_PAUSES = (0.2, 0.4, 0.8, 1.6, 3.0)
"""Seconds before a question is sent again whose stream did not begin."""
NOT_FOUND, TOO_MANY = 404, 429
END = "end"


class NoStackError(Exception):
    """No AIDeer answers at this address. The message is for the console."""


class LostError(Exception):
    """A stream broke, and could not be opened again."""


class RefusedError(Exception):
    """AIDeer or API Gateway refused a request. The error has the shape of either."""

    def __init__(self, status: int, body: dict[str, Any], retry_after: float = 0.0) -> None:
        detail = body.get("detail") or body.get("message") or "no reason given"
        if isinstance(detail, list):
            detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in detail)
        super().__init__(detail)
        self.status = status
        self.code: str = body.get("code", "")
        self.body = body
        self.retry_after = retry_after
        """Seconds to wait before another attempt."""

    @property
    def is_final(self) -> bool:
        """Return whether the same request would be refused again."""
        return self.status < 500 and self.status != TOO_MANY

    @property
    def needs_sign_in(self) -> bool:
        """Return whether the token has expired, or is too old for this call."""
        return self.status == 401 or self.code == "fresh_sign_in_required"

    @classmethod
    def of(cls, response: httpx.Response) -> "RefusedError":
        """Return the refusal that this response contains."""
        try:
            body = response.json()
        except ValueError:
            body = None
        seconds = response.headers.get("Retry-After", "")
        retry_after = min(float(seconds), PATIENCE_SECONDS) if seconds.isdecimal() else 0.0
        return cls(response.status_code, body if isinstance(body, dict) else {}, retry_after)


@dataclass(frozen=True)
class Start:
    """The start of an answer: the question is stored, and its credits are held."""

    task_id: str
    chat_id: str
    credits_held: int
    resume_url: str


@dataclass(frozen=True)
class Piece:
    """New text of an answer, and the position after it."""

    kind: str
    """"reasoning" or "content"."""
    text: str
    position: str


@dataclass(frozen=True)
class End:
    """The end of an answer. Its text is complete and replaces all earlier pieces."""

    status: str
    content: str
    reasoning: str
    finish_reason: str | None
    credits: int
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    error_code: str
    error: str
    message: dict[str, Any] | None
    """The answer as it is stored in the chat. It is None if it is not stored, or if the source does not include it."""
    chat_version: int | None
    credits_left: int | None

    @classmethod
    def of(cls, body: dict[str, Any]) -> "End":
        """Read the end of an answer from a stream's last event, or from an ended task.

        A task has no stored message, chat version or credits left.
        """
        usage, error = body["usage"] or {}, body["error"] or {}
        return cls(
            status=body["status"],
            content=body["content"],
            reasoning=body["reasoning"],
            finish_reason=body["finish_reason"],
            credits=body["credits"] or 0,
            input_tokens=usage.get("input_tokens", 0),
            output_tokens=usage.get("output_tokens", 0),
            reasoning_tokens=usage.get("reasoning_tokens", 0),
            error_code=error.get("code", ""),
            error=error.get("message", ""),
            message=body.get("message"),
            chat_version=body.get("chat_version"),
            credits_left=body.get("credits_left"),
        )


class Client:
    """One user of one AIDeer.

    Parameters
    ----------
    url
        Its address, without /api/v1.
    transport
        Replaces the network, for tests.

    Raises
    ------
    NoStackError
        `url` is no URL.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise NoStackError(f"{url} is no URL: it begins with http:// or https://.")
        try:
            local = _is_loopback(self.url)
        except httpx.InvalidURL:
            raise NoStackError(f"{url} is no URL.") from None
        self._http = httpx.Client(
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=10),
            trust_env=not local,  # a proxy cannot reach this machine's loopback
            transport=transport,
        )
        self._credentials = ("", "")
        self._stream_base = self.url
        self._is_streamed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        """Call an endpoint and return its answer.

        Parameters
        ----------
        path
            Without /api/v1.
        key
            The Idempotency-Key. With it, the client repeats a call whose answer is lost, and the repetition changes no data.

        Raises
        ------
        RefusedError, NoStackError
            There is no successful answer.
        """
        headers = {"Idempotency-Key": key} if key else {}
        attempts = ATTEMPTS if key or method == "GET" else 1
        response = self._sent(method, path, attempts, json=body, headers=headers)
        if response.is_error and self._may_sign_in_for(RefusedError.of(response)):
            self.sign_in(*self._credentials)
            response = self._sent(method, path, attempts, json=body, headers=headers)
        return self._read(response)

    def check(self) -> str:
        """Return the version of the AIDeer that answers. Raise NoStackError if none does."""
        health = self._sent("GET", "/health", 1)
        try:
            version: str = health.json()["version"]
        except (ValueError, TypeError, KeyError):
            raise NoStackError(f"What answers at {self.url} is no AIDeer (status {health.status_code}).") from None
        return version

    def sign_in(self, username: str, password: str) -> None:
        """Sign in, and use this user for all further calls."""
        form = {"grant_type": "password", "username": username, "password": password}
        tokens = self._read(self._sent("POST", "/session/oauth2/token", 1, data=form))
        self._http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        self._credentials = (username, password)
        self._stream_base = tokens.get("stream_base") or self.url
        self._is_streamed = tokens.get("stream_base") is not None

    @property
    def authorization(self) -> str:
        """The Authorization header of the signed-in user."""
        return str(self._http.headers["Authorization"])

    def ask(self, question: dict[str, Any], key: str) -> Generator[Start | Piece | End, None, None]:
        """Ask a question and yield its answer while it is made: the start, pieces, and the end.

        If the connection breaks before the start, the client sends the question again with its key, which never asks twice. If it
        breaks later, the client follows the answer from the same position on. Where nothing streams, it queues the question.

        Parameters
        ----------
        question
            The body of POST /tasks/stream.
        key
            The question's own Idempotency-Key.

        Raises
        ------
        RefusedError
            The question is refused.
        NoStackError
            The stream did not begin, also after QUESTION_PAUSES.
        LostError
            The stream began and broke, and could not be opened again for PATIENCE_SECONDS.
        """
        url, headers = f"{self._stream_base}/api/v1/tasks/stream", {"Idempotency-Key": key}
        start, position, doubtful = None, "0", False
        refusal: RefusedError | None = None
        for pause in (0.0, *QUESTION_PAUSES):
            time.sleep(max(pause, refusal.retry_after if refusal else 0.0))
            try:
                for item in self._stream("POST", url, headers, json=question):
                    yield item
                    if isinstance(item, End):
                        return
                    if isinstance(item, Start):
                        start = item
                    else:
                        position = item.position
                refusal = None
            except httpx.TransportError:
                refusal = None
            except RefusedError as refused:
                refusal = refused
                if not pause and self._may_sign_in_for(refused):
                    self.sign_in(*self._credentials)
                    continue
                if refused.status == NOT_FOUND and not self._is_streamed:
                    yield from self._queue(question, key)
                    return
                if refused.is_final or (refused.status == TOO_MANY and not doubtful):
                    raise
            if start:
                yield from self.follow(start.resume_url, position)
                return
            doubtful = True  # the question may have been accepted
        raise refusal or self._no_stack()

    def _queue(self, question: dict[str, Any], key: str) -> Generator[Start | Piece | End, None, None]:
        """Ask by POST /tasks, and yield the answer as `ask` does."""
        task = self.call("POST", "/tasks", question, key=key)
        yield Start(task["task_id"], task["chat_id"], task["credits_held"], task["resume_url"])
        yield from self.follow(task["stream_url"])

    def follow(self, stream_url: str, after: str | None = None) -> Generator[Piece | End, None, None]:
        """Yield an answer while it is made, from a position on: pieces, then the end.

        If a connection breaks, the client opens it again at the same position.

        Raises
        ------
        RefusedError
            The stream may not be opened.
        LostError
            The stream could not be opened again for PATIENCE_SECONDS.
        """
        position, pause = after, FIRST_PAUSE_SECONDS
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            began, before = time.monotonic(), position
            try:
                for item in self._stream("GET", stream_url, {} if position is None else {"Last-Event-ID": position}):
                    if isinstance(item, Start):
                        continue
                    yield item
                    if isinstance(item, End):
                        return
                    position = item.position
            except httpx.TransportError:
                pass
            except RefusedError as refused:
                if refused.is_final:
                    raise
                pause = max(pause, refused.retry_after)
            now = time.monotonic()
            if position != before or now - began > HELD_SECONDS:
                pause, give_up_at = FIRST_PAUSE_SECONDS, now + PATIENCE_SECONDS
            if now > give_up_at:
                raise LostError
            position = position or "0"  # without a position, a stream opens only once
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def stop(self, task_id: str) -> End:
        """Stop a task, and return its end. Raise LostError if it does not end."""
        task = self.call("POST", f"/tasks/{task_id}/stop")
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while task["status"] in ("pending", "running"):
            if time.monotonic() > give_up_at:
                raise LostError
            time.sleep(0.5)
            task = self.call("GET", f"/tasks/{task_id}")
        return End.of(task)

    def _stream(self, method: str, url: str, headers: dict[str, str], **content: Any) -> Iterator[Start | Piece | End]:
        with connect_sse(self._http, method, url, headers=headers, **content) as source:
            yield from _read_stream(source)

    def _sent(self, method: str, path: str, attempts: int, **content: Any) -> httpx.Response:
        while True:
            attempts -= 1
            try:
                return self._http.request(method, f"{self.url}/api/v1{path}", **content)
            except httpx.TransportError:
                if attempts <= 0:
                    raise self._no_stack() from None
            time.sleep(0.5)

    def _no_stack(self) -> NoStackError:
        return NoStackError(f"No AIDeer answers at {self.url}. Start one with: make run")

    def _may_sign_in_for(self, refused: RefusedError) -> bool:
        return bool(self._credentials[0]) and refused.needs_sign_in

    def _read(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise RefusedError.of(response)
        return response.json()


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid.uuid4())


def _read_stream(source: EventSource) -> Iterator[Start | Piece | End]:
    if source.response.status_code != 200:
        source.response.read()
        raise RefusedError.of(source.response)
    for event in source.iter_sse():
        if event.event not in ("start", "message") or not event.data:
            continue
        body = json.loads(event.data)
        if event.event == "start":
            if "resume_url" in body:  # else the stream was opened by its address
                yield Start(body["task_id"], body["chat_id"], body["credits_held"], body["resume_url"])
            continue
        if event.id == END:
            yield End.of(body)
            return
        for kind in ("reasoning", "content"):
            if kind in body:
                yield Piece(kind, body[kind], event.id)


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
