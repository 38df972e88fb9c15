"""A client of AIDeer's API: calls, and an answer that is followed to its end through broken connections."""

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
ATTEMPTS = 3
END = "end"


class NoStackError(Exception):
    """No AIDeer answers at this address. The message is for the console."""


class LostError(Exception):
    """A stream broke, and could not be opened again."""


class RefusedError(Exception):
    """AIDeer or API Gateway refused a request. The error has the shape of either."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        detail = body.get("detail") or body.get("message") or "no reason given"
        if isinstance(detail, list):
            detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in detail)
        super().__init__(detail)
        self.status = status
        self.code: str = body.get("code", "")
        self.body = body

    @classmethod
    def of(cls, response: httpx.Response) -> "RefusedError":
        """Return the refusal that this response contains."""
        try:
            body = response.json()
        except ValueError:
            body = None
        return cls(response.status_code, body if isinstance(body, dict) else {})


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
        if self._credentials[0] and _needs_sign_in(response):
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

    @property
    def authorization(self) -> str:
        """The Authorization header of the signed-in user."""
        return str(self._http.headers["Authorization"])

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
                for item in self._stream(stream_url, position):
                    yield item
                    if isinstance(item, End):
                        return
                    position = item.position
            except httpx.TransportError:
                pass
            except RefusedError as refused:
                if refused.status < 500 and refused.status != 429:
                    raise
            now = time.monotonic()
            if position != before or now - began > HELD_SECONDS:
                pause, give_up_at = FIRST_PAUSE_SECONDS, now + PATIENCE_SECONDS
            if now > give_up_at:
                raise LostError
            position = position or "0"  # without a position, a stream opens only once
            time.sleep(pause)
            pause = min(2 * pause, 3.0)

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

    def _stream(self, stream_url: str, position: str | None) -> Iterator[Piece | End]:
        headers = {} if position is None else {"Last-Event-ID": position}
        with connect_sse(self._http, "GET", stream_url, headers=headers) as source:
            yield from _read_stream(source)

    def _sent(self, method: str, path: str, attempts: int, **content: Any) -> httpx.Response:
        while True:
            attempts -= 1
            try:
                return self._http.request(method, f"{self.url}/api/v1{path}", **content)
            except httpx.TransportError:
                if attempts <= 0:
                    raise NoStackError(f"No AIDeer answers at {self.url}. Start one with: make run") from None
            time.sleep(0.5)

    def _read(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise RefusedError.of(response)
        return response.json()


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid.uuid4())


def _read_stream(source: EventSource) -> Iterator[Piece | End]:
    if source.response.status_code != 200:
        source.response.read()
        raise RefusedError.of(source.response)
    for event in source.iter_sse():
        if event.event != "message" or not event.data:
            continue
        body = json.loads(event.data)
        if event.id == END:
            yield End.of(body)
            return
        for kind in ("reasoning", "content"):
            if kind in body:
                yield Piece(kind, body[kind], event.id)


def _needs_sign_in(response: httpx.Response) -> bool:
    """Return whether the token has expired, or is too old for this call."""
    if response.status_code == 403:
        return RefusedError.of(response).code == "fresh_sign_in_required"
    return response.status_code == 401


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
