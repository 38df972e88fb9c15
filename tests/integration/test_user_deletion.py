"""Deleting a user: gone at once for everyone, and everything that is theirs goes by a job that may break off anywhere."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import EndpointConnectionError

from aideer.accounts import avatars, deletion, users
from aideer.accounts import settings as own_settings
from aideer.billing import audit, credits, topups
from aideer.billing.audit import Audit, Findings
from aideer.billing.credits import Closer, Text
from aideer.chats import chats, likes, messages, presets
from aideer.core import clock, settings
from aideer.core.errors import AideerError
from aideer.core.usage import Usage
from aideer.data import batch_write, jobs
from aideer.data.base import connection, new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, CreditEntry, Identity, Message, Preset, Record, Task, User
from aideer.prompts import prompts
from aideer.schemas.chats import NewChat
from aideer.schemas.questions import NewTask
from aideer.schemas.users import UserChange
from aideer.security import auth
from aideer.tasks import admission
from jobs.run import WORKERS, handler
from local.stack.template import ROOT, Template
from tests import faults
from tests.support import Answer, Api, Context, Person, caller, check_rules, make_chat, recorded_calls

MakePerson = Callable[..., Person]
NOBODY = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def no_other_admins() -> None:
    """Nobody who was made an administrator before is known as one."""
    for record in Record.query("administrators"):
        record.delete()


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose pictures were removed."""
    removed: list[str] = []

    def remove(user_id: str, _: float) -> bool:
        removed.append(user_id)
        return True

    monkeypatch.setattr(avatars, "remove", remove)
    return removed


def delete(api: Api, user_id: str, actor: Person) -> Answer:
    return api("users.delete", "DELETE", f"/users/{user_id}", user=actor)


def jobs_of(user_id: str, kind: str, after: float = 61) -> list[Record]:
    """The user's jobs of this kind that are due so many seconds from now."""
    found = jobs.list_due(clock.now() + after)
    return [job for job in found if job.data.get("user_id") == user_id and job.data["kind"] == kind]


def work_one(user_id: str, kind: str) -> bool:
    """Give the user's jobs of this kind to the queue's consumer; whether they are done."""
    for job in jobs_of(user_id, kind):
        record = {"messageId": job.sk, "body": json.dumps({"pk": job.pk, "sk": job.sk})}
        context: Any = Context(seconds=90)
        assert handler({"Records": [record]}, context) == {"batchItemFailures": []}
    return jobs_of(user_id, kind) == []


def work(user_id: str) -> bool:
    """Work both jobs, as far as they come."""
    assert jobs_of(user_id, "user") + jobs_of(user_id, "user_last")
    return work_one(user_id, "user") and work_one(user_id, "user_last")


def exists(user_id: str) -> bool:
    return bool(list(User.query(user_id, consistent_read=True)))


def thread(chat: Chat) -> list[Message]:
    return list(Message.query(chat.thread, consistent_read=True))


def ledger(user_id: str) -> list[CreditEntry]:
    return list(CreditEntry.query(user_id, consistent_read=True))


def code(max_uses: int = 1) -> Code:
    made = Code(f"DEL-{uuid4().hex[:12].upper()}", value=100, max_uses=max_uses, create_time=clock.timestamp())
    made.save()
    return made


def ask(me: Person, chat: Chat) -> str:
    wanted = NewTask(chat_id=chat.id, stream=False)
    return admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted)).task_id


def refusal(call: Callable[[], Any]) -> str | None:
    try:
        call()
    except AideerError as error:
        return error.code
    return None


# --- at once


def test_who_is_deleted_is_gone_at_once(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    chat = make_chat(me, "Hi")
    user = me.user
    assert delete(api, me.id, me).json == {"message": "Deleted."}
    for call in (
        ("users.me", "GET", "/users/me"),
        ("chats.list", "GET", "/chats"),
        ("users.delete", "DELETE", f"/users/{me.id}"),
    ):
        answer = api(*call, user=me)
        assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    asked = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me)
    assert (asked.status, asked.json["code"]) == (401, "token_revoked")
    assert api("session.refresh", "POST", "/session/refresh", token=me.refresh_token).status == 401
    form = {"grant_type": "password", "username": me.username, "password": me.password}
    assert api("session.create", "POST", "/session/oauth2/token", form=form).status == 400
    assert api("users.get", "GET", f"/users/{me.id}", user=admin).status == 404
    assert api("users.list", "GET", f"/users?username={me.username}", user=admin).json == []
    assert me.id not in [found["id"] for found in api("users.list", "GET", "/users?limit=50", user=admin).json]
    with pytest.raises(AideerError, match="Sign in"):
        topups.redeem(user, code().code, IdempotentRequest(me.id, "redeem", None, ""))


def test_the_name_is_free_again_and_all_ways_of_signing_in_are_gone(api: Api, person: MakePerson) -> None:
    me = person()
    keys = {f"wechat#{uuid4().hex}", f"wechat-union#{uuid4().hex}"}
    for key in keys:
        Identity(key, user_id=me.id).save()
    User(me.id).update([User.wechat_keys.add(keys)])
    assert delete(api, me.id, me).status == 200
    for key in (*keys, f"password#{me.username}"):
        assert list(Identity.query(key, consistent_read=True)) == []
    again = {"username": me.username, "password": "secret-123"}
    new = api("users.create", "POST", "/users", json=again)
    assert new.status == 200
    assert work(me.id)
    assert [i.user_id for i in Identity.query(f"password#{me.username}")] == [new.json["id"]], "the job leaves it alone"


def test_a_name_that_one_takes_while_one_is_deleted_is_free_afterwards(person: MakePerson) -> None:
    for _ in range(6):
        me, boss, name = person(), person(permission=2).user, f"n{uuid4().hex[:12]}"
        user = me.user
        with ThreadPoolExecutor(2) as pool:
            renamed = pool.submit(refusal, lambda: users.change(user, me.id, UserChange(username=name)))  # noqa: B023
            deleted = pool.submit(refusal, lambda: deletion.delete(boss, me.id))  # noqa: B023
            assert renamed.result() in (None, "user_not_found")
            assert deleted.result() is None
        for key in (f"password#{me.username}", f"password#{name}"):
            assert list(Identity.query(key, consistent_read=True)) == []


def test_an_identity_that_has_become_somebody_elses_stays_theirs(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    key = f"wechat#{uuid4().hex}"
    Identity(key, user_id=other.id).save()
    User(me.id).update([User.wechat_keys.add({key})])
    assert delete(api, me.id, me).status == 200
    assert Identity.get(key).user_id == other.id


def test_one_deletes_oneself_and_administrators_anybody(api: Api, person: MakePerson) -> None:
    me, other, admin, visitor = person(), person(), person(permission=2), person(permission=0)
    answer = delete(api, me.id, other)
    assert (answer.status, answer.json["code"]) == (403, "not_you")
    assert delete(api, me.id, admin).status == 200
    assert delete(api, visitor.id, visitor).status == 200
    for user_id in (me.id, NOBODY):
        answer = delete(api, user_id, admin)
        assert (answer.status, answer.json["code"]) == (404, "user_not_found")


def test_what_a_deletion_costs(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    with recorded_calls() as calls:
        delete(api, me.id, admin)
    users = f"GetItem {settings.USERS_TABLE}"
    assert Counter(calls) == Counter([users, users, "TransactWriteItems"])
    person(permission=2)
    with recorded_calls() as calls:
        delete(api, admin.id, admin)
    assert Counter(calls) == Counter([users, users, f"Query {settings.RECORDS_TABLE}", "TransactWriteItems"])


@pytest.mark.parametrize("lost", [1, 2])
def test_a_deletion_whose_answer_is_lost_has_happened_once(api: Api, person: MakePerson, lost: int) -> None:
    me = person()
    with faults.answer_lost("TransactWriteItems", times=lost):
        assert delete(api, me.id, me).status == 200
    assert len(jobs_of(me.id, "user")) == 1


def test_no_request_outlives_the_time_before_the_job() -> None:
    functions = Template().functions.values()
    longest = max(f.timeout for f in functions if any(event.type == "HttpApi" for event in f.events))
    assert longest + 5 < deletion.BEFORE_SECONDS


def test_the_job_is_due_when_no_request_is_still_writing(api: Api, person: MakePerson) -> None:
    me = person()
    delete(api, me.id, me)
    assert jobs_of(me.id, "user", after=deletion.BEFORE_SECONDS - 5) == []
    assert len(jobs_of(me.id, "user", after=deletion.BEFORE_SECONDS + 1)) == 1


def calls_with_a_token() -> Iterator[tuple[str, str, str]]:
    """(handler's module, method, path) of every endpoint that takes an access token."""
    document = json.loads((ROOT / "functions/docs/openapi.json").read_text())["paths"]
    for function in Template().functions.values():
        for event in function.events:
            if event.type != "HttpApi" or function.handler == "tasks.stream.handler":
                continue
            method, path = event.properties["Method"], event.properties["Path"]
            if document.get(path, {}).get(method.lower(), {}).get("security") and not path.startswith(
                "/api/v1/session"
            ):
                yield function.handler.removesuffix(".handler"), method, path


def test_every_endpoint_refuses_who_was_deleted(api: Api, person: MakePerson) -> None:
    me = person(permission=2)
    chat = make_chat(me, "Hi")
    ended = ask(me, chat)
    delete(api, me.id, person(permission=2))
    known = {"chats": chat.id, "tasks": ended, "users": me.id}
    called = list(calls_with_a_token())
    assert len(called) > 30
    for module, method, path in called:
        filled = re.sub(r"\{\w+\}", known.get(path.split("/")[3], NOBODY), path)
        body = {"chat_id": chat.id} if path.startswith("/api/v1/tasks") and method == "POST" else None
        answer = api(module, method, filled, json=body, user=me)
        assert answer.status == 401, (method, path, answer.body)


# --- the last administrator


@pytest.mark.usefixtures("no_other_admins")
def test_the_last_administrator_stays(api: Api, person: MakePerson) -> None:
    admin, other = person(permission=2), person()
    answer = delete(api, admin.id, admin)
    assert (answer.status, answer.json["code"]) == (409, "last_admin")
    assert api("users.me", "GET", "/users/me", user=admin).status == 200
    assert delete(api, other.id, admin).status == 200
    second = person()
    promoted = api("users.update", "PUT", f"/users/{second.id}", json={"permission": 2}, user=admin)
    assert promoted.status == 200
    assert delete(api, admin.id, admin).status == 200
    assert delete(api, second.id, second).status == 409


@pytest.mark.usefixtures("no_other_admins")
def test_who_is_no_administrator_any_more_is_not_the_one_who_is_left(api: Api, person: MakePerson) -> None:
    admin, lowered, gone = person(permission=2), person(permission=2), person(permission=2)
    api("users.update", "PUT", f"/users/{lowered.id}", json={"permission": 1}, user=admin)
    delete(api, gone.id, admin)
    assert [record.sk for record in Record.query("administrators")] == [admin.id]
    for stale in (lowered, gone):  # notes that should not be there decide nothing
        Record("administrators", stale.id).save()
    assert delete(api, admin.id, admin).status == 409


@pytest.mark.usefixtures("no_other_admins")
def test_an_operator_makes_another_one() -> None:
    from operations.make_admin import handler

    made = handler({"username": f"op {uuid4().hex[:8]}", "password": "operators-secret"}, None)
    assert [record.sk for record in Record.query("administrators")] == [made["user_id"]]


@pytest.mark.usefixtures("no_other_admins")
@pytest.mark.parametrize("each_other", [True, False])
def test_of_administrators_who_are_deleted_at_once_one_is_left(person: MakePerson, each_other: bool) -> None:
    for count in (2, 2, 3, 4):
        for record in Record.query("administrators"):
            record.delete()
        people = [person(permission=2) for _ in range(count)]
        users = [one.user for one in people]
        doomed = [*users[1:], users[0]] if each_other else users
        barrier = threading.Barrier(count)

        def attempt(actor: User, user: User, barrier: threading.Barrier = barrier) -> str | None:
            barrier.wait()
            return refusal(lambda: deletion.delete(actor, user.id))

        with ThreadPoolExecutor(count) as pool:
            told = list(pool.map(attempt, users, doomed))
        left = [one for one in people if not one.user.deleted]
        assert len(left) >= 1
        assert told.count(None) == count - len(left)
        assert set(told) <= {None, "token_revoked", "last_admin", "user_not_found"}
        if not each_other:
            assert len(left) == 1


# --- the job


def test_everything_that_is_theirs_goes_and_nothing_else(api: Api, person: MakePerson, pictures: list[str]) -> None:
    me, other = person(), person()
    mine, theirs = [make_chat(me, "a", "b") for _ in range(3)], make_chat(other, "a")
    liked = theirs.preset_id
    Preset(liked, 0).update([Preset.visibility.set("public")])
    likes.like(me.user, "preset", liked)
    likes.like(other.user, "preset", liked)
    own_settings.replace(me.user, {"theme": "dark"}, None)
    own_settings.replace(other.user, {"theme": "light"}, None)
    voucher = code()
    topups.redeem(me.user, voucher.code, IdempotentRequest(me.id, "redeem", None, ""))
    delete(api, me.id, me)
    assert all(thread(chat) for chat in mine)
    assert work(me.id)
    assert not exists(me.id)
    assert ledger(me.id) == []
    assert [thread(chat) for chat in mine] == [[], [], []]
    assert list(Chat.batch_get([chat.id for chat in mine], consistent_read=True)) == []
    assert list(Preset.by_owner.query(me.id)) == []
    assert list(Preset.query(mine[0].preset_id, consistent_read=True)) == []
    assert Preset.get(liked, 0, consistent_read=True).like_count == 1
    assert list(Record.query(f"likes#{me.id}")) == []
    assert list(Record.query(f"settings#{me.id}")) == []
    assert own_settings.read(other.user, None) == ({"theme": "light"}, 1)
    assert set(pictures) == {me.id}
    assert jobs_of(me.id, "user") + jobs_of(me.id, "user_last") == []
    assert len(thread(theirs)) == 1
    assert ledger(other.id)
    assert exists(other.id)
    refused = refusal(lambda: topups.redeem(other.user, voucher.code, IdempotentRequest(other.id, "redeem", None, "")))
    assert refused == "code_used_up", "a code that a deleted user has used stays used"
    assert api("users.me", "GET", "/users/me", user=me).status == 401


def test_public_presets_are_the_products_and_stay(api: Api, person: MakePerson, pictures: list[str]) -> None:
    admin, other, reader = person(permission=2), person(permission=2), person()
    body = {
        "title": "Everybody's",
        "type": "chat_generation",
        "visibility": "public",
        "parameters": {"model": "qwen-plus"},
        "messages": [{"role": "system", "content": "Be kind.", "visibility": False}],
    }
    public = api("presets.create", "POST", "/presets", json=body, user=admin).json["id"]
    own = api("presets.create", "POST", "/presets", json={**body, "visibility": "unlisted"}, user=admin).json["id"]
    delete(api, admin.id, admin)
    assert work(admin.id)
    assert api("presets.get", "GET", f"/presets/{public}", user=reader).status == 200
    assert api("presets.get", "GET", f"/presets/{own}", user=reader).status == 404
    assert api("presets.delete", "DELETE", f"/presets/{public}", user=other).status == 200
    assert set(pictures) == {admin.id}


def test_a_task_that_waits_ends_with_the_job_and_one_that_runs_is_waited_for(
    api: Api, person: MakePerson, pictures: list[str]
) -> None:
    me = person()
    waiting, running = ask(me, make_chat(me, "Hi")), ask(me, make_chat(me, "Hi"))
    task = Task(running)
    task.update([Task.status.set("running"), Task.executor.set("e"), Task.lease_until.set(time.time() + 60)])
    delete(api, me.id, me)
    check_rules(me)
    assert not work(me.id)
    assert Task.get(waiting, consistent_read=True).status == "stopped"
    task = Task.get(running, consistent_read=True)
    assert (task.status, task.stop_requested) == ("running", True)
    assert len(list(Chat.by_create_time.query(me.id))) == 2, "nothing goes before"
    check_rules(me)
    ended = credits.settle(task, Closer.executor("e"), "stopped", Text(content="So"), "stopped", Usage(100, 10))
    assert ended.credits > 0
    check_rules(me)
    assert work(me.id)
    assert not exists(me.id)
    assert set(pictures) == {me.id}


def test_a_task_that_begins_at_the_same_moment_is_refused_or_ended(person: MakePerson, pictures: list[str]) -> None:
    for _ in range(5):
        me, admin = person(), person(permission=2)
        chat, holder, boss = make_chat(me, "Hi"), me.user, admin.user
        voucher = code()
        with ThreadPoolExecutor(3) as pool:
            wanted = NewTask(chat_id=chat.id, stream=False)
            request = IdempotentRequest(me.id, "POST /tasks", None, wanted)
            asked = pool.submit(refusal, lambda: admission.create(caller(holder), wanted, request))  # noqa: B023
            redeemed = pool.submit(
                refusal,
                lambda: topups.redeem(holder, voucher.code, IdempotentRequest(me.id, "redeem", None, "")),  # noqa: B023
            )
            deleted = pool.submit(refusal, lambda: deletion.delete(boss, me.id))  # noqa: B023
            assert asked.result() in (None, "token_revoked")
            assert redeemed.result() in (None, "unauthorized")
            assert deleted.result() is None
        check_rules(me)
        assert work(me.id)
        assert not exists(me.id)
        uses = list(Record.query(credits.redemptions_key(voucher.code), consistent_read=True))
        assert Code.get(voucher.code, consistent_read=True).used == len(uses)


def test_a_chat_that_a_request_wrote_last_goes_too(api: Api, person: MakePerson, pictures: list[str]) -> None:
    me = person()
    preset_id, user = make_chat(me).preset_id, me.user
    delete(api, me.id, me)
    late, _ = chats.create(user, NewChat(preset_id=preset_id, title="Late", visibility="private", messages=[]))
    assert work(me.id)
    assert list(Chat.batch_get([late.id], consistent_read=True)) == []


def test_a_job_that_runs_out_of_time_goes_on_where_it_was(
    api: Api, person: MakePerson, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me)
    now = clock.timestamp()
    messages.write([Message(chat.thread, n, role="user", content="x", create_time=now) for n in range(1, 101)])
    delete(api, me.id, me)
    assert not deletion.remove(me.id, time.monotonic() - 1)
    assert len(thread(chat)) == 100
    assert exists(me.id)
    write, written = batch_write.write, []

    def dying(*args: Any, **kwargs: Any) -> None:
        written.append(kwargs)
        if len(written) == 3:
            raise ConnectionError
        write(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(batch_write, "write", dying)
        with pytest.raises(ConnectionError):
            deletion.remove(me.id, time.monotonic() + 60)
    assert len(thread(chat)) == 50
    assert ledger(me.id)
    assert work(me.id)
    assert thread(chat) == []
    assert not exists(me.id)


class Killed(BaseException):
    """The function was killed here."""


@pytest.mark.parametrize("before", [True, False], ids=["before it happened", "after it happened"])
def test_wherever_the_job_is_killed_the_next_one_goes_on(
    api: Api, person: MakePerson, pictures: list[str], before: bool
) -> None:
    """One that comes one call further each time. tests/chaos breaks each call of one that is new."""
    me, fan = person(), person()
    made = [make_chat(me, "Hi"), make_chat(me, "a", "b")]
    ask(me, made[0])
    preset_id = make_chat(fan).preset_id
    Preset(preset_id, 0).update([Preset.visibility.set("public")])
    likes.like(me.user, "preset", preset_id)
    delete(api, me.id, me)
    nth, done = 0, False
    while not done:
        check_left(me.id)
        for job in jobs_of(me.id, "user") + jobs_of(me.id, "user_last"):
            with killed(nth, before=before), suppress(Killed):
                jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS)
        nth += 1
        done = not jobs_of(me.id, "user") + jobs_of(me.id, "user_last")
    assert 5 < nth < 50
    assert not exists(me.id)
    assert ledger(me.id) + [message for chat in made for message in thread(chat)] == []
    assert list(Chat.batch_get([chat.id for chat in made], consistent_read=True)) == []
    assert list(Preset.by_owner.query(me.id)) == []
    assert Preset.get(preset_id, 0, consistent_read=True).like_count == 0
    assert set(pictures) == {me.id}


def check_left(user_id: str) -> None:
    """What the reconciliation would say of a half-deleted user."""
    with Audit("test", "", time.monotonic() + 60) as look:
        page = audit.Page(None, 0)
        users = list(User.query(user_id, consistent_read=True))
        assert not any(look._look_at_users(page, users))
        tasks = list(Task.scan(Task.user_id == user_id, consistent_read=True))
        assert not any(audit._look_at_tasks(tasks))


class killed:
    """Kills whoever makes the nth DynamoDB call, before or after it has happened."""

    def __init__(self, nth: int, *, before: bool) -> None:
        self._nth, self._event = nth, "before-send" if before else "after-call"
        self._calls: list[int] = []
        self._lock = threading.Lock()

    def __enter__(self) -> list[int]:
        connection().client.meta.events.register_first(f"{self._event}.dynamodb", self._count)
        return self._calls

    def __exit__(self, *_: object) -> None:
        connection().client.meta.events.unregister(f"{self._event}.dynamodb", self._count)

    def _count(self, **_: Any) -> None:
        with self._lock:
            self._calls.append(len(self._calls))
            dead = len(self._calls) > self._nth
        if dead:
            raise Killed


def test_two_who_work_the_job_at_once_do_no_harm(api: Api, person: MakePerson, pictures: list[str]) -> None:
    me = person()
    made = [make_chat(me, "a", "b") for _ in range(20)]
    delete(api, me.id, me)
    [job] = jobs_of(me.id, "user")
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS), range(3)))
    assert done == [True] * 3
    assert len(jobs_of(me.id, "user_last")) >= 1
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: work_one(me.id, "user_last"), range(3)))
    assert done == [True] * 3
    assert not exists(me.id)
    assert not any(thread(chat) for chat in made)


def test_the_job_of_somebody_who_is_there_removes_nothing(person: MakePerson, pictures: list[str]) -> None:
    me = person()
    for job in (deletion.remove, deletion.finish):
        assert job(me.id, time.monotonic() + 60)
        assert job(NOBODY, time.monotonic() + 60)
    assert jobs_of(me.id, "user_last") == []
    assert exists(me.id)
    assert ledger(me.id)
    assert pictures == []


def test_hundreds_of_chats_go_in_pages(api: Api, person: MakePerson, pictures: list[str]) -> None:
    me = person()
    first = make_chat(me)
    with Chat.batch_write() as batch:
        for n in range(250):
            batch.save(Chat(**{**first.attribute_values, "id": new_id(), "create_time": clock.timestamp(n)}))
    delete(api, me.id, me)
    with recorded_calls() as calls:
        assert work(me.id)
    assert list(Chat.by_create_time.query(me.id)) == []
    assert sum(call.startswith("BatchGetItem") for call in calls) == 3
    assert sum(call == f"DeleteItem {settings.CHATS_TABLE}" for call in calls) == 251


def test_an_index_that_lags_hides_nothing_from_both_looks(api: Api, person: MakePerson, pictures: list[str]) -> None:
    me = person()
    chat = make_chat(me, "a")
    delete(api, me.id, me)
    empty = b'{"Items":[],"Count":0,"ScannedCount":0}'
    with faults.refused("Query", empty, status=200, times=2):  # chats and presets
        assert deletion.remove(me.id, time.monotonic() + 60)
    assert thread(chat)
    assert jobs_of(me.id, "user_last", after=deletion.BEFORE_SECONDS - 5) == [], "some time later"
    assert work_one(me.id, "user_last")
    assert thread(chat) == []
    assert not exists(me.id)
    assert set(pictures) == {me.id}


# --- what proves the credit rules


@pytest.fixture
def look() -> Iterator[Audit]:
    with Audit("test", "", time.monotonic() + 60) as ours:
        yield ours


def test_reconciliation_finds_no_drift_in_any_stage_of_a_deletion(
    api: Api, person: MakePerson, pictures: list[str], look: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    voucher = code()
    topups.redeem(me.user, voucher.code, IdempotentRequest(me.id, "redeem", None, ""))
    task_id = ask(me, make_chat(me, "Hi"))
    before = [me.user]

    def drifts() -> list[Findings | None]:
        page = audit.Page(None, 0)
        # As they were read before, and as they are now.
        found = look._look_at_users(page, before)
        found += look._look_at_users(page, list(User.query(me.id, consistent_read=True)))
        found += audit._look_at_tasks([Task.get(task_id, consistent_read=True)])
        found += look._look_at_codes([Code.get(voucher.code, consistent_read=True)])
        return [findings for findings in found if findings]

    assert drifts() == []
    delete(api, me.id, me)
    assert drifts() == []
    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_remove", lambda _: False)
        assert not work(me.id)
    before = list(User.query(me.id, consistent_read=True))
    assert ledger(me.id) == []
    assert drifts() == [], "the ledger is gone, and the user is not yet"
    assert work(me.id)
    assert drifts() == []


def test_nobody_is_told_by_an_outage_that_the_user_is_deleted(api: Api, person: MakePerson) -> None:
    me = person()

    def out(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="embedded")

    events = connection().client.meta.events
    events.register_first("before-send.dynamodb.TransactWriteItems", out)
    try:
        from aideer.data import transactions

        patience = transactions.PATIENCE_SECONDS
        transactions.PATIENCE_SECONDS = 0.2
        answer = delete(api, me.id, me)
    finally:
        transactions.PATIENCE_SECONDS = patience
        events.unregister("before-send.dynamodb.TransactWriteItems", out)
    assert (answer.status, answer.json["code"]) == (503, "busy")
    assert not me.user.deleted
    assert auth.get_holder({"sub": me.id, "ver": me.user.token_version}).id == me.id


# --- what others may still use


def preset_body(visibility: str, text: str) -> dict[str, Any]:
    message = {"role": "system", "content": text, "visibility": False}
    return {"title": "P", "visibility": visibility, "parameters": {"model": "qwen-plus"}, "messages": [message]}


def prompts_of(preset_id: str) -> set[str]:
    """Texts of the versions of a preset, without its head's."""
    versions = Preset.query(preset_id, Preset.version > Preset.HEAD, consistent_read=True)
    return {version.messages[0]["content"] for version in versions}


@pytest.mark.parametrize("is_deleted_before", [False, True])
@pytest.mark.parametrize(
    ("visibilities", "stays"),
    [
        (["private"], set()),
        (["private", "private"], set()),
        (["unlisted"], {0}),
        (["private", "unlisted"], {1}),
        (["unlisted", "private"], {0}),
        (["private", "unlisted", "unlisted", "private", "private"], {1, 2}),
    ],
)
def test_no_private_prompt_stays_and_what_others_could_pin_does(
    api: Api,
    person: MakePerson,
    pictures: list[str],
    visibilities: list[str],
    stays: set[int],
    is_deleted_before: bool,
) -> None:
    me, other = person(), person()
    first, *more = [preset_body(visibility, f"prompt {n}") for n, visibility in enumerate(visibilities)]
    preset_id = api("presets.create", "POST", "/presets", json=first, user=me).json["id"]
    pinning: list[str] = []

    def use(body: dict[str, Any]) -> None:
        new = {"preset_id": preset_id, "title": "T", "messages": [{"role": "user", "content": "Hi"}]}
        opened = api("chats.create", "POST", "/chats", json=new, user=other)
        assert opened.status == (403 if body["visibility"] == "private" else 200)
        pinning.extend([opened.json["id"]] if opened.status == 200 else [])

    use(first)
    for body in more:
        api("presets.update", "PUT", f"/presets/{preset_id}", json=body, user=me)
        use(body)
    if is_deleted_before:
        assert api("presets.delete", "DELETE", f"/presets/{preset_id}", user=me).status == 200
    delete(api, me.id, me)
    assert work(me.id)
    assert prompts_of(preset_id) == {f"prompt {n}" for n in stays}
    assert list(Preset.query(preset_id, Preset.version == Preset.HEAD, consistent_read=True)) == []
    assert list(Record.query(presets.deleted_presets_key(me.id), consistent_read=True)) == []
    for chat_id in pinning:
        prompts.get_preset.cache_clear()
        assert (
            api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id, "stream": False}, user=other).status == 200
        )


def test_the_drafts_of_a_public_preset_go_and_it_stays(api: Api, person: MakePerson, pictures: list[str]) -> None:
    boss, admin = person(permission=2), person(permission=2)
    draft, public = preset_body("private", "draft"), preset_body("public", "published")
    preset_id = api("presets.create", "POST", "/presets", json=draft, user=boss).json["id"]
    api("presets.update", "PUT", f"/presets/{preset_id}", json=public, user=boss)
    delete(api, boss.id, admin)
    assert work(boss.id)
    assert prompts_of(preset_id) == {"published"}
    assert api("presets.get", "GET", f"/presets/{preset_id}", user=person()).status == 200


@pytest.mark.parametrize(("visibility", "stays"), [("private", set()), ("unlisted", {"old"})])
def test_versions_of_the_previous_release_go_with_a_private_preset(
    api: Api, person: MakePerson, pictures: list[str], visibility: str, stays: set[str]
) -> None:
    me = person()
    preset_id = api("presets.create", "POST", "/presets", json=preset_body(visibility, "old"), user=me).json["id"]
    for version in (0, 1):
        Preset(preset_id, version).update([Preset.shared.remove()])
    delete(api, me.id, me)
    assert work(me.id)
    assert prompts_of(preset_id) == stays


def test_a_change_says_of_the_previous_releases_version_whether_others_could_use_it(
    api: Api, person: MakePerson, pictures: list[str]
) -> None:
    me = person()
    preset_id = api("presets.create", "POST", "/presets", json=preset_body("unlisted", "old"), user=me).json["id"]
    for version in (0, 1):
        Preset(preset_id, version).update([Preset.shared.remove()])
    api("presets.update", "PUT", f"/presets/{preset_id}", json=preset_body("private", "new"), user=me)
    delete(api, me.id, me)
    assert work(me.id)
    assert prompts_of(preset_id) == {"old"}


def test_a_chat_whose_preset_went_with_its_owner_says_so_and_takes_another(
    api: Api, person: MakePerson, pictures: list[str]
) -> None:
    me, admin = person(), person(permission=2)
    preset_id = api("presets.create", "POST", "/presets", json=preset_body("private", "mine"), user=me).json["id"]
    new = {"preset_id": preset_id, "title": "T", "messages": [{"role": "user", "content": "Hi"}]}
    chat_id = api("chats.create", "POST", "/chats", json=new, user=admin).json["id"]
    delete(api, me.id, me)
    assert work(me.id)
    prompts.get_preset.cache_clear()
    wanted = {"chat_id": chat_id, "stream": False}
    answer = api("tasks.create", "POST", "/tasks", json=wanted, user=admin)
    assert (answer.status, answer.json["code"]) == (422, "preset_gone")
    another = api("presets.create", "POST", "/presets", json=preset_body("private", "other"), user=admin).json["id"]
    assert api("chats.update", "PUT", f"/chats/{chat_id}", json={"preset_id": another}, user=admin).status == 200
    assert api("tasks.create", "POST", "/tasks", json=wanted, user=admin).status == 200


def test_no_redemption_names_who_was_deleted_and_the_code_is_as_used_as_before(
    api: Api, person: MakePerson, pictures: list[str]
) -> None:
    users, voucher = [person() for _ in range(3)], code(max_uses=3)
    body = {"redeem_code": voucher.code}
    for user in users:
        assert api("users.redeem", "POST", "/users/me/credits", json=body, user=user).status == 200
    for user in users[:2]:
        delete(api, user.id, user)
        assert work(user.id)
    uses = [record.sk for record in Record.query(credits.redemptions_key(voucher.code), consistent_read=True)]
    assert len(uses) == Code.get(voucher.code, consistent_read=True).used == 3
    assert {user.id for user in users} & set(uses) == {users[2].id}
    assert not any(user.id in str(record.attribute_values) for user in users[:2] for record in Record.scan())
    back = api("users.redeem", "POST", "/users/me/credits", json=body, user=person())
    assert back.json["code"] == "code_used_up"
