"""Requests cost the same however many chats a user has and however long a chat is; a prompt costs what the model is sent.

docs/performance.md has the figures at 10,000 (tests/scale.py); the embedded AWS is too slow at that size for every run.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from aideer.chats import messages
from aideer.core import clock
from aideer.data.models import Chat, Message
from tests import capacity, scale
from tests.support import Api, Person, make_chat

MakePerson = Callable[..., Person]


@pytest.fixture(scope="module")
def bills(api: Api) -> list[dict[str, capacity.Bill]]:
    from tests.support import make_person

    found = []
    for size in (10, 1_000):
        owner = make_person()
        chat = scale.seeded(owner, size)
        found.append(scale.lists(api, owner, chat, size))
    return found


def test_pages_and_appends_make_the_same_calls_at_any_size(bills: list[dict[str, capacity.Bill]]) -> None:
    small, large = bills
    assert {name: bill.calls for name, bill in small.items()} == {name: bill.calls for name, bill in large.items()}
    listing = ["GetItem Users", "Query Chats", "BatchGetItem"]
    reading = ["GetItem Users", "GetItem Chats", "Query Messages"]
    expected = {"GET /chats?": listing, "GET /chats/{id}?": reading}
    pinned = "GET /chats?pinned=true&limit=5"
    assert large[pinned].calls == ["GetItem Users", "GetItem Records", "BatchGetItem"]
    for name, bill in large.items():
        for prefix, calls in expected.items():
            if name.startswith(prefix) and name != pinned:
                assert bill.calls == calls
    assert large["POST /chats/{id}/messages"].calls == ["GetItem Users", "GetItem Chats", "TransactWriteItems"]


def test_a_search_makes_as_many_calls_at_a_thousand_chats_as_a_page_may(api: Api) -> None:
    from tests.support import make_person

    owner = make_person()
    scale.seeded(owner, 1_000)
    search, titles, tag = (Counter(bill.calls) for bill in scale.searching(api, owner).values())
    assert (search["Query Chats"], search["BatchGetItem"]) == (2, 2)
    assert search["Query Messages"] <= 103, "a long chat may take four"
    assert (titles["Query Chats"], titles["BatchGetItem"], titles["Query Messages"]) == (2, 11, 0)
    assert (tag["Query Chats"], tag["BatchGetItem"]) == (2, 11)
    assert max(bill.total() for bill in (search, titles, tag)) <= 110


def test_pages_and_appends_consume_the_same_capacity_at_any_size(bills: list[dict[str, capacity.Bill]]) -> None:
    small, large = bills
    assert {name: (bill.read, bill.write) for name, bill in small.items()} == {
        name: (bill.read, bill.write) for name, bill in large.items()
    }
    assert max(bill.read for bill in large.values()) <= 8, "a page of five"


def long_chat(owner: Person, length: int, content: str) -> Chat:
    chat = make_chat(owner, parameters={"model": "qwen-max"})  # of a small context: 32,768 tokens
    now = clock.timestamp()
    messages.write(
        [Message(chat.thread, n, role="user", content=content, create_time=now) for n in range(1, length + 1)]
    )
    chat.update([Chat.next_n.set(length + 1), Chat.message_count.set(length)])
    return chat


def test_a_prompt_of_up_to_a_hundred_messages_is_one_query(api: Api, person: MakePerson) -> None:
    me = person()
    for length in (1, 99):
        bill = scale._bill(api, "tasks.create", "POST", "/tasks", me, {"chat_id": long_chat(me, length, "x" * 40).id})
        assert bill.calls.count("Query Messages") == 1


def test_of_a_long_chat_as_much_is_read_as_the_model_is_sent(api: Api, person: MakePerson) -> None:
    me = person()
    chat = long_chat(me, 600, "x" * 30)
    bill = scale._bill(api, "tasks.create", "POST", "/tasks", me, {"chat_id": chat.id})
    assert bill.calls.count("Query Messages") == 2, "a hundred messages, and then 1 MB at a time"


def test_what_is_too_long_for_the_model_is_refused_after_the_same_reads_at_any_length(
    api: Api, person: MakePerson
) -> None:
    me = person()
    bills = [
        scale._bill(
            api, "tasks.create", "POST", "/tasks", me, {"chat_id": long_chat(me, length, "x" * 3_000).id}, status=413
        )
        for length in (100, 1_000)
    ]
    # The count of asks runs beside the read of the chat, so their order differs.
    assert sorted(bills[0].calls) == sorted(bills[1].calls)
    assert [bill.calls.count("Query Messages") for bill in bills] == [1, 1]
    assert bills[0].read == bills[1].read
