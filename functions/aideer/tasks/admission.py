"""Admission: check a new task, price it and hold its credits. A call that raises has had no effect.

A viewer waits for the admission, so it makes as few calls as possible. Normally it does not read the user: the hold's conditions
check the user instead. It reads the user only after a refusal, or to return the answer of an earlier request again. The first
purpose of that read is to check that the caller may learn the result.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aideer.billing import credits, model_limits, pricing, uncovered
from aideer.billing.estimates import Estimate, estimate
from aideer.billing.pricing import Tariff
from aideer.core import aws, clock, settings
from aideer.core.errors import (
    AideerError,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    PaymentRequired,
    TooLarge,
    TooManyRequests,
    Unprocessable,
)
from aideer.core.logs import logger
from aideer.data import lookup
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Task, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused
from aideer.prompts import image_urls, input_tokens, prompts
from aideer.prompts.prompts import Prompt
from aideer.schemas.tasks import AcceptedTaskResponse, NewTask, QuoteResponse
from aideer.security import rate_limits
from aideer.security.auth import Bearer
from aideer.tasks import control, leases, titles

VIEWER_SECONDS = 5
"""The delay of a task's queue message. It lets the viewer open the task's stream first."""


@dataclass(frozen=True, slots=True)
class _Question:
    """The question of a task: the chat's messages below number `end`."""

    chat: Chat
    type: str
    end: int
    replaces: int | None = None
    visibility: bool | None = None
    """The visibility of the replaced answer. The new answer is shown to the same readers."""


def create(caller: Bearer, wanted: NewTask, request: IdempotentRequest) -> AcceptedTaskResponse:
    """Accept a task: price it, hold its worst case, and queue it.

    Raises NotFound or Forbidden for the chat, and Conflict if another task runs in it. Raises TooLarge for the prompt,
    Unprocessable if the last message is not the user's, and PaymentRequired.
    """
    streamed = wanted.stream and wanted.type != Task.TITLE
    return _accept(caller, lambda: _new_question(caller, wanted), request, streamed=streamed)


def regenerate(caller: Bearer, task_id: str, request: IdempotentRequest) -> AcceptedTaskResponse:
    """Accept a task that answers the same question again. When the new answer settles with text, it replaces the old one.

    Raises as `create` does, NotFound if the task does not exist, and Conflict if its answer is not the chat's last message.
    """
    return _accept(
        caller, lambda: _repeated_question(caller, control.get_owned(caller, task_id)), request, streamed=True
    )


def quote(user: User, wanted: NewTask) -> QuoteResponse:
    """Return what `create` would hold now, and whether the user has enough credits.

    Raises as `create` does, except PaymentRequired, and except Conflict for another task in the chat.
    """
    chat = _get_chat(user, wanted.chat_id)
    call = _call(_Question(chat, wanted.type, int(chat.next_n)))
    affordable = True
    try:
        accepted = _estimate(user.id, call, int(user.credits))
    except PaymentRequired:
        affordable = False
        accepted = _estimate(user.id, call, _UNLIMITED)
    return QuoteResponse(
        input_tokens=accepted.input_tokens,
        max_tokens=accepted.max_tokens,
        credits_at_most=accepted.hold,
        affordable=affordable,
    )


_UNLIMITED = 10**15


def _accept(
    caller: Bearer, asked: Callable[[], _Question], request: IdempotentRequest, *, streamed: bool
) -> AcceptedTaskResponse:
    credits_left = _UNLIMITED  # assume enough credits until the hold is refused
    for _ in attempts():
        try:
            if answer := _find_accepted(caller, request):
                return answer
            question = asked()
            task = _task(caller, question, _estimate(caller.id, _call(question), credits_left))
        except AideerError:
            caller.read()
            if answer := _find_accepted(
                caller, request
            ):  # this request's first attempt succeeded and caused the refusal
                return answer
            raise
        # A viewer waits for this response. The message of a streamed task is delayed, so it may be sent before the task is stored.
        queueing = _threads().submit(_queue, task, VIEWER_SECONDS) if streamed else None
        try:
            credits.hold(task, caller.token_version, question.chat, request, _to_record(task))
        except Refused as refused:  # another request may have been faster: read again
            credits_left = int(caller.read().credits)
            if uncovered.STEP in refused.steps:
                raise uncovered.limit_error() from None
            continue
        finally:
            if queueing:
                queueing.result()
        if not streamed:
            _queue(task, 0)
        return _to_response(task, caller)
    raise Busy


def _find_accepted(caller: Bearer, request: IdempotentRequest) -> AcceptedTaskResponse | None:
    if answer := request.find_answer():
        caller.read()
        return _to_response(Task(**answer), caller)
    return None


def _new_question(user: Bearer, wanted: NewTask) -> _Question:
    chat = _get_chat(user, wanted.chat_id)
    if wanted.type != Task.TITLE:
        _require_free(chat, user)
    return _Question(chat, wanted.type, int(chat.next_n))


def _repeated_question(user: Bearer, task: Task) -> _Question:
    chat = _get_chat(user, task.chat_id)
    _require_free(chat, user)
    last = prompts.read_last(chat.thread)
    # If the user has rewritten the answer since, it is an ordinary message without a task_id, and stays.
    if last is not None and last.task_id and task.type != Task.TITLE:
        mine = (last.n, last.task_id) == (task.answer_n, task.id)
        if mine or last.n == task.replaces:  # a failed task: the answer that it was to replace
            return _Question(chat, task.type, int(last.n), replaces=int(last.n), visibility=last.visibility)
    raise Conflict("not_last_answer", "Only the chat's last answer can be made again.")


def _get_chat(user: Bearer | User, chat_id: str) -> Chat:
    chat = lookup.find(Chat, chat_id)
    if chat is None or chat.deleted:
        raise NotFound("chat_not_found", "There is no such chat.")
    if chat.owner_id != user.id:
        raise Forbidden
    return chat


def _require_free(chat: Chat, user: Bearer) -> None:
    if chat.active_task:
        running = Task.get(chat.active_task, consistent_read=True)
        raise Conflict(
            "task_running",
            "Another task is answering in this chat. Wait for its end, or stop it.",
            task_id=running.id,
            stream_url=control.stream_url(running, user),
            resume_url=control.resume_url(running, user),
        )


class _Call:
    """A model call's prompt and parameters, with upper bounds of its input tokens."""

    def __init__(self, tariff: Tariff, parameters: dict[str, Any], prompt: Prompt) -> None:
        self.tariff, self.parameters, self.prompt = tariff, parameters, prompt

    @functools.cached_property
    def by_bytes(self) -> int:
        return input_tokens.compute_bound(self.tariff, self.prompt, self.parameters)

    @functools.cached_property
    def counted(self) -> int:
        return min(self.by_bytes, input_tokens.count_bound(self.tariff, self.prompt, self.parameters))


def _call(question: _Question) -> _Call:
    chat = question.chat
    preset = prompts.get_preset(chat.preset_id, int(chat.preset_version))
    tariff = model_limits.require_available(preset.parameters["model"])
    if question.type == Task.TITLE:
        prompt = titles.build_prompt(chat.thread, question.end)
        if not prompt.messages:
            raise Unprocessable("empty_chat", "This chat has no message from which a title could be made.")
        return _Call(tariff, titles.PARAMETERS, prompt)
    model_limits.require_abilities(tariff, preset.parameters)
    prompt = prompts.build(preset, chat.thread, question.end, tariff)
    if not prompt.asks:
        raise Unprocessable("last_message_not_user", "The last message must be the user's.")
    if prompt.images:  # the chat may have moved to another preset since they were stored
        image_urls.require_vision(preset.parameters)
    return _Call(tariff, preset.parameters, prompt)


def _estimate(user_id: str, call: _Call, credits_left: int) -> Estimate:
    """Price a call by its bytes, which takes no time. Count its tokens only if that can change the result.

    It can if the bytes would refuse the call or put it into a dearer tier. Counting takes time, so each user has a rate limit.
    """
    try:
        accepted = estimate(call.tariff, call.parameters, call.by_bytes, credits_left)
        if pricing.find_tier(accepted.tariff, accepted.input_tokens) == 0 or not _may_count(user_id, call):
            return accepted
    except (PaymentRequired, TooLarge):
        if not _may_count(user_id, call):
            raise
    return estimate(call.tariff, call.parameters, call.counted, credits_left)


def _may_count(user_id: str, call: _Call) -> bool:
    if "counted" in vars(call):
        return True
    if not input_tokens.is_countable(call.tariff) or uncovered.had_shortfall(user_id):
        return False
    try:
        rate_limits.count("estimate", user_id)
    except TooManyRequests:
        return False
    return True


def _task(user: Bearer, question: _Question, accepted: Estimate) -> Task:
    chat, task_id, now = question.chat, new_id(), clock.now()
    is_title = question.type == Task.TITLE
    return Task(
        task_id,
        user_id=user.id,
        chat_id=chat.id,
        type=question.type,
        status="pending",
        hold=accepted.hold,
        model=accepted.tariff["model"],
        tariff=accepted.tariff,
        preset_id=chat.preset_id,
        preset_version=chat.preset_version,
        parameters=accepted.parameters,
        max_tokens=accepted.max_tokens,
        thread=chat.thread,
        prompt_end=question.end,
        answer_n=None if is_title else chat.next_n,
        replaces=question.replaces,
        visibility=question.visibility,
        title_before=chat.title if is_title else None,
        lease_until=now + leases.RESEND_SECONDS,
        open_shard=leases.shard_of(task_id),
        create_time=clock.timestamp(now),
    )


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4)


def _queue(task: Task, delay_seconds: int) -> None:
    try:
        aws.enqueue(settings.TASKS_QUEUE_URL, {"task_id": task.id}, delay_seconds)
    except Exception as error:  # the task is stored, and its credits are held: the sweeper sends it later
        logger.warning("queue", extra={**leases.log_ids(task), "error": type(error).__name__})


def _to_record(task: Task) -> dict[str, object]:
    """Return the fields that `_to_response` shows. The task may be deleted when the request is repeated."""
    return {name: getattr(task, name) for name in ("id", "type", "status", "hold", "max_tokens", "create_time")}


def _to_response(task: Task, user: Bearer) -> AcceptedTaskResponse:
    return AcceptedTaskResponse(
        task_id=task.id,
        status=task.status,
        stream_url=control.stream_url(task, user),
        resume_url=control.resume_url(task, user),
        credits_held=int(task.hold),
        max_tokens=int(task.max_tokens),
    )
