"""The calls of /v1, from the request to the response."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from aideer.completions import admission, answers, callers, chunks, model_list, requests, retries
from aideer.completions.answers import Live, Logged
from aideer.completions.requests import IncomingRequest
from aideer.core import settings
from aideer.core.errors import AideerError, Busy, NotFound, TooManyRequests
from aideer.core.logs import logger
from aideer.data.models import Task
from aideer.providers import dashscope_connections
from aideer.security import api_keys
from aideer.tasks import attached, control

CANCEL_SECONDS = 10.0
"""The longest wait for the end of a completion that is cancelled."""


async def complete(request: Request) -> Response:
    """Accept a completion and return its answer. Raises as `admission.begin` does."""
    caller = await callers.authenticate(request.headers.get("authorization"))
    incoming = await _read(request, caller)
    answer: Live | Logged
    if retries.is_retry(request.headers) and (task := await asyncio.to_thread(retries.find, caller, incoming.digest)):
        user = await asyncio.to_thread(caller.read)
        answer = await asyncio.to_thread(Logged.follow, user, task)
    else:
        deadline = attached.find_deadline(request.headers)
        dashscope_connections.open_ahead(settings.DASHSCOPE_HTTP_BASE_URL)
        try:
            accepted = await asyncio.to_thread(admission.begin, caller, incoming)
        except (TooManyRequests, Busy):
            await asyncio.to_thread(retries.forget, caller, incoming.digest)
            raise
        task = accepted.task
        # Without a prompt, somebody has asked to stop the task already.
        answer = Live(attached.start(task, deadline, accepted.prompt)) if accepted.prompt else Logged(task)
    logger.thread_safe_append_keys(task_id=task.id)
    if incoming.wanted.stream:
        return answers.stream(answer, incoming.wanted.model, includes_usage=incoming.includes_usage)
    return answers.whole(answer, incoming.wanted.model)


async def list_models(request: Request) -> list[dict[str, Any]]:
    """Return the models that the caller may ask. Raises TooManyRequests if the caller has used up the reading budget."""
    caller = await callers.authenticate(request.headers.get("authorization"))
    return await asyncio.to_thread(_list_models, caller)


async def get_model(request: Request) -> dict[str, Any]:
    """Return one model. Raises NotFound, and TooManyRequests as `list_models` does."""
    caller = await callers.authenticate(request.headers.get("authorization"))
    await asyncio.to_thread(caller.read, visitors=True)
    return await asyncio.to_thread(model_list.get, caller, request.path_params["id"])


async def cancel(request: Request) -> dict[str, Any]:
    """Stop a completion of the caller, and return its state. Raises NotFound, and TooManyRequests."""
    caller = await callers.authenticate(request.headers.get("authorization"))
    task_id = request.path_params["id"].removeprefix(chunks.ID_PREFIX)
    return await asyncio.to_thread(_cancel, caller, task_id)


async def _read(request: Request, caller: callers.Caller) -> IncomingRequest:
    """Return the request. One that cannot be read counts as a refused ask, because reading 6 MB takes time."""
    admission.require_room(caller)
    try:
        return await requests.read(request.stream())
    except AideerError as error:
        raise await asyncio.to_thread(admission.refuse, caller, error) from None


def _list_models(caller: callers.Caller) -> list[dict[str, Any]]:
    user = caller.read(visitors=True)
    if caller.key:
        api_keys.note_use(caller.key)
    return model_list.list_all(caller, user)


def _cancel(caller: callers.Caller, task_id: str) -> dict[str, Any]:
    user = caller.read()
    task = control.get_owned(user, task_id)
    of_another_key = caller.key and (task.key or {}).get("id") != caller.key.id
    if of_another_key or task.type != Task.API:  # this function may not close a chat's task
        raise NotFound("task_not_found", "There is no such task.")
    ended = control.stop_own(user, task.id, CANCEL_SECONDS)
    return {"id": f"{chunks.ID_PREFIX}{ended.id}", "object": "chat.completion", "status": ended.status}
