"""The journey of a front end, from outside: what a page does from its first load to the deletion of everything."""

import contextlib
import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.events import Stream, parse
from tests.integration.stacks import Stack, running
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.early
PASSWORD = "a long password of a page"


class Page:
    """A page in one browser: its session, and what it does."""

    def __init__(self, stack: Stack, device: str) -> None:
        self.device = device
        self.http = httpx.Client(
            base_url=f"{stack.url}/api/v1", headers={"Origin": stack.url}, timeout=PATIENCE_SECONDS
        )

    def call(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """The JSON of an answer with this status."""
        answer = self.http.request(method, path, **request)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def sign_in(self, username: str) -> None:
        form = {"grant_type": "password", "username": username, "password": PASSWORD, "device": self.device}
        token = self.call("POST", "/session/oauth2/token", data=form)["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"

    def ask(self, **question: Any) -> Stream:
        """Ask, and read the answer to its end."""
        answer = self.http.post("/tasks/stream", json=question, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert answer.status_code == 200, answer.text
        stream = parse(answer.text)
        assert stream.final["status"] == "finished"
        return stream

    def chat(self, chat_id: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The chat, and the headers of a change of it."""
        answer = self.http.get(f"/chats/{chat_id}")
        return answer.json(), {"If-Match": answer.headers["ETag"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("front-end"), WORKERS="2") as started:
        yield started


@pytest.fixture
def open_page(stack: Stack) -> Iterator[Callable[[str], Page]]:
    """open_page("Laptop"): a page on this device, until the end of the test."""
    with contextlib.ExitStack() as opened:

        def open_(device: str) -> Page:
            page = Page(stack, device)
            opened.enter_context(page.http)
            return page

        yield open_


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_front_end_makes_its_whole_journey(open_page: Callable[[str], Page]) -> None:
    page = open_page("Laptop")

    # Open: everything that a page needs before anybody signs in.
    config = page.call("GET", "/config")
    assert config["sign_in"]["password"] is True
    preset_id = config["default_preset"]["id"]
    assert config["default_preset"]["model"] in {model["model"] for model in config["models"]}
    refused = page.call("GET", "/users/me", 401, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert refused == {"code": "unauthorized", "detail": "请先登录。"}

    # Sign up and in, and chat at once on the default preset.
    username = f"ada-{uuid.uuid4().hex[:8]}"
    page.call("POST", "/users", json={"username": username, "password": PASSWORD})
    page.sign_in(username)
    since = page.call("GET", "/changes")["next"]
    opened = {"preset_id": preset_id, "auto_title": True}
    first = page.ask(chat=opened, messages=asked("/sim tokens=9 What do deer eat?"))
    chat_id = first.start["chat_id"]
    chat, _ = page.chat(chat_id)
    assert chat["message_count"] == 2
    until(lambda: page.chat(chat_id)[0]["title_source"] == "model", "the model's title")

    # Ask with a photo.
    held = io.BytesIO()
    Image.new("RGB", (60, 40), "green").save(held, "JPEG")
    new = {"name": "deer.jpg", "type": "image/jpeg", "size": len(held.getvalue())}
    announced = page.call("POST", "/uploads", json=new)
    form = announced["post"]
    assert (
        httpx.post(
            form["url"], data=form["fields"], files={"file": held.getvalue()}, timeout=PATIENCE_SECONDS
        ).status_code
        == 204
    )
    photo = page.call("POST", f"/uploads/{announced['id']}/complete")
    seeing = page.call("POST", "/presets", json={"title": "Seeing", "parameters": {"model": "qwen3.5-plus"}})
    question = [{"role": "user", "type": "image", "content": photo["content"]}, *asked("/sim tokens=12 What is it?")]
    seen = page.ask(chat={"preset_id": seeing["id"], "title": "A photo"}, messages=question)
    assert "I can see 1 image." in seen.content

    # Edit a message, and ask the question in another way: the old branch stays.
    chat, version = page.chat(chat_id)
    edit = {"content": "/sim tokens=9 What do red deer eat?"}
    page.call("PUT", f"/chats/{chat_id}/messages/1", json=edit, headers=version)
    branched = page.ask(chat_id=chat_id, branch_at=1, messages=asked("/sim tokens=9 Where do deer sleep?"))
    chat, version = page.chat(chat_id)
    assert [message["content"] for message in chat["messages"]] == [
        "/sim tokens=9 Where do deer sleep?",
        branched.content,
    ]
    siblings = chat["messages"][0]["siblings"]
    assert (siblings["count"], siblings["shown"]) == (2, 2)
    page.call("PUT", f"/chats/{chat_id}/branch", json={"branch": siblings["branches"][0]}, headers=version)
    chat, _ = page.chat(chat_id)
    assert [message["content"] for message in chat["messages"]] == [edit["content"], first.content]

    # Rate the answer, mark the chat, and find it again.
    answer_n = chat["messages"][-1]["n"]
    page.call("PUT", f"/chats/{chat_id}/messages/{answer_n}/feedback", json={"rating": "up", "tags": ["correct"]})
    page.call("PUT", f"/chats/{chat_id}", json={"pinned": True, "tags": ["deer"]})
    assert page.chat(chat_id)[0]["messages"][-1]["feedback"]["rating"] == "up"
    assert [one["id"] for one in page.call("GET", "/chats?tag=deer")] == [chat_id]
    found = page.call("GET", "/search?q=RED%20deer")
    assert [(hit["chat_id"], hit["n"]) for hit in found] == [(chat_id, 1)]

    # Share it with somebody who has no account.
    link = page.call("POST", f"/chats/{chat_id}/shares", json={})
    stranger = open_page("Phone of a friend")
    shared = stranger.call("GET", f"/shared/{link['token']}")
    assert [message["content"] for message in shared["messages"]] == [edit["content"], first.content]
    assert not {"credits", "usage", "reasoning"} & set(json.dumps(shared["messages"]).replace('"', " ").split())
    page.call("DELETE", f"/chats/{chat_id}/shares/{link['id']}")
    stranger.call("GET", f"/shared/{link['token']}", 404)

    # A second device sees the same, and can be signed out from the first one.
    phone = open_page("Phone")
    phone.sign_in(username)
    changed = phone.call("GET", "/changes", params={"since": since})
    assert {change["chat_id"] for change in changed["changes"]} == {chat_id, seen.start["chat_id"]}
    page.call("PUT", "/users/me/settings", json={"theme": "dark"})
    assert phone.call("GET", "/users/me/settings") == {"theme": "dark"}
    sessions = {one["device"]: one for one in page.call("GET", "/users/me/sessions")}
    assert {device: one["current"] for device, one in sessions.items()} == {"Laptop": True, "Phone": False}
    page.call("DELETE", f"/users/me/sessions/{sessions['Phone']['id']}")
    phone.call("GET", "/users/me", 401)

    # What was spent, to the credit.
    usage = page.call("GET", "/users/me/usage")
    ledger = page.call("GET", "/users/me/credits")
    spent = -sum(line["amount"] for line in ledger["credit_records"] if line["amount"] < 0)
    assert sum(row["credits"] for day in usage["days"] for row in day["models"]) == spent > 0

    # Delete: a chat, all others, and oneself.
    page.call("DELETE", f"/chats/{seen.start['chat_id']}")
    page.http.delete("/chats", params={"confirm": "all"})
    until(lambda: page.call("GET", "/chats") == [], "no chat is left")
    gone = page.call("GET", "/changes", params={"since": changed["next"]})
    assert {(change["chat_id"], change.get("deleted")) for change in gone["changes"]} == {
        (chat_id, True),
        (seen.start["chat_id"], True),
    }
    page.http.delete("/users/me")
    page.call("GET", "/users/me", 401)
