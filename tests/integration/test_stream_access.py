"""What a viewer is told at the end of a stream, for how long a viewer may look, and what happens when an executor dies."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.chats import chats
from aideer.core import clock, settings
from aideer.core.errors import Busy
from aideer.core.usage import Source, Usage
from aideer.data.models import Chat, Message, Task, User
from aideer.providers.dashscope import Chunk
from aideer.schemas.chats import ChatChange, PlacedMessage
from aideer.security import auth
from aideer.tasks import control, executor, leases, received, results, stream_access, stream_log, streaming, sweeper
from aideer.tasks.stream_access import Viewer
from tasks import stream as stream_function
from tests import faults
from tests.events import Stream, parse
from tests.stream_client import streamed, waited
from tests.support import Answer, Api, Person, accepted, check_rules, in_loop, sweep, viewer_of

MakePerson = Callable[..., Person]
DOORS = ["streaming", "waiting"]


def stored(task_id: str) -> Task:
    return Task.get(task_id, consistent_read=True)


def finished(task_id: str) -> Task:
    in_loop(executor.execute(task_id, clock.now() + 60))
    return stored(task_id)


def opened(door: str, person: Person, task_id: str, position: int | None = None) -> Any:
    """What this door answers, as (status, body)."""
    headers = {} if position is None else {"last-event-id": str(position)}
    path = f"/api/v1/tasks/{task_id}/stream"
    if door == "streaming":
        answer = streamed(path, authorization=f"Bearer {person.token}", **headers)
        return answer.status_code, answer.text
    polled = waited(path, task_id, person.token, **headers)
    return polled.status, polled.body


def sign_out(person: Person) -> None:
    User(person.id).update([User.token_version.add(1)])


def shown_in_chat(api: Api, person: Person, task: Task) -> Any:
    chat = api("chats.get", "GET", f"/chats/{task.chat_id}", user=person).json
    return next((message for message in chat["messages"] if message.get("task_id") == task.id), None), chat["version"]


# The end


def beside(api: Api, person: Person, stream: Stream, task: Task) -> None:
    """The end says what the API says now."""
    message, version = shown_in_chat(api, person, task)
    assert stream.final["message"] == message
    assert stream.final["chat_version"] == version
    assert stream.final["credits_left"] == api("users.me", "GET", "/users/me", user=person).json["credits_left"]
    assert stream.final["sources"] == []


def test_the_executors_viewer_is_told_at_the_end_what_is_stored(api: Api, person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "/sim tokens=9 delay=1 think=3", enable_thinking=True)
    status, body = opened("streaming", me, task_id)
    assert status == 200
    beside(api, me, parse(body), stored(task_id))


@pytest.mark.parametrize("door", DOORS)
def test_a_follower_is_told_at_the_end_what_is_stored(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    task = finished(task_id)
    beside(api, me, parse(opened(door, me, task_id, 0)[1]), task)


@pytest.mark.parametrize("door", DOORS)
def test_the_end_says_how_it_is_now_and_not_how_it_was_at_the_close(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    task = finished(task_id)
    old = parse(opened(door, me, task_id, 0)[1]).final
    question, answer = Message.query(task.thread, consistent_read=True)
    kept = [PlacedMessage(n=message.n, role=message.role, content=message.content) for message in (question, answer)]
    change(me, chat.id, kept)
    now = parse(opened(door, me, task_id, 0)[1])
    assert now.final["chat_version"] > old["chat_version"]
    beside(api, me, now, task)
    assert now.final["message"] == old["message"]
    change(me, chat.id, [kept[0], PlacedMessage(n=answer.n, role="assistant", content="rewritten")])
    edited = parse(opened(door, me, task_id, 0)[1]).final
    assert edited["message"] is None, "it is no answer any more"
    assert edited["content"] == old["content"]
    change(me, chat.id, kept[:1])
    assert parse(opened(door, me, task_id, 0)[1]).final["message"] is None


def change(person: Person, chat_id: str, messages: list[PlacedMessage]) -> None:
    version = Chat.get(chat_id, consistent_read=True).version
    chats.change(person.user, chat_id, ChatChange(messages=messages), f'"{version}"')


@pytest.mark.parametrize("door", DOORS)
def test_where_nothing_was_stored_the_end_has_no_message(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    api("tasks.stop", "POST", f"/tasks/{task_id}/stop", user=me)
    seen = parse(opened(door, me, task_id, 0)[1])
    assert (seen.final["status"], seen.final["message"]) == ("stopped", None)
    beside(api, me, seen, stored(task_id))


@pytest.mark.parametrize("door", DOORS)
def test_of_a_chat_that_is_gone_the_end_says_nothing(api: Api, person: MakePerson, door: str) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    whole = parse(opened("streaming", me, task_id)[1])
    assert api("chats.delete", "DELETE", f"/chats/{chat.id}", user=me).status == 200
    final = parse(opened(door, me, task_id, 0)[1]).final
    assert (final["message"], final["chat_version"]) == (None, None)
    assert final["content"] == whole.content
    assert final["credits_left"] == me.user.credits


@pytest.mark.parametrize("door", DOORS)
def test_the_pages_that_a_search_found_are_part_of_the_end(person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    claimed = leases.claim(task_id)
    assert claimed
    found = Source(index=1, title="A page", url="https://example.com", site_name="Example")
    text = Text("", "as [1] says")
    credits.settle(claimed, Closer.executor(claimed.executor), "finished", text, "stop", Usage(10, 5), [found])
    final = parse(opened(door, me, task_id, 0)[1]).final
    assert final["sources"] == final["message"]["sources"] == [found]


def test_the_end_costs_one_reading_after_the_close(api: Api, person: MakePerson, counted: list[str]) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    token = me.token
    counted.clear()
    streamed(f"/api/v1/tasks/{task_id}/stream", authorization=f"Bearer {token}")
    closed = counted.index("TransactWriteItems")
    assert [call for call in counted[closed + 1 :] if call.startswith(("Get", "Batch", "Query"))] == [
        f"GetItem {settings.TASKS_TABLE}",  # of the close itself
        "BatchGetItem",
    ]
    counted.clear()
    streamed(f"/api/v1/tasks/{task_id}/stream?after=0", authorization=f"Bearer {token}")
    assert Counter(counted) == Counter(
        [
            f"GetItem {settings.USERS_TABLE}",
            f"UpdateItem {settings.RECORDS_TABLE}",
            f"GetItem {settings.TASKS_TABLE}",
            f"Query {settings.TASK_EVENTS_TABLE}",
            "BatchGetItem",
        ]
    )


def test_what_dynamodb_leaves_out_of_a_batch_is_asked_for_again(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    task = finished(task_id)
    client = results.connection().client
    whole, asked = client.batch_get_item, []

    def part(RequestItems: dict[str, Any]) -> Any:
        asked.append(sorted(RequestItems))
        first, *rest = sorted(RequestItems)
        answer = whole(RequestItems={first: RequestItems[first]})
        return {**answer, "UnprocessedKeys": {table: RequestItems[table] for table in rest}}

    monkeypatch.setattr(client, "batch_get_item", part)
    result = results.read(task)
    assert [len(tables) for tables in asked] == [3, 2, 1]
    assert None not in (result.user, result.chat, result.message)
    monkeypatch.setattr(
        client, "batch_get_item", lambda **given: {"Responses": {}, "UnprocessedKeys": given["RequestItems"]}
    )
    monkeypatch.setattr(results, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(Busy):
        results.read(task)


@pytest.mark.parametrize("claims", [True, False], ids=["live", "follow"])
def test_where_the_end_cannot_be_read_there_is_none_and_the_client_comes_back(person: MakePerson, claims: bool) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    if not claims:
        finished(task_id)
    with faults.refused("BatchGetItem", faults.THROTTLED, times=100):
        status, body = opened("streaming", me, task_id, None if claims else 0)
    broken = parse(body)
    assert (status, broken.final) == (200, {})
    assert "close" not in broken.events
    rest = parse(opened("streaming", me, task_id, int(broken.ids[-1]))[1])
    assert rest.final["content"] == broken.content + rest.content
    check_rules(me)


# The session


class Slow:
    """A provider that says "one ", and "two" once it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may = asyncio.Event()
        monkeypatch.setattr(executor.dashscope, "stream", self._stream)

    async def _stream(self, *_: Any, **__: Any) -> AsyncGenerator[Chunk, None]:
        yield Chunk("", "one ", None, Usage(7, 1))
        await self.may.wait()
        yield Chunk("", "two", "stop", Usage(7, 2))


async def gone(viewer: Viewer) -> None:
    while not viewer.gone:
        await asyncio.to_thread(lambda: None)


def ends_session(person: Person, how: str) -> None:
    user = User(person.id)
    if how == "signed out":
        sign_out(person)
    elif how == "ended elsewhere":
        user.update([User.sessions.delete(set(person.user.sessions))])
    elif how == "deleted":
        user.update([User.deleted.set(True)])
    else:
        user.delete()


@pytest.mark.parametrize("how", ["signed out", "ended elsewhere", "deleted"])
def test_the_executors_viewer_sees_nothing_more_after_the_session_and_the_answer_is_billed(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(stream_access, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "SILENCE_SECONDS", 0.01)
    me = person()
    task_id, _ = accepted(me, "hello")
    viewer = viewer_of(me.id)

    async def watch() -> tuple[str, str, bool]:
        provider = Slow(monkeypatch)
        claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=me.id)
        assert claimed
        run = executor.start(claimed, clock.now() + 60)
        events = streaming.live(run, viewer)
        before = after = ""
        while "one " not in before:
            before += await anext(events)
        await asyncio.to_thread(ends_session, me, how)
        await gone(viewer)
        after += await anext(events)  # comments, as long as the answer is being made
        provider.may.set()
        over = False
        async for event in events:
            over = run.over
            after += event
        return before, after, over or run.over

    before, after, over = in_loop(watch())
    assert parse(before).content == "one "
    assert set(after.split("\n\n")) == {": keep-alive", ""}, "neither text nor an end"
    assert over, "the response ends only after the answer"
    task = stored(task_id)
    assert task.status == "finished"
    if how == "signed out":
        assert task.credits > 0
        check_rules(me)


@pytest.mark.parametrize("interrupts", [True, False], ids=DOORS)
@pytest.mark.parametrize("how", ["signed out", "ended elsewhere", "deleted", "forgotten"])
def test_a_follower_ends_with_the_session_and_is_told_no_end(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, how: str, interrupts: bool
) -> None:
    monkeypatch.setattr(stream_access, "CHECK_SECONDS", 0.01)
    me = person()
    task_id, _ = accepted(me, "hello")
    assert leases.claim(task_id)
    stream_log.write(task_id, stream_log.Slice(0, "content", "half"))

    async def watch() -> str:
        patience = None if interrupts else 60.0
        task = await asyncio.to_thread(stored, task_id)
        events = streaming.follow(task, 4, await asyncio.to_thread(viewer_of, me.id), patience, interrupts=interrupts)
        seen = ""
        while "start" not in seen:
            seen += await anext(events)
        await asyncio.to_thread(ends_session, me, how)
        return seen + "".join([event async for event in events])

    seen = parse(in_loop(watch()))
    assert (seen.events, seen.content) == (["start"], "")


def test_a_session_that_ends_just_before_the_answer_does_is_told_no_end(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    viewer = viewer_of(me.id)
    task = finished(task_id)
    sign_out(me)

    async def watch() -> str:
        return "".join([event async for event in streaming.follow(task, 10_000, viewer)])

    assert parse(in_loop(watch())).events == ["start"]
    for door in DOORS:
        assert opened(door, me, task_id, 0)[0] == 401


def test_a_task_that_is_deleted_meanwhile_is_told_no_end(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "POLL_SECONDS", 0.01)
    me = person()
    task_id, _ = accepted(me, "hello")

    async def watch(removed: bool) -> str:
        task = await asyncio.to_thread(stored, task_id)
        events = streaming.follow(task, 0, await asyncio.to_thread(viewer_of, me.id))
        seen = await anext(events)
        if removed:
            await asyncio.to_thread(Task(task_id).delete)
        else:
            await executor.execute(task_id, clock.now() + 60)
            await asyncio.to_thread(lambda: control.delete(stored(task_id)))
        return seen + "".join([event async for event in events])

    for removed in (False, True):
        if removed:
            task_id, _ = accepted(me, "hello")
        assert parse(in_loop(watch(removed))).final == {}


def test_a_session_that_cannot_be_read_goes_on(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_access, "CHECK_SECONDS", 0.001)
    me = person()
    viewer, asked = viewer_of(me.id), asyncio.Event()

    def fails(*_: object) -> None:
        loop.call_soon_threadsafe(asked.set)
        raise RuntimeError

    async def check() -> None:
        async with viewer.checked():
            await asked.wait()
            assert not viewer.gone
            monkeypatch.setattr(stream_access.lookup, "find", lambda *_: None)
            await gone(viewer)

    monkeypatch.setattr(stream_access.lookup, "find", fails)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        runner.run(check())


def test_an_open_stream_reads_its_user_no_more_often_than_it_must(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.to_thread(lambda: None)

    me = person()
    viewer = viewer_of(me.id)
    reads: list[str] = []

    def read(_: type[User], user_id: str) -> User | None:
        reads.append(user_id)
        return None if len(reads) == 3 else me.user

    monkeypatch.setattr(stream_access.lookup, "find", read)
    monkeypatch.setattr(stream_access, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": at_once}))
    asyncio.run(viewer._keep_checking())
    assert pauses == [stream_access.CHECK_SECONDS] * 3
    assert stream_access.CHECK_SECONDS >= 5
    assert reads == [me.id] * 3


# Refusals


@pytest.mark.parametrize("door", DOORS)
def test_every_answer_of_both_doors_is_json_or_events_and_for_nobodys_cache(person: MakePerson, door: str) -> None:
    me, other = person(), person()
    task_id, _ = accepted(me, "hello")
    finished(task_id)

    def headers(user: Person, **given: str) -> tuple[int, dict[str, str], str]:
        path = f"/api/v1/tasks/{task_id}/stream"
        if door == "streaming":
            answer = streamed(path, authorization=f"Bearer {user.token}", **given)
            return answer.status_code, dict(answer.headers), answer.text
        polled: Answer = waited(path, task_id, user.token, **given)
        return polled.status, {name.lower(): value for name, value in polled.headers.items()}, polled.body

    for user, given, expected in (
        (me, {"last-event-id": "0"}, 200),
        (me, {"last-event-id": "end"}, 410),
        (me, {"last-event-id": "x"}, 422),
        (me, {"last-event-id": "99999"}, 422),
        (other, {"last-event-id": "0"}, 404),
    ):
        status, sent, body = headers(user, **given)
        assert status == expected
        assert sent["x-content-type-options"] == "nosniff"
        if status == 200:
            assert sent["cache-control"] == "no-cache, no-transform"
        else:
            assert sent["cache-control"] == "private, no-store"
            assert sent["content-type"] == "application/json"
            assert '"code"' in body
    sign_out(me)
    assert headers(me)[0] == 401


@pytest.mark.parametrize("door", DOORS)
def test_a_position_that_nobody_was_sent_is_refused(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setattr(stream_function, "WAIT_SECONDS", 0.01)
    me = person()
    task_id, _ = accepted(me, "hello")
    assert opened(door, me, task_id, 1)[0] == 422  # nobody has begun
    length = int(finished(task_id).text_length or 0)
    assert opened(door, me, task_id, length)[0] == 200
    assert opened(door, me, task_id, length + 1)[0] == 422
    running, _ = accepted(me, "hello")
    assert leases.claim(running)
    assert opened("waiting", me, running, 5000)[0] == 200  # ahead of the log: its viewer may have seen so much
    assert opened(door, me, running, stream_log.LONGEST + 1)[0] == 422
    Task(running).update([Task.lease_until.set(clock.now() - 1)])
    sweep()
    assert opened(door, me, running, 5000)[0] == 200  # and may have seen so much before it was interrupted


def test_no_answer_is_longer_than_the_longest_position() -> None:
    assert received.TEXT_BYTES <= stream_log.LONGEST


def test_a_stream_ignores_what_a_polyfill_adds_to_its_address(person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    path, bearer = f"/api/v1/tasks/{task_id}/stream", f"Bearer {me.token}"
    whole = parse(streamed(path, authorization=bearer).text).content
    answer = streamed(f"{path}?after=2&_=1764370000000&heartbeat=", authorization=bearer)
    assert (answer.status_code, parse(answer.text).content) == (200, whole[2:])


@pytest.mark.parametrize("door", DOORS)
def test_a_polyfills_position_counts_as_the_header_does(person: MakePerson, door: str) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    path = f"/api/v1/tasks/{task_id}/stream"
    whole = parse(streamed(path, authorization=f"Bearer {me.token}").text).content

    def seen(query: str, **headers: str) -> str:
        if door == "streaming":
            return parse(streamed(path + query, authorization=f"Bearer {me.token}", **headers).text).content
        return parse(waited(path + query, task_id, me.token, **headers).body).content

    assert seen("?after=0&lastEventId=3") == whole[3:]
    assert seen("?lastEventId=4") == whole[4:]
    assert seen("?after=0&lastEventId=3", **{"last-event-id": "5"}) == whole[5:]
    assert seen("?after=2", **{"last-event-id": "5"}) == whole[5:]
    assert seen("?after=2&lastEventId=") == whole[2:]


def test_what_the_resume_url_opens_is_the_whole_stream_as_often_as_one_likes(api: Api, person: MakePerson) -> None:
    me = person()
    task_id, chat = accepted(me, "hello")
    running = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id}, user=me)
    shown = api("tasks.get", "GET", f"/tasks/{task_id}", user=me).json
    assert running.status == 409
    assert running.json["resume_url"] == shown["resume_url"] == shown["stream_url"] + "&after=0"
    first = parse(streamed(shown["resume_url"]).text)  # the stream_url's connection never arrived
    assert first.content == first.final["content"] != ""
    assert first.ids[0] == "0"
    again = [parse(streamed(shown["resume_url"]).text) for _ in range(2)]
    assert [stream.content for stream in again] == [first.content] * 2
    assert api("tasks.get", "GET", f"/tasks/{task_id}", user=me).json["resume_url"] == shown["resume_url"]
    assert streamed(shown["stream_url"]).status_code == 200  # nobody had opened it
    assert streamed(shown["stream_url"]).status_code == 422
    check_rules(me)


def test_a_title_has_no_stream_to_resume(api: Api, person: MakePerson) -> None:
    me = person()
    _, chat = accepted(me, "hello")
    title = api("tasks.create", "POST", "/tasks", json={"chat_id": chat.id, "type": "title_generation"}, user=me).json
    assert (title["stream_url"], title["resume_url"]) == (None, None)


# A dead executor


def dead(person: Person) -> str:
    """A task whose executor has written some text and will never come back."""
    task_id, _ = accepted(person, "hello")
    assert leases.claim(task_id)
    stream_log.write(task_id, stream_log.Slice(0, "content", "half an ans"))
    Task(task_id).update([Task.lease_until.set(clock.now() - 1)])
    return task_id


def test_a_follower_at_the_streaming_door_ends_what_a_dead_executor_left(api: Api, person: MakePerson) -> None:
    me = person()
    before = me.user.credits
    task_id = dead(me)
    status, body = opened("streaming", me, task_id, 4)
    seen = parse(body)
    assert (status, seen.content) == (200, " an ans")
    assert (seen.final["status"], seen.final["error"]["code"]) == ("failed", "interrupted")
    assert seen.final["message"]["finish_reason"] == "interrupted"
    assert stored(task_id).closed_by.startswith("sweep#")
    assert me.user.credits == before
    beside(api, me, seen, stored(task_id))
    check_rules(me)


def test_many_followers_and_the_sweep_end_it_once(person: MakePerson) -> None:
    me = person()
    task_id = dead(me)

    async def all_at_once() -> list[str]:
        task = await asyncio.to_thread(stored, task_id)
        viewer = await asyncio.to_thread(viewer_of, me.id)

        async def follow() -> str:
            return "".join([event async for event in streaming.follow(task, 0, viewer, interrupts=True)])

        *seen, _ = await asyncio.gather(*(follow() for _ in range(4)), asyncio.to_thread(sweep))
        return seen

    seen = [parse(body).final for body in in_loop(all_at_once())]
    assert {(final["status"], final["content"]) for final in seen} == {("failed", "half an ans")}
    check_rules(me)


def test_the_door_that_cannot_stream_moves_no_credits(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    monkeypatch.setattr(stream_function, "WAIT_SECONDS", 1.0)
    me = person()
    task_id = dead(me)
    counted.clear()
    _, body = opened("waiting", me, task_id, 11)
    assert parse(body).events == ["start"]
    assert "TransactWriteItems" not in counted
    assert stored(task_id).status == "running"


def test_a_late_renewal_wins_over_a_follower(person: MakePerson) -> None:
    me = person()
    task_id = dead(me)
    seen = stored(task_id)
    assert leases.renew(seen)
    assert sweeper.interrupt(seen).status == "running"
    assert not leases.is_expired(stored(task_id))
    check_rules(me)


def test_a_follower_that_cannot_end_it_leaves_it_to_the_sweep(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    task_id = dead(me)
    release, tries = credits.release, []

    def fails_once(*given: Any, **named: Any) -> Task:
        tries.append(given)
        if len(tries) == 1:
            raise Busy
        return release(*given, **named)

    monkeypatch.setattr(sweeper.credits, "release", fails_once)
    monkeypatch.setattr(streaming, "INTERRUPT_SECONDS", 0.0)
    assert parse(opened("streaming", me, task_id, 0)[1]).final["error"]["code"] == "interrupted"
    assert len(tries) == 2
    check_rules(me)


def test_a_stop_of_the_executor_is_told_to_followers_with_what_it_cost(api: Api, person: MakePerson) -> None:
    me = person()
    task_id, _ = accepted(me, "hello")
    claimed = leases.claim(task_id)
    assert claimed
    closer = Closer.executor(claimed.executor)
    credits.settle(claimed, closer, "stopped", Text("", "so far"), "stopped", Usage(10, 5))
    for door in DOORS:
        seen = parse(opened(door, me, task_id, 0)[1])
        assert (seen.final["status"], seen.final["message"]["content"]) == ("stopped", "so far")
        beside(api, me, seen, stored(task_id))
    assert auth.verify(me.token)["sub"] == me.id
