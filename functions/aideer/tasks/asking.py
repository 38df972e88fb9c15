"""POST /tasks/stream: accept a task, and stream its answer in the same response.

The process that accepts the task executes it. The model is asked only after the transaction that stores the task is known to have
happened. The connection to the provider is opened meanwhile. A refusal comes as JSON before the stream begins. The start event
leaves as soon as the credits are held.

A repeated request gets the stream of the first one's task, from position 0. If that task is deleted, it gets the start event from
the record and no answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from starlette.requests import Request
from starlette.responses import StreamingResponse

from aideer.core import aws, settings
from aideer.core.errors import BadRequest, Detail
from aideer.core.logs import logger
from aideer.data.idempotency import KEY_CHARACTERS
from aideer.providers import dashscope_connections
from aideer.schemas.questions import NewQuestion
from aideer.security import auth
from aideer.security.auth import Bearer
from aideer.tasks import admission, attached, control, conversations, leases, sse, streaming
from aideer.tasks.admission import Accepted
from aideer.tasks.stream_access import Viewer
from aideer.web import asgi

ASKED_SECONDS = 0.05
"""The longest time that the start event waits until the model is asked. Images, or a secret, may take longer to read."""


async def ask(request: Request) -> StreamingResponse:
    """Accept the question of a request, and return the stream of its answer. Raises as `admission.begin` does."""
    credentials = request.headers.get("authorization")
    claims = await aws.run_with_secret(settings.SIGNING_SECRET_ARN, auth.verify_access_token, credentials)
    caller, viewer = Bearer(claims), Viewer.of(claims)
    key = read_key(request)
    if key is None:
        raise _wrong_key()
    wanted = await asgi.read_body(request, NewQuestion)
    note_origin(request)
    identified = admission.identify(caller, wanted, key)
    deadline = attached.find_deadline(request.headers)
    dashscope_connections.open_ahead(settings.DASHSCOPE_HTTP_BASE_URL)
    accepted = await asyncio.to_thread(admission.begin, caller, wanted, identified)
    logger.thread_safe_append_keys(task_id=accepted.task.id)
    events = await open_answer(accepted, caller, viewer, deadline)
    return attached.respond(_tell(_start_event(accepted, caller)) if events is None else events)


async def open_answer(
    accepted: Accepted, caller: Bearer, viewer: Viewer, deadline: float
) -> AsyncGenerator[str, None] | None:
    """Return the stream of an accepted task, and begin to make its answer here, unless an earlier request has begun it.

    Return None if this repeats an earlier request whose task was deleted, or is not the viewer's. Raises as
    `attached.follow_or_claim` does.
    """
    if accepted.prompt:
        run = attached.start(accepted.task, deadline, accepted.prompt)
        with contextlib.suppress(TimeoutError):
            # The rest would delay the first token. So it runs while the model begins.
            await asyncio.wait_for(run.asked.wait(), ASKED_SECONDS)
        note = partial(conversations.remember, accepted.prompt, accepted.chat_version)
        return streaming.live(run, viewer, _start_event(accepted, caller), note)
    task = await asyncio.to_thread(leases.read, accepted.task.id)
    if task is None or control.is_deleted(task) or task.user_id != viewer.user_id:
        return None
    return await attached.follow_or_claim(task, 0, viewer, deadline, _start_event(accepted, caller))


def read_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key, or None. Raises BadRequest if it is too long."""
    key = request.headers.get("idempotency-key") or None
    if key and len(key) > KEY_CHARACTERS:
        raise _wrong_key()
    return key


def note_origin(request: Request) -> None:
    """Let `control` name the streams' own origin, or else the request's."""
    control.stream_base.set(settings.STREAM_BASE_URL or f"{request.url.scheme}://{request.url.netloc}")


def _wrong_key() -> BadRequest:
    return BadRequest(
        "idempotency_key_required",
        Detail(
            "Send an Idempotency-Key of 1 to {most} characters. With it, you can safely ask again.", most=KEY_CHARACTERS
        ),
    )


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
