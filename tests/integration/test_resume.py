"""Lines that break: EventSource clients of both doors, at every position, see every answer whole and once."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from ld_eventsource import SSEClient
from ld_eventsource.config import ErrorStrategy, RetryDelayStrategy
from ld_eventsource.errors import HTTPStatusError

from aideer.core import clock
from aideer.data.models import Task, TaskEvent
from aideer.tasks import executor, leases, stream_log, streaming, sweeper
from tests.events import Stream, parse, put_together
from tests.integration.lines import BreakingLine, through
from tests.integration.stacks import Client, Stack, running
from tests.support import Person, accepted, check_rules, in_loop, sweep, viewer_of
from tests.waiting import PATIENCE_SECONDS, until

MakePerson = Callable[..., Person]
# The library leaves the connection of an answer that it refuses to the garbage collector.
pytestmark = [
    pytest.mark.early,
    pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("resume")
    with running(folder, WORKERS="2", ALLOWED_HOSTS="127.0.0.1") as started:  # a line that breaks has a port of its own
        yield started


def eventsource(url: str, last_event_id: str | None = None) -> tuple[Stream, list[int]]:
    """What an EventSource sees until it is told to stop, and the statuses that it was refused with."""
    client = SSEClient(
        url,
        initial_retry_delay=0.05,
        retry_delay_strategy=RetryDelayStrategy.default(max_delay=0.2),
        error_strategy=ErrorStrategy.from_lambda(
            lambda error: (ErrorStrategy.FAIL if isinstance(error, HTTPStatusError) else ErrorStrategy.CONTINUE, None)
        ),
        last_event_id=last_event_id,
    )
    seen, refused = [], []
    with contextlib.closing(client):
        try:
            for event in client.events:
                seen.append((event.event, event.last_event_id or "", event.data))
        except HTTPStatusError as error:
            refused.append(error.status)
    return put_together(seen), refused


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_an_eventsource_on_a_line_that_keeps_breaking_sees_the_whole_answer_once(stack: Stack, door: str) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=300 delay=10 cut_emoji 你好 🙂", stream=not door)
    with BreakingLine(stack.url, after=900, breaks=3) as line:
        seen, refused = eventsource(through(task["stream_url"], line.url, door))
        assert (line.broken, refused) == (3, [410])
    whole = me.ended(task["task_id"])
    assert seen.content == seen.final["content"] == whole["content"]
    assert seen.final["status"] == "finished"
    assert refused == [410]  # told to stop, by its own standard's way


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_an_eventsource_on_the_resume_url_sees_the_whole_answer_once(stack: Stack, door: str) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=300 delay=10 cut_emoji 你好 🙂", stream=not door)
    with BreakingLine(stack.url, after=900, breaks=3) as line:
        seen, refused = eventsource(through(task["resume_url"], line.url, door))
        assert (line.broken, refused) == (3, [410])
    whole = me.ended(task["task_id"])
    assert seen.content == seen.final["content"] == whole["content"]
    assert refused == [410]
    again, _ = eventsource(through(whole["resume_url"], stack.url, door))  # the page was loaded again
    assert again.content == whole["content"]
    assert again.final == seen.final


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_who_only_looks_begins_nothing_and_takes_nobodys_stream(stack: Stack, door: str) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=3", stream=True)
    url = through(task["stream_url"], stack.url, door)
    assert httpx.head(url, timeout=PATIENCE_SECONDS).status_code == 404
    seen, refused = eventsource(url)
    assert seen.final["status"] == "finished"
    assert refused == [410]


def test_two_viewers_at_both_doors_see_the_same_answer(stack: Stack) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=150 delay=10")
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(eventsource, task["stream_url"])
        until(lambda: me.task(task["task_id"])["status"] != "pending", "claimed")
        others = [
            pool.submit(eventsource, through(task["stream_url"], stack.url, door), last_event_id="0")
            for door in ("", "/gateway")
        ]
        seen = [future.result(PATIENCE_SECONDS)[0] for future in [first, *others]]
    assert {stream.content for stream in seen} == {me.ended(task["task_id"])["content"]}
    assert seen[0].final == seen[1].final == seen[2].final


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_a_position_ahead_of_a_running_answer_waits_for_it(stack: Stack, door: str) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=150 delay=10", stream=False)
    until(lambda: me.task(task["task_id"])["status"] == "running", "running")
    ahead = len(me.task(task["task_id"])["content"]) + 100
    seen, _ = eventsource(through(task["stream_url"], stack.url, door), last_event_id=str(ahead))
    whole = me.ended(task["task_id"])["content"]
    assert len(whole) > ahead
    assert seen.content == whole[ahead:]
    assert seen.final["content"] == whole


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_who_saw_nothing_at_all_goes_on_from_zero(stack: Stack, door: str) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=20 delay=1")
    url = through(task["resume_url"], stack.url, door)
    with BreakingLine(stack.url, after=40, breaks=1) as line:  # within the headers: not even `id: 0` came
        _, refused = eventsource(through(task["stream_url"], line.url, door))
    assert refused == [422]  # already_streamed: nobody can tell this from a second viewer
    seen, _ = eventsource(url)
    assert seen.content == me.ended(task["task_id"])["content"]
    assert eventsource(url, last_event_id="end")[1] == [410]


async def _follow(task: Task, position: int) -> Stream:
    return parse("".join([event async for event in streaming.follow(task, position, viewer_of(task.user_id))]))


def follow(task_id: str, position: int) -> Stream:
    stream: Stream = in_loop(_follow(Task.get(task_id, consistent_read=True), position))
    return stream


def test_ahead_of_an_interrupted_answer_the_end_alone_replaces_what_was_shown(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    claimed = leases.claim(task_id)
    assert claimed
    stream_log.write(task_id, stream_log.Slice(0, "content", "half an ans"))
    Task(task_id).update([Task.lease_until.set(clock.now() - 1)])
    sweep()
    for position in (11, 12, 500):  # its viewer had seen more than the log was told
        seen = follow(task_id, position)
        assert seen.content == ""
        assert (seen.final["status"], seen.final["content"]) == ("failed", "half an ans")
        assert seen.events == ["start", "message", "close"]
    assert follow(task_id, 4).content == " an ans"
    check_rules(me)


def test_a_viewer_who_waits_ahead_of_the_log_is_told_when_the_answer_is_interrupted(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    assert leases.claim(task_id)
    stream_log.write(task_id, stream_log.Slice(0, "content", "half"))

    async def waits() -> Stream:
        waiting = asyncio.create_task(_follow(await asyncio.to_thread(Task.get, task_id, consistent_read=True), 9))
        await asyncio.sleep(0)
        await asyncio.to_thread(Task(task_id).update, [Task.lease_until.set(clock.now() - 1)])
        await asyncio.to_thread(sweeper.sweep)
        return await waiting

    seen: Stream = in_loop(waits())
    assert (seen.content, seen.final["content"], seen.final["error"]["code"]) == ("", "half", "interrupted")


def test_after_the_logs_time_the_end_comes_from_the_chat(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=20 delay=1")
    in_loop(executor.execute(task_id, clock.now() + 60))
    whole = follow(task_id, 0)
    real_now = clock.now
    monkeypatch.setattr(clock, "now", lambda: real_now() + stream_log.TTL_SECONDS + 1)
    for position in itertools.chain((0, 1, 7), [10_000]):
        seen = follow(task_id, position)
        assert seen.content == ""
        assert seen.final == whole.final
        assert seen.final["content"] == whole.content


def test_a_log_of_which_the_beginning_is_gone_gives_no_gap(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=30 delay=1")
    in_loop(executor.execute(task_id, clock.now() + 60))
    whole = follow(task_id, 0)
    TaskEvent(task_id, 0).update([TaskEvent.ttl.set(1)])
    seen = follow(task_id, 0)
    assert seen.content == ""
    assert seen.final["content"] == whole.content
