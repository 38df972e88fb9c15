"""The streams of answers: GET /tasks/{id}/stream, and POST /tasks/stream, which also asks. One ASGI app serves two doors.

It also serves /ui/chat, the same chats and answers in the form of the AI SDK.

The Lambda URL (under the web adapter, see stream.sh) streams. The first viewer of a task is attached to its executor in the same
process, without a queue, polling or a database between them.

The HTTP API (`handler`, through Mangum) cannot stream and never claims a task. It queues the task for execution at once, and
answers with the text that the stream log has. Then the client reconnects with Last-Event-ID. Its path is `poll`. It also answers
`stream`, which reaches it only on the HTTP API's own address: a domain leads that path to the Lambda URL.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aideer.core import aws, settings
from aideer.core.errors import AideerError, Gone
from aideer.core.logs import logger
from aideer.core.warmth import answers_pings
from aideer.data.models import Task
from aideer.tasks import attached, leases, sse, stream_access, streaming
from aideer.tasks.stream_access import Viewer
from aideer.web import asgi

WAIT_SECONDS = 20.0
"""Seconds for which the HTTP API, which cannot stream, waits for new text. API Gateway itself waits longer."""
LEAVING_SECONDS = 5.0


async def ask(request: Request) -> Response:
    """Accept a task and stream its answer."""
    from aideer.tasks import asking  # imported here: who only follows a stream does not need it

    return await asking.ask(request)


async def ask_ui(request: Request) -> Response:
    """Accept a question of the AI SDK's client and stream its answer."""
    from aideer.ai_sdk import door  # imported here, as above

    return await door.ask(request)


async def resume_ui(request: Request) -> Response:
    """Stream the running answer of a chat once more, from its start."""
    from aideer.ai_sdk import door

    return await door.resume(request)


async def stop_ui(request: Request) -> Response:
    """Stop the running answer of a chat."""
    from aideer.ai_sdk import door

    return await door.stop(request)


async def stream(request: Request) -> Response:
    """Stream a task's text, from its start or from a position on."""
    task_id = request.path_params["id"]
    credentials = request.headers.get("authorization"), request.query_params.get("ticket")
    claims = await aws.run_with_secret(settings.SIGNING_SECRET_ARN, stream_access.verify_claims, task_id, *credentials)
    logger.thread_safe_append_keys(task_id=task_id, user_id=claims["sub"])
    query = request.query_params
    position = sse.parse_position(request.headers.get("last-event-id"), query.get("lastEventId"), query.get("after"))
    viewer = stream_access.Viewer.of(claims)
    waits = "aws.event" in request.scope
    run = None
    if position is None and not waits:
        # The claim comes before the check of the viewer: the user has paid for this answer anyway, and the first text waits for one
        # read less.
        run = await attached.claim(task_id, attached.find_deadline(request.headers), viewer_of=viewer.user_id)
        if run:
            await run.asked.wait()
    try:
        user = await stream_access.admit(claims, position, polls=waits)
    except AideerError as error:
        if run is None:
            raise
        return attached.refuse_beside(run, error)
    except Exception:
        if run:
            await attached.wait_until_over(run)
        raise
    if isinstance(position, str):
        raise Gone("stream_ended", "You have received this stream to its end.")
    if run:
        return attached.respond(streaming.live(run, viewer))
    task = await asyncio.to_thread(stream_access.open_stream, user, viewer, task_id, position, polls=waits)
    if waits:
        return attached.respond(await _wait(task, position or 0, viewer))
    deadline = attached.find_deadline(request.headers)
    return attached.respond(await attached.follow_or_claim(task, position or 0, viewer, deadline))


async def _wait(task: Task, position: int, viewer: Viewer) -> AsyncGenerator[str, None]:
    await asyncio.to_thread(stream_access.take_slot, viewer, task, polls=True)
    if task.status == "pending":
        await asyncio.to_thread(_execute_soon, task)
    return streaming.follow(task, position, viewer, WAIT_SECONDS)


def _execute_soon(task: Task) -> None:
    """Send a pending task to the queue once more, without the delay of its first message."""
    try:
        if leases.mark_polled(task):
            aws.enqueue(settings.TASKS_QUEUE_URL, {"task_id": task.id})
    except Exception as error:  # the poll goes on: the first message is under way
        logger.warning("queue", extra={**leases.log_ids(task), "error": type(error).__name__})


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    # Under uvicorn only. Streaming needs the SDK and the admission, and loading them now spares the first viewer the wait.
    from aideer.ai_sdk import door  # noqa: F401
    from aideer.tasks import asking, executor  # noqa: F401

    yield
    await executor.finish(LEAVING_SECONDS)


_ROUTES = [
    Route("/api/v1/tasks/stream", ask, methods=["POST"]),
    Route("/api/v1/tasks/{id}/stream", stream, methods=["GET"]),
    Route("/api/v1/ui/chat", ask_ui, methods=["POST"]),
    Route("/api/v1/ui/chat/{id}/stream", resume_ui, methods=["GET"]),
    Route("/api/v1/ui/chat/{id}/stop", stop_ui, methods=["POST"]),
    # For the HTTP API: behind a domain, the paths above lead to the Lambda URL.
    Route("/api/v1/tasks/{id}/poll", stream, methods=["GET"]),
]
app = asgi.make_application(_ROUTES, _lifespan)


@answers_pings
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry behind the HTTP API."""
    from mangum import Mangum  # imported here: streaming does not need it

    return Mangum(app, lifespan="off")(event, context)  # it finds, or makes, this thread's event loop
