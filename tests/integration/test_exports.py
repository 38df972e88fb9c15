"""A chat as a file: whole, for who may have it, and not to be broken by what it holds."""

import json
import re
from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.chats import exports
from aideer.core import clock
from aideer.data.base import new_id
from aideer.data.models import Chat, Message
from tests.integration.test_chats import plain
from tests.integration.test_copies import answered, share
from tests.integration.test_messages import fill, numbered
from tests.support import Answer, Api, Person, make_chat

MakePerson = Callable[..., Person]


def export(api: Api, chat: Chat, user: Person, query: str = "") -> Answer:
    return api("chats.export", "GET", f"/chats/{chat.id}/export{query and '?'}{query}", user=user)


def files(api: Api, chat: Chat, user: Person, wanted: str) -> list[Answer]:
    path: str | None = f"/chats/{chat.id}/export?format={wanted}"
    found = []
    while path:
        answer = api("chats.export", "GET", path, user=user)
        assert answer.status == 200
        assert len(answer.body.encode()) <= 5 * 1024 * 1024
        assert len(json.dumps(answer.body, ensure_ascii=False).encode()) < 5.5 * 1024 * 1024, "as it leaves Lambda"
        found.append(answer)
        link = answer.headers.get("link")
        path = link[1 : link.index(">")] if link else None
    return found


def sections(text: str) -> dict[int, list[str]]:
    """What a reader of CommonMark finds fenced in an export, by message."""
    found: dict[int, list[str]] = {}
    fence, n, lines = "", 0, list[str]()
    for line in text.split("\n"):
        if fence:
            if re.fullmatch(rf" {{0,3}}`{{{len(fence)},}}[ \t]*", line):
                found[n].append("\n".join(lines))
                fence, lines = "", []
            else:
                lines.append(line)
        elif opened := re.fullmatch(r" {0,3}(`{3,})[^`]*", line):
            fence = opened[1]
        elif heading := re.fullmatch(r"## (\d+)", line):
            n = int(heading[1])
            found[n] = []
    assert not fence
    return found


def test_as_json_it_is_the_chat_as_it_is_read(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi", "hidden")
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    answered(me, chat)
    answer = export(api, chat, me)
    assert answer.json == api("chats.get", "GET", f"/chats/{chat.id}", user=me).json
    assert len(answer.json["messages"]) == 3
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == "attachment; filename=\"Test.json\"; filename*=UTF-8''Test.json"
    assert export(api, chat, me, "format=json").body == answer.body


def test_as_markdown_it_is_read_by_people(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi\n```\ncode\n```", "hidden")
    chat.update([Chat.title.set("# *Bold* <b> 🙂")])
    Message(chat.thread, 2).update([Message.visibility.set(False)])
    answered(me, chat, "An answer.")
    answer = export(api, chat, me, "format=markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["content-disposition"].endswith("%20%F0%9F%99%82.md")
    assert answer.body.startswith("# \\# \\*Bold\\* \\<b\\> 🙂\n")
    assert sections(answer.body) == {1: ["Hi\n```\ncode\n```"], 2: ["hidden"], 3: ["Thinking.", "An answer."]}
    assert re.search(r"## 2\n\n\*\*user\*\*, [^\n]*, hidden\n", answer.body)
    assert re.search(r"## 3\n\n\*\*assistant\*\*, [^\n]*, qwen\\-plus, stop\n", answer.body)


@given(st.lists(st.text(st.sampled_from("`~#> \n\r\t-a*<"), min_size=1, max_size=30), min_size=1, max_size=5))
def test_nothing_that_is_said_breaks_out_of_its_fence(contents: list[str]) -> None:
    chat = Chat(new_id(), title="t", create_time=clock.timestamp())
    thread = [
        Message("t", n, role="user", content=content, create_time=clock.timestamp())
        for n, content in enumerate(contents, 1)
    ]
    text, rest = exports._markdown(chat, thread, None)
    assert rest is None
    assert sections(text) == {n: [content] for n, content in enumerate(contents, 1)}


@pytest.mark.parametrize("wanted", ["json", "markdown"])
@pytest.mark.parametrize("content", ["x" * 100_000, "好" * 33_333, '"\\\n' * 30_000, "\x01" * 90_000, "`" * 100_000])
def test_a_long_chat_is_several_files_that_hold_all_of_it_once(
    api: Api, person: MakePerson, wanted: str, content: str
) -> None:
    me = person()
    chat = make_chat(me)
    fill(chat, numbered(chat, 45, content=content))
    found = files(api, chat, me, wanted)
    assert 1 < len(found) < 30
    if wanted == "json":
        ns = [message["n"] for answer in found for message in answer.json["messages"]]
    else:
        parts = [sections(answer.body) for answer in found]
        assert all(text == [content] for part in parts for text in part.values())
        ns = [n for part in parts for n in part]
    assert ns == list(range(1, 46))
    names = [unquote(answer.headers["content-disposition"].rpartition("''")[2]) for answer in found]
    assert len(set(names)) == len(names)


def test_a_file_of_many_short_messages_is_a_few_reads(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me)
    fill(chat, numbered(chat, 300))
    counted.clear()
    answer = export(api, chat, me)
    assert Counter(plain(counted)) == Counter(["GetItem Users", "GetItem Chats", "Query Messages"])
    assert len(answer.json["messages"]) == 300
    assert "link" not in answer.headers
    assert [m["n"] for m in export(api, chat, me, "after=298").json["messages"]] == [299, 300]
    assert export(api, chat, me, "after=300").json["messages"] == []


def test_only_who_may_manage_a_chat_exports_it(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    chat = make_chat(owner, "Hi")
    assert export(api, chat, me).status == 403
    share(chat)
    answer = export(api, chat, me)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert export(api, chat, person(permission=2)).status == 200
    visitor = person(permission=0)
    assert export(api, make_chat(visitor, "Hi"), visitor).status == 200
    assert api("chats.export", "GET", f"/chats/{new_id()}/export", user=me).status == 404


@pytest.mark.parametrize("query", ["format=pdf", "format=", "after=-1", "after=x", f"after={2**60}"])
def test_it_takes_only_what_it_knows(api: Api, person: MakePerson, query: str) -> None:
    me = person()
    assert export(api, make_chat(me), me, query).json["code"] == "validation_error"


@pytest.mark.parametrize(
    ("title", "plain_name", "name"),
    [
        ("Trip to Paris", "Trip to Paris", "Trip to Paris"),
        ("旅行 🙂", "__ _", "旅行 🙂"),
        ('a"b\\c/d:e*f?g<h>i|j', "a b c d e f g h i j", "a b c d e f g h i j"),
        ("../../etc/passwd", "etc passwd", "etc passwd"),
        ("...", "chat", "chat"),
        ("con", "_con", "_con"),
        ("NUL.txt", "_NUL.txt", "_NUL.txt"),
        ("invoice\u202egpj.exe", "invoice gpj.exe", "invoice gpj.exe"),
        ("half\ud800", "half", "half"),
        ("a\r\nSet-Cookie: x", "a Set-Cookie x", "a Set-Cookie x"),
        ("50% off; x=y'", "50% off; x=y'", "50% off; x=y'"),
    ],
)
def test_a_title_makes_a_harmless_file_name(title: str, plain_name: str, name: str) -> None:
    header = exports.build_disposition(title, "md")
    fits = re.fullmatch(r"attachment; filename=\"([ !#-\[\]-~]*)\"; filename\*=UTF-8''([\w%.~-]+)", header, re.ASCII)
    assert fits
    assert (fits[1], unquote(fits[2])) == (f"{plain_name}.md", f"{name}.md")


@given(st.text(st.characters(codec=None), max_size=60))
def test_no_title_breaks_the_header(title: str) -> None:
    header = exports.build_disposition(title, "json")
    assert re.fullmatch(r"attachment; filename=\"[ !#-\[\]-~]+\"; filename\*=UTF-8''[\w%.~-]+", header, re.ASCII)
    name = unquote(header.rpartition("''")[2])
    assert not set(name) & set('/\\:*?"<>|\r\n\x00')
    assert name.strip(". ") == name
