"""The door of the AI SDK's clients, as DefaultChatTransport knocks at it."""

from typing import Any

import httpx

from tests.stream_client import requested
from tests.support import Person

PATH = "/api/v1/ui/chat"


def call(method: str, path: str, token: str | None, body: Any = None, /, **headers: str) -> httpx.Response:
    """One call of the door, to its end."""
    return requested(method, f"{PATH}{path}", body, token, **headers)


def post(me: Person, chat_id: str, *messages: Any, **more: Any) -> httpx.Response:
    """POST /ui/chat. `more` are the other fields of the body."""
    body = {"id": chat_id, "messages": list(messages), "trigger": "submit-message", **more}
    return call("POST", "", me.token, body)
