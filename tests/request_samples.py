"""A well-formed request of every route of the template, about real things: what tests of the whole surface send.

What is called about is made anew for each call, and is the owner's: a private preset, a private chat with an answer in it, the
finished task of that answer.
"""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from PIL import Image

from aideer.accounts import api_keys, avatars, devices, wechat_sessions
from aideer.accounts.users import password_key
from aideer.billing import reconciliation, redeem_codes
from aideer.chats import feedback, likes, shares
from aideer.core import clock
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, Identity, Message, Preset, Task, User
from aideer.schemas.api_keys import NewApiKey
from aideer.schemas.credits import CodeBatchResponse, NewCode
from aideer.schemas.feedback import FeedbackChange, Rating
from aideer.schemas.shares import NewShare, NewShareResponse
from aideer.security import auth
from aideer.tasks import control
from aideer.uploads import references
from local.simulators import wechat
from local.stack.template import Template
from tests.route_matrix import FOREIGN, SITE, STREAMED
from tests.stream_client import requested, waited
from tests.support import ADDRESS, Answer, Api, Person, make_chat, make_person
from tests.ui_messages import said
from tests.uploaded import make_upload, post_upload

ROUTES = {
    route: function.module
    for function in Template().functions.values()
    for event in function.events
    if event.type == "HttpApi" and event.properties["Method"] != "HEAD"
    if (route := (event.properties["Method"].upper(), event.properties["Path"])) not in SITE
} | dict(STREAMED)
"""Each route's handler module. HEAD is GET without the body: tests/unit/test_functions.py."""
STREAM, POLL = ("GET", "/api/v1/tasks/{id}/stream"), ("GET", "/api/v1/tasks/{id}/poll")
LEVELS = {"stranger": auth.USER, "visitor": auth.VISITOR, "owner": auth.USER, "admin": auth.ADMIN}
QUESTION, ANSWER, ADDITION = "What is a deer?", "A quiet one.", "What is a moose?"
PASSWORD, NEW_PASSWORD = "secret-123", "secret-456"
"""Everybody's, and what it is changed to."""


@dataclass
class Sent:
    """A request, but for its route and its token."""

    path: dict[str, str] = field(default_factory=dict)
    query: str = ""
    json: Any = None
    form: dict[str, str] | None = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class World:
    """The people of one call, and things of its owner's, made when they are asked for."""

    def __init__(self, caller: str, door: str, weixin: wechat.Server) -> None:
        self.caller = caller
        self.door = door
        self.weixin = weixin

    @functools.cached_property
    def owner(self) -> Person:
        return make_person(LEVELS["owner"])

    @functools.cached_property
    def me(self) -> Person:
        """Who calls: the owner too where what is sent is no access token."""
        if self.door == "wechat" and self.caller in FOREIGN:
            return by_wechat(self.weixin)
        return self.owner if self.caller in ("owner", *FOREIGN) else make_person(LEVELS[self.caller])

    @functools.cached_property
    def chat(self) -> Chat:
        """A private chat with a question and its answer."""
        chat = make_chat(self.owner, QUESTION)
        chat.update([Chat.next_n.set(3), Chat.message_count.set(2)])
        return chat

    @functools.cached_property
    def asked(self) -> Chat:
        """A private chat that waits for an answer."""
        return make_chat(self.owner, QUESTION)

    @functools.cached_property
    def task(self) -> Task:
        """The finished task of the chat's answer."""
        now = clock.timestamp()
        task = Task(
            new_id(),
            user_id=self.owner.id,
            chat_id=self.chat.id,
            type="chat_generation",
            status="finished",
            hold=10,
            model="qwen-plus",
            tariff={},
            preset_id=self.chat.preset_id,
            preset_version=1,
            parameters={},
            max_tokens=100,
            thread=self.chat.thread,
            prompt_end=2,
            answer_n=2,
            usage={"input_tokens": 5, "output_tokens": 3, "reasoning_tokens": 0},
            credits=1,
            closed_by="somebody",
            finish_reason="stop",
            text_length=12,
            create_time=now,
            end_time=now,
        )
        task.save()
        answer = Message(self.chat.thread, 2, role="assistant", content=ANSWER, create_time=now, task_id=task.id)
        answer.finish_reason = "stop"
        answer.save()
        return task

    @functools.cached_property
    def share(self) -> NewShareResponse:
        """A link to the chat."""
        return share(self.owner, self.chat)

    @functools.cached_property
    def upload(self) -> str:
        """An image that no chat uses."""
        return make_upload(self.owner).id

    @functools.cached_property
    def illustrated(self) -> Chat:
        """A private chat with an uploaded image."""
        chat = make_chat(self.owner)
        upload = make_upload(self.owner)
        content = references.to_content(upload.id)
        Message(chat.thread, 1, role="user", type="image", content=content, create_time=clock.timestamp()).save()
        return chat

    @functools.cached_property
    def preset(self) -> str:
        """A private preset."""
        preset_id: str = self.chat.preset_id
        return preset_id

    @functools.cached_property
    def code(self) -> str:
        """A code that anybody may redeem, once."""
        code = Code(redeem_codes.generate(), value=10, max_uses=1, create_time=clock.timestamp())
        code.save()
        return code.code

    @functools.cached_property
    def batch(self) -> str:
        """Two codes that were made together."""
        new = NewCode(value=10, count=2)
        admin = make_person(permission=2).user
        made = redeem_codes.create(admin, new, IdempotentRequest(admin.id, "POST /codes", None, new))
        assert isinstance(made, CodeBatchResponse)
        return made.batch

    def token(self) -> str | None:
        """What is sent in the Authorization header."""
        match self.caller:
            case "nothing":
                return None
            case "garbage":
                return "eyJhbGciOiJub25lIn0.e30."
            case "expired":
                user = self.me.user
                return expired(lambda: auth.issue_pair(user, self._method)[self._kind])
            case "signed out":
                token = self._tokens(self._method)[self._kind]
                self.me.user.update([User.token_version.add(1)])
                return token
            case "refresh":
                return self._tokens("password")["refresh_token"]
            case "wechat refresh":
                return self._tokens("wechat")["refresh_token"]
            case "ticket":
                url = control.stream_url(self.task, self.me.user)
                return urlsplit(url).query.removeprefix("ticket=")
        return self.me.token

    @property
    def _kind(self) -> str:
        """Of the tokens that this door wants."""
        return "access_token" if self.door in ("access", "anyone") else "refresh_token"

    @property
    def _method(self) -> auth.Method:
        return "wechat" if self.door == "wechat" else "password"

    def _tokens(self, method: auth.Method) -> dict[str, str]:
        if method == "wechat" and self.door == "wechat":
            return {"access_token": self.me.token, "refresh_token": self.me.refresh_token}
        return auth.issue_pair(self.me.user, method)


def expired(token: Callable[[], str]) -> str:
    """A token that was made so long ago that it is no longer good."""
    now = clock.now
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: now() - 2 * auth.REFRESH_SECONDS)
        return token()


def by_wechat(weixin: wechat.Server) -> Person:
    """Somebody whom WeChat's sign-in has made."""
    tokens = wechat_sessions.sign_in(weixin.code(name()), ADDRESS)
    user_id = auth.verify(tokens.access_token)["sub"]
    return Person(user_id, "", "", tokens.access_token, tokens.refresh_token)


def name() -> str:
    """A name that nobody has."""
    return f"n{uuid4().hex[:12]}"


def looked_over(world: World) -> Sent:
    """Nothing is sent, but there is something to show."""
    if world.caller == "admin":
        reconciliation.continue_run(0, begin=True)
    return Sent()


def picture() -> Sent:
    """A small picture in a form."""
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(held, "PNG")
    about = 'Content-Disposition: form-data; name="avatar_file"; filename="a.png"\r\nContent-Type: image/png'
    body = b"--deer\r\n" + about.encode() + b"\r\n\r\n" + held.getvalue() + b"\r\n--deer--\r\n"
    return Sent(raw=body, headers={"Content-Type": "multipart/form-data; boundary=deer"})


def pictured(world: World) -> Sent:
    """Nothing but the address of the owner's picture."""
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(held, "PNG")
    shown = avatars.replace(world.owner.user, held.getvalue())
    return Sent({"id": shown.id, "name": shown.avatar})


def back_from_wechat(world: World) -> Sent:
    """What a browser sends that WeChat's page has sent back."""
    way = Api()("session.wechat_authorize", "GET", "/session/wechat/authorize")
    state = parse_qs(urlsplit(way.headers["location"]).query)["state"][0]
    cookie = way.cookies[0].partition(";")[0]
    return Sent(query=f"state={state}&code={world.weixin.code(name(), 'web')}", headers={"cookie": cookie})


def nameless(world: World) -> Sent:
    """A name and a password, of somebody who has none yet."""
    Identity(password_key(world.me.username)).delete()
    world.me.user.update([User.username.remove()])
    return Sent(json={"username": name(), "password": PASSWORD})


def liked(world: World, kind: likes.Kind) -> Sent:
    """Nothing but the id of what the caller likes: it was not private then."""
    preset, chat = Preset(world.preset, Preset.HEAD), Chat(world.chat.id)
    preset.update([Preset.visibility.set("public")])
    chat.update([Chat.visibility.set("shared")])
    likes.like(world.me.user, kind, preset.id if kind == "preset" else chat.id)
    preset.update([Preset.visibility.set("private")])
    chat.update([Chat.visibility.set("private")])
    return Sent({"id": preset.id if kind == "preset" else chat.id})


def share(owner: Person, chat: Chat) -> NewShareResponse:
    """A link to a chat."""
    new = NewShare()
    return shares.create(owner.user, chat.id, new, IdempotentRequest(owner.id, "shares", None, new))


def make_key(owner: Person) -> str:
    """The id of an API key."""
    user = owner.user
    user.session_id = next(iter(user.sessions or ()), None)
    return api_keys.create(user, NewApiKey(name="Laptop")).id


def rated(world: World, rating: Rating | None) -> dict[str, str]:
    """The path's parameters of an answer that its owner has rated so."""
    Message(world.task.thread, 2).update([Message.model.set("qwen-plus")])
    feedback.change(world.owner.user, world.chat.id, 2, FeedbackChange(rating=rating, tags=[]))
    return {"id": world.chat.id, "n": "2"}


ANY_VERSION = {"If-Match": "*"}
SENT: dict[str, Callable[[World], Sent]] = {
    "session.create": lambda w: Sent(
        form={"grant_type": "password", "username": w.owner.username, "password": w.owner.password}
    ),
    "session.wechat_token": lambda w: Sent(query=f"code={w.weixin.code(name())}"),
    "session.wechat_callback": back_from_wechat,
    "users.create": lambda w: Sent(json={"username": name(), "password": PASSWORD}),
    "users.update": lambda w: Sent({"id": w.owner.id}, json={"nickname": "Fawn"}),
    "users.change_password": lambda w: Sent(json={"old_password": PASSWORD, "new_password": NEW_PASSWORD}),
    "users.set_password": lambda w: Sent({"id": w.owner.id}, json={"new_password": NEW_PASSWORD}),
    "users.link_wechat": lambda w: Sent(json={"code": w.weixin.code(name())}),
    "users.link_password": nameless,
    "users.avatar_set": lambda w: picture(),
    "users.redeem": lambda w: Sent(json={"redeem_code": w.code}),
    "users.grant": lambda w: Sent({"id": w.owner.id}, json={"amount": 5, "description": "A present"}),
    "users.usage": lambda w: Sent(query="utc_offset=480"),
    "users.set_settings": lambda w: Sent(json={"theme": "dark"}),
    "users.unlike_preset": lambda w: liked(w, "preset"),
    "users.unlike_chat": lambda w: liked(w, "chat"),
    "users.end_session": lambda w: Sent({"id": str(devices.begin(w.owner.user, "password", "Phone").session_id)}),
    "users.avatar_public": pictured,
    "users.create_key": lambda w: Sent(json={"name": "Laptop", "credit_limit": 1000}),
    "users.update_key": lambda w: Sent({"key_id": make_key(w.owner)}, json={"name": "Phone"}),
    "users.delete_key": lambda w: Sent({"id": w.owner.id, "key_id": make_key(w.owner)}),
    "presets.create": lambda w: Sent(json={"title": "Deer", "parameters": {"model": "qwen-plus"}}),
    "presets.update": lambda w: Sent({"id": w.preset}, json={"title": "Moose"}),
    "chats.create": lambda w: Sent(json={"preset_id": w.preset, "title": "Deer"}),
    "chats.update": lambda w: Sent({"id": w.chat.id}, json={"title": "Moose"}),
    "search.list": lambda w: Sent(query="q=deer"),
    "chats.delete_all": lambda w: Sent(query="confirm=all"),
    "chats.append": lambda w: Sent({"id": w.chat.id}, json={"messages": [{"role": "user", "content": ADDITION}]}),
    "chats.share": lambda w: Sent({"id": w.chat.id}, json={"expires_in": 3600}),
    "chats.unshare": lambda w: Sent({"id": w.chat.id, "share_id": w.share.id}),
    "shared.upload": lambda w: Sent({"token": share(w.owner, w.illustrated).token, "n": "1"}),
    "chats.upload": lambda w: Sent({"id": w.illustrated.id, "n": "1"}),
    "uploads.create": lambda w: Sent(json={"name": "deer.png", "type": "image/png", "size": 1000}),
    "uploads.complete": lambda w: Sent({"id": post_upload(w.owner).id}),
    "chats.rate": lambda w: Sent(rated(w, None), json={"rating": "down", "tags": ["wrong"], "comment": "No."}),
    "chats.unrate": lambda w: Sent(rated(w, "up")),
    "chats.message_update": lambda w: Sent(
        {"id": w.chat.id, "n": "1"}, json={"content": ADDITION}, headers=ANY_VERSION
    ),
    "chats.message_delete": lambda w: Sent({"id": w.chat.id, "n": "1"}, headers=ANY_VERSION),
    "chats.branch": lambda w: Sent({"id": w.chat.id}, json={"branch": "main"}, headers=ANY_VERSION),
    "tasks.create": lambda w: Sent(json={"chat_id": w.asked.id}),
    "tasks.ask": lambda w: Sent(json={"chat_id": w.asked.id}, headers={"Idempotency-Key": new_id()}),
    "tasks.quote": lambda w: Sent(json={"chat_id": w.asked.id}),
    "ui.ask": lambda w: Sent(json={"id": w.chat.id, "messages": [said(ADDITION)]}),
    "admin.set_config": lambda w: Sent(json={"announcement": {"text": "Deer"}}, headers={"If-Match": "*"}),
    "codes.create": lambda w: Sent(json={"value": 10}),
    "codes.delete_batch": lambda w: Sent(query=f"batch={w.batch}"),
    "admin.reconciliation": looked_over,
}
"""What is sent, by the handler's module: well-formed, and about what is the owner's. Others need their path's parameters alone."""

IDS: dict[str, Callable[[World], str]] = {
    "users": lambda w: w.owner.id,
    "presets": lambda w: w.preset,
    "preset": lambda w: w.preset,
    "chats": lambda w: w.chat.id,
    "chat": lambda w: w.chat.id,  # of a like, and of /ui
    "tasks": lambda w: w.task.id,
    "codes": lambda w: w.code,
    "shared": lambda w: w.share.token,
    "uploads": lambda w: w.upload,
}
"""What a path's parameter stands for, by the resource that it follows."""


def sent(world: World, module: str, path: str) -> Sent:
    """The request of this route in this world."""
    if module in SENT:
        return SENT[module](world)
    parts = path.split("/")
    return Sent({part.strip("{}"): IDS[parts[at - 1]](world) for at, part in enumerate(parts) if part.startswith("{")})


def called(api: Api, method: str, path: str, request: Sent, token: str | None) -> Answer:
    """The answer of this route to this request."""
    address = path.format(**request.path) + (f"?{request.query}" if request.query else "")
    if (method, path) in (STREAM, POLL):
        return waited(address, request.path["id"], token)
    if (method, path) in STREAMED:
        streamed = requested(method, address, request.json, token, **request.headers)
        return Answer(streamed.status_code, {k.lower(): v for k, v in streamed.headers.items()}, streamed.text)
    return api(
        ROUTES[method, path],
        method,
        address,
        json=request.json,
        form=request.form,
        raw=request.raw,
        token=token,
        headers=request.headers,
        parameters=request.path,
    )
