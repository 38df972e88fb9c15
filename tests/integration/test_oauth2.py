"""The token endpoint, as OAuth2 clients use it (RFC 6749): authlib is one."""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from hypothesis import given
from hypothesis import strategies as st

from aideer.accounts import oauth2, sessions
from aideer.core import aws, clock, settings
from aideer.core.errors import Unauthorized
from aideer.security import auth, password_hashing, rate_limits
from aideer.security.limits import Limit
from tests import faults
from tests.integration.test_wechat import claims, impatient, signed_in, somebody  # noqa: F401
from tests.support import Api, make_person

PATH = "/session/oauth2/token"
ENDPOINT = f"https://api.test/api/v1{PATH}"
ERRORS = {"invalid_grant", "invalid_request", "server_error", "temporarily_unavailable", "unsupported_grant_type"}
"""Those of RFC 6749, section 5.2, that apply without client authentication, and what it lacks for a 5xx (section 4.1.2.1)."""


def post(api, **form):
    return api("session.create", "POST", PATH, form=form)


def refresh(api, token, **form):
    return post(api, grant_type="refresh_token", refresh_token=token, **form)


def check_refusal(answer, status=None, error=None):
    """What every answer that is no token must be."""
    if status:
        assert (answer.status, answer.json["error"]) == (status, error), answer.body
    assert answer.status in (400, 413, 415, 429, 500, 502, 503)
    assert answer.json["error"] in ERRORS
    described = answer.json["error_description"]
    assert described
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in described)
    assert {"detail", "code"} <= answer.json.keys()
    assert not {"access_token", "refresh_token"} & answer.json.keys()
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    assert "www-authenticate" not in answer.headers
    assert answer.headers["content-type"] == "application/json"


class _Endpoint(requests.adapters.BaseAdapter):
    """Answers an OAuth2 client by the handler."""

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        sent = dict(request.headers)
        answer = self.api("session.create", "POST", PATH, raw=str(request.body).encode(), headers=sent)
        response = requests.Response()
        response.status_code, response.url, response.request = answer.status, request.url, request
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body.encode())
        return response

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def client(api: Api) -> Iterator[OAuth2Session]:
    with OAuth2Session("app", token_endpoint=ENDPOINT, token_endpoint_auth_method="none") as client:
        client.mount("https://", _Endpoint(api))
        yield client


# authlib


def test_a_client_signs_in_and_goes_on(client, person):
    me = person()
    token = client.fetch_token(username=me.username, password=me.password, grant_type="password")
    assert claims(token["access_token"])["sub"] == me.id
    again = client.refresh_token(ENDPOINT, refresh_token=token["refresh_token"])
    assert claims(again["access_token"])["sub"] == me.id
    assert client.token["refresh_token"] == again["refresh_token"] != token["refresh_token"]


def test_a_wrong_password_is_an_error_for_a_client_and_no_token(client, person):
    with pytest.raises(OAuthError) as told:
        client.fetch_token(username=person().username, password="wrong", grant_type="password")
    assert (told.value.error, told.value.description) == ("invalid_grant", "The name or the password is wrong.")
    assert client.token is None


def test_a_failed_refresh_leaves_a_client_the_token_that_it_has(client, person):
    me = person()
    token = client.fetch_token(username=me.username, password=me.password, grant_type="password")
    sessions.sign_out(me.user)
    with pytest.raises(OAuthError) as told:
        client.refresh_token(ENDPOINT, refresh_token=token["refresh_token"])
    assert told.value.error == "invalid_grant"
    assert client.token == token


def test_a_client_that_is_told_to_wait_raises(client, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "sign_in", Limit(1, 3600))
    monkeypatch.setattr(clock, "now", lambda: 1_900_000_800.0)
    me = person()
    for error in ("invalid_grant", "temporarily_unavailable"):
        with pytest.raises(OAuthError) as told:
            client.fetch_token(username=me.username, password="wrong", grant_type="password")
        assert told.value.error == error


# What is answered


def test_tokens_are_kept_by_nobody(api, person):
    me = person()
    signed = post(api, grant_type="password", username=me.username, password=me.password)
    for answer in (signed, refresh(api, signed.json["refresh_token"])):
        assert answer.status == 200
        assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
        assert set(answer.json) == {
            "access_token",
            "refresh_token",
            "token_type",
            "expires_in",
            "stream_base",
            "session_id",
        }


def test_a_wrong_password_is_a_bad_grant(api, person):
    answer = post(api, grant_type="password", username=person().username, password="wrong")
    check_refusal(answer, 400, "invalid_grant")
    assert answer.json["code"] == "invalid_credentials"


def test_any_refresh_token_that_is_no_good_is_a_bad_grant(api, person, weixin):
    me, gone = person(), person()
    used = auth.issue_pair(gone.user, "password")["refresh_token"]
    sessions.sign_out(gone.user)
    website = auth.issue_pair(me.user, "wechat", "openid-of-nobody")["refresh_token"]
    for token, code in (
        ("x", "invalid_token"),
        ("ü" * 100, "invalid_token"),
        (me.token, "wrong_token_type"),
        (used, "token_revoked"),
        (website, "token_revoked"),
    ):
        answer = refresh(api, token)
        check_refusal(answer, 400, "invalid_grant")
        assert answer.json["code"] == code


@pytest.mark.parametrize("grant", ["client_credentials", "authorization_code", "Password", " password", "x" * 300])
def test_another_grant_is_not_supported(api, grant):
    check_refusal(post(api, grant_type=grant, username="a", password="b"), 400, "unsupported_grant_type")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"username": "a", "password": "b"},
        {"grant_type": "password"},
        {"grant_type": "password", "username": "a"},
        {"grant_type": "password", "username": "", "password": "b"},  # no value: as if left out (section 3.2)
        {"grant_type": "password", "username": "a" * 256, "password": "b"},
        {"grant_type": "refresh_token"},
        {"grant_type": "refresh_token", "refresh_token": ""},
        {"grant_type": "refresh_token", "username": "a", "password": "b"},
        {"grant_type": "refresh_token", "refresh_token": "x" * 5000},
    ],
    ids=str,
)
def test_a_form_that_lacks_something_is_a_bad_request(api, form):
    answer = post(api, **form)
    check_refusal(answer, 400, "invalid_request")
    assert answer.json["code"] == "validation_error"


@pytest.mark.parametrize("name", ["grant_type", "username", "password", "refresh_token"])
@pytest.mark.parametrize("second", ["same", "", "zz"])
def test_a_parameter_that_comes_twice_is_a_bad_request(api, person, name, second):
    """RFC 6749, section 3.2: neither the first nor the last wins."""
    me = person()
    form = {"grant_type": "password", "username": me.username, "password": me.password}
    if name == "refresh_token":
        form = {"grant_type": "refresh_token", "refresh_token": me.refresh_token}
    for twice in (
        [*form.items(), (name, form[name] if second == "same" else second)],
        [(name, form[name] if second == "same" else second), *form.items()],
    ):
        answer = api("session.create", "POST", PATH, form=twice)
        check_refusal(answer, 400, "invalid_request")
        assert answer.json["detail"] == [
            {"loc": ["body", name], "msg": "This parameter may come only once.", "type": "repeated"}
        ]
    assert post(api, **form).status == 200


def test_parameters_that_are_not_known_are_ignored_however_often_they_come(api, person):
    me = person()
    form = {"grant_type": "password", "username": me.username, "password": me.password}
    resources = [("resource", "https://a.test"), ("resource", "https://b.test")]  # RFC 8707
    assert api("session.create", "POST", PATH, form=[*form.items(), *resources]).status == 200


def test_a_form_of_endless_parameters_is_not_read(api):
    answer = api("session.create", "POST", PATH, raw=b"a=&" * 100_000, headers={"content-type": FORM})
    check_refusal(answer, 400, "invalid_request")


def test_what_a_client_sent_is_not_repeated(api):
    secret = "hunter2-hunter2"
    for form in ({"grant_type": secret}, {"grant_type": "password", "username": secret * 20, "password": secret}):
        answer = post(api, **form)
        check_refusal(answer)
        assert secret not in answer.body


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\xff\xfe", FORM),
        (b"", FORM),
        (b"&&&=", FORM),
        (b"grant_type=password&username=%ff%fe&password=%00", FORM),
        (b"grant_type=password", "text/plain"),
        (b"<xml/>", "application/xml"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"--x", "multipart/form-data"),
        (b"--x", "multipart/form-data; boundary=x"),
        (b"a" * 1_000_000, FORM),
    ],
)
def test_whatever_is_sent_a_refusal_has_an_error(api, raw, kind):
    check_refusal(api("session.create", "POST", PATH, raw=raw, headers={"content-type": kind}))


@given(st.dictionaries(st.sampled_from(["grant_type", "username", "password", "refresh_token", "scope"]), st.text()))
def test_always(form):
    encoded = {name: value.encode("utf-8", "replace").decode() for name, value in form.items()}
    check_refusal(post(Api(), **encoded))


def test_a_bug_of_ours_is_an_error_that_says_nothing(api, person, monkeypatch):
    me = person()

    def broken(*_):
        raise RuntimeError(me.password)

    monkeypatch.setattr(password_hashing, "find_matching_form", broken)
    answer = post(api, grant_type="password", username=me.username, password=me.password)
    check_refusal(answer, 500, "server_error")
    assert me.password not in answer.body


def test_where_dynamodb_does_not_answer_it_is_temporary(api, person):
    me = person()
    with faults.answer_lost("GetItem"):
        answer = post(api, grant_type="password", username=me.username, password=me.password)
    check_refusal(answer, 503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "1"


def test_a_fault_of_wechat_is_temporary(api, weixin, impatient):  # noqa: F811
    me = signed_in(api, weixin, somebody())
    weixin.fail("/wxa/checksession", how="http503")
    check_refusal(refresh(api, me.refresh_token), 502, "temporarily_unavailable")
    assert refresh(api, me.refresh_token).status == 200


def test_who_is_throttled_is_told_when_to_come_again(api, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "sign_in", Limit(2, 3600))
    monkeypatch.setattr(clock, "now", lambda: 1_900_000_800.0)
    me = person()
    answers = [post(api, grant_type="password", username=me.username, password="wrong") for _ in range(3)]
    assert [answer.status for answer in answers] == [400, 400, 429], "wrong passwords are counted"
    check_refusal(answers[-1], 429, "temporarily_unavailable")
    assert int(answers[-1].headers["retry-after"]) > 0


def test_another_endpoint_answers_as_ever(api, person):
    answer = api("session.refresh", "POST", "/session/refresh", token="no token")
    assert (answer.status, set(answer.json)) == (401, {"detail", "code"})


# Refreshing here


def test_a_password_session_goes_on(api, person):
    me = person()
    answer = refresh(api, me.refresh_token)
    assert answer.status == 200
    assert claims(answer.json["access_token"])["amr"] == "password"
    assert api("users.me", "GET", "/users/me", token=answer.json["access_token"]).status == 200


def test_a_wechat_session_goes_on_while_wechat_says_so(api, weixin):
    me = signed_in(api, weixin, somebody())
    answer = refresh(api, me.refresh_token)
    assert answer.status == 200
    assert claims(answer.json["access_token"])["amr"] == "wechat"
    other = signed_in(api, weixin, somebody())
    weixin.invalidate(other.username)
    refused = refresh(api, other.refresh_token)
    check_refusal(refused, 400, "invalid_grant")
    assert refused.json["code"] == "wechat_session_over"


def test_both_doors_use_up_the_same_token(api, person, monkeypatch):
    me = person()
    assert api("session.refresh", "POST", "/session/refresh", token=me.refresh_token).status == 200
    later = clock.now() + sessions.GRACE_SECONDS + 1
    monkeypatch.setattr(clock, "now", lambda: later)
    answer = refresh(api, me.refresh_token)
    check_refusal(answer, 400, "invalid_grant")
    assert answer.json["code"] == "token_reused"


def test_a_client_may_name_itself_in_the_header_or_in_the_form(api, person):
    me = person()
    basic = {"Authorization": f"Basic {base64.b64encode(b'app:secret').decode()}"}
    form = {"grant_type": "refresh_token", "refresh_token": me.refresh_token, "client_id": "app", "scope": "all"}
    assert api("session.create", "POST", PATH, form=form, headers=basic).status == 200


def test_what_refreshing_costs(api, person, counted):
    me = person()
    counted.clear()
    refresh(api, me.refresh_token)
    records = [f"PutItem {settings.RECORDS_TABLE}", f"UpdateItem {settings.RECORDS_TABLE}"]
    assert Counter(counted) == Counter([f"GetItem {settings.USERS_TABLE}", *records])


def test_a_description_says_nothing_that_rfc_6749_forbids():
    refused = Unauthorized("c", 'a "b" \\ é\n' * 100)
    answer = {"statusCode": 401, "headers": {}, "body": json.dumps(refused.body())}
    described = json.loads(oauth2.format_refusal(answer, refused)["body"])["error_description"]
    assert len(described) <= 500
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in described)


def test_a_session_of_wechat_needs_wechat_to_be_set_up(api, weixin, monkeypatch):
    me = signed_in(api, weixin, somebody())
    monkeypatch.setattr(aws, "read_wechat_application", lambda website: ("", ""))
    check_refusal(refresh(api, me.refresh_token), 503, "temporarily_unavailable")
    assert refresh(api, make_person().refresh_token).status == 200
