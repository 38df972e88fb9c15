"""Signing in by password, refreshing, and signing out."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from aideer.accounts import sessions, users
from aideer.core import clock, settings
from aideer.data.models import Identity, Record
from aideer.security import auth, password_hashing
from tests import faults


def sign_in(api, username, password, **form):
    form = {"grant_type": "password", "username": username, "password": password, **form}
    return api("session.create", "POST", "/session/oauth2/token", form=form)


def refresh(api, token, **kwargs):
    return api("session.refresh", "POST", "/session/refresh", token=token, **kwargs)


def is_signed_in(api, token):
    return api("users.me", "GET", "/users/me", token=token).status == 200


@pytest.fixture
def move_time(monkeypatch):
    """Moves the clock on by seconds."""
    began, moved = clock.now(), [0.0]
    monkeypatch.setattr(clock, "now", lambda: began + moved[0])

    def move(seconds: float) -> None:
        moved[0] += seconds

    return move


def test_signing_in_gives_a_pair_of_tokens(api, person):
    me = person()
    answer = sign_in(api, me.username, me.password)
    assert answer.status == 200
    assert {key: value for key, value in answer.json.items() if not key.endswith("_token")} == {
        "token_type": "bearer",
        "expires_in": 24 * 3600,
        "stream_base": "http://stream.test",
        "session_id": auth.verify(answer.json["access_token"])["sid"],
    }
    assert is_signed_in(api, answer.json["access_token"])
    for name, days in (("access", 1), ("refresh", 90)):
        claims = jwt.decode(answer.json[f"{name}_token"], options={"verify_signature": False})
        assert (claims["sub"], claims["typ"], claims["amr"], claims["ver"]) == (me.id, name, "password", 0)
        assert claims["exp"] - claims["iat"] == days * 24 * 3600


def test_a_name_is_known_in_any_case_and_with_spaces_around(api, person):
    me = person()
    assert sign_in(api, f" {me.username.upper()} ", me.password).status == 200


def test_a_client_may_say_more_than_it_must(api, person):
    me = person()
    assert sign_in(api, me.username, me.password, client_id="app", scope="all").status == 200


def test_a_wrong_password_and_an_unknown_name_look_the_same_and_cost_the_same(api, person, monkeypatch):
    checked = []
    matches = password_hashing.find_matching_form
    monkeypatch.setattr(password_hashing, "find_matching_form", lambda *given: checked.append(given) or matches(*given))
    me = person()
    wrong = sign_in(api, me.username, "wrong")
    unknown = sign_in(api, "nobody of this name", me.password)
    endless = sign_in(api, "n" * 200, me.password)
    assert wrong.status == unknown.status == endless.status == 400
    assert wrong.body == unknown.body == endless.body
    assert wrong.json["code"] == "invalid_credentials"
    assert [password_hash is None for password_hash, _ in checked] == [False, True, True]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"grant_type": "password"},
        {"grant_type": "client_credentials", "username": "name", "password": "secret"},
        {"grant_type": "password", "username": "name"},
        {"grant_type": "password", "username": "n" * 256, "password": "secret"},
        {"grant_type": "password", "username": "name", "password": "s" * 256},
    ],
    ids=str,
)
def test_an_incomplete_form_is_refused(api, form):
    answer = api("session.create", "POST", "/session/oauth2/token", form=form)
    assert (answer.status, answer.json["code"]) == (400, "validation_error")


@pytest.mark.parametrize("raw", [b"\xff", b"grant_type=password&username=%ff%fe&password=%00", b"&&&=", b"a" * 100_000])
def test_what_is_no_form_is_refused(api, raw):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api("session.create", "POST", "/session/oauth2/token", raw=raw, headers=kind).status == 400


def test_a_deleted_user_cannot_sign_in(api, person):
    me = person()
    user = me.user
    user.deleted = True
    user.save()
    assert sign_in(api, me.username, me.password).status == 400
    user.delete()
    assert sign_in(api, me.username, me.password).status == 400


def test_a_password_that_is_changed_while_it_is_checked_lets_nobody_in(api, person, monkeypatch):
    me = person()
    matches = password_hashing.find_matching_form

    def changed_meanwhile(password_hash, password):
        identity = Identity.get(users.password_key(me.username))
        identity.update(actions=[Identity.password_hash.set("changed")])
        return matches(password_hash, password)

    monkeypatch.setattr(password_hashing, "find_matching_form", changed_meanwhile)
    assert sign_in(api, me.username, me.password).status == 400


def test_a_refresh_gives_a_new_pair_that_works(api, person):
    answer = refresh(api, person().refresh_token)
    assert answer.status == 200
    assert is_signed_in(api, answer.json["access_token"])
    assert refresh(api, answer.json["refresh_token"]).status == 200


def test_an_empty_body_is_as_good_as_none(api, person):
    me = person()
    assert refresh(api, me.refresh_token, json={}).status == 200
    assert refresh(api, me.refresh_token, json={"ticket": None}).status == 200


def test_for_a_minute_a_lost_answer_can_be_asked_for_again(api, person, move_time):
    me = person()
    first = refresh(api, me.refresh_token).json
    move_time(sessions.GRACE_SECONDS)
    second = refresh(api, me.refresh_token).json
    assert is_signed_in(api, first["access_token"])
    assert is_signed_in(api, second["access_token"])


def test_a_later_second_use_ends_all_sessions(api, person, move_time):
    me = person()
    stolen = refresh(api, me.refresh_token).json
    move_time(sessions.GRACE_SECONDS + 1)
    answer = refresh(api, me.refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "token_reused")
    assert not is_signed_in(api, me.token)
    assert not is_signed_in(api, stolen["access_token"])
    assert refresh(api, stolen["refresh_token"]).json["code"] == "token_revoked"
    assert is_signed_in(api, sign_in(api, me.username, me.password).json["access_token"])


def test_the_minute_counts_from_the_first_use(api, person, move_time):
    me = person()
    refresh(api, me.refresh_token)
    move_time(40)
    assert refresh(api, me.refresh_token).status == 200
    move_time(40)
    assert refresh(api, me.refresh_token).status == 401


def test_two_refreshes_at_once_both_succeed(person):
    claims = auth.verify(person().refresh_token)
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda _: sessions.refresh(claims), range(8)))
    assert len({auth.verify(pair.access_token)["jti"] for pair in pairs}) == 8


def test_two_late_uses_at_once_end_the_sessions_once(person, move_time):
    me = person()
    claims = auth.verify(me.refresh_token)
    sessions.refresh(claims)
    move_time(sessions.GRACE_SECONDS + 1)

    def late(_):
        with pytest.raises(auth.Unauthorized):
            sessions.refresh(claims)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(late, range(8)))
    assert me.user.token_version == 1


def test_a_use_is_remembered_for_as_long_as_the_token_lives(person):
    me = person()
    claims = auth.verify(me.refresh_token)
    sessions.refresh(claims)
    [use] = Record.query(f"refresh#{me.id}")
    assert use.sk == claims["jti"]
    assert use.ttl > claims["exp"]


def test_only_a_password_sessions_refresh_token_is_taken(api, person):
    me = person()
    wechat = auth.issue_pair(me.user, "wechat")
    for wrong in (me.token, wechat["refresh_token"], wechat["access_token"]):
        answer = refresh(api, wrong)
        assert (answer.status, answer.json["code"]) == (401, "wrong_token_type")
    assert refresh(api, None).status == 401
    assert refresh(api, "no token").status == 401


def test_an_expired_refresh_token_is_refused(api, person, monkeypatch):
    me = person()
    long_ago = clock.now() - 91 * 24 * 3600
    monkeypatch.setattr(clock, "now", lambda: long_ago)
    old = auth.issue_pair(me.user, "password")["refresh_token"]
    monkeypatch.undo()
    assert refresh(api, old).json["code"] == "token_expired"


@pytest.mark.parametrize("body", [{"ticket": 5}, {"tickt": "x"}, [], "x", 5], ids=str)
def test_a_wrong_body_is_refused_and_uses_nothing_up(api, person, body):
    me = person()
    assert refresh(api, me.refresh_token, json=body).status == 422
    assert list(Record.query(f"refresh#{me.id}")) == []
    assert refresh(api, None, json=body).status == 422  # a stranger may come with a ticket


def test_signing_out_ends_every_session(api, person):
    me = person()
    other = sign_in(api, me.username, me.password).json
    answer = api("session.delete", "DELETE", "/session", user=me)
    assert answer.status == 200
    assert set(answer.json) == {"message"}
    for token in (me.token, other["access_token"]):
        assert not is_signed_in(api, token)
    for token in (me.refresh_token, other["refresh_token"]):
        assert refresh(api, token).status == 401
    assert is_signed_in(api, sign_in(api, me.username, me.password).json["access_token"])


def test_signing_out_twice_at_once_leaves_a_session_that_began_in_between(api, person):
    me = person()
    as_both_read_it = [me.user, me.user]
    sessions.sign_out(as_both_read_it[0])
    later = sign_in(api, me.username, me.password).json
    sessions.sign_out(as_both_read_it[1])
    assert is_signed_in(api, later["access_token"])


def test_a_visitor_can_sign_out(api, person):
    me = person(permission=0)
    assert api("session.delete", "DELETE", "/session", user=me).status == 200
    assert not is_signed_in(api, me.token)


def test_what_sessions_cost(api, person, counted):
    me = person()
    user, identity, record = settings.USERS_TABLE, settings.IDENTITIES_TABLE, settings.RECORDS_TABLE
    sign_in(api, me.username, me.password)
    counted.clear()
    sign_in(api, me.username, me.password)
    looked = [f"GetItem {identity}", f"GetItem {user}", f"GetItem {identity}"]
    throttles = [f"UpdateItem {record}"] * 3
    begun = [*looked, "TransactWriteItems"]
    assert counted == [*throttles, *begun, f"PutItem {record}", *throttles]  # counted, remembered, and given back
    counted.clear()
    refresh(api, me.refresh_token)
    refreshed = [f"GetItem {user}", f"PutItem {record}", f"UpdateItem {record}"]
    assert Counter(counted) == Counter(refreshed)
    counted.clear()
    refresh(api, me.refresh_token)
    assert Counter(counted) == Counter([*refreshed, f"GetItem {record}"])
    counted.clear()
    api("session.delete", "DELETE", "/session", user=me)
    assert Counter(counted) == Counter([f"GetItem {user}", "TransactWriteItems"])


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.THROTTLED),
        lambda: faults.answer_lost("TransactWriteItems"),
    ],
    ids=["conflict", "throttled", "lost"],
)
def test_signing_out_succeeds_on_a_bad_day(api, person, fault):
    me = person()
    with fault():
        assert api("session.delete", "DELETE", "/session", user=me).status == 200
    assert me.user.token_version == 1


def test_a_refresh_whose_answer_is_lost_can_be_asked_for_again(api, person):
    me = person()
    with faults.answer_lost("PutItem"):
        answer = refresh(api, me.refresh_token)
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "busy", "1")
    assert refresh(api, me.refresh_token).status == 200


def test_where_dynamodb_does_not_answer_it_is_said_to_be_busy(api, person):
    me = person()
    for call in (
        lambda: sign_in(api, me.username, me.password),
        lambda: refresh(api, me.refresh_token),
        lambda: api("users.me", "GET", "/users/me", user=me),
        lambda: api("users.redeem", "POST", "/users/me/credits", user=me, json={"wrong": "body"}),
    ):
        with faults.answer_lost("GetItem"):
            answer = call()
        assert (answer.status, answer.json["code"]) == (503, "busy")


# A chain of refresh tokens (RFC 9700, section 4.14.2)


def test_all_uses_within_the_minute_give_one_successor(person, move_time):
    claims = auth.verify(person().refresh_token)
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda _: sessions.refresh(claims), range(8)))
    move_time(sessions.GRACE_SECONDS)
    pairs.append(sessions.refresh(claims))
    successors = {auth.verify(pair.refresh_token)["jti"] for pair in pairs}
    assert len(successors) == 1
    assert successors != {claims["jti"]}


def test_a_thief_within_the_minute_is_noticed_when_both_go_on(api, person, move_time):
    me = person()
    mine, theirs = (refresh(api, me.refresh_token).json["refresh_token"] for _ in range(2))
    move_time(3600)
    mine = refresh(api, mine).json
    move_time(3600)
    answer = refresh(api, theirs)
    assert (answer.status, answer.json["code"]) == (401, "token_reused")
    assert not is_signed_in(api, mine["access_token"])


def test_a_fork_collides_at_whatever_step_it_goes_on(api, person, move_time):
    me = person()
    mine, theirs = (refresh(api, me.refresh_token).json["refresh_token"] for _ in range(2))
    for _ in range(3):
        move_time(3600)
        mine = refresh(api, mine).json["refresh_token"]
    assert refresh(api, theirs).json["code"] == "token_reused"
    assert refresh(api, mine).json["code"] == "token_revoked"


def test_two_sessions_of_one_user_are_two_chains(api, person, move_time):
    me = person()
    one, other = (sign_in(api, me.username, me.password).json["refresh_token"] for _ in range(2))
    for _ in range(3):
        move_time(3600)
        one, other = (refresh(api, token).json["refresh_token"] for token in (one, other))
    assert auth.verify(one)["jti"] != auth.verify(other)["jti"]


def test_a_chain_outlives_a_rotation_of_the_signing_keys(person, monkeypatch):
    claims = auth.verify(person().refresh_token)
    before = auth.aws.read_signing_keys()
    first = sessions.refresh(claims)
    monkeypatch.setattr(auth.aws, "read_signing_keys", lambda: ["a new key of thirty-two bytes and more", *before])
    second = sessions.refresh(claims)
    assert auth.verify(first.refresh_token)["jti"] == auth.verify(second.refresh_token)["jti"]
