"""Sessions by device: each is listed, each ends by itself, and an ended one opens nothing more at that very moment."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.accounts import devices, login_tickets, sessions
from aideer.core import clock
from aideer.core.errors import AideerError, Conflict, InvalidToken, NotFound
from aideer.data.models import Record, User
from aideer.schemas.sessions import TokensResponse
from aideer.security import auth
from local.simulators.wechat import Server as WeChat
from tests import faults
from tests.previous import Release
from tests.support import Answer, Api, Person, accepted, in_loop, make_chat, make_person, recorded_calls

MakePerson = Callable[..., Person]
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def sign_in(api: Api, person: Person, device: str | None = None, **headers: str) -> Person:
    """The same person on another device."""
    form = {"grant_type": "password", "username": person.username, "password": person.password}
    if device is not None:
        form["device"] = device
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = api("session.create", "POST", "/session/oauth2/token", form=form, headers=sent)
    assert answer.status == 200, answer.body
    return Person(
        person.id, person.username, person.password, answer.json["access_token"], answer.json["refresh_token"]
    )


def begin(person: Person, device: str = "Phone") -> Person:
    """The same, without a request."""
    tokens = devices.begin(person.user, "password", device)
    return on(person, tokens)


def on(person: Person, tokens: TokensResponse) -> Person:
    return Person(person.id, person.username, person.password, tokens.access_token, tokens.refresh_token)


def refresh(api: Api, device: Person, **headers: str) -> Answer:
    return api("session.refresh", "POST", "/session/refresh", token=device.refresh_token, headers=headers)


def listed(api: Api, device: Person) -> list[dict[str, Any]]:
    answer = api("users.sessions", "GET", "/users/me/sessions", user=device)
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.json
    return found


def end(api: Api, device: Person, session_id: str) -> Answer:
    path, parameters = f"/users/me/sessions/{session_id}", {"id": session_id}
    return api("users.end_session", "DELETE", path, user=device, parameters=parameters)


def end_all(api: Api, device: Person, query: str = "") -> Answer:
    return api("users.end_sessions", "DELETE", f"/users/me/sessions{query}", user=device)


def is_in(api: Api, device: Person) -> bool:
    return api("users.me", "GET", "/users/me", user=device).status == 200


def id_of(device: Person) -> str:
    return str(auth.verify(device.token)["sid"])


def unnamed(person: Person) -> Person:
    """A session as release 0.1 began it."""
    pair = auth.issue_pair(person.user, "password")
    return Person(person.id, person.username, person.password, pair["access_token"], pair["refresh_token"])


# The list


def test_each_sign_in_is_a_session_with_the_name_of_its_device(api: Api, person: MakePerson) -> None:
    me = person()
    phone, laptop = sign_in(api, me, "我的手机"), sign_in(api, me, user_agent=WINDOWS)
    found = {one["id"]: one for one in listed(api, laptop)}
    assert {one["device"] for one in found.values()} == {"我的手机", "Chrome, Windows"}
    assert [one["id"] for one in found.values() if one["current"]] == [id_of(laptop)]
    assert {one["method"] for one in found.values()} == {"password"}
    assert set(found) == {id_of(phone), id_of(laptop)}
    assert all(one["create_time"] <= one["last_used_time"] for one in found.values())


def test_a_refresh_is_a_use_of_the_same_session(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    first = sign_in(api, me, "First")
    sign_in(api, me, "Second")
    later = clock.now() + 3600
    monkeypatch.setattr(clock, "now", lambda: later)
    answer = refresh(api, first)
    assert answer.json["session_id"] == id_of(first)
    device = on(me, TokensResponse(**answer.json))
    used = listed(api, device)
    assert [one["device"] for one in used] == ["First", "Second"]
    assert used[0]["last_used_time"] == clock.timestamp(int(later))
    assert used[0]["create_time"] < used[0]["last_used_time"]
    assert Record.get(f"session#{me.id}", id_of(first)).ttl > auth.verify(device.refresh_token)["exp"]


@pytest.mark.parametrize("device", ["", "x" * 51, "a\nb", "a\u202eb"])
def test_a_name_of_a_device_is_one_visible_line(api: Api, person: MakePerson, device: str) -> None:
    me = person()
    form = {"grant_type": "password", "username": me.username, "password": me.password, "device": device}
    answer = api("session.create", "POST", "/session/oauth2/token", form=form)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


def test_wechats_sign_ins_are_sessions_too(api: Api, weixin: WeChat) -> None:
    answer = api("session.wechat_token", "GET", f"/session/wechat/token?code={weixin.code('dev-1')}&device=Mini")
    user_id = auth.verify(answer.json["access_token"])["sub"]
    me = Person(user_id, "", "", answer.json["access_token"], answer.json["refresh_token"])
    [one] = listed(api, me)
    assert (one["device"], one["method"], one["current"]) == ("Mini", "wechat", True)
    again = api("session.wechat_refresh", "GET", "/session/wechat/refresh", token=me.refresh_token)
    assert again.json["session_id"] == one["id"]
    assert end(api, me, "current").status == 200
    assert api("session.wechat_refresh", "GET", "/session/wechat/refresh", token=me.refresh_token).status == 401


def test_no_list_has_an_address_or_a_token(api: Api, person: MakePerson) -> None:
    me = person()
    device = sign_in(api, me)
    stored = str(Record.get(f"session#{me.id}", id_of(device)).serialize())
    assert "203.0.113" not in stored
    assert device.token not in stored
    assert device.refresh_token not in stored


# The end of a session


def test_an_ended_session_opens_nothing_and_the_others_go_on(api: Api, person: MakePerson) -> None:
    me = person()
    phone, laptop = sign_in(api, me, "Phone"), sign_in(api, me, "Laptop")
    assert end(api, laptop, id_of(phone)).status == 200
    assert not is_in(api, phone)
    assert (refresh(api, phone).status, refresh(api, phone).json["code"]) == (401, "token_revoked")
    assert is_in(api, laptop)
    assert refresh(api, laptop).status == 200
    assert [one["device"] for one in listed(api, laptop)] == ["Laptop"]
    assert list(Record.query(f"session#{me.id}", Record.sk == id_of(phone))) == []


def test_an_ended_session_asks_no_question(api: Api, person: MakePerson) -> None:
    me = person()
    phone = begin(me)
    chat = make_chat(me, "Hello")
    end(api, me, id_of(phone))
    answer = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=phone)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me).status == 200


def test_a_used_token_of_an_ended_session_ends_nobody_elses(api: Api, person: MakePerson) -> None:
    me = person()
    phone = begin(me)
    refresh(api, phone)
    end(api, me, id_of(phone))
    for use in Record.query(f"refresh#{me.id}"):
        use.update([Record.at.set(0)])  # long ago
    assert refresh(api, phone).json["code"] == "token_revoked"
    assert is_in(api, me)


def test_one_ends_ones_own_session_by_its_short_name(api: Api, person: MakePerson) -> None:
    me = person()
    phone = begin(me)
    assert end(api, phone, "current").status == 200
    assert not is_in(api, phone)
    assert is_in(api, me)


def test_a_session_that_is_none_or_anothers_is_not_found(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    phone = begin(me)
    for session_id in ("0123456789abcdef", id_of(other), "x" * 64, "鹿"):
        assert (end(api, phone, session_id).status, end(api, phone, session_id).json["code"]) == (
            404,
            "session_not_found",
        )
    assert is_in(api, other)
    ended = begin(me)
    end(api, me, id_of(ended))
    assert end(api, me, id_of(ended)).status == 404


def test_all_others_end_and_this_one_goes_on(api: Api, person: MakePerson) -> None:
    me = person()
    phone, laptop, old = begin(me), begin(me), unnamed(me)
    assert is_in(api, old)
    assert end_all(api, phone, "?others=true").status == 200
    assert is_in(api, phone)
    assert [is_in(api, device) for device in (me, laptop, old)] == [False] * 3
    assert [refresh(api, device).status for device in (me, laptop, old)] == [401] * 3
    assert [one["id"] for one in listed(api, phone)] == [id_of(phone)]
    assert [record.sk for record in Record.query(f"session#{me.id}")] == [id_of(phone)]
    assert is_in(api, begin(me)), "a new one begins"


def test_all_sessions_end(api: Api, person: MakePerson) -> None:
    me = person()
    phone, old = begin(me), unnamed(me)
    assert end_all(api, phone).status == 200
    assert [is_in(api, device) for device in (me, phone, old)] == [False] * 3
    assert me.user.sessions is None
    assert listed(api, begin(me))[0]["device"] == "Phone"


def test_after_all_others_and_then_all_old_ways_of_signing_in_work(api: Api, person: MakePerson) -> None:
    me = person()
    end_all(api, me, "?others=true")
    end_all(api, me)
    assert is_in(api, unnamed(me)), "as release 0.1 would sign in after a rollback"


def test_a_new_password_empties_the_list(api: Api, person: MakePerson) -> None:
    me = person()
    phone = sign_in(api, me)
    body = {"old_password": me.password, "new_password": "another-secret-1"}
    assert api("users.change_password", "PUT", "/users/me/password", json=body, user=phone).status == 200
    assert me.user.sessions is None
    me.password = body["new_password"]
    assert len(listed(api, sign_in(api, me))) == 1


def test_streams_and_tickets_end_with_their_session(person: MakePerson) -> None:
    from aideer.tasks import control, stream_access

    me = person()
    phone = begin(me)
    viewer = stream_access.Viewer.of(auth.verify(phone.token))
    other = stream_access.Viewer.of(auth.verify(me.token))
    task_id, _ = accepted(me, "hello")
    holder = auth.get_holder(auth.verify(phone.token))
    url = control.stream_url(control.get_owned(holder, task_id), holder)
    assert url
    claims = stream_access.verify_claims(task_id, None, url.partition("ticket=")[2])
    assert viewer.may_see(me.user)
    devices.end(auth.get_holder(auth.verify(me.token)), id_of(phone))
    assert not viewer.may_see(me.user)
    assert other.may_see(me.user)
    assert stream_access.Viewer(me.id, 0).may_see(me.user), "a token of release 0.1"
    with pytest.raises(InvalidToken):
        in_loop(stream_access.admit(claims, None, polls=False))


# The limit


def test_a_new_session_ends_the_one_that_was_unused_the_longest(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST", 3)
    me = person()
    me.user.update([User.sessions.remove()])
    began, moved = clock.now(), [0]
    monkeypatch.setattr(clock, "now", lambda: began + moved[0])
    oldest = begin(me, "0")
    others = []
    for n in (1, 2):
        moved[0] += 60
        others.append(begin(me, str(n)))
    moved[0] += 60
    refresh(api, oldest)
    moved[0] += 60
    newest = begin(me, "3")
    assert [one["device"] for one in listed(api, newest)] == ["3", "0", "2"]
    assert [is_in(api, device) for device in (oldest, others[0], others[1], newest)] == [True, False, True, True]
    assert len(me.user.sessions) == 3
    assert len(list(Record.query(f"session#{me.id}"))) == 3


def test_every_way_of_signing_in_makes_room_on_a_full_list(
    api: Api, monkeypatch: pytest.MonkeyPatch, weixin: WeChat
) -> None:
    monkeypatch.setattr(devices, "MOST", 1)
    who = "dev-full"

    def only(answer: Answer) -> Person:
        assert answer.status == 200, answer.body
        user_id = auth.verify(answer.json["access_token"])["sub"]
        device = Person(user_id, "", "", answer.json["access_token"], answer.json["refresh_token"])
        assert [one["current"] for one in listed(api, device)] == [True]
        assert User.get(user_id, consistent_read=True).sessions == {id_of(device)}
        return device

    def token() -> Answer:
        code = weixin.code(who)
        return api("session.wechat_token", "GET", f"/session/wechat/token?code={code}")

    first, mini = only(token()), only(token())
    assert not is_in(api, first)
    way = api("session.wechat_authorize", "GET", "/session/wechat/authorize")
    state = parse_qs(urlsplit(way.headers["location"]).query)["state"][0]
    code = weixin.code(who, "web")
    path = f"/session/wechat/callback?state={state}&code={code}"
    headers = {"cookie": way.cookies[0].partition(";")[0]}
    website = only(api("session.wechat_callback", "GET", path, headers=headers))
    assert website.id == mini.id
    user = User.get(mini.id, consistent_read=True)
    ticket = login_tickets.issue(user, "dev-full")
    only(api("session.refresh", "POST", "/session/refresh", json={"ticket": ticket, "device": "Page"}))
    old = auth.issue_pair(user, "wechat", auth.verify(mini.refresh_token)["openid"])["refresh_token"]
    only(api("session.wechat_refresh", "GET", "/session/wechat/refresh", token=old))
    me = make_person()
    before = sign_in(api, me)
    last = sign_in(api, me)
    assert not is_in(api, before)
    assert me.user.sessions == {id_of(last)}
    only(refresh(api, unnamed(me)))
    assert not is_in(api, last)


def test_sessions_whose_last_token_has_expired_make_room_first(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST", 3)
    me = person()
    gone = {f"{n:016}" for n in range(2)}
    me.user.update([User.sessions.set(gone)])
    first = begin(me)
    Record(f"session#{me.id}", "0" * 16, at=clock.now() + 9, version=0, ttl=int(clock.now()) - 1, data={}).save()
    second = begin(me)
    assert me.user.sessions == {id_of(first), id_of(second)}


def test_many_sign_ins_at_once_stay_within_the_limit(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MOST", 3)
    me = person()
    with ThreadPoolExecutor(4) as pool:
        began = list(pool.map(lambda n: begin(me, str(n)), range(8)))
    known = me.user.sessions
    assert len(known) == 3
    assert known <= {id_of(device) for device in (*began, me)}
    assert len({id_of(device) for device in began}) == 8


def test_the_user_stays_small_with_all_sessions(person: MakePerson) -> None:
    me = person()
    me.user.update([User.sessions.set({f"{n:016}" for n in range(devices.MOST)})])
    item = me.user.serialize()
    assert sum(len(name) + len(str(value)) for name, value in item.items()) < 4096, "one read unit"


# Races


def test_two_refreshes_at_once_stay_one_session(api: Api, person: MakePerson) -> None:
    me = person()
    phone = sign_in(api, me)
    claims = auth.verify(phone.refresh_token)
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda _: sessions.refresh(claims), range(8)))
    assert {pair.session_id for pair in pairs} == {id_of(phone)}
    assert len(listed(api, phone)) == 1
    assert all(is_in(api, on(me, pair)) for pair in pairs)


def test_a_refresh_that_read_the_user_before_the_end_gives_tokens_that_open_nothing(
    api: Api, person: MakePerson
) -> None:
    me = person()
    phone = begin(me)
    claims = auth.verify(phone.refresh_token)
    holder = auth.get_holder(claims)
    assert end(api, me, id_of(phone)).status == 200
    late = on(me, sessions.renew(holder, claims))
    assert not is_in(api, late)
    assert refresh(api, late).status == 401
    assert list(Record.query(f"session#{me.id}", Record.sk == id_of(phone))) == [], "nor is it listed again"


def test_refreshes_beside_the_end_of_their_session_leave_nothing_open(api: Api, person: MakePerson) -> None:
    me = person()
    for _ in range(5):
        phone = begin(me)
        claims = auth.verify(phone.refresh_token)

        def attempt(n: int, phone: Person = phone, claims: dict[str, Any] = claims) -> TokensResponse | None:
            try:
                if n == 2:
                    devices.end(auth.get_holder(auth.verify(me.token)), id_of(phone))
                    return None
                return sessions.refresh(claims)
            except InvalidToken:
                return None

        with ThreadPoolExecutor(5) as pool:
            pairs = list(pool.map(attempt, range(5)))
        assert not is_in(api, phone)
        assert not any(is_in(api, on(me, pair)) for pair in pairs if pair)
    assert is_in(api, me)


def test_a_session_is_ended_once_and_others_of_that_moment_are_told(person: MakePerson) -> None:
    me = person()
    phone, laptop = begin(me), begin(me)
    readers = [auth.get_holder(auth.verify(device.token)) for device in (me, laptop)]

    def attempt(reader: User) -> str | None:
        try:
            devices.end(reader, id_of(phone))
        except NotFound as error:
            return error.code
        return None

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, readers), key=str) == [None, "session_not_found"]


def test_a_session_that_was_just_ended_ends_no_other(person: MakePerson) -> None:
    me = person()
    thief = begin(me)
    reader = auth.get_holder(auth.verify(thief.token))
    devices.end(auth.get_holder(auth.verify(me.token)), id_of(thief))
    with pytest.raises(InvalidToken):
        devices.end(reader, id_of(me))
    with pytest.raises(InvalidToken):
        devices.end_others(reader)
    assert me.user.sessions == {id_of(me)}


def test_a_session_that_was_just_ended_sets_no_password(person: MakePerson) -> None:
    from aideer.accounts import password_changes
    from aideer.schemas.users import PasswordChange

    me = person()
    thief = begin(me)
    reader = auth.get_holder(auth.verify(thief.token))
    devices.end(auth.get_holder(auth.verify(me.token)), id_of(thief))
    with pytest.raises(InvalidToken):
        password_changes.change_own(reader, PasswordChange(old_password=me.password, new_password="another-secret-1"))
    assert me.user.token_version == 0


def test_a_sign_in_beside_a_new_password_gets_no_session(person: MakePerson) -> None:
    me = person()
    before = me.user
    sessions.sign_out(before)
    with pytest.raises(InvalidToken):
        devices.begin(before, "password", None, version=before.token_version)
    assert me.user.sessions is None


@pytest.mark.parametrize("times", [1, 2])
def test_lost_answers_change_nothing(api: Api, person: MakePerson, times: int) -> None:
    me = person()
    with faults.answer_lost("TransactWriteItems", times=times):
        phone = sign_in(api, me)
    assert is_in(api, phone)
    assert len(listed(api, phone)) == 1
    with faults.answer_lost("TransactWriteItems", times=times):
        assert end(api, me, id_of(phone)).status == 200
    assert not is_in(api, phone)
    begin(me)
    with faults.answer_lost("TransactWriteItems", times=times):
        assert end_all(api, me, "?others=true").status == 200
    assert me.user.sessions == {id_of(me)}


def test_conflicts_are_tried_again(api: Api, person: MakePerson) -> None:
    me = person()
    with faults.refused("TransactWriteItems", faults.CONFLICT, times=3):
        assert is_in(api, sign_in(api, me))


Step = tuple[str, int, int]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "unnamed", "refresh", "refresh", "end", "others", "all"]),
            st.integers(0, 7),
            st.integers(0, 7),
        ),
        max_size=14,
    )
)
def test_always_a_token_is_good_exactly_while_its_session_has_not_ended(api: Api, steps: list[Step]) -> None:
    me = make_person()
    held: list[tuple[Person, str | None]] = [(me, id_of(me))]  # each token pair, and its session
    open_ids: set[str | None] = {id_of(me)}

    def is_open(at: int) -> bool:
        return held[at][1] in open_ids

    for what, first, second in steps:
        at, other = first % len(held), second % len(held)
        device = held[at][0]
        try:
            if what == "begin":
                held.append((new := begin(me), id_of(new)))
                open_ids.add(id_of(new))
            elif what == "unnamed":
                held.append((unnamed(me), f"unnamed {len(held)}"))
                if not me.user.unnamed_ended:
                    open_ids.add(held[-1][1])
            elif what == "refresh":
                pair = on(me, sessions.refresh(auth.verify(device.refresh_token)))
                assert is_open(at)
                if id_of(pair) not in {session_id for _, session_id in held}:  # an unnamed token's first refresh
                    open_ids.add(id_of(pair))
                held.append((pair, id_of(pair)))
            else:
                holder = auth.get_holder(auth.verify(device.token))
                assert is_open(at)
                if what == "end":
                    target = auth.verify(held[other][0].token).get("sid", "none")
                    devices.end(holder, target)
                    open_ids.discard(target)
                elif what == "others":
                    devices.end_others(holder)
                    open_ids &= {holder.session_id}
                else:
                    sessions.sign_out(holder)
                    open_ids = set()
        except Conflict:
            assert what == "others"
            assert auth.verify(device.token).get("sid") is None
        except NotFound:
            assert what == "end"
        except InvalidToken:
            # An unnamed token's refresh has begun a session that may have ended since.
            assert not is_open(at) or (what == "refresh" and "sid" not in auth.verify(device.refresh_token))
        for pair, session_id in held:
            assert is_in(api, pair) == (session_id in open_ids)


# The previous release


def test_tokens_of_the_previous_release_are_good_and_become_a_session_at_their_refresh(
    api: Api, monkeypatch: pytest.MonkeyPatch, weixin: WeChat
) -> None:
    release = Release(monkeypatch, weixin)
    name = next(name for name in release.users if "refresh" in release.tokens[name] and release.users[name]["password"])
    me = release.person(name)
    assert listed(api, me) == []
    assert (end(api, me, "current").status, end_all(api, me, "?others=true").status) == (409, 409)
    answer = refresh(api, me, **{"user-agent": WINDOWS})
    assert answer.status == 200
    device = on(me, TokensResponse(**answer.json))
    [one] = listed(api, device)
    assert (one["id"], one["device"], one["current"]) == (answer.json["session_id"], "Chrome, Windows", True)
    assert is_in(api, me), "its access token is good until it expires"
    assert end_all(api, device, "?others=true").status == 200
    assert not is_in(api, me)
    assert is_in(api, device)


def test_all_first_uses_of_an_old_refresh_token_are_one_session(api: Api, person: MakePerson) -> None:
    me = person()
    old = unnamed(me)
    claims = auth.verify(old.refresh_token)
    with ThreadPoolExecutor(6) as pool:
        pairs = list(pool.map(lambda _: sessions.refresh(claims), range(6)))
    assert len({pair.session_id for pair in pairs}) == 1
    assert len({auth.verify(pair.refresh_token)["jti"] for pair in pairs}) == 1
    assert me.user.sessions == {id_of(me), pairs[0].session_id}
    assert all(is_in(api, on(me, pair)) for pair in pairs)


def test_a_session_of_an_old_token_does_not_come_back_within_the_minute(api: Api, person: MakePerson) -> None:
    me = person()
    old = unnamed(me)
    first = on(me, TokensResponse(**refresh(api, old).json))
    assert end(api, me, id_of(first)).status == 200
    again = refresh(api, old)
    if again.status == 200:
        assert not is_in(api, on(me, TokensResponse(**again.json)))
    assert id_of(first) not in me.user.sessions


def test_a_refresh_that_the_previous_release_answered_has_the_same_successor(api: Api, person: MakePerson) -> None:
    me = person()
    old = unnamed(me)
    claims = auth.verify(old.refresh_token)
    Record(f"refresh#{me.id}", claims["jti"], at=int(clock.now()), ttl=claims["exp"] + 3600).save()
    again = refresh(api, old)
    assert again.status == 200
    assert "session_id" not in again.json
    device = on(me, TokensResponse(**again.json))
    assert is_in(api, device)
    assert "session_id" in refresh(api, device).json, "its own refresh gives it one"


def test_an_old_token_is_refused_once_all_others_have_ended_at_any_moment(person: MakePerson) -> None:
    me = person()
    old = unnamed(me)
    claims = auth.verify(old.refresh_token)
    holder = auth.get_holder(claims)
    devices.end_others(auth.get_holder(auth.verify(me.token)))
    with pytest.raises(InvalidToken):
        sessions.renew(holder, claims)
    assert me.user.sessions == {id_of(me)}


# What it costs


def test_no_call_reads_more_than_before_and_lists_cost_the_same_at_any_size(api: Api, person: MakePerson) -> None:
    me = person()
    for _ in range(5):
        begin(me)
    users = f"GetItem {User.Meta.table_name}"
    with recorded_calls() as calls:
        is_in(api, me)
    assert calls == [users]
    with recorded_calls() as calls:
        assert len(listed(api, me)) == 5
    assert calls == [users, "BatchGetItem"]
    with recorded_calls() as calls:
        end(api, me, id_of(begin_unrecorded := begin(me)))
    assert calls[-2:] == [users, "TransactWriteItems"]
    assert not is_in(api, begin_unrecorded)
    with recorded_calls() as calls:
        end_all(api, me, "?others=true")
    assert calls == [users, "TransactWriteItems"]


def test_sessions_go_with_their_user(person: MakePerson) -> None:
    me = person()
    begin(me)
    assert devices.remove_all(me.id, time.monotonic() + 60)
    assert list(Record.query(f"session#{me.id}", consistent_read=True)) == []


def test_whoever_is_refused_learns_no_more_than_before(api: Api, person: MakePerson) -> None:
    me = person()
    phone = begin(me)
    end(api, me, id_of(phone))
    ended = api("users.me", "GET", "/users/me", user=phone)
    sessions.sign_out(me.user)
    assert ended.json == api("users.me", "GET", "/users/me", user=me).json
    assert issubclass(InvalidToken, AideerError)
