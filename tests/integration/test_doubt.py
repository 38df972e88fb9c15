"""A write that has happened, whose answer was lost, and whose repetition is refused: a read says that it was ours.

Each endpoint has its own reads for that, and the permissions for them.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from aideer import clock
from aideer.models import Code
from tests import faults
from tests.support import Answer, Api, Person, check_rules, make_chat

MakePerson = Callable[..., Person]
MESSAGE = {"role": "user", "type": "text", "content": "hello", "visibility": True}
PRESET = {"title": "Test", "type": "chat_generation", "parameters": {"model": "qwen-plus"}, "messages": []}


def sign_up(api: Api, me: Person) -> Answer:
    return api("users.create", "POST", "/users", json={"username": f"u{uuid4().hex[:12]}", "password": "secret-123"})


def redeem(api: Api, me: Person) -> Answer:
    text = f"TEST-{uuid4().hex[:12].upper()}"
    Code(text, value=10, max_uses=1, create_time=clock.timestamp()).save()
    return api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=me)


def grant(api: Api, me: Person) -> Answer:
    body = {"amount": 10, "description": "Sorry"}
    return call(api, "users.grant", "POST", "/users/{id}/credits", me.id, me, body)


def create_preset(api: Api, me: Person) -> Answer:
    return api("presets.create", "POST", "/presets", json=PRESET, user=me)


def create_chat(api: Api, me: Person) -> Answer:
    body = {"preset_id": make_chat(me).preset_id, "title": "Test", "visibility": "private", "messages": [MESSAGE]}
    return api("chats.create", "POST", "/chats", json=body, user=me)


def append(api: Api, me: Person) -> Answer:
    chat = make_chat(me, "hello")
    return call(api, "chats.append", "POST", "/chats/{id}/messages", chat.id, me, {"messages": [MESSAGE]})


def create_task(api: Api, me: Person) -> Answer:
    return api("tasks.create", "POST", "/tasks", json={"chat_id": make_chat(me, "hello").id}, user=me)


def call(api: Api, module: str, method: str, path: str, id: str, me: Person, body: Any = None) -> Answer:
    return api(module, method, path.format(id=id), json=body, user=me, parameters={"id": id})


@pytest.mark.parametrize("act", [sign_up, redeem, grant, create_preset, create_chat, append, create_task])
def test_what_has_happened_is_not_taken_for_refused(
    api: Api, person: MakePerson, act: Callable[[Api, Person], Answer]
) -> None:
    me = person(permission=2)
    with faults.doubted():
        answer = act(api, me)
    assert answer.status == 200, answer.body
    check_rules(me)
