"""Likes: of what one may see, once each, and counted."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.chats import likes
from aideer.core.errors import AideerError, BadRequest, Conflict, InvalidToken
from aideer.data.base import new_id
from aideer.data.models import Chat, Preset, Record, User
from tests import faults
from tests.integration.test_chats import make_preset, plain
from tests.support import Answer, Api, Person, make_chat

MakePerson = Callable[..., Person]
KINDS = ["preset", "chat"]


def like(api: Api, user: Person, kind: str, id: str) -> Answer:
    return api(f"users.like_{kind}", "POST", f"/users/me/likes/{kind}/{id}", user=user)


def unlike(api: Api, user: Person, kind: str, id: str) -> Answer:
    return api(f"users.unlike_{kind}", "DELETE", f"/users/me/likes/{kind}/{id}", user=user)


def liked(api: Api, user: Person) -> dict[str, list[str]]:
    answer = api("users.likes", "GET", "/users/me/likes", user=user)
    assert answer.status == 200
    found: dict[str, list[str]] = answer.json
    return found


def count(preset_id: str) -> int:
    return Preset.get(preset_id, Preset.HEAD, consistent_read=True).like_count


def make(kind: str, owner: Person, *, open_to_all: bool) -> str:
    if kind == "preset":
        return make_preset(owner, "public" if open_to_all else "private")
    chat = make_chat(owner, "Hi")
    if open_to_all:
        chat.update([Chat.visibility.set("shared")])
    return chat.id


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json.get("code", "")


# --- liking


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_may_see_is_liked_once(api: Api, person: MakePerson, kind: str) -> None:
    owner, me = person(), person()
    id = make(kind, owner, open_to_all=True)
    assert (like(api, me, kind, id).status, like(api, me, kind, id).json["code"]) == (200, "already_liked")
    assert liked(api, me)[f"{kind}_ids"] == [id]
    assert like(api, owner, kind, id).status == 200, "one's own too"
    assert unlike(api, me, kind, id).json == {"message": "Not liked any more."}
    assert said(unlike(api, me, kind, id)) == (400, "not_liked")
    assert liked(api, me) == {"preset_ids": [], "chat_ids": []}
    assert liked(api, owner)[f"{kind}_ids"] == [id]


@pytest.mark.parametrize("kind", KINDS)
def test_liking_again_and_taking_back_what_is_not_liked_are_bad_requests(
    api: Api, person: MakePerson, kind: str
) -> None:
    me = person()
    id = make(kind, me, open_to_all=False)
    assert said(unlike(api, me, kind, id)) == (400, "not_liked")
    like(api, me, kind, id)
    assert said(like(api, me, kind, id)) == (400, "already_liked")


@pytest.mark.parametrize("kind", KINDS)
def test_others_private_things_are_neither_liked_nor_seen(api: Api, person: MakePerson, kind: str) -> None:
    owner, me = person(), person()
    id = make(kind, owner, open_to_all=False)
    expected = (403, "preset_private" if kind == "preset" else "forbidden")
    assert said(like(api, me, kind, id)) == said(unlike(api, me, kind, id)) == expected
    assert liked(api, me) == {"preset_ids": [], "chat_ids": []}
    assert like(api, person(permission=2), kind, id).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_not_found(api: Api, person: MakePerson, kind: str) -> None:
    me = person()
    for unknown in (new_id(), "nothing", "%23", "%F0%9F%99%82" * 4):
        assert said(like(api, me, kind, unknown)) == said(unlike(api, me, kind, unknown)) == (404, f"{kind}_not_found")
    for none in ("x" * 65, "%F0%9F%99%82" * 600):
        assert like(api, me, kind, none).status == unlike(api, me, kind, none).status == 422


def test_an_unlisted_preset_can_be_liked_by_who_knows_it(api: Api, person: MakePerson) -> None:
    preset_id = make_preset(person(), "unlisted")
    assert like(api, person(), "preset", preset_id).status == 200


def test_a_visitor_manages_their_own_likes(api: Api, person: MakePerson) -> None:
    visitor = person(permission=0)
    preset_id = make_preset(person(), "public")
    assert like(api, visitor, "preset", preset_id).status == 200
    assert liked(api, visitor)["preset_ids"] == [preset_id]
    assert unlike(api, visitor, "preset", preset_id).status == 200


def test_a_presets_likes_are_counted_where_it_is_shown(api: Api, person: MakePerson) -> None:
    owner, me = person(), person()
    preset_id = make_preset(owner, "public")
    like(api, me, "preset", preset_id)
    like(api, owner, "preset", preset_id)
    shown = api("presets.get", "GET", f"/presets/{preset_id}", user=me).json
    assert shown["like_count"] == 2
    (listed,) = [p for p in api("presets.list", "GET", "/presets?limit=100", user=owner).json if p["id"] == preset_id]
    assert listed["like_count"] == 2
    api("presets.update", "PUT", f"/presets/{preset_id}", json={"title": "New"}, user=person(permission=2))
    assert count(preset_id) == 2, "an edit keeps them"
    unlike(api, me, "preset", preset_id)
    assert count(preset_id) == 1


def test_the_newest_like_comes_first(api: Api, person: MakePerson) -> None:
    me = person()
    made = [make_preset(me) for _ in range(3)]
    for preset_id in (made[1], made[2], made[0]):
        like(api, me, "preset", preset_id)
    assert liked(api, me)["preset_ids"] == [made[0], made[2], made[1]]


# --- what becomes of it


@pytest.mark.parametrize("kind", KINDS)
def test_a_like_outlives_what_it_is_of_until_it_is_taken_back(api: Api, person: MakePerson, kind: str) -> None:
    owner, me = person(), person()
    gone = make(kind, owner, open_to_all=True)
    hidden = make(kind, owner, open_to_all=True)
    for id in (gone, hidden):
        assert like(api, me, kind, id).status == 200
    if kind == "preset":
        Preset(gone, Preset.HEAD).delete()
        Preset(hidden, Preset.HEAD).update([Preset.visibility.set("private")])
    else:
        api("chats.delete", "DELETE", f"/chats/{gone}", user=owner)
        Chat(hidden).update([Chat.visibility.set("private")])
    assert liked(api, me)[f"{kind}_ids"] == [hidden, gone]
    assert unlike(api, me, kind, hidden).status == unlike(api, me, kind, gone).status == 200
    assert liked(api, me)[f"{kind}_ids"] == []
    assert unlike(api, me, kind, gone).status == 404
    assert unlike(api, me, kind, hidden).status == 403
    if kind == "preset":
        assert count(hidden) == 0
        assert [item.version for item in Preset.query(gone, consistent_read=True)] == [1], "no head is made again"


def test_a_preset_that_turns_private_at_that_moment_is_not_liked(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, preset_id = person(), make_preset(person(), "public")

    def record_and_hide(*of: Any) -> Record:
        Preset(preset_id, Preset.HEAD).update([Preset.visibility.set("private")])
        return Record(likes._pk(of[0]), f"{of[1]}#{of[2]}")

    monkeypatch.setattr(likes, "_record", record_and_hide)
    with pytest.raises(AideerError) as refused:
        likes.like(me.user, "preset", preset_id)
    assert (refused.value.code, count(preset_id), me.user.like_count) == ("preset_private", 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_an_end_to_likes(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(likes, "MOST", 2)
    me = person()
    first, second, third = (make(kind, me, open_to_all=False) for _ in range(3))
    like(api, me, kind, first)
    like(api, me, kind, second)
    assert said(like(api, me, kind, third)) == (409, "too_many_likes")
    assert said(like(api, me, kind, first)) == (400, "already_liked")
    unlike(api, me, kind, first)
    assert like(api, me, kind, third).status == 200
    assert me.user.like_count == 2


@pytest.mark.parametrize("counted_before", [True, False], ids=["counted", "of release 0.1.0"])
def test_of_many_likes_at_once_no_more_are_made_than_one_may_have(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, counted_before: bool
) -> None:
    monkeypatch.setattr(likes, "MOST", 3)
    me = person()
    ids = [make("chat", me, open_to_all=False) for _ in range(10)]
    likes.like(me.user, "chat", ids.pop())
    if not counted_before:
        forget_the_count(me)
    user = me.user

    def made(id: str) -> bool:
        try:
            likes.like(user, "chat", id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(9) as pool:
        assert sum(pool.map(made, ids)) == 2
    assert len(likes.list_all(me.user).chat_ids) == me.user.like_count == 3


def forget_the_count(person: Person) -> None:
    """Have a user be as release 0.1.0 left them."""
    User(person.id).update([User.like_count.remove()])


@pytest.mark.parametrize("kind", KINDS)
def test_likes_of_the_previous_release_are_counted_at_the_next_change(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(likes, "MOST", 2)
    me = person()
    first, second, third = (make(kind, me, open_to_all=False) for _ in range(3))
    like(api, me, kind, first)
    like(api, me, kind, second)
    forget_the_count(me)
    assert said(like(api, me, kind, first)) == (400, "already_liked")
    forget_the_count(me)
    assert said(like(api, me, kind, third)) == (409, "too_many_likes")
    forget_the_count(me)
    assert unlike(api, me, kind, first).status == 200
    assert me.user.like_count == 1
    forget_the_count(me)
    assert like(api, me, kind, third).status == 200
    assert me.user.like_count == 2
    assert kind == "chat" or [count(id) for id in (first, second, third)] == [0, 1, 1]


def test_a_like_that_was_never_counted_is_taken_back(api: Api, person: MakePerson) -> None:
    me = person()
    id = make("preset", me, open_to_all=False)
    like(api, me, "preset", id)
    User(me.id).update([User.like_count.set(0)])  # as if a function of release 0.1.0 had written the like
    assert unlike(api, me, "preset", id).status == 200
    assert (me.user.like_count, count(id)) == (0, 0)


@pytest.mark.parametrize("act", [likes.like, likes.unlike])
def test_who_is_deleted_in_that_moment_changes_no_like(person: MakePerson, act: Callable[..., None]) -> None:
    me, chat_id = person(), make("chat", person(), open_to_all=True)
    if act is likes.unlike:
        likes.like(me.user, "chat", chat_id)
    as_read = me.user
    User(me.id).update([User.deleted.set(True)])
    with pytest.raises(InvalidToken):
        act(as_read, "chat", chat_id)
    assert len(likes.list_all(as_read).chat_ids) == (act is likes.unlike)


def test_a_thousand_likes_are_one_answer(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    with Record.batch_write() as batch:
        for n in range(likes.MOST):
            batch.save(Record(f"likes#{me.id}", f"{KINDS[n % 2]}#{new_id()}", at=n))
    counted.clear()
    found = liked(api, me)
    assert [len(found[f"{kind}_ids"]) for kind in KINDS] == [500, 500]
    assert Counter(plain(counted)) == Counter(["GetItem Users", "Query Records"])


# --- at once, and on a bad day


def outcome(person: Person, act: Callable[..., None], preset_id: str) -> int:
    try:
        act(person.user, "preset", preset_id)
    except BadRequest:
        return 0
    return 1


def test_liked_or_taken_back_many_times_at_once_it_counts_once(person: MakePerson) -> None:
    me, preset_id = person(), make_preset(person(), "public")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: outcome(me, likes.like, preset_id), range(8))) == 1
        assert count(preset_id) == 1
        assert sum(pool.map(lambda _: outcome(me, likes.unlike, preset_id), range(8))) == 1
    assert count(preset_id) == me.user.like_count == 0


def test_of_many_who_like_one_preset_at_once_everyone_counts(person: MakePerson) -> None:
    preset_id = make_preset(person(), "public")
    fans = [person() for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(lambda fan: outcome(fan, likes.like, preset_id), fans)) == 12
    assert count(preset_id) == 12


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.THROTTLED),
        lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500),
        lambda: faults.answer_lost("TransactWriteItems"),
    ],
    ids=["conflict", "throttled", "internal error", "lost answer"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_bad_day_too_a_like_counts_once(
    api: Api, person: MakePerson, kind: str, fault: Callable[[], object]
) -> None:
    me = person()
    id = make(kind, me, open_to_all=False)
    with fault():  # type: ignore[attr-defined]
        assert like(api, me, kind, id).status == 200
    assert kind == "chat" or count(id) == 1
    assert me.user.like_count == 1
    with fault():  # type: ignore[attr-defined]
        assert unlike(api, me, kind, id).status == 200
    assert kind == "chat" or count(id) == 0
    assert liked(api, me) == {"preset_ids": [], "chat_ids": []}


def test_what_likes_cost(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    user, record = "GetItem Users", "GetItem Records"
    for kind, found in (("preset", "GetItem Presets"), ("chat", "GetItem Chats")):
        id = make(kind, me, open_to_all=False)
        counted.clear()
        like(api, me, kind, id)
        unlike(api, me, kind, id)
        liking = [user, found, "TransactWriteItems"]
        unliking = [user, record, "TransactWriteItems"]
        assert Counter(plain(counted)) == Counter([*liking, *unliking])


# --- the end of a user


def test_with_a_user_go_their_likes_and_what_they_count(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    public, gone, chat_id = (
        make_preset(other, "public"),
        make_preset(other, "public"),
        make("chat", me, open_to_all=True),
    )
    for fan in (me, other):
        like(api, fan, "preset", public)
        like(api, fan, "chat", chat_id)
    like(api, me, "preset", gone)
    Preset(gone, Preset.HEAD).delete()
    assert not likes.remove_all(me.id, time.monotonic() - 1)
    assert likes.remove_all(me.id, time.monotonic() + 60)
    assert likes.remove_all(me.id, time.monotonic() + 60), "worked again, it changes nothing"
    assert count(public) == 1
    assert liked(api, me) == {"preset_ids": [], "chat_ids": []}
    assert liked(api, other) == {"preset_ids": [public], "chat_ids": [chat_id]}


def test_removing_all_likes_goes_on_where_it_was_broken_off(api: Api, person: MakePerson) -> None:
    me = person()
    made = [make_preset(me) for _ in range(4)]
    for preset_id in made:
        like(api, me, "preset", preset_id)
    with (
        faults.refused("TransactWriteItems", b'{"__type":"com.amazonaws.dynamodb.v20120810#AccessDenied"}'),
        pytest.raises(Exception, match="transaction"),
    ):
        likes.remove_all(me.id, time.monotonic() + 60)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: likes.remove_all(me.id, time.monotonic() + 60), range(2)))
    assert [count(preset_id) for preset_id in made] == [0] * 4
