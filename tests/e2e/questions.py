"""The streaming function's door under the web adapter, and the questions that people ask there.

ROUTES has all that opens a task's own stream from its start. A new route needs a class here, and a row there.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from local.clients.client import new_key
from local.simulators.dashscope import Server
from tests.e2e.calls import Place, Someone
from tests.e2e.environment import Environment
from tests.e2e.lines import Line
from tests.e2e.runtime_api import TIMEOUT_SECONDS, FunctionUrl, Invocation, make_event
from tests.events import parse


@dataclass
class Door:
    """The streaming function under the adapter, the API before it, and the ways from it to AWS and to the provider."""

    environment: Environment
    url: FunctionUrl
    place: Place
    aws: Line
    provider: Line
    model: Server

    def invoke(self, event: dict[str, Any], seconds: float = TIMEOUT_SECONDS) -> Invocation:
        """Invoke the function."""
        return self.environment.api.invoke(event, seconds)


class Question(ABC):
    """A question of a user's own, which opens a stream from its start. The provider obeys the directive."""

    def __init__(self, door: Door, directive: str = "tokens=5 delay=1") -> None:
        self.door = door
        self.opened: list[Invocation] = []
        self.who = Someone(door.place)
        self.messages = [{"role": "user", "content": f"/sim {directive} Hello {self.who.username}"}]
        self.chat_id = str(self.who.call("POST", "/chats", {"preset_id": self.who.preset, "title": "Test"})["id"])
        self.token = f"Bearer {self.who.tokens['access_token']}"

    @abstractmethod
    def event(self) -> dict[str, Any]:
        """The request that opens the stream. The same one each time."""

    @property
    @abstractmethod
    def task_id(self) -> str: ...

    def stream(self, seconds: float = TIMEOUT_SECONDS, *, at: Environment | None = None, **headers: str) -> Invocation:
        """Open the stream, at the door or at another environment."""
        event = self.event()
        event["headers"].update(headers)
        self.opened.append((at or self.door.environment).api.invoke(event, seconds))
        return self.opened[-1]

    def resume(self, position: str, **headers: str) -> dict[str, Any]:
        """The request for the stream from a position on."""
        return get(self.path, **{"authorization": self.token, "last-event-id": position, **headers})

    @property
    def path(self) -> str:
        return f"/api/v1/tasks/{self.task_id}/stream"

    def stored(self) -> dict[str, Any]:
        """The task as it is stored now."""
        found: dict[str, Any] = self.who.call("GET", f"/tasks/{self.task_id}")
        return found

    def stop(self) -> None:
        self.who.call("POST", f"/tasks/{self.task_id}/stop")

    def check_settled(self, status: str = "finished") -> None:
        """The task has ended like this, is paid, and holds nothing any more."""
        task, ledger = self.stored(), self.who.call("GET", "/users/me/credits")
        assert (task["status"], ledger["credits_held"]) == (status, 0)
        records = ledger["credit_records"]
        assert [-record["amount"] for record in records if record.get("task_id") == self.task_id] == [task["credits"]]
        assert sum(record["amount"] for record in records) == ledger["credits_left"]


class Followed(Question):
    """POST /tasks at the API, and GET /tasks/{id}/stream here."""

    def __init__(self, door: Door, directive: str = "tokens=5 delay=1") -> None:
        super().__init__(door, directive)
        self.task: dict[str, Any] = {}
        self.ask_again()

    def ask_again(self) -> None:
        """Ask the same question in the same chat. The task is the new one."""
        self.who.call("POST", f"/chats/{self.chat_id}/messages", {"messages": self.messages})
        self.task = self.who.call("POST", "/tasks", {"chat_id": self.chat_id})

    @property
    def task_id(self) -> str:
        return str(self.task["task_id"])

    @property
    def ticket(self) -> str:
        """The stream's path with its ticket."""
        return path_of(self.task["stream_url"])

    def event(self) -> dict[str, Any]:
        return get(self.ticket)


class Asked(Question):
    """POST /tasks/stream here."""

    def __init__(self, door: Door, directive: str = "tokens=5 delay=1") -> None:
        super().__init__(door, directive)
        self.key = new_key()

    @property
    def task_id(self) -> str:
        return str(start_of(self.opened[0])["task_id"])

    def event(self) -> dict[str, Any]:
        body = {"chat_id": self.chat_id, "messages": self.messages}
        return post("/api/v1/tasks/stream", body, **{"authorization": self.token, "idempotency-key": self.key})


class UiAsked(Question):
    """POST /ui/chat here. Its stream has another form: tests/ui_messages.py."""

    def __init__(self, door: Door, directive: str = "tokens=5 delay=1") -> None:
        super().__init__(door, directive)
        self.message_id = new_key()

    @property
    def task_id(self) -> str:
        answer = self.opened[0]
        answer.wait_for_text("\n\n")
        assert answer.status == 200, answer.text
        return str(json.loads(answer.text.partition("data: ")[2].partition("\n")[0])["messageId"])

    def event(self) -> dict[str, Any]:
        parts = [{"type": "text", "text": message["content"]} for message in self.messages]
        body = {"id": self.chat_id, "messages": [{"id": self.message_id, "role": "user", "parts": parts}]}
        return post("/api/v1/ui/chat", body, authorization=self.token)

    def call(self, method: str, verb: str) -> Invocation:
        """GET /ui/chat/{id}/stream, or POST /ui/chat/{id}/stop."""
        event = make_event(method, f"/api/v1/ui/chat/{self.chat_id}/{verb}", {"authorization": self.token})
        return self.door.invoke(event)


ROUTES: dict[str, type[Question]] = {"GET /tasks/{id}/stream": Followed, "POST /tasks/stream": Asked}
"""All that opens a task's stream from its start. Each is tested in all ways that follow."""


def get(url: str, **headers: str) -> dict[str, Any]:
    """The event of a GET."""
    return make_event("GET", url, headers)


def post(url: str, body: Any, **headers: str) -> dict[str, Any]:
    """The event of a POST of JSON."""
    return make_event("POST", url, {"content-type": "application/json", **headers}, json.dumps(body))


def path_of(url: str) -> str:
    """A URL's path with its query."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def start_of(answer: Invocation) -> dict[str, Any]:
    """The data of a stream's start event, once it has come."""
    answer.wait_for_text("\n\n")
    assert answer.status == 200, answer.text
    assert answer.text.startswith("event: start\nid: 0\ndata: "), answer.text
    found: dict[str, Any] = json.loads(answer.text.partition("data: ")[2].partition("\n")[0])
    return found


def content_of(answer: Invocation) -> str:
    """The text of the events that have come."""
    return parse(answer.text).content


def final_of(answer: Invocation) -> dict[str, Any]:
    """The last data event of a stream that is over, or will be soon."""
    assert answer.wait().status == 200, answer.text
    return parse(answer.text).final
