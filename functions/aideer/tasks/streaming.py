"""Streaming: the events that a viewer of a task's stream receives, as text/event-stream.

In the executor's process, `live` relays the text as it comes. Elsewhere, `follow` reads it from the stream log, which lags. If a
viewer's position is ahead of the log, the follower waits until the log has passed it. After AHEAD_SECONDS without new text it gives
up, and the client connects again. If the task has ended before that, only the final event is sent. Its content replaces all text
that was shown.

If the viewer's session ends, the task is deleted, or another follower takes the slot (slots.py), the viewer receives no more text
and no final event. `follow` stops without a `close`. But `live` is the executor's own response, so it must not end before the
answer. Otherwise Lambda would freeze the executor, and the answer would be free. So `live` continues with comments only. If the
client connects again, it is refused, with the reason.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from aideer.billing.credits import Text
from aideer.core import aws_errors, clock
from aideer.core.errors import Busy
from aideer.core.logs import logger
from aideer.data.models import Task
from aideer.tasks import control, leases, results, sse, stream_access, stream_log
from aideer.tasks.results import Result
from aideer.tasks.stream_access import Viewer

if TYPE_CHECKING:
    from aideer.tasks.executor import Run

SILENCE_SECONDS = 15.0
"""After this many seconds without an event, a comment keeps the connection open."""
POLL_SECONDS = 0.25
RECONNECT_MILLISECONDS = 500
AHEAD_SECONDS = 30.0
"""How long a follower whose position is ahead of the log waits for the log, without any new text."""
INTERRUPT_SECONDS = 5.0
"""How often a follower tries to close a task whose lease has expired."""


async def live(
    run: "Run", viewer: Viewer, start: str | None = None, note: Callable[[Result], None] | None = None
) -> AsyncGenerator[str, None]:
    """Yield the whole stream of an answer that this process makes. It ends with the answer, even if the viewer's session ends.

    `start` is the first event, if it tells more than the usual one. `note` is given the results, if this executor closed the task.
    """
    seen, position, spoke = 0, 0, clock.now()
    async with viewer.checked():
        yield start or _start_event(run.task, 0)
        while not (run.over and seen == len(run.shown)):
            silent = not await run.changed(seen, SILENCE_SECONDS)
            new = run.shown[seen:]
            seen += len(new)
            if viewer.gone:
                new, silent = [], silent or clock.now() - spoke >= SILENCE_SECONDS
            for part in stream_log.cut_slices(position, new):
                yield sse.text_event(part.end, part.kind, part.text)
                position = part.end
            if silent:
                yield sse.KEEP_ALIVE
            if silent or new:
                spoke = clock.now()
    with _quiet():
        if run.end and not run.end.is_open:
            ours = run.end.closed_by == run.task.executor
            for event in await _end(run.end, viewer, run.received.text if ours else None, note if ours else None):
                yield event


async def wait(run: "Run") -> AsyncGenerator[None, None]:
    """Wait for the end of an answer. Until then, yield after every SILENCE_SECONDS without new text."""
    while not run.over:
        if not await run.changed(len(run.shown), SILENCE_SECONDS):
            yield


async def follow(
    task: Task,
    position: int,
    viewer: Viewer,
    patience: float | None = None,
    *,
    interrupts: bool = False,
    start: str | None = None,
) -> AsyncGenerator[str, None]:
    """Yield the stream from a position to its end, read from the stream log.

    `patience` (seconds) is for clients that cannot receive a stream. The response ends as soon as there is new text, or after
    `patience` without any. Then the client calls again with its position. If the tables do not respond, the stream stops without a
    final event, and the client calls again too. With `interrupts`, a task whose executor has died is closed as the sweeper would
    close it. This needs permissions on credits. `start` is the first event, if it tells more than the usual one.
    """
    counts, sent = patience is not None or not task.is_open, 0  # a poll can read the same text again and again
    try:
        with _quiet():
            async with (
                viewer.checked(),
                aclosing(_follow(task, position, viewer, patience, interrupts, start)) as events,
            ):
                async for event in events:
                    sent += len(event.encode())
                    yield event
    finally:
        if counts:
            await stream_access.finish(asyncio.to_thread(stream_access.charge, viewer, sent))


async def _follow(
    task: Task, position: int, viewer: Viewer, patience: float | None, interrupts: bool, start: str | None
) -> AsyncGenerator[str, None]:
    if patience is not None:
        yield sse.retry_field(RECONNECT_MILLISECONDS)
    yield start or _start_event(task, position)
    began = spoke = heard = clock.now()
    interrupt_at = 0.0
    while not viewer.gone:
        end = None if task.is_open else int(task.text_length or 0)
        parts = await asyncio.to_thread(stream_log.read, task.id, position, end)
        for part in parts:
            yield sse.text_event(part.end, part.kind, part.text)
            position, spoke, heard = part.end, clock.now(), clock.now()
        if end is not None:
            for event in await _end(task, viewer):
                yield event
            return
        if patience is not None and (parts or clock.now() - began >= patience):
            return
        if clock.now() - spoke >= SILENCE_SECONDS:
            yield sse.KEEP_ALIVE
            spoke = clock.now()
        if clock.now() - heard >= AHEAD_SECONDS:
            if position > await asyncio.to_thread(stream_log.find_end, task.id):
                return
            heard = clock.now()
        await asyncio.sleep(POLL_SECONDS)
        stored = await asyncio.to_thread(leases.read, task.id)
        if interrupts and stored and leases.is_expired(stored) and clock.now() >= interrupt_at:
            interrupt_at = clock.now() + INTERRUPT_SECONDS
            stored = await interrupt(stored)
        if stored is None or control.is_deleted(stored):
            return
        task = stored


def _start_event(task: Task, position: int) -> str:
    return sse.start_event(task.id, task.chat_id, position, **control.replaced_message(task))


async def _end(
    task: Task, viewer: Viewer, text: Text | None = None, note: Callable[[Result], None] | None = None
) -> list[str]:
    """Return the last two events of a closed task, or none if the viewer may not see them. Without `text`, read the text."""
    result = await asyncio.to_thread(results.read, task)
    if note:
        note(result)
    if not viewer.may_see(result.user):
        return []
    shown = await asyncio.to_thread(result.text) if text is None else text
    return [sse.final_event(control.result_fields(task, shown) | result.fields()), sse.CLOSE]


async def interrupt(task: Task) -> Task:
    """End a task whose executor has died, as the sweeper would. Return the task as it is then, or as it was if that fails."""
    from aideer.tasks import sweeper  # only for the few streams whose executor dies

    try:
        return await asyncio.to_thread(sweeper.interrupt, task)
    except Exception as error:  # the sweeper will close the task
        logger.warning("interrupt", extra={**leases.log_ids(task), "error": type(error).__name__})
        return task


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """End the stream without a final event if the tables do not respond. Its client connects again with its position."""
    try:
        yield
    except Busy:
        pass
    except (PynamoDBException, BotoCoreError, ClientError) as error:
        if not aws_errors.is_unavailable(error):
            raise
