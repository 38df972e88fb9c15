"""What a viewer of a task's stream is sent, as text/event-stream.

Beside the executor (`live`) the text is relayed as it comes. From anywhere else (`follow`) it is read from the stream log, which
lags: a position ahead of the log waits until the log has passed it. Where the task ended before that, only the final event is
sent, whose content replaces all that was shown.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from pynamodb.exceptions import PynamoDBException

from aideer import clock, dynamodb, leases, sse, streamlog, tasks
from aideer.models import Task

if TYPE_CHECKING:
    from aideer.engine import Run

SILENCE_SECONDS = 15.0
"""After this long without an event, a comment keeps the connection open."""
POLL_SECONDS = 0.25
RECONNECT_MILLISECONDS = 500


async def live(run: "Run") -> AsyncGenerator[str, None]:
    """The whole stream of an answer that is being made in this process."""
    yield sse.opened(0)
    seen, position = 0, 0
    while not (run.over and seen == len(run.shown)):
        if not await run.changed(seen, SILENCE_SECONDS):
            yield sse.KEEP_ALIVE
            continue
        new = run.shown[seen:]
        seen += len(new)
        for part in streamlog.slices(position, new):
            yield sse.text(part.end, part.kind, part.text)
            position = part.end
    if run.end and not leases.is_open(run.end):
        ours = run.end.closed_by == run.task.executor
        shown = run.text if ours else await asyncio.to_thread(tasks.text, run.end)
        yield sse.final(tasks.ending(run.end, shown))
        yield sse.CLOSE


async def follow(task: Task, position: int, patience: float | None = None) -> AsyncGenerator[str, None]:
    """The stream from a position on, out of the log, to the end.

    With `patience` (seconds) it is one answer to a client that cannot be streamed to: it ends as soon as there was
    something new, or nothing for so long, and the client comes back with its position. So it does where the tables do not
    answer, and the stream ends without an end.
    """
    try:
        async with aclosing(_followed(task, position, patience)) as events:
            async for event in events:
                yield event
    except PynamoDBException as error:
        if not dynamodb.unavailable(error):
            raise


async def _followed(task: Task, position: int, patience: float | None) -> AsyncGenerator[str, None]:
    if patience is not None:
        yield sse.retry(RECONNECT_MILLISECONDS)
    yield sse.opened(position)
    began = spoke = clock.now()
    while True:
        end = None if leases.is_open(task) else int(task.text_length or 0)
        parts = await asyncio.to_thread(streamlog.read, task.id, position, end)
        for part in parts:
            yield sse.text(part.end, part.kind, part.text)
            position, spoke = part.end, clock.now()
        if end is not None:
            yield sse.final(tasks.ending(task, await asyncio.to_thread(tasks.text, task)))
            yield sse.CLOSE
            return
        if patience is not None and (parts or clock.now() - began >= patience):
            return
        if clock.now() - spoke >= SILENCE_SECONDS:
            yield sse.KEEP_ALIVE
            spoke = clock.now()
        await asyncio.sleep(POLL_SECONDS)
        task = await asyncio.to_thread(Task.get, task.id, consistent_read=True)
