"""What an access token alone may not do: it lives for a day, and can be stolen."""

from uuid import uuid4

import pytest

from aideer.accounts import freshness
from aideer.accounts.users import password_key
from aideer.core import clock
from aideer.core.errors import Busy
from aideer.data.models import Identity, User
from aideer.security import auth, password_hashing, rate_limits
from aideer.security.limits import Limit
from tests.integration.test_sessions import move_time  # noqa: F401
from tests.integration.test_wechat import claims, sign_in, signed_in, somebody
from tests.request_samples import PASSWORD

NEW = "another-secret-456"


def new_name():
    return f"n{uuid4().hex[:12]}"


def rename(me, **more):
    return ("users.update", "PUT", f"/users/{me.id}", {"username": new_name(), **more})


def delete(me, **more):
    return ("users.delete", "DELETE", f"/users/{me.id}", more or None)


def link_wechat(code, **more):
    return ("users.link_wechat", "POST", "/users/me/identities/wechat", {"code": code, **more})


def link_password():
    body = {"username": new_name(), "password": NEW}
    return ("users.link_password", "POST", "/users/me/identities/password", body)


def call(api, token, request):
    module, method, path, body = request
    return api(module, method, path, json=body, token=token)


def stale(me, method="password"):
    """An access token of a sign-in eleven minutes ago."""
    return auth.issue_pair(me.user, method, auth_time=int(clock.now()) - 660)["access_token"]


def of_the_last_release(me, kind="access"):
    """A token without auth_time, as release 0.1.0 made them."""
    said = auth.verify(me.token if kind == "access" else me.refresh_token)
    del said["auth_time"]
    return auth.sign(said)


def stored(me):
    return me.user.to_dynamodb_dict(), Identity.get(password_key(me.username)).to_dynamodb_dict()


def is_refused(answer):
    return (answer.status, answer.json["code"]) == (403, "fresh_sign_in_required")


SENSITIVE = {
    "rename": lambda me, admin, weixin: (me, rename(me)),
    "delete": lambda me, admin, weixin: (me, delete(me)),
    "link wechat": lambda me, admin, weixin: (me, link_wechat(weixin.code(somebody()))),
    "link a password": lambda me, admin, weixin: (me, link_password()),
    "rename another": lambda me, admin, weixin: (admin, rename(me)),
    "delete another": lambda me, admin, weixin: (admin, delete(me)),
    "permit another": lambda me, admin, weixin: (admin, ("users.update", "PUT", f"/users/{me.id}", {"permission": 2})),
    "give a password": lambda me, admin, weixin: (
        admin,
        ("users.set_password", "PUT", f"/users/{me.id}/password", {"new_password": NEW}),
    ),
}
each = pytest.mark.parametrize("what", SENSITIVE)


@pytest.fixture
def people(person, weixin):
    """Of a sensitive change: who makes it, and the request."""
    me, admin = person(), person(permission=2)
    return lambda what: SENSITIVE[what](me, admin, weixin)


@each
def test_a_token_of_an_old_sign_in_changes_nothing(api, people, what):
    caller, request = people(what)
    before = stored(caller)
    for token in (stale(caller), of_the_last_release(caller)):
        assert is_refused(call(api, token, request))
    assert stored(caller) == before


@each
def test_a_fresh_sign_in_is_enough(api, people, what):
    caller, request = people(what)
    answer = call(api, caller.token, request)
    assert answer.status == 200 or answer.json["code"] == "password_already_linked"


@pytest.mark.parametrize("what", sorted(SENSITIVE.keys() - {"link a password"}))  # there is none yet
def test_so_is_the_callers_password(api, people, what):
    caller, (module, method, path, body) = people(what)
    for password, status in (("wrong", 403), (PASSWORD, 200)):
        confirmed = {**(body or {}), "current_password": password}
        answer = call(api, stale(caller), (module, method, path, confirmed))
        assert answer.status == status, answer.body
        assert status == 200 or is_refused(answer)


def test_the_refusal_is_no_401(api, person):
    """A client that is told 401 would refresh its tokens, and be told 401 again."""
    me = person()
    answer = call(api, stale(me), rename(me))
    assert answer.status == 403
    assert "www-authenticate" not in answer.headers


def test_ten_minutes_are_fresh_and_no_second_more(api, person, move_time):  # noqa: F811
    me = person()
    move_time(freshness.FRESH_SECONDS - 1)
    assert call(api, me.token, rename(me)).status == 200
    move_time(2)
    assert is_refused(call(api, me.token, rename(me)))


def test_refreshing_does_not_make_it_fresh(api, person, move_time):  # noqa: F811
    me = person()
    move_time(freshness.FRESH_SECONDS + 1)
    refreshed = api("session.refresh", "POST", "/session/refresh", token=me.refresh_token).json
    assert claims(refreshed["access_token"])["auth_time"] == claims(me.token)["auth_time"]
    assert claims(refreshed["refresh_token"])["auth_time"] == claims(me.token)["auth_time"]
    assert is_refused(call(api, refreshed["access_token"], rename(me)))
    form = {"grant_type": "password", "username": me.username, "password": me.password}
    again = api("session.create", "POST", "/session/oauth2/token", form=form).json
    assert call(api, again["access_token"], rename(me)).status == 200


def test_a_refresh_token_of_the_last_release_gives_tokens_that_are_not_fresh(api, person):
    me = person()
    old = of_the_last_release(me, "refresh")
    refreshed = api("session.refresh", "POST", "/session/refresh", token=old).json
    assert "auth_time" not in claims(refreshed["access_token"])
    assert api("users.me", "GET", "/users/me", token=refreshed["access_token"]).status == 200
    assert is_refused(call(api, refreshed["access_token"], rename(me)))


def test_who_came_by_wechat_signs_in_with_a_new_code(api, weixin):
    me = signed_in(api, weixin, somebody())
    for request in (rename(me), link_password(), delete(me)):
        assert is_refused(call(api, stale(me, "wechat"), request))
    fresh = sign_in(api, weixin.code(me.username)).json["access_token"]
    assert call(api, fresh, link_password()).status == 200
    assert call(api, fresh, delete(me)).status == 200


def test_a_first_password_needs_a_fresh_sign_in_and_another_one_the_old(api, weixin):
    me = signed_in(api, weixin, somebody())
    assert call(api, me.token, rename(me)).status == 200
    first = ("users.change_password", "PUT", "/users/me/password", {"new_password": NEW})
    assert is_refused(call(api, stale(me, "wechat"), first))
    assert call(api, me.token, first).status == 200
    then = ("users.change_password", "PUT", "/users/me/password", {"old_password": NEW, "new_password": PASSWORD})
    assert call(api, stale(me, "wechat"), then).status == 200


def test_nobody_without_a_password_is_confirmed_by_one(api, weixin):
    me = signed_in(api, weixin, somebody())
    for password in ("", "None", NEW):
        assert is_refused(call(api, stale(me, "wechat"), delete(me, current_password=password)))
    assert call(api, me.token, rename(me)).status == 200, "a name, and no password"
    assert is_refused(call(api, stale(me, "wechat"), delete(me, current_password="")))


def test_what_is_not_sensitive_needs_none(api, person):
    me, admin = person(), person(permission=2)
    for who, body in ((me, {"nickname": "Fawn"}), (me, {"username": me.username}), (admin, {"nickname": "Deer"})):
        assert call(api, stale(who), ("users.update", "PUT", f"/users/{me.id}", body)).status == 200


def test_an_administrator_confirms_with_their_own_password(api, person):
    me, admin = person(), person(permission=2)
    Identity(password_key(admin.username)).update(
        [Identity.password_hash.set(password_hashing.hash_password("the-admin-s"))]
    )
    assert is_refused(call(api, stale(admin), delete(me, current_password=PASSWORD)))
    assert call(api, stale(admin), delete(me, current_password="the-admin-s")).status == 200


def test_guesses_of_the_password_end(api, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(2, 3600))
    monkeypatch.setattr(clock, "now", lambda: 1_900_000_800.0)
    me = person()
    token = stale(me)
    statuses = [call(api, token, delete(me, current_password=f"guess-{n}")).status for n in range(3)]
    assert statuses == [403, 403, 429]
    assert call(api, token, delete(me, current_password=PASSWORD)).status == 429
    assert not User.get(me.id).deleted


def test_a_fault_is_no_guess_of_the_password(api, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "password", Limit(1, 3600))
    me = person()
    token = stale(me)

    def fail(_):
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr(freshness, "_password_hash", fail)
        assert [call(api, token, delete(me, current_password=PASSWORD)).status for _ in range(3)] == [503] * 3
    assert call(api, token, delete(me, current_password=PASSWORD)).status == 200
