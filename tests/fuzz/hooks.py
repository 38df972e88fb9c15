"""What schemathesis is told of this API: things that are there, and who calls. It runs in .venv/tools, inside schemathesis.

Every second request with nothing wrong in its path is about something that its caller has, made when it is needed; without that
nearly all would be told that there is no such thing. FUZZ_URL is where the API is, FUZZ_AS who calls: `user` and `admin` keep one
token for the whole run; with `each`, for the calls that end their own token, every request comes from a new user. What was answered
how often goes into the file FUZZ_COUNTS.
"""

import atexit
import collections
import functools
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import requests
import schemathesis
from schemathesis import Case, HookContext

URL = f"{os.environ['FUZZ_URL']}/api/v1"
PASSWORD = "secret-123"
TIMEOUT = 30
KINDS = {
    "presets": "preset",
    "preset": "preset",
    "chats": "chat",
    "chat": "chat",
    "tasks": "task",
    "users": "user",
    "codes": "code",
}
"""What a path's {id} stands for, by what it follows."""
SPENT = ("DELETE", "stop", "regenerate")
"""Methods, and ends of paths, that use up what they are about."""
PICTURE = "GIF87a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
"""In ASCII: bytes that it did not make itself are invalid to schemathesis."""
LONGEST_QUERY = 8_192
"""In bytes. API Gateway refuses a head above 10,240 by itself, with 431, which is none of an endpoint's answers."""
_turn = itertools.count()
_answers: collections.Counter[str] = collections.Counter()
atexit.register(lambda: Path(os.environ["FUZZ_COUNTS"]).write_text(json.dumps(_answers), encoding="utf-8"))


def _sent(method: str, path: str, token: str | None = None, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.request(method, URL + path, headers=headers, timeout=TIMEOUT, **more)
    answer.raise_for_status()
    return answer.json()


def _signed_in(name: str, password: str = PASSWORD) -> dict[str, str]:
    form = {"grant_type": "password", "username": name, "password": password}
    tokens: dict[str, str] = _sent("POST", "/session/oauth2/token", data=form)
    return tokens


def _new_user() -> tuple[str, dict[str, str]]:
    """Somebody's id and tokens."""
    name = f"fuzz{uuid4().hex[:12]}"
    user_id: str = _sent("POST", "/users", json={"username": name, "password": PASSWORD})["id"]
    return user_id, _signed_in(name)


def _wechat_code() -> str:
    """Of the simulated WeChat, which is where its sign-in leads to."""
    challenge = {"code_challenge": "c" * 43, "code_challenge_method": "S256"}
    begun = requests.get(f"{URL}/session/wechat/authorize", challenge, allow_redirects=False, timeout=TIMEOUT)
    way = begun.headers["Location"]
    there = way.partition("/connect/")[0]
    return requests.get(f"{there}/__code", params={"as": uuid4().hex}, timeout=TIMEOUT).json()["code"]


class Things:
    """What a caller has."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._kept: dict[str, str] = {}

    def kept(self, kind: str) -> str:
        """One that stays, made at its first use."""
        if kind not in self._kept:
            self._kept[kind] = self.new(kind)
        return self._kept[kind]

    def forget(self) -> None:
        """Make all anew: schemathesis reads ids in answers, and may have deleted what was kept."""
        self._kept.clear()

    def new(self, kind: str) -> str:
        """A new one's id."""
        made: str = getattr(self, f"_{kind}")()
        return made

    def _preset(self) -> str:
        return self._post("/presets", {"title": "Fuzz", "parameters": {"model": "qwen-plus"}})["id"]

    def _public(self) -> str:
        body = {"title": "Fuzz", "visibility": "public", "parameters": {"model": "qwen-plus"}}
        return _sent("POST", "/presets", _admin(), json=body)["id"]

    def _chat(self) -> str:
        message = {"role": "user", "content": "/sim tokens=3 delay=0"}
        body = {"preset_id": self.kept("public"), "title": "Fuzz", "messages": [message]}
        return self._post("/chats", body)["id"]

    def _name(self) -> str:
        name = f"fuzz{uuid4().hex[:12]}"
        _sent("POST", "/users", json={"username": name, "password": PASSWORD})
        return name

    def _batch(self) -> str:
        return _sent("POST", "/codes", _admin(), json={"value": 1, "count": 2})["batch"]

    def _code(self) -> str:
        return _sent("POST", "/codes", _admin(), json={"value": 1})["redeem_code"]

    def _task(self) -> str:
        task_id = self._post("/tasks", {"chat_id": self.new("chat"), "stream": False})["task_id"]
        give_up_at = time.monotonic() + TIMEOUT
        while not _sent("GET", f"/tasks/{task_id}", self.token)["end_time"] and time.monotonic() < give_up_at:
            time.sleep(0.05)
        return task_id

    def _user(self) -> str:
        return _new_user()[0]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _sent("POST", path, self.token, json=body)


@functools.cache
def _first_admin() -> str:
    return _signed_in(os.environ["FUZZ_ADMIN"], os.environ["FUZZ_ADMIN_PASSWORD"])["access_token"]


def _new_admin() -> dict[str, str]:
    user_id, tokens = _new_user()
    _sent("PUT", f"/users/{user_id}", _first_admin(), json={"permission": 2})
    return tokens


@functools.cache
def _admin() -> str:
    """Of an admin who is not the caller."""
    return _new_admin()["access_token"]


if os.environ["FUZZ_AS"] == "each":

    @schemathesis.auth(refresh_interval=None)
    class NewUser:
        """A token of a new user for each request; an admin where one is needed."""

        def get(self, case: Case, context: Any) -> str:
            operation = case.operation.definition.raw["operationId"]
            if operation == "session_wechat_refresh":
                return _sent("GET", f"/session/wechat/token?code={_wechat_code()}")["refresh_token"]
            tokens = _new_admin() if operation in ("users_set_password", "users_delete") else _new_user()[1]
            return tokens["refresh_token" if operation == "session_refresh" else "access_token"]

        def set(self, case: Case, data: str, context: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}

    _things = Things(_new_user()[1]["access_token"])
else:
    _token = (_new_admin() if os.environ["FUZZ_AS"] == "admin" else _new_user()[1])["access_token"]
    _things = Things(_token)

    @schemathesis.auth(refresh_interval=None)
    class OneUser:
        """The same token for the whole run."""

        def get(self, case: Case, context: Any) -> str:
            return _token

        def set(self, case: Case, data: str, context: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def filter_query(context: HookContext, query: dict[str, Any] | None) -> bool:
    """Leave out requests that never reach an endpoint."""
    return len(urlencode(query or {}, doseq=True, errors="replace")) <= LONGEST_QUERY


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Let every second request be about something that is there, and ask for the media type that is documented."""
    if case.operation.definition.raw["operationId"] in ("chats_export", "codes_create") and case.query:
        case.query.pop("format", None)
    if next(_turn) % 2 or (case.meta and case.meta.generation.mode.is_negative):
        return
    try:
        _put_in(case)
    except requests.HTTPError:  # as when one has as many presets as one may have
        _things.forget()


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Any) -> None:
    """Count what was answered; to other methods of a path something else answers."""
    if case.method.upper() == case.operation.method.upper():
        _answers[f"{case.operation.definition.raw['operationId']} {response.status_code}"] += 1


def _put_in(case: Case) -> None:
    match case.operation.definition.raw["operationId"]:
        case "session_create":
            case.body = {"grant_type": "password", "username": _things.kept("name"), "password": PASSWORD}
        case "session_wechat_token":
            case.query = {"code": _wechat_code()}
        case "users_link_wechat":
            case.body = {"code": _wechat_code()}
        case "users_avatar_set":
            case.body = {"avatar_file": PICTURE}
        case "users_change_password":
            case.body = {"old_password": PASSWORD, "new_password": f"{PASSWORD}4"}
        case "codes_delete_batch":
            case.query = {"batch": _things.new("batch")}
    parts = case.operation.path.split("/")
    spends = case.operation.method.upper() in SPENT or parts[-1] in SPENT
    for at, part in enumerate(parts):
        if part in ("{id}", "{code}") and (kind := KINDS.get(parts[at - 1])):
            case.path_parameters[part.strip("{}")] = _things.new(kind) if spends else _things.kept(kind)
    if isinstance(case.body, dict):
        for field, thing in (("chat_id", "chat"), ("redeem_code", "code")):
            if field in case.body and not (field == "redeem_code" and "value" in case.body):
                case.body[field] = _things.new(thing)
        if "preset_id" in case.body:
            case.body["preset_id"] = _things.kept("public")
