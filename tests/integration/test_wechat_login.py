"""Signing in to a website on WeChat's page: the way there, the way back, and the ticket."""

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from aideer.accounts import login_tickets, sessions, wechat_login
from aideer.core import aws, clock, settings
from aideer.data.models import Record, User
from aideer.providers import wechat
from aideer.security import rate_limits
from aideer.security.limits import Limit
from local.simulators.wechat import APPS
from tests.integration.test_observability import lines  # noqa: F401
from tests.integration.test_wechat import claims, move_time, refresh, signed_in, somebody  # noqa: F401
from tests.support import make_person
from tests.waiting import PATIENCE_SECONDS

PAGE = "https://app.test/login"
VERIFIER = "v" * 43
"""What the page keeps, and whose hash it begins the sign-in with."""


def authorize(api, cookie=None, query=None):
    headers = {"cookie": cookie} if cookie else None
    if query is None:
        query = pkce() if settings.WECHAT_LOGIN_PAGE else ""
    return api("session.wechat_authorize", "GET", f"/session/wechat/authorize{query}", headers=headers)


def pkce(verifier=VERIFIER):
    return f"?code_challenge={login_tickets.compute_challenge(verifier)}&code_challenge_method=S256"


def begun(api, query=None):
    """The state that WeChat is handed, and the cookie that the browser is."""
    answer = authorize(api, query=query)
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0], answer.cookies[0].partition(";")[0]


def callback(api, code, state, cookie):
    code = f"&code={code}" if code is not None else ""
    headers = {"cookie": cookie} if cookie else None
    return api("session.wechat_callback", "GET", f"/session/wechat/callback?state={state}{code}", headers=headers)


def come_back(api, weixin, name):
    return callback(api, weixin.code(name, "web"), *begun(api))


def error_of(answer):
    """The refusal that a browser brings to the page."""
    page, _, error = answer.headers["location"].partition("#error=")
    assert (answer.status, answer.body, page, answer.headers["cache-control"]) == (303, "", PAGE, "no-store")
    assert "content-type" not in answer.headers
    return error


def exchange(api, ticket, verifier=None, **kwargs):
    body = {"ticket": ticket, **({"code_verifier": verifier} if verifier else {})}
    return api("session.refresh", "POST", "/session/refresh", json=body, **kwargs)


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(settings, "WECHAT_LOGIN_PAGE", PAGE)


def ticket_of(answer):
    assert answer.status == 303, answer.body
    address, _, ticket = answer.headers["location"].partition("#ticket=")
    assert address == PAGE
    return ticket


def test_the_way_leads_to_wechat_s_page(api, weixin):
    answer = authorize(api)
    assert (answer.status, answer.body) == (302, "")
    assert answer.headers["cache-control"] == "no-store"
    there = urlsplit(answer.headers["location"])
    assert f"{there.scheme}://{there.netloc}{there.path}" == f"{weixin.base_url}/connect/qrconnect"
    assert there.fragment == "wechat_redirect"
    asked = {name: values[0] for name, values in parse_qs(there.query).items()}
    assert asked.pop("state").isalnum()
    assert asked == {
        "appid": APPS["web"][0],
        "redirect_uri": "https://api.test/api/v1/session/wechat/callback",
        "response_type": "code",
        "scope": "snsapi_login",
    }


def test_the_cookie_is_for_our_own_host_alone_and_for_ten_minutes(api):
    [cookie] = authorize(api).cookies
    assert re.fullmatch(r"__Host-wechat=[0-9a-f]{32}; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax", cookie), (
        cookie
    )


def test_no_header_says_where_people_come_back_to(api):
    headers = {
        "host": "evil.test",
        "x-forwarded-host": "evil.test",
        "origin": "https://evil.test",
        "referer": "https://evil.test",
    }
    answer = api("session.wechat_authorize", "GET", "/session/wechat/authorize", headers=headers)
    assert "evil" not in answer.headers["location"]
    assert authorize(api, query="?redirect_uri=https://evil.test").status == 422


def test_an_operator_may_say_where_they_come_back_to(api, monkeypatch):
    monkeypatch.setattr(settings, "WECHAT_CALLBACK_URL", "http://127.0.0.1:8000/back")
    answer = authorize(api)
    assert "redirect_uri=http%3A%2F%2F127.0.0.1%3A8000%2Fback" in answer.headers["location"]
    assert answer.cookies[0].startswith("wechat=")
    assert "Secure" not in answer.cookies[0]  # no browser would keep it on http


def test_who_comes_back_is_signed_in(api, weixin):
    answer = come_back(api, weixin, somebody())
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "stream_base",
        "session_id",
    }
    assert claims(answer.json["access_token"])["amr"] == "wechat"
    assert api("users.me", "GET", "/users/me", token=answer.json["access_token"]).status == 200


def test_the_same_unionid_is_the_same_user(api, weixin):
    name, other = somebody(), somebody()
    mini = signed_in(api, weixin, name)
    assert claims(come_back(api, weixin, name).json["access_token"])["sub"] == mini.id
    web = claims(come_back(api, weixin, other).json["access_token"])["sub"]
    assert signed_in(api, weixin, other).id == web
    assert len(User.get(web).wechat_keys) == 3


def test_a_unionid_that_comes_later_is_joined(api, weixin):
    name = somebody()
    before = callback(api, weixin.code(name, "web", with_unionid=False), *begun(api)).json["access_token"]
    after = come_back(api, weixin, name).json["access_token"]
    assert claims(before)["sub"] == claims(after)["sub"] == signed_in(api, weixin, name).id


def test_who_was_deleted_comes_back_as_somebody_new(api, weixin):
    name = somebody()
    before = claims(come_back(api, weixin, name).json["access_token"])["sub"]
    User(before).update([User.deleted.set(True)])  # and the identities are still there
    after = come_back(api, weixin, name)
    assert after.status == 200
    assert claims(after.json["access_token"])["sub"] != before


def test_a_website_s_session_goes_on_without_asking_wechat(api, weixin):
    name = somebody()
    signed_in(api, weixin, name)
    tokens = come_back(api, weixin, name).json
    weixin.invalidate(name)  # the mini program's
    assert refresh(api, tokens["refresh_token"]).status == 200
    assert weixin.requests("/wxa/checksession") == []


@pytest.mark.parametrize("state", ["", "x", "0" * 72, "f" * 72, "é" * 72, "0" * 300])
def test_a_state_that_we_did_not_make_is_refused(api, weixin, state):
    _, cookie = begun(api)
    answer = callback(api, weixin.code(somebody(), "web"), state, cookie)
    assert (answer.status, answer.json["code"]) in [(401, "state_invalid"), (422, "validation_error")]
    assert weixin.requests() == []


def test_a_state_is_good_only_in_the_browser_in_which_it_was_made(api, weixin):
    """Else an attacker's link, with a code and a state of their own, would sign others in to the attacker's account."""
    state, _ = begun(api)
    _, another = begun(api)
    code = weixin.code(somebody(), "web")
    for cookie in (None, another, "__Host-wechat=", "__Host-wechat=x", "wechat=0", another.replace("__Host-", "")):
        answer = callback(api, code, state, cookie)
        assert (answer.status, answer.json["code"]) == (401, "state_invalid")
    assert weixin.requests() == []


def test_a_state_cannot_be_made_to_last_longer(api, weixin):
    state, cookie = begun(api)
    later = f"{int(state[:8], 16) + 1:08x}{state[8:]}"
    assert callback(api, "code", later, cookie).json["code"] == "state_invalid"


def test_a_state_ends_after_ten_minutes(api, weixin, move_time):  # noqa: F811
    state, cookie = begun(api)
    move_time(wechat_login.STATE_SECONDS + 1)
    assert callback(api, "code", state, cookie).json["code"] == "state_expired"


def test_a_state_outlives_the_rotation_of_keys(api, weixin, monkeypatch):
    state, cookie = begun(api)
    before = aws.read_signing_keys()
    monkeypatch.setattr(aws, "read_signing_keys", lambda: ["a new key of thirty-two bytes and more", *before])
    assert callback(api, weixin.code(somebody(), "web"), state, cookie).status == 200


def test_a_token_is_no_state_and_a_state_no_token(api, weixin, person):
    state, cookie = begun(api)
    assert callback(api, "code", person().token[:256], cookie).status == 401
    assert api("users.me", "GET", "/users/me", token=state).status == 401


def test_two_tabs_can_be_on_their_way_at_once(api, weixin):
    state, cookie = begun(api)
    second = authorize(api, cookie)
    assert second.cookies[0].startswith(f"{cookie};")
    assert callback(api, weixin.code(somebody(), "web"), state, cookie).status == 200


def test_a_foreign_cookie_is_not_taken_over(api):
    planted = "__Host-wechat=known-to-somebody-else"
    assert "known" not in authorize(api, planted).cookies[0]


def test_other_cookies_do_no_harm(api, weixin):
    state, cookie = begun(api)
    answer = callback(api, weixin.code(somebody(), "web"), state, f"a=b; =; c; {cookie}; __Host-other=1")
    assert answer.status == 200


def test_who_declines_is_told_so(api, weixin):
    for code in (None, ""):
        answer = callback(api, code, *begun(api))
        assert (answer.status, answer.json["code"]) == (401, "wechat_declined")
    assert weixin.requests() == []


@pytest.mark.parametrize(
    ("errcode", "status", "code"),
    [
        (40029, 401, "wechat_code_invalid"),
        (40163, 401, "wechat_code_used"),
        (42003, 401, "wechat_code_invalid"),
        (45011, 429, "wechat_too_often"),
        (40013, 502, "wechat_fault"),
    ],
)
def test_what_wechat_refuses_is_said(api, weixin, errcode, status, code):
    weixin.fail("/sns/oauth2/access_token", errcode)
    answer = come_back(api, weixin, somebody())
    assert (answer.status, answer.json["code"]) == (status, code)


def test_a_code_is_good_once(api, weixin):
    name, (state, cookie) = weixin.code(somebody(), "web"), begun(api)
    assert callback(api, name, state, cookie).status == 200
    assert callback(api, name, state, cookie).json["code"] == "wechat_code_used"


def test_without_a_website_of_its_own_it_is_not_set_up(api, weixin, monkeypatch):
    state, cookie = begun(api)
    monkeypatch.setattr(aws, "read_wechat_application", lambda website: ("", "") if website else ("wx", "s"))
    for answer in (authorize(api), callback(api, "code", state, cookie)):
        assert (answer.status, answer.json["code"]) == (503, "wechat_not_configured")


def test_the_page_is_handed_a_ticket_for_tokens(api, weixin, page):
    name = somebody()
    answer = come_back(api, weixin, name)
    ticket = ticket_of(answer)
    assert answer.body == ""
    assert answer.headers["cache-control"] == "no-store"
    tokens = exchange(api, ticket, VERIFIER)
    assert tokens.status == 200
    assert (tokens.headers["cache-control"], tokens.headers["pragma"]) == ("no-store", "no-cache")
    assert claims(tokens.json["access_token"])["sub"] == signed_in(api, weixin, name).id
    assert refresh(api, tokens.json["refresh_token"]).status == 200


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ("https://a.test/", "https://a.test/#ticket=t"),
        ("https://a.test/?x=1", "https://a.test/?x=1#ticket=t"),
        ("https://a.test/#/login", "https://a.test/#/login?ticket=t"),
        ("https://a.test/#/login?x=1", "https://a.test/#/login?x=1&ticket=t"),
    ],
)
def test_a_ticket_travels_in_the_fragment_which_reaches_no_server(monkeypatch, page, address):
    monkeypatch.setattr(settings, "WECHAT_LOGIN_PAGE", page)
    assert wechat_login._page_with("ticket", "t") == address


def test_a_ticket_is_good_once(api, weixin, page):
    ticket = ticket_of(come_back(api, weixin, somebody()))
    assert exchange(api, ticket, VERIFIER).status == 200
    answer = exchange(api, ticket, VERIFIER)
    assert (answer.status, answer.json["code"]) == (401, "ticket_invalid")


def test_of_many_who_bring_one_ticket_at_once_one_has_the_tokens(weixin):
    me = make_person()
    for _ in range(3):
        ticket = login_tickets.issue(me.user, "openid")

        def brought(_, ticket=ticket):
            try:
                return login_tickets.exchange(ticket)
            except sessions.Unauthorized:
                return None

        with ThreadPoolExecutor(8) as pool:
            assert len(list(filter(None, pool.map(brought, range(8))))) == 1


def test_a_ticket_is_good_for_a_minute(api, person, move_time):  # noqa: F811
    me = person()
    in_time, late = login_tickets.issue(me.user, "openid"), login_tickets.issue(me.user, "openid")
    move_time(login_tickets.SECONDS - 1)
    assert exchange(api, in_time).status == 200
    move_time(2)
    assert exchange(api, late).status == 401


def test_a_ticket_ends_with_the_user_s_sessions(api, person):
    me = person()
    ticket = login_tickets.issue(me.user, "openid")
    sessions.sign_out(me.user)
    assert exchange(api, ticket).status == 401


def test_a_ticket_is_stored_as_its_hash(api, person):
    me = person()
    ticket = login_tickets.issue(me.user, "openid")
    [record] = Record.scan(Record.data.contains(me.id))
    assert ticket not in str(record.attribute_values)
    assert record.ttl <= clock.now() + login_tickets.SECONDS


@pytest.mark.parametrize("ticket", ["x", "t" * 128, "..", "é"])
def test_what_is_no_ticket_is_refused(api, ticket):
    answer = exchange(api, ticket)
    assert (answer.status, answer.json["code"]) == (401, "ticket_invalid")


def test_with_a_ticket_no_bearer_is_looked_at(api, person):
    me = person()
    assert exchange(api, login_tickets.issue(me.user, "openid"), token="expired").status == 200
    assert exchange(api, "wrong", user=me).status == 401


def test_nothing_else_of_a_record_passes_for_a_ticket(api, person):
    me = person()
    api("session.refresh", "POST", "/session/refresh", token=me.refresh_token)
    for other in (me.token, me.refresh_token, claims(me.refresh_token)["jti"]):
        assert exchange(api, other[:128]).status == 401


def test_the_simulated_page_sends_back_who_was_chosen(api, weixin):
    state, cookie = begun(api)
    there = wechat.website_login_url("https://api.test/api/v1/session/wechat/callback?x=1", state)
    shown = httpx.get(there, timeout=PATIENCE_SECONDS)
    assert "ada" in shown.text
    back = urlsplit(httpx.get(there.replace("#", "&as=ada#"), timeout=PATIENCE_SECONDS).headers["location"])
    said = parse_qs(back.query)
    assert (back.netloc, said["x"], said["state"]) == ("api.test", ["1"], [state])
    assert callback(api, said["code"][0], state, cookie).status == 200
    declined = parse_qs(
        urlsplit(httpx.get(there.replace("#", "&as=#"), timeout=PATIENCE_SECONDS).headers["location"]).query
    )
    assert set(declined) == {"x", "state"}


def test_bad_codes_count_against_an_address_and_faults_do_not(api, weixin, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "wechat", Limit(1, 3600))
    monkeypatch.setattr(clock, "now", lambda: 1_900_000_000.0)  # a window in which nobody else has tried
    for _ in range(2):
        weixin.fail("/sns/oauth2/access_token", how="http503")
        assert come_back(api, weixin, somebody()).json["code"] == "wechat_fault"
    assert come_back(api, weixin, somebody()).status == 200
    assert callback(api, "bad", *begun(api)).json["code"] == "wechat_code_invalid"
    assert come_back(api, weixin, somebody()).json["code"] == "too_many_attempts"


# PKCE (RFC 7636): a ticket is for the page that began the sign-in


def test_a_challenge_is_rfc_7636_s():
    """The vector of its appendix B."""
    assert login_tickets.compute_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


@pytest.mark.parametrize("verifier", [None, "w" * 43, "v" * 44, "V" * 43])
def test_a_page_that_did_not_begin_the_sign_in_exchanges_no_ticket(api, weixin, page, verifier):
    """An attacker ends a sign-in of their own, and sends somebody to the page with its ticket."""
    ticket = ticket_of(come_back(api, weixin, somebody()))
    answer = exchange(api, ticket, verifier)
    assert (answer.status, answer.json["code"]) == (401, "ticket_invalid")
    assert exchange(api, ticket, VERIFIER).status == 200, "and it is not used up"


def test_any_verifier_opens_its_own_ticket_alone(api, weixin, page):
    for verifier in ("a" * 43, "-._~" * 32, "aZ09" * 11):
        ticket = ticket_of(callback(api, weixin.code(somebody(), "web"), *begun(api, pkce(verifier))))
        assert exchange(api, ticket, VERIFIER).status == 401
        assert exchange(api, ticket, verifier).status == 200


def test_a_verifier_is_refused_where_there_was_no_challenge(api, person):
    """Else a sign-in could be led around PKCE (RFC 9700, section 2.1.1)."""
    ticket = login_tickets.issue(person().user, "openid")
    assert exchange(api, ticket, VERIFIER).status == 401
    assert exchange(api, ticket).status == 200


def test_where_a_page_takes_over_a_sign_in_begins_with_a_challenge(api, page):
    answer = authorize(api, query="")
    assert (answer.status, answer.json["code"]) == (400, "code_challenge_required")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        f"?code_challenge={'c' * 43}",
        "?code_challenge_method=S256",
        f"?code_challenge={'c' * 43}&code_challenge_method=plain",
        f"?code_challenge={'c' * 42}&code_challenge_method=S256",
        f"?code_challenge={'c' * 44}&code_challenge_method=S256",
        f"?code_challenge={'c' * 42}=&code_challenge_method=S256",
        "?code_challenge=&code_challenge_method=",
    ],
)
def test_only_s256_is_a_challenge(api, query):
    assert authorize(api, query=query).status in (400, 422)


@pytest.mark.parametrize("verifier", ["v" * 42, "v" * 129, "v" * 42 + "+", 5])
def test_what_is_no_verifier_is_no_body(api, verifier):
    body = {"ticket": "t", "code_verifier": verifier}
    assert api("session.refresh", "POST", "/session/refresh", json=body).status == 422


def test_a_state_holds_a_challenge_within_what_wechat_carries(api, page):
    state, _ = begun(api)
    assert state.isalnum()
    assert len(state) <= 128


def test_no_other_challenge_is_put_into_a_state(api, weixin, page):
    state, cookie = begun(api)
    another, _ = begun(api, pkce("w" * 43))
    mixed = state[:8] + another[8:72] + state[72:]
    assert error_of(callback(api, "code", mixed, cookie)) == "state_invalid"
    assert error_of(callback(api, "code", state[:8] + state[72:] + "0" * 16, cookie)) == "state_invalid"
    assert weixin.requests() == []


def test_a_sign_in_that_began_without_a_challenge_ends_in_no_ticket(api, weixin, monkeypatch):
    """It began under release 0.1.0, or before there was a page."""
    state, cookie = begun(api)
    monkeypatch.setattr(settings, "WECHAT_LOGIN_PAGE", PAGE)
    assert error_of(callback(api, weixin.code(somebody(), "web"), state, cookie)) == "state_expired"


def test_without_a_page_the_browser_is_answered_tokens_with_a_challenge_too(api, weixin):
    assert callback(api, weixin.code(somebody(), "web"), *begun(api, pkce())).status == 200
    state, _ = begun(api, pkce())
    assert callback(api, "code", state, begun(api)[1]).json["code"] == "state_invalid", "and the cookie binds it"


def test_every_refusal_leads_a_browser_back_to_the_page(api, weixin, page, monkeypatch, move_time):  # noqa: F811
    """A person looks at this browser: JSON would be the end of the way."""
    assert error_of(callback(api, None, *begun(api))) == "wechat_declined"
    assert error_of(callback(api, "no-code-of-wechat", *begun(api))) == "wechat_code_invalid"
    assert error_of(callback(api, "code", begun(api)[0], None)) == "state_invalid", "begun in another browser"
    assert error_of(callback(api, "code", "s" * 5000, None)) == "validation_error"
    begin = begun(api)
    used = weixin.code(somebody(), "web")
    assert ticket_of(callback(api, used, *begin))
    assert error_of(callback(api, used, *begin)) == "wechat_code_used", "the browser's way back, or a reload"
    begin = begun(api)
    move_time(wechat_login.STATE_SECONDS + 1)
    assert error_of(callback(api, "code", *begin)) == "state_expired"
    monkeypatch.setitem(rate_limits.LIMITS, "wechat", Limit(1, 3600))
    monkeypatch.setattr(clock, "now", lambda: 1_900_100_000.0)  # a window in which nobody else has tried
    assert error_of(callback(api, "no-code", *begun(api))) == "wechat_code_invalid"
    assert error_of(callback(api, "no-code", *begun(api))) == "too_many_attempts"
    monkeypatch.setattr(clock, "now", lambda: 1_900_200_000.0)
    monkeypatch.setattr(wechat, "exchange_website_code", lambda _: 1 / 0)
    assert error_of(callback(api, "code", *begun(api))) == "internal"


def test_a_fault_that_a_redirect_hides_from_metrics_is_logged_as_one_error(api, weixin, page, lines, monkeypatch):  # noqa: F811
    def errors():
        return [(line["message"], line.get("code")) for line in lines() if line["level"] == "ERROR"]

    assert error_of(callback(api, None, *begun(api))) == "wechat_declined"
    assert errors() == []
    weixin.fail("/sns/oauth2/access_token", 40013)
    assert error_of(come_back(api, weixin, somebody())) == "wechat_fault"
    assert errors() == [("wechat sign-in", "wechat_fault")]
    monkeypatch.setattr(wechat, "exchange_website_code", lambda _: 1 / 0)
    assert error_of(callback(api, "code", *begun(api))) == "internal"
    assert errors() == [("wechat sign-in", "wechat_fault"), ("unhandled", None)]


def test_a_ticket_tells_when_its_holder_signed_in(api, weixin, page, move_time):  # noqa: F811
    ticket = ticket_of(come_back(api, weixin, somebody()))
    began = int(clock.now())
    move_time(50)
    assert claims(exchange(api, ticket, VERIFIER).json["access_token"])["auth_time"] <= began
