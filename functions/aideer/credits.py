"""Credits: the one module that moves them. Each function is one transaction, and these always hold, under any interleaving,
any duplicate delivery and any crash between two calls:

I1  credits >= 0.
I2  credits + sum(holds) = the sum of the user's ledger.
I3  holds are exactly the user's open tasks.
I4  a finished or stopped task has exactly one ledger entry, a failed one none.
I5  a code is never used more than max_uses times, nor twice by one user.

A hold sets the worst case aside when a task is accepted. Every close takes it back in one transaction that requires the hold
to be there still and the closer's own condition, so that a task closes once, whoever tries: its executor, a stop, the sweep.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Literal

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer import clock, pricing, titles
from aideer.errors import Busy, Unauthorized, Unprocessable
from aideer.idempotency import Once
from aideer.models import Chat, Code, CreditEntry, Identity, Message, Record, Task, User, new_id
from aideer.pricing import Usage
from aideer.transactions import PATIENCE_SECONDS, Refused, Transaction

TASK_DAYS = 30
"""How long a closed task can be read."""
PREVIEW_CHARACTERS = 200
_STATISTICS_SHARDS = 16


def sign_up(user: User, identity: Identity, credits: int) -> None:
    """Create a user with a first way to sign in, and `credits` to begin with. Raises Refused where the identity is taken."""
    transaction = Transaction()
    user.credits = credits
    transaction.put("user", user, User.id.does_not_exist())
    transaction.put("identity", identity, Identity.key.does_not_exist())
    if credits:
        transaction.put("entry", _entry(user.id, credits, "signup", "Welcome"))
    transaction.commit(proof=lambda: _exists(user))


def hold(task: Task, token_version: int, chat: Chat, once: Once, answer: dict[str, object]) -> None:
    """Accept a task: set its hold aside, make the chat its own, and remember the answer of its Idempotency-Key.

    `chat` is as it was priced, and `token_version` is what the caller's token says. Raises Refused with the steps "user" (gone,
    signed out since, a visitor, or with fewer credits than the hold), "chat" (gone, changed since, or another task has it) or
    "idempotency".
    """
    transaction = Transaction()
    transaction.update(
        "user",
        User(task.user_id),
        [
            User.credits.add(-task.hold),
            User.holds[task.id].set(task.hold),
            User.money_version.add(1),
        ],
        User.id.exists()
        & User.deleted.does_not_exist()
        & (User.token_version == token_version)
        & (User.permission >= 1)
        & (User.credits >= task.hold),
    )
    if task.type == titles.TYPE:
        transaction.check("chat", Chat, chat.id, None, Chat.id.exists() & Chat.deleted.does_not_exist())
    else:
        _occupy(transaction, task, chat)
    transaction.put("task", task, Task.id.does_not_exist())
    once.join(transaction, answer)
    transaction.commit(proof=lambda: _exists(task))


def _occupy(transaction: Transaction, task: Task, chat: Chat) -> None:
    transaction.update(
        "chat",
        Chat(chat.id),
        [Chat.active_task.set(task.id), Chat.next_n.set(chat.next_n + 1), Chat.version.add(1)],
        Chat.deleted.does_not_exist() & Chat.active_task.does_not_exist() & (Chat.version == chat.version),
    )


@dataclass(frozen=True, slots=True)
class Closer:
    """Who closes a task, told apart from every other closer, and what must still hold when it does."""

    by: str
    condition: Condition

    @classmethod
    def executor(cls, executor: str) -> "Closer":
        """The one that makes the answer, while the task is still its own."""
        return cls(executor, (Task.status == "running") & (Task.executor == executor))

    @classmethod
    def stop(cls) -> "Closer":
        """A user's stop of a task that nobody has begun."""
        return cls(f"stop#{new_id()}", Task.status == "pending")

    @classmethod
    def sweep(cls, task: Task) -> "Closer":
        """The sweep, of a task whose lease is as expired at the write as it was when it was read."""
        return cls(
            f"sweep#{new_id()}",
            (Task.status == task.status) & (Task.lease_until == task.lease_until) & (Task.lease_until < clock.now()),
        )


@dataclass(frozen=True, slots=True)
class Text:
    """An answer as far as it came."""

    reasoning: str = ""
    content: str = ""

    def __len__(self) -> int:
        """Positions of the stream: code points of both."""
        return len(self.reasoning) + len(self.content)


def settle(
    task: Task, closer: Closer, status: Literal["finished", "stopped"], text: Text, finish_reason: str, usage: Usage
) -> Task:
    """Close a task for its cost: the hold comes back less the cost, with one ledger entry, and the text becomes a message.

    Returns the task as it is stored then: this end, or the one that another closer had reached before.
    """
    credits = min(pricing.cost(task.tariff, usage), task.hold)
    entry = _entry(task.user_id, -credits, task.type, task.model)
    entry.task_id, entry.model, entry.price_version = task.id, task.model, task.tariff["version"]
    entry.input_tokens, entry.output_tokens = usage.input_tokens, usage.output_tokens
    end = _End(status, finish_reason, usage, credits)
    return _close(task, closer, end, text, keep=bool(len(text)), entry=entry)


def release(task: Task, closer: Closer, error_code: str, text: Text, usage: Usage | None = None) -> Task:
    """Close a task that failed, for nothing: the whole hold comes back; what was shown is kept as interrupted.

    Returns the task as it is stored then, as `settle` does.
    """
    end = _End("failed", "interrupted", usage, 0, error_code)
    return _close(task, closer, end, text, keep=bool(len(text)) and task.replaces is None, entry=None)


def redeem(user: User, code_text: str, once: Once) -> dict[str, object]:
    """Redeem a code for this user: {message, value, credits_left}.

    Raises Unprocessable where the code is unknown, used up, expired, or was redeemed by this user before.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if answer := once.answer():
            return answer
        try:
            code = _redeemable(user, code_text)
        except Unprocessable:
            if answer := once.answer():  # the refusal was the echo of this very request's first attempt
                return answer
            raise
        answer = {"message": "Redeemed.", "value": code.value, "credits_left": user.credits + code.value}
        entry = _entry(user.id, code.value, "redeem", code.description or "Redeem code")
        entry.code = code.code
        now = clock.timestamp()
        transaction = Transaction()
        transaction.update(
            "user",
            User(user.id),
            [User.credits.add(code.value), User.money_version.add(1)],
            # As it was read, so that the answer's credits_left is exact.
            User.deleted.does_not_exist() & (User.money_version == user.money_version),
        )
        transaction.update(
            "code",
            Code(code.code),
            [Code.used.add(1)],
            (Code.used < Code.max_uses) & (Code.expires_at.does_not_exist() | (Code.expires_at > now)),
        )
        redemption = Record(redemptions(code.code), user.id, data={"entry_id": entry.entry_id})
        transaction.put("redemption", redemption, Record.pk.does_not_exist())
        transaction.put("entry", entry)
        once.join(transaction, answer)
        try:
            transaction.commit(proof=lambda entry=entry: _exists(entry))  # type: ignore[misc]
        except Refused:
            user = reread(user)
            continue
        return answer
    raise Busy


def reread(user: User) -> User:
    """The user as stored now, after a refusal. Raises Unauthorized where they are gone."""
    try:
        user = User.get(user.id, consistent_read=True)
    except User.DoesNotExist:
        raise Unauthorized from None
    if user.deleted:
        raise Unauthorized
    return user


def redemptions(code: str) -> str:
    """The hash key of a code's redemptions, one record for each user: so that a code's uses can be counted."""
    return f"redemption#{code}"


def credits_held(user: User) -> int:
    """What the user's open tasks have set aside."""
    return int(sum(user.holds.attribute_values.values()))


def _redeemable(user: User, code_text: str) -> Code:
    try:
        code = Code.get(code_text.upper(), consistent_read=True)
    except Code.DoesNotExist:
        raise Unprocessable("code_unknown", "There is no such code.") from None
    if _exists(Record(redemptions(code.code), user.id)):
        raise Unprocessable("code_already_redeemed", "You have redeemed this code before.")
    if code.expires_at and code.expires_at <= clock.timestamp():
        raise Unprocessable("code_expired", "This code has expired.")
    if code.used >= code.max_uses:
        raise Unprocessable("code_used_up", "This code has been used up.")
    return code


@dataclass(frozen=True, slots=True)
class _End:
    status: str
    finish_reason: str
    usage: Usage | None
    credits: int
    error_code: str | None = None


def _close(task: Task, closer: Closer, end: _End, text: Text, *, keep: bool, entry: CreditEntry | None) -> Task:
    with_chat = True
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
        if entry:
            ending.append(Task.entry_id.set(entry.entry_id))
            transaction.put("entry", entry, CreditEntry.entry_id.does_not_exist())
            transaction.update("statistics", *_counted(task, end, now))
        transaction.update("task", Task(task.id), ending, closer.condition)
        if with_chat and task.type != titles.TYPE:
            _close_chat(transaction, task, end, text, keep=keep, now=now)
        elif with_chat and end.status == "finished":
            _entitle(transaction, task, text, now)
        try:
            transaction.commit(proof=lambda: Task.get(task.id, consistent_read=True).closed_by == closer.by)
        except Refused as refused:
            # A chat that is gone, or has got another title, takes nothing, and the answer is billed all the same.
            if refused.steps == {"chat"} and with_chat:
                with_chat = False
                continue
        return Task.get(task.id, consistent_read=True)


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
    ]
    if end.usage:
        actions.append(Task.usage.set(end.usage._asdict()))
    if end.error_code:
        actions.append(Task.error_code.set(end.error_code))
    return actions


def _close_chat(transaction: Transaction, task: Task, end: _End, text: Text, *, keep: bool, now: float) -> None:
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
        )
        transaction.put("message", message, Message.n.does_not_exist())
        if text.content:
            actions.append(Chat.preview.set(text.content[:PREVIEW_CHARACTERS]))
        if task.replaces is None:
            actions.append(Chat.message_count.add(1))
        else:
            transaction.delete("replaced", Message(task.thread, task.replaces))
    transaction.update(
        "chat", Chat(task.chat_id), actions, Chat.deleted.does_not_exist() & (Chat.active_task == task.id)
    )


def _entitle(transaction: Transaction, task: Task, text: Text, now: float) -> None:
    if title := titles.clean(text.content):
        transaction.update(
            "chat",
            Chat(task.chat_id),
            [Chat.title.set(title), Chat.version.add(1), Chat.update_time.set(clock.timestamp(now))],
            Chat.deleted.does_not_exist() & (Chat.title == task.title_before),
        )


def _counted(task: Task, end: _End, now: float) -> tuple[Record, list[Action], Condition | None]:
    usage = end.usage or Usage(0, 0)
    shard = secrets.randbelow(_STATISTICS_SHARDS)
    return (
        Record(f"statistics#{clock.timestamp(now)[:10]}", f"{task.model}#{shard:02}"),
        [
            Record.tasks.add(1),
            Record.input_tokens.add(usage.input_tokens),
            Record.output_tokens.add(usage.output_tokens),
            Record.credits.add(end.credits),
        ],
        None,  # a counter begins to exist with its first count
    )


def _entry(user_id: str, amount: int, kind: str, description: str) -> CreditEntry:
    return CreditEntry(
        user_id, new_id(), amount=amount, kind=kind, description=description, create_time=clock.timestamp()
    )


def _exists(item: User | Task | Record | CreditEntry) -> bool:
    try:
        item.refresh(consistent_read=True)
    except type(item).DoesNotExist:
        return False
    return True
