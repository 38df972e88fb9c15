"""Chats through their endpoints: opening, listing, reading, changing and deleting them, and who may."""

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from aideer.billing import credits
from aideer.chats import chat_lists, chats, messages, quota
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Preset, Task, User
from aideer.schemas.chats import OWNERS_FIELDS, READERS_FIELDS, NewMessage, NewMessages
from aideer.schemas.questions import NewTask
from aideer.security import auth
from aideer.tasks import admission, chat_deletion
from tests.support import Answer, Api, Person, caller, check_rules, make_chat

MakePerson = Callable[..., Person]

ENDPOINTS = [
    ("chats.create", "POST", "/chats", {"preset_id": "p", "title": "t"}),
    ("chats.list", "GET", "/chats", None),
    ("chats.get", "GET", "/chats/c", None),
    ("chats.update", "PUT", "/chats/c", {"title": "t"}),
    ("chats.append", "POST", "/chats/c/messages", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("chats.delete", "DELETE", "/chats/c", None),
]
SINGLE = [endpoint for endpoint in ENDPOINTS if "/c" in endpoint[2][6:]]


def make_preset(owner: Person, visibility: str = "private", number: int = 1) -> str:
    now = clock.timestamp()
    shown: dict[str, Any] = {
        "number": number,
        "title": "P",
        "type": "chat_generation",
        "parameters": {"model": "qwen-plus"},
        "messages": [{"role": "system", "type": "text", "content": "secret prompt", "visibility": False}],
        "create_time": now,
        "update_time": now,
    }
    preset_id = new_id()
    Preset(preset_id, Preset.HEAD, owner_id=owner.id, visibility=visibility, **shown).save()
    Preset(preset_id, number, **shown).save()
    return preset_id


def make_task(owner: Person, chat: Chat) -> str:
    wanted = NewTask(chat_id=chat.id)
    return admission.create(
        caller(owner.user), wanted, IdempotentRequest(owner.id, "POST /tasks", None, wanted)
    ).task_id


def call(api: Api, endpoint: tuple[str, str, str, Any], chat_id: str = "c", **kwargs: Any) -> Answer:
    module, method, path, body = endpoint
    return api(
        module,
        method,
        path.replace("/c/", f"/{chat_id}/").replace("/chats/c", f"/chats/{chat_id}"),
        json=body,
        **kwargs,
    )


def stored(chat_id: str) -> Chat:
    return Chat.get(chat_id, consistent_read=True)


def plain(calls: list[str]) -> list[str]:
    """Calls without what the embedded AWS puts around a table's name."""
    return [re.sub(r" \w+-(\w+)Table-\w+$", r" \1", name) for name in calls]


# --- who may


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint[0])
def test_nobody_gets_in_without_a_good_access_token(api: Api, person: MakePerson, endpoint: Any) -> None:
    me = person()
    nobody = call(api, endpoint)
    assert (nobody.status, nobody.json["code"]) == (401, "unauthorized")
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert call(api, endpoint, token="garbage").json["code"] == "invalid_token"
    assert call(api, endpoint, token=jwt.encode({"sub": me.id}, "k" * 32)).status == 401
    refresh = call(api, endpoint, token=me.refresh_token)
    assert (refresh.status, refresh.json["code"]) == (401, "wrong_token_type")
    module, method, path, _ = endpoint
    assert api(module, method, path, json={"nonsense": True}).status == 401, "a stranger learns nothing of the body"
    claims = jwt.decode(me.token, options={"verify_signature": False})
    expired = call(api, endpoint, token=auth.sign({**claims, "iat": 1, "exp": 2}))
    assert (expired.status, expired.json["code"]) == (401, "token_expired")


@pytest.mark.parametrize("endpoint", SINGLE, ids=lambda endpoint: endpoint[0])
def test_a_private_chat_is_forbidden_to_others(api: Api, person: MakePerson, endpoint: Any) -> None:
    owner, stranger = person(), person()
    chat = make_chat(owner, "Hi")
    for level in (stranger, person(permission=0)):
        answer = call(api, endpoint, chat.id, user=level)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert stored(chat.id).version == 1


@pytest.mark.parametrize("endpoint", SINGLE, ids=lambda endpoint: endpoint[0])
def test_a_chat_that_is_not_there_is_404_and_an_id_that_is_none_422(
    api: Api, person: MakePerson, endpoint: Any
) -> None:
    me = person()
    for unknown in (new_id(), "nothing", "%20"):
        answer = call(api, endpoint, unknown, user=me)
        assert (answer.status, answer.json["code"]) == (404, "chat_not_found")
    assert call(api, endpoint, "x" * 3000, user=me).status == 422


def test_a_visitor_manages_what_is_theirs_but_opens_nothing(api: Api, person: MakePerson) -> None:
    visitor = person(permission=0)
    chat = make_chat(visitor, "from before")
    answer = api("chats.create", "POST", "/chats", json={"preset_id": chat.preset_id, "title": "t"}, user=visitor)
    assert (answer.status, answer.json["code"]) == (403, "visitor")
    assert [item["id"] for item in api("chats.list", "GET", "/chats", user=visitor).json] == [chat.id]
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=visitor).status == 200


def test_an_admin_reads_changes_and_deletes_any_chat_but_writes_into_none(api: Api, person: MakePerson) -> None:
    owner, admin = person(), person(permission=2)
    chat = make_chat(owner, "Hi")
    assert api("chats.get", "GET", f"/chats/{chat.id}", user=admin).json["messages"][0]["content"] == "Hi"
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "Mod"}, user=admin).json["title"] == "Mod"
    body = {"messages": [{"role": "user", "content": "as if it were you"}]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=admin).status == 403
    assert api("chats.list", "GET", "/chats", user=admin).json == []
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=admin).status == 200


def test_a_shared_chat_can_be_read_by_all_and_changed_by_none(api: Api, person: MakePerson) -> None:
    owner, reader = person(), person(permission=0)
    chat = make_chat(owner, "Hi")
    api("chats.update", "PUT", f"/chats/{chat.id}", json={"visibility": "shared"}, user=owner)
    task_id = make_task(owner, chat)
    assert api("chats.get", "GET", f"/chats/{chat.id}", user=owner).json["active_task"] == task_id
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=reader)
    assert shown.status == 200
    assert [message["content"] for message in shown.json["messages"]] == ["Hi"]
    assert "active_task" not in shown.json
    for endpoint in SINGLE[1:]:
        assert call(api, endpoint, chat.id, user=reader).status == 403
    assert api("chats.list", "GET", "/chats", user=reader).json == []


def test_readers_of_a_shared_chat_see_what_was_said_and_nothing_else(api: Api, person: MakePerson) -> None:
    """Every field of the item that is no READERS_FIELDS has a value here by which it would be found."""
    owner, reader = person(), person()
    chat = make_chat(owner, "Hi", "hidden")
    chat.update([Chat.preset_id.set(make_preset(owner, "public")), Chat.visibility.set("shared")])
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    secret = "s3cret"
    names = set(Message.get_attributes()) - {"thread", *READERS_FIELDS}
    answer = Message(chat.thread, 3, role="assistant", content="Hello", create_time=clock.timestamp())
    usage = Usage(424242, 434343, 444444)._asdict()
    sources = [{"index": 1, "title": secret, "url": f"https://{secret}.example", "site_name": secret}]
    feedback = {"rating": "up", "tags": [secret], "comment": secret, "update_time": clock.timestamp()}
    others = {"usage": usage, "credits": 454545, "sources": sources, "feedback": feedback}
    for name in names:
        setattr(answer, name, others.get(name, secret))
    answer.save()
    Chat(chat.id).update([Chat.message_count.add(1), Chat.next_n.add(1), Chat.version.add(1)])
    api("users.like_chat", "POST", f"/users/me/likes/chat/{chat.id}", user=reader)
    whole = api("chats.get", "GET", f"/chats/{chat.id}", user=owner)
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=reader)
    copied = api("chats.copy", "POST", f"/chats/{chat.id}/copy", user=reader)
    own = api("chats.get", "GET", f"/chats/{copied.json['id']}", user=reader)
    files = [
        api("chats.export", "GET", f"/chats/{id}/export?format={format}", user=reader)
        for id in (chat.id, copied.json["id"])
        for format in ("json", "markdown")
    ]
    lists = [api("chats.list", "GET", "/chats", user=reader), api("users.likes", "GET", "/users/me/likes", user=reader)]
    assert secret in whole.body
    assert whole.json["message_count"] == 3
    assert [answer.status for answer in files] == [403, 403, 200, 200]
    assert set(shown.json) == {*whole.json} - {"message_count", *OWNERS_FIELDS}
    for message in (*shown.json["messages"], *copied.json["messages"], *own.json["messages"]):
        assert set(message) == set(READERS_FIELDS) - {"upload"}
    for answer in (shown, copied, own, *files, *lists):
        assert not re.search(f"{secret}|4[2-5]4[2-5]4[2-5]|hidden", answer.body), answer.body


# --- opening


def test_a_chat_opens_with_its_messages_and_pins_the_presets_version(api: Api, person: MakePerson) -> None:
    me = person()
    preset_id = make_preset(me, number=7)
    body = {
        "preset_id": preset_id,
        "title": " 旅行 🙂 ",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?", "visibility": False}],
    }
    answer = api("chats.create", "POST", "/chats", json=body, user=me)
    assert answer.status == 200
    chat = answer.json
    assert chat == {
        "id": chat["id"],
        "owner_id": me.id,
        "preset_id": preset_id,
        "preset_version": 7,
        "title": "旅行 🙂",
        "title_source": "person",
        "visibility": "private",
        "version": 1,
        "pinned": False,
        "archived": False,
        "tags": [],
        "message_count": 2,
        "create_time": chat["create_time"],
        "update_time": chat["create_time"],
        "messages": [
            {
                "n": 1,
                "role": "user",
                "type": "text",
                "content": "Hi",
                "visibility": True,
                "create_time": chat["create_time"],
            },
            {
                "n": 2,
                "role": "assistant",
                "type": "text",
                "content": "Yes?",
                "visibility": False,
                "create_time": chat["create_time"],
            },
        ],
    }
    assert answer.headers["etag"] == '"1"'
    assert api("chats.get", "GET", f"/chats/{chat['id']}", user=me).json == chat
    (listed,) = api("chats.list", "GET", "/chats", user=me).json
    assert listed == {**{k: v for k, v in chat.items() if k != "messages"}, "last_message": "Hi"}


def test_opening_a_chat_is_one_transaction(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    preset_id = make_preset(me)
    quota.make_room(me.id)  # once for each user
    counted.clear()
    body = {"preset_id": preset_id, "title": "t", "messages": [{"role": "user", "content": "x"}] * 50}
    assert api("chats.create", "POST", "/chats", json=body, user=me).status == 200
    assert Counter(plain(counted)) == Counter(["GetItem Users", "GetItem Presets", "TransactWriteItems"])


@pytest.mark.parametrize(("visibility", "status"), [("private", 403), ("unlisted", 200), ("public", 200)])
def test_of_others_presets_all_but_private_ones_can_be_used(
    api: Api, person: MakePerson, visibility: str, status: int
) -> None:
    owner, me = person(), person()
    preset_id = make_preset(owner, visibility)
    opened = api("chats.create", "POST", "/chats", json={"preset_id": preset_id, "title": "t"}, user=me)
    assert opened.status == status
    mine = make_chat(me, "Hi")
    switched = api("chats.update", "PUT", f"/chats/{mine.id}", json={"preset_id": preset_id}, user=me)
    assert switched.status == status
    if status == 403:
        assert opened.json["code"] == switched.json["code"] == "preset_private"
        assert stored(mine.id).version == 1
    body = {"preset_id": preset_id, "title": "t"}
    assert api("chats.create", "POST", "/chats", json=body, user=person(permission=2)).status == 200


def test_a_preset_that_is_not_there_is_a_bad_request(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    opened = api("chats.create", "POST", "/chats", json={"preset_id": new_id(), "title": "t"}, user=me)
    switched = api("chats.update", "PUT", f"/chats/{chat.id}", json={"preset_id": new_id()}, user=me)
    for answer in (opened, switched):
        assert (answer.status, answer.json["code"]) == (400, "preset_not_found")


BIG = "x" * (100 * 1024)
BAD_MESSAGES: list[Any] = [
    {},
    [None],
    [{"role": "user"}],
    [{"role": "robot", "content": "x"}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": "\ud800"}],
    [{"role": "user", "content": BIG + "x"}],
    [{"role": "user", "content": "好" * 34134}],
    [{"role": "user", "content": 7}],
    [{"role": "user", "content": "x", "visibility": "yes"}],
    [{"role": "user", "content": "x", "n": 1}],
    [{"role": "user", "content": "x", "type": "video"}],
    [{"role": "user", "content": "x"}] * 51,
]
BAD_CHATS: list[Any] = [
    {},
    {"title": "t"},
    {"preset_id": "", "title": "t"},
    {"preset_id": "x" * 65, "title": "t"},
    {"preset_id": "\udfff", "title": "t"},
    {"preset_id": 10**400, "title": "t"},
    {"preset_id": "x", "title": ""},
    {"preset_id": "x", "title": "  "},
    {"preset_id": "x", "title": "t" * 51},
    {"preset_id": "x", "title": "\ud83d"},
    {"preset_id": "x", "title": "line\nbreak"},
    {"preset_id": "x", "title": ["t"]},
    {"preset_id": "x", "title": "t", "visibility": "public"},
    {"preset_id": "x", "title": "t", "owner_id": "someone"},
    {"preset_id": "x", "title": "t", "\ud800": 1},
    {"preset_id": "x", "title": "t", "messages": None},
    *({"preset_id": "x", "title": "t", "messages": bad} for bad in BAD_MESSAGES),
]


@pytest.mark.parametrize("body", BAD_CHATS, ids=lambda body: ascii(body)[:60])
def test_what_is_no_chat_is_refused_in_the_error_shape(api: Api, person: MakePerson, body: Any) -> None:
    answer = api("chats.create", "POST", "/chats", json=body, user=person())
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert all(set(problem) == {"loc", "msg", "type"} for problem in answer.json["detail"])
    answer.body.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"7",
        b'"x"',
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"title":' + b"9" * 5000 + b"}",
        b'[{"preset_id": "x", "title": "t"}]',
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_a_body_that_is_no_object_is_refused(api: Api, person: MakePerson, raw: bytes) -> None:
    me = person()
    for module, method, path, body in ENDPOINTS:
        if body:
            answer = api(module, method, path, raw=raw, user=me)
            assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_a_model_that_sees_nothing_is_sent_no_images(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    image = {"role": "user", "type": "image", "content": "https://example.org/cat.png"}
    answers = [
        api(
            "chats.create",
            "POST",
            "/chats",
            json={"preset_id": chat.preset_id, "title": "t", "messages": [image]},
            user=me,
        ),
        api("chats.append", "POST", f"/chats/{chat.id}/messages", json={"messages": [image]}, user=me),
        api(
            "chats.update", "PUT", f"/chats/{chat.id}", json={"messages": [image]}, user=me, headers={"If-Match": '"1"'}
        ),
    ]
    assert [(answer.status, answer.json["code"]) for answer in answers] == [(422, "model_without_vision")] * 3
    assert stored(chat.id).version == 1


def test_messages_of_more_than_a_transaction_holds_are_too_large(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    many = [{"role": "user", "content": BIG}] * 30
    answer = api(
        "chats.create", "POST", "/chats", json={"preset_id": chat.preset_id, "title": "t", "messages": many}, user=me
    )
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json={"messages": many}, user=me).status == 413
    assert (
        api("chats.append", "POST", f"/chats/{chat.id}/messages", json={"messages": many[:29]}, user=me).status == 200
    )
    assert stored(chat.id).message_count == 29


# --- listing


def titled(me: Person, *titles: str) -> list[Chat]:
    made = []
    for title in titles:
        chat = make_chat(me)
        chat.update([Chat.title.set(title)])
        made.append(chat)
    return made


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [item["id"] for item in answer.json]


def test_a_list_goes_on_page_by_page_in_either_order(api: Api, person: MakePerson) -> None:
    me = person()
    made = [chat.id for chat in titled(me, *"cbead")]
    make_chat(person(), "somebody else's")
    by = {
        ("create_time", "asc"): made,
        ("create_time", "desc"): made[::-1],
        ("update_time", "desc"): made[::-1],
        ("title", "asc"): [made[i] for i in (3, 1, 0, 4, 2)],
        ("title", "desc"): [made[i] for i in (2, 4, 0, 1, 3)],
    }
    for (order_by, order), expected in by.items():
        first = api("chats.list", "GET", f"/chats?order_by={order_by}&order={order}&limit=2", user=me)
        assert 'rel="next"' in first.headers["link"]
        second = api("chats.list", "GET", first.headers["link"][1 : first.headers["link"].index(">")], user=me)
        cursor = second.headers["x-next-cursor"]
        last = api("chats.list", "GET", f"/chats?order_by={order_by}&order={order}&limit=2&cursor={cursor}", user=me)
        assert ids(first) + ids(second) + ids(last) == expected
        assert "link" not in last.headers
        assert "x-next-cursor" not in last.headers
    assert ids(api("chats.list", "GET", "/chats?limit=2&offset=2", user=me)) == made[::-1][2:4]
    assert ids(api("chats.list", "GET", "/chats?offset=1000", user=me)) == []


def test_a_title_prefix_finds_chats_by_title(api: Api, person: MakePerson) -> None:
    me = person()
    made = [chat.id for chat in titled(me, "Paris", "Pa", "paris", "P", "巴黎 2026", "巴")]
    assert ids(api("chats.list", "GET", "/chats?q=Pa&order=asc", user=me)) == [made[1], made[0]]
    assert ids(api("chats.list", "GET", "/chats?q=%E5%B7%B4&order_by=title", user=me)) == [made[4], made[5]]
    assert ids(api("chats.list", "GET", "/chats?q=nothing", user=me)) == []
    assert len(ids(api("chats.list", "GET", "/chats?q=", user=me))) == 6
    page = api("chats.list", "GET", "/chats?q=Pa&order=asc&limit=1", user=me)
    cursor = page.headers["x-next-cursor"]
    assert ids(api("chats.list", "GET", f"/chats?q=Pa&order=asc&limit=1&cursor={cursor}", user=me)) == [made[0]]
    wrong = api("chats.list", "GET", "/chats?q=Pa&order_by=create_time", user=me)
    assert (wrong.status, wrong.json["code"]) == (422, "order_by_not_title")
    assert api("chats.list", "GET", f"/chats?q=Par&order=asc&cursor={cursor}", user=me).status == 422


def test_a_cursor_from_elsewhere_is_refused(api: Api, person: MakePerson) -> None:
    from aideer.web import pagination

    me = person()
    titled(me, "a", "b", "c")
    good = api("chats.list", "GET", "/chats?limit=1", user=me).headers["x-next-cursor"]
    forged = [
        "x",
        "AAAA",
        good[:-4],
        pagination.encode("users create_time desc ", ["2026", "x"]),
        pagination.encode("chats create_time desc ", ["", "x"]),
        pagination.encode("chats create_time desc ", ["2026", ""]),
        pagination.encode("chats create_time desc ", ["2026", "x" * 65]),
        pagination.encode("chats create_time desc ", ["2" * 1025, "x"]),
        pagination.encode("chats create_time desc ", [7, "x"]),
    ]
    for cursor in forged:
        answer = api("chats.list", "GET", f"/chats?limit=1&cursor={cursor}", user=me)
        assert answer.status == 422
    assert api("chats.list", "GET", f"/chats?order=asc&cursor={good}", user=me).status == 422
    outside = pagination.encode("chats title asc b", ["a", "x"])
    assert api("chats.list", "GET", f"/chats?q=b&order=asc&cursor={outside}", user=me).json["code"] == "invalid_cursor"
    # Somebody else's is a place in one's own list, and nothing more.
    assert api("chats.list", "GET", f"/chats?limit=1&cursor={good}", user=person()).json == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        f"limit={10**30}",
        "offset=-1",
        "offset=1001",
        "order=up",
        "order_by=owner",
        f"q={'x' * 51}",
        f"cursor={'x' * 2001}",
    ],
)
def test_a_list_takes_only_what_it_knows(api: Api, person: MakePerson, query: str) -> None:
    answer = api("chats.list", "GET", f"/chats?{query}", user=person())
    assert answer.status == 422
    assert answer.json["code"] in ("validation_error", "invalid_cursor")


def test_a_page_is_one_query_and_one_batch(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    titled(me, *"abcdefghijkl")
    for path in ("/chats", "/chats?order_by=title&limit=3", "/chats?q=a", "/chats?offset=5&limit=100"):
        api("chats.list", "GET", path, user=me)
        counted.clear()
        assert api("chats.list", "GET", path, user=me).status == 200
        assert Counter(plain(counted)) == Counter(["GetItem Users", "Query Chats", "BatchGetItem"])


def test_what_the_index_still_shows_of_a_deleted_chat_is_left_out(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    kept, tombstone, gone, given = titled(me, *"abcd")
    lagging = list(Chat.by_title.query(me.id))
    api("chats.delete", "DELETE", f"/chats/{tombstone.id}", user=me)
    gone.delete()
    given.update([Chat.owner_id.set(person().id)])
    monkeypatch.setitem(chat_lists._INDEXES, "title", type("Lagging", (), {"query": lambda *a, **k: iter(lagging)}))
    assert ids(api("chats.list", "GET", "/chats?order_by=title", user=me)) == [kept.id]


# --- changing


def test_only_what_is_given_changes(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    new_preset = make_preset(me, number=3)
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"title": "New"}, {"title": "New"}),
        ({"visibility": "shared"}, {"visibility": "shared"}),
        ({"preset_id": new_preset}, {"preset_id": new_preset, "preset_version": 3}),
    ]
    for body, changed in changes:
        before = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json
        answer = api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me)
        expected = {**before, **changed, "version": before["version"] + 1, "update_time": answer.json["update_time"]}
        assert answer.json == expected
        assert answer.headers["etag"] == f'"{expected["version"]}"'
        assert answer.json["update_time"] > before["update_time"]
    same = api("chats.update", "PUT", f"/chats/{chat.id}", json={}, user=me)
    assert same.json["version"] == 4


@pytest.mark.parametrize(
    "body",
    [{"title": ""}, {"title": 7}, {"visibility": "public"}, {"preset_id": ""}, {"version": 9}, {"owner_id": "x"}]
    + [
        {"messages": {}},
        {"messages": [7]},
        {"title": "\ud800"},
        {"messages": [{"role": "user", "content": "x"}] * 2001},
    ]
    + [{"messages": [{"role": "user", "content": "\udc00"}]}, {"messages": [{"role": "user", "content": "x", "n": 0}]}]
    + [{"messages": [{"role": "user", "content": "x", "n": n}]} for n in (-1, 1.5, "1", True, 10**40)],
    ids=lambda body: ascii(body)[:50],
)
def test_a_change_of_what_cannot_be_is_refused(api: Api, person: MakePerson, body: Any) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    answer = api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers={"If-Match": '"1"'})
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert stored(chat.id).version == 1


REPLACING: dict[str, Any] = {"messages": []}


def test_if_match_guards_every_change_that_has_it(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")

    def put(body: Any, if_match: str | None) -> Answer:
        headers = {"If-Match": if_match} if if_match is not None else {}
        return api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers=headers)

    missing = put({"messages": []}, None)
    assert (missing.status, missing.json["code"]) == (428, "if_match_required")
    for other in ('"0"', '"2"', "x", "", ","):
        for body in REPLACING, {"title": "t"}:
            answer = put(body, other)
            assert (answer.status, answer.json["code"]) == (412, "precondition_failed")
    assert stored(chat.id).version == 1
    now = f'"{stored(chat.id).version}"'
    assert put({"title": "t"}, now).status == 200
    assert put({"title": "u"}, now).status == 412
    assert put({"title": "u"}, f'"77", W/"{stored(chat.id).version}"').status == 200
    assert put({"title": "v"}, "*").status == 200


def test_messages_are_not_replaced_while_a_task_answers(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task_id = make_task(me, chat)
    for version in ('"1"', '"2"'):
        answer = api(
            "chats.update", "PUT", f"/chats/{chat.id}", json={"messages": []}, user=me, headers={"If-Match": version}
        )
        assert (answer.status, answer.json["code"], answer.json["task_id"]) == (409, "task_running", task_id)
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "t"}, user=me).status == 200


@pytest.mark.parametrize("meanwhile", ["append", "task", "delete"])
def test_a_replacement_that_something_else_overtakes_changes_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    write = messages.write

    def overtaken(thread: list[Message]) -> None:
        write(thread)
        if meanwhile == "append":
            chats.append(me.user, chat.id, NewMessages(messages=[NewMessage(role="user", content="me first")]))
        elif meanwhile == "task":
            make_task(me, chat)
        else:
            chat_deletion.delete(me.user, chat.id)

    monkeypatch.setattr(messages, "write", overtaken)
    answer = api(
        "chats.update", "PUT", f"/chats/{chat.id}", json={"messages": []}, user=me, headers={"If-Match": '"1"'}
    )
    expected = {
        "append": (412, "precondition_failed"),
        "task": (409, "task_running"),
        "delete": (404, "chat_not_found"),
    }
    assert (answer.status, answer.json["code"]) == expected[meanwhile]
    assert stored(chat.id).generation == chat.generation
    assert Message.get(chat.thread, 1, consistent_read=True).content == "Hi"


def test_a_change_whose_answer_was_lost_has_happened_once(
    api: Api, person: MakePerson, lost_answers: list[str]
) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    lost_answers.append("TransactWriteItems")
    answer = api(
        "chats.update",
        "PUT",
        f"/chats/{chat.id}",
        json={"title": "t", "messages": []},
        user=me,
        headers={"If-Match": '"1"'},
    )
    assert answer.status == 200, answer.body
    assert (answer.json["version"], answer.json["title"], answer.json["messages"]) == (2, "t", [])
    lost_answers.append("TransactWriteItems")
    body = {"messages": [{"role": "user", "content": "once"}]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me).json[0]["n"] == 2
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json
    assert [message["content"] for message in shown["messages"]] == ["once"]
    lost_answers.append("TransactWriteItems")
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    lost_answers.append("TransactWriteItems")
    opened = {"preset_id": chat.preset_id, "title": "t"}
    assert api("chats.create", "POST", "/chats", json=opened, user=me).status == 200
    assert len(api("chats.list", "GET", "/chats", user=me).json) == 1


@pytest.fixture
def lost_answers() -> Any:
    """Names of operations whose next answer is lost: they happen, and their caller sees a broken connection."""
    from botocore.exceptions import ConnectionClosedError

    waiting: list[str] = []

    def lose(model: Any, **_: Any) -> None:
        if model.name in waiting:
            waiting.remove(model.name)
            raise ConnectionClosedError(endpoint_url="test")

    events = User._get_connection().connection.client.meta.events
    events.register("after-call.dynamodb.*", lose)
    yield waiting
    events.unregister("after-call.dynamodb.*", lose)
    assert not waiting


# --- appending


def test_appended_messages_follow_the_last_one(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    long = "好" * 300
    body = {
        "messages": [
            {"role": "system", "content": "Be brief.", "visibility": False},
            {"role": "user", "content": long},
            {"role": "user", "content": "hidden", "visibility": False},
        ]
    }
    answer = api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me)
    assert [(m["n"], m["role"], m["visibility"]) for m in answer.json] == [
        (2, "system", False),
        (3, "user", True),
        (4, "user", False),
    ]
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=me).json
    assert shown["messages"][1:] == answer.json
    assert (shown["message_count"], shown["version"]) == (4, 2)
    assert shown["update_time"] == answer.json[0]["create_time"] > shown["create_time"]
    assert api("chats.list", "GET", "/chats", user=me).json[0]["last_message"] == long[:200]
    only_hidden = {"messages": [{"role": "user", "content": "x", "visibility": False}]}
    api("chats.append", "POST", f"/chats/{chat.id}/messages", json=only_hidden, user=me)
    assert stored(chat.id).preview == long[:200]


@pytest.mark.parametrize("bad", [*BAD_MESSAGES, [], None], ids=lambda bad: ascii(bad)[:50])
def test_what_is_no_message_is_not_appended(api: Api, person: MakePerson, bad: Any) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    answer = api("chats.append", "POST", f"/chats/{chat.id}/messages", json={"messages": bad}, user=me)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert stored(chat.id).version == 1


def test_messages_are_appended_behind_the_answer_that_is_being_made(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task_id = make_task(me, chat)
    body = {"messages": [{"role": "user", "content": "and another thing"}]}
    assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me).json[0]["n"] == 3
    assert Task.get(task_id).answer_n == 2


def test_appending_costs_the_same_in_a_long_chat(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    costs = []
    for length in (10, 1000):
        chat = make_chat(me, "Hi")
        now = clock.timestamp()
        messages.write(
            [Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(2, length + 1)]
        )
        chat.update([Chat.next_n.set(length + 1), Chat.message_count.set(length)])
        counted.clear()
        body = {"messages": [{"role": "user", "content": "more"}]}
        answer = api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me)
        assert answer.json[0]["n"] == length + 1
        costs.append(plain(counted))
    assert costs == [["GetItem Users", "GetItem Chats", "TransactWriteItems"]] * 2


def test_of_appends_at_once_none_is_lost_and_none_overwritten(person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    user = me.user

    def append(i: int) -> list[Message]:
        new = [NewMessage(role="user", content=f"{i}a"), NewMessage(role="user", content=f"{i}b")]
        return chats.append(user, chat.id, NewMessages(messages=new))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(append, range(12)))
    thread = {message.n: message.content for message in Message.query(chat.thread, consistent_read=True)}
    assert sorted(thread) == list(range(1, 25))
    assert {m.n: m.content for answer in answers for m in answer} == thread
    after = stored(chat.id)
    assert (after.message_count, after.next_n, after.version) == (24, 25, 13)
    assert after.preview == thread[24]


def test_what_was_appended_behind_an_answer_is_what_the_list_shows(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")

    def last() -> str:
        found: str = api("chats.list", "GET", "/chats", user=me).json[0]["last_message"]
        return found

    def append(text: str, *, visibility: bool = True) -> None:
        body = {"messages": [{"role": "user", "content": text, "visibility": visibility}]}
        assert api("chats.append", "POST", f"/chats/{chat.id}/messages", json=body, user=me).status == 200

    def settle(content: str) -> None:
        task = Task.get(Chat.get(chat.id, consistent_read=True).active_task)
        task.update([Task.status.set("running"), Task.executor.set("e")])
        text = credits.Text("", content)
        credits.settle(task, credits.Closer.executor("e"), "finished", text, "stop", Usage(1, 1))

    make_task(me, chat)
    append("behind it")
    settle("first answer")
    assert last() == "behind it"
    assert Chat.get(chat.id).active_task is None
    make_task(me, chat)
    append("hidden", visibility=False)
    settle("second answer")
    assert last() == "second answer", "what is hidden is not what it shows"
    append("third question")
    make_task(me, chat)
    assert last() == "third question"
    settle("third answer")
    assert last() == "third answer"
    check_rules(me)


# --- reading


def test_what_the_caller_has_already_is_not_sent_again(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    tag = api("chats.get", "GET", f"/chats/{chat.id}", user=me).headers["etag"]
    counted.clear()
    for header in (tag, f"W/{tag}", f'"0", {tag}', "*"):
        answer = api("chats.get", "GET", f"/chats/{chat.id}", user=me, headers={"If-None-Match": header})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, "", tag)
        assert answer.headers["vary"] == "Authorization"
    assert Counter(plain(counted)) == Counter(["GetItem Users", "GetItem Chats"] * 4)
    assert api("chats.get", "GET", f"/chats/{chat.id}", user=me, headers={"If-None-Match": '"9"'}).status == 200
    assert api("chats.get", "GET", f"/chats/{chat.id}", user=person(), headers={"If-None-Match": tag}).status == 403


def test_what_one_was_shown_is_never_confirmed_to_another(api: Api, person: MakePerson, counted: list[str]) -> None:
    """Two who share a browser share its cache: a 304 would show the one what the other was shown."""
    owner, reader, admin = person(), person(), person(permission=2)
    chat = make_chat(owner, "Hi")
    chat.update([Chat.visibility.set("shared")])

    def get(who: Person, tag: str = "") -> Answer:
        return api("chats.get", "GET", f"/chats/{chat.id}", user=who, headers={"If-None-Match": tag} if tag else {})

    own, shared = get(owner).headers["etag"], get(reader).headers["etag"]
    assert own == get(admin).headers["etag"] == '"1"'
    assert own != shared
    counted.clear()
    for who, given, status in (
        (reader, own, 200),
        (reader, shared, 304),
        (owner, shared, 200),
        (admin, shared, 200),
        (admin, own, 304),
    ):
        answer = get(who, given)
        assert answer.status == status
        assert answer.headers["vary"] == "Authorization"
        assert answer.headers["etag"] == (shared if who is reader else own)
    assert Counter(plain(counted)) == Counter(
        ["GetItem Chats"] * 5 + ["GetItem Users"] * 5 + ["PutItem Audit"] + ["Query Messages"] * 3
    )
    put = api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "t"}, user=owner, headers={"If-Match": shared})
    assert put.status == 412


def test_a_page_is_never_older_than_its_tag(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, reader = person(), person()
    chat = make_chat(owner, "one")
    chat.update([Chat.visibility.set("shared")])
    query, consistently = Message.query, []

    def seen(*args: Any, **kwargs: Any) -> Any:
        consistently.append(kwargs["consistent_read"])
        return query(*args, **kwargs)

    monkeypatch.setattr(Message, "query", seen)
    for who in (owner, reader):
        api("chats.get", "GET", f"/chats/{chat.id}", user=who)
    assert consistently == [True, True]


def test_reading_a_chat_is_two_reads(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me, *("Hi" for _ in range(12)))
    api("chats.get", "GET", f"/chats/{chat.id}", user=me)
    counted.clear()
    assert api("chats.get", "GET", f"/chats/{chat.id}?limit=5", user=me).status == 200
    assert Counter(plain(counted)) == Counter(["GetItem Users", "GetItem Chats", "Query Messages"])


# --- deleting


def test_a_deleted_chat_is_gone_at_once(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    answer = api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me)
    assert (answer.status, answer.json) == (200, {"message": "Deleted."})
    for endpoint in SINGLE:
        assert call(api, endpoint, chat.id, user=me).status == 404
    assert api("chats.list", "GET", "/chats", user=me).json == []
    assert call(api, SINGLE[0], chat.id, user=person()).status == 404, "not even that it was private"


def test_deleting_a_chat_stops_the_task_that_has_not_begun_and_bills_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task_id = make_task(me, chat)
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    task = Task.get(task_id, consistent_read=True)
    assert (task.status, task.credits) == ("stopped", 0)
    assert credits.sum_holds(me.user) == 0
    check_rules(me)


def test_deleting_a_chat_asks_a_running_task_to_stop(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    task_id = make_task(me, chat)
    Task(task_id).update([Task.status.set("running"), Task.executor.set("e"), Task.lease_until.set(time.time() + 60)])
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    assert Task.get(task_id, consistent_read=True).stop_requested
