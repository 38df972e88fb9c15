"""API keys: shown once, limited exactly, and gone with their user."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aideer.accounts import api_keys, deletion
from aideer.billing import credits, key_room
from aideer.billing.credits import Closer, Text
from aideer.core import clock, settings
from aideer.core.errors import InvalidToken
from aideer.core.usage import Usage
from aideer.data.models import AuditRecord, CreditEntry, Record, Task, User
from aideer.data.transactions import Refused
from aideer.security import api_keys as stored_keys
from aideer.security import auth, limits
from aideer.security.limits import LIMITS, Limit
from aideer.tasks import sweeper
from tests.api_keys import complete, find_room, holder, make_key
from tests.faults import answer_lost
from tests.support import Answer, Api, Person, check_rules

MakePerson = Callable[..., Person]


def create(api: Api, me: Person, **body: Any) -> Answer:
    return api("users.create_key", "POST", "/users/me/keys", json={"name": "Laptop", **body}, user=me)


def list_keys(api: Api, me: Person, of: str = "me") -> Answer:
    return api("users.keys", "GET", f"/users/{of}/keys", user=me, parameters={"id": of})


def change(api: Api, me: Person, key_id: str, **body: Any) -> Answer:
    parameters = {"key_id": key_id}
    return api("users.update_key", "PUT", f"/users/me/keys/{key_id}", json=body, user=me, parameters=parameters)


def revoke(api: Api, me: Person, key_id: str, of: str = "me") -> Answer:
    parameters = {"id": of, "key_id": key_id}
    return api("users.delete_key", "DELETE", f"/users/{of}/keys/{key_id}", user=me, parameters=parameters)


def finish(task: Task, output: int = 5) -> Task:
    closer = Closer.executor(task.executor)
    return credits.settle(task, closer, "finished", Text(content="Deer"), "stop", Usage(20, output))


# --- making


def test_a_key_is_shown_once_and_only_its_digest_is_stored(
    api: Api, person: MakePerson, caplog: pytest.LogCaptureFixture
) -> None:
    me = person()
    with caplog.at_level(logging.DEBUG, logger="aideer"):
        made = create(api, me, credit_limit=500, models=["qwen-plus", "qwen-plus"]).json
    key = made.pop("key")
    assert key.startswith("sk-")
    assert len(key) == 51
    assert list_keys(api, me).json == [made]
    assert made["hint"] == key[-4:]
    assert (made["credit_limit"], made["credits_used"], made["models"]) == (500, 0, ["qwen-plus"])
    stored = [*Record.query(f"api_key#{stored_keys.digest(key)}"), *Record.query(f"api_keys#{me.id}")]
    assert key not in json.dumps([record.to_dynamodb_dict() for record in stored])
    assert key not in caplog.text


def test_making_a_key_needs_a_fresh_sign_in_or_the_password(api: Api, person: MakePerson) -> None:
    me = person()
    user = holder(me)
    stale = auth.issue_pair(user, "password", auth_time=int(clock.now()) - 660, session_id=user.session_id)
    me.token = stale["access_token"]
    assert (create(api, me).status, create(api, me).json["code"]) == (403, "fresh_sign_in_required")
    assert create(api, me, current_password="wrong-password").status == 403
    assert create(api, me, current_password=me.password).status == 200


def test_a_user_has_at_most_fifty_keys(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST", 2)
    me = person()
    first = create(api, me).json["id"]
    assert create(api, me).status == 200
    refused = create(api, me)
    assert (refused.status, refused.json["code"]) == (409, "too_many_keys")
    assert len(list_keys(api, me).json) == 2
    revoke(api, me, first)
    assert create(api, me).status == 200


def test_keys_are_made_so_often_an_hour(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: limits.Kind = "key"
    monkeypatch.setitem(LIMITS, kind, Limit(1, 3600))
    me = person()
    assert [create(api, me).status for _ in range(2)] == [200, 429]


def test_a_key_is_made_once_if_the_answer_is_lost(api: Api, person: MakePerson) -> None:
    me = person()
    with answer_lost("TransactWriteItems"):
        made = create(api, me)
    assert made.status == 200
    assert [each.id for each in api_keys.list_all(me.user, me.id)] == [made.json["id"]]


def test_a_key_with_an_expiry_in_the_past_is_refused(api: Api, person: MakePerson) -> None:
    me = person()
    made = create(api, me, expires_at="2020-01-01")
    assert (made.status, made.json["code"]) == (422, "expires_in_the_past")
    key_id = create(api, me, expires_at="2099-01-01").json["id"]
    assert change(api, me, key_id, expires_at="2020-01-01").status == 422


def test_no_key_is_made_by_a_session_that_ends_meanwhile(person: MakePerson) -> None:
    me = person()
    user = holder(me)
    User(me.id).update(auth.end_sessions())
    with pytest.raises(InvalidToken):
        api_keys.create(user, api_keys.NewApiKey(name="Laptop"))
    assert api_keys.list_all(me.user, me.id) == []


# --- finding


def test_a_key_is_found_by_one_read(person: MakePerson, counted: list[str]) -> None:
    me = person()
    made = make_key(me, models=["qwen-plus", "preset-7"])
    counted.clear()
    found = stored_keys.find(made.key)
    assert counted == [f"GetItem {settings.RECORDS_TABLE}"]
    assert (found.id, found.user_id) == (made.id, me.id)
    assert [found.allows(model) for model in ("qwen-plus", "preset-7", "qwen-max")] == [True, True, False]


@pytest.mark.parametrize("key", ["", "sk-", "sk-" + "0" * 48, "鹿" * 1000])
def test_a_key_that_nobody_has_is_refused(key: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        stored_keys.find(key)
    assert refused.value.code == "invalid_api_key"


def test_a_paused_key_is_refused_until_it_goes_on(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me)
    assert change(api, me, made.id, disabled=True).json["disabled"] is True
    with pytest.raises(InvalidToken, match="paused"):
        stored_keys.find(made.key)
    assert change(api, me, made.id, disabled=False).json["disabled"] is False
    assert stored_keys.find(made.key).id == made.id


def test_an_expired_key_is_refused(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_key(person(), expires_at="2099-01-01")
    later = clock.parse("2099-01-02T00:00:00Z")
    monkeypatch.setattr(clock, "now", lambda: later)
    with pytest.raises(InvalidToken, match="expired"):
        stored_keys.find(made.key)


# --- changing


def test_a_change_leaves_what_it_does_not_name_and_null_removes(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me, credit_limit=100, models=["qwen-plus"], expires_at="2099-01-01")
    renamed = change(api, me, made.id, name="Phone").json
    assert renamed == {**made.model_dump(exclude={"key"}), "name": "Phone"}
    cleared = change(api, me, made.id, credit_limit=None, models=None, expires_at=None).json
    assert (cleared["credit_limit"], cleared["models"], cleared["expires_at"]) == (None, None, None)
    assert change(api, me, made.id).status == 422
    assert list_keys(api, me).json == [cleared]


def test_a_key_of_another_user_cannot_be_changed_or_revoked(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    made = make_key(me)
    assert (change(api, other, made.id, name="Mine").status, revoke(api, other, made.id).status) == (404, 404)
    assert (list_keys(api, other, me.id).status, revoke(api, other, made.id, me.id).status) == (403, 403)
    assert [each["name"] for each in list_keys(api, me).json] == ["Laptop"]


def test_two_changes_at_once_both_count(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me, credit_limit=100)
    with ThreadPoolExecutor(4) as threads:
        changes = [{"name": "Phone"}, {"credit_limit": 300}, {"disabled": True}, {"models": ["qwen-max"]}]
        wanted = [api_keys.ApiKeyChange.model_validate(each) for each in changes]
        list(threads.map(lambda each: api_keys.change(me.user, made.id, each), wanted))
    [now] = list_keys(api, me).json
    assert (now["name"], now["credit_limit"], now["disabled"], now["models"]) == ("Phone", 300, True, ["qwen-max"])
    assert find_room(stored_keys.digest(made.key)) == 300


# --- administrators


def test_administrators_list_and_revoke_and_leave_a_trail(api: Api, person: MakePerson) -> None:
    me, admin = person(), person(permission=2)
    made = make_key(me)
    assert [each["id"] for each in list_keys(api, admin, me.id).json] == [made.id]
    assert revoke(api, admin, made.id, me.id).status == 200
    assert list_keys(api, me).json == []
    with pytest.raises(InvalidToken):
        stored_keys.find(made.key)
    trail = [(each.action, each.about) for each in AuditRecord.by_user.query(me.id)]
    assert trail == [("key.list", None), ("key.revoke", made.id)]
    assert (revoke(api, admin, made.id, me.id).status, list_keys(api, admin, "nobody").status) == (404, 404)


# --- the limit


def test_a_hold_takes_room_and_each_close_returns_what_was_not_spent(person: MakePerson) -> None:
    me = person()
    made = make_key(me, credit_limit=1000)
    key = stored_keys.find(made.key)
    finished, failed, swept = (complete(key, 300) for _ in range(3))
    assert find_room(key.hash) == 100
    cost = int(finish(finished).credits)
    credits.release(failed, Closer.executor(failed.executor), "upstream_error", Text(content="De"))
    Task(swept.id).update([Task.lease_until.set(clock.now() - 1)])
    assert sweeper.interrupt(Task.get(swept.id)).status == "failed"
    assert 0 < cost < 300
    assert find_room(key.hash) == 1000 - cost
    [shown] = api_keys.list_all(me.user, me.id)
    assert (shown.credits_used, shown.last_used_time is None) == (cost, False)
    check_rules(me)


def test_the_ledger_names_the_key(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me)
    finish(complete(stored_keys.find(made.key), 300))
    lines = api("users.credits", "GET", "/users/me/credits", user=me).json["credit_records"]
    assert [(line["kind"], line.get("key_id")) for line in lines] == [("api", made.id), ("signup", None)]


def test_a_key_never_holds_more_than_its_limit_however_many_calls_come_at_once(person: MakePerson) -> None:
    me = person()
    key = stored_keys.find(make_key(me, credit_limit=1000).key)

    def attempt(_: int) -> str | None:
        try:
            complete(key, 300)
        except Refused as refused:
            return ", ".join(refused.steps)
        return None

    with ThreadPoolExecutor(8) as threads:
        assert Counter(threads.map(attempt, range(12))) == {None: 3, key_room.STEP: 9}
    assert find_room(key.hash) == 100
    assert len(me.user.holds.attribute_values) == 3
    check_rules(me)


def test_a_limit_that_comes_later_counts_what_was_spent_before(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me)
    spent = int(finish(complete(stored_keys.find(made.key), 300)).credits)
    running = complete(stored_keys.find(made.key), 300)
    assert change(api, me, made.id, credit_limit=spent + 300).json["credits_used"] == spent + 300
    with pytest.raises(Refused):
        complete(stored_keys.find(made.key), 1)
    finish(running)
    complete(stored_keys.find(made.key), 1)


def test_a_lowered_limit_lets_answers_end_and_begins_no_other(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me, credit_limit=1000)
    running = complete(stored_keys.find(made.key), 500)
    change(api, me, made.id, credit_limit=1)
    cost = int(finish(running).credits)
    assert find_room(stored_keys.digest(made.key)) == 1 - cost
    with pytest.raises(Refused):
        complete(stored_keys.find(made.key), 1)


@pytest.mark.parametrize("what", ["disabled", "models", "revoked"])
def test_a_hold_sees_a_change_that_came_after_the_key_was_read(api: Api, person: MakePerson, what: str) -> None:
    me = person()
    made = make_key(me)
    key = stored_keys.find(made.key)
    if what == "revoked":
        revoke(api, me, made.id)
    else:
        change(api, me, made.id, **{what: True if what == "disabled" else ["qwen-max"]})
    with pytest.raises(Refused) as refused:
        complete(key, 10)
    assert refused.value.steps == {key_room.STEP}
    check_rules(me)


def test_an_answer_whose_key_was_revoked_is_billed_and_returns_its_room(api: Api, person: MakePerson) -> None:
    me = person()
    made = make_key(me, credit_limit=1000)
    running = complete(stored_keys.find(made.key), 300)
    revoke(api, me, made.id)
    ended = finish(running)
    assert (ended.status, find_room(stored_keys.digest(made.key))) == ("finished", 1000 - int(ended.credits))
    check_rules(me)


def test_an_answer_whose_key_is_gone_is_billed_all_the_same(person: MakePerson) -> None:
    me = person()
    made = make_key(me)
    running = complete(stored_keys.find(made.key), 300)
    Record(*stored_keys.record_key(stored_keys.digest(made.key))).delete()
    assert finish(running).status == "finished"
    assert find_room(stored_keys.digest(made.key)) is None
    [line] = [each for each in CreditEntry.query(me.id) if each.task_id == running.id]
    assert line.key_id == made.id
    check_rules(me)


def test_keys_leave_one_open_task_to_their_user(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OPEN_TASKS", 5)
    me = person()
    key = stored_keys.find(make_key(me).key)
    tasks = [complete(key, 10) for _ in range(4)]
    with pytest.raises(Refused) as refused:
        complete(key, 10)
    assert refused.value.steps == {"user"}
    finish(tasks[0])
    complete(key, 10)


def test_a_hold_and_a_close_by_a_key_are_one_transaction_each(person: MakePerson, counted: list[str]) -> None:
    key = stored_keys.find(make_key(person()).key)
    counted.clear()
    task = complete(key, 10)
    assert counted == ["TransactWriteItems"]
    finish(task)
    assert counted == ["TransactWriteItems", "TransactWriteItems", f"GetItem {settings.TASKS_TABLE}"]


# --- the end of the user


def test_keys_end_with_their_user(person: MakePerson) -> None:
    me = person()
    made = make_key(me)
    key = stored_keys.find(made.key)
    running = complete(key, 300)
    deletion.delete(me.user, me.id)
    with pytest.raises(Refused, match="user"):
        complete(key, 10)
    assert not deletion.remove(me.id, time.monotonic() + 60)  # the answer goes on
    assert finish(running).status == "finished"
    assert deletion.remove(me.id, time.monotonic() + 60)
    assert find_room(key.hash) is None
    assert list(Record.query(f"api_keys#{me.id}")) == []
