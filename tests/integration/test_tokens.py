"""Who is let in: every endpoint that wants a signed-in caller refuses everybody else in the same way."""

import pytest

from aideer.accounts import sessions
from aideer.core import clock
from aideer.security import auth

INVALID_TOKEN = 'Bearer error="invalid_token"'
"""What clients are told where a token was sent (RFC 6750, section 3)."""
NOTHING = "01900000-0000-7000-8000-000000000000"
PRESET = {"title": "T", "parameters": {"model": "qwen-plus"}}
SIGNED_IN = [
    ("users.me", "GET", "/users/me", None),
    ("users.credits", "GET", "/users/me/credits", None),
    ("users.redeem", "POST", "/users/me/credits", {"redeem_code": "NO-SUCH-CODE"}),
    ("session.delete", "DELETE", "/session", None),
    ("presets.create", "POST", "/presets", PRESET),
    ("presets.list", "GET", "/presets", None),
    ("presets.get", "GET", f"/presets/{NOTHING}", None),
    ("presets.update", "PUT", f"/presets/{NOTHING}", {"title": "T"}),
    ("presets.delete", "DELETE", f"/presets/{NOTHING}", None),
    ("codes.create", "POST", "/codes", {"value": 1}),
    ("codes.get", "GET", "/codes/NO-SUCH-CODE", None),
]
MEMBERS = [call for call in SIGNED_IN if call[0] in ("presets.create", "presets.update", "presets.delete")]
ADMINS = [call for call in SIGNED_IN if call[0].startswith("codes.")]
each = pytest.mark.parametrize(("module", "method", "path", "body"), SIGNED_IN, ids=lambda value: str(value)[:20])


@each
def test_without_a_token_nobody_is_let_in(api, module, method, path, body):
    answer = api(module, method, path, json=body)
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@each
@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "ü" * 5000])
def test_what_is_no_token_is_refused(api, module, method, path, body, token):
    answer = api(module, method, path, json=body, token=token)
    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == INVALID_TOKEN


@each
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dTpw", "Token x"])
def test_only_the_bearer_scheme_is_understood(api, module, method, path, body, header):
    answer = api(module, method, path, json=body, headers={"Authorization": header})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@each
def test_an_expired_token_is_refused(api, person, monkeypatch, module, method, path, body):
    me = person()
    long_ago = clock.now() - 2 * auth.ACCESS_SECONDS
    monkeypatch.setattr(clock, "now", lambda: long_ago)
    expired = auth.issue_pair(me.user, "password")["access_token"]
    monkeypatch.undo()
    answer = api(module, method, path, json=body, token=expired)
    assert (answer.status, answer.json["code"]) == (401, "token_expired")
    assert answer.headers["www-authenticate"] == INVALID_TOKEN


@each
def test_a_refresh_token_opens_no_endpoint(api, person, module, method, path, body):
    answer = api(module, method, path, json=body, token=person(permission=2).refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "wrong_token_type")
    assert answer.headers["www-authenticate"] == INVALID_TOKEN


@each
def test_a_token_of_before_the_sign_out_is_refused(api, person, module, method, path, body):
    me = person(permission=2)
    sessions.sign_out(me.user)
    answer = api(module, method, path, json=body, token=me.token)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert answer.headers["www-authenticate"] == INVALID_TOKEN


@each
def test_the_token_of_a_deleted_user_is_refused(api, person, module, method, path, body):
    me = person(permission=2)
    user = me.user
    user.deleted = True
    user.save()
    assert api(module, method, path, json=body, token=me.token).status == 401
    user.delete()
    assert api(module, method, path, json=body, token=me.token).status == 401


@each
def test_a_token_signed_with_another_key_is_refused(api, person, monkeypatch, module, method, path, body):
    me = person(permission=2)
    monkeypatch.setattr(auth.aws, "read_signing_keys", lambda: ["another key, of 32 bytes or more"])
    forged = auth.issue_pair(me.user, "password")["access_token"]
    monkeypatch.undo()
    assert api(module, method, path, json=body, token=forged).status == 401


@pytest.mark.parametrize(("module", "method", "path", "body"), MEMBERS, ids=lambda value: str(value)[:20])
def test_a_visitor_only_reads(api, person, module, method, path, body):
    answer = api(module, method, path, json=body, user=person(permission=0))
    assert (answer.status, answer.json["code"]) == (403, "visitor")


@pytest.mark.parametrize(("module", "method", "path", "body"), ADMINS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("permission", [0, 1])
def test_codes_are_for_administrators(api, person, module, method, path, body, permission):
    answer = api(module, method, path, json=body, user=person(permission=permission))
    assert (answer.status, answer.json["code"]) == (403, "not_admin")


@pytest.mark.parametrize("module", ["presets.create", "codes.create", "users.redeem"])
def test_a_stranger_learns_nothing_of_what_a_body_should_be(api, module):
    path = {"presets.create": "/presets", "codes.create": "/codes", "users.redeem": "/users/me/credits"}[module]
    assert api(module, "POST", path, json={"nonsense": True}).status == 401
    assert api(module, "POST", path, raw=b"{").status == 401
    assert api(module, "POST", path, raw=b"x", headers={"content-type": "text/plain"}).status == 401
