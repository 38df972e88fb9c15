"""Attached executors: answers that are made in the process of their first viewer, and the end of that viewer's response.

Lambda freezes the process when the response ends, so the response of an attached viewer lasts until the answer is made. That holds
even if the viewer is refused or its session ends.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from aideer.core import clock, settings
from aideer.core.errors import AideerError
from aideer.data.models import Task
from aideer.tasks import leases, stream_access, streaming
from aideer.tasks.stream_access import Viewer

if TYPE_CHECKING:
    from aideer.prompts.prompts import Prompt
    from aideer.tasks.executor import Run

_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept-Language"}
"""A stream's last event can hold a text: the reason of a failure."""


async def claim(task_id: str, deadline: float, *, viewer_of: str | None = None) -> "Run | None":
    """Claim the task if it is pending, and start its executor here. The executor goes on if its viewers leave."""
    claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=viewer_of)
    return start(claimed, deadline) if claimed else None


def start(task: Task, deadline: float, prompt: "Prompt | None" = None) -> "Run":
    """Start the executor of a task that belongs to this process."""
    from aideer.tasks import executor  # imported here: the SDK is heavy, and most followers read the log only

    return executor.start(task, deadline, prompt)


async def follow_or_claim(
    task: Task, position: int, viewer: Viewer, deadline: float, first: str | None = None
) -> AsyncGenerator[str, None]:
    """Return the stream of a task from a position on.

    If the task still waits for an executor, start that here. Otherwise the viewer is a follower, and needs a slot. Raises
    TooManyRequests if the viewer has used up the reading budget.
    """
    if task.status == "pending" and not position and (run := await claim(task.id, deadline)):
        return streaming.live(run, viewer, first)
    await asyncio.to_thread(stream_access.take_slot, viewer, task)
    return streaming.follow(task, position, viewer, interrupts=True, start=first)


def respond(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """Return the response of a stream."""
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)


def refuse_beside(run: "Run", error: AideerError) -> StreamingResponse:
    """Refuse a viewer while the paid answer is being made here.

    The body comes at once, and the response ends when the answer does.
    """

    refusal = json.dumps(error.body())

    async def body() -> AsyncGenerator[str, None]:
        yield refusal
        async for _ in streaming.wait(run):
            yield " "  # JSON allows it, and without it a proxy might give up

    return StreamingResponse(body(), error.status, headers=error.answer_headers(), media_type="application/json")


async def wait_until_over(run: "Run") -> None:
    """Wait for the end of an answer, because Lambda freezes any work that goes on after the response."""
    async for _ in streaming.wait(run):
        pass


def find_deadline(headers: Mapping[str, str]) -> float:
    """Return when the invocation ends. The web adapter passes Lambda's context in a header."""
    latest = clock.now() + settings.TASK_SECONDS
    with contextlib.suppress(KeyError, ValueError, TypeError):
        return min(latest, float(json.loads(headers["x-amzn-lambda-context"])["deadline"]) / 1000)
    return latest
