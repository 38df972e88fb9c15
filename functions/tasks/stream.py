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

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aideer import auth, aws, clock, dynamodb, leases, settings, sse, tasks, throttling, titles, watching
from aideer.errors import AideerError, BadRequest, Busy, NotFound, TooManyRequests, Unauthorized, Unprocessable, place
from aideer.models import Task, User

if TYPE_CHECKING:
    from aideer.engine import Run

WAIT_SECONDS = 20.0
"""How long the door that cannot stream waits for something new: less than API Gateway does."""
LEAVING_SECONDS = 5.0

logger = Logger(service="aideer")


async def stream(request: Request) -> Response:
    """Stream a task's text, from its start or from a position on."""
    task_id = request.path_params["id"]
    claims = await asyncio.to_thread(_claims, request, task_id)
    logger.thread_safe_append_keys(task_id=task_id, user_id=claims["sub"])
    position = sse.position(request.headers.get("last-event-id"), request.query_params.get("after"))
    run = None
    if position is None and "aws.event" not in request.scope:
        # Before the viewer is let in, whose user has paid for this answer anyway: it is one read less to wait for.
        run = await _begun(request, task_id, viewer_of=claims["sub"])
        if run:
            await run.asked.wait()
    try:
        user = await _admitted(claims, from_start=position is None)
    except AideerError as error:
        if run is None:
            raise
        return _refused_beside(run, error)
    except Exception:
        if run:
            await _over(run)
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


async def _admitted(claims: dict[str, Any], *, from_start: bool) -> User:
    """The caller. Raises Unauthorized, and TooManyRequests where they open too many streams from their start."""
    holder = asyncio.to_thread(auth.holder, claims)
    if not from_start:
        return await holder
    # Beside the other call, as somebody waits for the first token.
    user, refusal = await asyncio.gather(holder, asyncio.to_thread(_too_many, claims["sub"]))
    if refusal:
        raise refusal
    return user


def _too_many(user_id: str) -> TooManyRequests | None:
    try:
        throttling.count("stream", user_id)
    except TooManyRequests as refusal:
        return refusal
    except PynamoDBException as error:  # what it is to spare has other worries, and an answer was paid for
        if not dynamodb.unavailable(error):
            raise
    return None


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


def _refused_beside(run: "Run", error: AideerError) -> StreamingResponse:
    """The refusal of a viewer whose answer, paid for, is being made: it says so at once, and ends when the answer does."""

    async def body() -> AsyncGenerator[str, None]:
        yield json.dumps(error.body())
        await _over(run)

    return StreamingResponse(body(), error.status, headers=error.headers, media_type="application/json")


async def _over(run: "Run") -> None:
    """Wait for the end of an answer: Lambda freezes what goes on after a response."""
    async for _ in watching.live(run):
        pass


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


class _Logged:
    """Middleware: log lines name the request. What nobody foresaw has one too, and not the traceback that a server would log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        logger.thread_safe_append_keys(correlation_id=_correlation_id(scope))
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            logger.error("unhandled", extra={"error": type(error).__name__, "at": place(error)})
            if not begun:
                answer = JSONResponse({"detail": "Something broke on our side.", "code": "internal"}, 500)
                await answer(scope, receive, send)


def _correlation_id(scope: Scope) -> str | None:
    """The request's id: API Gateway's, or the Function URL's, whose context the web adapter passes in a header."""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        if "aws.event" in scope:
            return str(scope["aws.event"]["requestContext"]["requestId"])
        return str(json.loads(dict(scope["headers"])[b"x-amzn-request-context"])["requestId"])
    return None


app = Starlette(
    routes=[Route("/api/v1/tasks/{id}/stream", stream, methods=["GET"]), Route("/ready", _alive)],
    exception_handlers={
        AideerError: _refused,
        HTTPException: _refused,
        PynamoDBException: _failed,
        BotoCoreError: _failed,
        ClientError: _failed,
    },
    middleware=[Middleware(_Logged)],
    lifespan=_lifespan,
)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry behind the HTTP API."""
    from mangum import Mangum  # the streaming door does without

    return Mangum(app, lifespan="off")(event, context)  # it finds, or makes, this thread's event loop
