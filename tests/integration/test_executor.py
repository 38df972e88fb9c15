"""The engine: one answer from its claim to its settle, watched and unwatched."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideer.billing import credits, pricing
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.models import Chat, CreditEntry, Message, Task
from aideer.prompts import prompts
from aideer.providers.dashscope import Chunk
from aideer.tasks import control, executor, leases, received, stream_log, streaming, sweeper
from tests.events import Stream, parse
from tests.support import Person, accepted, check_rules, in_loop, sweep, viewer_of

MakePerson = Callable[..., Person]


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


async def watched(person: Person, task_id: str) -> Stream:
    claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=person.id)
    assert claimed
    run = executor.start(claimed, clock.now() + 60)
    return parse("".join([event async for event in streaming.live(run, viewer_of(person.id))]))


def alone(task_id: str) -> None:
    in_loop(executor.execute(task_id, clock.now() + 60))


async def logged(task_id: str) -> None:
    """Wait until the log holds some of the text."""
    while not await asyncio.to_thread(stream_log.read, task_id):
        pass


def message_of(task: Task) -> Message:
    return Message.get(task.thread, task.answer_n, consistent_read=True)


def test_what_the_viewer_sees_is_what_is_stored_and_billed(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "/sim tokens=30 delay=1 cut_emoji Tell me 你好 🙂", enable_thinking=True)
    stream = in_loop(watched(me, task_id))
    task = stored(task_id)
    assert task.status == "finished"
    message = message_of(task)
    assert stream.content == message.content == stream.final["content"]
    assert stream.reasoning == message.reasoning == stream.final["reasoning"] != ""
    assert stream.ids[-1] == "end"
    assert stream.final["usage"] == task.usage == message.usage
    assert stream.final["credits"] == task.credits == message.credits > 0
    [entry] = [e for e in CreditEntry.query(me.id, consistent_read=True) if e.task_id == task_id]
    assert entry.amount == -task.credits
    assert (entry.input_tokens, entry.output_tokens) == (task.usage["input_tokens"], task.usage["output_tokens"])
    stored_chat = Chat.get(chat.id, consistent_read=True)
    assert stored_chat.active_task is None
    assert (stored_chat.message_count, stored_chat.preview) == (2, message.content[:200])
    check_rules(me)


def test_an_answer_that_nobody_watches_is_made_saved_and_billed(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    alone(task_id)
    task = stored(task_id)
    assert task.status == "finished"
    assert message_of(task).content
    check_rules(me)


def test_a_viewer_who_leaves_changes_nothing(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=40 delay=5")

    async def leaving() -> None:
        claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=me.id)
        assert claimed
        watching_it = streaming.live(executor.start(claimed, clock.now() + 60), viewer_of(me.id))
        while "running" not in await anext(watching_it):
            pass
        await watching_it.aclose()

    in_loop(leaving())
    assert stored(task_id).status == "finished"
    check_rules(me)


def test_the_stream_resumes_at_every_position(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=25 delay=1 think=5 🙂你", enable_thinking=True)
    alone(task_id)
    task = stored(task_id)
    whole = in_loop(follow(task, 0))
    length = len(whole.reasoning) + len(whole.content)
    assert length == task.text_length

    async def all_positions() -> None:
        for position in range(length + 1):
            rest = await follow(task, position)
            assert rest.reasoning + rest.content == (whole.reasoning + whole.content)[position:]
            assert rest.final == whole.final

    in_loop(all_positions())


def test_a_position_ahead_of_what_there_is_gets_the_end_alone(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    alone(task_id)
    stream = in_loop(follow(stored(task_id), 100_000))
    assert stream.content == ""
    assert stream.final["content"]


def test_who_connects_late_sees_all_of_it(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=60 delay=10")

    async def late() -> tuple[Stream, Stream]:
        first = asyncio.create_task(watched(me, task_id))
        await logged(task_id)
        return await follow(await asyncio.to_thread(stored, task_id), 0), await first

    second, first = in_loop(late())
    assert second.content == first.content
    assert second.final == first.final


def test_a_stop_ends_it_within_a_second_for_what_was_said_so_far(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=2000 delay=20")

    async def stopped() -> Stream:
        viewing = asyncio.create_task(watched(me, task_id))
        await logged(task_id)
        await asyncio.to_thread(control.request_stop, task_id)
        return await viewing

    stream = in_loop(stopped())
    task = stored(task_id)
    assert (task.status, task.finish_reason) == ("stopped", "stopped")
    assert stream.final["status"] == "stopped"
    assert message_of(task).content == stream.content
    assert 0 < task.usage["output_tokens"] < 2000
    assert 0 < task.credits < task.hold
    check_rules(me)


def test_a_stop_before_anybody_began_costs_nothing_and_leaves_no_message(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    assert control.stop(stored(task_id)).status == "stopped"
    alone(task_id)  # the message that is still in the queue
    task = stored(task_id)
    assert (task.status, task.credits) == ("stopped", 0)
    assert Chat.get(chat.id, consistent_read=True).message_count == 1
    check_rules(me)


FAILURES = {
    "throttle_mid": "throttled",
    "inspect_in": "content_filtered",
    "badkey": "upstream_auth",
    "http503_html": "upstream_error",
    "drop_before": "upstream_error",
    "drop_mid": "upstream_error",
    "fin_mid": "upstream_error",
    "truncate": "upstream_error",
    "badjson": "upstream_error",
}


@pytest.mark.parametrize("fail", FAILURES)
def test_a_failure_of_the_provider_costs_nothing_and_keeps_what_was_shown(person: MakePerson, fail: str) -> None:
    me = person()
    before = me.user.credits
    task_id, chat = accepted(me, f"/sim tokens=20 delay=1 fail={fail} at=8")
    stream = in_loop(watched(me, task_id))
    task = stored(task_id)
    assert (task.status, task.error_code) == ("failed", FAILURES[fail])
    assert stream.final["error"]["code"] == FAILURES[fail]
    assert me.user.credits == before
    assert stream.content == stream.final["content"] == control.read_text(task).content
    if stream.content:
        assert message_of(task).finish_reason == "interrupted"
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    check_rules(me)


def test_throttling_before_the_first_token_is_tried_again(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, f"/sim tokens=5 fail=throttle_twice {clock.now()}")
    alone(task_id)
    assert stored(task_id).status == "finished"


def test_silence_is_a_failure_after_a_while(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "IDLE_SECONDS", 0.2)
    me = person()
    task_id, _ = accepted(me, "/sim fail=stall at=3 delay=1")
    alone(task_id)
    assert stored(task_id).error_code == "upstream_timeout"
    check_rules(me)


def test_an_answer_longer_than_the_deadline_is_cut_and_billed(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=1000 delay=50")
    in_loop(executor.execute(task_id, clock.now() + executor.SETTLE_SECONDS + 3))
    task = stored(task_id)
    assert (task.status, task.finish_reason) == ("finished", "length")
    assert 0 < task.usage["output_tokens"] < 1000
    assert task.credits > 0
    assert message_of(task).content
    check_rules(me)


def test_an_answer_that_fell_silent_before_the_deadline_is_billed_for_its_usage(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim fail=stall at=3 delay=1")
    in_loop(executor.execute(task_id, clock.now() + executor.SETTLE_SECONDS + 3))
    task = stored(task_id)
    assert (task.status, task.finish_reason) == ("finished", "length")
    assert task.credits == credits.pricing.compute_cost(task.tariff, Usage(**task.usage)) > 0
    check_rules(me)


def test_a_provider_that_said_nothing_until_the_deadline_has_failed(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim fail=stall at=0")
    in_loop(executor.execute(task_id, clock.now() + executor.SETTLE_SECONDS + 2))
    task = stored(task_id)
    assert (task.status, task.error_code, task.credits) == ("failed", "upstream_timeout", 0)
    check_rules(me)


def test_an_answer_over_300_kb_is_cut_and_billed(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim fail=huge delay=0", max_tokens=32768)
    stream = in_loop(watched(me, task_id))
    task = stored(task_id)
    assert (task.status, task.finish_reason) == ("finished", "length")
    content = message_of(task).content
    assert content == stream.content
    assert received.TEXT_BYTES - 4 < len(content.encode()) <= received.TEXT_BYTES
    check_rules(me)


def test_an_executor_that_lost_its_task_sends_the_end_that_is_stored(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STOP_SECONDS", 0.05)
    me = person()
    task_id, _ = accepted(me, "/sim tokens=2000 delay=20")

    async def losing() -> Stream:
        viewing = asyncio.create_task(watched(me, task_id))
        await logged(task_id)
        await asyncio.to_thread(expire, task_id)
        await asyncio.to_thread(sweeper.attend, task_id)
        return await viewing

    stream = in_loop(losing())
    task = stored(task_id)
    assert (task.status, task.error_code) == ("failed", "interrupted")
    assert stream.final["error"]["code"] == "interrupted"
    assert stream.final["content"] == message_of(task).content
    assert task.credits == 0
    check_rules(me)


def test_a_chat_deleted_under_a_running_answer_leaves_it_billed_and_gone(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "/sim tokens=10 delay=5")
    Chat(chat.id).update([Chat.deleted.set(True), Chat.owner_id.remove()])
    alone(task_id)
    task = stored(task_id)
    assert (task.status, task.credits > 0) == ("finished", True)
    with pytest.raises(Message.DoesNotExist):
        message_of(task)
    assert control.read_text(task).content  # the log still has it
    check_rules(me)


def test_an_interrupted_answer_is_no_part_of_the_next_prompt(person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "/sim fail=drop_mid at=4 delay=1")
    alone(task_id)
    chat = Chat.get(chat.id, consistent_read=True)
    prompt = prompts.build(
        prompts.get_preset(chat.preset_id, 1), chat.path, chat.next_n, pricing.get_tariff("qwen-plus")
    )
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert prompt.asks


def test_only_one_of_two_executors_gets_a_task(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")

    async def both() -> None:
        await asyncio.gather(*(executor.execute(task_id, clock.now() + 60) for _ in range(4)))

    in_loop(both())
    assert stored(task_id).status == "finished"
    check_rules(me)


def expire(task_id: str) -> None:
    Task(task_id).update([Task.lease_until.set(clock.now() - 1)])


def test_the_sweep_ends_what_its_executor_left(person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    task_id, chat = accepted(me, "hello")
    assert leases.claim(task_id)
    stream_log.write(task_id, stream_log.Slice(0, "content", "half an ans"))
    sweep()
    assert stored(task_id).status == "running"  # its lease holds
    expire(task_id)
    sweep()
    task = stored(task_id)
    assert (task.status, task.error_code) == ("failed", "interrupted")
    assert message_of(task).content == "half an ans"
    assert me.user.credits == before
    assert Chat.get(chat.id, consistent_read=True).active_task is None
    check_rules(me)


def test_a_task_that_nobody_took_is_sent_again_and_fails_in_the_end(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    sent: list[str] = []
    monkeypatch.setattr(sweeper.aws, "enqueue", lambda _, message: sent.append(message["task_id"]))
    real_now = clock.now
    for later in (61, 185, 430, 899):
        monkeypatch.setattr(clock, "now", lambda later=later: real_now() + later)
        sweeper.attend(task_id)
    assert sent == [task_id] * 3
    monkeypatch.setattr(clock, "now", lambda: real_now() + 1000)
    sweeper.attend(task_id)
    task = stored(task_id)
    assert (task.status, task.error_code) == ("failed", "queue_timeout")
    check_rules(me)


async def follow(task: Task, position: int) -> Stream:
    return parse("".join([event async for event in streaming.follow(task, position, viewer_of(task.user_id))]))


def test_the_hold_is_never_less_than_the_cost(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello 🙂" * 20, max_tokens=3)
    alone(task_id)
    task = stored(task_id)
    assert task.finish_reason == "length"
    assert credits.pricing.compute_cost(task.tariff, credits.Usage(**task.usage)) <= task.hold


pieces = st.lists(st.tuples(st.sampled_from(["reasoning", "content"]), st.text(max_size=8)), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces)
def test_whatever_the_provider_says_is_seen_stored_and_resumed_exactly(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[str, str]]
) -> None:
    async def saying(*_: Any, **__: Any) -> AsyncGenerator[Chunk, None]:
        for number, (kind, text) in enumerate(pieces, 1):
            await asyncio.sleep(0)
            reasoning, content = (text, "") if kind == "reasoning" else ("", text)
            last = number == len(pieces)
            yield Chunk(reasoning, content, "stop" if last else None, Usage(7, number))

    monkeypatch.setattr(executor.dashscope, "stream", saying)
    me = person()
    task_id, _ = accepted(me, "hello")
    stream = in_loop(watched(me, task_id))
    task = stored(task_id)
    said = {which: "".join(text for kind, text in pieces if kind == which) for which in ("reasoning", "content")}
    assert (stream.reasoning, stream.content) == (said["reasoning"], said["content"])
    if not said["content"]:
        assert (task.status, task.finish_reason) == ("finished", "stop")
        with pytest.raises(Message.DoesNotExist):
            message_of(task)
        return
    message = message_of(task)
    assert (message.reasoning or "", message.content) == (said["reasoning"], said["content"])
    assert task.usage == Usage(7, len(pieces))._asdict()
    shown = "".join(text for _, text in pieces)
    for position in {0, len(shown) // 3, len(shown)}:
        rest = in_loop(resumed(task, position))
        assert "".join(rest) == shown[position:]


async def resumed(task: Task, position: int) -> list[str]:
    """The pieces of text from a position on, in the order in which they are shown."""
    events = "".join([event async for event in streaming.follow(task, position, viewer_of(task.user_id))])
    data = [json.loads(line[6:]) for line in events.split("\n") if line.startswith('data: {"status":"running"')]
    return [body.get("reasoning", "") + body.get("content", "") for body in data]
