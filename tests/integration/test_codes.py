"""Redeem codes, as administrators make and look at them."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from aideer import clock, codes, settings
from aideer.contract.credits import NewCode
from aideer.errors import Conflict
from aideer.idempotency import Once
from aideer.models import Code
from tests import faults


def make(api, admin, query="", key=None, **body):
    headers = {"Idempotency-Key": key} if key else None
    return api("codes.create", "POST", f"/codes{query}", json={"value": 100, **body}, user=admin, headers=headers)


def get(api, admin, text):
    return api("codes.get", "GET", f"/codes/{text}", user=admin)


def fresh() -> str:
    return f"T-{uuid4().hex.upper()}"


def test_a_code_is_made_and_looked_at(api, person):
    admin = person(permission=2)
    made = make(api, admin, max_uses=3, description="Spring campaign")
    assert made.status == 200
    assert made.json == {
        "redeem_code": made.json["redeem_code"],
        "value": 100,
        "max_uses": 3,
        "used": 0,
        "expires_at": None,
        "batch": None,
        "create_time": made.json["create_time"],
    }
    assert get(api, admin, made.json["redeem_code"]).json == made.json


def test_an_invented_code_can_be_read_out_and_not_be_guessed(api, person):
    text = make(api, person(permission=2)).json["redeem_code"]
    assert re.fullmatch(r"[A-HJKMNP-Z2-9]{5}(-[A-HJKMNP-Z2-9]{5}){3}", text)


def test_a_code_can_be_named_in_any_case(api, person):
    admin, name = person(permission=2), fresh()
    assert make(api, admin, redeem_code=f" {name.lower()} ").json["redeem_code"] == name
    assert get(api, admin, name.lower()).json["redeem_code"] == name


def test_a_name_is_given_once(api, person):
    admin, name = person(permission=2), fresh()
    make(api, admin, redeem_code=name)
    answer = make(api, admin, redeem_code=name.lower(), value=5)
    assert (answer.status, answer.json["code"]) == (409, "code_exists")
    assert get(api, admin, name).json["value"] == 100


def test_a_used_code_says_how_often(api, person):
    admin = person(permission=2)
    text = make(api, admin, max_uses=2).json["redeem_code"]
    api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=person())
    assert get(api, admin, text).json["used"] == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000000Z"),
        ("2999-01-01T08:00:00.5+08:00", "2999-01-01T00:00:00.500000Z"),
        ("2999-01-01T00:00:00", "2999-01-01T00:00:00.000000Z"),
        ("2999-01-01", "2999-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_expiry_is_kept_in_utc_in_one_form(api, person, given, kept):
    assert make(api, person(permission=2), expires_at=given).json["expires_at"] == kept


def test_a_code_expires_at_that_moment(api, person, monkeypatch):
    admin, moment = person(permission=2), clock.now() + 3600
    there = datetime.fromtimestamp(moment, UTC).isoformat()
    text = make(api, admin, expires_at=there, max_uses=2).json["redeem_code"]
    redeem = {"json": {"redeem_code": text}}
    monkeypatch.setattr(clock, "now", lambda: moment - 1)
    assert api("users.redeem", "POST", "/users/me/credits", user=person(), **redeem).status == 200
    monkeypatch.setattr(clock, "now", lambda: moment)
    assert api("users.redeem", "POST", "/users/me/credits", user=person(), **redeem).json["code"] == "code_expired"


def test_a_code_that_has_expired_already_is_not_made(api, person):
    admin, name = person(permission=2), fresh()
    answer = make(api, admin, redeem_code=name, expires_at="2020-01-01T00:00:00Z")
    assert (answer.status, answer.json["code"]) == (422, "expires_in_the_past")
    assert get(api, admin, name).status == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 0},
        {"value": -1},
        {"value": 10**12 + 1},
        {"value": 10**400},
        {"value": 1.5},
        {"value": "5"},
        {"value": True},
        {"value": None},
        {"max_uses": 0},
        {"max_uses": 10**9 + 1},
        {"redeem_code": ""},
        {"redeem_code": "two words"},
        {"redeem_code": "snow☃man"},
        {"redeem_code": "ı"},
        {"redeem_code": "A" * 65},
        {"redeem_code": "half\ud800"},
        {"expires_at": "tomorrow"},
        {"expires_at": "2999-13-01"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expires_at": "0001-01-01T00:00:00+23:59"},
        {"expires_at": 32503680000},
        {"description": ""},
        {"description": "d" * 256},
        {"description": "null\x00byte"},
        {"batch": "mine"},
    ],
    ids=ascii,
)
def test_what_cannot_be_is_refused(api, person, wrong):
    answer = make(api, person(permission=2), **wrong)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_batches_and_csv_are_not_supported_yet(api, person):
    admin = person(permission=2)
    assert make(api, admin, count=5).json["code"] == "not_supported"
    assert make(api, admin, "?format=csv").json["code"] == "not_supported"
    assert make(api, admin, "?format=json").status == 200
    assert make(api, admin, "?format=xml").json["code"] == "validation_error"


@pytest.mark.parametrize("text", ["NO-SUCH-CODE", "x" * 5000, "☃", "a b", "%00", "%2F"])
def test_a_code_that_is_not_there_is_not_found(api, person, text):
    assert get(api, person(permission=2), text).status == 404


def test_the_same_key_gives_the_same_code(api, person):
    admin = person(permission=2)
    first, again = make(api, admin, key="k"), make(api, admin, key="k")
    assert (again.status, again.body) == (200, first.body)
    assert make(api, admin, key="k", value=5).json["code"] == "idempotency_key_reused"
    assert make(api, admin).json["redeem_code"] != first.json["redeem_code"]


def test_the_same_key_gives_the_same_code_even_after_that_has_expired(api, person, monkeypatch):
    admin, moment = person(permission=2), clock.now() + 3600
    body = {"expires_at": datetime.fromtimestamp(moment, UTC).isoformat()}
    first = make(api, admin, key="k", **body)
    monkeypatch.setattr(clock, "now", lambda: moment + 1)
    assert make(api, admin, key="k", **body).body == first.body


def test_one_request_sent_many_times_at_once_makes_one_code(person):
    admin, new = person(permission=2), NewCode(value=5)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: codes.create(new, Once(admin.id, "POST /codes", "k", new)), range(8)))
    assert len({code.redeem_code for code in made}) == 1


def test_of_many_who_name_one_code_at_once_one_makes_it(person):
    admin, name = person(permission=2), fresh()

    def attempt(value: int) -> int:
        new = NewCode(value=value, redeem_code=name)
        try:
            return codes.create(new, Once(admin.id, "POST /codes", None, new)).value
        except Conflict:
            return 0

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(attempt, range(1, 9)))
    assert sum(values) == Code.get(name, consistent_read=True).value


def test_what_codes_cost(api, person, counted):
    admin = person(permission=2)
    user = f"GetItem {settings.USERS_TABLE}"
    text = make(api, admin).json["redeem_code"]
    counted.clear()
    make(api, admin)
    assert counted == [user, "TransactWriteItems"]
    counted.clear()
    get(api, admin, text)
    assert counted == [user, f"GetItem {settings.CODES_TABLE}"]


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500),
        lambda: faults.answer_lost("TransactWriteItems"),
    ],
    ids=["conflict", "internal error", "lost answer"],
)
@pytest.mark.parametrize("key", ["k", None])
def test_on_a_bad_day_too_a_code_is_made(api, person, fault, key):
    admin, name = person(permission=2), fresh()
    with fault():
        made = make(api, admin, key=key, redeem_code=name)
    assert made.status == 200
    assert get(api, admin, name).json == made.json
