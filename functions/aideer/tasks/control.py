"""Tasks as their user sees them: read, stop and delete one. admission.py accepts them, and executor.py makes the answers."""

import time
from contextvars import ContextVar
from typing import Any

from aideer.billing import credits
from aideer.billing.credits import Closer, Text
from aideer.core import clock, settings, texts
from aideer.core.errors import NotFound, Unprocessable
from aideer.core.usage import Usage
from aideer.data import lookup
from aideer.data.models import Message, Task, User
from aideer.schemas.tasks import TaskError, TaskResponse, TaskUsage
from aideer.security import auth, rate_limits
from aideer.security.auth import Bearer
from aideer.tasks import leases, stream_log
from aideer.web import origin

stream_base: ContextVar[str] = ContextVar("stream_base", default="")
"""The origin of streams. The stream function sets it from its requests, because its environment cannot have its own URL."""
TICKET_SECONDS = 900
"""How much longer than its task a stream's ticket is valid."""
DELETED_SECONDS = 3600
"""How long ago a deleted task's TTL ended. It is more than clocks differ, and too little for DynamoDB to ignore the item."""

ERRORS = {
    "throttled": "The model has too many requests. Try again in a minute.",
    "content_filtered": "The provider's content filter refused this conversation.",
    "upstream_auth": "The provider does not accept the account of this service.",
    "upstream_timeout": "The model took too long.",
    "upstream_error": "The model's provider failed.",
    "model_unavailable": "The provider refuses this model, or a setting of the preset. The operator has to change the preset.",
    "context_too_long": "This conversation is longer than the model can read.",
    "image_unavailable": "The provider could not load an image of this conversation, or cannot read its format.",
    "prompt_changed": "Messages were changed after this task was priced. Ask again.",
    "queue_timeout": "The task waited too long in the queue.",
    "interrupted": "The answer was interrupted.",
    "internal_error": "The service had an internal error.",
}

_FORMER_ERRORS = {"empty_answer": "The model gave no answer."}
"""Codes that only tasks of release 0.1.0 have."""


def get_owned(user: User | Bearer, task_id: str) -> Task:
    """Return this user's task. Raises NotFound if there is none, or if it is another user's."""
    task = leases.read(task_id)
    if task is None or task.user_id != user.id or is_deleted(task):
        raise NotFound("task_not_found", "There is no such task.")
    return task


def is_deleted(task: Task) -> bool:
    """Return whether this task counts as deleted, even if DynamoDB still has it."""
    return bool(task.ttl and task.ttl <= clock.now())


def to_response(task: Task, user: User) -> TaskResponse:
    """Return the task with its text so far."""
    addresses = {"stream_url": stream_url(task, user), "resume_url": resume_url(task, user)}
    return TaskResponse(**result_fields(task, read_text(task)), **_identity(task), **addresses)


def result_fields(task: Task, shown: Text) -> dict[str, Any]:
    """Return the state and the result of a task, as GET shows them. A stream's last event begins with the same fields."""
    return {
        "status": task.status,
        "content": shown.content,
        "reasoning": shown.reasoning,
        "finish_reason": task.finish_reason,
        "usage": TaskUsage(**task.usage).model_dump() if task.usage else None,
        "credits": None if task.credits is None else int(task.credits),
        "error": TaskError(code=task.error_code, message=explain(task.error_code)).model_dump()
        if task.error_code
        else None,
    }


def read_text(task: Task) -> Text:
    """Return a task's text from its message. If it has none, return the text that the stream log holds."""
    if not task.is_open and task.answer_n is not None:
        message = lookup.find(Message, task.thread, int(task.answer_n))
        if (
            message and message.task_id == task.id
        ):  # else the answer had no text, was edited or removed, or the chat is gone
            return stream_log.cut_text(task, message)
    return stream_log.read_text(task.id, None if task.text_length is None else int(task.text_length))


def stop_own(user: User, task_id: str, seconds: float) -> Task:
    """Stop the user's task, wait for its end for at most `seconds`, and return it as it is stored then.

    Raises NotFound, and TooManyRequests if the user stops too many answers.
    """
    rate_limits.count("stop", user.id)
    return wait_until_closed(stop(get_owned(user, task_id)), seconds)


def stop(task: Task) -> Task:
    """Ask a task to end with the text that it has. Return the task as it is stored then.

    A pending task ends here. A running task ends when its executor has seen the request.
    """
    if task.status == "pending":
        task = credits.settle(task, Closer.stop(), "stopped", Text(), "stopped", Usage(0, 0))
    if task.status == "running":
        asked = Task(task.id)
        if leases.update(asked, [Task.stop_requested.set(True)], Task.status == "running"):
            return asked
        task = Task.get(task.id, consistent_read=True)
    return task


def delete(task: Task) -> None:
    """Delete a task that has ended. Raises Unprocessable if it has not.

    The task counts as past its TTL from now on, and DynamoDB removes it some time later. Until then, reconciliation, a repeated
    request and a returning executor still find it. Its message and its ledger entry stay. Its stream log expires by its own TTL.
    """
    past = int(clock.now()) - DELETED_SECONDS
    if not leases.update(Task(task.id), [Task.ttl.set(past)], Task.closed_by.exists()):
        raise Unprocessable("task_not_ended", "This task has not ended. Stop it first.")


def request_stop(task_id: str) -> None:
    """Stop a task, if there is one and it has not ended."""
    if task := leases.read(task_id):
        stop(task)


def wait_until_closed(task: Task, seconds: float) -> Task:
    """Wait until a task has ended, but at most `seconds`. Return the task as it is stored then."""
    give_up_at = time.monotonic() + seconds
    while task.is_open and time.monotonic() < give_up_at:
        time.sleep(0.1)
        task = Task.get(task.id, consistent_read=True)
    return task


def stream_url(task: Task, user: User | Bearer) -> str | None:
    """Return the URL of the task's stream, or None for a title and a completion.

    It has a ticket for this stream alone, for clients that cannot send headers. The ticket does not depend on the time of the call,
    so that a repeated response is the same.
    """
    if task.type == Task.TITLE or task.chat_id is None:
        return None
    made = int(clock.parse(task.create_time))
    ticket = auth.sign(
        {
            "sub": user.id,
            "typ": "stream",
            "amr": "ticket",
            "ver": user.token_version,
            **({"sid": user.session_id} if user.session_id else {}),
            "task": task.id,
            "iat": made,
            "exp": made + leases.QUEUE_SECONDS + int(settings.TASK_SECONDS) + TICKET_SECONDS,
            "jti": task.id,
        }
    )
    base = stream_base.get() or origin.base_url(settings.STREAM_BASE_URL)
    return f"{base}/api/v1/tasks/{task.id}/{settings.STREAM_PATH}?ticket={ticket}"


def replaced_message(task: Task) -> dict[str, Any]:
    """Return the message that an answer takes the place of: `replaces` is its n, and `continued` tells whether its text goes on.

    Both are None if the answer is a message of its own. Tasks of release 0.1.0 have `replaces` too, and continue nothing.
    """
    if task.replaces is None:
        return {"replaces": None, "continued": None}
    return {"replaces": int(task.replaces), "continued": task.continued is not None}


def resume_url(task: Task, user: User | Bearer) -> str | None:
    """Return the URL of the task's stream from position 0, or None without a stream_url. It opens any number of times.

    An EventSource can resume with it, because its Last-Event-ID overrides the position in the URL.
    """
    url = stream_url(task, user)
    return f"{url}&after=0" if url else None


def explain(error_code: str) -> str:
    """Return the text of a failure, in the language of the reader. Stored tasks have only the code."""
    return texts.translate((ERRORS | _FORMER_ERRORS)[error_code])


def _identity(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "chat_id": task.chat_id,
        "type": task.type,
        **replaced_message(task),
        "create_time": task.create_time,
        "end_time": task.end_time,
    }
