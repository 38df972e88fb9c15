"""GET /tasks/{id}/stream: the answer as it is made. One ASGI app with two doors.

The Function URL (under the web adapter, see stream.sh) streams: the first viewer of a pending task becomes its executor's
viewer, with no queue, poll or database between. The HTTP API (`handler`, through Mangum) cannot stream and never claims: it asks
for the task to be executed at once and answers with what the log has, so that a client reconnects with Last-Event-ID.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aideer import auth, aws, clock, dynamodb, leases, settings, sse, tasks, titles, watching
from aideer.errors import AideerError, BadRequest, Busy, NotFound, Unauthorized, Unprocessable
from aideer.models import Task, User

if TYPE_CHECKING:
    from aideer.engine import Run

WAIT_SECONDS = 20.0
"""How long the door that cannot stream waits for something new: less than API Gateway does."""
LEAVING_SECONDS = 5.0


async def stream(request: Request) -> Response:
    """Stream a task's text, from its start or from a position on."""
    task_id = request.path_params["id"]
    claims = await asyncio.to_thread(_claims, request, task_id)
    position = sse.position(request.headers.get("last-event-id"), request.query_params.get("after"))
    run = None
    if position is None and "aws.event" not in request.scope:
        # Before the viewer is let in, whose user has paid for this answer anyway: it is one read less to wait for.
        run = await _begun(request, task_id, viewer_of=claims["sub"])
        if run:
            await run.asked.wait()
    try:
        user = await asyncio.to_thread(auth.holder, claims)
    except Exception:
        if run:  # Lambda freezes what goes on after its response: the refusal waits for the answer's end
            async for _ in watching.live(run):
                pass
        raise
    if position == sse.END:
        return Response(status_code=204)
    if run:
        events = watching.live(run)
    else:
        task = await asyncio.to_thread(_opened, user, task_id, position)
        events = await (_waiting if "aws.event" in request.scope else _following)(request, task, int(position or 0))
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _begun(request: Request, task_id: str, *, viewer_of: str | None = None) -> "Run | None":
    """The answer, if it was nobody's yet: then it is made here from now on, whether or not anybody stays to watch."""
    claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=viewer_of)
    if claimed is None:
        return None
    from aideer import engine  # the SDK is heavy, and most followers come for the log

    return engine.start(claimed, _deadline(request))


async def _following(request: Request, task: Task, position: int) -> AsyncGenerator[str, None]:
    if task.status == "pending" and not position and (run := await _begun(request, task.id)):
        return watching.live(run)
    return watching.follow(task, position)


async def _waiting(_: Request, task: Task, position: int) -> AsyncGenerator[str, None]:
    if task.status == "pending":
        await asyncio.to_thread(aws.enqueue, settings.TASKS_QUEUE_URL, {"task_id": task.id})
    return watching.follow(task, position, WAIT_SECONDS)


def _claims(request: Request, task_id: str) -> dict[str, Any]:
    """What the access token says, or the ticket for this very stream."""
    ticket = request.query_params.get("ticket")
    if ticket is None:
        return auth.access_claims(request.headers.get("authorization"))
    claims = auth.verify(ticket)
    if claims["typ"] != "stream":
        raise BadRequest("wrong_token_type", "This takes a stream's ticket.")
    if claims["task"] != task_id:
        raise Unauthorized("invalid_token", "This ticket is for another stream.")
    return claims


def _opened(user: User, task_id: str, position: Any) -> Task:
    """The user's task; the first stream from its start is marked, a second one refused."""
    task = tasks.of(user, task_id)
    if task.type == titles.TYPE:
        raise Unprocessable("not_streamable", "Titles are not streamed.")
    if position is None:
        marked = Task(task_id)
        if not leases.update(marked, [Task.streamed.set(True)], Task.id.exists() & Task.streamed.does_not_exist()):
            raise Unprocessable("already_streamed", "This was streamed before: go on from a position.")
        return marked
    return task


def _deadline(request: Request) -> float:
    """When the invocation ends: the web adapter passes Lambda's context in a header."""
    latest = clock.now() + settings.TASK_SECONDS
    with contextlib.suppress(KeyError, ValueError, TypeError):
        return min(latest, float(json.loads(request.headers["x-amzn-lambda-context"])["deadline"]) / 1000)
    return latest


async def _refused(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, AideerError) else NotFound("not_found", "There is nothing here.")
    return JSONResponse(known.body(), known.status, headers=known.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    if not dynamodb.unavailable(error):
        raise error
    return await _refused(request, Busy())


async def _alive(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    # Under uvicorn only: what streams will need the SDK, and loading it now spares the first viewer the wait.
    from aideer import engine

    yield
    await engine.finish(LEAVING_SECONDS)


app = Starlette(
    routes=[Route("/api/v1/tasks/{id}/stream", stream, methods=["GET"]), Route("/ready", _alive)],
    exception_handlers={
        AideerError: _refused,
        HTTPException: _refused,
        PynamoDBException: _failed,
        BotoCoreError: _failed,
        ClientError: _failed,
    },
    lifespan=_lifespan,
)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry behind the HTTP API."""
    from mangum import Mangum  # the streaming door does without

    return Mangum(app, lifespan="off")(event, context)  # it finds, or makes, this thread's event loop
