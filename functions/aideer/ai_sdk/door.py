"""The calls of the AI SDK's clients, from the request to the response: ask, open the running answer again, and stop it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from aideer.ai_sdk import chunks, requests, submissions
from aideer.ai_sdk.requests import UIChatRequest
from aideer.ai_sdk.submissions import Submission
from aideer.core import aws, settings
from aideer.core.errors import AideerError, NotFound
from aideer.core.logs import logger
from aideer.data.models import Task, User
from aideer.providers import dashscope_connections
from aideer.security import auth
from aideer.security.auth import Bearer
from aideer.tasks import asking, attached, control, stream_access
from aideer.tasks.stream_access import Viewer
from aideer.web import bodies

STOP_SECONDS = 5.0
"""The longest wait for the end of an answer that is stopped."""


async def ask(request: Request) -> Response:
    """Accept the question of a request, and return its answer as a UI message stream. Raises as `Submission.accept` does."""
    claims = await _verify(request)
    caller, viewer = Bearer(claims), Viewer.of(claims)
    key = asking.read_key(request)  # first, because this refusal does not count, and reading 6 MB takes time
    wanted = await _read(request, caller)
    asking.note_origin(request)
    deadline = attached.find_deadline(request.headers)
    dashscope_connections.open_ahead(settings.DASHSCOPE_HTTP_BASE_URL)
    accepted = await asyncio.to_thread(Submission(caller, wanted, key).accept)
    logger.thread_safe_append_keys(task_id=accepted.task.id)
    events = await asking.open_answer(accepted, caller, viewer, deadline)
    if events is None:
        raise NotFound("task_not_found", "There is no such task.")
    return _respond(events)


async def resume(request: Request) -> Response:
    """Return the whole answer that is being made in a chat, from its start, or 204 if there is none. Raises NotFound."""
    claims = await _verify(request)
    viewer = Viewer.of(claims)
    user = await stream_access.admit(claims, 0, polls=False)
    task = await asyncio.to_thread(_find_running, user, viewer, request.path_params["id"])
    if task is None:
        return Response(status_code=204)
    logger.thread_safe_append_keys(task_id=task.id)
    return _respond(await attached.follow_or_claim(task, 0, viewer, attached.find_deadline(request.headers)))


async def stop(request: Request) -> Response:
    """Stop the answer that is being made in a chat, or return 204 if there is none. Raises NotFound and TooManyRequests."""
    claims = await _verify(request)
    asking.note_origin(request)
    # A server that learns of a client's departure cancels this. What has begun goes on to its end.
    return await asyncio.shield(asyncio.to_thread(_stop, claims, request.path_params["id"]))


async def _verify(request: Request) -> dict[str, Any]:
    credentials = request.headers.get("authorization")
    claims: dict[str, Any] = await aws.run_with_secret(
        settings.SIGNING_SECRET_ARN, auth.verify_access_token, credentials
    )
    return claims


async def _read(request: Request, caller: Bearer) -> UIChatRequest:
    """Return the request. One that cannot be read counts as a refused ask, because reading 6 MB takes time."""
    submissions.require_room(caller)
    try:
        if bodies.media_type(request.headers.get("content-type")) not in ("", bodies.JSON):
            raise bodies.wrong_type(bodies.JSON)
        return await requests.read(request.stream())
    except AideerError as error:
        raise await asyncio.to_thread(submissions.refuse, caller, error) from None


def _respond(events: AsyncGenerator[str, None]) -> Response:
    response = attached.respond(chunks.translate(events))
    response.headers.update(chunks.HEADERS)
    return response


def _find_running(user: User, viewer: Viewer, client_id: str) -> Task | None:
    task_id = submissions.find_active_task(user.id, client_id)
    if task_id is None:
        return None
    try:
        return stream_access.open_stream(user, viewer, task_id, 0, polls=False)
    except NotFound:  # it has ended and was deleted since
        return None


def _stop(claims: dict[str, Any], client_id: str) -> Response:
    user = auth.get_holder(claims)
    task_id = submissions.find_active_task(user.id, client_id)
    if task_id is None:
        return Response(status_code=204)
    task = control.stop_own(user, task_id, STOP_SECONDS)
    body = control.to_response(task, user).model_dump(mode="json")
    return JSONResponse(body, 202 if task.is_open else 200)
