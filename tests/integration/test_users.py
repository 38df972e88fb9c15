"""Signing up, looking at oneself, and the operator's way of making an administrator."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from uuid import uuid4

import pytest

from aideer.accounts import users
from aideer.core import settings
from aideer.core.errors import BadRequest, Conflict
from aideer.data.models import CreditEntry, Identity, User
from aideer.schemas.users import NewUser
from aideer.security import password_hashing
from tests import faults
from tests.integration.test_wechat import signed_in, somebody


def fresh_name() -> str:
    return f"Name {uuid4().hex[:12]}"


def sign_up(api, **body):
    return api("users.create", "POST", "/users", json={"username": fresh_name(), "password": "secret-123", **body})


def sign_in(api, username, password):
    form = {"grant_type": "password", "username": username, "password": password}
    return api("session.create", "POST", "/session/oauth2/token", form=form)


def test_signing_up_makes_a_user_who_can_sign_in(api):
    name = fresh_name()
    answer = sign_up(api, username=name)
    assert answer.status == 200
    user = answer.json
    assert user == {
        "id": user["id"],
        "username": name,
        "nickname": name,
        "permission": 1,
        "avatar": None,
        "avatar_url": None,
        "credits_left": 1_000_000,
        "credits_held": 0,
        "create_time": user["create_time"],
        "update_time": user["create_time"],
    }
    token = sign_in(api, name, "secret-123").json["access_token"]
    assert api("users.me", "GET", "/users/me", token=token).json == user


def test_what_one_has_from_the_start_is_in_the_ledger(api, monkeypatch):
    [entry] = CreditEntry.query(sign_up(api).json["id"])
    assert (entry.amount, entry.kind) == (1_000_000, "signup")
    monkeypatch.setattr(settings, "SIGNUP_CREDITS", 0)
    poor = sign_up(api).json
    assert poor["credits_left"] == 0
    assert list(CreditEntry.query(poor["id"])) == []


def test_a_visitor_and_a_nickname_can_be_asked_for(api):
    user = sign_up(api, permission=0, nickname="  👩‍💻 小鹿 ").json
    assert (user["permission"], user["nickname"]) == (0, "👩‍💻 小鹿")


def test_nobody_signs_up_as_an_administrator(api):
    name = fresh_name()
    answer = sign_up(api, username=name, permission=2)
    assert (answer.status, answer.json["code"]) == (403, "not_admin")
    assert sign_in(api, name, "secret-123").status == 400


@pytest.mark.parametrize(
    ("first", "second"),
    [("Straße {}", "STRASSE {}"), ("name {}", "ＮＡＭＥ {}"), ("José {}", "Jose\u0301 {}"), ("ab {}", "  AB {} ")],
)
def test_a_name_is_taken_in_all_its_spellings(api, first, second):
    unique = uuid4().hex[:12]
    assert sign_up(api, username=first.format(unique)).status == 200
    answer = sign_up(api, username=second.format(unique))
    assert (answer.status, answer.json["code"]) == (400, "username_taken")
    assert sign_in(api, second.format(unique), "secret-123").status == 200


def test_of_many_who_want_one_name_at_once_one_gets_it(api):
    name = fresh_name()

    def attempt(n: int) -> bool:
        try:
            users.sign_up(NewUser(username=name, password=f"secret-{n}"), "203.0.113.9")
        except BadRequest:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert len(list(User.scan(User.username == name))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "a"},
        {"username": " a "},
        {"username": "a" * 51},
        {"username": 5},
        {"username": None},
        {"username": "two\nlines"},
        {"username": "null\x00byte"},
        {"username": "zero\u200bwidth"},
        {"username": "turned\u202eround"},
        {"username": "filled\u3164up"},
        {"username": "half\ud800pair"},
        {"password": "short"},
        {"password": "x" * 256},
        {"password": "half\udc00pair"},
        {"nickname": ""},
        {"nickname": "   "},
        {"nickname": "n" * 51},
        {"nickname": "two\u2028lines"},
        {"nickname": "turned\u2067round"},
        {"permission": 3},
        {"permission": -1},
        {"permission": "1"},
        {"permission": True},
        {"permission": 1.5},
        {"usernme": "misspelt"},
        {"half\ud800key": 1},
    ],
    ids=ascii,
)
def test_what_cannot_be_is_refused(api, wrong):
    answer = sign_up(api, **wrong)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert all({"loc", "msg", "type"} == set(error) for error in answer.json["detail"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'[{"username": "in a list", "password": "secret-123"}]',
        b'"text"',
        b"7",
        b"NaN",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"permission":' + b"9" * 5000 + b"}",
        b'{"permission": NaN}',
    ],
    ids=lambda raw: str(raw[:12]),
)
def test_what_is_no_json_object_is_refused(api, raw):
    answer = api("users.create", "POST", "/users", raw=raw, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_other_kinds_of_body_are_refused(api):
    for kind in ("text/xml", "multipart/form-data", "application/x-www-form-urlencoded"):
        answer = api("users.create", "POST", "/users", raw=b"a=b", headers={"Content-Type": kind})
        assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


def test_a_password_is_kept_only_as_a_hash(api):
    name = fresh_name()
    sign_up(api, username=name, password="correct horse")
    kept = Identity.get(users.password_key(name)).password_hash
    assert kept.startswith("$argon2id$")
    assert "correct horse" not in kept


def test_what_signing_up_and_looking_cost(api, person, counted):
    me = person()
    api("users.me", "GET", "/users/me", user=me)
    counted.clear()
    sign_up(api)
    assert counted == [f"UpdateItem {settings.RECORDS_TABLE}", "TransactWriteItems"]
    counted.clear()
    api("users.me", "GET", "/users/me", user=me)
    assert Counter(counted) == Counter([f"GetItem {settings.USERS_TABLE}"])


@pytest.mark.parametrize("length", [50, 100, 255])
def test_a_name_that_is_endless_once_it_is_normalised_is_nobody_s(api, person, length):
    admin, name = person(permission=2), quote("\ufdfa" * length)
    answer = api("users.list", "GET", f"/users?username={name}", user=admin)
    assert (answer.status, answer.json) == (200, [])


def make_admin(username, password):
    from operations.make_admin import handler

    return handler({"username": username, "password": password}, None)


def test_an_operator_makes_an_administrator_of_nobody(api, capsys):
    name = fresh_name()
    made = make_admin(name, "operators-secret")
    token = sign_in(api, name, "operators-secret").json["access_token"]
    me = api("users.me", "GET", "/users/me", token=token).json
    assert (me["id"], me["permission"]) == (made["user_id"], 2)
    assert "operators-secret" not in "".join(capsys.readouterr())


def test_making_the_same_administrator_again_changes_nothing(api):
    name = fresh_name()
    made = make_admin(name, "operators-secret")
    token = sign_in(api, name, "operators-secret").json["access_token"]
    assert make_admin(name.upper(), "operators-secret")["user_id"] == made["user_id"]
    assert api("users.me", "GET", "/users/me", token=token).status == 200


def test_an_operator_makes_an_administrator_of_a_user(api, person):
    me = person()
    assert make_admin(me.username, me.password)["user_id"] == me.id
    assert api("users.me", "GET", "/users/me", user=me).json["permission"] == 2


def test_whoever_was_the_first_to_take_the_name_is_not_made_an_administrator(api, person):
    me = person()
    before = Identity.get(users.password_key(me.username))
    with pytest.raises(Conflict) as refusal:
        make_admin(me.username.upper(), "operators-secret")
    assert refusal.value.code == "username_not_theirs"
    assert "operators-secret" not in str(refusal.value)
    assert Identity.get(before.key).password_hash == before.password_hash
    assert api("users.me", "GET", "/users/me", user=me).json["permission"] == 1


def test_nor_is_one_whom_wechat_signs_in_and_who_has_no_password(api, weixin):
    me, name = signed_in(api, weixin, somebody()), fresh_name()
    assert api("users.update", "PUT", f"/users/{me.id}", user=me, json={"username": name}).status == 200
    with pytest.raises(Conflict):
        make_admin(name, "operators-secret")
    assert me.user.permission == 1
    assert sign_in(api, name, "operators-secret").status == 400


def test_who_is_no_administrator_any_more_at_that_moment_is_given_no_password(api, person, monkeypatch):
    me, hashed = person(permission=2), password_hashing.hash_password

    def lowered_meanwhile(password):
        me.user.update([User.permission.set(1)])
        return hashed(password)

    monkeypatch.setattr(password_hashing, "hash_password", lowered_meanwhile)
    with pytest.raises(Conflict):
        make_admin(me.username, "operators-secret")
    assert me.user.permission == 1
    assert sign_in(api, me.username, me.password).status == 200


def test_another_password_ends_the_sessions_that_the_old_one_began(api, person):
    me = person(permission=2)
    make_admin(me.username, "another-secret")
    assert api("users.me", "GET", "/users/me", user=me).status == 401
    assert sign_in(api, me.username, me.password).status == 400
    assert sign_in(api, me.username, "another-secret").status == 200


def test_an_operator_is_told_what_is_wrong_without_the_password():
    with pytest.raises(ValueError, match="password") as refusal:
        make_admin("operator", "12345")
    assert "12345" not in str(refusal.value)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_sign_up_whose_answer_is_lost_has_happened_once(api, lost):
    name = fresh_name()
    with faults.answer_lost("TransactWriteItems", times=lost):
        user = sign_up(api, username=name).json
    assert [found.id for found in User.scan(User.username == name)] == [user["id"]]
    assert len(list(CreditEntry.query(user["id"]))) == 1
