"""The simulated WeChat keeps WeChat's rules: else what is tried against it would prove nothing."""

import hashlib
import hmac
import json

import httpx
import pytest

from local.simulators.wechat import APPS, Server, openid, unionid
from tests.waiting import PATIENCE_SECONDS

APPID, SECRET = APPS["mini"]
GRANT = {"grant_type": "authorization_code"}


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def ask(server):
    server.reset()
    with httpx.Client(base_url=server.base_url, timeout=PATIENCE_SECONDS) as client:

        def get(path, **query):
            answer = client.get(path, params=query)
            assert answer.headers["content-type"].startswith("text/plain")
            return json.loads(answer.text)

        yield get


def session(ask, code, appid=APPID, secret=SECRET, **query):
    return ask("/sns/jscode2session", appid=appid, secret=secret, js_code=code, **{**GRANT, **query})


def token(server, appid=APPID, secret=SECRET, **body):
    body = {"grant_type": "client_credential", "appid": appid, "secret": secret, **body}
    return json.loads(httpx.post(f"{server.base_url}/cgi-bin/stable_token", json=body, timeout=PATIENCE_SECONDS).text)


def check(ask, access_token, key, who=None, **query):
    signature = hmac.new(key.encode(), b"", hashlib.sha256).hexdigest()
    given = {"access_token": access_token, "openid": who or openid("ada"), "signature": signature}
    return ask("/wxa/checksession", **{**given, "sig_method": "hmac_sha256", **query})["errcode"]


def test_a_code_names_a_person_once(server, ask):
    code = server.code("ada")
    answer = session(ask, code)
    assert (answer["openid"], answer["unionid"]) == (openid("ada"), unionid("ada"))
    assert set(answer) == {"openid", "unionid", "session_key"}
    assert session(ask, code)["errcode"] == 40163


def test_an_openid_is_of_one_application_and_a_unionid_of_both():
    assert openid("ada") != openid("ada", "web")
    assert openid("ada") != openid("bo")
    assert unionid("ada") != unionid("bo")


def test_without_an_account_at_the_open_platform_there_is_no_unionid(server, ask):
    assert "unionid" not in session(ask, server.code("ada", with_unionid=False))


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({"appid": "wx"}, 40013),
        ({"secret": "wrong"}, 40125),
        ({"grant_type": "x"}, 40002),
        ({"code": ""}, 41008),
        ({"code": "x"}, 40029),
    ],
)
def test_what_is_wrong_is_refused(server, ask, query, errcode):
    query = {"code": server.code("ada"), **query}
    assert session(ask, **query)["errcode"] == errcode


def test_codes_are_of_one_application_and_grow_old(server, ask):
    web = {"appid": APPS["web"][0], "secret": APPS["web"][1], **GRANT}
    assert ask("/sns/oauth2/access_token", code=server.code("ada"), **web)["errcode"] == 40029
    assert ask("/sns/oauth2/access_token", code=server.code("ada", "web"), **web)["openid"] == openid("ada", "web")
    code = server.code("ada")
    server.expire()
    assert session(ask, code)["errcode"] == 40029


def test_a_session_is_valid_until_it_ends_and_must_be_signed_for(server, ask):
    key, good = session(ask, server.code("ada"))["session_key"], token(server)["access_token"]
    assert session(ask, server.code("ada"))["session_key"] == key
    assert check(ask, good, key) == 0
    assert check(ask, good, "wrong") == check(ask, good, key, sig_method="x") == 87009
    assert check(ask, good, key, who="nobody") == 40003
    assert check(ask, "wrong", key) == 40001
    server.invalidate("ada")
    assert check(ask, good, key) == 87009
    assert session(ask, server.code("ada"))["session_key"] != key


def test_an_access_token_is_the_same_for_all_until_its_end(server, ask):
    first = token(server)
    assert token(server)["access_token"] == first["access_token"]
    assert 0 < first["expires_in"] <= 7200
    server.expire()
    assert check(ask, first["access_token"], "any") == 42001
    second = token(server)["access_token"]
    assert second != first["access_token"]
    assert check(ask, first["access_token"], "any") == 42001
    assert token(server, force_refresh=True)["access_token"] != second
    assert token(server, secret="wrong")["errcode"] == 40125
    assert token(server, appid="wrong")["errcode"] == 40013


def test_faults_come_as_often_as_they_were_asked_for(server, ask):
    server.fail("/sns/jscode2session", -1, times=2)
    assert [session(ask, "x")["errcode"] for _ in range(3)] == [-1, -1, 40029]


def test_it_is_ruled_by_hand_too(server):
    with httpx.Client(base_url=server.base_url, timeout=PATIENCE_SECONDS) as client:
        code = client.get("/__code", params={"as": "bo", "unionid": "no"}).json()["code"]
        assert client.get("/__code", params={"app": "x"}).status_code == 400
        for wrong in ({}, {"path": "/x"}, {"path": "/x", "how": "x"}, {"path": "/x", "errcode": "x"}):
            assert client.post("/__fail", params=wrong).status_code == 400
        client.post("/__fail", params={"path": "/sns/jscode2session", "how": "http503"})
        query = {"appid": APPID, "secret": SECRET, "js_code": code, **GRANT}
        assert client.get("/sns/jscode2session", params=query).status_code == 503
        key = json.loads(client.get("/sns/jscode2session", params=query).text)["session_key"]
        client.post("/__invalidate", params={"as": "bo"})
        again = {**query, "js_code": client.get("/__code", params={"as": "bo"}).json()["code"]}
        assert json.loads(client.get("/sns/jscode2session", params=again).text)["session_key"] != key
        assert [seen["path"] for seen in client.get("/__requests").json()][-3:] == ["/sns/jscode2session"] * 3
        client.post("/__expire")
        client.post("/__reset")
        assert client.get("/__requests").json() == []


def test_the_page_wants_what_wechat_wants(server):
    wrong = httpx.get(
        f"{server.base_url}/connect/qrconnect?appid=x&redirect_uri=http://a.test&scope=snsapi_login",
        timeout=PATIENCE_SECONDS,
    )
    assert wrong.status_code == 400


@pytest.mark.parametrize(("state", "status"), [("a1" * 64, 200), ("a1" * 64 + "b", 400), ("a-b", 400), ("a_b", 400)])
def test_the_page_carries_a_state_of_128_letters_and_digits(server, state, status):
    query = {"appid": APPS["web"][0], "redirect_uri": "http://a.test", "scope": "snsapi_login", "state": state}
    assert (
        httpx.get(f"{server.base_url}/connect/qrconnect", params=query, timeout=PATIENCE_SECONDS).status_code == status
    )
