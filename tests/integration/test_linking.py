"""A user takes on the other way of signing in; whom WeChat's sign-in had made, and nobody has used, is absorbed."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from aideer.accounts import deletion, linking, users, wechat_users
from aideer.billing import credits
from aideer.chats import likes
from aideer.core import clock, settings
from aideer.core.errors import AideerError, Busy
from aideer.data import jobs
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, CreditEntry, Identity, Record, User
from aideer.providers import wechat
from aideer.schemas.users import UserChange
from aideer.security import auth, rate_limits
from aideer.security.limits import Limit
from jobs.run import WORKERS
from local.simulators.wechat import openid, unionid
from tests import faults
from tests.integration.test_sessions import sign_in
from tests.integration.test_wechat import signed_in, somebody
from tests.support import Person, check_rules, make_chat, make_person


def link(api, user, code):
    return api("users.link_wechat", "POST", "/users/me/identities/wechat", user=user, json={"code": code})


def link_password(api, user, username, password="secret-456"):
    body = {"username": username, "password": password}
    return api("users.link_password", "POST", "/users/me/identities/password", user=user, json=body)


def owner(key):
    return Identity.get(key, consistent_read=True).user_id


def jobs_of(user_id):
    return [job for shard in range(8) for job in Record.query(f"jobs#{shard}") if job.data.get("user_id") == user_id]


def name():
    return f"n{uuid4().hex[:12]}"


def meanwhile(monkeypatch, module, function, happens):
    """Have something happen in the moment when this function has come to its result."""
    real = getattr(module, function)

    def then(*given):
        result = real(*given)
        happens()
        return result

    monkeypatch.setattr(module, function, then)


def test_a_wechat_account_that_nobody_has_is_linked(api, weixin, person):
    me, who = person(), somebody()
    answer = link(api, me, weixin.code(who))
    assert (answer.status, answer.json["id"], answer.json["username"]) == (200, me.id, me.username)
    assert signed_in(api, weixin, who).id == me.id
    assert sign_in(api, me.username, me.password).status == 200
    assert me.user.wechat_keys == {f"wechat#{openid(who)}", f"wechat-union#{unionid(who)}"}
    check_rules(me)


def test_linking_again_changes_nothing(api, weixin, person):
    me, who = person(), somebody()
    first = link(api, me, weixin.code(who)).json
    assert link(api, me, weixin.code(who)).json == first
    assert me.user.token_version == 0


def test_linking_brings_no_second_welcome(api, weixin, person):
    me = person()
    link(api, me, weixin.code(somebody()))
    assert len(list(CreditEntry.query(me.id))) == 1


def test_whom_nobody_has_used_is_absorbed(api, weixin, person):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    assert link(api, me, weixin.code(who)).status == 200
    assert owner(f"wechat#{openid(who)}") == owner(f"wechat-union#{unionid(who)}") == me.id
    assert signed_in(api, weixin, who).id == me.id
    assert me.user.wechat_keys == {f"wechat#{openid(who)}", f"wechat-union#{unionid(who)}"}
    gone = other.user
    assert (gone.deleted, gone.wechat_keys, gone.list_shard) == (True, None, None)
    assert api("users.me", "GET", "/users/me", user=other).status == 401
    assert len(jobs_of(other.id)) == 1
    check_rules(me)
    check_rules(other)  # whose sign-up credits stay where they are
    assert me.user.credits == 1_000_000


def test_what_is_left_of_who_was_absorbed_goes_and_the_identities_stay(api, weixin, person):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    link(api, me, weixin.code(who))
    while left := jobs_of(other.id):
        assert all(jobs.run(job.pk, job.sk, time.monotonic() + 10, WORKERS) for job in left)
    with pytest.raises(User.DoesNotExist):
        User.get(other.id)
    assert list(CreditEntry.query(other.id)) == []
    assert signed_in(api, weixin, who).id == me.id


def test_a_user_who_is_deleted_takes_what_was_linked_along(api, weixin, person):
    me, who = person(), somebody()
    link(api, me, weixin.code(who))
    assert api("users.delete", "DELETE", f"/users/{me.id}", user=me, parameters={"id": me.id}).status == 200
    for key in (f"wechat#{openid(who)}", f"wechat-union#{unionid(who)}", users.password_key(me.username)):
        assert wechat_users.find_identity(key) is None
    assert signed_in(api, weixin, who).id != me.id


def test_a_sign_in_while_one_is_deleted_leaves_no_identity_behind(api, weixin):
    for _ in range(3):
        who = somebody()
        me = signed_in(api, weixin, who, with_unionid=False)
        code = weixin.code(who)  # with a unionid now, which is joined
        with ThreadPoolExecutor(2) as pool:
            gone = pool.submit(deletion.delete, me.user, me.id)
            pool.submit(lambda code=code: wechat_users.get_or_create(wechat.exchange_mini_program_code(code))).result()
        gone.result()
        after = signed_in(api, weixin, who)
        assert after.id != me.id
        assert after.user.wechat_keys == {f"wechat#{openid(who)}", f"wechat-union#{unionid(who)}"}


def test_the_session_of_who_was_absorbed_is_not_refreshed(api, weixin, person):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    link(api, me, weixin.code(who))
    answer = api("session.wechat_refresh", "GET", "/session/wechat/refresh", token=other.refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")


def test_who_came_by_the_website_is_absorbed_with_all_that_is_theirs(api, weixin, person):
    me, who = person(), somebody()
    web = wechat_users.get_or_create(wechat.exchange_website_code(weixin.code(who, "web")))
    assert link(api, me, weixin.code(who)).status == 200
    assert me.user.wechat_keys == {
        f"wechat#{openid(who)}",
        f"wechat#{openid(who, 'web')}",
        f"wechat-union#{unionid(who)}",
    }
    assert User.get(web.id).deleted
    assert all(owner(key) == me.id for key in me.user.wechat_keys)


def redeems(other):
    code = Code(f"L-{uuid4().hex.upper()}", value=1, max_uses=1, create_time=clock.timestamp())
    code.save()
    from aideer.billing import topups

    topups.redeem(other.user, code.code, IdempotentRequest(other.id, "r", None, "b"))


def makes_a_preset(api, other):
    body = {"title": "T", "parameters": {"model": "qwen-plus"}, "messages": []}
    assert api("presets.create", "POST", "/presets", user=other, json=body).status == 200


def likes_a_chat(api, other):
    chat = make_chat(make_person(), "hello")
    chat.update([Chat.visibility.set("shared")])
    likes.like(other.user, "chat", chat.id)


def likes_since_the_previous_release(api, other):
    likes_a_chat(api, other)
    other.user.update([User.like_count.remove()])  # 0.1.0 did not count


def chooses_a_nickname(api, other):
    users.change(other.user, other.id, UserChange(nickname="My chosen name"))


@pytest.mark.parametrize(
    "use",
    [
        likes_a_chat,
        likes_since_the_previous_release,
        chooses_a_nickname,
        lambda api, other: redeems(other),
        lambda api, other: make_chat(other, "hello"),
        makes_a_preset,
        lambda api, other: link_password(api, other, name()),
        lambda api, other: other.user.update([User.avatar.set("abc")]),
        lambda api, other: other.user.update([User.permission.set(auth.VISITOR)]),
        lambda api, other: other.user.update([User.permission.set(auth.ADMIN)]),
    ],
    ids=["like", "like of 0.1.0", "nickname", "credits", "chat", "preset", "name", "picture", "visitor", "admin"],
)
def test_who_has_been_used_is_not_absorbed(api, weixin, person, use):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    use(api, other)
    answer = link(api, me, weixin.code(who))
    assert (answer.status, answer.json["code"]) == (409, "wechat_taken")
    assert owner(f"wechat#{openid(who)}") == other.id
    assert not other.user.deleted
    assert me.user.wechat_keys is None
    assert api("users.me", "GET", "/users/me", user=other).status == 200


def test_whom_the_previous_release_made_and_nobody_used_is_absorbed(api, weixin, person):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    other.user.update([User.like_count.remove()])
    assert link(api, me, weixin.code(who)).status == 200
    assert other.user.deleted


@pytest.mark.parametrize(
    "use",
    [lambda api, other: redeems(other), likes_a_chat, likes_since_the_previous_release, chooses_a_nickname],
    ids=["credits", "like", "like of 0.1.0", "nickname"],
)
def test_who_is_used_in_the_same_moment_is_not_absorbed(api, weixin, person, monkeypatch, use):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who)
    unused = linking._is_unused

    def used_meanwhile(user):
        verdict = unused(user)
        if verdict:
            use(api, other)
        return verdict

    monkeypatch.setattr(linking, "_is_unused", used_meanwhile)
    answer = link(api, me, weixin.code(who))
    assert (answer.status, answer.json["code"]) == (409, "wechat_taken")
    check_rules(other)
    assert not other.user.deleted


def test_the_openid_of_a_user_with_a_password_is_never_taken_over(api, weixin, person):
    victim, attacker, who = person(), person(), somebody()
    link(api, victim, weixin.code(who))
    assert link(api, attacker, weixin.code(who)).json["code"] == "wechat_taken"
    assert signed_in(api, weixin, who).id == victim.id


def test_one_has_one_wechat_account(api, weixin, person):
    me, who, another = person(), somebody(), somebody()
    link(api, me, weixin.code(who))
    answer = link(api, me, weixin.code(another))
    assert (answer.status, answer.json["code"]) == (409, "wechat_already_linked")
    unused = signed_in(api, weixin, another)
    assert link(api, me, weixin.code(another)).json["code"] == "wechat_already_linked"
    assert not unused.user.deleted
    assert link(api, signed_in(api, weixin, who), weixin.code(somebody(), with_unionid=False)).status == 409


@pytest.mark.parametrize("absorbed", [True, False])
def test_of_two_accounts_that_one_links_at_once_one_is_linked(api, weixin, person, monkeypatch, absorbed):
    me, first, second = person(), somebody(), somebody()
    if absorbed:
        signed_in(api, weixin, first)
    later = iter([weixin.code(second)])
    happens = lambda: [linking.link_wechat(me.user, code) for code in later]  # noqa: E731
    meanwhile(monkeypatch, linking, "_require_same_account", happens)
    answer = link(api, me, weixin.code(first))
    assert (answer.status, answer.json["code"]) == (409, "wechat_already_linked")
    assert me.user.wechat_keys == {f"wechat#{openid(second)}", f"wechat-union#{unionid(second)}"}
    monkeypatch.undo()
    assert signed_in(api, weixin, first).id != me.id


@pytest.mark.parametrize("who_links", ["mini", "web"])
def test_two_users_of_one_account_are_joined_by_either(api, weixin, who_links):
    """They came before the applications were bound to one account, so each openid has got a user of its own."""
    who = somebody()
    mini = signed_in(api, weixin, who, with_unionid=False)
    web = wechat_users.get_or_create(wechat.exchange_website_code(weixin.code(who, "web")))
    theirs = Person(web.id, who, "", auth.issue_pair(web, "wechat")["access_token"], "")
    me, other = (mini, theirs) if who_links == "mini" else (theirs, mini)
    answer = link(api, me, weixin.code(who))
    assert (answer.status, answer.json["id"]) == (200, me.id)
    assert other.user.deleted
    keys = {f"wechat#{openid(who)}", f"wechat#{openid(who, 'web')}", f"wechat-union#{unionid(who)}"}
    assert me.user.wechat_keys == keys
    assert {owner(key) for key in keys} == {me.id}


def test_a_website_s_user_links_the_mini_program_too(api, weixin):
    who = somebody()
    web = wechat_users.get_or_create(wechat.exchange_website_code(weixin.code(who, "web")))
    me = make_person()
    me.id, me.token = web.id, auth.issue_pair(web, "wechat")["access_token"]
    assert link(api, me, weixin.code(who)).status == 200
    assert link(api, me, weixin.code(somebody())).json["code"] == "wechat_already_linked"
    assert len(me.user.wechat_keys) == 3


def test_who_was_deleted_leaves_the_openid_to_others(api, weixin, person):
    me, who = person(), somebody()
    user = signed_in(api, weixin, who).user
    user.deleted = True
    user.save()
    assert link(api, me, weixin.code(who)).status == 200
    assert owner(f"wechat#{openid(who)}") == me.id


def test_a_bad_code_links_nothing(api, weixin, person):
    me = person()
    answer = link(api, me, "bad")
    assert (answer.status, answer.json["code"]) == (400, "wechat_code_invalid")
    assert link(api, None, "bad").status == 401
    assert link(api, me, "").status == link(api, me, "c" * 257).status == 422
    assert me.user.wechat_keys is None


def test_links_are_counted_and_right_ones_are_not(api, weixin, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "link", Limit(1, 3600))
    me, who = person(), somebody()
    for _ in range(3):
        assert link(api, me, weixin.code(who)).status == 200
    assert link(api, me, "bad").status == 400
    assert link(api, me, weixin.code(who)).status == 429
    assert link_password(api, me, name()).status == 429


def test_a_fault_does_not_count_as_a_link(api, weixin, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "link", Limit(1, 3600))
    me = person()
    for _ in range(2):
        weixin.fail("/sns/jscode2session", how="http503")
        assert link(api, me, weixin.code(somebody())).json["code"] == "wechat_fault"

    def busy(_):
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr(wechat_users, "retry_while_contended", busy)
        for _ in range(2):
            assert link(api, me, weixin.code(somebody())).json["code"] == "busy"
            assert link_password(api, me, name()).json["code"] == "busy"
    assert link(api, me, "bad").json["code"] == "wechat_code_invalid"
    assert link(api, me, "bad").json["code"] == "too_many_attempts"


def test_a_conflict_with_what_one_has_does_not_count_as_a_link(api, weixin, person, monkeypatch):
    monkeypatch.setitem(rate_limits.LIMITS, "link", Limit(1, 3600))
    me = person()
    assert link(api, me, weixin.code(somebody())).status == 200
    for _ in range(2):
        assert link_password(api, me, name()).json["code"] == "password_already_linked"
        assert link(api, me, weixin.code(somebody())).json["code"] == "wechat_already_linked"
    newcomer = signed_in(api, weixin, somebody())
    assert link_password(api, newcomer, me.username).json["code"] == "username_taken"
    assert link_password(api, newcomer, name()).json["code"] == "too_many_attempts"


def signs_out(api, me):
    assert api("session.delete", "DELETE", "/session", user=me).status == 200


def changes_the_password(api, me):
    body = {"old_password": me.password, "new_password": "brand-new-1"}
    assert api("users.change_password", "PUT", "/users/me/password", user=me, json=body).status == 200


@pytest.mark.parametrize("ends", [signs_out, changes_the_password])
@pytest.mark.parametrize("absorbed", [True, False])
@pytest.mark.parametrize(
    ("module", "function"),
    [(wechat, "exchange_mini_program_code"), (wechat_users, "find_identities")],
    ids=["before the user is read", "after it"],
)
def test_a_link_that_is_under_way_when_the_session_ends_is_not_made(
    api, weixin, person, monkeypatch, module, function, absorbed, ends
):
    me, who = person(), somebody()
    other = signed_in(api, weixin, who) if absorbed else None
    meanwhile(monkeypatch, module, function, lambda: ends(api, me))
    answer = link(api, me, weixin.code(who))
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert me.user.wechat_keys is None
    monkeypatch.undo()
    after = signed_in(api, weixin, who).id
    assert after == other.id if other else after != me.id


@pytest.mark.parametrize(
    ("module", "function"),
    [(linking.password_hashing, "hash_password"), (linking, "_require_no_password")],
    ids=["before the user is read", "after it"],
)
def test_nor_is_a_password(api, weixin, monkeypatch, module, function):
    me, username = signed_in(api, weixin, somebody()), name()
    meanwhile(monkeypatch, module, function, lambda: signs_out(api, me))
    answer = link_password(api, me, username)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert me.user.username is None
    assert wechat_users.find_identity(users.password_key(username)) is None


def test_of_two_users_who_link_one_account_at_once_one_has_it(weixin, person):
    for _ in range(3):
        who, people = somebody(), [person() for _ in range(4)]
        codes = [weixin.code(who) for _ in people]

        def linked(pair):
            try:
                return linking.link_wechat(pair[0].user, pair[1]).id
            except linking.Conflict:
                return None

        with ThreadPoolExecutor(4) as pool:
            winners = list(filter(None, pool.map(linked, zip(people, codes, strict=True))))
        [winner] = winners
        assert owner(f"wechat#{openid(who)}") == owner(f"wechat-union#{unionid(who)}") == winner
        assert [one.id for one in people if one.user.wechat_keys] == [winner]


def test_of_two_users_who_absorb_one_at_once_one_does(api, weixin, person):
    for _ in range(3):
        who, people = somebody(), [person() for _ in range(4)]
        other = signed_in(api, weixin, who)
        codes = [weixin.code(who) for _ in people]

        def linked(pair):
            try:
                return linking.link_wechat(pair[0].user, pair[1]).id
            except linking.Conflict:
                return None

        with ThreadPoolExecutor(4) as pool:
            [winner] = filter(None, pool.map(linked, zip(people, codes, strict=True)))
        assert owner(f"wechat#{openid(who)}") == winner
        assert other.user.deleted
        assert len(jobs_of(other.id)) == 1


def test_a_sign_in_while_one_is_absorbed_ends_as_one_of_both(api, weixin, person):
    for _ in range(3):
        me, who = person(), somebody()
        other = signed_in(api, weixin, who)
        code, codes = weixin.code(who), [weixin.code(who) for _ in range(4)]
        with ThreadPoolExecutor(5) as pool:
            linked = pool.submit(linking.link_wechat, me.user, code)
            seen = list(
                pool.map(lambda code: wechat_users.get_or_create(wechat.exchange_mini_program_code(code)).id, codes)
            )
        assert linked.result().id == me.id
        assert set(seen) <= {me.id, other.id}
        assert signed_in(api, weixin, who).id == me.id


def test_nobody_is_linked_who_is_deleted_meanwhile(api, weixin, person, monkeypatch):
    me, who = person(), somebody()
    join = wechat_users.join_identities

    def deleted_meanwhile(*given):
        User(me.id).update([User.deleted.set(True)])
        join(*given)

    monkeypatch.setattr(wechat_users, "join_identities", deleted_meanwhile)
    assert link(api, me, weixin.code(who)).status == 401
    monkeypatch.undo()
    assert signed_in(api, weixin, who).id != me.id


FAULTS = pytest.mark.parametrize(
    "fault",
    [
        lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3),
        lambda: faults.refused("TransactWriteItems", faults.THROTTLED),
        lambda: faults.answer_lost("TransactWriteItems"),
        lambda: faults.answer_lost("TransactWriteItems", times=4),
    ],
    ids=["conflict", "throttled", "lost", "lost often"],
)


@FAULTS
def test_linking_succeeds_on_a_bad_day(api, weixin, person, fault):
    me, who = person(), somebody()
    with fault():
        assert link(api, me, weixin.code(who)).status == 200
    other = person()
    absorbed = signed_in(api, weixin, another := somebody())
    with fault():
        assert link(api, other, weixin.code(another)).status == 200
    assert absorbed.user.deleted
    assert other.user.wechat_keys == {f"wechat#{openid(another)}", f"wechat-union#{unionid(another)}"}
    check_rules(other)


@FAULTS
def test_a_name_is_linked_on_a_bad_day(api, weixin, fault):
    me, username = signed_in(api, weixin, somebody()), name()
    with fault():
        assert link_password(api, me, username).status == 200
    assert sign_in(api, username, "secret-456").status == 200


def test_a_name_and_a_password_are_linked(api, weixin):
    me, username = signed_in(api, weixin, somebody()), name()
    before = me.user
    answer = link_password(api, me, username)
    assert (answer.status, answer.json["id"], answer.json["username"]) == (200, me.id, username)
    assert answer.json["nickname"] == before.nickname
    tokens = sign_in(api, username, "secret-456")
    assert tokens.status == 200
    assert auth.verify(tokens.json["access_token"])["sub"] == me.id
    assert signed_in(api, weixin, me.username).id == me.id
    assert api("users.me", "GET", "/users/me", user=me).status == 200


def test_who_has_a_password_links_none(api, person):
    me = person()
    for username in (me.username, name()):
        answer = link_password(api, me, username)
        assert (answer.status, answer.json["code"]) == (409, "password_already_linked")
    assert sign_in(api, me.username, me.password).status == 200


def test_a_name_is_linked_once(api, weixin):
    me = signed_in(api, weixin, somebody())
    assert link_password(api, me, name()).status == 200
    assert link_password(api, me, name()).json["code"] == "password_already_linked"


def test_a_name_that_somebody_has_is_not_linked(api, weixin, person):
    me, other = signed_in(api, weixin, somebody()), person()
    for username in (other.username, f" {other.username.upper()} "):
        answer = link_password(api, me, username, other.password)
        assert (answer.status, answer.json["code"]) == (400, "username_taken")
    assert me.user.username is None
    assert auth.verify(sign_in(api, other.username, other.password).json["access_token"])["sub"] == other.id


def test_a_name_that_was_chosen_before_is_given_its_password(api, weixin):
    me, username = signed_in(api, weixin, somebody()), name()
    changed = api(
        "users.update", "PUT", f"/users/{me.id}", user=me, json={"username": username}, parameters={"id": me.id}
    )
    assert changed.status == 200
    assert link_password(api, me, name()).json["code"] == "other_username"
    assert link_password(api, me, username.upper()).json["username"] == username.upper()
    assert sign_in(api, username, "secret-456").status == 200


def test_of_two_who_link_one_name_at_once_one_has_it(api, weixin):
    username, people = name(), [signed_in(api, weixin, somebody()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(lambda one: _status(one, username), people))
    assert statuses == [200, 400, 400, 400]
    [winner] = [one.id for one in people if one.user.username]
    assert owner(users.password_key(username)) == winner


def test_of_two_names_that_one_links_at_once_one_stays(api, weixin):
    me, names = signed_in(api, weixin, somebody()), [name() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(lambda username: _status(me, username), names))
    assert statuses == [200, 409, 409, 409]
    taken = [username for username in names if wechat_users.find_identity(users.password_key(username))]
    assert taken == [me.user.username]


def _status(who, username):
    try:
        linking.link_password(who.user, username, "secret-456")
    except AideerError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "x", "password": "secret"}, {"username": "name", "password": "short"}, {"password": "secret"}],
)
def test_a_wrong_body_links_nothing(api, weixin, body):
    me = signed_in(api, weixin, somebody())
    answer = api("users.link_password", "POST", "/users/me/identities/password", user=me, json=body)
    assert (answer.status, answer.json["code"]) == (422, "validation_error")


def test_what_linking_costs(api, weixin, person, counted):
    users_, identities, records = settings.USERS_TABLE, settings.IDENTITIES_TABLE, settings.RECORDS_TABLE
    me, who = person(), somebody()
    link(api, person(), weixin.code(somebody()))
    counted.clear()
    link(api, me, weixin.code(who))
    assert Counter(counted) == Counter(
        [
            f"GetItem {users_}",
            f"UpdateItem {records}",
            f"GetItem {users_}",
            *[f"GetItem {identities}"] * 2,
            "TransactWriteItems",
            f"GetItem {users_}",
            f"UpdateItem {records}",
        ]
    )
    assert credits.sum_holds(me.user) == 0
