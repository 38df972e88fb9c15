"""GET /tasks/{id}/stream: the answer as it is made. One ASGI app serves two endpoints.

The Function URL (under the web adapter, see stream.sh) streams. The first viewer of a pending task is attached to its executor in
the same process, without a queue, polling or a database between them.

The HTTP API (`handler`, through Mangum) cannot stream and never claims a task. It queues the task for execution at once, and
answers with the text that the stream log has. Then the client reconnects with Last-Event-ID.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, Gone
from aideer.core.logs import logger
from aideer.data.models import Task
from aideer.tasks import leases, sse, stream_access, streaming
from aideer.tasks.stream_access import Viewer
from aideer.web import asgi

if TYPE_CHECKING:
    from aideer.tasks.executor import Run

WAIT_SECONDS = 20.0
"""Seconds for which the HTTP API, which cannot stream, waits for new text. API Gateway itself waits longer."""
LEAVING_SECONDS = 5.0


async def stream(request: Request) -> Response:
    """Stream a task's text, from its start or from a position on."""
    task_id = request.path_params["id"]
    credentials = request.headers.get("authorization"), request.query_params.get("ticket")
    claims = await asyncio.to_thread(stream_access.verify_claims, task_id, *credentials)
    logger.thread_safe_append_keys(task_id=task_id, user_id=claims["sub"])
    query = request.query_params
    position = sse.parse_position(request.headers.get("last-event-id"), query.get("lastEventId"), query.get("after"))
    viewer = stream_access.Viewer.of(claims)
    run = None
    if position is None and "aws.event" not in request.scope:
        # The claim comes before the check of the viewer: the user has paid for this answer anyway, and the first text waits for one
        # read less.
        run = await _begun(request, task_id, viewer_of=viewer.user_id)
        if run:
            await run.asked.wait()
    try:
        user = await stream_access.admit(claims, from_start=position is None)
    except AideerError as error:
        if run is None:
            raise
        return _refused_beside(run, error)
    except Exception:
        if run:
            await _over(run)
        raise
    if isinstance(position, str):
        raise Gone("stream_ended", "You have received this stream to its end.")
    if run:
        events = streaming.live(run, viewer)
    else:
        task = await asyncio.to_thread(stream_access.open_stream, user, task_id, position)
        events = await (_waiting if "aws.event" in request.scope else _following)(request, task, position or 0, viewer)
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _begun(request: Request, task_id: str, *, viewer_of: str | None = None) -> "Run | None":
    """Claim the task if it is pending, and start its executor here. The executor goes on if its viewers leave."""
    claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=viewer_of)
    if claimed is None:
        return None
    from aideer.tasks import executor  # imported here: the SDK is heavy, and most followers read the log only

    return executor.start(claimed, _deadline(request))


async def _following(request: Request, task: Task, position: int, viewer: Viewer) -> AsyncGenerator[str, None]:
    if task.status == "pending" and not position and (run := await _begun(request, task.id)):
        return streaming.live(run, viewer)
    return streaming.follow(task, position, viewer, interrupts=True)


async def _waiting(_: Request, task: Task, position: int, viewer: Viewer) -> AsyncGenerator[str, None]:
    if task.status == "pending":
        await asyncio.to_thread(aws.enqueue, settings.TASKS_QUEUE_URL, {"task_id": task.id})
    return streaming.follow(task, position, viewer, WAIT_SECONDS)


def _refused_beside(run: "Run", error: AideerError) -> StreamingResponse:
    """Refuse a viewer while the paid answer is being made here.

    The body comes at once, and the response ends when the answer does.
    """

    async def body() -> AsyncGenerator[str, None]:
        yield json.dumps(error.body())
        async for _ in streaming.wait(run):
            yield " "  # JSON allows it, and without it a proxy might give up

    return StreamingResponse(body(), error.status, headers=error.headers, media_type="application/json")


async def _over(run: "Run") -> None:
    """Wait for the end of an answer, because Lambda freezes any work that goes on after the response."""
    async for _ in streaming.wait(run):
        pass


def _deadline(request: Request) -> float:
    """Return when the invocation ends. The web adapter passes Lambda's context in a header."""
    latest = clock.now() + settings.TASK_SECONDS
    with contextlib.suppress(KeyError, ValueError, TypeError):
        return min(latest, float(json.loads(request.headers["x-amzn-lambda-context"])["deadline"]) / 1000)
    return latest


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    # Under uvicorn only. Streaming needs the SDK, and loading it now spares the first viewer the wait.
    from aideer.tasks import executor

    yield
    await executor.finish(LEAVING_SECONDS)


app = asgi.make_application([Route("/api/v1/tasks/{id}/stream", stream, methods=["GET"])], _lifespan)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry behind the HTTP API."""
    from mangum import Mangum  # imported here: streaming does not need it

    return Mangum(app, lifespan="off")(event, context)  # it finds, or makes, this thread's event loop
