"""What one user may do, and how often: at a limit, beyond it, after its window, and fifty times at once."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from aideer.accounts import avatars, deletion, freshness, image_processing, linking, password_changes
from aideer.chats import chat_search, chats, cleanup, copies, feedback, likes, presets, quota, shares
from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, Conflict, TooManyRequests
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Preset, Record, Task, User
from aideer.schemas.feedback import FeedbackChange
from aideer.schemas.presets import PresetChange
from aideer.schemas.questions import NewTask
from aideer.schemas.shares import NewShare
from aideer.schemas.uploads import NewUpload
from aideer.schemas.users import PasswordChange
from aideer.security import budgets, exhausted, limits, password_hashing, rate_limits
from aideer.security.limits import LIMITS, Limit
from aideer.tasks import admission, ask_limit, control, leases, slots, stream_access, stream_log, streaming
from aideer.tasks.slots import Slot
from aideer.uploads import uploads
from tasks import stream
from tests import faults
from tests.api_keys import make_key
from tests.events import parse
from tests.stream_client import streamed, waited
from tests.support import Answer, Api, Context, Person, accepted, caller, check_rules, in_loop, make_chat, viewer_of
from tests.uploaded import make_upload
from tests.waiting import until

MakePerson = Callable[..., Person]
NOW = 1_800_000_000.0
"""A multiple of every window's length that is used here."""
MANY = 50
NAMING = {"role": "user", "type": "document"}


@pytest.fixture(autouse=True)
def _nothing_read_yet() -> Iterator[None]:
    budgets._unwritten.clear()
    exhausted._ends.clear()
    yield
    budgets._unwritten.clear()
    exhausted._ends.clear()


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """limit("stop", 3, 60): the limit that this test is about. Time stands still, unless the test moves it."""
    monkeypatch.setattr(clock, "now", lambda: NOW)

    def set_limit(kind: limits.Kind, times: int, seconds: int = 60) -> None:
        monkeypatch.setitem(LIMITS, kind, Limit(times, seconds))

    return set_limit


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW + seconds)


def check_refusal(answer: Answer, code: str, *, within: int) -> None:
    """Whether an answer is the refusal of this limit, which ends within so many seconds."""
    assert (answer.status, answer.json["code"]) == (429, code)
    assert 0 < int(answer.headers["retry-after"]) <= within


def named(code: str) -> Any:
    """The refusal of this limit, as a domain function raises it."""
    return pytest.raises(TooManyRequests, check=lambda error: error.code == code)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """The results of MANY calls at once, a refusal as itself."""

    def one(n: int) -> Any:
        try:
            return work(n)
        except TooManyRequests as refusal:
            return refusal

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(one, range(MANY)))


def count_allowed(results: list[Any]) -> int:
    return sum(not isinstance(result, TooManyRequests) for result in results)


# Stops


def stop(api: Api, user: Person, task_id: str) -> Answer:
    return api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=user)


def test_a_user_stops_so_many_answers_a_minute(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("stop", 2)
    me, other = person(), person()
    task_id, _ = accepted(me, "hello")
    assert [stop(api, me, task_id).status for _ in range(2)] == [200, 200]
    check_refusal(stop(api, me, task_id), "too_many_stops", within=60)
    theirs, _ = accepted(other, "hello")
    assert stop(api, other, theirs).status == 200, "somebody else"
    at(monkeypatch, 60)
    assert stop(api, me, task_id).status == 200


# Asks and quotes


def quote(api: Api, user: Person, chat_id: str) -> Answer:
    return api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat_id}, user=user)


def ask(api: Api, user: Person, chat_id: str, key: str | None = None) -> Answer:
    headers = {"Idempotency-Key": key} if key else None
    return api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id}, user=user, headers=headers)


def test_quotes_and_asks_share_a_limit(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("ask", 3)
    me, other = person(), person()
    chat = make_chat(me, "hello")
    assert quote(api, me, chat.id).status == 200
    assert ask(api, me, "no-such-chat").status == 404
    assert ask(api, me, make_chat(me).id).status == 422
    check_refusal(quote(api, me, chat.id), "too_many_asks", within=60)
    check_refusal(ask(api, me, chat.id), "too_many_asks", within=60)
    assert me.user.holds.attribute_values == {}
    assert quote(api, other, make_chat(other, "hello").id).status == 200
    at(monkeypatch, 60)
    assert ask(api, me, chat.id).status == 200
    check_rules(me)


def test_a_refused_ask_is_refused_before_it_is_priced(
    api: Api, person: MakePerson, limit: Any, counted: list[str]
) -> None:
    limit("ask", 1)
    me = person()
    chat = make_chat(me, "hello")
    quote(api, me, chat.id)
    counted.clear()
    check_refusal(quote(api, me, chat.id), "too_many_asks", within=60)
    assert f"Query {settings.MESSAGES_TABLE}" not in counted


def test_a_repeated_ask_gets_its_answer_at_the_limit(api: Api, person: MakePerson, limit: Any) -> None:
    limit("ask", 1)
    me = person()
    chat = make_chat(me, "hello")
    first = ask(api, me, chat.id, "key")
    assert first.status == 200
    assert ask(api, me, chat.id, "key").json["task_id"] == first.json["task_id"]


def test_only_refused_asks_use_the_limit_up(api: Api, person: MakePerson, limit: Any) -> None:
    limit("ask", 1)
    me = person()
    for _ in range(3):
        assert ask(api, me, make_chat(me, "hello").id).status == 200
    assert ask(api, me, "no-such-chat").status == 404
    check_refusal(ask(api, me, "no-such-chat"), "too_many_asks", within=60)
    check_rules(me)


def test_every_refusal_of_an_ask_counts(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that only the hold's transaction, or the search for an earlier answer, finds."""
    limit("ask", 1)
    me, visitor, collector = person(), person(permission=0), person()
    chat = make_chat(me, "hello")
    assert ask(api, me, chat.id, "key").status == 200
    other, theirs = make_chat(me, "hello"), make_chat(visitor, "hello")
    opened = {"chat": {"preset_id": make_chat(collector).preset_id}, "messages": [{"role": "user", "content": "hello"}]}
    monkeypatch.setattr(settings, "MOST_CHATS", 1)
    asks: list[tuple[Callable[[], Answer], str]] = [
        (lambda: ask(api, me, other.id, "key"), "idempotency_key_reused"),
        (lambda: ask(api, visitor, theirs.id), "visitor"),
        (lambda: api("tasks.create", "POST", "/tasks", json=opened, user=collector), "too_many_chats"),
    ]
    for refused, code in asks:
        assert refused().json["code"] == code
        check_refusal(refused(), "too_many_asks", within=60)


def test_after_a_refusal_asks_are_counted_before_they_are_priced(
    api: Api, person: MakePerson, limit: Any, counted: list[str]
) -> None:
    limit("ask", 2)
    me = person()
    empty = make_chat(me)
    for _ in range(2):
        assert ask(api, me, empty.id).status == 422
    full = make_chat(me, "hello")
    counted.clear()
    check_refusal(ask(api, me, full.id), "too_many_asks", within=60)
    assert f"Query {settings.MESSAGES_TABLE}" not in counted


def test_a_repeated_ask_counts(api: Api, person: MakePerson, limit: Any) -> None:
    limit("ask", 2)
    me = person()
    chat = make_chat(me, "hello")
    first = ask(api, me, chat.id, "key")
    for _ in range(3):  # it gets its answer in any case
        assert ask(api, me, chat.id, "key").json["task_id"] == first.json["task_id"]
    check_refusal(quote(api, me, chat.id), "too_many_asks", within=60)


def test_of_fifty_refused_asks_at_once_one_more_is_priced_than_the_limit_says(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process trusts one ask of a user at a time. The others are counted first."""
    limit("ask", 7)
    me, priced, real = person(), [], admission.PricedCall
    wanted = NewTask(chat_id=make_chat(me).id)  # it has no question

    def count_priced(*arguments: Any) -> Any:
        priced.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(admission, "PricedCall", count_priced)

    def refused(_: int) -> str:
        try:
            admission.create(caller(me.user), wanted, admission.identify(caller(me.user), wanted, None))
        except AideerError as error:
            return error.code
        return "accepted"

    codes = Counter(at_once(refused))
    assert codes == {"last_message_not_user": 7, "too_many_asks": MANY - 7}
    assert len(priced) <= 8


def test_a_process_that_remembers_many_refused_users_trusts_the_oldest_again(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_limit, "_MOST", 2)
    users = [person().id for _ in range(3)]
    for user in users:
        ask_limit.AskCount(user).refuse()
    with ask_limit.count_ask(users[0]) as oldest, ask_limit.count_ask(users[2]) as newest:
        assert (oldest._trusted, newest._trusted) == (True, False)


def test_an_ask_that_is_refused_twice_counts_once(person: MakePerson, limit: Any) -> None:
    limit("ask", 1)
    me = person()
    for expected in (None, "too_many_asks", "too_many_asks"):
        with ask_limit.count_ask(me.id) as count:
            for _ in range(2):
                exceeded = count.refuse()
                assert (exceeded and exceeded.code) == expected


def test_a_revoked_token_does_not_use_up_the_users_asks(api: Api, person: MakePerson, limit: Any) -> None:
    limit("ask", 1)
    me = person()
    chat = make_chat(me, "hello")
    stolen = caller(me.user)
    User(me.id).update([User.token_version.add(1)])
    for _ in range(3):
        request = admission.identify(stolen, wanted := NewTask(chat_id=chat.id), None)
        with pytest.raises(Exception, match="revoked"):
            admission.create(stolen, wanted, request)
    assert admission.quote(me.user, NewTask(chat_id=chat.id)).affordable


def test_an_outage_of_the_count_refuses_no_ask(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello")
    with faults.refused("UpdateItem", faults.THROTTLED, times=9):
        assert ask(api, me, chat.id).status == 200
    check_rules(me)


def test_a_user_that_throttles_the_count_asks_no_more_often(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    """DynamoDB takes 1,000 writes a second to one counter, and an outage of it refuses nobody."""
    limit("ask", 1)
    me, other = person(), person()
    chat = make_chat(me, "hello")
    assert quote(api, me, chat.id).status == 200
    check_refusal(ask(api, me, "no-such-chat"), "too_many_asks", within=60)
    counted.clear()
    with faults.refused("UpdateItem", faults.THROTTLED, times=99):
        for call in (ask, quote):
            check_refusal(call(api, me, chat.id), "too_many_asks", within=60)
        assert not [made for made in counted if made.startswith(("UpdateItem", "Query"))]
        assert quote(api, other, make_chat(other, "hello").id).status == 200
    at(monkeypatch, 60)
    assert quote(api, me, chat.id).status == 200


def test_a_refused_ask_by_a_revoked_token_is_not_remembered(api: Api, person: MakePerson, limit: Any) -> None:
    limit("ask", 1)
    me = person()
    chat = make_chat(me, "hello")
    stolen = caller(me.user)
    User(me.id).update([User.token_version.add(1)])
    counter = rate_limits.count("ask", me.id)
    with pytest.raises(Exception, match="revoked"):
        admission.create(stolen, wanted := NewTask(chat_id=chat.id), admission.identify(stolen, wanted, None))
    rate_limits.give_back(counter)
    assert admission.quote(me.user, NewTask(chat_id=chat.id)).affordable


def test_of_fifty_quotes_at_once_as_many_are_priced_as_the_limit_says(person: MakePerson, limit: Any) -> None:
    limit("ask", 7)
    me = person()
    wanted = NewTask(chat_id=make_chat(me, "hello").id)
    assert count_allowed(at_once(lambda _: admission.quote(me.user, wanted))) == 7


# Copies, replacements, presets


def copy(api: Api, user: Person, chat_id: str) -> Answer:
    return api("chats.copy", "POST", f"/chats/{chat_id}/copy", user=user)


def replace(api: Api, user: Person, chat_id: str) -> Answer:
    version = Chat.get(chat_id, consistent_read=True).version
    body = {"messages": [{"role": "user", "content": "again"}]}
    return api("chats.update", "PUT", f"/chats/{chat_id}", json=body, user=user, headers={"If-Match": f'"{version}"'})


@pytest.mark.parametrize(
    ("kind", "work", "code"),
    [("copy", copy, "too_many_copies"), ("replace", replace, "too_many_replacements")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_copies_and_replacements_are_limited_by_the_hour(
    api: Api,
    person: MakePerson,
    limit: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: limits.Kind,
    work: Callable[[Api, Person, str], Answer],
    code: str,
) -> None:
    limit(kind, 2, 3600)
    me, other = person(), person()
    chat = make_chat(me, "hello")
    assert [work(api, me, chat.id).status for _ in range(2)] == [200, 200]
    check_refusal(work(api, me, chat.id), code, within=3600)
    assert work(api, other, make_chat(other, "hello").id).status == 200
    at(monkeypatch, 3600)
    assert work(api, me, chat.id).status == 200


def test_what_is_refused_at_once_is_no_replacement(api: Api, person: MakePerson, limit: Any) -> None:
    limit("replace", 1, 3600)
    me = person()
    chat = make_chat(me, "hello")
    body = {"messages": [{"role": "user", "content": "again"}]}
    for _ in range(3):
        stale = {"If-Match": '"99"'}
        assert api("chats.update", "PUT", f"/chats/{chat.id}", json=body, user=me, headers=stale).status == 412
    assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": "New"}, user=me).status == 200
    assert replace(api, me, chat.id).status == 200


def test_of_fifty_copies_at_once_as_many_are_made_as_the_limit_says(person: MakePerson, limit: Any) -> None:
    limit("copy", 5, 3600)
    me = person()
    chat = make_chat(me, "hello")
    assert count_allowed(at_once(lambda _: copies.copy(me.user, chat.id, None))) == 5
    assert quota._count(me.id) == 6


def new_preset(api: Api, user: Person) -> Answer:
    body = {"title": "Deer", "parameters": {"model": "qwen-plus"}, "messages": []}
    return api("presets.create", "POST", "/presets", json=body, user=user)


def change_preset(api: Api, user: Person, preset_id: str) -> Answer:
    return api("presets.update", "PUT", f"/presets/{preset_id}", json={"title": uuid4().hex}, user=user)


def test_new_presets_and_new_versions_share_a_limit_by_the_hour(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("preset", 2, 3600)
    me = person()
    preset_id = new_preset(api, me).json["id"]
    assert change_preset(api, me, preset_id).status == 200
    check_refusal(change_preset(api, me, preset_id), "too_many_preset_changes", within=3600)
    check_refusal(new_preset(api, me), "too_many_preset_changes", within=3600)
    assert [preset.version for preset in Preset.query(preset_id)] == [0, 1, 2]
    assert me.user.preset_count == 1
    at(monkeypatch, 3600)
    assert change_preset(api, me, preset_id).status == 200


def test_an_administrator_may_bring_in_many_presets(api: Api, person: MakePerson, limit: Any) -> None:
    limit("preset", 1, 3600)
    admin = person(permission=2)
    assert {new_preset(api, admin).status for _ in range(3)} == {200}


def test_of_fifty_changes_at_once_as_many_are_made_as_the_limit_says(person: MakePerson, limit: Any) -> None:
    limit("preset", 4, 3600)
    me = person()
    preset_id = make_chat(me).preset_id
    results = at_once(lambda n: presets.update(me.user, preset_id, PresetChange(title=f"Title {n}")))
    assert count_allowed(results) == 4
    assert Preset.get(preset_id, 0, consistent_read=True).number == 5


# Passwords


def test_linking_hashes_so_many_passwords_whatever_comes_of_it(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("hash", 3, 900)
    me, hashed = person(), []
    real = password_hashing.hash_password
    monkeypatch.setattr(password_hashing, "hash_password", lambda password: hashed.append(1) or real(password))
    for _ in range(3):  # a conflict with what is the user's own is no guess, so only this limit counts it
        with pytest.raises(Conflict):
            linking.link_password(me.user, f"n{uuid4().hex[:12]}", "a long enough password")
    with named("too_many_passwords"):
        linking.link_password(me.user, f"n{uuid4().hex[:12]}", "a long enough password")
    assert len(hashed) == 3
    with named("too_many_passwords"):
        freshness.require(me.user, None, me.password)
    with named("too_many_passwords"):
        password_changes.change_own(me.user, PasswordChange(old_password=me.password, new_password="another-secret-9"))
    freshness.require(me.user, int(NOW))  # hashes nothing
    at(monkeypatch, 900)
    freshness.require(me.user, None, me.password)


def test_of_fifty_links_at_once_as_many_are_hashed_as_the_limit_says(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("hash", 6, 900)
    me, hashed = person(), []
    monkeypatch.setattr(password_hashing, "hash_password", lambda _: hashed.append(1) or "hash")

    def link(n: int) -> None:
        try:
            linking.link_password(me.user, f"n{uuid4().hex[:12]}", "a long enough password")
        except Conflict:
            return

    assert count_allowed(at_once(link)) == len(hashed) == 6


# Chats


def open_chat(api: Api, user: Person, preset_id: str) -> Answer:
    return api("chats.create", "POST", "/chats", json={"preset_id": preset_id, "title": "t"}, user=user)


def count_of(user: Person) -> Any:
    return Record.get(*quota.key(user.id), consistent_read=True).uses


def test_a_user_has_so_many_chats(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MOST_CHATS", 3)
    me, other = person(), person()
    chat = make_chat(me, "hello")  # as an earlier release made it: nobody counted
    made = [open_chat(api, me, chat.preset_id), copy(api, me, chat.id)]
    assert [answer.status for answer in made] == [200, 200]
    for refused in (open_chat(api, me, chat.preset_id), copy(api, me, chat.id)):
        assert (refused.status, refused.json["code"]) == (409, "too_many_chats")
    assert open_chat(api, other, make_chat(other).preset_id).status == 200
    assert api("chats.delete", "DELETE", f"/chats/{made[0].json['id']}", user=me).status == 200
    assert count_of(me) == 2
    assert open_chat(api, me, chat.preset_id).status == 200
    assert count_of(me) == 3


def test_a_question_that_opens_a_chat_counts_it(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MOST_CHATS", 2)
    me = person()
    preset_id = make_chat(me).preset_id
    body = {"chat": {"preset_id": preset_id}, "messages": [{"role": "user", "content": "hello"}]}
    assert api("tasks.create", "POST", "/tasks", json=body, user=me).status == 200
    refused = api("tasks.create", "POST", "/tasks", json=body, user=me)
    assert (refused.status, refused.json["code"]) == (409, "too_many_chats")
    assert count_of(me) == 2
    check_rules(me)


def test_a_chat_that_was_never_counted_can_be_deleted(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me)
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 404
    with pytest.raises(Record.DoesNotExist):
        count_of(me)


def test_a_count_that_is_too_high_is_taken_anew_once_an_hour(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(settings, "MOST_CHATS", 5)
    me = person()
    chat = make_chat(me)
    Record(*quota.key(me.id), uses=5, at=int(NOW)).save()
    counted.clear()
    assert open_chat(api, me, chat.preset_id).status == 409
    assert f"Query {settings.CHATS_TABLE}" not in counted
    at(monkeypatch, quota.RECOUNT_SECONDS)
    assert open_chat(api, me, chat.preset_id).status == 200
    assert count_of(me) == 2


def test_of_fifty_chats_at_once_as_many_are_opened_as_the_limit_says(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MOST_CHATS", 4)
    me = person()
    chat = make_chat(me, "hello")

    def one(_: int) -> bool:
        try:
            copies.copy(me.user, chat.id, None)
        except Conflict:
            return False
        return True

    assert sum(at_once(one)) == 3
    assert count_of(me) == quota._count(me.id) == 4


def test_the_count_goes_with_its_user(person: MakePerson) -> None:
    me = person()
    make_chat(me)
    quota.make_room(me.id)
    User(me.id).update([User.deleted.set(True)])
    assert deletion.finish(me.id, float("inf"))
    with pytest.raises(Record.DoesNotExist):
        count_of(me)


# Followers


def take(user: Person, task_id: str) -> Slot:
    slot = slots.take_follower(user.id, task_id)
    assert slot
    return slot


def test_the_newest_followers_of_a_task_win(person: MakePerson, limit: Any) -> None:
    limit("follow_task", 3)
    me, other = person(), person()
    theirs = take(other, "task")
    mine = [take(me, "task") for _ in range(3)]
    elsewhere = take(me, "another task")
    assert all(slot.renew() for slot in mine)
    newest = take(me, "task")
    assert [slot.renew() for slot in [*mine, newest, elsewhere, theirs]] == [False, True, True, True, True, True]


def test_the_newest_followers_of_a_user_win(person: MakePerson, limit: Any) -> None:
    limit("follow", 4)
    limit("follow_task", 3)
    me = person()
    mine = [take(me, f"task {n}") for n in range(4)]
    newest = take(me, "task 9")
    assert [slot.renew() for slot in [*mine, newest]] == [False, True, True, True, True]


def test_a_slot_ends_by_itself_unless_it_is_renewed(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("follow_task", 2)
    me = person()
    gone, here = take(me, "task"), take(me, "task")
    at(monkeypatch, 40)
    assert here.renew()
    at(monkeypatch, 61)
    newest = take(me, "task")
    assert [slot.renew() for slot in (gone, here, newest)] == [False, True, True], (
        "it took the place of the one that left"
    )


def test_a_released_slot_is_free(person: MakePerson, limit: Any) -> None:
    limit("follow_task", 1)
    me = person()
    first = take(me, "task")
    first.release()
    first.release()
    second = take(me, "task")
    assert second.renew()


def test_a_slot_whose_answer_was_lost_is_taken_once(person: MakePerson, limit: Any) -> None:
    limit("follow_task", 3)
    me = person()
    with faults.answer_lost("UpdateItem"):
        first = slots.take_follower(me.id, "task")
    assert first is None or first.renew()
    assert len(slots._read(me.id, "follow").slots) == 1


def test_of_fifty_followers_at_once_the_places_are_never_shared(person: MakePerson, limit: Any) -> None:
    limit("follow_task", 3)
    limit("follow", 10)
    me = person()
    taken = at_once(lambda n: take(me, f"task {n % 5}"))
    assert sum(slot.renew() for slot in taken) == 10
    stored = slots._read(me.id, "follow").slots
    assert len(stored) == 10
    for task in {slot["task"] for slot in stored}:
        assert sum(slot["task"] == task for slot in stored) <= 3


def running(person: Person) -> Task:
    """A task that an executor elsewhere works on."""
    task_id, _ = accepted(person, "hello")
    claimed = leases.claim(task_id)
    assert claimed
    return claimed


async def follow(task: Task, person: Person, position: int = 0) -> list[str]:
    viewer = viewer_of(person.id)
    stream_access.take_slot(viewer, task)
    return [event async for event in streaming.follow(task, position, viewer)]


def test_a_displaced_follower_ends_without_a_close_and_frees_nobodys_place(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "follow_task", Limit(1, 60))
    monkeypatch.setattr(stream_access, "CHECK_SECONDS", 0.05)
    me = person()
    task = running(me)

    async def both() -> tuple[list[str], list[str]]:
        first = asyncio.create_task(follow(task, me))
        while not slots._read(me.id, "follow").slots:  # noqa: ASYNC110 - another coroutine writes it
            await asyncio.sleep(0.01)
        second = asyncio.create_task(follow(task, me))
        seen = await first
        assert not second.done()
        leases.update(Task(task.id), [Task.lease_until.set(0)], Task.id.exists())
        from aideer.tasks import sweeper

        await asyncio.to_thread(sweeper.interrupt, Task.get(task.id, consistent_read=True))
        return seen, await second

    first, second = in_loop(both())
    assert "event: close" not in "".join(first)
    assert parse("".join(second)).final["status"] == "failed"
    assert slots._read(me.id, "follow").slots == []
    check_rules(me)


def test_the_executors_viewer_needs_no_slot_and_is_never_displaced(person: MakePerson, limit: Any) -> None:
    limit("follow_task", 1)
    limit("follow", 1)
    me = person()
    task_id, _ = accepted(me, "hello")
    take(me, task_id)
    answer = streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {me.token}")
    assert parse(answer.text).final["status"] == "finished"
    assert len(slots._read(me.id, "follow").slots) == 1


def test_a_slot_that_ended_during_an_outage_goes_on_if_nobody_has_taken_the_place(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("follow_task", 2)
    me = person()
    first, second = take(me, "task"), take(me, "task")
    at(monkeypatch, 61)
    assert first.renew(), "nobody else came"
    assert second.renew(), "the other one's renewal has not taken its place"
    at(monkeypatch, 130)
    newer = [take(me, "task") for _ in range(2)]
    assert [slot.renew() for slot in (first, second, *newer)] == [False, False, True, True]


def test_a_follower_that_hangs_up_frees_its_place(person: MakePerson) -> None:
    """The web adapter does not announce it, but a server that is nearer to its client does."""
    me = person()
    task = running(me)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": f"/api/v1/tasks/{task.id}/stream",
        "query_string": b"after=0",
        "headers": [(b"authorization", f"Bearer {me.token}".encode())],
    }

    async def hang_up() -> int:
        begun, taken = asyncio.Event(), 0

        async def receive() -> dict[str, str]:
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal taken
            if message.get("body"):
                taken = len(slots._read(me.id, "follow").slots)
                begun.set()

        await stream.app(scope, receive, send)  # type: ignore[arg-type]
        await asyncio.to_thread(until, lambda: not slots._read(me.id, "follow").slots, "a free slot")
        return taken

    assert in_loop(hang_up()) == 1
    assert slots._read(me.id, "follow").slots == []


def test_a_viewer_without_dynamodb_needs_no_slot(person: MakePerson) -> None:
    me = person()
    with faults.refused("UpdateItem", faults.THROTTLED, times=9):
        assert slots.take_follower(me.id, "task") is None


# Resumptions


def resume(user: Person, task_id: str, position: int | str = 0) -> Any:
    return streamed(f"/api/v1/tasks/{task_id}/stream?after={position}", authorization=f"Bearer {user.token}")


def test_a_user_resumes_streams_so_often(person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit("resume", 3)
    me, other = person(), person()
    task_id, _ = accepted(me, "hello")
    whole = streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {me.token}")
    assert whole.status_code == 200
    assert [resume(me, task_id).status_code for _ in range(3)] == [200, 200, 200]
    refused = resume(me, task_id)
    assert (refused.status_code, json.loads(refused.text)["code"]) == (429, "too_many_resumptions")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    theirs, _ = accepted(other, "hello")
    assert resume(other, theirs).status_code == 200
    polled = waited(f"/tasks/{task_id}/stream?after=0", task_id, me.token)
    assert polled.status == 200, "a poll goes on all the time"
    at(monkeypatch, 60)
    assert resume(me, task_id).status_code == 200


@pytest.mark.parametrize(("query", "kind"), [("", "stream"), ("?after=0", "resume")])
def test_a_revoked_token_does_not_use_up_the_users_streams(
    person: MakePerson, limit: Any, query: str, kind: limits.Kind
) -> None:
    limit(kind, 2)
    me = person()
    task_id, _ = accepted(me, "hello")
    path, stolen = f"/api/v1/tasks/{task_id}/stream{query}", f"Bearer {me.token}"
    User(me.id).update([User.token_version.add(1)])
    assert [streamed(path.replace(task_id, "none"), authorization=stolen).status_code for _ in range(4)] == [401] * 4
    counter, *_ = rate_limits._window(kind, me.id)
    assert Record.get(*counter, consistent_read=True).uses == 0


@pytest.mark.parametrize(("position", "kind"), [(None, "stream"), (0, "resume")])
def test_a_user_that_throttles_the_count_opens_streams_no_more_often(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch, position: int | None, kind: limits.Kind
) -> None:
    limit(kind, 1)
    me = person()

    def admit() -> User:
        admitted: User = in_loop(stream_access.admit({"sub": me.id, "ver": 0}, position, polls=False))
        return admitted

    assert admit().id == me.id
    for _ in range(2):
        with pytest.raises(TooManyRequests):
            admit()
    with faults.refused("UpdateItem", faults.THROTTLED, times=99), pytest.raises(TooManyRequests):
        admit()
    at(monkeypatch, 59.9)
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            admit()
    at(monkeypatch, 60)
    assert admit().id == me.id, "the refusals of the last second do not prolong it"


def test_a_position_beyond_the_log_holds_no_connection(person: MakePerson) -> None:
    me = person()
    task = running(me)
    for position in (999_999_999, stream_log.LONGEST, stream_log.LEAD + 1):
        refused = resume(me, task.id, position)
        assert (refused.status_code, json.loads(refused.text)["code"]) == (422, "invalid_position")
    stream_log.write(task.id, stream_log.Slice(0, "content", "x" * 500))
    assert stream_log.find_end(task.id) == 500
    assert resume(me, task.id, stream_log.LEAD + 501).status_code == 422


def test_a_follower_ahead_of_the_log_gives_up_and_one_at_its_end_waits(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task = running(me)
    stream_log.write(task.id, stream_log.Slice(0, "content", "abc"))
    monkeypatch.setattr(streaming, "AHEAD_SECONDS", 0.2)
    monkeypatch.setattr(streaming, "POLL_SECONDS", 0.02)
    ahead = in_loop(follow(task, me, position=4))
    assert len(ahead) == 1, "it began, and ended without a close"

    async def both() -> bool:
        waiting = asyncio.create_task(follow(task, me, position=3))
        await follow(task, me, position=5)  # gives up after the same time
        still = not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return still

    assert in_loop(both())


# Polls


def test_a_user_has_so_many_polls_at_one_time(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("poll", 2, 30)
    me, other = person(), person()
    task = running(me)
    mine = [slots.take_poll(me.id, task.id) for _ in range(2)]
    check_refusal(waited(f"/tasks/{task.id}/stream?after=0", task.id, me.token), "too_many_polls", within=30)
    assert slots.take_poll(other.id, task.id)
    assert mine[0]
    mine[0].release()
    assert slots.take_poll(me.id, task.id)
    with named("too_many_polls"):
        slots.take_poll(me.id, task.id)
    at(monkeypatch, 31)
    assert slots.take_poll(me.id, task.id), "whoever left without a word is not counted for ever"


def test_a_poll_frees_its_place(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "poll", Limit(1, 30))
    me = person()
    task = running(me)
    stream_log.write(task.id, stream_log.Slice(0, "content", "hello"))
    for _ in range(3):
        assert waited(f"/tasks/{task.id}/stream?after=0", task.id, me.token).status == 200
    assert slots._read(me.id, "poll").slots == []


def test_a_refused_poll_does_not_use_up_the_only_opening(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("poll", 1, 30)
    me = person()
    task = running(me)
    stream_log.write(task.id, stream_log.Slice(0, "content", "hello"))
    other = slots.take_poll(me.id, "another task")
    refused = waited(f"/tasks/{task.id}/poll", task.id, me.token)
    check_refusal(refused, "too_many_polls", within=30)
    assert other
    other.release()
    assert waited(f"/tasks/{task.id}/poll", task.id, me.token).status == 200
    assert waited(f"/tasks/{task.id}/poll", task.id, me.token).json["code"] == "already_streamed"
    assert slots._read(me.id, "poll").slots == []


@pytest.mark.parametrize("call", ["UpdateItem", "SendMessage"])
def test_a_poll_that_cannot_queue_its_task_goes_on_and_frees_its_place(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(stream, "WAIT_SECONDS", 0.1)
    me = person()
    task_id, _ = accepted(me, "hello")

    def fail(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "ServiceUnavailable"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, call)

    with monkeypatch.context() as outage:
        outage.setattr(*((leases, "mark_polled") if call == "UpdateItem" else (aws, "enqueue")), fail)
        assert waited(f"/tasks/{task_id}/poll?after=0", task_id, me.token).status == 200
    assert slots._read(me.id, "poll").slots == []


def test_of_fifty_polls_at_once_as_many_wait_as_the_limit_says(person: MakePerson, limit: Any) -> None:
    limit("poll", 3, 30)
    me = person()
    assert count_allowed(at_once(lambda _: slots.take_poll(me.id, "task"))) == 3


def test_polls_send_a_task_to_the_queue_once(person: MakePerson, counted: list[str]) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    task = Task.get(task_id, consistent_read=True)
    marked = at_once(lambda _: leases.mark_polled(task))
    assert sum(marked) == 1
    assert not leases.mark_polled(Task.get(task_id, consistent_read=True))


# Reading

READS = [
    ("chats.get", "GET", "/chats/{chat}"),
    ("chats.list", "GET", "/chats"),
    ("chats.export", "GET", "/chats/{chat}/export"),
    ("chats.update", "PUT", "/chats/{chat}"),
    ("presets.get", "GET", "/presets/{preset}"),
    ("presets.list", "GET", "/presets"),
    ("tasks.get", "GET", "/tasks/{task}"),
]


@pytest.mark.parametrize(("module", "method", "path"), READS, ids=lambda part: part)
def test_who_has_read_too_much_reads_nothing_more_until_the_window_ends(
    api: Api,
    person: MakePerson,
    limit: Any,
    monkeypatch: pytest.MonkeyPatch,
    counted: list[str],
    module: str,
    method: str,
    path: str,
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 1, 3600)
    me, other = person(), person()
    task_id, chat = accepted(me, "hello")
    where = path.format(chat=chat.id, preset=chat.preset_id, task=task_id)
    body = {} if method == "PUT" else None
    assert api(module, method, where, json=body, user=me).status == 200
    second = api(module, method, where, json=body, user=me)  # its size shows that the budget is used up
    if method == "GET":
        check_refusal(second, "too_much_reading", within=3600)
    else:
        assert second.status == 200, "what was changed is told"
    counted.clear()
    check_refusal(api(module, method, where, json=body, user=me), "too_much_reading", within=3600)
    assert counted == [f"GetItem {settings.USERS_TABLE}"]
    assert api("chats.list", "GET", "/chats", user=other).status == 200
    at(monkeypatch, 3600)
    assert api(module, method, where, json=body, user=me).status == 200


@pytest.mark.parametrize(
    ("module", "method", "path", "body"),
    [
        ("chats.message_update", "PUT", "messages/1", {"content": "other"}),
        ("chats.message_delete", "DELETE", "messages/1", None),
        ("chats.branch", "PUT", "branch", {"branch": "main"}),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_changes_of_messages_show_counts_as_reading(
    api: Api,
    person: MakePerson,
    limit: Any,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    method: str,
    path: str,
    body: Any,
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 1, 3600)
    me = person()
    chat = make_chat(me, "hello")
    headers = {"If-Match": "*"}
    changed = api(module, method, f"/chats/{chat.id}/{path}", json=body, user=me, headers=headers)
    assert changed.status == 200, changed.body
    check_refusal(api("chats.get", "GET", f"/chats/{chat.id}", user=me), "too_much_reading", within=3600)


def test_small_reads_make_no_call_and_are_counted_all_the_same(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    limit("read", 1_000, 3600)
    monkeypatch.setattr(budgets, "BATCH", 2_000)
    me = person()
    chat = make_chat(me, "x" * 700)
    writes = 0
    for _ in range(10):
        counted.clear()
        assert api("chats.get", "GET", f"/chats/{chat.id}", user=me).status == 200
        writes += counted.count(f"UpdateItem {settings.RECORDS_TABLE}")
    assert 1 < writes < 10
    counter, *_ = rate_limits._window("read", me.id)
    assert Record.get(*counter, consistent_read=True).uses >= 7, "kilobytes of ten readings, but for the last ones"


def test_an_outage_of_the_count_refuses_no_reading(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    me = person()
    with faults.refused("UpdateItem", faults.THROTTLED, times=9):
        assert api("chats.list", "GET", "/chats", user=me).status == 200


def test_the_stream_of_an_ended_answer_counts_as_reading_and_a_running_one_does_not(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 1, 3600)
    me = person()
    task_id, _ = accepted(me, "hello")
    assert streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {me.token}").status_code == 200
    assert [resume(me, task_id).status_code for _ in range(2)] == [200, 200]
    refused = resume(me, task_id)
    assert (refused.status_code, json.loads(refused.text)["code"]) == (429, "too_much_reading")
    polled = waited(f"/tasks/{task_id}/stream?after=0", task_id, me.token)
    assert (polled.status, polled.json["code"]) == (429, "too_much_reading")


def test_polls_that_read_a_running_answer_again_and_again_count_as_reading(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 3, 3600)
    me = person()
    task = running(me)
    stream_log.write(task.id, stream_log.Slice(0, "content", "x" * 2000))
    path = f"/tasks/{task.id}/poll?after=0"
    assert [waited(path, task.id, me.token).status for _ in range(2)] == [200, 200]
    check_refusal(waited(path, task.id, me.token), "too_much_reading", within=3600)


def test_a_refusal_of_reading_does_not_use_up_the_only_opening(person: MakePerson, limit: Any) -> None:
    limit("read", 1, 3600)
    me = person()
    task_id, _ = accepted(me, "hello")
    control.stop(Task.get(task_id, consistent_read=True))
    path, mine = f"/api/v1/tasks/{task_id}/stream", f"Bearer {me.token}"
    exhausted._ends["read", me.id] = NOW + 60
    assert streamed(path, authorization=mine).status_code == 429
    exhausted._ends.clear()
    assert streamed(path, authorization=mine).status_code == 200
    assert streamed(path, authorization=mine).status_code == 422


def test_a_process_remembers_so_many_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_USERS", 3)
    for n in range(9):
        budgets.charge(f"user {n}", 1)
    assert [user for _, user in budgets._unwritten] == ["user 6", "user 7", "user 8"]


def test_of_fifty_readers_at_once_each_byte_counts(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 10, 3600)
    me = person()
    assert count_allowed(at_once(lambda _: budgets.charge(me.id, 1024))) == 10


# Writing


DEER = {"role": "user", "content": "deer"}
WRITES: list[tuple[str, str, str, Any]] = [
    ("chats.create", "POST", "/chats", {"preset_id": "{preset}", "messages": [DEER]}),
    ("chats.append", "POST", "/chats/{chat}/messages", {"messages": [DEER]}),
    ("chats.update", "PUT", "/chats/{chat}", {"title": "deer"}),
    ("chats.message_update", "PUT", "/chats/{chat}/messages/1", {"content": "deer"}),
    ("chats.message_delete", "DELETE", "/chats/{chat}/messages/2", None),
    ("chats.branch", "PUT", "/chats/{chat}/branch", {"branch": "main"}),
    ("users.like_chat", "POST", "/users/me/likes/chat/{chat}", None),
    ("users.like_preset", "POST", "/users/me/likes/preset/{preset}", None),
    ("users.unlike_chat", "DELETE", "/users/me/likes/chat/{chat}", None),
    ("users.unlike_preset", "DELETE", "/users/me/likes/preset/{preset}", None),
    ("users.set_settings", "PUT", "/users/me/settings", {"theme": "dark"}),
    ("users.update", "PUT", "/users/{user}", {"nickname": "Deer"}),
    ("users.update_key", "PUT", "/users/me/keys/{key}", {"name": "Deer"}),
]


@pytest.mark.parametrize(
    ("module", "method", "path", "body"), WRITES, ids=lambda part: part if type(part) is str else ""
)
def test_who_has_changed_too_much_changes_nothing_more_until_the_window_ends(
    api: Api,
    person: MakePerson,
    limit: Any,
    monkeypatch: pytest.MonkeyPatch,
    counted: list[str],
    module: str,
    method: str,
    path: str,
    body: Any,
) -> None:
    me, other = person(), person()
    stored = {user.id: _branched(user) for user in (me, other)}
    keys = {user.id: make_key(user).id for user in (me, other)}
    if method == "DELETE" and "likes" in path:
        for user in (me, other):
            likes.like(user.user, "chat", stored[user.id].id)
            likes.like(user.user, "preset", stored[user.id].preset_id)
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("write", 1, 3600)

    def write(user: Person) -> Answer:
        chat = stored[user.id]
        sent = {key: chat.preset_id if value == "{preset}" else value for key, value in body.items()} if body else None
        where = path.format(chat=chat.id, preset=chat.preset_id, user=user.id, key=keys[user.id])
        return api(module, method, where, json=sent, user=user, headers={"If-Match": "*"})

    budgets.charge_writing(me.id, 0)
    for _ in range(2):  # the first refusal is DynamoDB's, and the second one the process's own
        counted.clear()
        check_refusal(write(me), "too_much_writing", within=3600)
        changed = {call for call in counted if not call.startswith(("GetItem", "Query"))}
        assert changed <= {f"UpdateItem {settings.RECORDS_TABLE}"}, "a counter alone"
    assert write(other).status == 200, "somebody else"
    at(monkeypatch, 3600)
    assert write(me).status == 200


def _branched(user: Person) -> Chat:
    """A chat with two branches, of which it shows the newer: one message, and another in the place of the second one."""
    chat = make_chat(user, "one", "two")
    tree = chat.tree
    tree.fork("other", after=1, before=1, next_n=3, count=1)
    Chat(chat.id).update(chats.update_path(tree))
    shown = Chat.get(chat.id, consistent_read=True)
    Message(shown.shown_thread, 2, role="user", content="TWO", create_time=chat.create_time).save()
    return shown


def test_a_change_counts_what_it_writes_and_what_it_removes(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("write", 10**6, 3600)
    monkeypatch.setattr(budgets, "BATCH", 1)
    me = person()
    chat = make_chat(me, "a", "b")

    def count(module: str, method: str, path: str, body: Any = None) -> int:
        counter, *_ = rate_limits._window("write", me.id)

        def read() -> int:
            record = lookup.find(Record, *counter)
            return int(record.uses) if record else 0

        before = read()
        headers = {"If-Match": "*"}
        assert api(module, method, f"/chats/{chat.id}{path}", json=body, user=me, headers=headers).status == 200
        return read() - before

    large = 50_000
    least = budgets.CHANGE_BYTES // 1024
    assert count("chats.update", "PUT", "", {"title": "deer"}) == least
    new = {"messages": [{**DEER, "content": "x" * large}]}
    assert least + large // 1024 <= count("chats.append", "POST", "/messages", new) <= least + large // 1024 + 2
    assert count("chats.message_update", "PUT", "/messages/3", {"content": "deer"}) > large // 1024, "what it replaces"
    assert count("chats.message_update", "PUT", "/messages/3", {"content": "x" * large}) > large // 1024
    assert count("chats.message_delete", "DELETE", "/messages/3") > large // 1024, "what it removes"


def test_a_removal_that_is_too_large_reads_little_more_than_it_may_remove_and_counts_it(
    api: Api, person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    limit("read", 4_000, 3600)
    me = person()
    chat = make_chat(me, *("x" * 300_000 for _ in range(30)))

    def remove() -> Answer:
        counted.clear()
        where = f"/chats/{chat.id}/messages/1?following=true"
        return api("chats.message_delete", "DELETE", where, user=me, headers={"If-Match": "*"})

    for _ in range(3):  # the second one exceeds the budget, and the third one finds that
        assert remove().json["code"] == "too_many_following"
        assert counted.count(f"Query {settings.MESSAGES_TABLE}") <= 6, "of the 9 MB, 4"
    check_refusal(remove(), "too_much_reading", within=3600)


def test_an_outage_of_the_count_refuses_no_change(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    me = person()
    with faults.refused("UpdateItem", faults.THROTTLED, times=9):
        budgets.charge_writing(me.id, 1024)


def test_small_changes_make_no_call_for_their_count(
    api: Api, person: MakePerson, limit: Any, counted: list[str]
) -> None:
    limit("write", 1_000, 3600)
    me = person()
    chat = make_chat(me, "deer")
    for _ in range(budgets.BATCH // budgets.CHANGE_BYTES - 2):
        counted.clear()
        assert api("chats.update", "PUT", f"/chats/{chat.id}", json={"title": new_id()}, user=me).status == 200
        assert f"UpdateItem {settings.RECORDS_TABLE}" not in counted


def test_of_fifty_new_avatars_at_once_as_many_are_drawn_as_the_limit_says(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("avatar", 7, 3600)
    me = person()
    drawn: list[bytes] = []
    monkeypatch.setattr(image_processing, "make_avatar", lambda file: drawn.append(file) or b"the same picture")
    assert count_allowed(at_once(lambda n: avatars.replace(me.user, b"%d" % n))) == 7
    assert len(drawn) == 7
    with named("too_many_avatars"):
        avatars.replace(me.user, b"another")


def test_no_byte_of_threads_at_once_is_lost() -> None:
    at_once(lambda _: [budgets.charge("somebody", 7) for _ in range(100)])
    assert budgets._unwritten["read", "somebody"] == MANY * 100 * 7


def test_of_fifty_writers_at_once_each_byte_counts(
    person: MakePerson, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "BATCH", 1)
    kilobytes = budgets.CHANGE_BYTES // 1024 + 1
    limit("write", 7 * kilobytes, 3600)
    me = person()
    assert count_allowed(at_once(lambda _: budgets.charge_writing(me.id, 1024))) == 7


# Versions of presets


def look(preset_id: str, number: int = 1, **more: str) -> None:
    """The job of a version, and the jobs that it leaves."""
    assert cleanup.remove_preset_version({"preset_id": preset_id, "version": str(number), **more}, 0)


def jobs_of(preset_id: str) -> list[Record]:
    found = Record.scan(Record.pk.startswith("jobs#"), consistent_read=True)
    return [job for job in found if job.data.get("preset_id") == preset_id]


def versions(preset_id: str) -> list[int]:
    return [int(preset.version) for preset in Preset.query(preset_id, consistent_read=True)]


@pytest.fixture
def superseded(api: Api, person: MakePerson) -> tuple[Person, str]:
    """A preset's first version, which the second has replaced, and no chat pins."""
    me = person()
    preset_id = new_preset(api, me).json["id"]
    assert change_preset(api, me, preset_id).status == 200
    return me, preset_id


def test_a_change_and_a_deletion_leave_a_job_for_the_version_that_they_replace(
    api: Api, superseded: tuple[Person, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    me, preset_id = superseded
    [job] = jobs_of(preset_id)
    assert (job.data["kind"], job.data["version"]) == ("preset_version", "1")
    assert clock.parse(job.sk.split("#")[0]) - clock.now() > 86400 - 60
    assert api("presets.delete", "DELETE", f"/presets/{preset_id}", user=me).status == 200
    assert sorted(job.data["version"] for job in jobs_of(preset_id)) == ["1", "2"]


def test_a_version_goes_after_two_looks_a_day_apart(
    superseded: tuple[Person, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, preset_id = superseded
    [first] = jobs_of(preset_id)
    first.delete()
    at(monkeypatch, 0)
    look(preset_id)
    look(preset_id)  # a job may run twice
    assert versions(preset_id) == [0, 1, 2]
    [second] = jobs_of(preset_id)
    at(monkeypatch, 3600)
    look(preset_id, unpinned_since=second.data["unpinned_since"])
    assert versions(preset_id) == [0, 1, 2], "that was too soon"
    at(monkeypatch, 86400 + 3600)
    from jobs.run import handler

    context: Any = Context(seconds=60)
    body = json.dumps({"pk": second.pk, "sk": second.sk})
    assert handler({"Records": [{"messageId": "m", "body": body}]}, context) == {"batchItemFailures": []}
    assert versions(preset_id) == [0, 2]
    look(preset_id)


def test_a_version_that_a_chat_pins_stays_and_is_looked_at_again(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    preset_id = new_preset(api, me).json["id"]
    chat_id = open_chat(api, me, preset_id).json["id"]
    change_preset(api, me, preset_id)
    for job in jobs_of(preset_id):
        job.delete()
    at(monkeypatch, 0)
    look(preset_id, unpinned_since=str(int(NOW) - 90_000))
    assert versions(preset_id) == [0, 1, 2]
    [again] = jobs_of(preset_id)
    assert "unpinned_since" not in again.data
    assert clock.parse(again.sk.split("#")[0]) >= NOW + cleanup.PINNED_SECONDS
    api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id}, user=me)
    copied = copy(api, me, chat_id).json["id"]
    assert Chat.get(copied, consistent_read=True).preset_version == 1
    Chat(chat_id).update([Chat.preset_version.set(2)])
    look(preset_id, unpinned_since=str(int(NOW) - 90_000))
    assert versions(preset_id) == [0, 1, 2], "the copy pins it"


def test_the_current_version_stays(api: Api, superseded: tuple[Person, str]) -> None:
    _, preset_id = superseded
    look(preset_id, 2, unpinned_since="0")
    look("no such preset")
    assert versions(preset_id) == [0, 1, 2]


def test_the_last_version_of_a_deleted_preset_goes_too(api: Api, superseded: tuple[Person, str]) -> None:
    me, preset_id = superseded
    assert api("presets.delete", "DELETE", f"/presets/{preset_id}", user=me).status == 200
    look(preset_id, 2, unpinned_since="0")
    assert versions(preset_id) == [1]


# What refusals say


def test_every_refusal_names_its_limit(limit: Any) -> None:
    for kind in limits.DEFAULTS:
        refusal = limits.refusal(kind, 0.2)
        assert refusal.headers == {"Retry-After": "1"}
        assert "{" not in str(refusal)
    limit("copy", 30, 3600)
    assert str(limits.refusal("copy", 1)) == "You may copy 30 chats an hour."
    limit("copy", 30, 90)
    assert str(limits.refusal("copy", 1)) == "You may copy 30 chats in 90 seconds."


def test_the_page_of_the_documentation_can_be_switched_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_DOCS", False)
    for module, path in (("docs.page", "/docs"), ("docs.openapi", "/openapi.json"), ("docs.page", "/api/v1/docs")):
        answer = api(module, "GET", path)
        assert (answer.status, answer.json["code"]) == (404, "not_found")


# --- share links


def share(owner: Person, chat: Chat) -> str:
    """The token of a new link."""
    new = NewShare()
    return shares.create(owner.user, chat.id, new, IdempotentRequest(owner.id, "shares", None, new)).token


def test_of_fifty_shares_at_once_as_many_are_made_as_the_limit_says(
    person: MakePerson, limit: Callable[..., None]
) -> None:
    owner = person()
    chat = make_chat(owner, "a")
    limit("share", 7, 3600)
    made = [result for result in at_once(lambda _: share(owner, chat)) if isinstance(result, str)]
    assert len(made) == len(set(made)) == 7


def test_strangers_read_so_much_of_one_users_shares_from_any_address(
    api: Api, person: MakePerson, limit: Callable[..., None]
) -> None:
    owner, other = person(), person()
    limit("shared_read", 150, 3600)
    first, second = (share(owner, make_chat(owner, "x" * 90_000)) for _ in range(2))
    foreign = share(other, make_chat(other, "x" * 90_000))

    def read(token: str, n: int) -> Answer:
        return api("shared.get", "GET", f"/shared/{token}", address=f"198.51.100.{n}")

    assert [read(first, n).status for n in range(4)] == [200, 200, 429, 429]
    check_refusal(read(second, 5), "too_many_readers", within=3600)
    assert read(foreign, 5).status == 200
    assert api("chats.list", "GET", "/chats", user=owner).status == 200, "the owner's own reading has another budget"


def test_of_fifty_ratings_at_once_as_many_are_made_as_the_limit_says(
    person: MakePerson, limit: Callable[..., None]
) -> None:
    owner = person()
    chat = make_chat(owner, *["a"] * MANY)
    for n in range(1, MANY + 1):
        Message(chat.thread, n).update([Message.role.set("assistant"), Message.model.set("qwen-plus")])
    limit("feedback", 7, 3600)
    wanted, user = FeedbackChange(rating="up"), owner.user
    done = at_once(lambda n: feedback.change(user, chat.id, n + 1, wanted))
    assert sum(not isinstance(result, TooManyRequests) for result in done) == 7


# --- searches and uploads


def test_of_fifty_searches_at_once_as_many_are_made_as_the_limit_says(
    person: MakePerson, limit: Callable[..., None]
) -> None:
    me = person()
    make_chat(me, "deer")
    limit("search", 7)
    assert count_allowed(at_once(lambda _: chat_search.search(me.user, "deer", "all", 20, None))) == 7


def test_of_many_searches_each_title_counts_as_reading(person: MakePerson, limit: Callable[..., None]) -> None:
    me = person()
    for _ in range(64):
        make_chat(me)
    limit("read", 3 * 64, 3600)

    def search() -> None:
        chat_search.search(me.user, "moose", "titles", 20, None)

    for _ in range(3):
        search()
    with named("too_much_reading"):
        search()


def test_of_fifty_uploads_at_once_as_many_are_opened_as_the_limit_says(
    person: MakePerson, limit: Callable[..., None]
) -> None:
    me = person()
    limit("upload", 7, 86400)
    new = NewUpload(name="deer.png", type="image/png", size=100)

    def create(_: int) -> str:
        return uploads.create(me.user, new, IdempotentRequest(me.id, "POST /uploads", None, new)).id

    assert count_allowed(at_once(create)) == 7


def test_texts_of_completed_and_named_documents_count_as_reading(
    api: Api, person: MakePerson, limit: Callable[..., None]
) -> None:
    me, other = person(), person()
    limit("read", 500, 3600)
    mine, theirs = (make_upload(owner, b"deer " * 50_000, "text/plain", "deer.txt") for owner in (me, other))
    path, body = f"/chats/{make_chat(other).id}/messages", {"messages": [NAMING | {"content": f"upload:{theirs.id}"}]}

    def complete() -> Answer:
        return api("uploads.complete", "POST", f"/uploads/{mine.id}/complete", user=me)

    def name() -> Answer:
        return api("chats.append", "POST", path, json=body, user=other)

    for call in (complete, name):
        assert [call().status for _ in range(3)] == [200] * 3
        check_refusal(call(), "too_much_reading", within=3600)
