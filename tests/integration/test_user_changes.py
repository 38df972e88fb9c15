"""Looking at users, listing them, and changing them: names, permissions, passwords."""

import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from aideer.accounts import deletion, password_changes, user_search, users
from aideer.billing import credits
from aideer.core import clock, settings
from aideer.core.errors import AideerError, Busy
from aideer.data.base import new_id
from aideer.data.models import Identity, Record, User
from aideer.schemas.users import PasswordChange, UserChange
from aideer.security import auth, password_hashing, public_names, rate_limits
from aideer.security.limits import Limit
from aideer.web import pagination
from tests import faults
from tests.support import Answer, Api, Person, recorded_calls

MakePerson = Callable[..., Person]
NOBODY = "01900000-0000-7000-8000-000000000000"


def fresh() -> str:
    return f"Name {uuid4().hex[:12]}"


def get(api: Api, user_id: str, viewer: Person) -> Answer:
    return api("users.get", "GET", f"/users/{user_id}", user=viewer)


def put(api: Api, user_id: str, actor: Person, **body: Any) -> Answer:
    return api("users.update", "PUT", f"/users/{user_id}", json=body, user=actor)


def listed(api: Api, actor: Person, query: str = "") -> Answer:
    return api("users.list", "GET", f"/users{query}", user=actor)


def sign_in(api: Api, username: str, password: str) -> Answer:
    form = {"grant_type": "password", "username": username, "password": password}
    return api("session.create", "POST", "/session/oauth2/token", form=form)


def of_wechat() -> Person:
    """Somebody who came by WeChat and has neither a name nor a password."""
    now = clock.timestamp()
    key = f"wechat#{uuid4().hex}"
    user = User(new_id(), nickname="Deer", permission=1, wechat_keys={key}, create_time=now, update_time=now)
    credits.sign_up(user, Identity(key, user_id=user.id, session_key="none"), 1000)
    pair = auth.issue_pair(User.get(user.id, consistent_read=True), "wechat")
    return Person(user.id, "", "", pair["access_token"], pair["refresh_token"])


# --- looking


def test_oneself_and_administrators_see_all_of_a_user_and_others_who_they_are(api: Api, person: MakePerson) -> None:
    me, other, admin = person(), person(permission=0), person(permission=2)
    whole = api("users.me", "GET", "/users/me", user=me).json
    assert get(api, me.id, me).json == whole
    assert get(api, me.id, admin).json == whole
    shown = get(api, me.id, other)
    assert shown.status == 200
    name = public_names.get_public_name(me.user)
    assert shown.json == {"id": me.id, "nickname": name, "avatar": None, "avatar_url": None}


def test_who_is_unknown_is_not_there(api: Api, person: MakePerson) -> None:
    for viewer in (person(), person(permission=2)):
        answer = get(api, NOBODY, viewer)
        assert (answer.status, answer.json["code"]) == (404, "user_not_found")
    assert get(api, "x" * 65, person()).status == 422


# --- listing


def test_administrators_list_users_newest_first_and_page_through_all_of_them(api: Api, person: MakePerson) -> None:
    people = [person(permission=0).id for _ in range(25)]
    admin = person(permission=2)
    found, query = [], "?limit=10"
    while True:
        answer = listed(api, admin, query)
        assert answer.status == 200
        found += [user["id"] for user in answer.json]
        if "x-next-cursor" not in answer.headers or set(people) <= set(found):
            break
        query = f"?limit=10&cursor={answer.headers['x-next-cursor']}"
    assert found[:26] == [admin.id, *reversed(people)]
    assert len(set(found)) == len(found)
    [second] = listed(api, admin, "?limit=1&offset=1").json
    assert second["id"] == people[-1]
    assert second["credits_left"] == 1_000_000


def test_the_last_page_says_so(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    first = min(User.scan(User.list_shard.exists()), key=lambda user: user.id)
    cursor = _cursor(api, admin, first.id)
    assert listed(api, admin, f"?cursor={cursor}").json == []
    assert "link" not in listed(api, admin, f"?cursor={cursor}").headers


def _cursor(api: Api, admin: Person, user_id: str) -> str:
    from aideer.web import pagination

    return pagination.encode("users", [user_id])


@pytest.mark.parametrize("cursor", ["x", "WyJ1c2VycyIsIiJd", "WyJjaGF0cyIsIjEiXQ", "WyJ1c2VycyIsMV0"])
def test_a_cursor_of_no_such_list_is_refused(api: Api, person: MakePerson, cursor: str) -> None:
    answer = listed(api, person(permission=2), f"?cursor={cursor}")
    assert (answer.status, answer.json["code"]) == (422, "invalid_cursor")


def test_a_name_finds_exactly_its_user_in_any_spelling(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    [found] = listed(api, admin, f"?username={me.username.upper()}").json
    assert found["id"] == me.id
    for name in (me.username[:-1], "", "%20", "%00"):
        assert listed(api, admin, f"?username={name}").json == []


def search(api: Api, admin: Person, text: str, limit: int) -> list[str]:
    """Return the names on all pages of a search, and check that none is longer than `limit`."""
    names, cursor = [], ""
    while True:
        page = listed(api, admin, f"?q={quote(text)}&limit={limit}{cursor}")
        assert page.status == 200
        assert len(page.json) <= limit
        names += [user["username"] for user in page.json]
        if "x-next-cursor" not in page.headers:
            return names
        cursor = f"&cursor={page.headers['x-next-cursor']}"


def test_a_search_finds_all_names_that_begin_so_in_their_order(api: Api, person: MakePerson) -> None:
    admin, start = person(permission=2), f"Fawn {uuid4().hex[:8]}"
    names = [f"{start}{end}" for end in ("", "!", "a", "aa", "b", "z", "é", "鹿", "𠀀")]
    for name in reversed(names):
        users.change((one := person()).user, one.id, UserChange(username=name))
    users.change((one := person()).user, one.id, UserChange(username=f"{start[:-1]}-"))
    for limit in (1, 2, 3, 100):
        assert search(api, admin, start, limit) == names
    assert search(api, admin, f"{start}a", 1) == [f"{start}a", f"{start}aa"]
    assert search(api, admin, f"{start}nobody", 5) == []


def test_a_search_finds_the_whole_name_in_any_spelling_first(api: Api, person: MakePerson) -> None:
    admin, name = person(permission=2), f"Doe {uuid4().hex[:8]}"
    users.change((one := person()).user, one.id, UserChange(username=name))
    users.change((other := person()).user, other.id, UserChange(username=f"{name.upper()} the second"))
    for text in (name, name.upper()):
        for limit in (1, 5):
            assert search(api, admin, text, limit) == [name, f"{name.upper()} the second"]


def test_a_search_finds_names_in_capital_and_small_letters(api: Api, person: MakePerson) -> None:
    admin, tail = person(permission=2), uuid4().hex[:6]
    start = f"éan{tail}"
    names = [f"ÉAN{tail.upper()}a", f"Éan{tail}c", f"éAN{tail}", f"éan{tail}B", f"éan{tail}b1"]
    others = [f"Éam{tail}", f"ÉAZ{tail}", f"éay{tail}", f"F{tail}"]
    for name in (*names, *others):
        users.change((one := person()).user, one.id, UserChange(username=name))
    expected = [names[2], *sorted({*names} - {names[2]})]
    for text in (start, start.upper(), unicodedata.normalize("NFD", start), f"Éan{tail}"):
        for limit in (1, 2, 100):
            assert search(api, admin, text, limit) == expected, (text, limit)


def test_a_search_goes_on_where_a_page_has_read_enough(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, tail = person(permission=2), uuid4().hex[:6]
    for each in ("Yab0", "Yac", "Yb", "yAb1", "yB2", "yab3"):
        users.change((one := person()).user, one.id, UserChange(username=f"{each}{tail}"))
    monkeypatch.setattr(user_search, "SEEKS", 1)
    found = search(api, admin, "yab", 100)
    assert [name for name in found if name.endswith(tail)] == [f"Yab0{tail}", f"yAb1{tail}", f"yab3{tail}"]


def test_a_search_forgets_renamed_and_deleted_users(api: Api, person: MakePerson) -> None:
    admin, user, start = person(permission=2), person(), f"Elk{uuid4().hex[:8]}"
    users.change(user.user, user.id, UserChange(username=f"{start} one"))
    users.change(user.user, user.id, UserChange(username=f"{start} two"))
    assert search(api, admin, start, 5) == [f"{start} two"]
    deletion.delete(user.user, user.id)
    assert search(api, admin, start, 5) == []


def test_a_search_is_bounded_and_refuses_what_is_not_its_own(api: Api, person: MakePerson) -> None:
    admin, start = person(permission=2), f"Roe{uuid4().hex[:8]}"
    for n in range(12):
        users.change((one := person()).user, one.id, UserChange(username=f"{start}{n:02}"))
    listed(api, admin)
    with recorded_calls() as calls:
        page = listed(api, admin, f"?q={start}&limit=5")
    counts = Counter(call.split()[0] for call in calls)
    queries = counts.pop("Query")
    assert counts == {"GetItem": 2, "BatchGetItem": 1, "PutItem": 1}
    assert queries % User.LIST_SHARDS == 0
    assert queries <= user_search.SEEKS * User.LIST_SHARDS
    cursor = page.headers["x-next-cursor"]
    for query in (f"?q={start}x&cursor={cursor}", f"?cursor={cursor}", "?q=a&cursor=x", f"?q={'x' * 51}"):
        assert listed(api, admin, query).status == 422, query
    assert listed(api, admin, "?q=a&offset=1").json["code"] == "offset_with_filter"
    assert listed(api, admin, "?q=").json == []
    for after in ("!", "s", f"{start}{'x' * 1024}"):
        forged = pagination.encode(f"users like {start}", [after])
        assert listed(api, admin, f"?q={start}&cursor={forged}").json["code"] == "invalid_cursor"


def test_only_administrators_list_users(api: Api, person: MakePerson) -> None:
    answer = listed(api, person())
    assert (answer.status, answer.json["code"]) == (403, "not_admin")


def test_a_page_costs_the_same_however_many_users_there_are(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    shards, table = [f"Query {settings.USERS_TABLE}"] * User.LIST_SHARDS, settings.USERS_TABLE
    for _ in range(2):
        with recorded_calls() as calls:
            assert len(listed(api, admin, "?limit=5").json) == 5
        assert Counter(calls) == Counter(
            [f"GetItem {table}", *shards, "BatchGetItem", f"PutItem {settings.AUDIT_TABLE}"]
        )
        for _ in range(30):
            person(permission=0)


# --- names


def test_a_new_name_is_the_one_to_sign_in_with(api: Api, person: MakePerson) -> None:
    me, name = person(), fresh()
    answer = put(api, me.id, me, username=name, nickname="Little Deer")
    assert (answer.status, answer.json["username"], answer.json["nickname"]) == (200, name, "Little Deer")
    assert sign_in(api, name, me.password).status == 200
    assert sign_in(api, me.username, me.password).status == 400
    assert api("users.me", "GET", "/users/me", user=me).json == answer.json, "and the session goes on"
    again = {"username": me.username, "password": "secret-123"}
    assert api("users.create", "POST", "/users", json=again).status == 200, "the old one is free"


def test_what_is_not_given_stays(api: Api, person: MakePerson) -> None:
    me = person()
    before = get(api, me.id, me).json
    assert put(api, me.id, me).json == before
    assert put(api, me.id, me, username=None, nickname=None, permission=None).json == before
    assert put(api, me.id, me, nickname=before["nickname"]).json == before
    after = put(api, me.id, me, nickname="New").json
    assert after.pop("update_time") > before.pop("update_time")
    assert after == {**before, "nickname": "New"}


def test_another_spelling_of_ones_own_name_is_no_other_name(api: Api, person: MakePerson) -> None:
    me = person()
    assert put(api, me.id, me, username=me.username.upper()).json["username"] == me.username.upper()
    assert sign_in(api, me.username, me.password).status == 200


def test_a_name_that_is_taken_is_refused_in_all_its_spellings(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    answer = put(api, me.id, me, username=other.username.upper(), nickname="New")
    assert (answer.status, answer.json["code"]) == (400, "username_taken")
    assert me.user.nickname == me.username, "and nothing else happened"
    assert sign_in(api, me.username, me.password).status == 200


def test_of_twenty_who_want_one_name_at_once_one_gets_it(api: Api, person: MakePerson) -> None:
    people, name = [person() for _ in range(20)], fresh()

    def attempt(me: Person) -> str:
        try:
            users.change(me.user, me.id, UserChange(username=name))
        except AideerError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(attempt, people))
    assert sorted(told) == ["done"] + ["username_taken"] * 19
    winner = people[told.index("done")]
    assert Identity.get(users.password_key(name)).user_id == winner.id
    for me in people:
        expected = name if me is winner else me.username
        assert me.user.username == expected
        assert sign_in(api, expected, me.password).status == 200


def test_of_many_names_that_one_takes_at_once_the_last_is_theirs_and_the_others_are_free(person: MakePerson) -> None:
    me = person()
    names = [fresh() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: users.change(me.user, me.id, UserChange(username=name)), names))
    kept = me.user.username
    assert kept in names
    for name in [me.username, *names]:
        identities = list(Identity.query(users.password_key(name), consistent_read=True))
        assert [identity.user_id for identity in identities] == ([me.id] if name == kept else [])


def test_a_name_and_a_password_that_change_at_once_both_hold(api: Api, person: MakePerson) -> None:
    for _ in range(5):
        me, name = person(), fresh()
        with ThreadPoolExecutor(2) as pool:
            renamed = pool.submit(users.change, me.user, me.id, UserChange(username=name))
            wanted = PasswordChange(old_password=me.password, new_password="battery staple")
            changed = pool.submit(password_changes.change_own, me.user, wanted)
            renamed.result()
            changed.result()
        assert sign_in(api, name, "battery staple").status == 200
        assert sign_in(api, name, me.password).status == 400


@pytest.mark.parametrize("lost", [1, 2])
def test_a_change_whose_answer_is_lost_has_happened_once(api: Api, person: MakePerson, lost: int) -> None:
    me, name = person(), fresh()
    with faults.answer_lost("TransactWriteItems", times=lost):
        answer = put(api, me.id, me, username=name)
    assert (answer.status, answer.json["username"]) == (200, name)
    assert sign_in(api, name, me.password).status == 200


def test_a_conflict_is_no_refusal(api: Api, person: MakePerson) -> None:
    me = person()
    with faults.refused("TransactWriteItems", faults.CONFLICT, times=2):
        assert put(api, me.id, me, username=fresh()).status == 200


def test_who_came_by_wechat_takes_a_name_and_then_a_first_password(api: Api) -> None:
    me, name = of_wechat(), fresh()
    refused = api("users.change_password", "PUT", "/users/me/password", json={"new_password": "first-one"}, user=me)
    assert (refused.status, refused.json["code"]) == (400, "no_username")
    assert put(api, me.id, me, username=name).json["username"] == name
    assert sign_in(api, name, "").status == 400, "the name is kept for them, and signs nobody in"
    other = fresh()
    assert put(api, me.id, me, username=other).status == 200
    wrong = {"old_password": "guessed", "new_password": "first-one"}
    assert api("users.change_password", "PUT", "/users/me/password", json=wrong, user=me).status == 400
    first = api("users.change_password", "PUT", "/users/me/password", json={"new_password": "first-one"}, user=me)
    assert first.status == 200
    assert sign_in(api, other, "first-one").status == 200


@pytest.mark.parametrize(
    "wrong", [{"username": "a"}, {"nickname": ""}, {"permission": 3}, {"permission": True}, {"x": 1}]
)
def test_what_cannot_be_is_refused(api: Api, person: MakePerson, wrong: dict[str, Any]) -> None:
    me = person()
    answer = put(api, me.id, me, **wrong)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


# --- who may


def test_only_oneself_and_administrators_change_a_user(api: Api, person: MakePerson) -> None:
    me, other, admin, visitor = person(), person(), person(permission=2), person(permission=0)
    answer = put(api, me.id, other, nickname="Theirs")
    assert (answer.status, answer.json["code"]) == (403, "not_you")
    assert put(api, me.id, admin, nickname="Ours").json["nickname"] == "Ours"
    assert put(api, visitor.id, visitor, nickname="Mine").status == 200
    assert put(api, NOBODY, admin, nickname="Nobody's").status == 404


def test_administrators_give_and_take_permissions_but_not_their_own(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    for permission in (0, 2, 1):
        assert put(api, me.id, admin, permission=permission).json["permission"] == permission
    answer = put(api, me.id, me, permission=1, nickname="New")
    assert (answer.status, answer.json["code"]) == (403, "not_admin")
    assert me.user.nickname == me.username
    answer = put(api, admin.id, admin, permission=1)
    assert (answer.status, answer.json["code"]) == (403, "own_permission")


def test_of_two_administrators_who_lower_each_other_at_once_one_stays(person: MakePerson) -> None:
    for _ in range(5):
        pair = person(permission=2), person(permission=2)
        both_admins = [
            one.user for one in pair
        ]  # read before either acts, as two requests that passed the door together

        def lower(actor: User, other: User) -> str:
            try:
                users.change(actor, other.id, UserChange(permission=1))
            except AideerError as error:
                return error.code
            return "done"

        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(lower, both_admins, reversed(both_admins)))
        assert sorted(told) == ["done", "not_admin"]
        assert sorted(one.user.permission for one in pair) == [1, 2]


def test_what_changes_cost(api: Api, person: MakePerson) -> None:
    me = person()
    one, other = f"GetItem {settings.USERS_TABLE}", f"GetItem {settings.IDENTITIES_TABLE}"
    with recorded_calls() as calls:
        put(api, me.id, me, nickname="New")
    assert Counter(calls) == Counter([one, one, "TransactWriteItems", one])
    with recorded_calls() as calls:
        put(api, me.id, me, username=fresh())
    counted = f"UpdateItem {settings.RECORDS_TABLE}"
    assert Counter(calls) == Counter([one, counted, one, other, "TransactWriteItems", one, counted])


# --- passwords


def change_password(api: Api, me: Person, new: str, old: str | None = None) -> Answer:
    body = {"new_password": new, **({} if old is None else {"old_password": old})}
    return api("users.change_password", "PUT", "/users/me/password", json=body, user=me)


def test_a_new_password_ends_all_sessions_and_the_old_one(api: Api, person: MakePerson) -> None:
    me = person()
    assert change_password(api, me, "battery staple", me.password).status == 200
    assert api("users.me", "GET", "/users/me", user=me).status == 401
    assert sign_in(api, me.username, me.password).status == 400
    token = sign_in(api, me.username, "battery staple").json["access_token"]
    assert api("users.me", "GET", "/users/me", token=token).status == 200


@pytest.mark.parametrize("old", ["wrong-one", None, ""])
def test_without_the_old_password_nothing_changes(api: Api, person: MakePerson, old: str | None) -> None:
    me = person()
    answer = change_password(api, me, "battery staple", old)
    assert (answer.status, answer.json["code"]) == (400, "wrong_password")
    assert sign_in(api, me.username, me.password).status == 200


def test_guesses_of_the_old_password_end(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(3, 900))
    me = person()
    for _ in range(3):
        assert change_password(api, me, "battery staple", "wrong-one").status == 400
    answer = change_password(api, me, "battery staple", me.password)
    assert answer.status == 429
    assert 0 < int(answer.headers["retry-after"]) <= 900


def test_what_was_no_guess_is_not_counted(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(1, 900))
    me = person()
    for old, new in ((me.password, "second-one"), ("second-one", "third-one")):
        assert change_password(api, me, new, old).status == 200
        me.token = sign_in(api, me.username, new).json["access_token"]


@pytest.mark.parametrize("broken", [Busy, KeyError])
def test_a_fault_is_no_guess_of_the_old_password(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, broken: type[Exception]
) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(1, 900))
    me = person()

    def fail(*_: Any) -> bool:
        raise broken

    for place in ("_is_old", "_replacement"):
        with monkeypatch.context() as patch:
            patch.setattr(password_changes, place, fail)
            assert {change_password(api, me, "battery staple", me.password).status for _ in range(3)} <= {500, 503}
    assert change_password(api, me, "battery staple", me.password).status == 200


def test_a_common_new_password_is_no_guess_of_the_old_one(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(1, 900))
    me = person()
    for old in (me.password, "wrong-one"):
        assert change_password(api, me, "password", old).json["code"] == "common_password"
    assert change_password(api, me, "battery staple", "wrong-one").status == 400
    assert change_password(api, me, "battery staple", me.password).status == 429


def test_a_change_that_is_refused_for_another_reason_is_no_taken_name(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "name", Limit(1, 900))
    me, other = person(), person()
    for _ in range(3):
        body = {"username": "battery", "current_password": me.password}
        assert api("users.update", "PUT", f"/users/{other.id}", json=body, user=me).status == 403
    free = {"username": f"free{new_id()[-12:]}"}
    assert api("users.update", "PUT", f"/users/{me.id}", json=free, user=me).status == 200


def test_of_two_new_passwords_at_once_one_holds(api: Api, person: MakePerson) -> None:
    me = person()
    new = [f"new-password-{n}" for n in range(4)]
    user = me.user

    def attempt(password: str) -> str:
        try:
            password_changes.change_own(user, PasswordChange(old_password=me.password, new_password=password))
        except AideerError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(attempt, new))
    assert told.count("done") == 1
    assert set(told) <= {"done", "wrong_password", "token_revoked"}
    for password, answer in zip(new, told, strict=True):
        assert sign_in(api, me.username, password).status == (200 if answer == "done" else 400)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_password_change_whose_answer_is_lost_has_happened(api: Api, person: MakePerson, lost: int) -> None:
    me = person()
    version = me.user.token_version
    with faults.answer_lost("TransactWriteItems", times=lost):
        assert change_password(api, me, "battery staple", me.password).status == 200
    assert me.user.token_version == version + 1
    assert sign_in(api, me.username, "battery staple").status == 200


def test_administrators_give_passwords(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    path, body = f"/users/{me.id}/password", {"new_password": "battery staple"}
    refused = api("users.set_password", "PUT", path, json=body, user=me)
    assert (refused.status, refused.json["code"]) == (403, "not_admin")
    assert api("users.set_password", "PUT", path, json=body, user=admin).status == 200
    assert api("users.me", "GET", "/users/me", user=me).status == 401
    assert sign_in(api, me.username, "battery staple").status == 200
    unknown = api("users.set_password", "PUT", f"/users/{NOBODY}/password", json=body, user=admin)
    assert (unknown.status, unknown.json["code"]) == (404, "user_not_found")
    nameless = api("users.set_password", "PUT", f"/users/{of_wechat().id}/password", json=body, user=admin)
    assert (nameless.status, nameless.json["code"]) == (400, "no_username")
    own = api("users.set_password", "PUT", f"/users/{admin.id}/password", json=body, user=admin)
    assert own.status == 200
    assert sign_in(api, admin.username, "battery staple").status == 200


def test_who_is_no_administrator_any_more_gives_no_password(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, admin = person(), person(permission=2)
    was = admin.user
    User(admin.id).update([User.permission.set(1)])
    with pytest.raises(AideerError) as refusal:
        password_changes.set_for_user(was, me.id, PasswordChange(new_password="battery staple"))
    assert refusal.value.code == "not_admin"
    User(admin.id).update([User.deleted.set(True)])
    with pytest.raises(AideerError) as refusal:
        users.change(was, me.id, UserChange(permission=0))
    assert refusal.value.code == "token_revoked"
    assert password_hashing.is_match(Identity.get(users.password_key(me.username)).password_hash, me.password)


def test_no_answer_and_no_log_holds_a_password(
    api: Api, person: MakePerson, capsys: pytest.CaptureFixture[str]
) -> None:
    me = person()
    for body in ({"new_password": "12345"}, {"old_password": "open sesame", "new_password": ["battery staple"]}):
        answer = api("users.change_password", "PUT", "/users/me/password", json=body, user=me)
        assert answer.status == 422
        assert not any(secret in answer.body for secret in ("12345", "open sesame", "battery"))
    change_password(api, me, "battery staple", "open sesame")
    assert not any(secret in "".join(capsys.readouterr()) for secret in ("open sesame", "battery staple"))
    assert not any("sesame" in str(record.attribute_values) for record in Record.scan())


@pytest.mark.parametrize("permission", [0, 1, 2])
def test_me_stands_for_oneself(api, person, permission):
    me = person(permission=permission)
    answer = api("users.update", "PUT", "/users/me", json={"nickname": "Fawn"}, user=me, parameters={"id": "me"})
    assert (answer.status, answer.json["id"], answer.json["nickname"]) == (200, me.id, "Fawn")
