"""What administrators see by day and by model, and that it is what happened."""

import importlib
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from aideer.accounts import sessions
from aideer.billing import counters, credits, days, statistics
from aideer.billing.credits import Closer, Text
from aideer.chats import feedback
from aideer.core import clock, settings
from aideer.core.usage import Usage
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Message, Record, Task
from aideer.schemas.feedback import FeedbackChange
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, leases
from tests import faults
from tests.support import Context, caller, make_chat, make_person

TASKS = ("tasks", "failed", "input_tokens", "output_tokens", "credits", "rated_up", "rated_down")
EMPTY = {**dict.fromkeys(TASKS, 0), "first_token": {}}


@pytest.fixture
def on(monkeypatch):
    """on("2030-01-31"): it is this day from now on. Days are in the future, where no other test counts anything."""
    taken = iter(range(100_000))

    def set_day(day, time="12:00:00"):
        moment = datetime.fromisoformat(f"{day}T{time}+00:00").timestamp()
        monkeypatch.setattr(clock, "now", lambda: moment + next(taken) / 1e6)

    return set_day


@pytest.fixture
def admin(on):
    on("2031-01-01")
    return make_person(2)


def stats(api, admin, query=""):
    """As it is seen by a token that is good on that day."""
    tokens = sessions.auth.issue_pair(admin.user, "password")
    return api("admin.stats", "GET", f"/admin/stats{query}", token=tokens["access_token"])


def ended(person, output, model="qwen-plus", end="finished", first_token_ms=None):
    """A task that came to this. `first_token_ms` is set if a viewer waited for its first token."""
    chat = make_chat(person, "hello", parameters={"model": model})
    wanted = NewTask(chat_id=chat.id, stream=False)
    accepted = admission.create(caller(person.user), wanted, IdempotentRequest(person.id, "POST /tasks", None, wanted))
    task = leases.claim(accepted.task_id)
    task.first_token_ms = first_token_ms
    closer = Closer.executor(task.executor)
    if end == "failed":
        return credits.release(task, closer, "upstream_error", Text())
    return credits.settle(task, closer, end, Text(content="x"), "stop", Usage(100, output))


def test_days_and_models_are_summed_up(api, admin, on):
    on("2031-03-01")
    me = make_person()
    first = ended(me, 10)
    on("2031-03-02", "00:00:00")
    second = ended(me, 20, end="stopped")
    third = ended(me, 30, model="qwen-max")
    on("2031-03-02", "23:59:59")
    ended(me, 0, end="failed")
    make_person()
    on("2031-03-04")
    answer = stats(api, admin, "?from=2031-03-01&to=2031-03-03")
    assert answer.status == 200
    told = answer.json
    total = told["users"].pop("total")
    assert total >= 2
    assert told["users"] == {"signed_up": 2, "deleted": 0}
    plus = {"tasks": 2, "failed": 1, "input_tokens": 200, "output_tokens": 30, "rated_up": 0, "rated_down": 0}
    plus["first_token"] = {}
    plus["credits"] = first.credits + second.credits
    most = {
        "tasks": 1,
        "failed": 0,
        "input_tokens": 100,
        "output_tokens": 30,
        "credits": third.credits,
        "rated_up": 0,
        "rated_down": 0,
        "first_token": {},
    }
    assert told["models"] == [{"model": "qwen-max", **most}, {"model": "qwen-plus", **plus}]
    assert {name: told[name] for name in TASKS} == {name: plus[name] + most[name] for name in TASKS}
    assert (told["from"], told["to"]) == ("2031-03-01", "2031-03-03")
    one, two, three = told["days"]
    assert (one["day"], one["tasks"], one["output_tokens"], one["signed_up"]) == ("2031-03-01", 1, 10, 1)
    assert (two["day"], two["tasks"], two["failed"], two["signed_up"]) == ("2031-03-02", 2, 1, 1)
    assert [(model["model"], model["tasks"]) for model in two["models"]] == [("qwen-max", 1), ("qwen-plus", 1)]
    assert three == {"day": "2031-03-03", "signed_up": 0, "deleted": 0, **EMPTY, "uncovered": {}, "models": []}


def test_times_to_the_first_token_are_counted_by_day_and_model(api, admin, on):
    on("2031-03-11")
    me = make_person()
    for milliseconds in (0, 250, 250.1, 16_000, 16_001, 90_000):
        ended(me, 1, first_token_ms=milliseconds)
    ended(me, 1, model="qwen-max", end="failed", first_token_ms=700)
    ended(me, 1)  # nobody waited for it
    on("2031-03-12")
    ended(me, 1, first_token_ms=1_500)
    before = stats(api, admin, "?from=2031-03-11&to=2031-03-12").json
    on("2031-03-13", "02:00:00")
    statistics.sum_finished_days()  # from here on, the sums of the days answer
    on("2031-03-13")
    told = stats(api, admin, "?from=2031-03-11&to=2031-03-12").json
    assert {**told, "users": before["users"]} == before
    of_plus = {"250": 2, "500": 1, "16000": 1, "more": 2}
    assert told["first_token"] == {**of_plus, "1000": 1, "2000": 1}
    assert [day["first_token"] for day in told["days"]] == [{**of_plus, "1000": 1}, {"2000": 1}]
    assert [(model["model"], model["first_token"]) for model in told["days"][0]["models"]] == [
        ("qwen-max", {"1000": 1}),
        ("qwen-plus", of_plus),
    ]


def test_it_is_what_the_ledger_says(api, admin, on):
    on("2031-04-01")
    me = make_person()
    for output in range(20):
        ended(me, output)
    told = stats(api, admin, "?from=2031-04-01&to=2031-04-01").json
    assert told["credits"] == 1_000_000 - me.user.credits
    assert told["tasks"] == 20
    assert told["output_tokens"] == sum(range(20))


def test_users_who_go_are_counted_once(api, admin, on):
    on("2031-05-01")
    me, other = make_person(), make_person()
    before = stats(api, admin, "?from=2031-05-01&to=2031-05-01").json["users"]
    api(
        "users.delete", "DELETE", f"/users/{me.id}", token=sessions.auth.issue_pair(me.user, "password")["access_token"]
    )
    api("users.delete", "DELETE", f"/users/{me.id}", user=admin)
    after = stats(api, admin, "?from=2031-05-01&to=2031-05-01").json["users"]
    assert before == {"total": before["total"], "signed_up": 2, "deleted": 0}
    assert after == {"total": before["total"] - 1, "signed_up": 2, "deleted": 1}
    assert other.user.deleted is None


def test_a_name_that_is_taken_counts_nobody(api, admin, on):
    on("2031-05-11")
    me = make_person()
    body = {"username": me.username, "password": "secret-123"}
    assert api("users.create", "POST", "/users", json=body).status == 400
    assert stats(api, admin, "?from=2031-05-11").json["users"]["signed_up"] == 1


@pytest.mark.parametrize(
    ("day", "fault"),
    [
        ("2031-06-01", lambda: faults.refused("TransactWriteItems", faults.CONFLICT, times=3)),
        ("2031-06-02", lambda: faults.refused("TransactWriteItems", faults.INTERNAL, status=500)),
        ("2031-06-03", lambda: faults.answer_lost("TransactWriteItems", times=2)),
    ],
    ids=["conflict", "internal error", "lost answers"],
)
def test_what_is_tried_again_counts_once(api, admin, on, day, fault):
    on(day)
    with fault():
        me = make_person()
    with fault():
        chat = make_chat(me, "hello")
        wanted = NewTask(chat_id=chat.id, stream=False)
        accepted = admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
    task = leases.claim(accepted.task_id)
    with fault():
        credits.settle(task, Closer.executor(task.executor), "finished", Text(content="x"), "stop", Usage(5, 5))
    told = stats(api, admin, f"?from={day}&to={day}").json
    assert (told["users"]["signed_up"], told["tasks"], told["input_tokens"]) == (1, 1, 5)


def test_one_end_of_many_counts_once(api, admin, on):
    on("2031-07-01")
    me = make_person()
    task = ended(me, 10)
    for closer in (Closer.executor(task.executor), Closer.stop()):
        credits.release(task, closer, "upstream_error", Text())
        credits.settle(task, closer, "stopped", Text(), "stopped", Usage(100, 10))
    told = stats(api, admin, "?from=2031-07-01&to=2031-07-01").json
    assert (told["tasks"], told["failed"]) == (1, 0)
    assert Task.get(task.id, consistent_read=True).status == "finished"


def test_without_days_it_is_the_thirty_until_today(api, admin, on):
    on("2031-08-15", "23:59:59")
    told = stats(api, admin).json
    assert (told["from"], told["to"], len(told["days"])) == ("2031-07-17", "2031-08-15", 30)
    assert stats(api, admin, "?to=2031-08-10").json["from"] == "2031-07-12"
    assert stats(api, admin, "?from=2031-08-14").json["to"] == "2031-08-15"


def test_ninety_two_days_are_the_most(api, admin):
    last = date(2031, 1, 1) + timedelta(91)
    assert len(stats(api, admin, f"?from=2031-01-01&to={last}").json["days"]) == 92
    answer = stats(api, admin, f"?from=2031-01-01&to={last + timedelta(1)}")
    assert (answer.status, answer.json["code"]) == (422, "invalid_range")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("from=2031-01-02&to=2031-01-01", "invalid_range"),
        ("from=2031-02-30", "invalid_date"),
        ("to=2031-13-01", "invalid_date"),
        ("to=0000-01-01", "invalid_date"),
        ("to=0001-01-05", "invalid_date"),
        ("from=1990-01-01", "invalid_range"),
        ("from=yesterday", "validation_error"),
        ("from=20310101", "validation_error"),
        ("from=", "validation_error"),
        ("to=2031-01-01T00:00:00Z", "validation_error"),
        ("to=२०३१-०१-०१", "validation_error"),
    ],
)
def test_days_that_cannot_be_are_refused(api, admin, query, code):
    answer = stats(api, admin, f"?{query}")
    assert (answer.status, answer.json["code"]) == (422, code)


@pytest.mark.parametrize("permission", [0, 1])
def test_only_administrators_look(api, person, permission):
    assert api("admin.stats", "GET", "/admin/stats", user=person(permission=permission)).status == 403
    assert api("admin.stats", "GET", "/admin/stats").status == 401


def test_a_look_costs_one_query_for_all_finished_days_and_ten_for_each_other(api, admin, on, counted):
    on("2031-09-01")
    me = make_person()
    for _ in range(5):
        ended(me, 5)
    on("2031-10-02")
    statistics.sum_finished_days()
    for first, last, open_days in (
        ("2031-09-01", "2031-09-30", 0),
        ("2031-09-01", "2031-10-02", 1),
        ("2031-10-02", "2031-10-02", 1),
    ):
        token = sessions.auth.issue_pair(admin.user, "password")["access_token"]
        counted.clear()
        assert api("admin.stats", "GET", f"/admin/stats?from={first}&to={last}", token=token).status == 200
        expected = [f"GetItem {settings.USERS_TABLE}"] + [f"Query {settings.RECORDS_TABLE}"] * (2 + 10 * open_days)
        assert Counter(counted) == Counter(expected), "the sums, and the total"


def old_counters(day, **counts):
    """Items as release 0.1 stored them: 16 to a counter, under one key."""
    for shard in range(16):
        Record(f"statistics#{day}", f"model#qwen-old#{shard:02}", tasks=1, credits=2, **counts).save()
        Record(f"statistics#{day}", f"users#{shard:02}", users=1).save()
        Record(f"statistics#{day}", f"uncovered#interrupted#{shard:02}", uncovered=3).save()


def test_a_finished_days_sum_is_what_its_counters_say_in_both_formats(api, admin, on):
    on("2031-11-05")
    old_counters("2031-11-05", failed=1)
    me = make_person()
    for model in ("qwen-plus", "qwen-max"):
        ended(me, 7, model)
    ended(me, 7, end="failed")
    query = "?from=2031-11-05&to=2031-11-05"
    before = stats(api, admin, query).json
    assert before["tasks"] == 16 + 2
    assert before["uncovered"]["interrupted"] == 48
    assert before["users"]["signed_up"] == 16 + 1
    on("2031-11-06", "02:00:00")
    for _ in range(2):  # again, as after a crash
        assert statistics.sum_finished_days() >= 1
        assert stats(api, admin, query).json == before | {"users": before["users"]}


def test_a_day_is_added_up_an_hour_after_its_end_and_what_comes_late_is_found(api, admin, on):
    on("2031-12-01")
    me = make_person()
    ended(me, 5)
    on("2031-12-02", "00:59:59")
    statistics.sum_finished_days()
    assert "2031-12-01" not in statistics._stored_sums("2031-12-01", "2031-12-01"), (
        "its last transactions may still count"
    )
    on("2031-12-02", "01:00:01")
    statistics.sum_finished_days()
    Record("statistics#2031-12-01#3", "model#qwen-plus#03", tasks=1).save()
    assert stats(api, admin, "?from=2031-12-01&to=2031-12-01").json["tasks"] == 1
    statistics.sum_finished_days()
    assert stats(api, admin, "?from=2031-12-01&to=2031-12-01").json["tasks"] == 2


def test_the_scheduled_function_adds_them_up(api, admin, on):
    on("2032-02-01")
    me = make_person()
    ended(me, 5)
    on("2032-02-02", "02:00:00")
    handler = importlib.import_module("operations.sum_days").handler
    assert handler({}, Context())["days"] >= 1
    assert statistics._stored_sums("2032-02-01", "2032-02-01")
    assert stats(api, admin, "?from=2032-02-01&to=2032-02-01").json["tasks"] == 1


def test_after_a_pause_every_missed_day_is_added_up_and_then_only_the_last(on):
    on("2032-06-01", "02:00:00")
    assert statistics.sum_finished_days() == days.MOST_DAYS
    on("2032-06-01", "03:00:00")
    assert statistics.sum_finished_days() == 1
    on("2032-06-04", "02:00:00")
    assert statistics.sum_finished_days() == 3


def test_many_counts_at_once_are_spread_over_64_items_of_eight_keys(monkeypatch):
    drawn = iter(range(64))
    monkeypatch.setattr(counters.secrets, "randbelow", lambda _: next(drawn))
    items = {(item.pk, item.sk) for item in (counters._item("2032-01-01", "model#qwen-plus") for _ in range(64))}
    assert len(items) == 64
    assert len({pk for pk, _ in items}) == 8
    assert {pk for pk, _ in items} <= set(counters.day_keys("2032-01-01"))


def test_what_is_counted_costs_no_call_of_its_own(person, counted):
    me = person()
    counted.clear()
    make_person()
    assert counted.count("TransactWriteItems") == 1
    assert not [call for call in counted if call.startswith("UpdateItem")]
    counted.clear()
    ended(me, 5, end="failed")
    assert f"UpdateItem {settings.RECORDS_TABLE}" not in counted


def test_days_are_utc(admin, on):
    on("2031-10-01", "23:59:59")
    assert datetime.fromtimestamp(clock.now(), UTC).date() == date(2031, 10, 1)
    ended(make_person(), 5)
    assert [item for key in counters.day_keys("2031-10-01") for item in Record.query(key)]


def rated(person, chat, rating):
    """The chat's first message, as an answer that its owner has rated so."""
    Message(chat.thread, 1).update([Message.role.set("assistant"), Message.model.set("qwen-plus")])
    feedback.change(person.user, chat.id, 1, FeedbackChange(rating=rating))


def test_ratings_are_counted_by_day_model_and_preset_and_move_on_the_day_of_the_change(api, admin, on):
    on("2034-03-01")
    me = make_person()
    first, second = make_chat(me, "a"), make_chat(me, "b")
    rated(me, first, "up")
    rated(me, second, "down")
    on("2034-03-02")
    rated(me, first, "down")
    on("2034-03-04")
    query = "?from=2034-03-01&to=2034-03-03"
    told = stats(api, admin, query).json
    by_day = [(day["rated_up"], day["rated_down"]) for day in told["days"]]
    assert by_day == [(1, 1), (-1, 1), (0, 0)]
    assert (told["rated_up"], told["rated_down"]) == (0, 2)
    assert [(m["model"], m["rated_up"], m["rated_down"]) for m in told["models"]] == [("qwen-plus", 0, 2)]
    assert {p["preset_id"]: (p["rated_up"], p["rated_down"]) for p in told["presets"]} == {
        first.preset_id: (0, 1),
        second.preset_id: (0, 1),
    }
    statistics.sum_finished_days()
    assert "2034-03-02" in statistics._stored_sums("2034-03-01", "2034-03-03")
    again = stats(api, admin, query).json
    assert again | {"presets": sorted(again["presets"], key=str)} == told | {
        "presets": sorted(told["presets"], key=str),
        "users": again["users"],
    }


def test_a_sum_of_an_earlier_release_has_no_ratings(api, admin, on):
    on("2034-04-02")
    models = {"qwen-plus": {"tasks": 2, "failed": 0, "input_tokens": 1, "output_tokens": 1, "credits": 1}}
    Record("statistics#sums", "2034-04-01", data={"models": models, "users": {}, "uncovered": {}}).save()
    told = stats(api, admin, "?from=2034-04-01&to=2034-04-01").json
    assert (told["tasks"], told["rated_up"], told["rated_down"], told["presets"]) == (2, 0, 0, [])


def test_the_presets_of_a_day_and_of_a_response_are_bounded_to_those_with_the_most_ratings(monkeypatch):
    counts = {statistics._RATED: Counter({f"p{n} rated_up": n for n in range(9)} | {"p3 rated_down": -20})}
    monkeypatch.setattr(statistics, "_STORED_PRESETS", 2)
    monkeypatch.setattr(statistics, "_PRESETS", 1)
    stored = statistics._to_data(counts)["presets"]
    assert stored == {"p3 rated_up": 3, "p3 rated_down": -20, "p8 rated_up": 8, "p8 rated_down": 0}
    assert [(p.preset_id, p.rated_up, p.rated_down) for p in statistics._presets(counts)] == [("p3", 3, -20)]
