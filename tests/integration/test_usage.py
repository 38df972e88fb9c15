"""GET /users/me/usage: its sums are those of the ledger, whatever is in it, and a page costs the same at any size."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.billing import credits, usage
from aideer.billing.credits import Closer, Text
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data import batch_write
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import CreditEntry, User
from aideer.schemas.questions import NewTask
from aideer.security import budgets, limits
from aideer.security.limits import Limit
from aideer.tasks import admission, leases
from local.simulators.wechat import Server as WeChat
from tests.previous import Release
from tests.support import Answer, Api, Person, caller, make_chat, make_person, recorded_calls

SUMS = ("answers", "titles", "input_tokens", "output_tokens", "credits")
START = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
Line = tuple[float, str, str, int, int, int]
"""The seconds after START, the kind, the model, the tokens and the credits."""


def see(api: Api, person: Person, query: str = "") -> Answer:
    return api("users.usage", "GET", f"/users/me/usage{query}", user=person)


def all_pages(api: Api, person: Person, query: str) -> list[dict[str, Any]]:
    """The days of all pages."""
    answer = see(api, person, f"?{query}")
    days = answer.json["days"]
    while cursor := answer.headers.get("x-next-cursor"):
        answer = see(api, person, f"?{query}&cursor={cursor}")
        assert answer.status == 200
        days += answer.json["days"]
    return days


def entry_id(seconds: float, n: int) -> str:
    """An id as it is made at this time."""
    digits = f"{int(seconds * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-{n:012x}"


def write(person: Person, lines: list[Line]) -> None:
    """Put lines into the ledger, as they were written when they were."""
    entries = []
    for n, (after, kind, model, tokens_in, tokens_out, amount) in enumerate(lines):
        entry = CreditEntry(
            person.id,
            entry_id(START + after, n),
            amount=-amount,
            kind=kind,
            description=model,
            create_time=clock.timestamp(START + after),
        )
        if kind not in ("grant", "redeem"):
            entry.model, entry.input_tokens, entry.output_tokens = model, tokens_in, tokens_out
        entries.append(entry.serialize())
    for start in range(0, len(entries), batch_write.SIZE):
        batch_write.write(CreditEntry, puts=entries[start : start + batch_write.SIZE])


def expect(lines: list[Line], utc_offset: int, first: date, last: date) -> dict[tuple[str, str], Counter[str]]:
    """The sums by day and model."""
    zone = timezone(timedelta(minutes=utc_offset))
    sums: dict[tuple[str, str], Counter[str]] = {}
    for after, kind, model, tokens_in, tokens_out, amount in lines:
        day = datetime.fromtimestamp(START + after, zone).date()
        if kind in ("grant", "redeem") or not first <= day <= last:
            continue
        title = kind == "title_generation"
        counts = Counter(
            answers=int(not title), titles=int(title), input_tokens=tokens_in, output_tokens=tokens_out, credits=amount
        )
        sums.setdefault((day.isoformat(), model), Counter()).update(counts)
    return sums


def parts(days: list[dict[str, Any]]) -> dict[tuple[str, str], Counter[str]]:
    """The sums by day and model, of all pages."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for day in days:
        for model in day["models"]:
            sums.setdefault((day["day"], model["model"]), Counter()).update({name: model[name] for name in SUMS})
        assert all(day[name] == sum(model[name] for model in day["models"]) for name in SUMS)
    return sums


def test_an_answer_and_a_title_count_as_they_were_charged(api: Api) -> None:
    me = make_person()
    chat = make_chat(me, "hello")
    wanted = NewTask(chat_id=chat.id, stream=False)
    accepted = admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
    task = leases.claim(accepted.task_id)
    assert task
    credits.settle(task, Closer.executor(task.executor), "finished", Text(content="x"), "stop", Usage(100, 7))
    [entry] = [entry for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id]
    today = clock.timestamp()[:10]
    sums = {"answers": 1, "titles": 0, "input_tokens": 100, "output_tokens": 7, "credits": -entry.amount}
    assert see(api, me).json == {
        "from": (date.fromisoformat(today) - timedelta(29)).isoformat(),
        "to": today,
        "utc_offset": 0,
        "days": [{"day": today, **sums, "models": [{"model": entry.model, **sums}]}],
    }


lines_of_a_ledger = st.lists(
    st.tuples(
        st.integers(0, 5 * 86400 - 1).map(float) | st.sampled_from([0.0, 86399.999999, 86400.0, 16 * 3600.0]),
        st.sampled_from(["chat_generation", "chat_generation", "title_generation", "grant", "redeem"]),
        st.sampled_from(["qwen-plus", "qwen-max"]),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.integers(0, 1_000_000),
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines_of_a_ledger, st.sampled_from([-720, -210, 0, 345, 480, 840]), st.integers(0, 4), st.integers(0, 4))
def test_the_sums_of_all_pages_always_equal_the_ledger(
    api: Api, lines: list[Line], utc_offset: int, begin: int, length: int
) -> None:
    me = make_person()
    write(me, lines)
    first = date(2026, 3, 1) + timedelta(begin - 1)
    last = first + timedelta(length)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(usage, "QUERIES", 2)
        patched.setattr(usage, "ENTRIES", 3)
        days = all_pages(api, me, f"from={first}&to={last}&utc_offset={utc_offset}")
    assert parts(days) == expect(lines, utc_offset, first, last)


def test_a_page_ends_between_two_days_and_the_newest_comes_first(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    me = make_person()
    write(me, [(day * 86400.0 + n, "chat_generation", "qwen-plus", 1, 1, 1) for day in range(5) for n in range(3)])
    monkeypatch.setattr(usage, "QUERIES", 2)
    monkeypatch.setattr(usage, "ENTRIES", 4)
    query = "from=2026-03-01&to=2026-03-05"
    first = see(api, me, f"?{query}")
    assert [(day["day"], day["answers"]) for day in first.json["days"]] == [("2026-03-05", 3), ("2026-03-04", 3)]
    assert 'rel="next"' in first.headers["link"]
    days = all_pages(api, me, query)
    assert [day["day"] for day in days] == [f"2026-03-0{n}" for n in (5, 4, 3, 2, 1)]


def test_a_day_that_fills_a_page_goes_on_in_the_next(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    me = make_person()
    write(me, [(float(n), "chat_generation", "qwen-plus", 1, 1, 1) for n in range(10)])
    monkeypatch.setattr(usage, "QUERIES", 1)
    monkeypatch.setattr(usage, "ENTRIES", 4)
    days = all_pages(api, me, "from=2026-03-01&to=2026-03-01")
    assert [day["answers"] for day in days] == [4, 3, 3]  # a query from a cursor begins with the last entry itself


@pytest.mark.parametrize("size", [30, 500])
def test_a_page_makes_the_same_calls_at_any_size(api: Api, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(usage, "ENTRIES", 5)
    me = make_person()
    write(me, [(n * 100.0, "chat_generation", "qwen-plus", 1, 1, 1) for n in range(size)])
    with recorded_calls() as calls:
        assert see(api, me, "?from=2026-03-01&to=2026-05-31").status == 200
    queries = usage.QUERIES
    assert calls == [f"GetItem {User.Meta.table_name}", *[f"Query {CreditEntry.Meta.table_name}"] * queries]


def test_nothing_of_other_users_or_other_days_counts(api: Api) -> None:
    me, other = make_person(), make_person()
    write(other, [(0.0, "chat_generation", "qwen-plus", 1, 1, 1)])
    write(me, [(0.0, "chat_generation", "qwen-plus", 1, 1, 1), (92 * 86400.0, "chat_generation", "qwen-plus", 1, 1, 1)])
    assert see(api, me, "?from=2026-03-02&to=2026-05-31").json["days"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("from=2026-03-02&to=2026-03-01", "invalid_range"),
        ("from=2026-03-01&to=2026-06-01", "invalid_range"),
        ("to=2026-02-30", "invalid_date"),
        ("to=0001-01-01", "invalid_date"),
        ("from=0000-01-01", "invalid_date"),
        ("from=yesterday", "validation_error"),
        ("utc_offset=841", "validation_error"),
        ("utc_offset=-721", "validation_error"),
        ("cursor=bm9uZQ", "invalid_cursor"),
        ("days=3", "validation_error"),
    ],
)
def test_a_range_that_is_none_is_refused(api: Api, query: str, code: str) -> None:
    answer = see(api, make_person(), f"?{query}")
    assert (answer.status, answer.json["code"]) == (422, code)


@pytest.mark.parametrize("query", ["from=0001-01-01&to=0001-01-02", "from=9999-12-31&to=9999-12-31"])
def test_days_without_a_ledger_are_empty(api: Api, query: str) -> None:
    for offset in (-720, 0, 840):
        answer = see(api, make_person(), f"?{query}&utc_offset={offset}")
        assert (answer.status, answer.json["days"]) == (200, [])


def test_92_days_are_allowed(api: Api) -> None:
    assert see(api, make_person(), "?from=2026-03-01&to=2026-05-31").status == 200


def test_what_is_read_counts_towards_the_reading_budget(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    me = make_person()
    write(me, [(float(n), "chat_generation", "qwen-plus", 1, 1, 1) for n in range(10)])
    monkeypatch.setattr(budgets, "BATCH", 1000)
    monkeypatch.setitem(limits.LIMITS, "read", Limit(3, 3600))
    answers = [see(api, me, "?from=2026-03-01&to=2026-03-01") for _ in range(3)]
    assert [answer.status for answer in answers][-1] == 429
    assert answers[-1].json["code"] == "too_much_reading"


def test_answers_of_the_previous_release_are_in_the_sums(
    api: Api, monkeypatch: pytest.MonkeyPatch, weixin: WeChat
) -> None:
    release = Release(monkeypatch, weixin)
    seen = 0
    for name in release.users:
        me = release.person(name)
        spent = [e for e in CreditEntry.query(me.id, consistent_read=True) if e.model]
        days = all_pages(api, me, "utc_offset=480") if spent else []
        sums = sum(parts(days).values(), Counter())
        assert sums["credits"] == -sum(entry.amount for entry in spent)
        assert sums["answers"] + sums["titles"] == len(spent)
        seen += len(spent)
    assert seen
