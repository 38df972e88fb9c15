"""GET /tasks/{id}/stream: the answer as it is made. One ASGI app with two doors.

The Function URL (under the web adapter, see stream.sh) streams: the first viewer of a pending task becomes its executor's
viewer, with no queue, poll or database between. The HTTP API (`handler`, through Mangum) cannot stream and never claims: it asks
for the task to be executed at once and answers with what the log has, so that a client reconnects with Last-Event-ID.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aideer import auth, aws, clock, leases, settings, sse, tasks, titles, watching
from aideer.errors import AideerError, BadRequest, NotFound, Unauthorized, Unprocessable
from aideer.models import Task, User

WAIT_SECONDS = 20.0
"""How long the door that cannot stream waits for something new: less than API Gateway does."""
LEAVING_SECONDS = 5.0


async def stream(request: Request) -> Response:
    """Stream a task's text, from its start or from a position on."""
    task_id = request.path_params["id"]
    user = await asyncio.to_thread(_viewer, request, task_id)
    position = sse.position(request.headers.get("last-event-id"), request.query_params.get("after"))
    if position == sse.END:
        return Response(status_code=204)
    events = await (_waiting if "aws.event" in request.scope else _streaming)(request, user, task_id, position)
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
    )


async def _streaming(request: Request, user: User, task_id: str, position: Any) -> AsyncGenerator[str, None]:
    claimed = None
    if position is None:
        claimed = await asyncio.to_thread(leases.claim, task_id, viewer_of=user.id)
    if claimed is None:
        task = await asyncio.to_thread(_opened, user, task_id, position)
        if task.status == "pending" and not position:
            claimed = await asyncio.to_thread(leases.claim, task_id)
        if claimed is None:
            return watching.follow(task, position or 0)
    from aideer import engine  # the SDK is heavy, and most followers come for the log

    return watching.live(engine.start(claimed, _deadline(request)))


async def _waiting(_: Request, user: User, task_id: str, position: Any) -> AsyncGenerator[str, None]:
    task = await asyncio.to_thread(_opened, user, task_id, position)
    if task.status == "pending":
        await asyncio.to_thread(aws.enqueue, settings.TASKS_QUEUE_URL, {"task_id": task_id})
    return watching.follow(task, position or 0, WAIT_SECONDS)


def _viewer(request: Request, task_id: str) -> User:
    """Whoever the access token, or the ticket for this very stream, is of."""
    ticket = request.query_params.get("ticket")
    if ticket is None:
        return auth.access(request.headers.get("authorization"))
    claims = auth.verify(ticket)
    if claims["typ"] != "stream":
        raise BadRequest("wrong_token_type", "This takes a stream's ticket.")
    if claims["task"] != task_id:
        raise Unauthorized("invalid_token", "This ticket is for another stream.")
    return auth.holder(claims)


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
        return min(latest, json.loads(request.headers["x-amzn-lambda-context"])["deadline"] / 1000)
    return latest


async def _refused(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, AideerError) else NotFound("not_found", "There is nothing here.")
    return JSONResponse(known.body(), known.status, headers=known.headers)


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
    exception_handlers={AideerError: _refused, HTTPException: _refused},
    lifespan=_lifespan,
)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry behind the HTTP API."""
    from mangum import Mangum  # the streaming door does without

    return Mangum(app, lifespan="off")(event, context)  # it finds, or makes, this thread's event loop
