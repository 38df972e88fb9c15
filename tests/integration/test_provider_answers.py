"""Each response that a provider may send, through the executor: how its task ends, what it is billed, and who pays."""

from collections.abc import Callable

import pytest

from aideer.billing import pricing
from aideer.core import clock, settings
from aideer.core.usage import Usage
from aideer.data.models import Message, Record, Task
from aideer.providers import dashscope
from aideer.tasks import control, executor
from tests.provider_cases import CASES, PACE, Case, play
from tests.support import Person, accepted, check_rules, in_loop

MakePerson = Callable[..., Person]
NAMES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "cached_tokens": "cached",
    "searches": "searches",
}


def reported(case: Case) -> Usage | None:
    told = case.want.get("usage")
    return Usage(**{ours: told.get(name, 0) for ours, name in NAMES.items()}) if told else None


def answer(case: Case, person: Person, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(executor, "FIRST_SECONDS", 4 * PACE)
    monkeypatch.setattr(executor, "TOKENS_A_SECOND", 10**12)
    monkeypatch.setattr(executor, "IDLE_SECONDS", 4 * PACE)
    monkeypatch.setattr(executor, "RETRY_SECONDS", 0)
    monkeypatch.setattr(dashscope, "_LATE_USAGE_SECONDS", 5 * PACE)
    task_id, _ = accepted(person, "What is new? " * 3000)
    Task(task_id).update(actions=[Task.tariff.set({**Task.get(task_id).tariff, "endpoint": case.endpoint})])
    with play(case) as played:
        monkeypatch.setattr(settings, "DASHSCOPE_HTTP_BASE_URL", played.base_url)
        in_loop(executor.execute(task_id, clock.now() + 60))
    assert len(played.requests) == 1
    return Task.get(task_id, consistent_read=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_response_is_billed_as_the_provider_bills_it(
    case: Case, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    before = me.user.credits
    task, usage = answer(case, me, monkeypatch), reported(case)
    thought = bool(control.read_text(task).reasoning)
    cost = pricing.compute_cost(task.tariff, usage, thought=thought) if usage else 0
    lost = sum(record.uncovered or 0 for record in Record.query(f"uncovered#{me.id}", consistent_read=True))
    assert task.status == case.want["end"]
    if task.status == "finished":
        assert task.finish_reason == case.want.get("finish_reason", "stop")
        assert task.credits == min(cost, task.hold) == before - me.user.credits
        if usage:
            assert task.usage == usage._asdict()
    else:
        assert task.error_code == case.want["code"]
        assert (task.credits, me.user.credits) == (0, before)
        assert lost >= cost
        assert case.accepted or lost == 0
    assert task.credits + lost >= cost
    check_rules(me)


@pytest.mark.parametrize("case", [case for case in CASES if case.want.get("sources")], ids=lambda case: case.name)
def test_the_sources_of_a_response_reach_its_message(
    case: Case, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = answer(case, person(), monkeypatch)
    message = Message.get(task.thread, task.answer_n, consistent_read=True)
    assert len(message.sources) == case.want["sources"]
