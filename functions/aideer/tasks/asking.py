"""POST /tasks/stream: accept a task, and stream its answer in the same response.

The process that accepts the task executes it. The model is asked only after the transaction that stores the task is known to have
happened. The connection to the provider is opened meanwhile. A refusal comes as JSON before the stream begins. The start event
leaves as soon as the credits are held.

A repeated request gets the stream of the first one's task, from position 0. If that task is deleted, it gets the start event from
the record and no answer.
"""

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import StreamingResponse

from aideer.core import settings
from aideer.core.errors import BadRequest
from aideer.core.logs import logger
from aideer.data.idempotency import KEY_CHARACTERS
from aideer.providers import dashscope_connections
from aideer.schemas.questions import NewQuestion
from aideer.security import auth
from aideer.security.auth import Bearer
from aideer.tasks import admission, attached, control, leases, sse, streaming
from aideer.tasks.admission import Accepted
from aideer.tasks.stream_access import Viewer
from aideer.web import asgi


async def ask(request: Request) -> StreamingResponse:
    """Accept the question of a request, and return the stream of its answer. Raises as `admission.begin` does."""
    claims = await asyncio.to_thread(auth.verify_access_token, request.headers.get("authorization"))
    caller, viewer = Bearer(claims), Viewer.of(claims)
    key = _require_key(request)
    wanted = await asgi.read_body(request, NewQuestion)
    control.stream_base.set(settings.STREAM_BASE_URL or f"{request.url.scheme}://{request.url.netloc}")
    identified = admission.identify(caller, wanted, key)
    deadline = attached.find_deadline(request.headers)
    dashscope_connections.open_ahead(settings.DASHSCOPE_HTTP_BASE_URL)
    accepted = await asyncio.to_thread(admission.begin, caller, wanted, identified)
    logger.thread_safe_append_keys(task_id=accepted.task.id)
    first = _start_event(accepted, caller)
    if accepted.prompt:
        run = attached.start(accepted.task, deadline, accepted.prompt)
        return attached.respond(streaming.live(run, viewer, first))
    task = await asyncio.to_thread(leases.read, accepted.task.id)
    if task is None or control.is_deleted(task):
        return attached.respond(_tell(first))
    return attached.respond(await attached.follow_or_claim(task, 0, viewer, deadline, first))


def _require_key(request: Request) -> str:
    key = request.headers.get("idempotency-key")
    if not key or len(key) > KEY_CHARACTERS:
        raise BadRequest(
            "idempotency_key_required",
            f"Send an Idempotency-Key of 1 to {KEY_CHARACTERS} characters. With it, you can safely ask again.",
        )
    return key


def _start_event(accepted: Accepted, caller: Bearer) -> str:
    task = accepted.task
    return sse.start_event(
        task.id,
        task.chat_id,
        0,
        chat_version=accepted.chat_version,
        messages=list(accepted.messages or ()),
        credits_held=int(task.hold),
        max_tokens=int(task.max_tokens),
        resume_url=control.resume_url(task, caller),
    )


async def _tell(first: str) -> AsyncGenerator[str, None]:
    yield first
    yield sse.CLOSE
