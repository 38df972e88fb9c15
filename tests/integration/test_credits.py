"""The credit rules I1 to I5, under many hands and on a bad day."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.billing import credits, pricing, topups
from aideer.billing.credits import Closer, Text
from aideer.core import clock
from aideer.core.errors import Busy, Unprocessable
from aideer.core.usage import Usage
from aideer.data import transactions
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, Message, Task
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, leases
from tests.faults import CONFLICT, INTERNAL, THROTTLED, answer_lost, refused
from tests.pauses import clock_with
from tests.support import Api, Person, caller, check_rules, make_chat

MakePerson = Callable[..., Person]
FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "conflict": lambda: refused("TransactWriteItems", CONFLICT, times=3),
    "throttled": lambda: refused("TransactWriteItems", THROTTLED, times=5),
    "internal error": lambda: refused("TransactWriteItems", INTERNAL, 500, times=5),
    "answer lost": lambda: answer_lost("TransactWriteItems"),
    "answer lost, then conflict": lambda: answer_lost("TransactWriteItems", times=2),
}


def accept(person: Person, key: str | None = None) -> Task:
    wanted = NewTask(chat_id=make_chat(person, "hello").id)
    answer = admission.create(caller(person.user), wanted, IdempotentRequest(person.id, "POST /tasks", key, wanted))
    return Task.get(answer.task_id, consistent_read=True)


def claimed(person: Person) -> Task:
    task = leases.claim(accept(person).id)
    assert task
    return task


def code(max_uses: int = 1, value: int = 100) -> str:
    text = f"TEST-{uuid4().hex[:12].upper()}"
    Code(text, value=value, max_uses=max_uses, create_time=clock.timestamp()).save()
    return text


def redeem(person: Person, text: str) -> str:
    wanted = NewTask(chat_id="unused")
    try:
        topups.redeem(person.user, text, IdempotentRequest(person.id, "redeem", None, wanted))
    except Unprocessable as error:
        return error.code
    return "redeemed"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between two tries are not what is tested here."""
    monkeypatch.setattr(transactions, "time", clock_with())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_task_is_accepted_once_whatever_happens_to_the_call(person: MakePerson, fault: str) -> None:
    me = person()
    with FAULTS[fault]():
        task = accept(me, key="once")
    assert task.status == "pending"
    check_rules(me)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_is_billed_once_whatever_happens_to_the_call(person: MakePerson, fault: str) -> None:
    me = person()
    before = me.user.credits
    task = claimed(me)
    closer = Closer.executor(task.executor)
    with FAULTS[fault]():
        end = credits.settle(task, closer, "finished", Text(content="hi"), "stop", Usage(1000, 1000))
    assert (end.status, end.closed_by) == ("finished", closer.by)
    assert me.user.credits == before - end.credits == before - 28
    assert Message.get(task.thread, task.answer_n).content == "hi"
    check_rules(me)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_answer_is_released_once_whatever_happens_to_the_call(person: MakePerson, fault: str) -> None:
    me = person()
    before = me.user.credits
    task = claimed(me)
    with FAULTS[fault]():
        end = credits.release(task, Closer.executor(task.executor), "upstream_error", Text(content="hal"))
    assert end.status == "failed"
    assert me.user.credits == before
    check_rules(me)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_code_is_redeemed_once_whatever_happens_to_the_call(person: MakePerson, fault: str) -> None:
    me = person(credits=0)
    text = code()
    with FAULTS[fault]():
        assert redeem(me, text) == "redeemed"
    assert me.user.credits == 100
    assert Code.get(text).used == 1
    check_rules(me)


def test_where_dynamodb_never_answers_nothing_is_said_to_have_happened(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "PATIENCE_SECONDS", 0)
    me = person()
    with refused("TransactWriteItems", THROTTLED, times=1000), pytest.raises(Busy):
        accept(me)
    check_rules(me)
    assert not me.user.holds.attribute_values


def test_a_code_redeemed_by_fifty_people_at_once_pays_exactly_one(person: MakePerson) -> None:
    people = [person(credits=0) for _ in range(50)]
    text = code()
    with ThreadPoolExecutor(25) as pool:
        outcomes = list(pool.map(lambda someone: redeem(someone, text), people))
    assert sorted(outcomes) == ["code_used_up"] * 49 + ["redeemed"]
    assert Code.get(text).used == 1
    assert sum(someone.user.credits for someone in people) == 100
    for someone in people:
        check_rules(someone)


def test_one_person_redeems_a_code_of_many_uses_once(person: MakePerson) -> None:
    me = person(credits=0)
    text = code(max_uses=100)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda _: redeem(me, text), range(20)))
    assert sorted(outcomes) == ["code_already_redeemed"] * 19 + ["redeemed"]
    assert (me.user.credits, Code.get(text).used) == (100, 1)
    check_rules(me)


def test_a_task_closes_once_whoever_tries(person: MakePerson) -> None:
    me = person()
    task = claimed(me)
    executor = Closer.executor(task.executor)
    Task(task.id).update([Task.lease_until.set(clock.now() - 1)])
    expired = Task.get(task.id, consistent_read=True)

    def close(which: int) -> Task:
        if which % 2:
            return credits.settle(task, executor, "finished", Text(content="hi"), "stop", Usage(10, 10))
        return credits.release(expired, Closer.sweep(expired), "interrupted", Text(content="h"))

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(close, range(16)))
    assert len({(end.status, end.closed_by) for end in ends}) == 1
    check_rules(me)


def test_a_heartbeat_wins_over_a_sweep_that_read_before_it(person: MakePerson) -> None:
    me = person()
    task = claimed(me)
    Task(task.id).update([Task.lease_until.set(clock.now() - 1)])
    expired = Task.get(task.id, consistent_read=True)
    assert leases.renew(task)
    assert credits.release(expired, Closer.sweep(expired), "interrupted", Text()).status == "running"
    check_rules(me)


def test_the_cost_never_exceeds_the_hold(person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    task = claimed(me)
    end = credits.settle(
        task, Closer.executor(task.executor), "finished", Text(content="hi"), "stop", Usage(10**9, 10**9)
    )
    assert end.credits == task.hold
    assert me.user.credits == before - task.hold
    check_rules(me)


usages = st.builds(
    lambda inputs, thought, said: Usage(inputs, thought + said, thought),
    st.integers(0, 900_000),
    st.integers(0, 40_000),
    st.integers(0, 40_000),
)


@given(st.sampled_from([entry["model"] for entry in pricing.get_table()["models"]]), usages)
def test_whatever_is_used_within_what_was_priced_costs_no_more_than_its_hold(model: str, usage: Usage) -> None:
    tariff = pricing.get_tariff(model)
    assert tariff
    thinking = pricing.can_think(tariff)
    usage = usage if thinking else usage._replace(reasoning_tokens=0)
    hold = pricing.compute_worst_cost(tariff, usage.input_tokens + 500, usage.output_tokens + 7, thinking=thinking)
    assert 0 <= pricing.compute_cost(tariff, usage) <= hold


def test_a_read_that_dynamodb_does_not_answer_is_a_503_that_says_when_to_come_back(
    api: Api, person: MakePerson
) -> None:
    me = person()
    for fault in (refused("GetItem", THROTTLED, times=100), answer_lost("GetItem", times=100)):
        with fault:
            answer = api("users.me", "GET", "/users/me", user=me)
        assert (answer.status, answer.json["code"]) == (503, "busy")
        assert answer.headers["retry-after"] == "1"
