"""Signing in from a mini program, and going on while WeChat's session is valid."""

import contextlib
import json
import logging
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import jwt
import pytest
from botocore.exceptions import ReadTimeoutError
from pynamodb.exceptions import UpdateError

from aideer.accounts import sessions, wechat_sessions, wechat_users
from aideer.core import aws, clock, settings
from aideer.data.models import CreditEntry, Identity, Record, User
from aideer.providers import wechat
from aideer.security import auth, limits, rate_limits
from aideer.security.limits import Limit
from local.simulators.wechat import APPS, MOCK_CODE, TOURIST, openid, unionid
from tests import faults
from tests.pauses import clock_with
from tests.support import Person, check_rules

APPID = APPS["mini"][0]


def somebody() -> str:
    return f"p{uuid4().hex}"


def sign_in(api, code):
    return api("session.wechat_token", "GET", f"/session/wechat/token?code={code}")


def refresh(api, token):
    return api("session.wechat_refresh", "GET", "/session/wechat/refresh", token=token)


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def signed_in(api, weixin, name, **kwargs):
    answer = sign_in(api, weixin.code(name, **kwargs))
    assert answer.status == 200, answer.body
    tokens = answer.json
    return Person(claims(tokens["access_token"])["sub"], name, "", tokens["access_token"], tokens["refresh_token"])


@pytest.fixture
def impatient(monkeypatch):
    """No pauses between attempts."""
    monkeypatch.setattr(wechat, "time", clock_with())


@pytest.fixture
def move_time(monkeypatch):
    began, moved = clock.now(), [0.0]
    monkeypatch.setattr(clock, "now", lambda: began + moved[0])

    def move(seconds: float) -> None:
        moved[0] += seconds

    return move


def test_who_comes_for_the_first_time_is_registered(api, weixin):
    me = signed_in(api, weixin, somebody())
    shown = api("users.me", "GET", "/users/me", user=me).json
    assert (shown["username"], shown["permission"], shown["credits_left"]) == (None, 1, 1_000_000)
    assert shown["nickname"].startswith("微信用户")
    [entry] = CreditEntry.query(me.id)
    assert (entry.kind, entry.amount) == ("signup", 1_000_000)
    assert me.user.wechat_keys == {f"wechat#{openid(me.username)}", f"wechat-union#{unionid(me.username)}"}
    check_rules(me)


def test_the_code_of_the_developer_tools_without_an_app_id_signs_one_user_in_again_and_again(api):
    answers = [sign_in(api, MOCK_CODE.replace(" ", "%20")) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    first, second = (answer.json for answer in answers)
    assert claims(first["access_token"])["sub"] == claims(second["access_token"])["sub"]
    assert claims(first["refresh_token"])["openid"] == openid(TOURIST)
    assert refresh(api, second["refresh_token"]).status == 200


def test_the_answer_is_a_pair_of_tokens_that_nobody_keeps(api, weixin):
    answer = sign_in(api, weixin.code(somebody()))
    assert set(answer.json) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "stream_base",
        "session_id",
    }
    assert answer.headers["cache-control"] == "no-store"
    for name in ("access", "refresh"):
        said = claims(answer.json[f"{name}_token"])
        assert (said["typ"], said["amr"]) == (name, "wechat")


def test_who_comes_again_is_the_same_user(api, weixin):
    name = somebody()
    assert signed_in(api, weixin, name).id == signed_in(api, weixin, name).id


def test_without_a_unionid_one_is_a_user_too(api, weixin):
    name = somebody()
    me = signed_in(api, weixin, name, with_unionid=False)
    assert me.user.wechat_keys == {f"wechat#{openid(name)}"}
    assert signed_in(api, weixin, name, with_unionid=False).id == me.id


def test_a_unionid_that_comes_later_is_joined(api, weixin):
    name = somebody()
    me = signed_in(api, weixin, name, with_unionid=False)
    assert signed_in(api, weixin, name).id == me.id
    assert me.user.wechat_keys == {f"wechat#{openid(name)}", f"wechat-union#{unionid(name)}"}
    assert Identity.get(f"wechat-union#{unionid(name)}").user_id == me.id


def test_a_sign_in_renews_the_session_key(api, weixin):
    name = somebody()
    signed_in(api, weixin, name)
    before = Identity.get(f"wechat#{openid(name)}").session_key
    weixin.invalidate(name)
    signed_in(api, weixin, name)
    assert Identity.get(f"wechat#{openid(name)}").session_key not in (None, before)


def test_two_at_once_make_one_user(api, weixin):
    for _ in range(3):
        name = somebody()
        codes = [weixin.code(name) for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            users = list(
                pool.map(lambda code: wechat_users.get_or_create(wechat.exchange_mini_program_code(code)).id, codes)
            )
        assert len(set(users)) == 1
        assert len(list(CreditEntry.query(users[0]))) == 1


def test_two_applications_at_once_make_one_user(weixin):
    for _ in range(3):
        name = somebody()
        people = [
            wechat.exchange_mini_program_code(weixin.code(name)),
            wechat.exchange_website_code(weixin.code(name, "web")),
        ] * 3
        with ThreadPoolExecutor(6) as pool:
            users = list(pool.map(wechat_users.get_or_create, people))
        assert len({user.id for user in users}) == 1
        user = User.get(users[0].id, consistent_read=True)
        assert user.wechat_keys == {
            f"wechat#{openid(name)}",
            f"wechat#{openid(name, 'web')}",
            f"wechat-union#{unionid(name)}",
        }


def test_who_was_deleted_comes_back_as_somebody_new(api, weixin):
    name = somebody()
    before = signed_in(api, weixin, name)
    user = before.user
    user.deleted, user.wechat_keys = True, None
    user.save()  # and its identities are still there
    after = signed_in(api, weixin, name)
    assert after.id != before.id
    assert before.user.deleted
    user.delete()
    assert signed_in(api, weixin, name).id == after.id


def test_an_identity_whose_user_is_gone_for_good_is_nobody_s(api, weixin):
    name = somebody()
    before = signed_in(api, weixin, name)
    before.user.delete()
    assert signed_in(api, weixin, name).id != before.id


def test_an_openid_that_has_a_user_keeps_it_whatever_its_unionid_says(api, weixin):
    """The applications were bound to one account after both had made a user: nobody's things are moved unasked."""
    name = somebody()
    mini = signed_in(api, weixin, name, with_unionid=False)
    web = wechat_users.get_or_create(wechat.exchange_website_code(weixin.code(name, "web")))
    assert web.id != mini.id
    assert signed_in(api, weixin, name).id == mini.id
    assert wechat_users.get_or_create(wechat.exchange_website_code(weixin.code(name, "web"))).id == web.id


@pytest.mark.parametrize(
    ("errcode", "status", "code"),
    [
        (40029, 401, "wechat_code_invalid"),
        (40163, 401, "wechat_code_used"),
        (41008, 401, "wechat_code_invalid"),
        (40226, 403, "wechat_user_blocked"),
        (45011, 429, "wechat_too_often"),
        (40013, 502, "wechat_fault"),
        (40125, 502, "wechat_fault"),
        (99999, 502, "wechat_fault"),
    ],
)
def test_what_wechat_refuses_is_said(api, weixin, errcode, status, code):
    weixin.fail("/sns/jscode2session", errcode)
    answer = sign_in(api, weixin.code(somebody()))
    assert (answer.status, answer.json["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 429)
    assert len(weixin.requests("/sns/jscode2session")) == 1


def test_a_busy_wechat_is_asked_again(api, weixin, impatient):
    weixin.fail("/sns/jscode2session", -1, times=wechat.ATTEMPTS - 1)
    assert sign_in(api, weixin.code(somebody())).status == 200


def test_but_not_for_ever(api, weixin, impatient):
    weixin.fail("/sns/jscode2session", -1, times=wechat.ATTEMPTS)
    code = weixin.code(somebody())
    answer = sign_in(api, code)
    assert (answer.status, answer.json["code"]) == (502, "wechat_fault")
    assert len(weixin.requests("/sns/jscode2session")) == wechat.ATTEMPTS
    assert sign_in(api, code).status == 200


@pytest.mark.parametrize("how", ["http503", "html", "drop"])
def test_what_is_no_answer_is_a_fault_and_the_code_is_not_sent_again(api, weixin, how):
    weixin.fail("/sns/jscode2session", how=how)
    answer = sign_in(api, weixin.code(somebody()))
    assert (answer.status, answer.json["code"]) == (502, "wechat_fault")
    assert len(weixin.requests("/sns/jscode2session")) == 1


def test_a_wechat_that_is_not_there_is_a_fault(api, monkeypatch):
    monkeypatch.setattr(settings, "WECHAT_BASE_URL", "http://127.0.0.1:9")
    assert sign_in(api, "any").status == 502


@contextlib.contextmanager
def forgetful() -> Iterator[tuple[str, list[bytes]]]:
    """A WeChat that answers one request on a connection and resets it at the next one, as if it had forgotten it.

    Yields its address, and the first line of every request that came.
    """
    asked: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        body = json.dumps({"openid": f"o{uuid4().hex}", "session_key": "k"}).encode()
        with connection, connection.makefile("rb") as lines:
            asked.append(lines.readline())
            while lines.readline() not in (b"\r\n", b""):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            if again := lines.readline():
                asked.append(again)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


def test_no_code_is_lost_on_a_connection_that_has_died_since_the_last_one(api, monkeypatch):
    """Which is what becomes of one that is kept while Lambda freezes the process."""
    codes = [uuid4().hex for _ in range(3)]
    with forgetful() as (address, asked):
        monkeypatch.setattr(settings, "WECHAT_BASE_URL", address)
        assert [sign_in(api, code).status for code in codes] == [200, 200, 200]
    assert [sum(code.encode() in line for line in asked) for code in codes] == [1, 1, 1]


def test_wechat_s_certificate_is_looked_at():
    assert (wechat._tls().verify_mode, wechat._tls().check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    "answer", [b"[]", b"{}", b'{"openid": 5}', b'{"openid": "o", "session_key": ""}', b'{"errcode": "x"}']
)
def test_an_answer_that_names_nobody_is_a_fault(api, monkeypatch, impatient, answer):
    class Pool:
        def request(self, *_, **__):
            return type("Response", (), {"status": 200, "data": answer})

    monkeypatch.setattr(wechat, "_pool", lambda: contextlib.nullcontext(Pool()))
    assert sign_in(api, "any").status == 502


def test_a_code_is_good_once(api, weixin):
    code = weixin.code(somebody())
    assert sign_in(api, code).status == 200
    assert sign_in(api, code).json["code"] == "wechat_code_used"


def test_a_code_of_the_other_application_is_none(api, weixin):
    assert sign_in(api, weixin.code(somebody(), "web")).json["code"] == "wechat_code_invalid"


@pytest.mark.parametrize("query", ["", "?code=", f"?code={'c' * 257}"])
def test_without_a_code_nobody_is_asked(api, weixin, query):
    answer = api("session.wechat_token", "GET", f"/session/wechat/token{query}")
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    assert weixin.requests() == []


def test_a_code_reaches_wechat_as_it_is(api, weixin):
    sign_in(api, "a%26secret%3Dx%20%E5%B0%8F")
    [asked] = weixin.requests()
    assert asked["query"]["js_code"] == "a&secret=x 小"
    assert asked["query"]["secret"] == "local-mini-program-secret"


def test_where_it_is_not_set_up_it_says_so(api, monkeypatch):
    monkeypatch.setattr(aws, "read_wechat_application", lambda website: ("wx", ""))
    answer = sign_in(api, "any")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "wechat_not_configured", "300")


def test_bad_codes_from_one_address_are_counted_and_good_ones_are_not(api, weixin, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "wechat", Limit(2, 3600))
    address = uuid4().hex
    for _ in range(4):
        wechat_sessions.sign_in(weixin.code(somebody()), address)
    for _ in range(2):
        with pytest.raises(auth.Unauthorized):
            wechat_sessions.sign_in("bad", address)
    weixin.reset()
    with pytest.raises(rate_limits.TooManyRequests):
        wechat_sessions.sign_in(weixin.code(somebody()), address)
    assert weixin.requests() == []


FAULTS = pytest.mark.parametrize(
    "fault",
    [
        {"how": "http503"},
        {"how": "drop"},
        {"errcode": -1, "times": wechat.ATTEMPTS},
        {"errcode": 45011},
        {"errcode": 40125},
    ],
    ids=["503", "no answer", "busy", "too often", "our secret is wrong"],
)
"""Of WeChat's, or of what the operator has set up: whoever comes with a code has no part in them."""


@FAULTS
def test_a_fault_does_not_count_against_an_address(api, weixin, monkeypatch, impatient, fault):
    monkeypatch.setitem(rate_limits.LIMITS, "wechat", Limit(1, 3600))
    address = uuid4().hex
    for _ in range(2):
        weixin.fail("/sns/jscode2session", **fault)
        with pytest.raises((wechat.BadGateway, wechat.TooManyRequests)) as told:
            wechat_sessions.sign_in(weixin.code(somebody()), address)
        assert told.value.code in ("wechat_fault", "wechat_too_often")
    wechat_sessions.sign_in(weixin.code(somebody()), address)


def test_what_is_not_set_up_counts_against_nobody(weixin, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "wechat", Limit(1, 3600))
    address = uuid4().hex
    with monkeypatch.context() as patch:
        patch.setattr(aws, "read_wechat_application", lambda website: ("", ""))
        with pytest.raises(wechat.Unavailable):
            wechat_sessions.sign_in("any", address)
    wechat_sessions.sign_in(weixin.code(somebody()), address)


def test_nothing_secret_is_logged(api, weixin, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "urllib3")
    assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.DEBUG)  # it would say whole addresses
    name = somebody()
    code = weixin.code(name)
    me = signed_in(api, weixin, name)
    refresh(api, me.refresh_token)
    weixin.fail("/sns/jscode2session", 40125)
    sign_in(api, code)
    weixin.fail("/sns/jscode2session", how="drop")
    sign_in(api, code)
    monkeypatch.setattr(settings, "WECHAT_BASE_URL", "http://127.0.0.1:9")
    sign_in(api, code)
    said = str([vars(record) for record in caplog.records])
    assert "'reason': 40125" in said
    secrets = [code, openid(name), unionid(name), me.refresh_token, Identity.get(f"wechat#{openid(name)}").session_key]
    for secret in [*secrets, "local-mini-program-secret", Record.get("wechat", f"access_token#{APPID}").data["token"]]:
        assert secret not in said


def test_the_signature_is_wechat_s():
    """The vector that it has published."""
    assert wechat.sign("o0q0otL8aEzpcZL/FT9WsQ==", '{"foo":"bar"}') == (
        "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b"
    )


def test_a_refresh_gives_a_new_pair_while_the_session_is_valid(api, weixin):
    me = signed_in(api, weixin, somebody())
    first = refresh(api, me.refresh_token)
    assert first.status == 200
    assert first.headers["cache-control"] == "no-store"
    assert claims(first.json["access_token"])["amr"] == "wechat"
    assert refresh(api, first.json["refresh_token"]).status == 200
    assert api("users.me", "GET", "/users/me", token=first.json["access_token"]).status == 200
    [asked] = weixin.requests("/wxa/checksession")  # and what it said is remembered
    assert asked["query"]["sig_method"] == "hmac_sha256"


def test_a_session_that_wechat_has_ended_is_not_refreshed(api, weixin):
    me = signed_in(api, weixin, somebody())
    weixin.invalidate(me.username)
    answer = refresh(api, me.refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "wechat_session_over")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    signed_in(api, weixin, me.username)
    assert refresh(api, me.refresh_token).status == 200  # it was not used up, and there is a session again


def test_while_wechat_has_a_fault_no_refresh_token_is_used_up(api, weixin, move_time, impatient):
    me = signed_in(api, weixin, somebody())
    weixin.fail("/wxa/checksession", -1, times=wechat.ATTEMPTS)
    assert refresh(api, me.refresh_token).status == 502
    move_time(sessions.GRACE_SECONDS + 1)
    assert refresh(api, me.refresh_token).status == 200


def test_a_refresh_token_is_good_once_and_for_a_minute(api, weixin, move_time):
    me = signed_in(api, weixin, somebody())
    stolen = refresh(api, me.refresh_token).json
    move_time(sessions.GRACE_SECONDS)
    assert refresh(api, me.refresh_token).status == 200
    move_time(1)
    assert refresh(api, me.refresh_token).json["code"] == "token_reused"
    for token in (me.refresh_token, stolen["refresh_token"]):
        assert refresh(api, token).json["code"] == "token_revoked"
    assert api("users.me", "GET", "/users/me", token=stolen["access_token"]).status == 401


def test_only_a_wechat_session_s_refresh_token_is_taken(api, weixin, person):
    me, other = signed_in(api, weixin, somebody()), person()
    for wrong in (me.token, other.token, other.refresh_token):
        assert (refresh(api, wrong).status, refresh(api, wrong).json["code"]) == (401, "wrong_token_type")
    answer = api("session.refresh", "POST", "/session/refresh", token=me.refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "wrong_token_type")
    assert refresh(api, None).status == refresh(api, "none").status == 401


def test_a_token_whose_openid_is_not_its_user_s_any_more_is_refused(api, weixin):
    me = signed_in(api, weixin, somebody())
    Identity.get(f"wechat#{openid(me.username)}").delete()
    assert refresh(api, me.refresh_token).json["code"] == "token_revoked"
    signed_in(api, weixin, me.username)
    assert refresh(api, auth.issue_pair(me.user, "wechat")["refresh_token"]).json["code"] == "token_revoked"


def test_the_access_token_is_fetched_once_and_shared(api, weixin):
    Record("wechat", f"access_token#{APPID}").delete()
    me = signed_in(api, weixin, somebody())
    for _ in range(3):
        refresh(api, me.refresh_token)
    assert len(weixin.requests("/cgi-bin/stable_token")) == 1
    assert Record.get("wechat", f"access_token#{APPID}").ttl > clock.now()


def test_the_access_token_is_renewed_before_its_end(api, weixin, move_time):
    me = signed_in(api, weixin, somebody())
    refresh(api, me.refresh_token)
    ends = Record.get("wechat", f"access_token#{APPID}").at
    weixin.reset()
    move_time(ends - wechat.TOKEN_MARGIN_SECONDS - clock.now() - 1)
    wechat.is_session_valid(openid(me.username), "any")
    assert weixin.requests("/cgi-bin/stable_token") == []
    move_time(2)
    wechat.is_session_valid(openid(me.username), "any")
    assert len(weixin.requests("/cgi-bin/stable_token")) == 1


def test_an_access_token_that_wechat_refuses_is_fetched_anew_once(api, weixin, move_time):
    me = signed_in(api, weixin, somebody())
    refresh(api, me.refresh_token)
    weixin.expire()
    weixin.reset()
    move_time(wechat_sessions.VALID_SECONDS)
    me = signed_in(api, weixin, me.username)
    weixin.reset()
    assert refresh(api, me.refresh_token).status == 200
    assert [request["path"] for request in weixin.requests()] == [
        "/wxa/checksession",
        "/cgi-bin/stable_token",
        "/wxa/checksession",
    ]
    move_time(2 * wechat_sessions.VALID_SECONDS)
    me = signed_in(api, weixin, me.username)
    weixin.fail("/wxa/checksession", 40001, times=2)
    assert refresh(api, me.refresh_token).status == 502


def test_without_an_access_token_it_is_a_fault(api, weixin):
    me = signed_in(api, weixin, somebody())
    Record("wechat", f"access_token#{APPID}").delete()
    weixin.fail("/cgi-bin/stable_token", 40125)
    assert refresh(api, me.refresh_token).json["code"] == "wechat_fault"


@pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.THROTTLED),
        lambda: faults.answer_lost("TransactWriteItems"),
        lambda: faults.answer_lost("TransactWriteItems", times=3),
    ],
    ids=["conflict", "throttled", "lost", "lost thrice"],
)
def test_a_first_sign_in_succeeds_on_a_bad_day_and_makes_one_user(api, weixin, fault):
    name = somebody()
    with fault():
        me = signed_in(api, weixin, name)
    assert signed_in(api, weixin, name).id == me.id
    assert len(list(CreditEntry.query(me.id))) == 1
    weixin.invalidate(name)
    with fault():
        assert signed_in(api, weixin, name).id == me.id


def test_what_signing_in_costs(api, weixin, counted):
    users, identities, records = settings.USERS_TABLE, settings.IDENTITIES_TABLE, settings.RECORDS_TABLE
    throttled = [f"UpdateItem {records}"] * 2
    name = somebody()
    signed_in(api, weixin, somebody())
    counted.clear()
    signed_in(api, weixin, name)
    assert counted == [*throttled, *[f"GetItem {identities}"] * 2, *["TransactWriteItems"] * 2]
    counted.clear()
    signed_in(api, weixin, name)
    assert counted == [*throttled, *[f"GetItem {identities}"] * 2, f"GetItem {users}", "TransactWriteItems"]
    Record("wechat", f"access_token#{APPID}").delete()
    refresh(api, signed_in(api, weixin, somebody()).refresh_token)  # fetches WeChat's access token
    first = signed_in(api, weixin, name).refresh_token
    counted.clear()
    then = refresh(api, first).json["refresh_token"]
    begun = [f"GetItem {users}", f"UpdateItem {records}", f"GetItem {identities}"]
    noted = [f"PutItem {records}", f"UpdateItem {records}"]
    assert counted == [*begun, f"GetItem {records}", f"UpdateItem {identities}", *noted]
    counted.clear()
    refresh(api, then)
    assert Counter(counted) == Counter([*begun, *noted]), "what WeChat said is remembered"


# How often WeChat is asked


def test_what_wechat_said_is_remembered_for_five_minutes(api, weixin, move_time):
    me = signed_in(api, weixin, somebody())
    token = refresh(api, me.refresh_token).json["refresh_token"]
    move_time(wechat_sessions.VALID_SECONDS - 1)
    token = refresh(api, token).json["refresh_token"]
    assert len(weixin.requests("/wxa/checksession")) == 1
    move_time(1)
    assert refresh(api, token).status == 200
    assert len(weixin.requests("/wxa/checksession")) == 2


def test_a_session_that_wechat_ends_is_over_within_five_minutes(api, weixin, move_time):
    me = signed_in(api, weixin, somebody())
    token = refresh(api, me.refresh_token).json["refresh_token"]
    weixin.invalidate(me.username)
    move_time(wechat_sessions.VALID_SECONDS)
    answer = refresh(api, token)
    assert (answer.status, answer.json["code"]) == (401, "wechat_session_over")


def test_a_new_session_is_asked_for_itself(api, weixin):
    """What was said of the one before says nothing of it."""
    me = signed_in(api, weixin, somebody())
    refresh(api, me.refresh_token)
    weixin.invalidate(me.username)
    again = signed_in(api, weixin, me.username)
    weixin.invalidate(me.username)
    assert refresh(api, again.refresh_token).json["code"] == "wechat_session_over"


def test_a_session_that_changes_while_wechat_is_asked_is_not_taken_for_valid(api, weixin, monkeypatch):
    me = signed_in(api, weixin, somebody())
    asked = wechat.is_session_valid

    def meanwhile(openid, session_key):
        Identity(f"wechat#{openid}").update([Identity.session_key.set("another")])
        return asked(openid, session_key)

    monkeypatch.setattr(wechat, "is_session_valid", meanwhile)
    assert refresh(api, me.refresh_token).status == 200
    assert Identity.get(f"wechat#{openid(me.username)}").checked_at is None


@pytest.mark.parametrize("ended", [False, True])
def test_two_hundred_refreshes_are_no_two_hundred_calls_of_wechat(api, weixin, monkeypatch, ended):
    monkeypatch.setattr(clock, "now", lambda: 1_900_000_800.0)
    monkeypatch.setitem(rate_limits.LIMITS, "wechat_refresh", limits.DEFAULTS["wechat_refresh"])
    me = signed_in(api, weixin, somebody())
    if ended:
        weixin.invalidate(me.username)
    statuses = [refresh(api, me.refresh_token).status for _ in range(40)]
    most = limits.DEFAULTS["wechat_refresh"].times
    assert statuses == [401 if ended else 200] * most + [429] * (40 - most)
    assert len(weixin.requests("/wxa/checksession")) == (most if ended else 1)
    other = signed_in(api, weixin, somebody())
    assert refresh(api, other.refresh_token).status == 200, "of one user"


def test_faults_of_wechat_are_counted_too(api, weixin, monkeypatch, impatient):
    """Each try is a call of WeChat's, which limits an application's calls."""
    monkeypatch.setitem(rate_limits.LIMITS, "wechat_refresh", Limit(1, 3600))
    me = signed_in(api, weixin, somebody())
    weixin.fail("/wxa/checksession", how="http503")
    assert refresh(api, me.refresh_token).status == 502
    answer = refresh(api, me.refresh_token)
    assert (answer.status, answer.json["code"]) == (429, "too_many_attempts")
    assert len(weixin.requests("/wxa/checksession")) == 1


def test_a_refresh_goes_on_where_its_answer_cannot_be_remembered(api, weixin, monkeypatch):
    def lost(*_, **__):
        raise UpdateError(cause=ReadTimeoutError(endpoint_url="embedded"))

    me = signed_in(api, weixin, somebody())
    monkeypatch.setattr(Identity, "update", lost)
    assert refresh(api, me.refresh_token).status == 200
