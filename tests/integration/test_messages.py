"""Threads: windows of them, and their replacement."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.chats import messages
from aideer.core import clock
from aideer.data import batch_write
from aideer.data.models import Chat, Message, User
from tests.support import Answer, Api, Person, make_chat, make_person

MakePerson = Callable[..., Person]


@pytest.fixture(scope="module")
def me() -> Person:
    return make_person()


@pytest.fixture(scope="module")
def reader() -> Person:
    return make_person()


def fill(chat: Chat, thread: list[Message]) -> Chat:
    """Give a chat this thread, as if it had come about."""
    messages.write(thread)
    end = max((message.n for message in thread), default=0) + 1
    chat.update([Chat.next_n.set(end), Chat.message_count.set(len(thread)), Chat.visibility.set("shared")])
    return chat


def numbered(
    chat: Chat, count: int, hidden: Callable[[int], bool] = lambda n: False, content: str = "x"
) -> list[Message]:
    now = clock.timestamp()
    return [
        Message(chat.thread, n, role="user", content=content, visibility=not hidden(n), create_time=now)
        for n in range(1, count + 1)
    ]


def get(api: Api, chat: Chat, user: Person, query: str = "") -> Answer:
    return api("chats.get", "GET", f"/chats/{chat.id}{query and '?'}{query}", user=user)


def put(api: Api, chat: Chat, user: Person, placed: list[Any], version: int | None = None) -> Answer:
    version = Chat.get(chat.id, consistent_read=True).version if version is None else version
    return api(
        "chats.update",
        "PUT",
        f"/chats/{chat.id}",
        json={"messages": placed},
        user=user,
        headers={"If-Match": f'"{version}"'},
    )


def ns(answer: Answer) -> list[int]:
    assert answer.status == 200, answer.body
    return [message["n"] for message in answer.json["messages"]]


def stored(chat: Chat) -> list[dict[str, Any]]:
    """The chat's current thread, whole."""
    thread = Chat.get(chat.id, consistent_read=True).thread
    return [{**message.attribute_values, "thread": ""} for message in Message.query(thread, consistent_read=True)]


# --- reading


def test_a_chat_is_read_from_its_end_backwards(api: Api, me: Person) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 250))
    assert ns(get(api, chat, me)) == list(range(151, 251))
    assert ns(get(api, chat, me, "limit=3")) == [248, 249, 250]
    assert ns(get(api, chat, me, "limit=3&before=100")) == [97, 98, 99]
    assert ns(get(api, chat, me, "limit=3&after=100")) == [101, 102, 103]
    assert ns(get(api, chat, me, "after=100&before=103")) == [101, 102]
    assert ns(get(api, chat, me, "limit=1000")) == list(range(1, 251))
    for nothing in ("before=1", "before=0", "after=250", f"after={2**53}", "after=9&before=3"):
        assert ns(get(api, chat, me, nothing)) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=-1", "after=x", f"before={10**20}", "after=1.5"])
def test_a_window_that_is_none_is_refused(api: Api, me: Person, query: str) -> None:
    assert get(api, make_chat(me), me, query).json["code"] == "validation_error"


def walked(api: Api, chat: Chat, user: Person, query: str) -> list[list[int]]:
    """Pages of n, by following Link to its end."""
    path: str | None = f"/chats/{chat.id}?{query}"
    pages = []
    while path:
        answer = api("chats.get", "GET", path, user=user)
        pages.append(ns(answer))
        link = answer.headers.get("link")
        path = link[1 : link.index(">")] if link else None
    return pages


def test_link_leads_through_the_whole_thread_in_either_direction(api: Api, me: Person) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 10))
    assert walked(api, chat, me, "limit=4") == [[7, 8, 9, 10], [3, 4, 5, 6], [1, 2]]
    assert walked(api, chat, me, "limit=4&after=0") == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert walked(api, chat, me, "limit=5") == [[6, 7, 8, 9, 10], [1, 2, 3, 4, 5]]
    assert walked(api, chat, me, "limit=2&after=3&before=8") == [[4, 5], [6, 7]]


@pytest.mark.parametrize("content", ["x" * 100_000, "好" * 33_333, '"\\\n' * 30_000, "\x01" * 90_000])
def test_an_answer_stays_below_what_lambda_carries(api: Api, me: Person, content: str) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 60, content=content))
    first = get(api, chat, me, "limit=1000")
    # Lambda's own JSON around the body: 6 MB is what the HTTP API takes from a function.
    assert len(json.dumps(first.body, ensure_ascii=False).encode()) < 4.3 * 1024 * 1024
    assert len(ns(first)) > 5
    assert sorted(n for page in walked(api, chat, me, "limit=1000") for n in page) == list(range(1, 61))


def test_readers_of_a_shared_chat_get_full_pages_without_what_is_hidden(api: Api, me: Person, reader: Person) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 700, hidden=lambda n: n % 7 != 0))
    visible = list(range(7, 701, 7))
    assert ns(get(api, chat, reader, "limit=60")) == visible[-60:]
    assert ns(get(api, chat, reader, "limit=60&after=0")) == visible[:60]
    assert [n for page in walked(api, chat, reader, "limit=30")[::-1] for n in page] == visible
    assert ns(get(api, chat, me, "limit=5")) == [696, 697, 698, 699, 700]
    assert ns(get(api, chat, make_person(permission=2), "limit=5")) == [696, 697, 698, 699, 700]


def test_a_page_behind_much_that_is_hidden_ends_early_and_goes_on(
    api: Api, me: Person, reader: Person, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_FILTERED_READS", 3)
    monkeypatch.setattr(messages, "_FILTERED_PAGE", 10)
    chat = make_chat(me)
    fill(chat, numbered(chat, 100, hidden=lambda n: n > 2))
    counted.clear()
    assert ns(get(api, chat, reader, "limit=2")) == []
    assert len([name for name in counted if name.startswith("Query")]) == 3
    assert [page for page in walked(api, chat, reader, "limit=2") if page] == [[1, 2]]


# --- replacing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
USAGE = st.fixed_dictionaries({"input_tokens": st.integers(0, 10**6), "output_tokens": st.integers(0, 10**6)}).map(
    lambda usage: {**usage, "reasoning_tokens": 0}
)


@st.composite
def threads(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages as they can come to be stored: holes in n, hidden ones, and answers with all that they have."""
    thread = []
    for n in sorted(draw(st.sets(st.integers(1, 40), max_size=12))):
        fields: dict[str, Any] = {
            "n": n,
            "role": draw(st.sampled_from(["user", "system", "assistant"])),
            "content": draw(TEXT.filter(bool)),
            "visibility": draw(st.sampled_from([True, True, False])),
        }
        if draw(st.booleans()):  # an answer, perhaps longer than anyone may write, perhaps nothing but reasoning
            fields |= {
                "role": "assistant",
                "content": draw(st.one_of(TEXT, TEXT.map(lambda text: text + "长" * 70_000))),
                "task_id": draw(st.uuids()).hex,
                "model": "qwen-plus",
                "reasoning": draw(st.one_of(st.none(), TEXT.filter(bool))),
                "finish_reason": draw(st.sampled_from(["stop", "length", "stopped", "interrupted"])),
                "usage": draw(st.one_of(st.none(), USAGE)),
                "credits": draw(st.integers(0, 10**9)),
            }
        thread.append(fields)
    return thread


def items(chat: Chat, thread: list[dict[str, Any]]) -> list[Message]:
    return [
        Message(chat.thread, create_time=clock.timestamp(i), **{k: v for k, v in fields.items() if v is not None})
        for i, fields in enumerate(thread)
    ]


ONCE_EACH = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@ONCE_EACH
@given(thread=threads(), omit_hidden=st.booleans())
def test_reading_and_putting_back_loses_nothing(
    api: Api, me: Person, thread: list[dict[str, Any]], omit_hidden: bool
) -> None:
    chat = make_chat(me)
    fill(chat, items(chat, thread))
    before, read = stored(chat), get(api, chat, me, "limit=1000")
    placed = [message for message in read.json["messages"] if message["visibility"] or not omit_hidden]
    answer = put(api, chat, me, placed)
    assert answer.status == 200, answer.body
    assert stored(chat) == before
    again = get(api, chat, me, "limit=1000").json
    changed = ("version", "update_time")
    assert {k: v for k, v in again.items() if k not in changed} == {
        k: v for k, v in read.json.items() if k not in changed
    }
    assert again["version"] == read.json["version"] + 1
    assert Chat.get(chat.id).next_n == max((message["n"] for message in before), default=0) + 1


@ONCE_EACH
@given(thread=threads(), data=st.data())
def test_a_replacement_is_laid_out_around_what_is_hidden(
    api: Api, me: Person, thread: list[dict[str, Any]], data: st.DataObject
) -> None:
    chat = make_chat(me)
    fill(chat, items(chat, thread))
    before = {message["n"]: message for message in stored(chat)}
    placed: list[dict[str, Any]] = []
    expected: dict[int, tuple[str, str, bool, str | None]] = {
        n: (message["role"], message["content"], False, message.get("task_id"))
        for n, message in before.items()
        if not message["visibility"]
    }
    for n, message in before.items():
        fate = data.draw(st.sampled_from(["kept", "edited", "turned", "left out"]))
        role, content, visibility, task_id = (
            message["role"],
            message["content"],
            message["visibility"],
            message.get("task_id"),
        )
        if fate == "edited":
            content, task_id = content[:20] + "!", None
        elif fate == "turned":
            visibility = not visibility
        elif fate == "left out":
            continue
        sent = {"n": n, "role": role, "content": content}
        placed.append(sent if fate == "kept" else {**sent, "visibility": visibility})
        expected[n] = (role, content, visibility, task_id)
    end = Chat.get(chat.id).next_n
    for i, content in enumerate(data.draw(st.lists(TEXT.filter(bool), max_size=4))):
        placed.append({"role": "user", "content": content})
        expected[end + i] = ("user", content, True, None)
    answer = put(api, chat, me, placed)
    assert answer.status == 200, answer.body
    after = stored(chat)
    assert {m["n"]: (m["role"], m["content"], m["visibility"], m.get("task_id")) for m in after} == expected
    assert ns(answer) == sorted(expected)
    now = Chat.get(chat.id, consistent_read=True)
    assert now.message_count == len(expected)
    assert now.next_n == end + sum("n" not in message for message in placed)
    shown = [content for _, (_, content, visible, _) in sorted(expected.items()) if visible and content]
    assert now.preview == (shown[-1][:200] if shown else None)


def test_an_edited_answer_is_no_answer_any_more(api: Api, me: Person) -> None:
    chat = make_chat(me)
    answer = {
        "role": "assistant",
        "content": "No.",
        "task_id": "t",
        "model": "m",
        "finish_reason": "stop",
        "credits": 3,
    }
    fill(chat, items(chat, [{"n": 1, **answer}, {"n": 2, **answer}, {"n": 3, **answer}]))
    read = get(api, chat, me).json["messages"]
    edited = put(api, chat, me, [{**read[0], "content": "Yes."}, {**read[1], "role": "user"}, read[2]]).json["messages"]
    for message in edited[:2]:
        assert set(message) == {"n", "role", "type", "content", "visibility", "create_time"}
        assert message["create_time"] > read[0]["create_time"]
    assert edited[2] == read[2]


def test_what_does_not_fit_the_thread_is_refused(api: Api, me: Person) -> None:
    chat = make_chat(me, "a", "b", "c")
    first, second = ({"n": n, "role": "user", "content": c} for n, c in ((1, "a"), (2, "b")))
    new = {"role": "user", "content": "new"}
    refused: list[tuple[list[dict[str, Any]], str]] = [
        ([second, first], "invalid_order"),
        ([first, first], "invalid_order"),
        ([first, new, second], "invalid_order"),
        ([{**first, "n": 4}], "unknown_message"),
        ([first, {**first, "n": 2**53}], "unknown_message"),
        ([{**first, "content": ""}], "empty_message"),
        ([{**new, "content": ""}], "empty_message"),
        ([{**first, "content": "x" * 102_401}], "content_too_long"),
        ([{**new, "content": "x" * 102_401}], "content_too_long"),
        ([{**first, "type": "image"}], "invalid_image_url"),
    ]
    for placed, code in refused:
        answer = put(api, chat, me, placed)
        assert (answer.status, answer.json["code"]) == (422, code), placed
    assert Chat.get(chat.id).version == 1
    assert ns(get(api, chat, me)) == [1, 2, 3]


def test_two_thousand_messages_are_replaced_at_once(api: Api, me: Person) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 2100, hidden=lambda n: n > 2000))
    placed = [{"n": n, "role": "user", "content": "x" if n % 2 else "y"} for n in range(1, 2001)]
    answer = put(api, chat, me, placed)
    assert answer.json["message_count"] == 2100
    assert ns(answer) == list(range(2001, 2101))
    assert [message["content"] for message in stored(chat)] == ["x", "y"] * 1000 + ["x"] * 100


def test_a_thread_that_is_too_long_to_be_laid_out_is_left_alone(
    api: Api, me: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(me)
    fill(chat, numbered(chat, 30, hidden=lambda n: n > 10, content="x" * 100_000))
    monkeypatch.setattr(messages, "REPLACED_HIDDEN", 19)
    assert put(api, chat, me, []).json["code"] == "too_large"
    monkeypatch.setattr(messages, "REPLACED_HIDDEN", 20)
    monkeypatch.setattr(messages, "REPLACED_READS", 2)
    assert put(api, chat, me, []).status == 413
    assert Chat.get(chat.id).version == 1
    monkeypatch.setattr(messages, "REPLACED_READS", 4)
    assert ns(put(api, chat, me, [])) == list(range(11, 31))


@pytest.fixture
def half_done() -> Iterator[list[int]]:
    """Lets BatchWriteItem leave items over: the numbers say how many of the next calls do nothing at all."""
    left = [0]

    def refuse(params: dict[str, Any], model: Any, **_: Any) -> Any:
        if left[0] and model.name == "BatchWriteItem":
            left[0] -= 1
            asked = json.loads(params["body"])["RequestItems"]
            return AWSResponse("", 200, HTTPHeaders(), None), {
                "UnprocessedItems": asked,
                "ResponseMetadata": {"HTTPStatusCode": 200},
            }
        return None

    events = User._get_connection().connection.client.meta.events
    events.register("before-call.dynamodb.*", refuse)
    yield left
    events.unregister("before-call.dynamodb.*", refuse)


def test_what_dynamodb_leaves_over_is_written_after_all(api: Api, me: Person, half_done: list[int]) -> None:
    chat = make_chat(me, "a", "b")
    half_done[0] = 4
    assert ns(put(api, chat, me, [{"n": 2, "role": "user", "content": "b"}])) == [2]
    assert half_done[0] == 0


def test_a_replacement_that_dynamodb_does_not_take_changes_nothing(
    api: Api, me: Person, half_done: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(me, "a", "b")
    half_done[0] = 10**6
    monkeypatch.setattr(batch_write, "_PATIENCE_SECONDS", 0.05)
    answer = put(api, chat, me, [{"n": 2, "role": "user", "content": "b"}])
    assert (answer.status, answer.json["code"]) == (503, "busy")
    assert ns(get(api, chat, me)) == [1, 2]


@pytest.mark.parametrize("character", ["a", "字", "🙂"])
def test_three_million_bytes_are_appended_at_once_in_any_script(api: Api, me: Person, character: str) -> None:
    chat = make_chat(me)
    content = character * (90_000 // len(character.encode()))
    message = {"role": "user", "type": "text", "content": content}
    path = f"/chats/{chat.id}/messages"
    assert api("chats.append", "POST", path, user=me, json={"messages": [message] * 33}).status == 200
    answer = api("chats.append", "POST", path, user=me, json={"messages": [message] * 34})
    assert (answer.status, answer.json["code"]) == (413, "too_large")
