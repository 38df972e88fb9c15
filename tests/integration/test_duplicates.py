"""Everything that can come twice, late, or at the same instant."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aideer.billing import credits
from aideer.core import clock, settings
from aideer.data.models import Message, Task
from aideer.tasks import control, executor, leases, stream_log, streaming, sweeper
from tests.chaos.cases import Lab, laboratory
from tests.chaos.fault_injection import FAULTS, Call
from tests.chaos.harness import World
from tests.chaos.kills import victims
from tests.events import parse
from tests.faults import THROTTLED, refused
from tests.support import in_loop, sweep, viewer_of
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory() as ours:
        yield ours


@pytest.fixture
def world(lab: Lab) -> World:
    return lab.world()


def question(world: World, directive: str = "/sim tokens=6 delay=2", *, stream: bool = False) -> tuple[str, str]:
    """A task that was accepted: its id, and where it streams."""
    me = world.people[0] if world.people else world.person()
    accepted = world.accepted(me, world.chat(me, directive), stream=stream)
    return accepted["task_id"], accepted["stream_url"]


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


def nothing_wrong(world: World) -> None:
    world.rest()
    assert list(world.violations()) == []


def test_a_message_that_comes_twice_to_two_processes_at_once_makes_one_answer(lab: Lab, world: World) -> None:
    ids = [question(world)[0] for _ in range(8)]
    with victims(lab) as first, victims(lab) as second, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda process: process.killed(ids, [], None), (first, second)))
    assert {stored(task_id).status for task_id in ids} == {"finished"}
    nothing_wrong(world)  # which delivers them all twice more


def test_a_viewer_and_the_queue_at_the_same_instant_make_one_answer(world: World) -> None:
    for _ in range(8):
        task_id, url = question(world, stream=True)
        viewing, thread = world.watching(task_id, url)
        world.deliver(world.messages[-1])
        thread.join()
        assert viewing.status == 200
        assert viewing.stream.final["status"] == "finished"
    nothing_wrong(world)


@pytest.mark.parametrize("stop_comes", ["before", "after"])
def test_a_stop_beside_the_end_leaves_one_end(world: World, monkeypatch: pytest.MonkeyPatch, stop_comes: str) -> None:
    settle = credits.settle

    def raced(*arguments: object, **named: object) -> Task:
        task_id = arguments[0].id  # type: ignore[attr-defined]
        if stop_comes == "before":
            control.request_stop(task_id)
        end = settle(*arguments, **named)  # type: ignore[arg-type]
        if stop_comes == "after":
            control.request_stop(task_id)
        return end

    monkeypatch.setattr(credits, "settle", raced)
    task_id, url = question(world, stream=True)
    viewing = world.watched(task_id, url)
    assert viewing.stream.final["status"] == stored(task_id).status == "finished"
    nothing_wrong(world)


def test_of_many_stops_and_an_end_one_counts(world: World) -> None:
    for _ in range(6):
        task_id, url = question(world, "/sim tokens=12 delay=4", stream=True)
        viewing, thread = world.watching(task_id, url)
        assert viewing.text_shown.wait(PATIENCE_SECONDS)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(control.request_stop, [task_id] * 8))
        thread.join()
        assert viewing.stream.final["status"] == stored(task_id).status in ("finished", "stopped")
    nothing_wrong(world)


def test_a_heartbeat_between_a_sweeps_read_and_its_write_keeps_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, _ = question(world)
    claimed = leases.claim(task_id)
    assert claimed
    world.clock.ahead = settings.LEASE_SECONDS + 1
    read = stream_log.read_text

    def renewed_meanwhile(*arguments: object) -> credits.Text:
        assert leases.renew(claimed)
        return read(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(stream_log, "read_text", renewed_meanwhile)
        sweeper.attend(task_id)
    assert stored(task_id).status == "running"
    in_loop(executor.Run(claimed, clock.now() + 60, attended=False).work())
    assert stored(task_id).status == "finished"
    nothing_wrong(world)


@pytest.mark.parametrize("skew", [-5.0, 5.0])
def test_clocks_five_seconds_apart_neither_end_what_lives_nor_keep_what_died(world: World, skew: float) -> None:
    task_id, _ = question(world)
    true = world.clock.ahead
    world.clock.ahead = true + skew
    claimed = leases.claim(task_id)
    assert claimed
    for _ in range(4):
        true += leases.settings.LEASE_SECONDS / 3  # when it is renewed at the latest
        world.clock.ahead = true
        sweeper.attend(task_id)
        assert stored(task_id).status == "running"
        world.clock.ahead = true + skew
        assert leases.renew(claimed)
    world.clock.ahead = true + settings.LEASE_SECONDS + 6
    sweeper.attend(task_id)
    assert stored(task_id).error_code == "interrupted"
    nothing_wrong(world)


@pytest.mark.parametrize("key", ["once", None])
def test_a_second_post_after_an_answer_that_was_lost(lab: Lab, world: World, key: str | None) -> None:
    me = world.person()
    chat = world.chat(me)
    lost = next(fault for fault in FAULTS if fault.name == "answer lost, then an outage")
    lab.wire.arm(lost, Call("it", "TransactWriteItems", 0))
    assert world.ask(me, chat, key).status == 503
    lab.wire.arm()
    [task] = world.tasks()
    again = world.ask(me, chat, key)
    assert again.json["task_id"] == task.id
    assert again.status == (200 if key else 409)
    nothing_wrong(world)


def test_an_executor_that_comes_back_after_the_sweep_changes_nothing(world: World) -> None:
    task_id, _ = question(world)
    claimed = leases.claim(task_id)
    assert claimed
    stream_log.write(task_id, stream_log.Slice(0, "content", "half"))
    world.clock.ahead = settings.LEASE_SECONDS + 1
    sweep()
    in_loop(executor.Run(claimed, clock.now() + 60, attended=False).work())
    task = stored(task_id)
    assert (task.error_code, task.credits) == ("interrupted", 0)
    assert Message.get(task.thread, task.answer_n).content == "half"
    nothing_wrong(world)


def test_a_viewer_whose_user_cannot_be_read_is_refused_only_when_the_answer_has_ended(lab: Lab, world: World) -> None:
    """Lambda freezes what goes on after a response: an answer begun for a viewer must not be left behind by their refusal."""
    task_id, url = question(world, stream=True)
    throttled = next(fault for fault in FAULTS if fault.name == "throttled, and each repetition")
    lab.wire.arm(throttled, Call("executor", "GetItem USERS", 0))
    viewing = world.watched(task_id, url)
    lab.wire.arm()
    assert viewing.status == 503
    assert stored(task_id).status == "finished"
    nothing_wrong(world)


def test_a_stream_that_the_tables_fail_ends_and_goes_on_from_its_position(world: World) -> None:
    task_id, _ = question(world)
    world.rest()
    task = stored(task_id)

    async def follow(position: int) -> str:
        return "".join([event async for event in streaming.follow(task, position, viewer_of(task.user_id))])

    with refused("Query", THROTTLED, times=100):
        broken = parse(in_loop(follow(0)))
    assert (broken.final, broken.events) == ({}, ["start"])
    whole = parse(in_loop(follow(0)))
    assert whole.content == whole.final["content"] != ""


def test_claims_of_many_threads_at_one_instant_are_one(world: World) -> None:
    task_id, _ = question(world)
    gate = threading.Barrier(8)

    def claim(_: int) -> Task | None:
        gate.wait(PATIENCE_SECONDS)
        return leases.claim(task_id)

    with ThreadPoolExecutor(8) as pool:
        claimed = [task for task in pool.map(claim, range(8)) if task]
    assert len(claimed) == 1
    asyncio.run(executor.Run(claimed[0], clock.now() + 60, attended=False).work())
    nothing_wrong(world)


def test_a_conflict_with_a_close_is_waited_for_and_no_failure(lab: Lab, world: World) -> None:
    """DynamoDB refuses a single write to an item of a transaction under way, and botocore does not repeat it."""
    task_id, _ = question(world)
    conflict = next(fault for fault in FAULTS if fault.name == "conflict")
    lab.wire.arm(conflict, Call("it", "UpdateItem TASKS", 0))
    assert leases.claim(task_id)
    lab.wire.arm()
    control.request_stop(task_id)
    world.clock.ahead = settings.LEASE_SECONDS + 1
    nothing_wrong(world)
