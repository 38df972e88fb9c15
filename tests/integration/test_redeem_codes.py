"""Redeem codes, as administrators make, see and revoke them."""

import contextlib
import csv
import io
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time
from itertools import islice
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aideer.billing import code_lists, redeem_codes, topups
from aideer.core import clock, settings
from aideer.core.errors import AideerError, Conflict
from aideer.data.base import connection
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, Record
from aideer.schemas.credits import NewCode, NewRedemption, RedeemCodeResponse
from tests import faults
from tests.embedded_aws import empty_tables
from tests.support import check_rules


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
        "state": "active",
        "expires_at": None,
        "batch": None,
        "description": "Spring campaign",
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
        ("2999-01-01", "2999-01-01T23:59:59.999999Z"),
        ("29990101", "2999-01-01T23:59:59.999999Z"),
        ("2999-W01-1", "2998-12-31T23:59:59.999999Z"),
        ("9999-12-31", "9999-12-31T23:59:59.999999Z"),
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


def test_a_code_that_expires_on_a_day_is_good_until_that_day_ends(api, person, monkeypatch):
    admin, day = person(permission=2), datetime.fromtimestamp(clock.now() + 60, UTC).date()
    text = make(api, admin, expires_at=day.isoformat(), max_uses=2).json["redeem_code"]
    redeem = {"json": {"redeem_code": text}}
    assert api("users.redeem", "POST", "/users/me/credits", user=person(), **redeem).status == 200
    after = datetime.combine(day, time.max, UTC).timestamp() + 1
    monkeypatch.setattr(clock, "now", lambda: after)
    assert api("users.redeem", "POST", "/users/me/credits", user=person(), **redeem).json["code"] == "code_expired"


@pytest.mark.parametrize(
    "typed",
    [
        "\u200b{}", "{}\ufeff", "\ufeff{}\u200d", " {}\u00a0\n", "\u2060{}\u00ad", "\u202a{}\u202c", "{}\ufe0f", "{}\U000e0020",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_code_that_was_pasted_is_the_code(api, person, typed):
    admin, name = person(permission=2), fresh()
    make(api, admin, redeem_code=typed.format(name))
    assert get(api, admin, name).status == 200
    answer = api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": typed.format(name)}, user=person())
    assert (answer.status, answer.json["value"]) == (200, 100)


@given(
    st.lists(
        st.sampled_from("\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u2061\u206a\ufff9\U000e0001\ufe0e"), max_size=8
    ),
    st.data(),
)
def test_no_invisible_character_changes_a_code(invisible, data):
    code = redeem_codes.generate()
    shown = list(code)
    for character in invisible:
        shown.insert(data.draw(st.integers(0, len(shown))), character)
    assert NewRedemption(redeem_code="".join(shown)).redeem_code == code


@pytest.mark.parametrize("dash", "\u2010\u2011\u2012\u2013\u2014\u2212\uff0d", ids=ascii)
def test_an_editors_dash_and_wide_letters_are_the_codes_own(dash):
    assert NewRedemption(redeem_code=f"ＡＢＣ{dash}１２３").redeem_code == "ABC-123"


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
        {"state": "active"},
        {"count": 0},
        {"count": 501},
        {"count": "5"},
        {"count": 2, "redeem_code": "MINE"},
    ],
    ids=ascii,
)
def test_what_cannot_be_is_refused(api, person, wrong):
    answer = make(api, person(permission=2), **wrong)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


@pytest.mark.parametrize("text", ["NO-SUCH-CODE", "x" * 5000, "☃", "a b", "%00", "%2F", "%E3%85%A4"])
def test_a_code_that_is_not_there_is_not_found(api, person, text):
    admin = person(permission=2)
    assert get(api, admin, text).status == 404
    assert api("codes.delete", "DELETE", f"/codes/{text}", user=admin).status == 404


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
        made = list(
            pool.map(
                lambda _: redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", "k", new)),
                range(8),
            )
        )
    assert len({code.redeem_code for code in made}) == 1


def test_of_many_who_name_one_code_at_once_one_makes_it(person):
    admin, name = person(permission=2), fresh()

    def attempt(value: int) -> int:
        new = NewCode(value=value, redeem_code=name)
        try:
            return redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", None, new)).value
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
    assert Counter(counted) == Counter([user, "TransactWriteItems"])
    counted.clear()
    get(api, admin, text)
    assert Counter(counted) == Counter([user, f"GetItem {settings.CODES_TABLE}", f"PutItem {settings.AUDIT_TABLE}"])


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


# States


def redeem(api, user, text):
    return api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=user)


def revoke(api, admin, text):
    return api("codes.delete", "DELETE", f"/codes/{text}", user=admin)


def revoke_batch(api, admin, batch):
    return api("codes.delete_batch", "DELETE", f"/codes?batch={batch}", user=admin)


def test_a_code_shows_what_it_is_still_good_for(api, person, monkeypatch):
    admin, moment = person(permission=2), clock.now() + 3600
    soon = datetime.fromtimestamp(moment, UTC).isoformat()
    single, brief, gone, used_and_gone = (
        make(api, admin, max_uses=n, expires_at=soon if n == 2 else None).json["redeem_code"] for n in (1, 2, 3, 1)
    )
    assert {get(api, admin, text).json["state"] for text in (single, brief, gone)} == {"active"}
    for text in (single, brief, gone, used_and_gone):
        redeem(api, person(), text)
    for text in (gone, used_and_gone):
        revoke(api, admin, text)
    monkeypatch.setattr(clock, "now", lambda: moment)
    states = [get(api, admin, text).json["state"] for text in (single, brief, gone, used_and_gone)]
    assert states == ["used_up", "expired", "revoked", "used_up"]


def test_a_revoked_code_brings_nothing_and_keeps_what_it_brought(api, person):
    admin, first, second = person(permission=2), person(), person()
    text = make(api, admin, max_uses=5).json["redeem_code"]
    assert redeem(api, first, text).status == 200
    assert (revoke(api, admin, text.lower()).status, revoke(api, admin, text).status) == (200, 200)
    answer = redeem(api, second, text)
    assert (answer.status, answer.json["code"]) == (422, "code_revoked")
    assert (first.user.credits, second.user.credits) == (1_000_100, 1_000_000)
    assert get(api, admin, text).json["used"] == 1
    assert make(api, admin, redeem_code=text).json["code"] == "code_exists"
    check_rules(first)


@pytest.mark.parametrize("text", ["NO-SUCH-CODE", "x" * 5000, "☃"])
def test_only_what_is_there_is_revoked(api, person, text):
    admin = person(permission=2)
    assert revoke(api, admin, text).status == 404
    assert get(api, admin, text).status == 404


def test_who_redeems_while_a_code_is_revoked_gets_it_or_not_and_nothing_between(api, person):
    admin, people = person(permission=2), [person() for _ in range(12)]
    text = make(api, admin, max_uses=100).json["redeem_code"]

    with ThreadPoolExecutor(13) as pool:
        statuses = list(pool.map(lambda one: attempt_in_process(one, text), [*people[:6], admin, *people[6:]]))
    got = sum(one.user.credits == 1_000_100 for one in people)
    assert get(api, admin, text).json["used"] == got == statuses.count("redeemed")
    assert redeem(api, person(), text).json["code"] == "code_revoked"
    for one in people:
        check_rules(one)


def attempt_in_process(one, text):
    """An administrator revokes the code, and anybody else redeems it. (Powertools' resolver is no place for two threads.)"""
    if one.user.permission == 2:
        return redeem_codes.revoke(one.user, text)
    try:
        topups.redeem(one.user, text, IdempotentRequest(one.id, "redeem", None, ""))
    except AideerError as refusal:
        return refusal.code
    return "redeemed"


# Batches


def stored(batch):
    return [code.code for code in Code.scan(Code.batch == batch, consistent_read=True)]


def test_a_batch_is_made_at_once(api, person):
    admin = person(permission=2)
    soon = "2999-01-01T00:00:00Z"
    made = make(api, admin, count=3, value=7, max_uses=2, expires_at=soon).json
    assert set(made) == {"batch", "codes"}
    assert len({code["redeem_code"] for code in made["codes"]}) == 3
    for code in made["codes"]:
        assert re.fullmatch(r"[A-HJKMNP-Z2-9]{5}(-[A-HJKMNP-Z2-9]{5}){3}", code["redeem_code"])
        assert code["batch"] == made["batch"]
        assert (code["value"], code["max_uses"], code["used"], code["state"]) == (7, 2, 0, "active")
        assert get(api, admin, code["redeem_code"]).json == code
    me = person()
    assert redeem(api, me, made["codes"][0]["redeem_code"]).json["credits_left"] == 1_000_007
    check_rules(me)


def test_a_batch_of_one_is_a_batch(api, person):
    assert len(make(api, person(permission=2), count=1).json["codes"]) == 1


def test_a_batch_may_have_five_hundred(api, person, counted):
    admin = person(permission=2)
    make(api, admin)
    counted.clear()
    made = make(api, admin, count=500).json
    assert counted.count("TransactWriteItems") == 7, "the record, and six chunks"
    assert len(counted) == 9
    assert sorted(stored(made["batch"])) == sorted(code["redeem_code"] for code in made["codes"])
    assert len(made["codes"]) == 500


@contextlib.contextmanager
def breaking_off(after):
    """Of the transactions that are made meanwhile, only the first so many happen: then the function dies."""
    left = [after]

    def die(**_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    events = connection().client.meta.events
    events.register_first("before-call.dynamodb.TransactWriteItems", die)
    try:
        yield
    finally:
        events.unregister("before-call.dynamodb.TransactWriteItems", die)


@pytest.mark.parametrize("after", range(5))
def test_a_batch_that_broke_off_is_completed_by_the_same_request(api, person, after):
    admin = person(permission=2)
    new = NewCode(value=5, count=250)
    with breaking_off(after), contextlib.suppress(KeyboardInterrupt):
        redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", "k", new))
    made = make(api, admin, key="k", value=5, count=250).json
    assert len(made["codes"]) == len(stored(made["batch"])) == 250
    assert make(api, admin, key="k", value=5, count=250).json == made
    batches = [r for r in Record.scan(Record.pk.startswith("batch#")) if r.data["names"][0] in str(made)]
    assert len(batches) == 1


def test_what_was_redeemed_of_a_broken_batch_stays_redeemed(api, person):
    admin, me = person(permission=2), person()
    new = NewCode(value=5, count=120)
    with breaking_off(2), contextlib.suppress(KeyboardInterrupt):
        redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", "k", new))
    [record] = [r for r in Record.scan(Record.pk.startswith("batch#")) if len(r.data["names"]) == 120]
    assert redeem(api, me, record.data["names"][0]).status == 200
    made = make(api, admin, key="k", value=5, count=120).json
    assert made["codes"][0]["used"] == 0, "the answer is what the first one would have been"
    assert get(api, admin, made["codes"][0]["redeem_code"]).json["used"] == 1
    record.delete()


def test_the_same_batch_asked_for_many_times_at_once_is_one(person):
    admin, new = person(permission=2), NewCode(value=5, count=150)
    with ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(
                lambda _: redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", "k", new)),
                range(6),
            )
        )
    assert len({batch.batch for batch in made}) == 1
    assert made[1:] == made[:-1]
    assert len(stored(made[0].batch)) == 150


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.answer_lost("TransactWriteItems", times=3),
    ],
    ids=["conflict", "lost answers"],
)
@pytest.mark.parametrize("key", ["k", None])
def test_on_a_bad_day_too_a_batch_is_made_once(api, person, fault, key):
    admin = person(permission=2)
    with fault():
        made = make(api, admin, key=key, count=150)
    assert made.status == 200
    assert len(stored(made.json["batch"])) == 150


def test_a_revoked_batch_is_worthless_and_keeps_what_it_brought(api, person):
    admin, me = person(permission=2), person()
    made = make(api, admin, count=120).json
    names = [code["redeem_code"] for code in made["codes"]]
    redeem(api, me, names[0])
    assert revoke_batch(api, admin, made["batch"]).status == 200
    assert revoke_batch(api, admin, made["batch"]).status == 200, "again does no harm"
    assert [redeem(api, me, text).json["code"] for text in (names[1], names[119])] == ["code_revoked"] * 2
    assert me.user.credits == 1_000_100
    states = [code.revoked for code in Code.scan(Code.batch == made["batch"], consistent_read=True)]
    assert states == [True] * 120
    check_rules(me)


def test_a_batch_that_is_not_there_is_not_revoked(api, person):
    admin = person(permission=2)
    assert revoke_batch(api, admin, "nothing").json["code"] == "batch_not_found"
    assert api("codes.delete_batch", "DELETE", "/codes", user=admin).json["code"] == "validation_error"
    assert revoke_batch(api, admin, "").json["code"] == "validation_error"


def test_a_batch_that_is_revoked_before_it_is_complete_never_is(api, person):
    admin = person(permission=2)
    new = NewCode(value=5, count=150)
    with breaking_off(2), contextlib.suppress(KeyboardInterrupt):
        redeem_codes.create(admin.user, new, IdempotentRequest(admin.id, "POST /codes", "k", new))
    batch = Record.get(f"idempotency#{admin.id}#POST /codes", "k").data["answer"]["batch"]
    assert len(stored(batch)) == 99
    revoke_batch(api, admin, batch)
    answer = make(api, admin, key="k", value=5, count=150)
    assert (answer.status, answer.json["code"]) == (409, "batch_revoked")
    assert len(stored(batch)) == 99


def test_a_revocation_that_broke_off_is_completed_by_the_same_request(api, person):
    admin = person(permission=2)
    batch = make(api, admin, count=60).json["batch"]
    with breaking_off(20), contextlib.suppress(KeyboardInterrupt):
        redeem_codes.revoke_batch(admin.user, batch)
    assert revoke_batch(api, admin, batch).status == 200
    assert all(code.revoked for code in Code.scan(Code.batch == batch, consistent_read=True))


# CSV


def test_a_batch_comes_as_a_table_too(api, person):
    admin, description = person(permission=2), 'Spring, "新年"\nsecond line'
    fields = {"count": 3, "value": 7, "expires_at": "2999-01-01T00:00:00Z", "description": description}
    answer = make(api, admin, "?format=csv", key="k", **fields)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    made = make(api, admin, key="k", **fields).json
    assert answer.headers["content-disposition"] == f'attachment; filename="codes-{made["batch"]}.csv"'
    names, *codes_of_it = csv.reader(io.StringIO(answer.body, newline=""))
    assert names == ["redeem_code", "value", "max_uses", "expires_at", "batch", "description"]
    assert codes_of_it == [
        [code["redeem_code"], "7", "1", "2999-01-01T00:00:00.000000Z", made["batch"], description]
        for code in made["codes"]
    ]
    assert answer.body.count("\r\n") == 4


def test_one_code_comes_as_a_table_too(api, person):
    answer = make(api, person(permission=2), "?format=csv", redeem_code=(name := fresh()))
    assert answer.headers["content-disposition"] == 'attachment; filename="code.csv"'
    assert answer.body.splitlines()[1] == f'"{name}","100","1","","",""'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", "=cmd|' /C calc'!A0", '"=1"', "﹣1"])
def test_no_spreadsheet_takes_a_description_for_a_formula(api, person, text):
    answer = make(api, person(permission=2), "?format=csv", count=1, description=text)
    [_, row] = csv.reader(io.StringIO(answer.body, newline=""))
    assert row[-1] == f"'{text}"


def test_no_spreadsheet_takes_a_code_for_a_formula(api, person):
    answer = make(api, person(permission=2), "?format=csv", redeem_code=(name := f"-{fresh()}"))
    assert answer.body.splitlines()[1].startswith(f'"\'{name}"')


@given(st.text(st.sampled_from("=+-@＝＋－＠;,|\t\r\n\"' a1")) | st.text())
@example("a;=1")
@example("\t=1")
@example("\rnothing")
@example("one\n-1;@x,+2")
@example('a;"=1')
def test_no_cell_is_a_formula_whatever_separates_cells(text):
    code = RedeemCodeResponse(
        redeem_code=text,
        value=1,
        max_uses=1,
        used=0,
        state="active",
        expires_at=None,
        batch=text,
        description=text,
        create_time="",
    )
    table = redeem_codes.format_csv([code])
    cells = next(islice(csv.reader(io.StringIO(table, newline="")), 1, None))
    assert len(cells) == 6
    assert not any(cell.startswith(("\t", "\r")) for cell in cells)
    for separator in ",;|\t":
        for line in re.split(r"[\r\n]", table):
            for cell in line.split(separator):
                assert not re.match(r"""[\s"]*[=+\-@＝＋－＠]""", cell), (separator, cell)


def test_every_cell_is_quoted(api, person):
    answer = make(api, person(permission=2), "?format=csv", count=2)
    for line in answer.body.splitlines():
        assert re.fullmatch(r'("[^"]*",){5}"[^"]*"', line)


def test_no_other_format(api, person):
    assert make(api, person(permission=2), "?format=xml").json["code"] == "validation_error"


# Lists


def listed(api, admin, query="?limit=100"):
    return api("codes.list", "GET", f"/codes{query}", user=admin)


def all_pages(api, admin, query, path="/api/v1/codes"):
    seen, sizes, next_page = [], [], query
    while next_page:
        page = listed(api, admin, next_page)
        assert page.status == 200
        seen += [code["redeem_code"] for code in page.json]
        sizes.append(len(page.json))
        link = page.headers.get("link")
        next_page = link and link.removeprefix(f"<{path}").partition(">")[0]
        assert ("x-next-cursor" in page.headers) == bool(link)
    return seen, sizes


def test_the_newest_codes_are_listed_first(api, person):
    empty_tables()  # other tests leave codes of later days
    admin = person(permission=2)
    made = [make(api, admin).json for _ in range(3)]
    newest = listed(api, admin, "?limit=3").json
    assert newest == made[::-1]
    assert listed(api, admin, "?limit=1&offset=2").json == made[:1]


def test_all_pages_have_every_code_once(api, person):
    empty_tables()  # other tests leave codes of later days
    admin = person(permission=2)
    batch = make(api, admin, count=130).json
    alone = [make(api, admin).json["redeem_code"] for _ in range(2)]
    seen, sizes = all_pages(api, admin, "?limit=37")
    assert len(seen) == len(set(seen)) == len(list(Code.scan(consistent_read=True)))
    assert seen[:2] == alone[::-1]
    assert set(seen[2:132]) == {code["redeem_code"] for code in batch["codes"]}
    assert set(sizes[:-1]) == {37}


def test_a_batch_s_codes_are_listed_alone(api, person):
    admin = person(permission=2)
    batch = make(api, admin, count=25).json
    make(api, admin, count=3)
    seen, sizes = all_pages(api, admin, f"?batch={batch['batch']}&limit=10")
    assert sizes == [10, 10, 5]
    assert seen == sorted(code["redeem_code"] for code in batch["codes"])
    assert listed(api, admin, "?batch=nothing").json == []


def test_a_list_shows_what_has_become_of_codes(api, person):
    admin = person(permission=2)
    batch = make(api, admin, count=2).json
    used, revoked = sorted(code["redeem_code"] for code in batch["codes"])
    redeem(api, person(), used)
    revoke(api, admin, revoked)
    shown = listed(api, admin, f"?batch={batch['batch']}").json
    assert [(code["used"], code["state"]) for code in shown] == [(1, "used_up"), (0, "revoked")]


def test_a_grouped_list_shows_each_batch_once_and_every_other_code(api, person):
    empty_tables()  # other tests leave codes of later days
    admin = person(permission=2)
    first = make(api, admin).json
    batches = [make(api, admin, count=count, description=f"Of {count}").json for count in (120, 1, 45)]
    last = [make(api, admin).json for _ in range(2)]
    for limit in (1, 2, 3, 100):
        shown, query = [], f"?group_batches=true&limit={limit}"
        while query:
            page = listed(api, admin, query)
            assert len(page.json) <= limit
            shown += page.json
            query = (
                cursor := page.headers.get("x-next-cursor")
            ) and f"?group_batches=true&limit={limit}&cursor={cursor}"
        assert [code["redeem_code"] for code in shown[:2]] == [code["redeem_code"] for code in last[::-1]]
        assert shown[-1] == first
        assert [(code["batch"], code["batch_size"], code["description"]) for code in shown[2:-1]] == [
            (batch["batch"], len(batch["codes"]), f"Of {len(batch['codes'])}") for batch in batches[::-1]
        ]
    batch = batches[0]["batch"]
    assert len(listed(api, admin, f"?group_batches=true&batch={batch}&limit=100").json) == 100
    assert listed(api, admin, "?group_batches=true&offset=1").json["code"] == "offset_with_filter"


def test_a_grouped_page_makes_a_bounded_number_of_calls(api, person, counted):
    empty_tables()  # other tests leave codes of later days
    admin = person(permission=2)
    for _ in range(code_lists.ROUNDS + 2):
        make(api, admin, count=31)  # more than one round reads
    listed(api, admin)
    counted.clear()
    page = listed(api, admin, "?group_batches=true&limit=100")
    assert len(page.json) == code_lists.ROUNDS
    table = [f"GetItem {settings.USERS_TABLE}", f"PutItem {settings.AUDIT_TABLE}"]
    rounds = [f"Query {settings.CODES_TABLE}", "BatchGetItem"] * code_lists.ROUNDS
    assert Counter(counted) == Counter([*table, *rounds, "BatchGetItem"])
    rest = listed(api, admin, f"?group_batches=true&cursor={page.headers['x-next-cursor']}")
    assert len(rest.json) == 2
    assert "x-next-cursor" not in rest.headers


def test_a_batch_is_downloaded_whole_with_its_uses(api, person, counted):
    admin = person(permission=2)
    made = make(api, admin, count=101, description="Spring").json
    used, revoked = sorted(code["redeem_code"] for code in made["codes"])[:2]
    redeem(api, person(), used)
    revoke(api, admin, revoked)
    counted.clear()
    answer = listed(api, admin, f"?batch={made['batch']}&format=csv&limit=1")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="codes.csv"'
    names, *rows = csv.reader(io.StringIO(answer.body, newline=""))
    assert names == ["redeem_code", "value", "max_uses", "expires_at", "batch", "description", "used", "state"]
    assert [row[0] for row in rows] == sorted(code["redeem_code"] for code in made["codes"])
    assert [row[5:] for row in rows[:3]] == [
        ["Spring", "1", "used_up"],
        ["Spring", "0", "revoked"],
        ["Spring", "0", "active"],
    ]
    assert Counter(counted)["BatchGetItem"] == 2, "a hundred codes each"
    assert Counter(counted)[f"PutItem {settings.AUDIT_TABLE}"] == 1


def test_a_page_of_all_codes_comes_as_a_table_too(api, person):
    admin = person(permission=2)
    make(api, admin)
    answer = listed(api, admin, "?format=csv&limit=1")
    assert len(list(csv.reader(io.StringIO(answer.body, newline="")))) == 2
    assert listed(api, admin, "?format=xml").json["code"] == "validation_error"


def test_a_code_s_stored_answer_of_the_release_before_is_given_again(api, person, monkeypatch):
    admin, key = person(permission=2), uuid4().hex
    made = make(api, admin, key=key).json
    stored = {name: value for name, value in made.items() if name != "description"}
    monkeypatch.setattr(IdempotentRequest, "find_answer", lambda _: stored)
    assert make(api, admin, key=key).json == made


def test_a_cursor_is_good_for_its_own_list_alone(api, person):
    admin = person(permission=2)
    one, other = (make(api, admin, count=2).json["batch"] for _ in range(2))
    mine = listed(api, admin, f"?limit=1&batch={one}").headers["x-next-cursor"]
    everything = listed(api, admin, "?limit=1").headers["x-next-cursor"]
    grouped = listed(api, admin, "?limit=1&group_batches=true").headers["x-next-cursor"]
    for query in (
        f"?cursor={mine}",
        f"?cursor={grouped}",
        f"?group_batches=true&cursor={everything}",
        f"?batch={other}&cursor={mine}",
        f"?batch={one}&cursor={everything}",
        "?cursor=x",
        "?cursor=",
        "?limit=0",
        "?limit=101",
        "?offset=1001",
        "?batch=",
        f"?batch={'b' * 65}",
    ):
        assert listed(api, admin, query).status == 422, query


def test_a_page_costs_the_same_however_many_codes_there_are(api, person, counted):
    admin = person(permission=2)
    make(api, admin, count=300)
    for query in ("?limit=1", "?limit=100", "?limit=10&offset=150"):
        listed(api, admin)
        counted.clear()
        listed(api, admin, query)
        queries = [f"Query {settings.CODES_TABLE}", "BatchGetItem", f"PutItem {settings.AUDIT_TABLE}"]
        assert Counter(counted) == Counter([f"GetItem {settings.USERS_TABLE}", *queries])


@pytest.mark.parametrize(
    ("module", "method", "path"),
    [
        ("codes.create", "POST", "/codes"),
        ("codes.list", "GET", "/codes"),
        ("codes.get", "GET", "/codes/ABC"),
        ("codes.delete", "DELETE", "/codes/ABC"),
        ("codes.delete_batch", "DELETE", "/codes?batch=x"),
    ],
)
@pytest.mark.parametrize("permission", [0, 1])
def test_codes_are_the_administrators_alone(api, person, module, method, path, permission):
    body = {"value": 5} if method == "POST" else None
    assert api(module, method, path, json=body, user=person(permission=permission)).status == 403
    assert api(module, method, path, json=body).status == 401


def test_what_revoking_costs(api, person, counted):
    admin = person(permission=2)
    text, batch = make(api, admin).json["redeem_code"], make(api, admin, count=5).json["batch"]
    counted.clear()
    revoke(api, admin, text)
    assert Counter(counted) == Counter([f"GetItem {settings.USERS_TABLE}", "TransactWriteItems"])
    counted.clear()
    revoke_batch(api, admin, batch)
    assert counted[:2] == [f"GetItem {settings.USERS_TABLE}", f"GetItem {settings.RECORDS_TABLE}"]
    assert counted[2:] == ["TransactWriteItems"] * 6
