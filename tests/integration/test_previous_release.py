"""What release 0.1.0 stored keeps working: its users, sessions, chats, open tasks, codes and ledgers, at its prices."""

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from aideer.billing import audit, pricing, reconciliation
from aideer.chats import cleanup, quota
from aideer.core import aws, clock, settings
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.models import Chat, Code, CreditEntry, Message, Preset, Record, Task, User
from aideer.providers.dashscope import Chunk
from aideer.tasks import control, executor, stream_log
from jobs.run import WORKERS
from local.simulators.wechat import Server as WeChat
from tests import previous
from tests.embedded_aws import empty_tables
from tests.events import parse
from tests.pauses import clock_with
from tests.previous import Release, old_cost, read
from tests.stream_client import streamed
from tests.support import Api, Context, check_rules, in_loop, sweep

PENDING = [
    "pending",
    "pending_turbo",
    "pending_thinking",
    "pending_mini",
    "pending_title",
    "pending_again",
    "pending_late",
]
RUNNING = ["running", "running_turbo", "running_thinking"]
WECHAT = {"mini", "mini-no-union", "linked-later", "site"}
"""Whose sessions are WeChat's."""
COSTS = read("costs")


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, weixin: WeChat) -> Iterator[Release]:
    monkeypatch.setattr(audit, "time", clock_with())
    yield Release(monkeypatch, weixin)
    empty_tables()


def queued(task_id: str) -> None:
    """The message that the queue still holds arrives."""
    record = {"messageId": uuid4().hex, "body": f'{{"task_id": "{task_id}"}}'}
    handler = importlib.import_module("tasks.on_queued").handler
    assert handler({"Records": [record]}, Context(seconds=60)) == {"batchItemFailures": []}


def lines_of(task: Task) -> list[int]:
    """The amounts of a task's lines in the ledger."""
    return [entry.amount for entry in CreditEntry.query(task.user_id, consistent_read=True) if entry.task_id == task.id]


def check_all(release: Release) -> None:
    """The rules hold for everybody, and reconciliation says the same."""
    for name in release.users:
        if name != "leaving":
            check_rules(release.person(name))
    run = reconciliation.continue_run(120, begin=True)
    assert run
    assert not any(run.drifts.values()), run
    assert run.users == len(release.users)


def says(monkeypatch: pytest.MonkeyPatch, *chunks: Chunk) -> None:
    """A provider that says exactly this."""

    async def stream(*_: Any, **__: Any) -> AsyncGenerator[Chunk, None]:
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    monkeypatch.setattr(executor.dashscope, "stream", stream)


# --- signing in


def signed_in(api: Api, username: str, password: str) -> str:
    """The id of whoever has this name and password."""
    form = {"grant_type": "password", "username": username, "password": password}
    answer = api("session.create", "POST", "/session/oauth2/token", form=form)
    assert answer.status == 200, (username, answer.body)
    return str(api("users.me", "GET", "/users/me", token=answer.json["access_token"]).json["id"])


def test_old_passwords_sign_in_as_they_were_typed(api: Api, release: Release) -> None:
    for name, user in release.users.items():
        if user["password"] and name != "leaving":
            assert signed_in(api, user["username"], user["password"]) == user["id"]
    assert signed_in(api, "RELEASE-visitor", "secret-123") == release.users["Visitor"]["id"]


def test_old_tokens_are_good_and_can_be_refreshed(api: Api, release: Release) -> None:
    for name in release.users.keys() - {"leaving"}:
        me = release.person(name)
        assert api("users.me", "GET", "/users/me", user=me).json["id"] == me.id
        module, method, path = "session.refresh", "POST", "/session/refresh"
        if name in WECHAT:
            module, method, path = "session.wechat_refresh", "GET", "/session/wechat/refresh"
        pair = api(module, method, path, token=me.refresh_token)
        assert pair.status == 200, (name, pair.body)
        assert api("users.me", "GET", "/users/me", token=pair.json["access_token"]).json["id"] == me.id


def test_an_old_refresh_token_that_was_used_ends_the_sessions_of_whoever_shares_it(api: Api, release: Release) -> None:
    release.ahead = 3600
    used = release.tokens["ada"]["used_refresh"]
    answer = api("session.refresh", "POST", "/session/refresh", token=used)
    assert (answer.status, answer.json["code"]) == (401, "token_reused")
    assert api("users.me", "GET", "/users/me", user=release.person("ada")).status == 401


def test_sessions_that_had_ended_stay_so_and_others_end_when_they_were_to(api: Api, release: Release) -> None:
    for old in (release.tokens["signed-out"]["revoked"], release.person("leaving").token):
        assert api("users.me", "GET", "/users/me", token=old).status == 401
    release.ahead = 24 * 3600 + 60
    answer = api("users.me", "GET", "/users/me", user=release.person("ada"))
    assert (answer.status, answer.json["code"]) == (401, "token_expired")


def test_who_came_by_wechat_is_the_same_user_again(api: Api, release: Release, weixin: WeChat) -> None:
    for name in ("mini", "mini-no-union"):
        code = weixin.code(f"release {name}", with_unionid=name == "mini")
        pair = api("session.wechat_token", "GET", f"/session/wechat/token?code={code}").json
        me = api("users.me", "GET", "/users/me", token=pair["access_token"])
        assert me.json["id"] == release.users[name]["id"]


def test_sign_ins_that_were_under_way_on_a_website_are_finished(api: Api, release: Release, weixin: WeChat) -> None:
    site = release.tokens["site"]
    exchanged = api("session.refresh", "POST", "/session/refresh", json={"ticket": site["ticket"]})
    path = f"/session/wechat/callback?state={site['state']}&code={weixin.code('release site', 'web')}"
    returned = api("session.wechat_callback", "GET", path, headers={"cookie": site["cookie"]})
    for answer in (exchanged, returned):
        assert answer.status == 200, answer.body
        me = api("users.me", "GET", "/users/me", token=answer.json["access_token"])
        assert me.json["id"] == release.users["site"]["id"]


# --- what is read


def covers(new: Any, old: Any, path: str = "") -> None:
    """Assert that an answer says all that the old one said; it may say more."""
    if isinstance(old, dict):
        for key, value in old.items():
            assert key in new, f"{path}.{key}"
            covers(new[key], value, f"{path}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), path
        for n, value in enumerate(old):
            covers(new[n], value, f"{path}[{n}]")
    else:
        assert new == old, path


READS = {
    "me": ("users.me", "/users/me"),
    "credits": ("users.credits", "/users/me/credits?limit=100"),
    "likes": ("users.likes", "/users/me/likes"),
    "chats": ("chats.list", "/chats?limit=100"),
    "presets": ("presets.list", "/presets?limit=100"),
    "stats": ("admin.stats", "/admin/stats"),
    "codes": ("codes.list", "/codes?limit=100"),
    "reconciliation": ("admin.reconciliation", "/admin/reconciliation"),
}
ANSWERS = read("answers")


def test_what_was_listed_is_listed_still(api: Api, release: Release) -> None:
    for name, answers in ANSWERS.items():
        for what in READS.keys() & answers.keys():
            module, path = READS[what]
            answer = api(module, "GET", path, user=release.person(name))
            assert answer.status == 200, answer.body
            covers(answer.json, answers[what], what)


def test_what_was_read_is_read_still(api: Api, release: Release) -> None:
    me = release.person("ada")
    for kind in ("chat", "preset", "task"):
        for id_, old in ANSWERS["ada"][kind].items():
            answer = api(f"{kind}s.get", "GET", f"/{kind}s/{id_}", user=me, parameters={"id": id_})
            assert answer.status == 200, answer.body
            covers(answer.json, {key: value for key, value in old.items() if key != "stream_url"}, kind)


def test_a_reader_sees_an_old_shared_chat_without_what_is_hidden(api: Api, release: Release) -> None:
    chat_id = release.chats["shared"]
    answer = api("chats.get", "GET", f"/chats/{chat_id}", user=release.person("reader"), parameters={"id": chat_id})
    assert [message["n"] for message in answer.json["messages"]] == [1, 3]


def test_no_attribute_of_an_old_item_is_missed() -> None:
    for table, model in previous.TABLES.items():
        for item in previous.items(table):
            read_back = model.from_raw_data(item)
            for name in model.get_attributes():
                getattr(read_back, name)


def test_repeated_requests_get_their_old_answers(api: Api, release: Release) -> None:
    before = Task.count(), CreditEntry.count(), Code.count()
    for asked in read("repeats"):
        answer = api(
            asked["module"],
            asked["method"],
            asked["path"],
            json=asked.get("json"),
            user=release.person(asked["user"]),
            parameters=asked.get("parameters"),
            headers={"Idempotency-Key": asked["key"]},
        )
        assert answer.status == asked["status"], answer.body
        covers(answer.json, {key: value for key, value in asked["answer"].items() if key != "stream_url"})
    assert (Task.count(), CreditEntry.count(), Code.count()) == before


# --- tasks that were open


def test_pending_tasks_are_answered_at_the_price_that_they_were_accepted_for(release: Release) -> None:
    for name in PENDING:
        before = release.task(name)
        queued(before.id)
        task = release.task(name)
        assert task.status == "finished", (name, task.error_code)
        thought = bool(control.read_text(task).reasoning)
        assert task.credits == min(old_cost(before.tariff, task.usage, thought=thought), before.hold) > 0
        assert lines_of(task) == [-task.credits]
    check_all(release)


def test_old_streams_open_and_show_what_is_stored(release: Release) -> None:
    for name in PENDING[:4]:
        owner = "mini" if name.endswith("mini") else "ada"
        url = urlsplit(release.tokens[owner]["streams"][name])
        answer = streamed(f"{url.path}?{url.query}")
        assert answer.status_code == 200, answer.text
        final = parse(answer.text).final
        task = release.task(name)
        assert final["status"] == task.status == "finished"
        assert final["credits"] == task.credits
        assert final["content"] == Message.get(task.thread, task.answer_n, consistent_read=True).content
    check_all(release)


@pytest.mark.parametrize("name", RUNNING)
def test_a_running_task_is_settled_at_exactly_the_old_cost(
    release: Release, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for case in COSTS["charged"][name]:
        counts = Usage(*case["usage"])
        says(monkeypatch, Chunk("thinking" if case["thought"] else "", "The end.", "stop", counts))
        task = release.task(name)
        left = int(release.person("ada").user.credits)
        in_loop(going_on(task))
        ended = release.task(name)
        assert (ended.status, ended.credits) == ("finished", case["credits"]), case
        assert lines_of(ended) == [-case["credits"]]
        assert release.person("ada").user.credits == left + task.hold - case["credits"]
        release.rewind(name)


async def going_on(task: Task) -> None:
    """What the executor of a running task does."""
    await executor.Run(task, clock.now() + 60, attended=False).work()


@pytest.mark.parametrize("model", COSTS["tariffs"])
def test_a_frozen_tariff_costs_what_it_cost(model: str) -> None:
    for case in COSTS["costs"]:
        if case["model"] == model:
            usage, thought = Usage(*case["usage"]), case["thought"]
            assert pricing.compute_cost(COSTS["tariffs"][model], usage, thought=thought) == case["credits"], case
            assert old_cost(COSTS["tariffs"][model], usage._asdict(), thought=thought) == case["credits"]


def test_the_sweep_ends_what_the_old_executors_left(
    api: Api, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(aws, "enqueue", lambda _, message, *__: sent.append(message.get("task_id", "")))
    sweep()
    assert release.tasks["pending_late"] in sent
    for name, code in (("pending_too_late", "queue_timeout"), ("running_expired", "interrupted")):
        task = release.task(name)
        assert (task.status, task.error_code, task.credits, lines_of(task)) == ("failed", code, 0, [])
    left = release.task("running_expired")
    assert Message.get(left.thread, left.answer_n, consistent_read=True).content == "What was shown"
    assert {release.task(name).status for name in RUNNING} == {"running"}
    check_all(release)
    release.ahead = settings.LEASE_SECONDS + 120
    sweep()
    for name in (*RUNNING, "stop_requested"):
        assert not release.task(name).is_open
    check_all(release)


def test_old_tasks_are_stopped(api: Api, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tasks.stop"), "PATIENCE_SECONDS", 0.1)
    me = release.person("ada")
    for name, status in (("pending", 200), ("running", 202)):
        task_id = release.tasks[name]
        answer = api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=me, parameters={"id": task_id})
        assert answer.status == status, answer.body
    assert release.task("pending").status == "stopped"
    assert release.task("running").stop_requested
    check_all(release)


def test_old_tasks_tell_which_answer_they_replace_and_continue_none(api: Api, release: Release) -> None:
    me, replacing = release.person("ada"), 0
    for task in (each for each in Task.scan() if each.user_id == me.id and each.chat_id):
        shown = api("tasks.get", "GET", f"/tasks/{task.id}", user=me, parameters={"id": task.id})
        if shown.status == 200:
            assert shown.json["replaces"] == task.replaces
            assert shown.json["continued"] is (None if task.replaces is None else False)
            replacing += task.replaces is not None
    assert replacing


def test_an_old_log_is_resumed(release: Release) -> None:
    task = release.task("thought")
    whole = stream_log.read_text(task.id)
    url = urlsplit(release.tokens["ada"]["streams"]["thought"])
    stream = parse(streamed(f"{url.path}?{url.query}&after=0").text)
    assert (stream.reasoning, stream.content) == (whole.reasoning, whole.content)
    assert stream.final["credits"] == task.credits


# --- what goes on


def test_old_chats_go_on(api: Api, release: Release) -> None:
    me = release.person("ada")
    for name in ("finished", "talk", "thought", "searched"):
        chat_id = release.chats[name]
        body = {"messages": [{"role": "user", "content": "/sim tokens=4 delay=0 and now?"}]}
        path = f"/chats/{chat_id}/messages"
        assert api("chats.append", "POST", path, json=body, user=me, parameters={"id": chat_id}).status == 200
        answer = api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id}, user=me)
        assert answer.status == 200, answer.body
        queued(answer.json["task_id"])
        assert Task.get(answer.json["task_id"], consistent_read=True).status == "finished"
    check_all(release)


def test_an_old_answer_is_made_again(api: Api, release: Release) -> None:
    me, task_id = release.person("ada"), release.tasks["talk_2"]
    answer = api("tasks.regenerate", "POST", f"/tasks/{task_id}/regenerate", user=me, parameters={"id": task_id})
    assert answer.status == 200, answer.body
    queued(answer.json["task_id"])
    again = Task.get(answer.json["task_id"], consistent_read=True)
    assert (again.status, again.replaces) == ("finished", release.task("talk_2").answer_n)
    check_all(release)


def test_old_presets_are_changed_and_their_versions_stay(api: Api, release: Release) -> None:
    me, preset_id = release.person("ada"), release.presets["plain"]
    pinned = Chat.get(release.chats["finished"], consistent_read=True).preset_version
    path, parameters = f"/presets/{preset_id}", {"id": preset_id}
    answer = api("presets.update", "PUT", path, json={"title": "New"}, user=me, parameters=parameters)
    assert (answer.status, answer.json["title"]) == (200, "New")
    assert Preset.get(preset_id, pinned, consistent_read=True).messages


def test_old_chats_are_counted_once_and_keep_the_versions_that_they_pin(
    api: Api, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, preset_id = release.person("ada"), release.presets["plain"]
    before = len(list(Chat.by_create_time.query(me.id)))
    body = {"preset_id": preset_id, "title": "New"}
    assert api("chats.create", "POST", "/chats", json=body, user=me).status == 200
    assert Record.get(*quota.key(me.id), consistent_read=True).uses == before + 1
    monkeypatch.setattr(settings, "MOST_CHATS", before + 1)
    assert api("chats.create", "POST", "/chats", json=body, user=me).json["code"] == "too_many_chats"
    chat_id = release.chats["finished"]
    assert api("chats.delete", "DELETE", f"/chats/{chat_id}", user=me, parameters={"id": chat_id}).status == 200
    assert api("chats.create", "POST", "/chats", json=body, user=me).status == 200
    pinned = {(chat.preset_id, int(chat.preset_version)) for chat in Chat.scan() if chat.owner_id}
    for pin in pinned:
        cleanup.remove_preset_version({"preset_id": pin[0], "version": str(pin[1]), "unpinned_since": "0"}, 0)
        assert Preset.get(*pin, consistent_read=True)


REDEEMED = {"fresh": None, "used-up": "code_already_redeemed", "revoked": "code_already_redeemed"}
REDEEMED |= {"expired": "code_expired", "batch-1": None, "batch-0": "code_already_redeemed"}


def test_old_codes_are_worth_what_they_were(api: Api, release: Release) -> None:
    release.ahead = 5
    for name, refusal in REDEEMED.items():
        body = {"redeem_code": release.codes[name]}
        answer = api("users.redeem", "POST", "/users/me/credits", json=body, user=release.person("ada"))
        assert answer.json.get("code") == refusal, answer.body
    check_all(release)


def test_the_jobs_that_waited_are_worked(release: Release) -> None:
    leaving = release.person("leaving").id
    for minutes in range(0, 90, 10):
        release.ahead = minutes * 60
        sweep()
        for record in list(Record.scan(Record.pk.startswith("jobs#"), consistent_read=True)):
            if record.sk < clock.timestamp():
                jobs.run(record.pk, record.sk, time.monotonic() + 60, WORKERS)
    assert not list(Record.scan(Record.pk.startswith("jobs#"), consistent_read=True))
    with pytest.raises(User.DoesNotExist):
        User.get(leaving, consistent_read=True)
    for name in ("deleted", "leaving"):
        with pytest.raises(Chat.DoesNotExist):
            Chat.get(release.chats[name], consistent_read=True)
    assert Chat.get(release.chats["replaced"], consistent_read=True).message_count == 2


def test_reconciliation_finds_no_drift_and_goes_on_from_the_old_checkpoints(release: Release) -> None:
    lines = len(previous.items("credits"))
    run = reconciliation.continue_run(120, begin=True)
    assert run
    assert not any(run.drifts.values()), run
    assert run.entries < lines
