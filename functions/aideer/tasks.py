"""Tasks as their user sees them: accept one, look at it, stop it. Making the answer is the engine's (engine.py)."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools import Logger

from aideer import auth, aws, clock, credits, leases, pricing, prompts, settings, streamlog
from aideer.contract.tasks import AcceptedTask, NewTask, TaskError, TaskUsage, TaskView
from aideer.credits import Closer, Text
from aideer.errors import AideerError, Busy, Conflict, Forbidden, NotFound, Unprocessable
from aideer.idempotency import Once
from aideer.models import Chat, Message, Task, User, new_id
from aideer.offers import Offer, offer
from aideer.pricing import Tariff, Usage
from aideer.transactions import PATIENCE_SECONDS, Refused

VIEWER_SECONDS = 5
"""How long the queue leaves a task to the viewer who is about to open its stream."""
TICKET_SECONDS = 900
"""How much longer than its task a stream's ticket is good."""

ERRORS = {
    "throttled": "The model has too much to do. Try again in a minute.",
    "content_filtered": "The provider's content filter refused this conversation.",
    "upstream_auth": "The provider does not accept this service's account.",
    "upstream_timeout": "The model took too long.",
    "upstream_error": "The model's provider failed.",
    "empty_answer": "The model gave no answer.",
    "queue_timeout": "Nobody got to this in time.",
    "interrupted": "The answer was interrupted.",
    "internal_error": "Something broke on our side.",
}

logger = Logger(service="aideer")


def create(user: User, wanted: NewTask, once: Once) -> AcceptedTask:
    """Accept a task: price it, hold its worst case, and queue it.

    Raises NotFound or Forbidden (the chat), Conflict (another task has the chat), TooLarge (the prompt), Unprocessable (the
    last message is not the user's), PaymentRequired. Whatever raises has had no effect.
    """
    if wanted.type != "chat_generation":
        raise Unprocessable("not_supported", "Titles cannot be generated yet.")
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if answer := once.answer():
            return _accepted(Task.get(answer["task_id"]), user, answer["status"])
        try:
            task, chat = _priced(user, wanted)
        except AideerError:
            if answer := once.answer():  # the refusal was the echo of this very request's first attempt
                return _accepted(Task.get(answer["task_id"]), user, answer["status"])
            raise
        # A viewer who is coming waits for this answer, and their message is delayed: it may leave before the task is there.
        queueing = _threads().submit(_queue, task, VIEWER_SECONDS) if wanted.stream else None
        try:
            credits.hold(task, chat, once, {"task_id": task.id, "status": task.status})
        except Refused:  # others were faster: look again at what is there now
            user = credits.reread(user)
            continue
        finally:
            if queueing:
                queueing.result()
        if not wanted.stream:
            _queue(task, 0)
        return _accepted(task, user, task.status)
    raise Busy


def of(user: User, task_id: str) -> Task:
    """This user's task. Raises NotFound where there is none, or it is somebody else's."""
    task = leases.read(task_id) if len(task_id) <= 64 else None
    if task is None or task.user_id != user.id or (task.ttl and task.ttl <= clock.now()):
        raise NotFound("task_not_found", "There is no such task.")
    return task


def view(task: Task, user: User) -> TaskView:
    """The task with its text so far."""
    return TaskView(**ending(task, text(task)), **_identity(task), stream_url=stream_url(task, user))


def ending(task: Task, shown: Text) -> dict[str, Any]:
    """How it stands with a task: what GET shows, and a stream's last event says."""
    return {
        "status": task.status,
        "content": shown.content,
        "reasoning": shown.reasoning,
        "finish_reason": task.finish_reason,
        "usage": TaskUsage(**task.usage).model_dump() if task.usage else None,
        "credits": None if task.credits is None else int(task.credits),
        "error": TaskError(code=task.error_code, message=ERRORS[task.error_code]).model_dump()
        if task.error_code
        else None,
    }


def text(task: Task) -> Text:
    """A task's text: from its message where it has one, else as far as the stream log holds it."""
    if not leases.is_open(task) and task.answer_n is not None:
        try:
            message = Message.get(task.thread, int(task.answer_n), consistent_read=True)
            return Text(message.reasoning or "", message.content)
        except Message.DoesNotExist:
            pass  # nothing was shown, or the chat is gone
    return streamlog.text(task.id, None if task.text_length is None else int(task.text_length))


def stop(task: Task) -> Task:
    """Ask a task to end with what it has. What has not begun ends here; what runs ends once its executor has seen it.

    Returns the task as it is stored then.
    """
    if task.status == "pending":
        task = credits.settle(task, Closer.stop(), "stopped", Text(), "stopped", Usage(0, 0))
    if task.status == "running":
        asked = Task(task.id)
        if leases.update(asked, [Task.stop_requested.set(True)], Task.status == "running"):
            return asked
        task = Task.get(task.id, consistent_read=True)
    return task


def request_stop(task_id: str) -> None:
    """Stop a task, if there is one and it has not ended."""
    if task := leases.read(task_id):
        stop(task)


def settled(task: Task, seconds: float) -> Task:
    """Wait until a task has ended, or for `seconds`; the task as it is stored then."""
    give_up_at = time.monotonic() + seconds
    while leases.is_open(task) and time.monotonic() < give_up_at:
        time.sleep(0.1)
        task = Task.get(task.id, consistent_read=True)
    return task


def stream_url(task: Task, user: User) -> str:
    """Where the task streams, with a ticket for this stream alone, for clients that cannot send headers.

    The ticket depends on the task alone, so that an answer given again is the same.
    """
    made = int(clock.seconds(task.create_time))
    ticket = auth.sign(
        {
            "sub": user.id,
            "typ": "stream",
            "amr": "ticket",
            "ver": user.token_version,
            "task": task.id,
            "iat": made,
            "exp": made + leases.QUEUE_SECONDS + int(settings.TASK_SECONDS) + TICKET_SECONDS,
            "jti": task.id,
        }
    )
    return f"{settings.STREAM_BASE_URL}/api/v1/tasks/{task.id}/stream?ticket={ticket}"


def _priced(user: User, wanted: NewTask) -> tuple[Task, Chat]:
    chat = _free_chat(user, wanted.chat_id)
    preset = prompts.pinned(chat.preset_id, int(chat.preset_version))
    tariff = pricing.tariff(preset.parameters["model"])
    if tariff is None:
        raise Unprocessable("model_not_priced", "The preset's model is no longer offered.")
    prompt = prompts.build(preset, chat.thread, int(chat.next_n), tariff["context"])
    if not prompt.asks:
        raise Unprocessable("last_message_not_user", "The last message must be the user's.")
    return _task(user, chat, wanted, tariff, offer(tariff, preset.parameters, prompt.contents, int(user.credits))), chat


def _free_chat(user: User, chat_id: str) -> Chat:
    try:
        chat = Chat.get(chat_id, consistent_read=True)
    except Chat.DoesNotExist:
        chat = None
    if chat is None or chat.deleted:
        raise NotFound("chat_not_found", "There is no such chat.")
    if chat.owner_id != user.id:
        raise Forbidden
    if chat.active_task:
        raise Conflict(
            "task_running",
            "An answer is already being made in this chat.",
            task_id=chat.active_task,
            stream_url=stream_url(Task.get(chat.active_task, consistent_read=True), user),
        )
    return chat


def _task(user: User, chat: Chat, wanted: NewTask, tariff: Tariff, accepted: Offer) -> Task:
    task_id, now = new_id(), clock.now()
    return Task(
        task_id,
        user_id=user.id,
        chat_id=chat.id,
        type=wanted.type,
        status="pending",
        hold=accepted.hold,
        model=tariff["model"],
        tariff=tariff,
        preset_id=chat.preset_id,
        preset_version=chat.preset_version,
        parameters=accepted.parameters,
        max_tokens=accepted.max_tokens,
        thread=chat.thread,
        prompt_end=chat.next_n,
        answer_n=chat.next_n,
        lease_until=now + leases.RESEND_SECONDS,
        open_shard=leases.shard(task_id),
        create_time=clock.timestamp(now),
    )


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4)


def _queue(task: Task, delay_seconds: int) -> None:
    try:
        aws.enqueue(settings.TASKS_QUEUE_URL, {"task_id": task.id}, delay_seconds)
    except Exception as error:  # the task is accepted and paid for: the sweep sends what was not sent
        logger.warning("queue", extra={"task_id": task.id, "error": type(error).__name__})


def _accepted(task: Task, user: User, status: str) -> AcceptedTask:
    return AcceptedTask(
        task_id=task.id,
        status=status,
        stream_url=stream_url(task, user),
        credits_held=int(task.hold),
        max_tokens=int(task.max_tokens),
    )


def _identity(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "chat_id": task.chat_id,
        "type": task.type,
        "create_time": task.create_time,
        "end_time": task.end_time,
    }
