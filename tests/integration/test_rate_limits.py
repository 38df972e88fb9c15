"""Who guesses or floods is stopped, and nobody else is."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from uuid import uuid4

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from aideer.accounts import sessions, users
from aideer.billing import topups
from aideer.core import clock
from aideer.core.errors import BadGateway, Busy, TooManyRequests, Unauthorized, Unprocessable
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, Identity, Record, Task
from aideer.security import limits, rate_limits
from aideer.security.limits import Limit
from tests import faults
from tests.stream_client import streamed, waited
from tests.support import check_rules, http_event, make_chat

NOW = 1_800_000_000.0
"""A multiple of every window's length that is used here."""


@pytest.fixture
def limit(monkeypatch):
    """limit("redeem", 3, 60): the limits that this test is about. Time stands still, unless the test moves it."""
    monkeypatch.setattr(clock, "now", lambda: NOW)

    def set_limit(kind, times, seconds=60):
        monkeypatch.setitem(rate_limits.LIMITS, kind, Limit(times, seconds))

    return set_limit


def at(monkeypatch, seconds):
    monkeypatch.setattr(clock, "now", lambda: NOW + seconds)


def refused(kind, *who):
    try:
        rate_limits.count(kind, *who)
    except TooManyRequests as refusal:
        return refusal
    return None


def someone():
    return uuid4().hex


def sign_in(api, name, password, address="203.0.113.9", **headers):
    form = {"grant_type": "password", "username": name, "password": password}
    return api("session.create", "POST", "/session/oauth2/token", form=form, headers=headers, address=address)


def redeem(api, user, text, key=None):
    headers = {"Idempotency-Key": key} if key else None
    return api("users.redeem", "POST", "/users/me/credits", json={"redeem_code": text}, user=user, headers=headers)


def code(**fields):
    made = Code(f"T-{uuid4().hex.upper()}", value=5, create_time=clock.timestamp(), **{"max_uses": 1, **fields})
    made.save()
    return made.code


# Counting


def test_so_many_are_let_through_and_no_more_until_the_window_is_over(limit, monkeypatch):
    limit("redeem", 3, 60)
    me = someone()
    assert [refused("redeem", me) is None for _ in range(5)] == [True, True, True, False, False]
    at(monkeypatch, 59.9)
    assert refused("redeem", me)
    at(monkeypatch, 60)
    assert refused("redeem", me) is None


def test_a_refusal_says_how_long_to_wait(limit, monkeypatch):
    limit("redeem", 1, 60)
    me = someone()
    rate_limits.count("redeem", me)
    for seconds, wait in ((0, "60"), (41, "19"), (59.9, "1")):
        at(monkeypatch, seconds)
        refusal = refused("redeem", me)
        assert (refusal.status, refusal.code) == (429, "too_many_attempts")
        assert refusal.headers == {"Retry-After": wait}


def test_each_kind_and_each_one_is_counted_alone(limit):
    for kind in ("redeem", "stream", "sign_in"):
        limit(kind, 1)
    me = someone()
    assert refused("redeem", me) is None
    assert refused("redeem", someone()) is None
    assert refused("stream", me) is None
    assert refused("sign_in", me, "a") is refused("sign_in", me + "a", "") is None
    assert refused("redeem", me)


def test_what_is_given_back_does_not_count(limit):
    limit("redeem", 1)
    me = someone()
    for _ in range(5):
        rate_limits.give_back(rate_limits.count("redeem", me))
    counted = rate_limits.count("redeem", me)
    assert refused("redeem", me)
    rate_limits.give_back(counted, counted, counted)  # it buys no more than it was
    rate_limits.count("redeem", me)
    assert refused("redeem", me)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (Unauthorized(), True),
        (Unprocessable("code", "It is wrong."), True),
        (BadGateway("wechat_fault", "Theirs."), False),
        (Busy(), False),
        (TooManyRequests("wechat_too_often", "Theirs.", retry_after=60), False),
        (EndpointConnectionError(endpoint_url="dynamodb"), False),
        (KeyError("a bug of ours"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_refused_counts_and_a_fault_does_not(limit, error, counts):
    limit("redeem", 1)
    me = someone()
    with pytest.raises(type(error)), rate_limits.count_attempt("redeem", me):
        raise error
    assert (refused("redeem", me) is not None) is counts


@pytest.mark.parametrize(("code", "counts"), [("other_username", False), ("username_taken", True)])
def test_only_the_refusals_that_are_guesses_count(limit, code, counts):
    limit("link", 1)
    me = someone()
    with pytest.raises(Unauthorized), rate_limits.count_attempt("link", me, guesses={"username_taken"}):
        raise Unauthorized(code)
    assert (refused("link", me) is not None) is counts


@pytest.mark.parametrize("networks", [1, 2])
def test_a_fault_while_counting_gives_back_what_was_counted_before_it(limit, monkeypatch, networks):
    limit("wechat", 1)
    address, count = f"2001:db8:{uuid4().hex[:4]}:1::/64", rate_limits.count
    counts = iter([count] * networks)

    def fail(*given, **more):
        try:
            return next(counts)(*given, **more)
        except StopIteration:
            raise Busy from None

    with monkeypatch.context() as patch:
        patch.setattr(rate_limits, "count", fail)
        with pytest.raises(Busy), rate_limits.count_attempt_from("wechat", address):
            pytest.fail("it was made")
    assert refused("wechat", address) is None


def test_an_attempt_that_was_right_does_not_count_and_one_too_many_is_not_made(limit):
    limit("redeem", 1)
    me = someone()
    for _ in range(3):
        with rate_limits.count_attempt("redeem", me):
            assert refused("redeem", me), "it counts while it lasts"
    rate_limits.count("redeem", me)
    with pytest.raises(TooManyRequests), rate_limits.count_attempt("redeem", me):
        pytest.fail("it was made")


def test_two_hundred_at_once_are_no_more_than_the_limit(limit):
    limit("redeem", 7)
    me = someone()
    with ThreadPoolExecutor(50) as pool:
        let_through = sum(refusal is None for refusal in pool.map(lambda _: refused("redeem", me), range(200)))
    assert let_through == 7


@settings(max_examples=30)
@given(
    times=st.integers(1, 4),
    calls=st.lists(st.tuples(st.sampled_from(["try", "give back"]), st.floats(0, 40)), max_size=25),
)
def test_never_more_than_so_many_at_a_time_in_any_window(times, calls):
    """In any order of attempts and givings back, at any times: what is let through and not given back is within the limit."""
    me, now, kept = someone(), NOW, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rate_limits.LIMITS, "redeem", Limit(times, 60))
        for what, later in calls:
            now += later
            patch.setattr(clock, "now", lambda now=now: now)
            window = kept.setdefault(now // 60, [])
            if what == "give back":
                for counted in [counted for others in kept.values() for counted in others][:1]:
                    rate_limits.give_back(counted)
                    kept[int(counted.sk) // 60].remove(counted)
                continue
            full = len(window) == times
            with suppress(TooManyRequests):
                window.append(rate_limits.count("redeem", me))
                assert not full
            assert len(window) <= times
            assert len(window) == times or not full


def test_a_table_holds_no_name_and_no_address():
    name, address = f"somebody-{someone()}", "198.51.100.77"
    rate_limits.count("sign_in", name, address)
    rate_limits.count("sign_in_address", address)
    rate_limits.remember(name, address)
    kept = "".join(record.pk + record.sk for record in Record.scan())
    assert name not in kept
    assert address not in kept


def test_a_counter_goes_by_itself_after_its_window(limit):
    limit("redeem", 1, 60)
    counted = rate_limits.count("redeem", someone())
    assert NOW + 60 <= Record.get(*counted).ttl <= NOW + 120


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:cb00:7109", "203.0.113.9"),
        ("no address", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_address_counts_as_what_one_caller_has(address, counts_as):
    assert rate_limits.normalize_address(address) == counts_as


def test_an_ipv6_address_counts_for_each_network_that_one_customer_may_have():
    networks = [
        tuple(network) for network in rate_limits.list_networks(rate_limits.normalize_address("2001:db8:1:ab02::1"))
    ]
    assert networks == [("2001:db8:1:ab02::/64", 1), ("2001:db8:1:ab00::/56", 2), ("2001:db8:1::/48", 4)]
    assert rate_limits.list_networks(rate_limits.normalize_address("::ffff:203.0.113.9")) == [("203.0.113.9", 1)]
    assert rate_limits.list_networks(rate_limits.normalize_address("nothing")) == [("unknown", 1)]


def test_the_environment_changes_limits():
    assert limits.parse_limits("") == limits.DEFAULTS
    changed = limits.parse_limits("redeem=20/3600 all=5/60")
    assert changed.pop("redeem") == Limit(20, 3600)
    assert set(changed.values()) == {Limit(5, 60)}
    for wrong in ("redem=1/2", "redeem=1", "redeem", "redeem=x/2"):
        with pytest.raises(ValueError, match=r".+"):
            limits.parse_limits(wrong)


def test_an_attempt_whose_answer_was_lost_is_counted(api, person, limit):
    limit("redeem", 2)
    me = person()
    with faults.answer_lost("UpdateItem"):
        assert redeem(api, me, "WRONG").status == 503
    assert [redeem(api, me, "WRONG").status for _ in range(2)] == [422, 429]


def test_a_right_one_is_not_kept_waiting_by_what_cannot_be_given_back(limit):
    counted = rate_limits.count("redeem", someone())
    with faults.refused("UpdateItem", faults.THROTTLED, times=9):
        rate_limits.give_back(counted)


# Signing in


def test_wrong_passwords_for_a_name_from_one_address_end_there(api, person, limit):
    limit("sign_in", 3)
    me = person()
    assert [sign_in(api, me.username, "wrong").status for _ in range(4)] == [400, 400, 400, 429]
    answer = sign_in(api, me.username, me.password)
    assert (answer.status, answer.json["code"]) == (429, "too_many_attempts")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert sign_in(api, f" {me.username.upper()} ", me.password).status == 429
    assert sign_in(api, me.username, me.password, address="198.51.100.7").status == 200, "they are elsewhere"
    assert sign_in(api, person().username, "wrong").status == 400, "somebody else here"


def test_a_wrong_password_more_after_the_window(api, person, limit, monkeypatch):
    limit("sign_in", 1)
    me = person()
    assert [sign_in(api, me.username, "wrong").status for _ in range(2)] == [400, 429]
    at(monkeypatch, 60)
    assert sign_in(api, me.username, me.password).status == 200


def test_who_knows_the_password_is_never_locked_out_by_signing_in(api, person, limit):
    for kind in ("sign_in", "sign_in_address", "sign_in_name"):
        limit(kind, 2)
    me, address = person(), "198.51.100.8"
    sign_in(api, me.username, "wrong", address)
    assert {sign_in(api, me.username, me.password, address).status for _ in range(6)} == {200}
    assert [sign_in(api, me.username, "wrong", address).status for _ in range(2)] == [400, 429], "failures stay counted"


def test_one_s_own_account_buys_no_guesses_at_others(api, person, limit):
    limit("sign_in_address", 3)
    me, address, statuses = person(), "198.51.100.9", []
    for _ in range(5):
        sign_in(api, me.username, me.password, address)
        statuses.append(sign_in(api, person().username, "wrong", address).status)
    assert statuses == [400, 400, 400, 429, 429]


def test_an_address_that_tries_many_names_is_stopped(api, limit):
    limit("sign_in_address", 5)
    statuses = [sign_in(api, someone(), "wrong", "198.51.100.10").status for _ in range(6)]
    assert statuses == [400] * 5 + [429]


def test_a_name_is_locked_for_all_only_by_many_addresses(api, person, limit):
    limit("sign_in", 3)
    limit("sign_in_name", 6)
    me = person()
    for _ in range(20):
        sign_in(api, me.username, "wrong", "198.51.100.20")
    assert sign_in(api, me.username, me.password, "198.51.100.21").status == 200, "one address cannot"
    for n in (22, 23):
        for _ in range(3):
            sign_in(api, me.username, "wrong", f"198.51.100.{n}")
    assert sign_in(api, me.username, me.password, "198.51.100.24").status == 429


def test_who_is_where_they_have_signed_in_before_is_not_locked_out_by_many_addresses(api, person, limit, monkeypatch):
    limit("sign_in", 3)
    limit("sign_in_name", 6)
    me, home = person(), "198.51.100.100"
    assert sign_in(api, me.username, me.password, home).status == 200

    def attack():
        for n in range(101, 104):
            for _ in range(3):
                sign_in(api, me.username, "wrong", f"198.51.100.{n}")

    attack()
    assert sign_in(api, me.username, me.password, "198.51.100.99").status == 429
    assert {sign_in(api, me.username, me.password, home).status for _ in range(3)} == {200}
    assert [sign_in(api, me.username, "wrong", home).status for _ in range(4)] == [400, 400, 400, 429]
    assert sign_in(api, person().username, "wrong", home).status == 400
    at(monkeypatch, rate_limits.KNOWN_DAYS * 86400)
    attack()
    assert sign_in(api, me.username, me.password, home).status == 429, "that was long ago"


def test_who_is_where_they_have_signed_in_before_is_not_locked_out_by_others_there(api, person, limit, monkeypatch):
    limit("sign_in", 3)
    limit("sign_in_address", 5)
    me, new, school = person(), person(), "198.51.100.110"
    assert sign_in(api, me.username, me.password, school).status == 200
    for _ in range(5):
        sign_in(api, someone(), "wrong", school)
    assert sign_in(api, new.username, new.password, school).status == 429, "who was never there waits"
    assert {sign_in(api, me.username, me.password, school).status for _ in range(3)} == {200}
    assert [sign_in(api, me.username, "wrong", school).status for _ in range(4)] == [400, 400, 400, 429]
    assert sign_in(api, me.username, me.password, school).status == 429, "what is counted for both together holds"


def test_that_it_cannot_be_remembered_keeps_nobody_out(api, person, limit):
    me = person()
    with faults.refused("PutItem", faults.THROTTLED, times=9):
        assert sign_in(api, me.username, me.password).status == 200


def many(prefix, length, start=0):
    """Addresses of different /64s of 2001:db8:<prefix>::/<length>."""
    for n in range(start, 2 ** (64 - length)):
        yield f"2001:db8:{prefix:x}:{n:x}::1"


@pytest.mark.parametrize(("length", "wrong"), [(56, 6), (48, 12)])
def test_no_customers_network_locks_a_name_for_all(api, person, limit, length, wrong):
    limit("sign_in", 3)
    limit("sign_in_name", 20)
    me, prefix = person(), uuid4().int % 2**16
    addresses = list(islice(many(prefix, length), 20)) if length == 56 else list(many(prefix, 48))[::256][:30]
    statuses = [sign_in(api, me.username, "wrong", address).status for address in addresses for _ in range(2)]
    assert statuses.count(400) == wrong
    assert sign_in(api, me.username, me.password, "198.51.100.120").status == 200


def test_who_has_signed_in_from_a_network_is_not_locked_out_by_its_neighbours(api, person, limit):
    limit("sign_in", 1)
    me, prefix = person(), uuid4().int % 2**16
    home, *others = islice(many(prefix, 56), 6)
    assert sign_in(api, me.username, me.password, home).status == 200
    assert [sign_in(api, me.username, "wrong", other).status for other in others] == [400, 400, 429, 429, 429]
    assert {sign_in(api, me.username, me.password, home).status for _ in range(3)} == {200}


def test_who_is_right_uses_no_network_up(api, person, limit):
    for kind in ("sign_in", "sign_in_address", "sign_in_name"):
        limit(kind, 1)
    me, prefix = person(), uuid4().int % 2**16
    assert {sign_in(api, me.username, me.password, address).status for address in islice(many(prefix, 56), 5)} == {200}


def test_one_caller_alone_does_not_use_its_wider_networks_up(api, limit):
    limit("sign_in_address", 2)
    prefix = uuid4().int % 2**16
    first, second = islice(many(prefix, 56), 2)
    assert [sign_in(api, someone(), "wrong", first).status for _ in range(9)] == [400] * 2 + [429] * 7
    assert sign_in(api, someone(), "wrong", second).status == 400


def test_a_name_that_nobody_has_is_stopped_alike(api, limit):
    limit("sign_in", 2)
    name = someone()
    assert [sign_in(api, name, "wrong").status for _ in range(3)] == [400, 400, 429]


def test_an_address_that_the_caller_invents_is_not_believed(api, limit):
    limit("sign_in_address", 2)
    tries = [
        sign_in(api, someone(), "wrong", "198.51.100.30", **{"X-Forwarded-For": f"10.0.0.{n}"}).status for n in range(3)
    ]
    assert tries == [400, 400, 429]


def test_two_hundred_wrong_passwords_at_once_are_no_more_than_the_limit(person, limit, monkeypatch):
    limit("sign_in", 5)
    me, looked = person(), []
    monkeypatch.setattr(sessions.password_hashing, "find_matching_form", lambda *_: looked.append(1))

    def attempt(_):
        with suppress(Unauthorized, TooManyRequests):
            sessions.sign_in(me.username, "wrong", "198.51.100.40")

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(attempt, range(200)))
    assert len(looked) == 5


def test_nobody_signs_in_uncounted(api, person):
    me = person()
    with faults.refused("UpdateItem", faults.THROTTLED, times=99):
        answer = sign_in(api, me.username, me.password)
    assert (answer.status, answer.json["code"]) == (503, "busy")


def fault(*_, **__):
    raise Busy


def bug(*_, **__):
    raise KeyError("a bug of ours")


@pytest.mark.parametrize(
    ("broken", "address"),
    [(fault, "198.51.100.60"), (bug, "198.51.100.61"), (fault, "2001:db8:60::1"), (bug, "2001:db8:61::1")],
)
def test_a_fault_while_signing_in_is_no_wrong_password(api, person, limit, monkeypatch, address, broken):
    for kind in ("sign_in", "sign_in_address", "sign_in_name"):
        limit(kind, 2)
    me = person()
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "_verify", broken)
        assert {sign_in(api, me.username, me.password, address).status for _ in range(6)} <= {500, 503}
    assert [sign_in(api, me.username, "wrong", address).status for _ in range(3)] == [400, 400, 429]


def test_a_fault_of_a_later_counter_is_no_wrong_password(api, person, limit, monkeypatch):
    limit("sign_in", 1)
    me, count = person(), rate_limits.count
    with monkeypatch.context() as patch:
        patch.setattr(
            rate_limits, "count", lambda kind, *who, **k: count(kind, *who, **k) if kind == "sign_in" else fault()
        )
        assert {sign_in(api, me.username, me.password).status for _ in range(3)} == {503}
    assert sign_in(api, me.username, me.password).status == 200


# Signing up


def test_a_fault_while_signing_up_does_not_count(api, limit, monkeypatch):
    limit("sign_up", 1)
    body = {"username": f"u{someone()[:12]}", "password": "secret-123"}
    with monkeypatch.context() as patch:
        patch.setattr(users, "_create", fault)
        for _ in range(3):
            assert api("users.create", "POST", "/users", json=body, address="198.51.100.53").status == 503
    assert api("users.create", "POST", "/users", json=body, address="198.51.100.53").status == 200
    assert api("users.create", "POST", "/users", json=body, address="198.51.100.53").status == 429


def test_an_address_signs_up_so_many_and_no_more(api, limit):
    limit("sign_up", 2, 3600)

    def sign_up(name, address="198.51.100.50"):
        body = {"username": name, "password": "secret-123"}
        return api("users.create", "POST", "/users", json=body, address=address)

    names = [f"u{someone()[:12]}" for _ in range(4)]
    assert [sign_up(name).status for name in names[:3]] == [200, 200, 429]
    with pytest.raises(Identity.DoesNotExist):
        Identity.get(f"password#{names[2]}")
    assert sign_up(names[3], "198.51.100.51").status == 200


@pytest.mark.parametrize(("step", "users"), [(1, 4), (256, 8)])
def test_a_customer_with_many_networks_signs_up_few_users(api, limit, step, users):
    limit("sign_up", 2, 3600)
    prefix = uuid4().int % 2**16
    statuses = []
    for address in list(many(prefix, 48))[::step][:10]:
        body = {"username": f"u{someone()[:12]}", "password": "secret-123"}
        statuses.append(api("users.create", "POST", "/users", json=body, address=address).status)
    assert statuses.count(200) == users
    assert set(statuses) == {200, 429}


def test_what_was_no_request_does_not_count(api, limit):
    limit("sign_up", 1)
    for body in ({}, {"username": "x", "password": "secret-123"}, {"username": "name", "password": "short"}):
        assert api("users.create", "POST", "/users", json=body, address="198.51.100.52").status == 422
    body = {"username": f"u{someone()[:12]}", "password": "secret-123"}
    assert api("users.create", "POST", "/users", json=body, address="198.51.100.52").status == 200


# Redeeming


def test_who_guesses_codes_is_stopped_even_with_a_right_one(api, person, limit, monkeypatch):
    limit("redeem", 3, 3600)
    me, right = person(), code()
    assert [redeem(api, me, f"GUESS-{n}").status for n in range(4)] == [422, 422, 422, 429]
    answer = redeem(api, me, right)
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "too_many_attempts", "3600")
    assert redeem(api, person(), right).status == 200, "somebody else"
    at(monkeypatch, 3600)
    assert redeem(api, me, code()).status == 200
    check_rules(me)


def test_right_codes_do_not_count(api, person, limit):
    limit("redeem", 2)
    me = person()
    assert {redeem(api, me, code()).status for _ in range(5)} == {200}


def test_every_wrong_one_counts_whatever_is_wrong_with_it(api, person, limit):
    limit("redeem", 5)
    me, used = person(), code()
    redeem(api, me, used)
    wrong = ["UNKNOWN", used, code(max_uses=0), code(expires_at=clock.timestamp(NOW - 1)), code(revoked=True)]
    codes = [redeem(api, me, text).json["code"] for text in wrong]
    assert codes == ["code_unknown", "code_already_redeemed", "code_used_up", "code_expired", "code_revoked"]
    assert redeem(api, me, code()).status == 429


@pytest.mark.parametrize("broken", [fault, bug])
def test_a_fault_while_redeeming_is_no_guess(api, person, limit, monkeypatch, broken):
    limit("redeem", 1)
    me = person()
    with monkeypatch.context() as patch:
        patch.setattr(topups, "_redeem", broken)
        assert {redeem(api, me, "AAAA").status for _ in range(3)} <= {500, 503}
    assert [redeem(api, me, "AAAA").status for _ in range(2)] == [422, 429]


def test_a_request_that_succeeded_is_answered_again_though_its_user_is_stopped(api, person, limit):
    limit("redeem", 1)
    me, text = person(), code()
    first = redeem(api, me, text, key="k")
    redeem(api, me, "WRONG")
    assert redeem(api, me, "WRONG").status == 429
    assert redeem(api, me, text, key="k").body == first.body


def test_two_hundred_wrong_codes_at_once_are_no_more_than_the_limit(person, limit, monkeypatch):
    limit("redeem", 5)
    me, looked, redeemable = person(), [], topups._get_redeemable
    monkeypatch.setattr(topups, "_get_redeemable", lambda *given: looked.append(1) or redeemable(*given))
    user = me.user

    def guess(n):
        try:
            topups.redeem(user, f"GUESS-{n}", IdempotentRequest(me.id, "redeem", None, ""))
        except (Unprocessable, TooManyRequests) as refusal:
            return refusal.status
        return 200

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(guess, range(200)))
    assert (statuses.count(422), statuses.count(429), len(looked)) == (5, 195, 5)


# Streams


def asked(api, me):
    chat = make_chat(me, "hello")
    return api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me).json


def test_who_opens_too_many_streams_is_refused_and_their_answers_are_made(api, person, limit):
    limit("stream", 2)
    me = person()
    tasks = [asked(api, me) for _ in range(3)]
    assert [streamed(task["stream_url"]).status_code for task in tasks[:2]] == [200, 200]
    third = streamed(tasks[2]["stream_url"])
    assert third.status_code == 429
    assert json.loads(third.text)["code"] == "too_many_attempts"
    assert 0 < int(third.headers["retry-after"]) <= 60
    assert Task.get(tasks[2]["task_id"], consistent_read=True).status == "finished", "it is paid for"
    check_rules(me)


def test_going_on_from_a_position_is_no_opening(api, person, limit):
    limit("stream", 1)
    me = person()
    url = asked(api, me)["stream_url"]
    assert streamed(url).status_code == 200
    assert streamed(url).status_code == 429
    assert {streamed(f"{url}&after={n}").status_code for n in (0, 1, 2, 3)} == {200}
    assert streamed(url, **{"Last-Event-ID": "end"}).status_code == 410


def test_the_door_that_cannot_stream_counts_too(api, person, limit):
    limit("stream", 1)
    me = person()
    first, second = asked(api, me), asked(api, me)
    assert streamed(first["stream_url"]).status_code == 200
    assert waited(f"/tasks/{second['task_id']}/stream", second["task_id"], me.token).status == 429
    assert not Task.get(second["task_id"], consistent_read=True).streamed, "it can still be opened later"


def test_others_streams_do_not_count(api, person, limit):
    limit("stream", 1)
    assert {streamed(asked(api, person())["stream_url"]).status_code for _ in range(3)} == {200}


def test_a_throttle_that_does_not_answer_costs_nobody_an_answer(api, person, limit, monkeypatch):
    def unavailable(*_):
        with faults.refused("UpdateItem", faults.THROTTLED, times=99):
            return Record("throttle", "x").update([Record.uses.add(1)])

    monkeypatch.setattr(rate_limits, "count", unavailable)
    me = person()
    assert streamed(asked(api, me)["stream_url"]).status_code == 200


def test_tests_say_where_a_request_comes_from():
    assert http_event("GET", "/health", address="192.0.2.1")["requestContext"]["http"]["sourceIp"] == "192.0.2.1"
