"""Credits that administrators give and take."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from aideer.billing import topups
from aideer.core import clock, settings
from aideer.core.errors import PaymentRequired
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import CreditEntry, User
from aideer.schemas.credits import NewGrant
from tests import faults
from tests.support import check_rules


def grant(api, admin, user_id, amount, description="Thanks", key=None, **more):
    headers = {"Idempotency-Key": key} if key else None
    body = {"amount": amount, "description": description, **more}
    return api("users.grant", "POST", f"/users/{user_id}/credits", json=body, user=admin, headers=headers)


def entries(user_id):
    return list(CreditEntry.query(user_id, consistent_read=True))


def test_an_administrator_gives_and_takes(api, person):
    me, admin = person(), person(permission=2)
    given = grant(api, admin, me.id, 250, "For your patience")
    assert (given.status, given.json) == (200, {"message": "Granted.", "amount": 250, "credits_left": 1_000_250})
    taken = grant(api, admin, me.id, -50, "Too much")
    assert (taken.status, taken.json) == (200, {"message": "Deducted.", "amount": -50, "credits_left": 1_000_200})
    ledger = api("users.credits", "GET", "/users/me/credits", user=me).json
    assert ledger["credits_left"] == 1_000_200
    lines = [(line["amount"], line["kind"], line["description"]) for line in ledger["credit_records"]]
    assert lines == [(-50, "grant", "Too much"), (250, "grant", "For your patience"), (1_000_000, "signup", "Welcome")]
    check_rules(me)


def test_the_ledger_knows_who_it_was_and_does_not_say(api, person):
    me, admin = person(), person(permission=2)
    grant(api, admin, me.id, 5)
    assert entries(me.id)[-1].granted_by == admin.id
    assert admin.id not in api("users.credits", "GET", "/users/me/credits", user=me).body


def test_no_more_is_taken_than_is_there(api, person):
    me, admin = person(credits=100), person(permission=2)
    answer = grant(api, admin, me.id, -101)
    assert (answer.status, answer.json["code"]) == (402, "insufficient_credits")
    assert (answer.json["credits_left"], answer.json["credits_needed"]) == (100, 101)
    assert len(entries(me.id)) == 1
    assert grant(api, admin, me.id, -100).json["credits_left"] == 0
    check_rules(me)


def test_what_is_held_for_an_answer_is_not_taken(api, person):
    me, admin = person(credits=100), person(permission=2)
    me.user.update(actions=[User.credits.add(-60), User.holds["task"].set(60)])
    assert grant(api, admin, me.id, -41).status == 402
    assert grant(api, admin, me.id, -40).status == 200


def test_an_administrator_can_give_to_themselves_and_to_a_visitor(api, person):
    admin, visitor = person(permission=2), person(permission=0)
    assert grant(api, admin, admin.id, 1).status == grant(api, admin, visitor.id, 1).status == 200


def test_who_is_not_there_is_given_nothing(api, person):
    me, admin = person(), person(permission=2)
    me.user.update(actions=[User.deleted.set(True)])
    for user_id in (me.id, "nobody"):
        answer = grant(api, admin, user_id, 5)
        assert (answer.status, answer.json["code"]) == (404, "user_not_found")
    assert len(entries(me.id)) == 1
    assert grant(api, admin, "x" * 65, 5).status == 422


@pytest.mark.parametrize("permission", [0, 1])
def test_only_administrators_give(api, person, permission):
    me = person(permission=permission)
    assert grant(api, me, me.id, 5).status == 403
    assert me.user.credits == 1_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": 10**12 + 1},
        {"amount": -(10**12) - 1},
        {"amount": 1.5},
        {"amount": "5"},
        {"amount": True},
        {"amount": None},
        {"description": ""},
        {"description": " "},
        {"description": None},
        {"description": "d" * 256},
        {"description": "null\x00byte"},
        {"kind": "redeem"},
    ],
    ids=ascii,
)
def test_what_cannot_be_is_refused(api, person, wrong):
    me = person()
    answer = grant(api, person(permission=2), me.id, **{"amount": 5, **wrong})
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert me.user.credits == 1_000_000


def test_the_same_key_gives_the_same_answer_and_no_second_effect(api, person):
    me, other, admin = person(), person(), person(permission=2)
    first = grant(api, admin, me.id, 5, key="k")
    grant(api, admin, me.id, 5)
    again = grant(api, admin, me.id, 5, key="k")
    assert (again.status, again.body) == (200, first.body)
    assert me.user.credits == 1_000_010
    assert grant(api, admin, me.id, 6, key="k").json["code"] == "idempotency_key_reused"
    assert grant(api, admin, other.id, 5, key="k").json["credits_left"] == 1_000_005


def test_a_refusal_is_not_remembered(api, person):
    me, admin = person(credits=0), person(permission=2)
    assert grant(api, admin, me.id, -5, key="k").status == 402
    grant(api, admin, me.id, 5)
    assert grant(api, admin, me.id, -5, key="k").status == 200


def test_of_many_who_take_at_once_only_so_many_do_as_there_is(person):
    me, admin = person(credits=300), person(permission=2).user

    def take(_):
        new = NewGrant(amount=-100, description="d")
        try:
            return topups.grant(me.id, new, admin, IdempotentRequest(admin.id, "grant", None, new))["credits_left"]
        except PaymentRequired:
            return "refused"

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(take, range(12)))
    assert outcomes.count("refused") == 9
    assert sorted(left for left in outcomes if left != "refused") == [0, 100, 200]
    check_rules(me)


def test_one_request_sent_many_times_at_once_gives_once(person):
    me, admin = person(), person(permission=2).user
    new = NewGrant(amount=7, description="d")
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: topups.grant(me.id, new, admin, IdempotentRequest(admin.id, "g", "k", new)), range(8))
        )
    assert {answer["credits_left"] for answer in answers} == {1_000_007}
    assert me.user.credits == 1_000_007
    check_rules(me)


@pytest.mark.parametrize("after", ["the last credit is taken", "the user is deleted"])
def test_a_refusal_that_is_the_echo_of_the_request_itself_is_none(api, person, monkeypatch, after):
    me, admin = person(credits=100), person(permission=2)
    look = IdempotentRequest.find_answer
    first = []

    def overtaken(request):  # by the same request, right after it has looked for its own answer
        found = look(request)
        if not first:
            first.append("under way")
            first.append(grant(api, admin, me.id, -100, key="k"))
            if after == "the user is deleted":
                me.user.update(actions=[User.deleted.set(True)])
        return found

    monkeypatch.setattr(IdempotentRequest, "find_answer", overtaken)
    second = grant(api, admin, me.id, -100, key="k")
    assert (second.status, second.body) == (200, first[1].body)
    assert [line.amount for line in entries(me.id)] == [100, -100]


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
def test_on_a_bad_day_too_it_is_given_once(api, person, fault, key):
    me, admin = person(), person(permission=2)
    with fault():
        answer = grant(api, admin, me.id, 5, key=key)
    assert (answer.status, answer.json["credits_left"]) == (200, 1_000_005)
    assert me.user.credits == 1_000_005
    check_rules(me)


def test_a_user_who_is_deleted_meanwhile_is_given_nothing(api, person, monkeypatch):
    me, admin = person(), person(permission=2)
    entry = topups.credits.new_entry

    def deleted_first(*arguments):
        me.user.update(actions=[User.deleted.set(True)])
        return entry(*arguments)

    monkeypatch.setattr(topups.credits, "new_entry", deleted_first)
    assert grant(api, admin, me.id, 5).status == 404
    assert len(entries(me.id)) == 1


def test_a_key_lasts_a_day(api, person, monkeypatch):
    me, admin = person(), person(permission=2)
    grant(api, admin, me.id, 5, key="k")
    tomorrow = clock.now() + 24 * 3600 - 60
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    assert grant(api, admin, me.id, 5, key="k").json["credits_left"] == 1_000_005
    assert me.user.credits == 1_000_005


def test_what_it_costs(api, person, counted):
    me, admin = person(), person(permission=2)
    grant(api, admin, me.id, 5)
    counted.clear()
    grant(api, admin, me.id, 5, key="k")
    user = f"GetItem {settings.USERS_TABLE}"
    assert Counter(counted) == Counter([user, f"GetItem {settings.RECORDS_TABLE}", user, "TransactWriteItems"])
