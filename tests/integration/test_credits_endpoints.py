"""The ledger as its user sees it, and redeeming codes."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from aideer.billing import credits, topups
from aideer.core import clock, settings
from aideer.core.errors import Unprocessable
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, CreditEntry, Identity, User
from aideer.schemas.credits import NewRedemption
from tests.support import check_rules


def code(value=100, **fields):
    made = Code(f"T-{uuid4().hex.upper()}", value=value, create_time=clock.timestamp(), **{"max_uses": 1, **fields})
    made.save()
    return made.code


def redeem(api, user, text, key=None):
    headers = {"Idempotency-Key": key} if key else None
    return api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=user, headers=headers)


def ledger(api, user, query=""):
    return api("users.credits", "GET", f"/users/me/credits{query}", user=user)


def used(text):
    return Code.get(text, consistent_read=True).used


def test_the_ledger_says_where_one_stands(api, person):
    me = person()
    answer = ledger(api, me)
    assert answer.status == 200
    stand = answer.json
    [entry] = stand.pop("credit_records")
    assert stand == {"credits_left": 1_000_000, "credits_held": 0}
    assert entry == {
        "id": entry["id"],
        "user_id": me.id,
        "amount": 1_000_000,
        "kind": "signup",
        "description": "Welcome",
        "create_time": entry["create_time"],
    }
    assert "link" not in answer.headers


def test_an_answers_entry_says_what_was_counted(api, person):
    me = person()
    counted = {"task_id": "t", "model": "qwen-plus", "input_tokens": 3, "output_tokens": 0, "price_version": "v"}
    fields = {"amount": 0, "kind": "chat_generation", "description": "qwen-plus", "create_time": clock.timestamp()}
    entry = CreditEntry(me.id, new_id(), **fields, **counted)
    entry.save()
    newest = ledger(api, me).json["credit_records"][0]
    assert newest == {"id": entry.entry_id, "user_id": me.id, **fields, **counted}


def test_what_is_held_is_shown_apart(api, person):
    me = person()
    me.user.update(actions=[User.credits.set(70), User.holds["task"].set(20), User.holds["other"].set(10)])
    answer = ledger(api, me).json
    assert (answer["credits_left"], answer["credits_held"]) == (70, 30)


def test_the_ledger_is_paged_newest_first_and_nothing_is_lost_or_seen_twice(api, person):
    me = person()
    for n in range(24):
        CreditEntry(me.id, new_id(), amount=n, kind="grant", description="d", create_time=clock.timestamp()).save()
    seen, query = [], "?limit=10"
    for _ in range(3):
        page = ledger(api, me, query)
        seen += [entry["id"] for entry in page.json["credit_records"]]
        if more := page.headers.get("x-next-cursor"):
            query = f"?limit=10&cursor={more}"
            assert page.headers["link"] == f'</api/v1/users/me/credits{query}>; rel="next"'
    assert len(seen) == 25
    assert seen == sorted(set(seen), reverse=True)
    assert "x-next-cursor" not in page.headers
    skipped = ledger(api, me, "?limit=3&offset=20").json["credit_records"]
    assert [entry["id"] for entry in skipped] == seen[20:23]


def test_a_ledger_is_its_users_own(api, person):
    me, other = person(), person()
    assert {entry["user_id"] for entry in ledger(api, me).json["credit_records"]} == {me.id}
    for n in range(2):
        CreditEntry(other.id, new_id(), amount=n, kind="grant", description="d", create_time=clock.timestamp()).save()
    cursor = ledger(api, other, "?limit=1").headers["x-next-cursor"]
    shown = ledger(api, me, f"?cursor={cursor}").json["credit_records"]
    assert {entry["user_id"] for entry in shown} <= {me.id}


# A good base64 of another list's cursor, of an empty key, of a number, of half a pair; and none at all.
@pytest.mark.parametrize(
    "query",
    [
        "cursor=x",
        "cursor=",
        "cursor=WyJjaGF0cyIsIngiXQ",
        "cursor=WyJjcmVkaXRzIiwiIl0",
        "cursor=WyJjcmVkaXRzIiw1XQ",
        "cursor=WyJjcmVkaXRzIiwiXHVkODAwIl0",
        "cursor=%C3%A9",
        "cursor=bnVsbA",
        f"cursor={'W' * 4000}",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=1e1",
        "offset=-1",
        "offset=1001",
    ],
)
def test_a_page_that_cannot_be_is_refused(api, person, query):
    assert ledger(api, person(), f"?{query}").status == 422


def test_a_code_brings_its_value_once(api, person):
    me, text = person(), code(value=250)
    answer = redeem(api, me, text)
    assert (answer.status, answer.json) == (
        200,
        {"message": answer.json["message"], "value": 250, "credits_left": 1_000_250},
    )
    newest = ledger(api, me).json["credit_records"][0]
    assert (newest["amount"], newest["kind"]) == (250, "redeem")
    assert redeem(api, me, text).json["code"] == "code_already_redeemed"
    assert me.user.credits == 1_000_250
    check_rules(me)


def test_a_code_is_known_in_any_case_and_with_spaces_around(api, person):
    assert redeem(api, person(), f" {code().lower()} ").status == 200


def test_what_a_code_was_for_is_in_the_ledger(api, person):
    me = person()
    redeem(api, me, code(description="Spring campaign"))
    assert ledger(api, me).json["credit_records"][0]["description"] == "Spring campaign"


def test_a_code_that_is_used_up_expired_or_unknown_brings_nothing(api, person, monkeypatch):
    me = person()
    request = code()
    redeem(api, person(), request)
    brief = code(expires_at=clock.timestamp(clock.now() + 60))
    later = clock.now() + 61
    monkeypatch.setattr(clock, "now", lambda: later)
    for text, reason in ((request, "code_used_up"), (brief, "code_expired"), ("NO-SUCH-CODE", "code_unknown")):
        answer = redeem(api, me, text)
        assert (answer.status, answer.json["code"]) == (422, reason)
    assert me.user.credits == 1_000_000
    assert used(brief) == 0
    check_rules(me)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"redeem_code": ""},
        {"redeem_code": "a b"},
        {"redeem_code": "ı"},
        {"redeem_code": 5},
        {"redeem_code": ["A"]},
        {"redeem_code": "A" * 65},
        {"redeem_code": "A\ud800"},
        {"redeem_code": "A", "more": 1},
    ],
    ids=ascii,
)
def test_what_is_no_code_is_refused(api, person, body):
    answer = api("users.redeem", "POST", "/users/me/credits", json=body, user=person())
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_the_same_key_gives_the_same_answer_and_no_second_effect(api, person):
    me, text = person(), code(max_uses=5)
    first = redeem(api, me, text, key="k")
    redeem(api, me, code())
    again = redeem(api, me, text.lower(), key="k")
    assert (again.status, again.body) == (200, first.body)
    assert used(text) == 1
    assert me.user.credits == 1_000_200


def test_the_same_key_with_another_code_is_refused(api, person):
    me, second = person(), code()
    redeem(api, me, code(), key="k")
    answer = redeem(api, me, second, key="k")
    assert (answer.status, answer.json["code"]) == (422, "idempotency_key_reused")
    assert used(second) == 0


def test_a_refusal_is_not_remembered(api, person):
    me, text = person(), f"T-{uuid4().hex.upper()}"
    assert redeem(api, me, text, key="k").status == 422
    Code(text, value=5, max_uses=1, create_time=clock.timestamp()).save()
    assert redeem(api, me, text, key="k").status == 200


def test_a_key_is_its_users_own_and_lasts_a_day(api, person, monkeypatch):
    me, other, text = person(), person(), code(max_uses=5)
    assert redeem(api, me, text, key="k").status == redeem(api, other, text, key="k").status == 200
    tomorrow = clock.now() + 24 * 3600
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    assert redeem(api, me, text, key="k").json["code"] == "code_already_redeemed"


@pytest.mark.parametrize("key", ["k" * 129, "ü" * 129])
def test_a_key_that_is_too_long_is_refused(api, person, key):
    assert redeem(api, person(), code(), key=key).status == 422


def newcomer() -> User:
    now = clock.timestamp()
    user = User(new_id(), nickname="n", permission=1, create_time=now, update_time=now)
    credits.sign_up(user, Identity(f"password#{user.id}", user_id=user.id), 0)
    return user


def attempt(user: User, text: str, key: str | None = None) -> str:
    request = IdempotentRequest(user.id, "POST /users/me/credits", key, NewRedemption(redeem_code=text))
    try:
        topups.redeem(User.get(user.id, consistent_read=True), text, request)
    except Unprocessable as refusal:
        return refusal.code
    return "redeemed"


def test_fifty_who_redeem_one_code_at_once_use_it_as_often_as_it_may_be(api):
    text, users = code(max_uses=7), [newcomer() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(lambda user: attempt(user, text), users))
    assert outcomes.count("redeemed") == 7
    assert outcomes.count("code_used_up") == 43
    assert used(text) == 7
    assert sum(User.get(user.id, consistent_read=True).credits for user in users) == 700


def test_one_who_redeems_a_code_many_times_at_once_gets_it_once(api):
    text, user = code(max_uses=100), newcomer()
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda _: attempt(user, text), range(16)))
    assert outcomes.count("redeemed") == 1
    assert used(text) == 1
    assert User.get(user.id, consistent_read=True).credits == 100


def test_one_request_sent_many_times_at_once_succeeds_each_time_and_counts_once(api):
    text, user = code(max_uses=100), newcomer()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: attempt(user, text, key="k"), range(8)))
    assert outcomes == ["redeemed"] * 8
    assert used(text) == 1


def test_different_codes_at_once_all_count(api):
    user, texts = newcomer(), [code(value=n) for n in range(1, 11)]
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda text: attempt(user, text), texts))
    assert outcomes == ["redeemed"] * 10
    assert User.get(user.id, consistent_read=True).credits == 55


def test_what_the_ledger_and_redeeming_cost(api, person, counted):
    me, text = person(), code()
    ledger(api, me)
    user = f"GetItem {settings.USERS_TABLE}"
    counted.clear()
    ledger(api, me)
    assert Counter(counted) == Counter([user, f"Query {settings.CREDITS_TABLE}"])
    counted.clear()
    redeem(api, me, text, key="k")
    record = f"GetItem {settings.RECORDS_TABLE}"  # once for the key, once for whether the code was redeemed before
    throttle = f"UpdateItem {settings.RECORDS_TABLE}"
    looked = [f"GetItem {settings.CODES_TABLE}", record]
    assert counted == [user, record, throttle, *looked, "TransactWriteItems", throttle]
