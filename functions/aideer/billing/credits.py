"""Credits: only this module (for answers) and topups.py (by redeem codes and grants) move them. Each move is one transaction.

These rules always hold, under any interleaving, any duplicate delivery and any crash between two calls:

I1  credits >= 0.
I2  credits + sum(holds) = the sum of the user's ledger.
I3  holds are exactly the user's open tasks.
I4  a finished or stopped task has exactly one ledger entry, a failed one none.
I5  a redeem code is never used more than max_uses times, nor twice by one user.
I6  for each call that the provider accepted: charged + uncovered >= the cost of the largest usage that it reported.

The user pays for every end that the question, the preset or the user caused: finished (also when empty or filtered) and stopped.
Failures of the provider, of AIDeer and of AWS are free. uncovered.py counts their cost for the operator, and limits it.

A hold reserves the worst case when a task is accepted. Every close returns the hold in one transaction. The transaction
requires that the hold still exists, and adds the closer's own condition. So a task closes once, although its executor, a stop
and the sweeper may all try.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pynamodb.expressions.condition import Condition, size
from pynamodb.expressions.update import Action

from aideer.billing import counters, key_room, pricing, uncovered
from aideer.core import characters, clock, metrics, settings
from aideer.core.logs import logger
from aideer.core.usage import Source, Usage
from aideer.data import changes, jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Chat, CreditEntry, Identity, Message, Task, User
from aideer.data.transactions import Refused, Transaction
from aideer.security import admins
from aideer.security.api_keys import ApiKey

TITLE_JOB = "title"
"""The kind of the jobs that have titles made, each after the answer of a task that `entitles`. The task's id names its job."""
TASK_DAYS = 30
"""How many days a closed task can be read."""
PREVIEW_CHARACTERS = 200
JOINED_SOURCES_BYTES = 50_000
"""The most bytes of sources of a continued answer, as JSON. Later sources are left out."""
PROVIDERS_FAULTS = {"throttled", "upstream_auth", "upstream_error", "upstream_timeout", "model_unavailable"}
"""Error codes of failures that neither AIDeer nor the question caused."""
REFUSED_REQUEST = "model_unavailable"
"""The code for a parameter that the provider refuses. In a chat it is the preset's. In a completion it can be the client's own,
such as a tool. So it is no fault of the provider there, and no client can raise the alarm for these faults.
"""


def sign_up(user: User, identity: Identity, credits: int, *others: Identity) -> None:
    """Create a user with one or more identities and with `credits` to begin with. Raises Refused if an identity is taken."""
    transaction = Transaction()
    user.credits = credits
    user.list_shard = str(int(user.id[-1], 16) % User.LIST_SHARDS)  # a UUIDv7 ends at random
    transaction.put("user", user, User.id.does_not_exist())
    for each in (identity, *others):
        transaction.put("identity", each, Identity.key.does_not_exist())
    counters.count_user(transaction)
    if credits:
        transaction.put("entry", new_entry(user.id, credits, "signup", "Welcome"))
    if admins.is_admin(user):
        admins.add_in(transaction, user.id)
    transaction.commit(proof=lambda: lookup.exists(user))


def hold(transaction: Transaction, task: Task, session: Condition | None, key: ApiKey | None = None) -> None:
    """Accept a task: hold its credits, in the transaction that gives the task its place in a chat, and commit that.

    `session` is the condition that the caller's token is good (auth.require_session). A caller with an API key has `key` in its
    place. Raises Refused with one or more of these steps, or with steps that the transaction already had:

    - "user": the user is deleted, signed out, a visitor, has fewer credits than the hold, or has too many open tasks.
    - uncovered.STEP: the user's failed answers have reached their daily limit.
    - key_room.STEP: the key has changed since it was read, or has too little room.
    """
    good = User.id.exists() & User.deleted.does_not_exist()
    transaction.update(
        "user",
        User(task.user_id),
        [
            User.credits.add(-task.hold),
            User.holds[task.id].set(task.hold),
            User.money_version.add(1),
        ],
        (good if session is None else good & session)
        & (User.permission >= 1)
        & (User.credits >= task.hold)
        & (size(User.holds) < most_open_tasks(key)),
    )
    uncovered.require_room(transaction, task.user_id)
    if key:
        key_room.hold_in(transaction, key, int(task.hold))
    transaction.put("task", task, Task.id.does_not_exist())
    transaction.commit(proof=lambda: lookup.exists(task))


def most_open_tasks(key: ApiKey | None = None) -> int:
    """Return how many tasks a user may have open at one time. One place is free of API keys, so that the user can always ask."""
    return max(settings.OPEN_TASKS - 1, 1) if key else settings.OPEN_TASKS


@dataclass(frozen=True, slots=True)
class Closer:
    """The closer of a task: an id that differs from every other closer's, and the condition of the close."""

    by: str
    condition: Condition

    @classmethod
    def executor(cls, executor: str) -> "Closer":
        """Return the closer for the executor that makes the answer, as long as the task is its own."""
        return cls(executor, (Task.status == "running") & (Task.executor == executor))

    @classmethod
    def stop(cls) -> "Closer":
        """Return the closer for a user's stop of a pending task."""
        return cls(f"stop#{new_id()}", Task.status == "pending")

    @classmethod
    def sweep(cls, task: Task) -> "Closer":
        """Return the sweeper's closer. Its condition: the lease has expired, and is unchanged since `task` was read."""
        return cls(
            f"sweep#{new_id()}",
            (Task.status == task.status) & (Task.lease_until == task.lease_until) & (Task.lease_until < clock.now()),
        )


@dataclass(frozen=True, slots=True)
class Text:
    """The text of an answer, as far as it was made."""

    reasoning: str = ""
    content: str = ""
    tools: str = ""
    """Calls of tools, as lines of JSON (dashscope_answers.Chunk). Only completions have any."""

    @classmethod
    def join(cls, pieces: Iterable[tuple[str, str]]) -> "Text":
        """Return the text of these pieces, (kind, text) in the order in which they came."""
        parts: dict[str, list[str]] = {"reasoning": [], "content": [], "tools": []}
        for kind, text in pieces:
            parts[kind].append(text)
        return cls(**{kind: "".join(texts) for kind, texts in parts.items()})

    def __len__(self) -> int:
        """Return the number of positions in the stream: the code points of all parts."""
        return len(self.reasoning) + len(self.content) + len(self.tools)


def settle(
    task: Task,
    closer: Closer,
    status: Literal["finished", "stopped"],
    text: Text,
    finish_reason: str,
    usage: Usage,
    sources: Sequence[Source] = (),
    *,
    thought: bool = False,
    uncounted_credits: int | None = None,
) -> Task:
    """Close a task for its cost: return the rest of the hold, write one ledger entry, and store the text as a message.

    Reasoning without content becomes a message only if the answer was stopped or filtered. An answer that replaces another one
    becomes a message only if it has content and was not filtered. `thought` says that the model reasoned, even if `text` does not
    show it. `uncounted_credits` is given only for an answer without reported usage: it is the likely charge of the provider beyond
    that cost. The user does not pay it.

    Returns the task as it is stored afterwards: with this end, or with the end of an earlier closer.
    """
    cost = pricing.compute_cost(task.tariff, usage, thought=thought or bool(text.reasoning))
    credits = min(cost, task.hold)
    if uncounted_credits is not None:
        cost = credits  # an estimate above the hold is no cost that was reported
    line = new_entry(task.user_id, -credits, task.type, task.model)
    line.task_id, line.model, line.price_version = task.id, task.model, task.tariff["version"]
    line.input_tokens, line.output_tokens = usage.input_tokens, usage.output_tokens
    line.key_id = task.key["id"] if task.key else None
    lost = cost - credits + (uncounted_credits or 0)
    end = _End(
        status, finish_reason, usage, credits, uncovered=lost, uncounted=bool(uncounted_credits), sources=sources
    )
    return _close(task, closer, end, text, keep=_is_kept(task, finish_reason, text), line=line)


def release(
    task: Task, closer: Closer, error_code: str, text: Text, usage: Usage | None = None, *, uncovered_credits: int = 0
) -> Task:
    """Close a failed task for free: return the whole hold, and keep the shown text as an interrupted message.

    A failed answer that would replace another one is not kept. `uncovered_credits` is the provider's charge for the task. Returns
    the task as it is stored afterwards, as `settle` does.
    """
    end = _End("failed", "interrupted", usage, 0, error_code, uncovered_credits)
    keep = bool(len(text)) and task.replaces is None and task.chat_id is not None
    return _close(task, closer, end, text, keep=keep, line=None)


def redemptions_key(code: str) -> str:
    """Return the hash key of a redeem code's redemptions. Each user has one record there, so that the uses can be counted."""
    return f"redemption#{code}"


def sum_holds(user: User) -> int:
    """Return the credits that the user's open tasks hold."""
    return int(sum(user.holds.attribute_values.values()))


def new_entry(user_id: str, amount: int, kind: str, description: str) -> CreditEntry:
    """Return a new ledger entry. The caller writes it in the transaction that moves the credits."""
    return CreditEntry(
        user_id, new_id(), amount=amount, kind=kind, description=description, create_time=clock.timestamp()
    )


@dataclass(frozen=True, slots=True)
class _End:
    status: str
    finish_reason: str
    usage: Usage | None
    credits: int
    error_code: str | None = None
    uncovered: int = 0
    """Credits that the provider bills and the user does not pay."""
    uncounted: bool = False
    """Whether these credits are for usage that the provider did not report."""
    sources: Sequence[Source] = ()

    @property
    def is_uncounted(self) -> bool:
        return self.status == "finished" and self.usage == Usage()

    @property
    def uncovered_code(self) -> str:
        return self.error_code or (uncovered.UNCOUNTED if self.uncounted else uncovered.HOLD_EXCEEDED)


def _is_kept(task: Task, finish_reason: str, text: Text) -> bool:
    """Return whether a billed answer becomes a message. Reasoning alone is kept only if its reader saw it break off."""
    if task.chat_id is None:
        return False
    if task.replaces is not None:
        return bool(text.content) and finish_reason != "content_filter"
    if finish_reason in ("stopped", "content_filter"):
        return bool(len(text))
    return bool(text.content)


def _close(task: Task, closer: Closer, end: _End, text: Text, *, keep: bool, line: CreditEntry | None) -> Task:
    base = _find_continued(task) if keep else None
    with_chat, with_key = task.chat_id is not None, task.key is not None
    shown_last = keep and bool(text.content) and task.type != Task.TITLE and task.visibility is not False
    while True:
        transaction = Transaction()
        transaction.update(
            "user",
            User(task.user_id),
            [
                User.credits.add(task.hold - end.credits),
                User.holds[task.id].remove(),
                User.money_version.add(1),
            ],
            User.holds[task.id] == task.hold,
        )
        now = clock.now()
        ending = _ending(end, closer, len(text), now)
        if line:
            ending.append(Task.entry_id.set(line.entry_id))
            transaction.put("entry", line, CreditEntry.entry_id.does_not_exist())
        counters.count_task(
            *(transaction, task.model, now, end.usage, end.credits),
            failed=line is None,
            first_token_ms=task.first_token_ms,
        )
        if end.uncovered:
            uncovered.count(transaction, task.user_id, end.uncovered_code, end.uncovered, now)
        transaction.update("task", Task(task.id), ending, closer.condition)
        if with_key:
            key_room.return_in(transaction, task, end.credits)
        if with_chat and task.type != Task.TITLE:
            _close_chat(transaction, task, end, text, base, keep=keep, shown_last=shown_last, now=now)
        elif with_chat and end.finish_reason in ("stop", "length"):
            _entitle(transaction, task, text, now)
        try:
            transaction.commit(proof=lambda: Task.get(task.id, consistent_read=True).closed_by == closer.by)
        except Refused as refused:
            # First retry without the preview: messages that were appended after the answer keep it. Then retry without the chat: it
            # is deleted, or has another title by now. Retry without the key if it is gone. The answer is billed in any case.
            if refused.steps <= {"chat", key_room.STEP}:
                if "chat" in refused.steps:
                    with_chat, shown_last = shown_last, False
                with_key = with_key and key_room.STEP not in refused.steps
                continue
        stored = Task.get(task.id, consistent_read=True)
        if stored.closed_by == closer.by:
            _measure(task, end)
        return stored


def _measure(task: Task, end: _End) -> None:
    values = {"CreditsSettled": end.credits}
    if end.usage:
        values |= {"InputTokens": end.usage.input_tokens, "OutputTokens": end.usage.output_tokens}
    if end.uncovered:
        metrics.emit({"UncoveredCredits": end.uncovered}, code=end.uncovered_code)
    if end.error_code is None:
        if end.is_uncounted:
            values["AnswersUncounted"] = 1
            logger.warning("uncounted", extra={"task_id": task.id, "user_id": task.user_id, "model": task.model})
        elif end.uncovered and not end.uncounted:
            values["Shortfalls"] = end.uncovered
        metrics.emit({"AnswersFinished" if end.status == "finished" else "AnswersStopped": 1, **values})
        return
    metrics.emit(values)
    metrics.emit({"AnswersFailed": 1}, code=end.error_code)
    if end.error_code in PROVIDERS_FAULTS and not (task.type == Task.API and end.error_code == REFUSED_REQUEST):
        metrics.emit({"ProviderFailures": 1})


def _ending(end: _End, closer: Closer, text_length: int, now: float) -> list[Action]:
    actions: list[Action] = [
        Task.status.set(end.status),
        Task.closed_by.set(closer.by),
        Task.finish_reason.set(end.finish_reason),
        Task.credits.set(end.credits),
        Task.text_length.set(text_length),
        Task.end_time.set(clock.timestamp(now)),
        Task.ttl.set(int(now) + TASK_DAYS * 86400),
        Task.open_shard.remove(),
        Task.lease_until.remove(),
        Task.usage_so_far.remove(),
    ]
    if end.usage:
        actions.append(Task.usage.set(end.usage._asdict()))
    if end.error_code:
        actions.append(Task.error_code.set(end.error_code))
    return actions


def _find_continued(task: Task) -> Message | None:
    """Return the answer that this task continues. It cannot change while the task runs."""
    return lookup.find(Message, task.thread, int(task.replaces)) if task.continued else None


def _join(base: Message, answer: Message) -> None:
    """Make an answer one message with the one that it continues, with the sum of their credits and usage."""
    answer.content = base.content + answer.content
    answer.reasoning = (base.reasoning or "") + (answer.reasoning or "") or None
    answer.credits = int(base.credits or 0) + int(answer.credits or 0)
    if base.usage:
        usage = answer.usage or {}
        answer.usage = {name: base.usage.get(name, 0) + usage.get(name, 0) for name in base.usage.keys() | usage.keys()}
    sources = [*(base.sources or []), *(answer.sources or [])]
    if len(json.dumps(sources, ensure_ascii=False).encode()) > JOINED_SOURCES_BYTES:
        sources = base.sources
    answer.sources = sources or None


def _close_chat(
    transaction: Transaction,
    task: Task,
    end: _End,
    text: Text,
    base: Message | None,
    *,
    keep: bool,
    shown_last: bool,
    now: float,
) -> None:
    condition = Chat.deleted.does_not_exist() & (Chat.active_task == task.id)
    actions = [Chat.active_task.remove(), Chat.version.add(1), Chat.update_time.set(clock.timestamp(now))]
    if keep:
        message = Message(
            task.thread,
            task.answer_n,
            role="assistant",
            content=text.content,
            reasoning=text.reasoning or None,
            create_time=clock.timestamp(now),
            task_id=task.id,
            model=task.model,
            finish_reason=end.finish_reason,
            usage=end.usage._asdict() if end.usage else None,
            credits=end.credits,
            sources=list(end.sources) or None,
            visibility=task.visibility is not False,
        )
        if base:
            _join(base, message)
        transaction.put("message", message, Message.n.does_not_exist())
        if shown_last:
            actions += [Chat.preview.set(message.content[:PREVIEW_CHARACTERS]), Chat.preview_n.set(task.answer_n)]
            condition &= Chat.preview_n.does_not_exist() | (Chat.preview_n < task.answer_n)
        if task.replaces is None:
            actions.append(Chat.message_count.add(1))
        else:
            transaction.delete("replaced", Message(task.thread, task.replaces))
        if task.entitles and text.content and end.finish_reason not in Message.CUT_OFF and task.visibility is not False:
            jobs.enqueue_named_in(transaction, TITLE_JOB, task.create_time, task.id, chat_id=task.chat_id)
    transaction.update("chat", Chat(task.chat_id), actions, condition)
    changes.mark_in(transaction, task.user_id, task.chat_id)


def _entitle(transaction: Transaction, task: Task, text: Text, now: float) -> None:
    if title := characters.extract_title(text.content):
        actions: list[Action] = [
            Chat.title.set(title),
            Chat.title_source.set(Chat.MODEL),
            Chat.version.add(1),
            Chat.update_time.set(clock.timestamp(now)),
        ]
        replaceable = Chat.title_source.is_in(*Chat.PROVISIONAL) if task.unasked else Chat.title == task.title_before
        transaction.update("chat", Chat(task.chat_id), actions, Chat.deleted.does_not_exist() & replaceable)
        changes.mark_in(transaction, task.user_id, task.chat_id)
