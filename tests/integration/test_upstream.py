"""What a provider can do to an answer, and what its user sees and pays, beside what test_executor.py has."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import uuid4

import pytest

from aideer.billing import pricing
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.models import CreditEntry, Message, Task
from aideer.providers.dashscope import Chunk
from aideer.tasks import control, executor, leases, stream_log, streaming
from local.simulators.dashscope import Server
from tests.events import Stream, parse
from tests.support import Person, accepted, check_rules, in_loop, viewer_of

MakePerson = Callable[..., Person]


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


def message_of(task: Task) -> Message:
    return Message.get(task.thread, task.answer_n, consistent_read=True)


def watched(person: Person, task_id: str, seconds: float = 60) -> Stream:
    async def watch() -> str:
        claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=person.id)
        assert claimed
        run = executor.start(claimed, clock.now() + seconds)
        return "".join([event async for event in streaming.live(run, viewer_of(person.id))])

    return parse(in_loop(watch()))


def followed(task_id: str, position: int) -> Stream:
    task = stored(task_id)
    viewer = viewer_of(task.user_id)

    async def watch() -> str:
        return "".join([event async for event in streaming.follow(task, position, viewer)])

    return parse(in_loop(watch()))


def says(monkeypatch: pytest.MonkeyPatch, *chunks: Chunk) -> None:
    """A provider that says exactly this."""

    async def stream(*_: Any, **__: Any) -> AsyncGenerator[Chunk, None]:
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    monkeypatch.setattr(executor.dashscope, "stream", stream)


def calls(provider: Server, marker: str) -> int:
    return sum(marker in str(request.get("body")) for request in provider.requests())


ONCE = ("throttle_mid", "inspect_in", "badkey", "http503_html", "drop_before", "drop_mid", "truncate")


@pytest.mark.parametrize("fail", [*ONCE, "badjson"])
def test_a_model_that_failed_is_not_asked_again(person: MakePerson, provider: Server, fail: str) -> None:
    me, marker = person(), uuid4().hex
    task_id, _ = accepted(me, f"/sim tokens=10 delay=1 at=4 fail={fail} {marker}")
    watched(me, task_id)
    assert stored(task_id).status == "failed"
    assert calls(provider, marker) == 1
    check_rules(me)


def test_throttling_that_does_not_end_is_given_up(
    person: MakePerson, provider: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RETRY_SECONDS", 0.8)
    me, marker = person(), uuid4().hex
    before = me.user.credits
    task_id, _ = accepted(me, f"/sim fail=throttle {marker}")
    stream = watched(me, task_id)
    assert stream.final["error"]["code"] == stored(task_id).error_code == "throttled"
    assert calls(provider, marker) > 1
    assert (stored(task_id).credits, me.user.credits) == (0, before)
    check_rules(me)


def test_throttling_is_not_waited_out_beyond_the_deadline(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim fail=throttle")
    watched(me, task_id, executor.SETTLE_SECONDS + 0.1)
    assert (stored(task_id).status, stored(task_id).credits) == ("failed", 0)
    check_rules(me)


@pytest.mark.parametrize("fail", ["drop_mid", "throttle_mid"])
def test_thoughts_that_were_shown_are_kept_though_no_answer_came(person: MakePerson, fail: str) -> None:
    me = person()
    task_id, _ = accepted(me, f"/sim tokens=20 think=10 delay=1 fail={fail} at=6", enable_thinking=True)
    stream = watched(me, task_id)
    task, message = stored(task_id), message_of(stored(task_id))
    assert stream.content == message.content == ""
    assert stream.reasoning == stream.final["reasoning"] == message.reasoning != ""
    assert (task.status, task.credits, message.finish_reason) == ("failed", 0, "interrupted")
    check_rules(me)


@pytest.mark.parametrize("told", ["", "details"])
def test_what_was_thought_is_billed_at_the_price_of_thinking_whether_or_not_the_usage_tells(
    person: MakePerson, told: str
) -> None:
    me = person()
    task_id, _ = accepted(me, f"/sim tokens=500 think=700 delay=0 {told}", enable_thinking=True)
    stream = watched(me, task_id)
    usage, task = stream.final["usage"], stored(task_id)
    assert usage["reasoning_tokens"] == (700 if told else 0)
    assert usage["output_tokens"] == 1200
    [tier, *_] = task.tariff["tiers"]
    assert tier["thinking"] > tier["output"]
    assert task.credits == math.ceil(
        (usage["input_tokens"] * tier["input"] + 1200 * tier["thinking"]) / task.tariff["per"]
    )
    check_rules(me)


def test_a_clean_end_without_usage_costs_nothing_and_is_kept(person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    task_id, _ = accepted(me, "/sim tokens=10 delay=1 fail=no_usage")
    stream = watched(me, task_id)
    task = stored(task_id)
    assert (task.status, task.credits, me.user.credits) == ("finished", 0, before)
    assert message_of(task).content == stream.content != ""
    assert [entry.amount for entry in CreditEntry.query(me.id) if entry.task_id == task_id] == [0]
    check_rules(me)


def test_an_end_without_usage_costs_the_last_usage_seen(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    says(
        monkeypatch,
        Chunk("", "a", None, Usage(1000, 500)),
        Chunk("", "b", None, Usage(1000, 1000)),
        Chunk("", "c", "stop", None),
    )
    me = person()
    task_id, _ = accepted(me, "hello")
    watched(me, task_id)
    task = stored(task_id)
    assert task.usage == Usage(1000, 1000)._asdict()
    assert task.credits == min(28, task.hold)
    check_rules(me)


def test_a_cost_above_the_hold_is_the_hold(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, Chunk("", "a", "stop", Usage(10**6, 10**6)))
    me = person()
    before = me.user.credits
    task_id, _ = accepted(me, "hello")
    watched(me, task_id)
    task = stored(task_id)
    assert (task.status, task.credits, me.user.credits) == ("finished", task.hold, before - task.hold)
    check_rules(me)


def test_two_hundred_kilobytes_in_one_line_arrive_and_resume_whole(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=6 delay=1 fail=bigline at=3", max_tokens=4096)
    stream = watched(me, task_id)
    task = stored(task_id)
    assert (
        stream.content == stream.final["content"] == message_of(task).content == stream_log.read_text(task_id).content
    )
    assert len(stream.content.encode()) > 200_000
    for position in (2, 20_000, len(stream.content) - 1):
        assert followed(task_id, position).content == stream.content[position:]
    check_rules(me)


def test_a_stop_while_the_provider_is_silent_costs_the_input_and_leaves_no_message(
    person: MakePerson, provider: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(executor, "FIRST_SECONDS", 2.0)  # the stop comes before it is over
    me, marker = person(), uuid4().hex
    task_id, _ = accepted(me, f"/sim fail=stall at=0 {marker}")

    async def stopped() -> None:
        working = asyncio.create_task(executor.execute(task_id, clock.now() + 60))
        await asyncio.to_thread(provider.wait_for, lambda _: calls(provider, marker) > 0)
        await asyncio.to_thread(control.request_stop, task_id)
        await working

    in_loop(stopped())
    task = stored(task_id)
    assert (task.status, task.text_length) == ("stopped", 0)
    assert 0 < task.credits <= task.hold
    assert task.usage["input_tokens"] > 0 == task.usage["output_tokens"]
    with pytest.raises(Message.DoesNotExist):
        message_of(task)
    check_rules(me)


CHARGED = {
    "": "stop",
    "cached=9": "stop",
    "filter at=4": "content_filter",
    "fail=inspect_mid_plain at=4": "content_filter",
    "fail=empty": "stop",
    "usage=shrinking": "stop",
    "usage=partial": "stop",
    "form=split": "stop",
    "tail=done": "stop",
    "tail=error": "stop",
    "tail=filter": "stop",
    "tail=reset": "stop",
    "tail=more_usage": "stop",
    "tail=late_usage": "stop",
}


@pytest.mark.parametrize("directive", CHARGED)
def test_a_user_pays_what_the_provider_charges(person: MakePerson, provider: Server, directive: str) -> None:
    me, marker = person(), uuid4().hex
    task_id, _ = accepted(me, f"/sim tokens=20 delay=1 {directive} {marker}")
    watched(me, task_id)
    task = stored(task_id)
    assert (task.status, task.finish_reason) == ("finished", CHARGED[directive])
    [bill] = provider.bills(marker)
    assert bill.pop("accepted")
    usage = Usage(**{name: count for name, count in bill.items() if name in Usage._fields})
    assert task.credits == pricing.compute_cost(task.tariff, usage, thought=False) > 0
    check_rules(me)


@pytest.mark.parametrize(
    "name", ["badkey", "busy", "overdue", "context", "image", "url", "retired", "budget", "timeout"]
)
def test_a_user_pays_nothing_for_a_refusal(
    person: MakePerson, provider: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(executor, "RETRY_SECONDS", 0)
    me, marker = person(), uuid4().hex
    task_id, _ = accepted(me, f"/sim fail={name} {marker}")
    watched(me, task_id)
    task = stored(task_id)
    assert (task.status, task.credits) == ("failed", 0)
    assert task.error_code in control.ERRORS
    assert [bill["accepted"] for bill in provider.bills(marker)] == [False]
    check_rules(me)
