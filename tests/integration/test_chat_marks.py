"""The owner's marks of chats: pinned, archived and tags; and lists of chats with filters."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.chats import chat_lists, chat_marks, copies
from aideer.core import clock
from aideer.core.errors import Conflict
from aideer.data.models import Chat, Record
from aideer.schemas.chats import ChatChange
from aideer.security import limits
from tests.support import Answer, Api, Person, make_chat, make_chats

MakePerson = Callable[..., Person]
NONE: dict[str, Any] = {"pinned": False, "archived": False, "tags": []}


def change(api: Api, me: Person, chat: Chat, **wanted: Any) -> Answer:
    headers = wanted.pop("headers", None)
    return api("chats.update", "PUT", f"/chats/{chat.id}", json=wanted, user=me, headers=headers)


def marks(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: shown[name] for name in NONE}


def listed(api: Api, me: Person, query: str = "") -> list[str]:
    """The titles of a list, over all its pages."""
    return [title for page in pages(api, me, query) for title in page]


def pages(api: Api, me: Person, query: str = "") -> Iterator[list[str]]:
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        answer = api("chats.list", "GET", f"/chats?{query}{more}", user=me)
        assert answer.status == 200, answer.body
        yield [chat["title"] for chat in answer.json]
        cursor = answer.headers.get("x-next-cursor")


def seeded(me: Person, count: int, **fields: Callable[[int], Any]) -> list[Chat]:
    """So many chats, the newest last, with fields that depend on their number."""
    now = clock.now()
    made = make_chats(me, count, title=lambda n: f"{n:04}", update_time=lambda n: clock.timestamp(now - n), **fields)
    pinned = {chat.id for chat in made if chat.pinned}
    if pinned:
        Record(*chat_marks._key(me.id), ids=pinned).save()
    return made


# --- marks


def test_an_owner_pins_archives_and_tags_a_chat_and_takes_it_back(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    assert marks(api("chats.get", "GET", f"/chats/{chat.id}", user=me).json) == NONE
    wanted = {"pinned": True, "archived": True, "tags": ["旅行", "work"]}
    assert marks(change(api, me, chat, **wanted).json) == wanted
    assert marks(api("chats.get", "GET", f"/chats/{chat.id}", user=me).json) == wanted
    assert marks(api("chats.list", "GET", "/chats", user=me).json[0]) == wanted
    assert marks(change(api, me, chat, title="New").json) == wanted, "what is omitted stays"
    assert marks(change(api, me, chat, pinned=None, archived=None, tags=None).json) == wanted, "and so does null"
    assert marks(change(api, me, chat, **NONE).json) == NONE
    item = Chat.get(chat.id, consistent_read=True)
    assert (item.pinned, item.archived, item.tags) == (None, None, None), "no mark takes no room"
    assert chat_marks.list_pinned(me.id) == []


def test_a_mark_is_a_new_version_and_leaves_the_order_of_the_list(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    etag = api("chats.get", "GET", f"/chats/{chat.id}", user=me).headers["etag"]
    answer = change(api, me, chat, archived=True)
    assert (answer.json["version"], answer.json["update_time"]) == (2, chat.update_time)
    again = api("chats.get", "GET", f"/chats/{chat.id}", user=me, headers={"If-None-Match": etag})
    assert again.status == 200, "the page has changed for its owner"
    assert change(api, me, chat, pinned=True, headers={"If-Match": etag}).status == 412
    both = change(api, me, chat, pinned=True, title="New").json
    assert (both["version"], both["update_time"] > chat.update_time) == (3, True)


def test_a_reader_of_a_shared_chat_sees_no_marks_and_may_set_none(api: Api, person: MakePerson) -> None:
    me, reader, admin = person(), person(), person(permission=2)
    chat = make_chat(me, "Hi")
    change(api, me, chat, pinned=True, archived=True, tags=["s3cret"], visibility="shared")
    shown = api("chats.get", "GET", f"/chats/{chat.id}", user=reader)
    assert not set(NONE) & set(shown.json)
    assert "s3cret" not in shown.body
    assert change(api, reader, chat, pinned=False).status == 403
    assert marks(api("chats.get", "GET", f"/chats/{chat.id}", user=admin).json)["tags"] == ["s3cret"]


def test_a_copy_takes_no_marks(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    change(api, me, chat, pinned=True, archived=True, tags=["work"])
    copy, _ = copies.copy(me.user, chat.id, None)
    assert marks(api("chats.get", "GET", f"/chats/{copy.id}", user=me).json) == NONE
    assert chat_marks.list_pinned(me.id) == [chat.id]


def test_the_owners_export_has_the_marks(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "Hi")
    change(api, me, chat, tags=["work"])
    assert api("chats.export", "GET", f"/chats/{chat.id}/export", user=me).json["tags"] == ["work"]


@pytest.mark.parametrize(
    ("tags", "stored"),
    [
        ([" work ", "work"], ["work"]),
        (["cafe\u0301", "caf\u00e9"], ["caf\u00e9"]),
        (["e\u0301" * 32], ["\u00e9" * 32]),
        ([str(n) for n in range(20)], [str(n) for n in range(20)]),
        (["Work", "work"], ["Work", "work"]),
    ],
    ids=["trimmed", "in NFC", "as long as may be", "as many as may be", "by case"],
)
def test_a_tag_is_stored_trimmed_in_nfc_and_once(
    api: Api, person: MakePerson, tags: list[str], stored: list[str]
) -> None:
    me = person()
    chat = make_chat(me)
    assert change(api, me, chat, tags=tags).json["tags"] == stored
    assert listed(api, me, f"tag={tags[0].strip()}") == ["Test"], "and found as it was typed"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"tags": ["x" * 33]}, "string_too_long"),
        ({"tags": [" "]}, "string_too_short"),
        ({"tags": ["a\nb"]}, "control_characters"),
        ({"tags": ["a\x07"]}, "control_characters"),
        ({"tags": ["\ud800"]}, "string_unicode"),
        ({"tags": [str(n) for n in range(21)]}, "too_long"),
        ({"tags": "work"}, "list_type"),
        ({"pinned": "yes"}, "bool_type"),
        ({"archived": 1}, "bool_type"),
    ],
    ids=str,
)
def test_what_is_no_mark_is_refused(api: Api, person: MakePerson, wanted: Any, code: str) -> None:
    me = person()
    answer = change(api, me, make_chat(me), **wanted)
    assert answer.status == 422
    assert answer.json["detail"][0]["type"] == code


def test_a_mark_is_one_read_and_one_transaction(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    chat = make_chat(me)
    counted.clear()
    assert change(api, me, chat, pinned=True, archived=True, tags=["work"]).status == 200
    assert [call.split()[0] for call in counted] == ["GetItem", "GetItem", "TransactWriteItems", "GetItem", "Query"]


# --- the limit of pins


def test_a_user_pins_so_many_chats_even_at_once(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_marks, "PINNED", 3)
    me = person()
    chats = [make_chat(me) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda chat: _pin(me, chat), chats))
    assert sorted(statuses) == [200] * 3 + [409] * 5
    assert len(chat_marks.list_pinned(me.id)) == 3
    refused = change(api, me, chats[statuses.index(409)], pinned=True, tags=["work"])
    assert (refused.status, refused.json["code"]) == (409, "too_many_pins")
    first = chats[statuses.index(200)]
    assert change(api, me, first, pinned=True).status == 200, "again is not more"
    assert change(api, me, first, pinned=False).status == 200
    assert change(api, me, chats[statuses.index(409)], pinned=True).status == 200


def _pin(me: Person, chat: Chat) -> int:
    from aideer.chats import chats  # no event in a thread: the resolver keeps one for all of them

    try:
        chats.change(me.user, chat.id, ChatChange(pinned=True), None)
    except Conflict as error:
        return error.status
    return 200


def test_a_deleted_chat_leaves_room_for_another_pin(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_marks, "PINNED", 2)
    me = person()
    one, other, third, fourth = (make_chat(me) for _ in range(4))
    for chat in (one, other):
        assert change(api, me, chat, pinned=True).status == 200
    assert api("chats.delete", "DELETE", f"/chats/{one.id}", user=me).status == 200
    assert chat_marks.list_pinned(me.id) == [other.id]
    Record(*chat_marks._key(me.id)).update([Record.ids.add({one.id})])  # it was pinned while it was deleted
    assert change(api, me, third, pinned=True).status == 200
    assert chat_marks.list_pinned(me.id) == sorted([other.id, third.id])
    assert change(api, me, fourth, pinned=True).status == 409


# --- filters


def test_a_list_without_filters_has_all_chats_as_before(api: Api, person: MakePerson) -> None:
    me = person()
    seeded(me, 4, archived=lambda n: n < 2 or None)
    assert listed(api, me) == ["0003", "0002", "0001", "0000"]
    assert listed(api, me, "archived=all") == ["0003", "0002", "0001", "0000"]


FIELDS: dict[str, Callable[[int], Any]] = {
    "archived": lambda n: n % 3 == 0 or None,
    "pinned": lambda n: n % 4 == 0 or None,
    "tags": lambda n: ["work", f"t{n % 5}"] if n % 2 else None,
}
FILTERS: dict[str, Callable[[int], bool]] = {
    "archived=true": lambda n: n % 3 == 0,
    "archived=false": lambda n: n % 3 != 0,
    "pinned=true": lambda n: n % 4 == 0,
    "pinned=false": lambda n: n % 4 != 0,
    "tag=work": lambda n: n % 2 == 1,
    "preset_id=p": lambda n: True,
    "preset_id=q": lambda n: False,
    "visibility=private": lambda n: True,
    "visibility=shared": lambda n: False,
    "pinned=true&archived=false": lambda n: n % 4 == 0 and n % 3 != 0,
    "archived=true&tag=t1": lambda n: n % 3 == 0 and n % 2 == 1 and n % 5 == 1,
    "tag=work&preset_id=p&visibility=private&pinned=false": lambda n: n % 2 == 1,
}


def test_the_pages_of_a_filter_have_each_fitting_chat_once_in_each_order(api: Api, person: MakePerson) -> None:
    me = person()
    seeded(me, 130, **FIELDS)
    for (query, fits), by, order in itertools.product(FILTERS.items(), ("create_time", "update_time"), ("asc", "desc")):
        expected = [f"{n:04}" for n in range(130) if fits(n)]
        if (by == "create_time") == (order == "desc"):
            expected.reverse()
        assert listed(api, me, f"{query}&order_by={by}&order={order}&limit=7") == expected, (query, by, order)
    assert listed(api, me, "archived=true&q=00&limit=7") == [f"{n:04}" for n in range(99, -1, -3)]
    assert listed(api, me, "pinned=true&q=00&limit=7&order=asc") == [f"{n:04}" for n in range(0, 100, 4)]


def test_a_page_looks_at_a_limited_number_of_chats_and_says_where_to_go_on(
    api: Api, person: MakePerson, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_lists, "LOOKED", 250)
    me = person()
    seeded(me, 600, archived=lambda n: n == 0 or None)
    counted.clear()
    found = []
    for page in pages(api, me, "archived=true"):
        found.append(page)
        names = Counter(call.split()[0] for call in counted)
        assert names["Query"] <= 2
        assert names["BatchGetItem"] <= 4, "11 chats, as a page may need, and 239 more"
        assert names["GetItem"] + names["UpdateItem"] <= 2, "the user and the reading budget"
        counted.clear()
    assert found == [[], [], ["0000"]]


def test_pinned_chats_are_a_record_and_one_read_among_any_number(
    api: Api, person: MakePerson, counted: list[str]
) -> None:
    me = person()
    seeded(me, 300, pinned=lambda n: n % 100 == 0 or None)
    counted.clear()
    answer = api("chats.list", "GET", "/chats?pinned=true&order_by=update_time", user=me)
    assert [chat["title"] for chat in answer.json] == ["0000", "0100", "0200"]
    assert [call.split()[0] for call in counted] == ["GetItem", "GetItem", "BatchGetItem"]


def test_a_page_of_a_filter_that_fits_all_costs_as_much_as_one_without(
    api: Api, person: MakePerson, counted: list[str]
) -> None:
    me = person()
    seeded(me, 60)
    counted.clear()
    api("chats.list", "GET", "/chats?archived=false&limit=20", user=me)
    assert [call.split()[0] for call in counted] == ["GetItem", "Query", "BatchGetItem"]


def test_chats_that_a_page_passes_over_count_as_reading(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.LIMITS, "read", limits.Limit(150, 3600))
    me = person()
    seeded(me, 200)
    statuses = [api("chats.list", "GET", "/chats?tag=none", user=me).status for _ in range(3)]
    assert statuses == [200, 429, 429]


def test_a_cursor_belongs_to_its_filters(api: Api, person: MakePerson) -> None:
    me = person()
    seeded(me, 5, pinned=lambda n: True)
    for query in ("archived=false", "pinned=true", ""):
        cursor = api("chats.list", "GET", f"/chats?{query}&limit=2", user=me).headers["x-next-cursor"]
        for other in {"archived=false", "pinned=true", "", "visibility=private"} - {query}:
            answer = api("chats.list", "GET", f"/chats?{other}&limit=2&cursor={cursor}", user=me)
            assert (answer.status, answer.json["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize(
    "query", ["archived=maybe", "pinned=1", "tag=", f"tag={'x' * 33}", "visibility=public", f"preset_id={'x' * 65}"]
)
def test_what_is_no_filter_is_refused(api: Api, person: MakePerson, query: str) -> None:
    assert api("chats.list", "GET", f"/chats?{query}", user=person()).status == 422


def test_a_filter_goes_on_by_cursor_only(api: Api, person: MakePerson) -> None:
    answer = api("chats.list", "GET", "/chats?archived=false&offset=1", user=person())
    assert (answer.status, answer.json["code"]) == (422, "offset_with_filter")


def test_the_pins_of_a_deleted_user_go(person: MakePerson) -> None:
    from aideer.accounts import deletion

    me = person()
    seeded(me, 1, pinned=lambda n: True)
    deletion.delete(me.user, me.id)
    assert deletion.remove(me.id, 1e12)
    assert deletion.finish(me.id, 1e12)
    assert chat_marks.list_pinned(me.id) == []
    assert list(Record.query(f"chats#{me.id}", consistent_read=True)) == []
