"""What a viewer of a task's stream is sent, as text/event-stream.

Beside the executor (`live`) the text is relayed as it comes. From anywhere else (`follow`) it is read from the stream log, which
lags: a position ahead of the log waits until the log has passed it. Where the task ended before that, only the final event is
sent, whose content replaces all that was shown.

A viewer whose session ends, or whose task is deleted, sees no more of it, and no end: `follow` stops without a `close`. `live` is
the executor's own response and may not end before the answer does, or Lambda would freeze the executor and the answer would cost
nothing: it goes on with comments alone. A client that connects again is refused, and told why.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from aideer import clock, dynamodb, leases, results, sse, streamlog, tasks
from aideer.credits import Text
from aideer.errors import Busy
from aideer.models import Task
from aideer.viewers import Viewer

if TYPE_CHECKING:
    from aideer.engine import Run

SILENCE_SECONDS = 15.0
"""After this long without an event, a comment keeps the connection open."""
POLL_SECONDS = 0.25
RECONNECT_MILLISECONDS = 500
INTERRUPT_SECONDS = 5.0
"""How often a follower tries to close a task whose lease has expired."""

logger = Logger(service="aideer")


async def live(run: "Run", viewer: Viewer) -> AsyncGenerator[str, None]:
    """The whole stream of an answer that is being made in this process. It ends when the answer does, whatever the viewer may."""
    seen, position, spoke = 0, 0, clock.now()
    async with viewer.checked():
        yield sse.started(run.task.id, run.task.chat_id, 0)
        while not (run.over and seen == len(run.shown)):
            silent = not await run.changed(seen, SILENCE_SECONDS)
            new = run.shown[seen:]
            seen += len(new)
            if viewer.gone:
                new, silent = [], silent or clock.now() - spoke >= SILENCE_SECONDS
            for part in streamlog.slices(position, new):
                yield sse.text(part.end, part.kind, part.text)
                position = part.end
            if silent:
                yield sse.KEEP_ALIVE
            if silent or new:
                spoke = clock.now()
    with _quiet():
        if run.end and not leases.is_open(run.end):
            ours = run.end.closed_by == run.task.executor
            for event in await _end(run.end, viewer, run.text if ours else None):
                yield event


async def wait(run: "Run") -> AsyncGenerator[None, None]:
    """Wait for the end of an answer, and say every SILENCE_SECONDS that it is not there yet."""
    while not run.over:
        if not await run.changed(len(run.shown), SILENCE_SECONDS):
            yield


async def follow(
    task: Task, position: int, viewer: Viewer, patience: float | None = None, *, interrupts: bool = False
) -> AsyncGenerator[str, None]:
    """The stream from a position on, out of the log, to the end.

    With `patience` (seconds) it is one answer to a client that cannot be streamed to: it ends as soon as there was
    something new, or nothing for so long, and the client comes back with its position. So it does where the tables do not
    answer, and the stream ends without an end. With `interrupts` a task whose executor has died is closed as the sweep would, which
    takes permissions on credits.
    """
    with _quiet():
        async with viewer.checked(), aclosing(_followed(task, position, viewer, patience, interrupts)) as events:
            async for event in events:
                yield event


async def _followed(
    task: Task, position: int, viewer: Viewer, patience: float | None, interrupts: bool
) -> AsyncGenerator[str, None]:
    if patience is not None:
        yield sse.retry(RECONNECT_MILLISECONDS)
    yield sse.started(task.id, task.chat_id, position)
    began = spoke = clock.now()
    interrupt_at = 0.0
    while not viewer.gone:
        end = None if leases.is_open(task) else int(task.text_length or 0)
        parts = await asyncio.to_thread(streamlog.read, task.id, position, end)
        for part in parts:
            yield sse.text(part.end, part.kind, part.text)
            position, spoke = part.end, clock.now()
        if end is not None:
            for event in await _end(task, viewer):
                yield event
            return
        if patience is not None and (parts or clock.now() - began >= patience):
            return
        if clock.now() - spoke >= SILENCE_SECONDS:
            yield sse.KEEP_ALIVE
            spoke = clock.now()
        await asyncio.sleep(POLL_SECONDS)
        stored = await asyncio.to_thread(leases.read, task.id)
        if interrupts and stored and leases.expired(stored) and clock.now() >= interrupt_at:
            interrupt_at = clock.now() + INTERRUPT_SECONDS
            stored = await _interrupted(stored)
        if stored is None or tasks.is_deleted(stored):
            return
        task = stored


async def _end(task: Task, viewer: Viewer, text: Text | None = None) -> list[str]:
    """The last two events of a closed task, for a viewer who may still see them; its text, where it is not known, is read."""
    result = await asyncio.to_thread(results.read, task)
    if not viewer.may_see(result.user):
        return []
    shown = await asyncio.to_thread(result.text) if text is None else text
    return [sse.final(tasks.ending(task, shown) | result.fields()), sse.CLOSE]


async def _interrupted(task: Task) -> Task:
    from aideer import sweeping  # for the few streams whose executor dies

    try:
        return await asyncio.to_thread(sweeping.interrupt, task)
    except Exception as error:  # the sweep will
        logger.warning("interrupt", extra={**leases.who(task), "error": type(error).__name__})
        return task


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Where the tables do not answer, a stream ends without an end, and its client comes back with its position."""
    try:
        yield
    except Busy:
        pass
    except (PynamoDBException, BotoCoreError, ClientError) as error:
        if not dynamodb.unavailable(error):
            raise
