"""One call of every endpoint, made of its event under events/: a new endpoint is called as soon as it has one.

An event's ids and tokens are nobody's. They are replaced, by the names under which they stand, with those of a user of the
call's own, and of what that user has: made when a call names it.
"""

import base64
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from local.clients.client import Client
from local.simulators import wechat
from local.stack.template import ROOT, Function, Template
from tests.waiting import PATIENCE_SECONDS, until

ADMIN = {"username": "admin", "password": "admin123"}
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGElEQVR42mNkaGAgCTAxMIxqGNUwXDUAALsfAKDGFHgbAAAAAElFTkSuQmCC"
)
"""A PNG of 16×16 pixels."""
ENDED = ("finished", "stopped", "failed")


def routed(template: Template) -> list[Function]:
    """The functions behind the HTTP API."""
    return [f for f in template.functions.values() if any(event.type == "HttpApi" for event in f.events)]


def event(function: Function) -> dict[str, Any]:
    """A function's event under events/."""
    path = ROOT / "events" / f"{function.module.replace('.', '/')}.json"
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


@dataclass
class Place:
    """Where calls go: an API, and the WeChat that it asks."""

    url: str
    wechat: wechat.Server

    @cached_property
    def admin(self) -> "Someone":
        """The administrator, whom the operations function has made."""
        return Someone(self, **ADMIN)


class Someone:
    """A user, and what is theirs."""

    def __init__(self, place: Place, username: str = "", password: str = "secret-123") -> None:
        self.place = place
        self.username, self.password = username or f"u{secrets.token_hex(6)}", password
        if not username:
            self.client.call("POST", "/users", {"username": self.username, "password": password})

    @cached_property
    def client(self) -> Client:
        return Client(self.place.url)

    @cached_property
    def tokens(self) -> dict[str, str]:
        form = {"grant_type": "password", "username": self.username, "password": self.password}
        answer = httpx.post(f"{self.place.url}/api/v1/session/oauth2/token", data=form, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call that succeeds."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        answer = httpx.request(
            method, f"{self.place.url}/api/v1{path}", json=body, headers=headers, timeout=PATIENCE_SECONDS
        )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    @cached_property
    def id(self) -> str:
        return str(self.call("GET", "/users/me")["id"])

    @cached_property
    def preset(self) -> str:
        preset = {"title": "Test", "type": "chat_generation", "parameters": {"model": "qwen-plus"}, "messages": []}
        return str(self.call("POST", "/presets", preset)["id"])

    @cached_property
    def chat(self) -> str:
        message = {"role": "user", "type": "text", "content": "/sim tokens=5 delay=1 Hello", "visibility": True}
        body = {"preset_id": self.preset, "title": "Test", "messages": [message]}
        return str(self.call("POST", "/chats", body)["id"])

    @cached_property
    def task(self) -> str:
        """One that has ended: on_queued has answered."""
        task_id = self.call("POST", "/tasks", {"chat_id": self.chat, "stream": False})["task_id"]
        until(lambda: self.call("GET", f"/tasks/{task_id}")["status"] in ENDED, f"the end of task {task_id}")
        return str(task_id)

    @cached_property
    def answer(self) -> str:
        """The n of the chat's answer."""
        self.task  # noqa: B018 - makes it
        return str(self.call("GET", f"/chats/{self.chat}")["messages"][-1]["n"])

    @cached_property
    def share(self) -> dict[str, str]:
        """A link to the chat."""
        made: dict[str, str] = self.call("POST", f"/chats/{self.chat}/shares", {})
        return made

    @cached_property
    def key(self) -> str:
        """The id of an API key."""
        return str(self.call("POST", "/users/me/keys", {"name": "Laptop"})["id"])

    @cached_property
    def avatar(self) -> str:
        """The name of the user's picture."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        files = {"avatar_file": ("a.png", PICTURE, "image/png")}
        answer = httpx.post(
            f"{self.place.url}/api/v1/users/me/avatar", files=files, headers=headers, timeout=PATIENCE_SECONDS
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["avatar_url"]).rpartition("/")[2]

    @cached_property
    def upload(self) -> str:
        """An image that is ready."""
        upload_id = self.posted
        self.call("POST", f"/uploads/{upload_id}/complete")
        return upload_id

    @cached_property
    def illustrated(self) -> str:
        """A chat whose first message is an uploaded image."""
        preset = {"title": "Test", "type": "chat_generation", "parameters": {"model": "qwen3.5-plus"}, "messages": []}
        message = {"role": "user", "type": "image", "content": f"upload:{self.upload}"}
        preset_id = self.call("POST", "/presets", preset)["id"]
        return str(self.call("POST", "/chats", {"preset_id": preset_id, "title": "Test", "messages": [message]})["id"])

    @property
    def posted(self) -> str:
        """An image that was posted as a browser posts it."""
        announced = self.call("POST", "/uploads", {"name": "a.png", "type": "image/png", "size": len(PICTURE)})
        form = announced["post"]
        answer = httpx.post(form["url"], data=form["fields"], files={"file": PICTURE}, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 204, answer.text
        return str(announced["id"])

    @cached_property
    def code(self) -> str:
        return str(self.place.admin.call("POST", "/codes", {"value": 50})["redeem_code"])

    @cached_property
    def batch(self) -> str:
        return str(self.place.admin.call("POST", "/codes", {"value": 50, "count": 2})["batch"])

    @cached_property
    def wechat_tokens(self) -> dict[str, str]:
        answer = httpx.get(
            f"{self.place.url}/api/v1/session/wechat/token?code={self.wechat_code}", timeout=PATIENCE_SECONDS
        )
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    @property
    def wechat_code(self) -> str:
        return self.place.wechat.code(self.username)

    @cached_property
    def website(self) -> dict[str, str]:
        """What WeChat sends to the callback after a sign-in that began with authorize, and the browser's cookie."""
        answer = httpx.get(f"{self.place.url}/api/v1/session/wechat/authorize", timeout=PATIENCE_SECONDS)
        assert answer.status_code == 302, answer.text
        sent = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        cookie = answer.headers["set-cookie"].partition(";")[0]
        return {"code": self.place.wechat.code(self.username, "web"), "state": sent["state"], "cookie": cookie}


IDS: dict[str, Callable[[Someone], str]] = {
    "presets": lambda who: who.preset,
    "preset": lambda who: who.preset,
    "chats": lambda who: who.chat,
    "messages": lambda who: "1",
    "chat": lambda who: who.chat,
    "tasks": lambda who: who.task,
    "users": lambda who: who.id,
    "codes": lambda who: who.code,
    "shares": lambda who: who.share["id"],
    "shared": lambda who: who.share["token"],
    "uploads": lambda who: who.upload,
    "sessions": lambda who: str(who.tokens["session_id"]),
    "avatars": lambda who: who.avatar,
    "keys": lambda who: who.key,
}
"""What an id in a path is of, by what stands before it."""
OWN_IDS: dict[str, dict[str, Callable[[Someone], str]]] = {
    "uploads.complete": {"uploads": lambda who: who.posted},
    "chats.upload": {"chats": lambda who: who.illustrated},
    "chats.rate": {"messages": lambda who: who.answer},
    "chats.unrate": {"messages": lambda who: who.answer},
    "shared.upload": {
        "shared": lambda who: str(who.call("POST", f"/chats/{who.illustrated}/shares", {})["token"]),
    },
}
"""What an id in a path is of, in one call alone."""
NAMES: dict[str, Callable[[Someone], Any]] = {
    "preset_id": lambda who: who.preset,
    "chat_id": lambda who: who.chat,
    "batch": lambda who: who.batch,
    "old_password": lambda who: who.password,
}
"""Of bodies and queries."""
OWN: dict[str, dict[str, Callable[[Someone], Any]]] = {
    "users.create": {"username": lambda who: f"u{secrets.token_hex(6)}"},
    "users.update": {"username": lambda who: f"u{secrets.token_hex(6)}"},
    "users.redeem": {"redeem_code": lambda who: who.code},
    "users.link_wechat": {"code": lambda who: who.wechat_code},
    "users.link_password": {"username": lambda who: f"u{secrets.token_hex(6)}"},
    "users.list": {"username": lambda who: who.username},
    "session.create": {"username": lambda who: who.username, "password": lambda who: who.password},
    "session.wechat_token": {"code": lambda who: who.wechat_code},
    "session.wechat_callback": {"code": lambda who: who.website["code"], "state": lambda who: who.website["state"]},
    "chats.copy": {"upto": lambda who: 1},
    "codes.create": {"redeem_code": lambda who: f"E2E-{secrets.token_hex(6).upper()}"},
}
"""What a name means in one call alone."""
BEFORE: dict[str, Callable[[Someone], Any]] = {
    "users.unlike_preset": lambda who: who.call("POST", f"/users/me/likes/preset/{who.preset}"),
    "users.unlike_chat": lambda who: who.call("POST", f"/users/me/likes/chat/{who.chat}"),
    "chats.unrate": lambda who: who.call("PUT", f"/chats/{who.chat}/messages/{who.answer}/feedback", {"rating": "up"}),
}
"""What must have happened."""
WECHAT = {"session.wechat_refresh", "users.link_password"}
"""Calls of somebody who came by WeChat."""
ADMINS = re.compile(r"codes\..*|admin\..*|users\.(list|grant|ledger|set_password|delete)")


def call(function: Function, who: Someone) -> httpx.Response:
    """Make the call of a function's event, as this user or as the administrator."""
    return sent(prepared(function, who))


def sent(request: httpx.Request) -> httpx.Response:
    """The answer to a request."""
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        return client.send(request)


def prepared(function: Function, who: Someone) -> httpx.Request:
    """The request of a function's event, with all that it names made."""
    made = event(function)
    method, _, route = made["routeKey"].partition(" ")
    if function.module in BEFORE:
        BEFORE[function.module](who)
    known = NAMES | OWN.get(function.module, {})
    query = {name: known[name](who) if name in known else value for name, value in parse_qsl(made["rawQueryString"])}
    url = (
        f"{who.place.url}{_path(function.module, route, made['rawPath'], who)}{'?' + urlencode(query) if query else ''}"
    )
    return httpx.Request(method, url, content=_body(made, known, who), headers=_headers(function, made, who))


def _headers(function: Function, made: dict[str, Any], who: Someone) -> dict[str, str]:
    headers = {}
    if "content-type" in made["headers"]:
        headers["content-type"] = made["headers"]["content-type"]
    if "idempotency-key" in made["headers"]:
        headers["idempotency-key"] = secrets.token_hex(8)
    if "authorization" in made["headers"]:
        tokens = who.wechat_tokens if function.module in WECHAT else who.tokens
        tokens = who.place.admin.tokens if ADMINS.fullmatch(function.module) else tokens
        kind = "refresh_token" if "REFRESH" in made["headers"]["authorization"] else "access_token"
        headers["authorization"] = f"Bearer {tokens[kind]}"
    if "if-match" in made["headers"]:
        version = who.call("GET", f"/chats/{who.chat}")["version"]
        headers["if-match"] = f'"{version}"'
    if function.module == "session.wechat_callback":
        headers["cookie"] = who.website["cookie"]
    return headers


def _path(module: str, route: str, path: str, who: Someone) -> str:
    ids = IDS | OWN_IDS.get(module, {})
    parts = path.split("/")
    for place, part in enumerate(route.split("/")):
        if part.startswith("{") and not part.endswith("+}"):  # such a path names a file, which is there
            parts[place] = ids[parts[place - 1]](who)
    return "/".join(parts)


def _body(made: dict[str, Any], known: dict[str, Any], who: Someone) -> bytes | None:
    if not made.get("body"):
        return None
    body = base64.b64decode(made["body"]) if made.get("isBase64Encoded") else made["body"].encode()
    kind = made["headers"]["content-type"]
    if kind == "application/json":
        return json.dumps(
            {name: known[name](who) if name in known else v for name, v in json.loads(body).items()}
        ).encode()
    if kind == "application/x-www-form-urlencoded":
        form = {name: known[name](who) if name in known else value for name, value in parse_qsl(body.decode())}
        return urlencode(form).encode()
    return body
