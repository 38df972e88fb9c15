"""Bodies that are meant to cost something: no answer outgrows Lambda's, and who is not let in makes little work."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aideer.core import settings
from aideer.security import auth
from aideer.web import bodies, validation
from tests.integration.test_chats import make_preset
from tests.support import Answer, Api, Person, make_chat, recorded_calls

MakePerson = Callable[..., Person]
JSON = {"content-type": "application/json"}
LAMBDA = 6 * 1024 * 1024


def sent_bytes(answer: Answer) -> int:
    """What Lambda takes an answer's body for."""
    return len(json.dumps(answer.body, ensure_ascii=False).encode())


def unknown(keys: int) -> dict[str, int]:
    return {f"{key:x}": 1 for key in range(keys)}


def test_a_refusal_lists_a_hundred_errors(api: Api, person: MakePerson) -> None:
    me = person()
    body = {"messages": [unknown(bodies.KEYS)] * 500}
    answer = api("chats.update", "PUT", f"/chats/{make_chat(me).id}", json=body, user=me)
    assert (answer.status, answer.json["code"], len(answer.json["detail"])) == (422, "validation_error", 100)
    assert sent_bytes(answer) < 50_000


def test_a_refusal_quotes_no_name_and_lists_the_known_ones(api: Api) -> None:
    body = {"username": "deer", "password": "secret-123", "\u0001" * 100_000: 1, "usrname": 1}
    answer = api("users.create", "POST", "/users", json=body)
    msg = "There is no such field. This object has username, password, nickname, permission."
    assert answer.json["detail"] == [{"loc": ["body"], "msg": msg, "type": "extra_forbidden"}]


@pytest.mark.parametrize("where", [lambda o: o, lambda o: {"messages": [o]}, lambda o: {"messages": [{"usage": o}]}])
def test_an_object_of_many_keys_is_not_looked_at(api: Api, person: MakePerson, where: Callable[[Any], Any]) -> None:
    me = person()
    for body, code in (
        (where(unknown(bodies.WIDE_KEYS)), ["extra_forbidden", "missing"]),
        (where(unknown(bodies.WIDE_KEYS + 1)), ["body_unreadable"]),
    ):
        answer = api("chats.update", "PUT", f"/chats/{make_chat(me).id}", json=body, user=me)
        assert answer.status == 422
        assert {error["type"] for error in answer.json["detail"]} <= set(code)
    raw = json.dumps(where(unknown(500_000))).encode()
    stranger = api("chats.update", "PUT", "/chats/c", raw=raw, headers=JSON)
    assert stranger.status == 401
    assert sent_bytes(stranger) < 1000


def test_objects_of_many_keys_share_a_budget(api: Api, person: MakePerson) -> None:
    """2,000 messages of 95 unknown names each cost 2 s and 280 MB."""
    me, keys = person(), bodies.KEYS
    path = f"/chats/{make_chat(me).id}"
    few = bodies.WIDE_KEYS // (keys + 1)
    for objects, kinds in (
        ([unknown(keys)] * 1000, {"extra_forbidden", "missing"}),
        ([unknown(keys + 1)] * few, {"extra_forbidden", "missing"}),
        ([unknown(keys + 1)] * (few + 1), {"body_unreadable"}),
        ([{"usage": unknown(keys + 1)}] * (few + 1), {"body_unreadable"}),
    ):
        answer = api("chats.update", "PUT", path, json={"messages": objects}, user=me)
        assert answer.status == 422
        assert {error["type"] for error in answer.json["detail"]} <= kinds


@pytest.mark.parametrize("token", [None, "no.valid.token"])
def test_nobody_s_body_is_read_before_they_are_let_in(
    api: Api, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    def read(*_: Any) -> Any:
        pytest.fail("it was read")

    monkeypatch.setattr(validation.RequestValidation, "_get_body", read)
    assert api("chats.update", "PUT", "/chats/c", json={"messages": [unknown(9)]}, token=token).status == 401
    assert api("users.avatar_set", "POST", "/users/me/avatar", raw=b"x", token=token).status == 401


def test_letting_a_caller_in_reads_them_once(api: Api, person: MakePerson) -> None:
    me = person()
    path = f"/chats/{make_chat(me).id}"
    read = f"GetItem {settings.USERS_TABLE}"
    for body, status in (({"title": "Deer"}, 200), ({"title": 1}, 422)):
        with recorded_calls() as calls:
            answer = api("chats.update", "PUT", path, json=body, user=me, headers={"If-Match": "*"})
        assert (answer.status, calls.count(read)) == (status, 1), calls
    assert calls == [read]


def test_a_bug_in_letting_a_caller_in_is_no_error_of_the_body(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise ValueError

    me = person()
    monkeypatch.setattr(auth, "get_holder", broken)
    for body in ({"nickname": "Deer"}, {"nickname": 1}):
        answer = api("users.update", "PUT", "/users/me", json=body, user=me)
        assert (answer.status, answer.json["code"]) == (500, "internal")


@pytest.mark.parametrize("headers", [JSON, {}, {"content-type": "application/x-www-form-urlencoded"}])
@pytest.mark.parametrize(
    ("module", "path"),
    [("users.create", "/users"), ("session.create", "/session/oauth2/token"), ("codes.create", "/codes")],
)
def test_what_takes_no_long_body_reads_none(api: Api, module: str, path: str, headers: dict[str, str]) -> None:
    answer = api(module, "POST", path, raw=b"a" * bodies.SIZE, headers=headers)
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert answer.headers["content-type"] == "application/json"


def test_the_longest_prompt_and_the_longest_messages_are_taken(api: Api, person: MakePerson) -> None:
    me = person()
    prompt = [{"role": "system", "content": "🦌" * (25 * 1024)}]  # 100 KB of UTF-8, and 300 KB of JSON with escapes
    preset = {"title": "Deer", "parameters": {"model": "qwen-plus"}, "messages": prompt}
    assert api("presets.create", "POST", "/presets", json=preset, user=me).status == 200
    long = [{"role": "user", "content": "好" * 34_000}] * 28  # 2.9 MB of UTF-8, and 5.7 MB of JSON with escapes
    path = f"/chats/{make_chat(me).id}"
    put = api("chats.update", "PUT", path, json={"messages": long}, user=me, headers={"If-Match": "*"})
    assert put.status == 200
    fewer = long[:19]  # the embedded DynamoDB ends a transaction at 4 MB of JSON
    assert api("chats.append", "POST", f"{path}/messages", json={"messages": fewer}, user=me).status == 200
    new = {"preset_id": make_preset(me), "title": "t", "messages": fewer}
    assert api("chats.create", "POST", "/chats", json=new, user=me).status == 200
