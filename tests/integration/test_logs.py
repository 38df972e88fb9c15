"""Nothing secret gets into a log: no token, password, session key, code or message, whether a call works, is refused or breaks.

Every route of the template is called, about things whose texts are known. All that is logged meanwhile is read, by whomever.
"""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from aideer.core import aws
from aideer.data.base import connection
from local.simulators import wechat
from local.stack.template import ROOT
from tasks import on_queued
from tests.request_samples import ADDITION, ANSWER, NEW_PASSWORD, PASSWORD, QUESTION, ROUTES, World, called, sent
from tests.route_matrix import row
from tests.support import Api, Context, Person, make_chat, make_person

TOKEN = re.compile(r"eyJ[\w-]{8,}|[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}")
CODE = re.compile(r"\b[A-Z0-9]{5}(-[A-Z0-9]{5}){3}\b")
TEXTS = (QUESTION, ANSWER, ADDITION, PASSWORD, NEW_PASSWORD, "argon2", "sk-test", "local-mini-program-secret")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[io.StringIO]:
    """All that is logged, in production's formats, and at its level. What is printed is added at the end."""
    lines = io.StringIO()
    handlers = [
        handler
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    streams = [(handler, handler.stream) for handler in handlers]
    for handler in handlers:
        handler.stream = lines
    everything = logging.StreamHandler(lines)
    logging.root.addHandler(everything)
    level = logging.root.level
    logging.root.setLevel(logging.INFO)
    yield lines
    logging.root.setLevel(level)
    logging.root.removeHandler(everything)
    for handler, stream in streams:
        handler.stream = stream


def secret_in(text: str, world: World) -> list[str]:
    """What of the text nobody may read."""
    secrets = [*TEXTS, *world.weixin._state.session_keys.values(), *world.weixin._state.codes]
    found = [secret for secret in secrets if secret in text]
    return found + [match[0] for match in TOKEN.finditer(text)] + [match[0] for match in CODE.finditer(text)]


def break_(params: dict[str, Any], model: Any, **_: Any) -> None:
    """A fault that quotes all that was to be sent, as careless libraries do."""
    raise RuntimeError(f"{model.name} failed: {params.get('body')!r} {params.get('headers')!r}")


@pytest.mark.parametrize("how", ["works", "breaks", "is refused"])
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
def test_no_call_logs_a_secret(
    api: Api,
    weixin: wechat.Server,
    logged: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    method: str,
    path: str,
    how: str,
) -> None:
    who = row(method, path).who
    caller = {"refresh": "refresh", "wechat": "wechat refresh"}.get(who, "admin" if "owner" not in how else "owner")
    world = World("ticket" if how == "is refused" else caller, who, weixin)
    token = world.token()
    request = sent(world, ROUTES[method, path], path)
    clients = [connection().client, *map(aws.get_client, ("sqs", "s3"))]
    if how == "breaks":
        for client in clients:
            client.meta.events.register("before-call.*.*", break_)
    try:
        answer = called(api, method, path, request, token)
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.*.*", break_)
    text = logged.getvalue() + "".join(capfd.readouterr())
    assert secret_in(text, world) == []
    if answer.status == 500:
        assert answer.json["code"] == "internal"
        assert {answer.json.get("error_description", "The service had an internal error."), answer.json["detail"]} == {
            "The service had an internal error."
        }
        assert "unhandled" in text


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("multipart/form-data", b"x"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="avatar_file"; filename="a"\r\n'
            b"Content-Transfer-Encoding: ERROR hunter2\r\n\r\nx\r\n--x--\r\n",
        ),
    ],
)
def test_no_upload_of_a_stranger_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, media_type: str, body: bytes
) -> None:
    """Whatever says ERROR in a log raises an alarm, and the parser quotes what it does not understand."""
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, headers={"content-type": media_type})
    assert answer.status == 401
    assert caplog.records == []


@pytest.mark.parametrize("fault", ["", "drop_mid", "badkey", "inspect_mid", "stall"])
def test_no_answer_that_is_made_is_logged(
    api: Api, weixin: wechat.Server, logged: io.StringIO, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    world = World("owner", "access", weixin)
    me: Person = make_person()
    chat = make_chat(me, f"{QUESTION} /sim fail={fault} at=3" if fault else QUESTION)
    task_id = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id, "stream": False}, user=me).json["task_id"]
    event = json.loads((ROOT / "events/tasks/on_queued.json").read_text(encoding="utf-8"))
    event["Records"][0]["body"] = json.dumps({"task_id": task_id})
    on_queued.handler(event, Context(seconds=3 if fault == "stall" else 20))
    task = api("tasks.get", "GET", f"/tasks/{task_id}", user=me, parameters={"id": task_id}).json
    assert task["status"] == ("finished" if fault in ("", "inspect_mid") else "failed")
    text = logged.getvalue() + "".join(capfd.readouterr())
    assert secret_in(text, world) == []
    if task["content"]:
        assert task["content"] not in text


def test_what_is_looked_for_would_be_found(weixin: wechat.Server, logged: io.StringIO) -> None:
    world = World("owner", "access", weixin)
    code = weixin.code("somebody")
    for secret in (world.me.token, world.me.password, world.code, code, QUESTION):
        logging.getLogger("aideer").error("unhandled", extra={"error": secret})
        logging.getLogger("library").info("sending %s", secret)
        assert len(secret_in(logged.getvalue(), world)) >= 1, secret
        logged.truncate(0)
