"""Admission: check a new task, price it and hold its credits. A call that raises has had no effect.

A viewer waits for the admission, so it makes as few calls as possible. Normally it does not read the user: the hold's conditions
check the user instead. It reads the user only after a refusal, or to return the answer of an earlier request again. The first
purpose of that read is to check that the caller may learn the result.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aideer.billing import credits, uncovered
from aideer.billing.estimates import Estimate
from aideer.chats import chat_titles, quota
from aideer.core import aws, clock, settings
from aideer.core.errors import AideerError, Busy, Detail, InvalidToken, PaymentRequired, TooManyRequests
from aideer.core.logs import logger
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Message, Task, User
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction
from aideer.prompts.prompts import Prompt
from aideer.schemas.questions import NewQuestion, NewTask
from aideer.schemas.tasks import AcceptedTaskResponse, QuoteResponse
from aideer.security import auth, rate_limits
from aideer.security.api_keys import ApiKey
from aideer.security.auth import Bearer
from aideer.tasks import control, conversations, fence, leases, questions
from aideer.tasks.ask_limit import AskCount, count_ask
from aideer.tasks.conversations import Conversation
from aideer.tasks.priced_call import PricedCall
from aideer.tasks.questions import Question

VIEWER_SECONDS = 5
"""The delay of a task's queue message. It lets the viewer open the task's stream first."""
OPEN_TASKS_SECONDS = 5
"""Seconds after which a user with too many open tasks may try again. One of them has probably ended by then."""
_UNLIMITED = 10**15
_Ask = Callable[[Conversation | None], Question]
_STORED = ("id", "type", "status", "hold", "max_tokens", "create_time", "chat_id")
"""The fields of a task that an idempotency record keeps. The task may be deleted when the request is repeated."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted task."""

    task: Task
    """The task as it is stored. From the record of a repeated request, it has only some fields."""
    chat_version: int | None = None
    messages: Sequence[int] | None = None
    """The n of each message that the request added."""
    prompt: Prompt | None = None
    """The prompt, if the task runs in this process and nobody has asked to stop it."""

    @classmethod
    def from_record(cls, answer: dict[str, Any]) -> "Accepted":
        """Return what the record of the first request tells. A record of release 0.1.0 has fewer fields."""
        fields = dict(answer)
        version, messages = fields.pop("chat_version", None), fields.pop("messages", None)
        return cls(Task(**fields), version, messages)

    def to_record(self) -> dict[str, object]:
        """Return what `from_record` takes."""
        stored = {name: getattr(self.task, name) for name in _STORED}
        return {**stored, "chat_version": self.chat_version, "messages": list(self.messages or ())}

    def to_response(self, user: Bearer) -> AcceptedTaskResponse:
        """Return the response of POST /tasks."""
        return AcceptedTaskResponse(
            task_id=self.task.id,
            status=self.task.status,
            chat_id=self.task.chat_id,
            chat_version=self.chat_version,
            messages=None if self.messages is None else list(self.messages),
            stream_url=control.stream_url(self.task, user),
            resume_url=control.resume_url(self.task, user),
            credits_held=int(self.task.hold),
            max_tokens=int(self.task.max_tokens),
        )


def create(caller: Bearer, wanted: NewTask, request: IdempotentRequest) -> AcceptedTaskResponse:
    """Accept a task: price it, hold its worst case, and queue it.

    Raises as `questions.ask` and PricedCall do. Raises PaymentRequired, and TooManyRequests for one of the user's limits.
    """
    delay = VIEWER_SECONDS if wanted.stream and wanted.kind != Task.TITLE else 0
    return _accept(caller, lambda _: questions.ask(caller, wanted), request, _Queue(delay)).to_response(caller)


def regenerate(caller: Bearer, task_id: str, request: IdempotentRequest) -> AcceptedTaskResponse:
    """Accept a task that answers the same question again. When the new answer settles with text, it replaces the old one.

    Raises as `create` does, NotFound if the task does not exist, and Conflict if its answer is not the chat's last message.
    """
    return _accept(caller, lambda _: questions.ask_again(caller, task_id), request, _Queue(VIEWER_SECONDS)).to_response(
        caller
    )


def begin(
    caller: Bearer,
    wanted: NewQuestion,
    request: IdempotentRequest,
    adjust: Callable[[Question], Question] | None = None,
) -> Accepted:
    """Accept a task that this process executes at once. If the result has a prompt, the caller must start the executor now.

    `adjust` may give the question a model and parameters of its own.

    Without a prompt, the request is a repeated one, or the task has already been stopped. Raises as `create` does, and Busy if
    DynamoDB gave no answer. After Busy, the task is either not stored, or the sweeper closes it for free.
    """
    known = conversations.take(caller.id, wanted)

    def ask(known: Conversation | None) -> Question:
        question = questions.ask(caller, wanted, known=known)
        return adjust(question) if adjust else question

    return _accept(caller, ask, request, Here(), known)


def entitle(caller: Bearer, chat_id: str) -> None:
    """Accept the task of the title that a chat with `auto_title` waits for, and queue it. It costs as any title does.

    Raises as `create` does, and Conflict if the chat does not wait for a title any more. So a chat has at most one such task.
    """
    request = IdempotentRequest(caller.id, "auto_title", None, chat_id)
    _accept(caller, lambda _: questions.ask_title(caller, chat_id), request, _Queue(0))


def identify(caller: Bearer, wanted: NewQuestion, key: str | None) -> IdempotentRequest:
    """Return the request as its repetitions are found. POST /tasks and POST /tasks/stream share one scope of keys."""
    former = [wanted.canonical(stream=False)] if isinstance(wanted, NewTask) and not wanted.stream else []
    return IdempotentRequest(caller.id, "POST /tasks", key, wanted.canonical(), *former)


def quote(user: User, wanted: NewTask) -> QuoteResponse:
    """Return what `create` would hold now, and whether the user has enough credits.

    Raises as `create` does, except PaymentRequired, and except Conflict for another task in the chat.
    """
    count = AskCount(user.id)
    try:
        with count.beside():
            question = questions.ask(Bearer.of(user), wanted, must_be_free=False)
    except TooManyRequests as error:
        raise (count.refuse() or error) from None
    call = PricedCall(user.id, question)
    affordable = True
    try:
        accepted = call.estimate(int(user.credits))
    except PaymentRequired:
        affordable = False
        accepted = call.estimate(_UNLIMITED)
    return QuoteResponse(
        input_tokens=accepted.input_tokens,
        max_tokens=accepted.max_tokens,
        credits_at_most=accepted.hold,
        affordable=affordable,
    )


class _Queue:
    """The way of a task through the queue. Its message is sent while the task is stored, if it is delayed, and else afterwards."""

    def __init__(self, delay_seconds: int) -> None:
        self._delay = delay_seconds

    def fields(self) -> dict[str, Any]:
        return {"status": "pending", "lease_until": clock.now() + leases.RESEND_SECONDS}

    def store(self, task: Task, commit: Callable[[], None]) -> bool:
        # A viewer waits for this response. A delayed message may be sent before the task is stored.
        queueing = _threads().submit(_enqueue, task, self._delay) if self._delay else None
        try:
            commit()
        finally:
            if queueing:
                queueing.result()
        if not queueing:
            _enqueue(task, 0)
        return False


class Here:
    """The way of a task that this process executes: it is stored as running, with its executor and its viewer."""

    def fields(self) -> dict[str, Any]:
        lease = clock.now() + settings.LEASE_SECONDS
        return {"status": "running", "executor": leases.new_executor(), "lease_until": lease, "streamed": True}

    def store(self, task: Task, commit: Callable[[], None]) -> bool:
        """Store the task, and return whether the model may be asked now.

        Raises Busy if the task is not stored and never will be.
        """
        stored = task
        try:
            commit()
        except Busy:
            stored = fence.require_accepted(task)
        return fence.is_ours(task, stored)


def _accept(
    caller: Bearer, ask: _Ask, request: IdempotentRequest, way: _Queue | Here, known: Conversation | None = None
) -> Accepted:
    """Accept the question that `ask` returns. It is given the conversation that this process remembers, or None."""
    with count_ask(caller.id) as count:
        try:
            return _accept_counted(caller, ask, request, way, count, known)
        except InvalidToken:
            count.give_back()
            raise
        except Busy:  # no fault of the user
            raise
        except AideerError as error:
            raise (count.refuse() or error) from None


def _accept_counted(
    caller: Bearer,
    ask: _Ask,
    request: IdempotentRequest,
    way: _Queue | Here,
    count: AskCount,
    known: Conversation | None,
) -> Accepted:
    credits_left = _UNLIMITED  # assume enough credits until the hold is refused
    for _ in attempts():
        try:
            with count.beside():
                question = ask(known)
            call = PricedCall(caller.id, question)
            estimate = call.estimate(credits_left)
        except AideerError:
            if known:  # it may have changed since
                known = None
                continue
            caller.read()
            if repeated := _find_first(request, count):  # it may have caused the refusal
                return repeated
            raise
        task = _make_task(caller, question, estimate, way.fields())
        added = [int(message.n) for message in question.new]
        accepted = Accepted(task, question.chat_version, added, call.prompt)
        transaction = Transaction()
        question.put_in(transaction, task, call.prompt.stored)
        request.store_in(transaction, accepted.to_record())
        for kind in rate_limits.ANSWERS:
            rate_limits.count_in(transaction, kind, caller.id)
        try:
            session = auth.require_session(caller.token_version, caller.session_id)
            runs_here = way.store(task, functools.partial(credits.hold, transaction, task, session))
        except Refused as refused:
            known = None
            user = caller.read()
            if repeated := _find_first(request, count):
                return repeated
            if limit := find_limit(refused.steps, user):
                raise limit from None
            if quota.STEP in refused.steps:
                quota.make_room(caller.id)
            credits_left = int(user.credits)
            continue  # another request may have been faster: read again
        except Busy:
            raise
        except AideerError:  # of a check in the transaction
            caller.read()
            if repeated := _find_first(request, count):
                return repeated
            raise
        return accepted if runs_here else Accepted(task, question.chat_version, added)
    raise Busy


def _find_first(request: IdempotentRequest, count: AskCount) -> Accepted | None:
    """Return what the first request with this key was answered, or None if this one is the first. A repetition counts too."""
    if not (answer := request.find_answer()):
        return None
    count.refuse()
    return Accepted.from_record(answer)


def find_limit(steps: set[str], user: User, key: ApiKey | None = None) -> TooManyRequests | None:
    """Return the error of the limit that refused the hold, or None if no limit did. `key` is the API key that asked."""
    if uncovered.STEP in steps:
        return uncovered.limit_error()
    if "answer_day" in steps:
        return rate_limits.refusal("answer_day")
    if "answer" in steps:
        return rate_limits.refusal("answer")
    most = credits.most_open_tasks(key)
    if "user" in steps and len(user.holds.attribute_values) >= most:
        return TooManyRequests(
            "too_many_open_tasks",
            Detail(
                "You may have {most} tasks that are answering. Wait for the end of one, or stop one.",
                most=most,
            ),
            retry_after=OPEN_TASKS_SECONDS,
        )
    return None


def _make_task(user: Bearer, question: Question, accepted: Estimate, fields: dict[str, Any]) -> Task:
    chat, task_id = question.chat, new_id()
    is_title = question.type == Task.TITLE
    path = question.path
    base = question.continued
    return Task(
        task_id,
        user_id=user.id,
        chat_id=chat.id,
        type=question.type,
        hold=accepted.hold,
        model=accepted.tariff["model"],
        tariff=accepted.tariff,
        preset_id=question.answering.id if question.answering else chat.preset_id,
        preset_version=question.answering.number if question.answering else chat.preset_version,
        parameters=accepted.parameters,
        max_tokens=accepted.max_tokens,
        thread=path[-1].thread,
        path=[list(segment) for segment in path] if len(path) > 1 else None,
        prompt_end=question.end,
        input_tokens=accepted.input_tokens,
        answer_n=None if is_title else question.answer_n,
        replaces=question.replaces,
        continued=_measure(base) if base else None,
        visibility=question.visibility,
        title_before=chat.title if is_title else None,
        unasked=question.unasked or None,
        entitles=(not is_title and chat_titles.awaits_title(chat)) or None,
        open_shard=leases.shard_of(task_id),
        create_time=clock.timestamp(),
        **fields,
    )


def _measure(answer: Message) -> dict[str, int]:
    reasoning = answer.reasoning or ""
    size = len(f"{reasoning}{answer.content}".encode())
    return {"content": len(answer.content), "reasoning": len(reasoning), "bytes": size}


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8)


def _enqueue(task: Task, delay_seconds: int) -> None:
    try:
        aws.enqueue(settings.TASKS_QUEUE_URL, {"task_id": task.id}, delay_seconds)
    except Exception as error:  # the task is stored, and its credits are held: the sweeper sends it later
        logger.warning("queue", extra={**leases.log_ids(task), "error": type(error).__name__})
