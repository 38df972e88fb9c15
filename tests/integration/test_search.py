"""GET /search: hits in one's own chats, newest chat first, and a bounded cost of each page."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aideer.chats import chat_search, messages
from aideer.core import clock
from aideer.data.models import Chat, Message
from aideer.security import budgets, limits
from aideer.web import pagination
from tests.previous import Release
from tests.support import Answer, Api, Person, make_chat, make_chats

MakePerson = Callable[..., Person]
Hit = dict[str, Any]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends by what it reads, however slow the machine is."""
    monkeypatch.setattr(chat_search, "SECONDS", 600)


def find(api: Api, me: Person, query: str) -> Answer:
    return api("search.list", "GET", f"/search?{query}", user=me)


def pages(api: Api, me: Person, query: str) -> Iterator[list[Hit]]:
    cursor: str | None = ""
    while cursor is not None:
        answer = find(api, me, f"{query}&cursor={cursor}" if cursor else query)
        assert answer.status == 200, answer.body
        yield answer.json
        cursor = answer.headers.get("x-next-cursor")


def hits(api: Api, me: Person, query: str) -> list[tuple[str, int | None]]:
    return [(hit["chat_id"], hit.get("n")) for page in pages(api, me, query) for hit in page]


def put(chat: Chat, n: int, content: str, **fields: Any) -> None:
    Message(chat.thread, n, **{"role": "user", "create_time": clock.timestamp(), **fields}, content=content).save()
    chat.update([Chat.message_count.add(1), Chat.next_n.set(n + 1), Chat.version.add(1)])


def seeded(me: Person, count: int, content: str = "Something", per_chat: int = 1) -> list[Chat]:
    """So many chats with messages, the oldest first."""
    made = make_chats(me, count, next_n=lambda _: 1 + per_chat, message_count=lambda _: per_chat)
    stamp = clock.timestamp()
    messages.write(
        [
            Message(chat.thread, n, role="user", content=content, create_time=stamp)
            for chat in made
            for n in range(1, per_chat + 1)
        ]
    )
    return made


# --- what is found


def test_messages_and_titles_are_found_with_a_snippet_and_the_place(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "天空为什么是\n蓝色的？")
    put(chat, 2, "Because blue light scatters more.", role="assistant")
    chat.update([Chat.title.set("The blue SKY"), Chat.archived.set(True)])
    shared = {"chat_id": chat.id, "title": "The blue SKY", "archived": True, "update_time": chat.update_time}
    (hit,) = find(api, me, "q=蓝色").json
    (message,) = Message.query(chat.thread, Message.n == 1)
    said = {"n": 1, "role": "user", "snippet": "天空为什么是 蓝色的？", "create_time": message.create_time}
    assert hit == {**shared, **said}
    title, answer = find(api, me, "q=BLUE").json
    assert title == {**shared, "snippet": "The blue SKY", "create_time": chat.create_time}
    assert (answer["n"], answer["role"], answer["snippet"]) == (2, "assistant", "Because blue light scatters more.")
    assert hits(api, me, "q=blue sky") == [(chat.id, None)], "all words in one text"
    assert hits(api, me, "q=green") == []
    assert hits(api, me, "q=blue&scope=titles") == [(chat.id, None)]


def test_the_newest_chat_comes_first_and_in_it_the_newest_message(api: Api, person: MakePerson) -> None:
    me = person()
    chats = seeded(me, 12, "deer", per_chat=2)
    expected = [(chat.id, n) for chat in reversed(chats) for n in (2, 1)]
    for limit in (1, 2, 3, 7, 50):
        assert hits(api, me, f"q=deer&limit={limit}") == expected, limit


def test_only_visible_texts_are_searched(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    put(chat, 1, "secret", visibility=False)
    put(chat, 2, "An answer", role="assistant", reasoning="secret")
    put(chat, 3, "https://example.com/secret.png", type="image")
    put(chat, 4, "[deer.txt]\n\nsecret", type="document")
    assert hits(api, me, "q=secret") == []


def test_nobody_finds_what_is_in_another_users_chats(api: Api, person: MakePerson) -> None:
    owner, stranger, admin = person(), person(), person(permission=2)
    chat = make_chat(owner, "A secret deer")
    chat.update([Chat.visibility.set("shared")])
    for other in (stranger, admin):
        assert hits(api, other, "q=deer") == []
        name = find(api, owner, "q=deer&limit=1").headers["x-next-cursor"]
        list_name = pagination.base64.urlsafe_b64decode(name + "==").decode().split('"')[1]
        forged = pagination.encode(list_name, [chat.update_time, chat.id, 2**53 - 1])
        assert hits(api, other, f"q=deer&cursor={forged}") == [], "not by a cursor either"


def test_deleted_chats_and_replaced_messages_are_not_found(api: Api, person: MakePerson) -> None:
    me = person()
    gone, kept = make_chat(me, "old deer"), make_chat(me, "old deer")
    api("chats.delete", "DELETE", f"/chats/{gone.id}", user=me)
    body = {"messages": [{"role": "user", "content": "new moose"}]}
    headers = {"If-Match": "*"}
    assert api("chats.update", "PUT", f"/chats/{kept.id}", json=body, user=me, headers=headers).status == 200
    assert hits(api, me, "q=deer") == []
    assert [chat_id for chat_id, _ in hits(api, me, "q=moose")] == [kept.id]
    assert list(Message.query(kept.thread, consistent_read=True)), "though the old thread is still stored"


def test_of_the_branches_only_the_shown_path_is_searched(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "root deer", "old deer", "older deer")
    tree = Chat.get(chat.id, consistent_read=True).tree
    tree.fork("other", after=1, before=1, next_n=3, count=1)
    thread = f"{chat.thread}#other"
    Message(thread, 2, role="user", content="new deer", create_time=clock.timestamp()).save()
    for name, value in tree.to_fields().items():
        setattr(chat, name, value)
    chat.save()
    for limit in (1, 50):
        assert hits(api, me, f"q=deer&limit={limit}") == [(chat.id, 2), (chat.id, 1)]
    assert hits(api, me, "q=old") == []
    assert tree.show("main")
    for name, value in tree.to_fields().items():
        setattr(chat, name, value)
    chat.save()
    assert hits(api, me, "q=deer") == [(chat.id, 3), (chat.id, 2), (chat.id, 1)]
    assert hits(api, me, "q=new") == []


def test_a_chat_that_is_deleted_between_two_pages_is_not_in_the_second(api: Api, person: MakePerson) -> None:
    me = person()
    chats = seeded(me, 3, "deer", per_chat=3)
    first = find(api, me, "q=deer&limit=2")
    assert [hit["n"] for hit in first.json] == [3, 2]
    api("chats.delete", "DELETE", f"/chats/{chats[2].id}", user=me)
    rest = hits(api, me, f"q=deer&cursor={first.headers['x-next-cursor']}")
    assert {chat_id for chat_id, _ in rest} == {chats[0].id, chats[1].id}
    assert len(rest) == 6


def test_what_the_previous_release_stored_is_found(api: Api, monkeypatch: pytest.MonkeyPatch, weixin: Any) -> None:
    release = Release(monkeypatch, weixin)
    found = 0
    for name in release.users:
        if name not in release.tokens:
            continue
        owner = release.users[name]["id"]
        for key in Chat.by_create_time.query(owner):
            chat = Chat.get(key.id, consistent_read=True)
            for message in Message.query(chat.thread, consistent_read=True):
                if message.visibility and message.type == "text" and message.content.strip():
                    words = chat_search.text_search.split_words(message.content)[0]
                    listed, _ = chat_search.search(_user(owner), words, "all", 50, None)
                    assert (chat.id, message.n) in [(hit.chat_id, hit.n) for hit in listed]
                    found += 1
    assert found > 3


def _user(user_id: str) -> Any:
    from aideer.data.models import User

    return User.get(user_id, consistent_read=True)


# --- what is refused


@pytest.mark.parametrize(
    "query", ["", "q=", f"q={'x' * 101}", "q=a&scope=messages", "q=a&limit=51", "q=a&limit=0", "q=a&x=1"]
)
def test_what_is_no_search_is_refused(api: Api, person: MakePerson, query: str) -> None:
    assert find(api, person(), query).status == 422


def test_a_search_without_a_word_is_refused(api: Api, person: MakePerson) -> None:
    answer = find(api, person(), "q=%20%20")
    assert (answer.status, answer.json["code"]) == (422, "empty_query")


def test_a_cursor_belongs_to_its_words_and_its_scope(api: Api, person: MakePerson) -> None:
    me = person()
    seeded(me, 3, "deer")
    cursor = find(api, me, "q=Deer&limit=1").headers["x-next-cursor"]
    assert find(api, me, f"q=deer&limit=1&cursor={cursor}").status == 200, "the words count as they are compared"
    for query in ("q=moose", "q=deer&scope=titles"):
        answer = find(api, me, f"{query}&cursor={cursor}")
        assert (answer.status, answer.json["code"]) == (422, "invalid_cursor")
    listed = api("chats.list", "GET", "/chats?limit=1", user=me).headers["x-next-cursor"]
    assert find(api, me, f"q=deer&cursor={listed}").status == 422


def test_a_user_searches_so_many_times_a_minute(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.LIMITS, "search", limits.Limit(2, 60))
    me = person()
    assert [find(api, me, "q=a").status for _ in range(2)] == [200, 200]
    refused = find(api, me, "q=a")
    assert (refused.status, refused.json["code"]) == (429, "too_many_searches")
    assert 0 < int(refused.headers["retry-after"]) <= 60


# --- what a page costs


def test_a_page_makes_a_bounded_number_of_calls_at_any_number_of_chats(
    api: Api, person: MakePerson, counted: list[str]
) -> None:
    find(api, person(), "q=nothing")  # a process reads its secrets once
    bills = []
    for count in (200, 10_000):
        me = person()
        seeded(me, count)
        counted.clear()
        assert find(api, me, "q=nothing").json == []
        bills.append(Counter(call.split("-")[0] for call in counted))
    assert bills[0] == bills[1]
    assert bills[0]["Query local"] == 2 + 100, "the keys in two reads, and the messages of a hundred chats"
    assert bills[0]["BatchGetItem"] == 2
    assert bills[0]["GetItem local"] + bills[0]["UpdateItem local"] <= 4, "the user, the limit and the reading"
    assert bills[0].total() <= 108


def test_a_search_that_finds_nothing_ends_after_a_page_for_each_hundred_chats(api: Api, person: MakePerson) -> None:
    me = person()
    chats = seeded(me, 250)
    put(chats[0], 2, "needle")
    found = list(pages(api, me, "q=needle"))
    assert [len(page) for page in found] == [0, 0, 1]


def test_titles_are_searched_a_thousand_chats_a_page_and_no_messages(
    api: Api, person: MakePerson, counted: list[str]
) -> None:
    me = person()
    seeded(me, 300)
    counted.clear()
    assert [len(page) for page in pages(api, me, "q=chat 00007&scope=titles")] == [1]
    names = Counter(call.split("-")[0] for call in counted)
    assert (names["Query local"], names["BatchGetItem"]) == (2, 4), "25 chats, and 275"


def test_a_page_ends_in_the_midst_of_a_long_chat_and_the_next_goes_on_there(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(chat_search, "QUERIES", 1)
    me = person()
    long, short = make_chat(me), make_chat(me, "needle here")
    short.update([Chat.update_time.set(clock.timestamp(clock.now() - 100))])
    now = clock.timestamp()
    messages.write([Message(long.thread, n, role="user", content="x" * 50_000, create_time=now) for n in range(2, 70)])
    Message(long.thread, 1, role="user", content="needle", create_time=now).save()
    long.update([Chat.message_count.set(69), Chat.next_n.set(70)])
    counted.clear()
    found = list(pages(api, me, "q=needle"))
    assert [[(hit["chat_id"], hit["n"]) for hit in page] for page in found][:-1] == [[]] * (len(found) - 1)
    assert [(hit["chat_id"], hit["n"]) for hit in found[-1]] == [(long.id, 1), (short.id, 1)]
    assert len(found) >= 3


def test_a_page_reads_a_limited_number_of_bytes(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(chat_search, "BYTES", 40_000)
    me = person()
    seeded(me, 60, "x" * 10_000)
    counted.clear()
    answer = find(api, me, "q=needle")
    assert (answer.json, "x-next-cursor" in answer.headers) == ([], True)
    assert sum(call.startswith("Query local-Messages") for call in counted) == 4
    assert hits(api, me, "q=needle") == []


def test_a_page_takes_a_limited_time(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_search, "SECONDS", -1)
    me = person()
    chats = seeded(me, 10, "deer")
    first = find(api, me, "q=deer")
    assert len(first.json) == chat_search.WIDTH, "at least something, so that each page comes further"
    assert hits(api, me, "q=deer") == [(chat.id, 1) for chat in reversed(chats)]


def test_what_a_search_reads_counts_as_reading(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.LIMITS, "read", limits.Limit(500, 3600))
    me = person()
    seeded(me, 100)
    assert budgets.BATCH < 100 * 5 * 1024
    assert [find(api, me, "q=nothing").status for _ in range(3)] == [200, 429, 429]
