"""The refusals of the streaming function: REFUSALS has a row for each kind that each of its routes gives."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.e2e.calls import Someone
from tests.e2e.questions import Asked, Door, Followed, UiAsked, get, post
from tests.e2e.runtime_api import make_event


@dataclass(frozen=True)
class Refusal:
    """A request that the function refuses."""

    status: int
    code: str
    event: Callable[[Door], dict[str, Any]]


def ended(door: Door) -> Followed:
    """A question whose stream was read to its end."""
    question = Followed(door)
    assert question.stream().wait().status == 200
    return question


def with_token(event: dict[str, Any], who: Someone) -> dict[str, Any]:
    """The request of a signed-in user."""
    event["headers"]["authorization"] = f"Bearer {who.tokens['access_token']}"
    return event


def question_with(door: Door, body: dict[str, Any] | None = None, **headers: str | None) -> dict[str, Any]:
    """A question with another body, and with other headers or without some."""
    event = Asked(door).event()
    event["headers"] = {name: value for name, value in {**event["headers"], **headers}.items() if value is not None}
    return {**event, "body": json.dumps(body)} if body else event


def poor(door: Door) -> dict[str, Any]:
    """A question of a user with no credits."""
    question = Asked(door)
    left = question.who.call("GET", "/users/me")["credits_left"]
    grant = {"amount": -left, "description": "test"}
    door.place.admin.call("POST", f"/users/{question.who.id}/credits", grant)
    return question.event()


def busy(door: Door) -> dict[str, Any]:
    """A question in a chat in which another waits for its answer."""
    waiting = Followed(door)
    body = {"chat_id": waiting.chat_id, "messages": waiting.messages}
    return post("/api/v1/tasks/stream", body, **{"authorization": waiting.token, "idempotency-key": "k"})


def too_long(door: Door) -> dict[str, Any]:
    """A question that is longer than one request may be."""
    question = Asked(door)
    question.messages = [{"role": "user", "content": "x" * 50_000}] * 9
    return question.event()


def ui(door: Door, id: str | None = None, **more: Any) -> dict[str, Any]:
    """A question of the AI SDK's, with another chat or other fields."""
    question = UiAsked(door)
    question.chat_id = question.chat_id if id is None else id
    event = question.event()
    return {**event, "body": json.dumps(json.loads(event["body"]) | more)}


REFUSALS = {
    "GET by nobody": Refusal(401, "unauthorized", lambda door: get(ended(door).path)),
    "GET with a wrong ticket": Refusal(401, "invalid_token", lambda door: get(f"{ended(door).path}?ticket=x")),
    "GET with an access token as a ticket": Refusal(
        401,
        "wrong_token_type",
        lambda door: get(f"/api/v1/tasks/x/stream?ticket={Someone(door.place).tokens['access_token']}"),
    ),
    "GET of another's task": Refusal(
        404, "task_not_found", lambda door: with_token(get(ended(door).path), Someone(door.place))
    ),
    "GET of an unknown path": Refusal(404, "not_found", lambda door: get("/api/v1/nothing?x=1")),
    "PUT": Refusal(404, "not_found", lambda door: make_event("PUT", "/api/v1/tasks/x/stream")),
    "GET after the end": Refusal(410, "stream_ended", lambda door: ended(door).resume("end")),
    "GET once more": Refusal(422, "already_streamed", lambda door: ended(door).event()),
    "GET from a wrong position": Refusal(422, "invalid_position", lambda door: ended(door).resume("x")),
    "GET from a position too far": Refusal(422, "invalid_position", lambda door: ended(door).resume("99999")),
    "POST without a key": Refusal(
        400, "idempotency_key_required", lambda door: question_with(door, **{"idempotency-key": None})
    ),
    "POST by nobody": Refusal(401, "unauthorized", lambda door: question_with(door, authorization=None)),
    "POST without credits": Refusal(402, "insufficient_credits", poor),
    "POST in no chat": Refusal(404, "chat_not_found", lambda door: question_with(door, {"chat_id": "none"})),
    "POST in a busy chat": Refusal(409, "task_running", busy),
    "POST of too much": Refusal(413, "append_first", too_long),
    "POST of text": Refusal(
        415, "unsupported_media_type", lambda door: question_with(door, **{"content-type": "text/plain"})
    ),
    "POST of nothing": Refusal(422, "validation_error", lambda door: question_with(door, {"messages": []})),
    "UI: POST in a new chat of no preset": Refusal(
        400, "preset_not_found", lambda door: ui(door, "new", preset_id="x")
    ),
    "UI: POST of nothing": Refusal(422, "validation_error", lambda door: ui(door, messages=[])),
    "UI: POST of an unknown edit": Refusal(404, "message_not_found", lambda door: ui(door, messageId="99")),
    "UI: GET by nobody": Refusal(401, "unauthorized", lambda door: get("/api/v1/ui/chat/x/stream")),
    "UI: GET of another's chat": Refusal(
        404,
        "chat_not_found",
        lambda door: with_token(get(f"/api/v1/ui/chat/{Asked(door).chat_id}/stream"), Someone(door.place)),
    ),
}
