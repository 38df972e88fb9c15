"""Who pays for an answer, however it ends: the user for what the user caused, and the operator, within a bound, for the rest."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

from aideer.billing import counters, credits, pricing, uncovered
from aideer.billing.credits import Closer, Text
from aideer.core import clock, settings
from aideer.core.errors import TooManyRequests
from aideer.core.usage import Source, Usage
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, CreditEntry, Message, Record, Task
from aideer.providers.dashscope import Chunk, UpstreamError
from aideer.providers.dashscope_connections import Call
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, closing, control, executor, leases, received, sweeper
from tests import prices
from tests.support import Api, Person, UsePrices, accepted, caller, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
Step = Chunk | UpstreamError | Literal["after the stop", "silence"]


class Provider:
    """A provider that plays steps: chunks, errors and silences. It notes how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Step] = []
        self.accepts = True
        self.calls = 0
        self.closed = 0
        self.sent = self.stopped = asyncio.Event()
        learn = executor.Run._learn_usage

        async def learning(run: executor.Run, *tasks: Any) -> None:
            self.stopped.set()
            await learn(run, *tasks)

        monkeypatch.setattr(executor.Run, "_learn_usage", learning)
        monkeypatch.setattr(executor.dashscope, "stream", self._stream)
        monkeypatch.setattr(executor, "STOP_SECONDS", 0.02)

    def says(self, *steps: Step) -> None:
        self.steps = list(steps)

    async def _stream(self, *_: Any, call: Call, **__: Any) -> AsyncGenerator[Chunk, None]:
        self.calls += 1
        call.sent = True
        self.sent.set()
        try:
            call.accepted = self.accepts
            for step in self.steps:
                await asyncio.sleep(0)
                if isinstance(step, Chunk):
                    yield step
                elif isinstance(step, UpstreamError):
                    raise step
                else:
                    await (self.stopped if step == "after the stop" else asyncio.Event()).wait()
        finally:
            self.closed += 1


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    return Provider(monkeypatch)


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


def message_of(task: Task) -> Message | None:
    try:
        return Message.get(task.thread, task.answer_n, consistent_read=True)
    except Message.DoesNotExist:
        return None


def run(task_id: str, seconds: float = 60) -> Task:
    in_loop(executor.execute(task_id, clock.now() + seconds))
    return stored(task_id)


def run_and_stop(task_id: str, provider: Provider) -> Task:
    """Execute a task, and stop it once the provider has been called."""

    async def both() -> None:
        provider.sent, provider.stopped = asyncio.Event(), asyncio.Event()
        working = asyncio.create_task(executor.execute(task_id, clock.now() + 60))
        await provider.sent.wait()
        await asyncio.to_thread(control.request_stop, task_id)
        await working

    in_loop(both())
    return stored(task_id)


def uncovered_of(person: Person) -> int:
    return sum(record.uncovered or 0 for record in Record.query(f"uncovered#{person.id}", consistent_read=True))


def uncovered_by_code(code: str) -> int:
    keys = counters.day_keys(clock.timestamp()[:10])
    shards = [shard for key in keys for shard in Record.query(key, consistent_read=True)]
    return sum(shard.uncovered or 0 for shard in shards if counters.parse_uncovered_code(shard.sk) == code)


def cost(task: Task, usage: Usage) -> int:
    return pricing.compute_cost(task.tariff, usage)


@contextmanager
def unchanged_balance(person: Person) -> Iterator[None]:
    """Whatever was held comes back whole."""
    user = person.user
    before = user.credits + credits.sum_holds(user)
    yield
    assert person.user.credits == before
    check_rules(person)


DEARER = [{"up_to": 1_000_000, "input": 80_000, "cached": 80_000, "output": 200_000, "thinking": 800_000}]
WITHOUT_QWEN_PLUS = prices.read_table() | {"models": prices.read_table()["models"][1:]}


@pytest.mark.parametrize(
    "table",
    [
        prices.change_model("qwen-plus", tiers=DEARER),
        prices.change_model("qwen-plus", tiers=[dict.fromkeys(DEARER[0], 1) | {"up_to": 1_000_000}]),
        prices.change_model("qwen-plus", retires_on="2026-01-01"),
        WITHOUT_QWEN_PLUS,
    ],
    ids=["dearer", "cheaper", "retired", "removed"],
)
def test_a_changed_price_table_does_not_change_the_cost_of_an_open_task(
    person: MakePerson, provider: Provider, use_prices: UsePrices, table: dict[str, Any]
) -> None:
    me = person()
    before = me.user.credits
    task_id, _ = accepted(me, "hello")
    open_task = stored(task_id)
    use_prices(table | {"version": "later"})
    provider.says(Chunk("", "Hi", "stop", Usage(10, 1000)))
    task = run(task_id)
    assert (task.status, task.credits) == ("finished", 21)  # 0.08 and 20, rounded up once
    assert (task.tariff, task.hold) == (open_task.tariff, open_task.hold)
    [line] = [entry for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id == task_id]
    assert line.price_version == prices.read_table()["version"]
    assert me.user.credits == before - 21
    check_rules(me)


def test_a_stop_before_the_first_usage_waits_for_it_and_bills_it(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says("after the stop", Chunk("", "Hi", None, Usage(9000, 1)), "silence")
    task = run_and_stop(task_id, provider)
    assert (task.status, task.usage) == ("stopped", Usage(9000, 1)._asdict())
    assert task.credits == min(cost(task, Usage(9000, 1)), task.hold) > 0
    assert control.read_text(task).content == ""
    assert (provider.calls, provider.closed) == (1, 1)
    check_rules(me)


def test_a_stop_of_an_accepted_call_without_usage_bills_the_input(
    person: MakePerson, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "FIRST_SECONDS", 0.2)
    me = person()
    task_id, _ = accepted(me, "hello " * 2000)
    provider.says("silence")
    task = run_and_stop(task_id, provider)
    assert task.status == "stopped"
    assert task.usage["output_tokens"] == 0 < task.usage["input_tokens"]
    assert 0 < task.credits <= task.hold
    check_rules(me)


def test_a_stop_of_an_accepted_call_that_breaks_bills_the_input(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says("after the stop", UpstreamError("upstream_error", accepted=True))
    task = run_and_stop(task_id, provider)
    assert (task.status, task.error_code) == ("stopped", None)
    assert task.credits > 0
    check_rules(me)


def test_a_stop_of_a_call_that_is_refused_is_free_and_repeats_nothing(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.accepts = False
    provider.says("after the stop", UpstreamError("throttled", retryable=True))
    with unchanged_balance(me):
        task = run_and_stop(task_id, provider)
    assert (task.status, task.credits, provider.calls) == ("stopped", 0, 1)


def test_a_stop_between_two_tries_is_free_at_once(
    person: MakePerson, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.random, "uniform", lambda *_: 60.0)
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.accepts = False
    provider.says(UpstreamError("throttled", retryable=True))
    with unchanged_balance(me):
        task = run_and_stop(task_id, provider)
    assert (task.status, task.credits, provider.calls) == ("stopped", 0, 1)


def test_a_stop_after_the_first_usage_bills_the_usage_so_far(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says(Chunk("", "Hi", None, Usage(100, 10)), "silence")
    task = run_and_stop(task_id, provider)
    message = message_of(task)
    assert (task.status, task.credits) == ("stopped", min(cost(task, Usage(100, 10)), task.hold))
    assert message
    assert (message.content, message.finish_reason) == ("Hi", "stopped")


def test_an_accepted_call_is_never_repeated(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says(UpstreamError("throttled", retryable=True, accepted=True))
    task = run(task_id)
    assert (task.status, task.error_code, provider.calls) == ("failed", "throttled", 1)


def test_an_answer_without_text_is_billed_and_stores_no_message(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    provider.says(Chunk("", "", "stop", Usage(30, 0)))
    task = run(task_id)
    assert (task.status, task.finish_reason, task.error_code) == ("finished", "stop", None)
    assert task.credits == cost(task, Usage(30, 0)) > 0
    assert message_of(task) is None
    after = Chat.get(chat.id, consistent_read=True)
    assert (after.message_count, after.active_task) == (1, None)
    check_rules(me)


def test_a_filtered_answer_is_billed_kept_and_left_out_of_the_next_prompt(
    person: MakePerson, provider: Provider
) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    provider.says(Chunk("", "Once upon", None, Usage(30, 5)), Chunk("", "", "content_filter", Usage(30, 9)))
    task = run(task_id)
    message = message_of(task)
    assert (task.status, task.finish_reason, task.error_code) == ("finished", "content_filter", None)
    assert task.credits == cost(task, Usage(30, 9)) > 0
    assert message
    assert (message.content, message.finish_reason) == ("Once upon", "content_filter")
    from aideer.prompts import prompts

    preset = prompts.get_preset(chat.preset_id, int(chat.preset_version))
    again = prompts.build(preset, chat.path, 10, task.tariff)
    assert "Once upon" not in again.contents
    assert again.asks
    check_rules(me)


def test_a_refused_question_is_free(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.accepts = False
    provider.says(UpstreamError("content_filtered"))
    with unchanged_balance(me):
        task = run(task_id)
    assert (task.status, task.error_code, uncovered_of(me)) == ("failed", "content_filtered", 0)


@pytest.mark.parametrize(
    ("chunks", "stop"),
    [
        ([Chunk("", "", "stop", Usage(30, 1))], False),
        ([Chunk("I wonder", "", "stop", Usage(30, 5))], False),
        ([Chunk("I wonder", "", "length", Usage(30, 5))], False),
        ([Chunk("", "Bad", "content_filter", Usage(30, 5))], False),
        ([Chunk("I wonder", "", None, Usage(30, 5)), "silence"], True),
    ],
)
def test_only_an_answer_with_content_replaces_another(
    person: MakePerson, provider: Provider, chunks: list[Step], stop: bool
) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    provider.says(Chunk("", "Good", "stop", Usage(30, 5)))
    first = run(task_id)
    again = admission.regenerate(caller(me.user), task_id, IdempotentRequest(me.id, "again", None, task_id)).task_id
    provider.says(*chunks)
    task = run_and_stop(again, provider) if stop else run(again)
    assert task.credits > 0
    assert message_of(task) is None
    kept = message_of(first)
    assert kept
    assert kept.content == "Good"
    after = Chat.get(chat.id, consistent_read=True)
    assert (after.message_count, after.preview, after.active_task) == (2, "Good", None)
    check_rules(me)


def test_a_hidden_answer_stays_hidden_when_it_is_made_again(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    provider.says(Chunk("", "Secret", "stop", Usage(30, 5)))
    first = run(task_id)
    hidden = message_of(first)
    assert hidden
    hidden.update(actions=[Message.visibility.set(False)])
    Chat(chat.id).update(actions=[Chat.preview.set("hello"), Chat.preview_n.set(1)])
    again = admission.regenerate(caller(me.user), task_id, IdempotentRequest(me.id, "again", None, task_id)).task_id
    provider.says(Chunk("", "Another secret", "stop", Usage(30, 5)))
    message = message_of(run(again))
    assert message
    assert (message.content, message.visibility) == ("Another secret", False)
    assert Chat.get(chat.id, consistent_read=True).preview == "hello"


def test_a_usage_that_shrinks_is_billed_at_its_largest(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello " * 1000)
    provider.says(
        Chunk("", "a", None, Usage(1000, 400)),
        Chunk("", "b", None, Usage(900, 420)),
        Chunk("", "c", "stop", Usage(0, 0)),
    )
    task = run(task_id)
    assert task.usage == Usage(1000, 420)._asdict()
    assert task.credits == cost(task, Usage(1000, 420))


def test_the_sources_of_an_answer_are_stored_with_it(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    source = {"index": 1, "title": "Deer", "url": "https://deer.example/", "site_name": "Deer"}
    provider.says(Chunk("", "", None, None, (source,)), Chunk("", "Hi", "stop", Usage(30, 5, searches=1)))
    message = message_of(run(task_id))
    assert message
    assert message.sources == [source]


def test_sources_take_no_more_room_than_a_message_has_for_them(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", enable_search=True, max_tokens=32000)
    found = tuple(
        Source(index=n, title="鹿" * 300, url=f"https://x.com/{n}/" + "深" * 1_980, site_name="林" * 100)
        for n in range(1, 51)
    )
    provider.says(Chunk("", "x" * received.TEXT_BYTES, "stop", Usage(1000, 30_000, searches=1), found))
    task = run(task_id)
    message = message_of(task)
    assert (task.status, task.credits) == ("finished", cost(task, Usage(1000, 30_000, searches=1)))
    assert message
    assert len(message.content) == received.TEXT_BYTES
    assert 5 < len(message.sources) < 50
    assert message.sources == [dict(source) for source in found[: len(message.sources)]]
    check_rules(me)


def test_a_text_that_is_cut_waits_for_the_usage_that_comes_at_the_end(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", max_tokens=32000)
    text = "x" * (received.TEXT_BYTES - 1)
    provider.says(Chunk("", text, None, None), Chunk("", "yz", None, None), Chunk("", "z", "stop", Usage(10, 30_000)))
    task = run(task_id)
    assert (task.finish_reason, task.credits) == ("length", cost(task, Usage(10, 30_000)))
    assert control.read_text(task).content == text + "y"
    assert uncovered_of(me) == 0
    check_rules(me)


def test_a_fault_behind_the_cut_changes_no_answer(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", max_tokens=32000)
    fault = UpstreamError("upstream_error", "reset", accepted=True)
    provider.says(Chunk("", "x" * received.TEXT_BYTES + "y", None, None), fault)
    task = run(task_id)
    assert (task.status, task.finish_reason, task.credits) == ("finished", "length", 0)
    assert 0 < uncovered_of(me) <= task.hold
    check_rules(me)


def test_a_filter_behind_the_cut_keeps_the_answer_that_was_to_be_replaced(
    api: Api, person: MakePerson, provider: Provider
) -> None:
    me = person()
    first_id, _ = accepted(me, "hello", max_tokens=32000)
    provider.says(Chunk("", "good", "stop", Usage(10, 1)))
    first = run(first_id)
    again = api("tasks.regenerate", "POST", f"/tasks/{first_id}/regenerate", user=me).json["task_id"]
    cut = Chunk("", "x" * received.TEXT_BYTES + "y", None, None)
    provider.says(cut, Chunk("", "", "content_filter", Usage(10, 30_000)))
    task = run(again)
    assert (task.status, task.finish_reason, task.credits) == (
        "finished",
        "content_filter",
        cost(task, Usage(10, 30_000)),
    )
    assert [message.content for message in Message.query(first.thread)][-1] == "good"
    check_rules(me)


def test_an_estimate_above_the_hold_is_no_shortfall(
    person: MakePerson, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    monkeypatch.setattr(closing.input_tokens, "count", lambda *_: Usage(10_000_000, 0))
    monkeypatch.setattr(executor, "FIRST_SECONDS", 0.2)
    provider.says("silence")
    task = run_and_stop(task_id, provider)
    assert (task.status, task.credits) == ("stopped", task.hold)
    assert uncovered_of(me) == 0
    assert not uncovered.had_shortfall(me.id)
    check_rules(me)


def test_a_stop_counts_the_prompt_once_and_the_text_that_came_behind_it(
    person: MakePerson, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", max_tokens=32000)
    count, counted = closing.input_tokens.count, []
    monkeypatch.setattr(closing.input_tokens, "count", lambda *given: counted.append(given) or count(*given))
    provider.says("after the stop", Chunk("", "word " * 20_000, None, None), Chunk("", "", "stop", None))
    task = run_and_stop(task_id, provider)
    assert (task.status, task.text_length, len(counted)) == ("stopped", 0, 1)
    assert cost(task, Usage(0, 20_000)) <= uncovered_of(me) <= task.hold
    check_rules(me)


def test_a_text_whose_usage_is_known_is_cut_at_once(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", max_tokens=32000)
    provider.says(Chunk("", "x" * received.TEXT_BYTES + "y", None, Usage(10, 30_000)), "silence")
    task = run(task_id)
    assert (task.finish_reason, task.credits) == ("length", cost(task, Usage(10, 30_000)))
    check_rules(me)


@pytest.mark.parametrize("end", ["finished", "failed", "stopped"])
def test_a_text_without_a_usage_is_counted_for_the_operator(person: MakePerson, provider: Provider, end: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello", max_tokens=32000)
    said = Chunk("", "word " * 20_000, None, None)
    last: dict[str, Step] = {
        "finished": Chunk("", "", "stop", None),
        "failed": UpstreamError("upstream_error", "reset", accepted=True),
        "stopped": "silence",
    }
    provider.says(said, last[end])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(executor, "FIRST_SECONDS", 0.2)
        task = run_and_stop(task_id, provider) if end == "stopped" else run(task_id)
    assert task.status == end
    written = cost(task, Usage(0, 20_000))
    assert written <= uncovered_of(me) <= task.hold
    assert task.credits <= cost(task, Usage(100, 0)), (
        "the user pays what was reported, or the input of a stopped answer"
    )
    assert not uncovered.had_shortfall(me.id)
    check_rules(me)


def test_an_end_without_usage_is_free_and_told_to_the_operator(
    person: MakePerson, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says(Chunk("", "Hi", "stop", None))
    with unchanged_balance(me):
        run(task_id)
    assert '"AnswersUncounted": 1' in capsys.readouterr().out
    assert uncovered_of(me) > 0
    assert not uncovered.had_shortfall(me.id)


@pytest.mark.parametrize("code", ["upstream_error", "upstream_timeout"])
def test_what_a_failure_cost_is_counted_by_day_by_code_and_by_user(
    person: MakePerson, provider: Provider, code: str
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    before = uncovered_by_code(code)
    provider.says(Chunk("", "Hi", None, Usage(5000, 1000)), UpstreamError(code, accepted=True))
    with unchanged_balance(me):
        task = run(task_id)
    lost = cost(task, Usage(5000, 1000))
    assert (task.status, task.error_code, task.credits) == ("failed", code, 0)
    assert uncovered_of(me) == uncovered_by_code(code) - before == lost > 0


def test_a_failure_that_the_provider_refused_costs_nobody(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.accepts = False
    provider.says(UpstreamError("upstream_error"))
    run(task_id)
    assert uncovered_of(me) == 0


def test_a_cost_above_the_hold_is_uncovered_and_marks_its_user(person: MakePerson, provider: Provider) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    provider.says(Chunk("", "Hi", "stop", Usage(10**6, 10)))
    task = run(task_id)
    assert task.credits == task.hold
    assert uncovered_of(me) == cost(task, Usage(10**6, 10)) - task.hold
    assert uncovered.had_shortfall(me.id)
    check_rules(me)


def test_nobody_is_marked_without_a_shortfall(person: MakePerson) -> None:
    assert not uncovered.had_shortfall(person().id)


def test_a_user_whose_failures_reached_the_bound_waits_for_the_next_day(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, other = person(), person()
    monkeypatch.setattr(settings, "UNCOVERED_CREDITS", 100)
    record = Record(f"uncovered#{me.id}", clock.timestamp()[:10], uncovered=99)
    record.save()
    accepted(me, "still below")
    record.update(actions=[Record.uncovered.add(1)])
    chat, before = make_chat(me, "hello"), me.user.credits
    wanted = NewTask(chat_id=chat.id)
    with pytest.raises(TooManyRequests) as refused:
        admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted))
    assert refused.value.code == "too_many_failed_answers"
    assert 0 < int(refused.value.headers["Retry-After"]) <= 86401
    assert me.user.credits == before
    accepted(other, "another user is not refused")
    tomorrow = clock.now() + 86400
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    assert admission.create(caller(me.user), wanted, IdempotentRequest(me.id, "POST /tasks", None, wanted)).task_id
    check_rules(me)


def claimed(person: Person) -> Task:
    task_id, _ = accepted(person, "hello " * 1000, max_tokens=500)
    task = leases.claim(task_id)
    assert task
    return task


def expire(task: Task) -> None:
    Task(task.id).update(actions=[Task.lease_until.set(clock.now() - 1)])


def test_a_lost_executor_is_counted_for_the_most_that_it_can_have_cost(person: MakePerson) -> None:
    me = person()
    task = claimed(me)
    expire(task)
    before = me.user.credits
    sweeper.attend(task.id)
    assert (me.user.credits, uncovered_of(me)) == (before + task.hold, task.hold)
    check_rules(me)


def test_a_renewal_stores_the_usage_so_that_the_sweep_knows_the_cost(person: MakePerson) -> None:
    me = person()
    task = claimed(me)
    renewed = leases.renew(task, Usage(100, 20))
    assert renewed
    assert renewed.usage_so_far == Usage(100, 20)._asdict()
    expire(task)
    sweeper.attend(task.id)
    closed = stored(task.id)
    assert (closed.status, closed.error_code, closed.usage_so_far) == ("failed", "interrupted", None)
    assert cost(task, Usage(100, 500)) <= uncovered_of(me) <= cost(task, Usage(100, 510)) < task.hold
    check_rules(me)


def test_a_lost_executor_of_a_model_that_always_thinks_is_counted_at_the_price_of_thinking(person: MakePerson) -> None:
    """A tariff of release 0.1.0 says so by a word of its own, and its parameters may not."""
    task = claimed(person())
    tiers = [{**tier, "thinking": 100 * tier["output"]} for tier in task.tariff["tiers"]]
    task.usage_so_far = Usage(10, 1)._asdict()
    optional, always = ({**task.tariff, "tiers": tiers, "thinking": mode} for mode in ("optional", "always"))
    task.parameters, task.tariff = {}, optional
    without = uncovered.compute_bound(task)
    task.tariff = always
    assert uncovered.compute_bound(task) > without
    del always["thinking"]
    task.tariff = {**always, "always_thinks": True}
    assert uncovered.compute_bound(task) > without


def test_a_late_close_counts_nothing_twice(person: MakePerson) -> None:
    me = person()
    task = claimed(me)
    expire(task)
    sweeper.attend(task.id)
    before = uncovered_of(me)
    sweeper.attend(task.id)
    credits.release(task, Closer.executor(task.executor), "upstream_error", Text(), uncovered_credits=7)
    assert uncovered_of(me) == before
    assert [entry for entry in CreditEntry.query(me.id, consistent_read=True) if entry.task_id == task.id] == []
