"""The ways to an answer: the provider alone, the bare relay, the LiteLLM proxy, and AIDeer's own.

All of them ask for the same tokens with the same bare client (`http.client`). A way's stream has a connection of its own, and its
opening counts. Each way has a way straight to the provider beside it, in the same protocol.
"""

import contextlib
import http.client
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from local.bench.answers import Answer, BenchError, pause_collector, read_parts, split_events
from local.bench.calls import ASKED, COMPLETED, OPENED, QUEUED, READ
from local.clients.client import Client, RefusedError

MODEL = "qwen-plus"
PROMPT = "You are a benchmark."
EARLIER = "This is an earlier message of the chat."
"""Without it, AIDeer would not have to read the chat's messages."""
FIRST = "/sim tokens=8 delay=0"
"""The question before the measured one, in a chat that goes on."""
MAX_TOKENS = 2048
API_KEY = "sk-bench"
TIMEOUT_SECONDS = 60.0
STRAIGHT = "the provider alone"
COMPATIBLE = "the provider alone, OpenAI's protocol"
RELAY = "bare SDK relay"
LITELLM = "LiteLLM proxy"
LITELLM_BEFORE = "LiteLLM proxy before AIDeer"
SDK_COMPATIBLE = "openai-python to the provider"
SDK = "openai-python to AIDeer"


@dataclass(frozen=True)
class Way:
    """One way to an answer."""

    name: str
    straight: str
    """The name of the way straight to the provider that it is compared with."""
    ask: Callable[[str], Answer]
    """Ask a question, and return the answer."""


def to_provider(base_url: str) -> Way:
    """Return the way straight to the provider, in its own protocol."""
    headers = {"Authorization": f"Bearer {API_KEY}", "X-DashScope-SSE": "enable"}

    def ask(question: str) -> Answer:
        body = {
            "model": MODEL,
            "input": {"messages": make_messages(question)},
            "parameters": {"result_format": "message", "incremental_output": True, "max_tokens": MAX_TOKENS},
        }
        url = urlsplit(f"{base_url}/services/aigc/text-generation/generation")
        return _collect(*_post(url, body, headers), _read_native)

    return Way(STRAIGHT, STRAIGHT, ask)


def to_completions(name: str, base_url: str, key: str = API_KEY, model: str = MODEL) -> Way:
    """Return a way by OpenAI's protocol: straight to the provider, to AIDeer, or through LiteLLM."""

    def ask(question: str) -> Answer:
        body = {"model": model, "messages": make_messages(question), "max_tokens": MAX_TOKENS, "stream": True}
        url = urlsplit(f"{base_url}/chat/completions")
        return _collect(*_post(url, body, {"Authorization": f"Bearer {key}"}), _read_completion)

    return Way(name, COMPATIBLE, ask)


def to_relay(base_url: str) -> Way:
    """Return the way through the bare relay (relay.py)."""

    def ask(question: str) -> Answer:
        body = {"model": MODEL, "messages": make_messages(question), "max_tokens": MAX_TOKENS}
        return _collect(*_post(urlsplit(base_url), body, {}), lambda event: str(json.loads(event["data"])["content"]))

    return Way(RELAY, STRAIGHT, ask)


class Aideer:
    """The ways through AIDeer, as a user of its own with one preset.

    Each question has a chat of its own. Most are opened beforehand: with one earlier message, or with a question and its answer.
    """

    def __init__(self, url: str, client: Client) -> None:
        self._url = urlsplit(url)
        self._client = client
        username, password = f"bench-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex
        client.call("POST", "/users", {"username": username, "password": password})
        client.sign_in(username, password)
        preset = {
            "title": "Bench",
            "parameters": {"model": MODEL, "max_tokens": MAX_TOKENS},
            "messages": [{"role": "system", "content": PROMPT}],
        }
        self._preset_id = client.call("POST", "/presets", preset)["id"]
        self.v1 = f"{url}/v1"
        self.key = str(client.call("POST", "/users/me/keys", {"name": "Bench"})["key"])
        """An API key of the user, for `v1`."""
        self.accepted_ms: list[float] = []
        """The durations of POST /tasks."""
        self.ways = (
            Way(ASKED, STRAIGHT, lambda question: self._ask(self._go_on(question))),
            Way(OPENED, STRAIGHT, lambda question: self._ask(self._open(question))),
            Way(READ, STRAIGHT, lambda question: self._ask(self._question(question))),
            Way(QUEUED, STRAIGHT, self._queue),
            to_completions(COMPLETED, self.v1, self.key),
        )

    def time_calls(self, times: int) -> list[float]:
        """Return the times of calls that do nothing, in ms."""
        taken = []
        with _connect(self._url) as api:
            for _ in range(times):
                began = time.perf_counter()
                api.request("GET", "/api/v1/health")
                api.getresponse().read()
                taken.append((time.perf_counter() - began) * 1000)
        return taken

    def _ask(self, body: dict[str, Any]) -> Answer:
        url = self._url._replace(path="/api/v1/tasks/stream")
        began, received = _post(url, body, self._headers())
        [started] = [moment for moment, event in split_events(received) if event.get("event") == "start"]
        return _check_end(received, _collect(began, received, _read_stream, started))

    def _queue(self, question: str) -> Answer:
        body = json.dumps(self._question(question))
        with _connect(self._url) as api, pause_collector():
            api.connect()
            asked = time.perf_counter()
            api.request("POST", "/api/v1/tasks", body, self._headers())
            response = api.getresponse()
            task = json.loads(response.read())
            if response.status != 200:
                raise RefusedError(response.status, task)
            url = urlsplit(task["stream_url"])
            with _connect(self._url) as stream:
                opened = time.perf_counter()
                stream.request("GET", f"{url.path}?{url.query}")
                received = read_parts(stream.getresponse())
        self.accepted_ms.append((opened - asked) * 1000)
        return _check_end(received, _collect(asked, received, _read_stream, opened))

    def _open(self, *questions: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": content} for content in (EARLIER, *questions)]
        return {"chat": {"preset_id": self._preset_id, "title": "Bench"}, "messages": messages}

    def _go_on(self, question: str) -> dict[str, Any]:
        """Let a question and its answer open a chat, and return the next question."""
        _, received = _post(self._url._replace(path="/api/v1/tasks/stream"), self._open(FIRST), self._headers())
        [start] = [json.loads(event["data"]) for _, event in split_events(received) if event.get("event") == "start"]
        return {"chat_id": start["chat_id"], "messages": [{"role": "user", "content": question}]}

    def _question(self, question: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": EARLIER}]
        chat = self._client.call(
            "POST", "/chats", {"preset_id": self._preset_id, "title": "Bench", "messages": messages}
        )
        return {"chat_id": chat["id"], "messages": [{"role": "user", "content": question}]}

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Authorization": self._client.authorization,
            "Idempotency-Key": str(uuid.uuid4()),
        }


def make_messages(question: str) -> list[dict[str, str]]:
    """Return the prompt of a question: what AIDeer makes of the preset, the earlier message and the question."""
    said = {"system": (PROMPT,), "user": (EARLIER, question)}
    return [{"role": role, "content": content} for role, contents in said.items() for content in contents]


@contextlib.contextmanager
def _connect(url: SplitResult) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        yield connection


def _post(url: SplitResult, body: object, headers: dict[str, str]) -> tuple[float, list[tuple[float, bytes]]]:
    """Return when the request was sent, and the parts of the response with their times."""
    data = json.dumps(body)
    with _connect(url) as connection, pause_collector():
        began = time.perf_counter()
        connection.request("POST", url.path or "/", data, {"Content-Type": "application/json", **headers})
        return began, read_parts(connection.getresponse())


def _collect(
    asked: float,
    received: list[tuple[float, bytes]],
    read: Callable[[dict[str, str]], str],
    started: float | None = None,
) -> Answer:
    answer = Answer(asked, asked if started is None else started)
    for moment, event in split_events(received):
        answer.add(moment, read(event))
    return answer


def _read_native(event: dict[str, str]) -> str:
    return str(json.loads(event["data"])["output"]["choices"][0]["message"]["content"])


def _read_completion(event: dict[str, str]) -> str:
    if event["data"] == "[DONE]":
        return ""
    return "".join(choice["delta"].get("content") or "" for choice in json.loads(event["data"])["choices"])


def _read_stream(event: dict[str, str]) -> str:
    """Return the new text of an event of AIDeer's streams. The last event repeats the whole, so it has none."""
    if event.get("id") == "end" or "event" in event:
        return ""
    return str(json.loads(event["data"]).get("content", ""))


def _check_end(received: list[tuple[float, bytes]], answer: Answer) -> Answer:
    [whole] = [json.loads(event["data"])["content"] for _, event in split_events(received) if event.get("id") == "end"]
    if whole != answer.text:
        raise BenchError("the last event's text is not what was streamed before")
    return answer
