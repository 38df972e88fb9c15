"""The rules as a state machine: hypothesis looks for an order of events after which the tables say other than this model.

Events are those of clients, queues, executors, sweeps and jobs, in any order, with what they had read before: an executor goes on
after it has lost its task, a sweep and a stop act on a task as it was when they read it, a message is delivered again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aideer.accounts import deletion
from aideer.billing import credits, pricing, redeem_codes, topups, uncovered
from aideer.billing.credits import Closer, Text
from aideer.chats import chats
from aideer.core import characters, clock, settings
from aideer.core.errors import AideerError, Busy
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.base import new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, CreditEntry, Message, Record, Task, User
from aideer.data.transactions import Refused
from aideer.schemas.chats import ChatChange, NewMessages, PlacedMessage
from aideer.schemas.credits import NewGrant, NewRedemption
from aideer.schemas.questions import NewQuestion, NewTask
from aideer.security.auth import Bearer
from aideer.tasks import admission, chat_deletion, control, leases, stream_log, sweeper
from aideer.tasks.admission import Accepted
from jobs.run import WORKERS
from tests.chaos.harness import World
from tests.support import Person

OPEN = ("pending", "running")
TITLE = "title_generation"
LEFT_OUT = ("interrupted", "content_filter")
"""How answers end that later prompts leave out."""


class Shown:
    """hypothesis prints these as they print themselves, and not field by field."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(eq=False)
class Someone(Shown):
    """A user as the model has them."""

    person: Person
    ledger: int
    redeemed: dict[str, str | None] = field(default_factory=dict)
    """Codes, each with the key under which it was."""
    granted: dict[int, int] = field(default_factory=dict)
    """Amounts that were granted under a key, with what was left then."""
    deleted_at: float | None = None
    uncovered: int = 0
    """What the provider bills for their tasks and nobody pays."""

    @property
    def caller(self) -> Bearer:
        """Who holds their first access token, for as long as it is good."""
        return Bearer({"sub": self.person.id, "ver": 0})

    def __repr__(self) -> str:
        return f"<user of {self.ledger}{' deleted' if self.deleted_at else ''}>"


@dataclass(eq=False)
class Talk(Shown):
    """A chat as the model has it. Of a message it knows who said it, whether a prompt shows it, and whose answer it is."""

    owner: Someone
    chat: Chat
    messages: dict[int, tuple[str, bool, str | None]]
    next_n: int
    deleted: bool = False
    active: "Work | None" = None
    title: str = "Test"

    def asks(self, end: int) -> bool:
        shown = [role for n, (role, visible, _) in sorted(self.messages.items()) if n < end and visible]
        return bool(shown) and shown[-1] == "user"

    def __repr__(self) -> str:
        return f"<chat of {len(self.messages)}{' deleted' if self.deleted else ''}>"


@dataclass(eq=False)
class Work(Shown):
    """A task as the model has it."""

    id: str
    talk: Talk
    type: str
    hold: int
    answer_n: int | None
    replaces: int | None
    title_before: str
    accepted_at: float
    status: str = "pending"
    executor: str | None = None
    lease: float = 0.0
    credits: int = 0
    key: str | None = None
    deleted: bool = False
    """By its user, after its end."""

    def __repr__(self) -> str:
        return f"<{self.status} {self.type}{' deleted' if self.deleted else ''}>"


@dataclass(eq=False)
class Executor(Shown):
    """One that has claimed a task, whatever has become of the task since."""

    work: Work
    task: Task
    said: str = ""

    def __repr__(self) -> str:
        return f"<executor of {self.work!r}>"


def one_of(name: str) -> st.SearchStrategy[Any]:
    """One of the newer ones of those that there are by now."""
    return st.runner().flatmap(lambda rules: st.sampled_from(list(getattr(rules, name))[-6:]))


def some(name: str) -> Callable[[Any], bool]:
    """Whether there are any by now."""
    return lambda rules: bool(getattr(rules, name))


PEOPLE, TALKS, WORKS, CODES = one_of("people"), one_of("talks"), one_of("works"), one_of("codes")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
EXECUTORS, READINGS = one_of("executors"), one_of("readings")
KEYS = st.sampled_from([None, "a"])
LOST, NEVER, LATE = "answer lost", "never happens", "comes too late"
WAYS = st.sampled_from(["stream", "stream", "queue", LOST, NEVER, LATE])
"""POST /tasks/stream or POST /tasks. Or POST /tasks/stream, and what becomes of its transaction."""
QUESTIONS = {"message": ["user"], "messages": ["assistant", "user"], "stored": [], "statement": ["assistant"]}
"""The roles of the messages that a question brings."""


@contextmanager
def doubtful(way: str) -> Iterator[None]:
    """Let DynamoDB give no final answer to the transaction of an admission."""
    late: list[tuple[Any, ...]] = []
    hold = credits.hold

    def lose(*arguments: Any) -> None:
        if way == LOST:
            hold(*arguments)
        late.append(arguments)
        raise Busy

    if way not in (LOST, NEVER, LATE):
        yield
        return
    with mock.patch.object(credits, "hold", lose):
        yield
    for arguments in late if way == LATE else []:
        with pytest.raises(Refused, match="task"):
            hold(*arguments)


class Rules(RuleBasedStateMachine):
    """What may happen."""

    make_world: Callable[[], World]
    """Set by whoever runs it."""
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.people = [Someone(self.world.person(balance), balance) for balance in (1_000, 60)]
        self.talks: list[Talk] = []
        self.works: list[Work] = []
        self.asked: dict[str, Work] = {}
        """By the keys of questions."""
        self.executors: list[Executor] = []
        self.readings: list[tuple[Work, Task]] = []
        """Tasks as somebody has read them at some time."""
        self.codes: dict[str, tuple[int, int]] = {}
        self.uses: dict[str, int] = {}
        self.revoked: set[str] = set()
        admin = self.world.person(0)
        User(admin.id).update([User.permission.set(2)])
        self.admin = admin.user
        for owner in (*self.people, self.people[0]):
            self._open(owner)
        for max_uses in (1, 2):
            code = self.world.code(100, max_uses)
            self.codes[code], self.uses[code] = (100, max_uses), 0

    def _open(self, owner: Someone) -> None:
        self.talks.append(Talk(owner, self.world.chat(owner.person), {1: ("user", True, None)}, 2))

    def attempt(self, call: Callable[[], Any]) -> tuple[Any, AideerError | None]:
        """What a call answers, or how it is refused."""
        try:
            return call(), None
        except AideerError as error:
            return None, error

    # --- clients

    @rule(talk=TALKS, type=st.sampled_from(["chat_generation", TITLE]), key=KEYS)
    def ask(self, talk: Talk, type: str, key: str | None) -> None:
        wanted = NewTask(chat_id=talk.chat.id, type=type, stream=False)
        request = IdempotentRequest(talk.owner.person.id, f"POST /tasks {talk.chat.id} {type}", key, wanted)
        known = [work for work in self.works if key and (work.talk, work.type, work.key) == (talk, type, key)]
        if known:
            assert admission.create(talk.owner.caller, wanted, request).task_id == known[0].id
            return
        busy = type != TITLE and talk.active is not None
        if talk.deleted:
            refusal = "chat_not_found"
        elif busy:
            refusal = "task_running"
        elif type != TITLE and not talk.asks(talk.next_n):
            refusal = "last_message_not_user"
        elif type == TITLE and not any(visible for _, visible, _ in talk.messages.values()):
            refusal = "empty_chat"
        else:
            refusal = None
        self._accept(talk, type, refusal, None, lambda: admission.create(talk.owner.caller, wanted, request), key)

    @rule(talk=TALKS, what=st.sampled_from(list(QUESTIONS)), way=WAYS, key=KEYS)
    def ask_at_once(self, talk: Talk, what: str, way: str, key: str | None) -> None:
        """One request with the question."""
        roles = QUESTIONS[what]
        asks = roles[-1] == "user" if roles else talk.asks(talk.next_n)
        if talk.deleted:
            refusal = "chat_not_found"
        elif talk.active:
            refusal = "task_running"
        else:
            refusal = None if asks else "last_message_not_user"
        self._ask_at_once(talk, way, key and f"{talk.chat.id} {what}", {"chat_id": talk.chat.id}, roles, refusal)

    @rule(talk=TALKS, way=WAYS, key=KEYS)
    def ask_in_new_chat(self, talk: Talk, way: str, key: str | None) -> None:
        """One request that opens another chat on the preset of this one."""
        opened = {"chat": {"preset_id": talk.chat.preset_id, "title": "Opened"}}
        new = Talk(talk.owner, talk.chat, {}, 1, title="Opened")
        if work := self._ask_at_once(new, way, key and talk.chat.preset_id, opened, ["user"], None):
            new.chat = Chat.get(Task.get(work.id, consistent_read=True).chat_id, consistent_read=True)
            self.talks.append(new)

    @precondition(some("works"))
    @rule(old=WORKS, way=st.one_of(st.just("regenerate"), WAYS), key=KEYS)
    def ask_again(self, old: Work, way: str, key: str | None) -> None:
        talk, refusal, last = old.talk, None, None
        if old.deleted:
            refusal = "task_not_found"
        elif talk.deleted:
            refusal = "chat_not_found"
        elif talk.active is not None:
            refusal = "task_running"
        else:
            last = max(talk.messages, default=None)
            mine = last is not None and (talk.messages[last][2] == old.id or last == old.replaces)
            if old.type == TITLE or not mine:
                refusal = "not_last_answer"
            elif not talk.asks(last or 0):
                refusal = "last_message_not_user"
        if talk.owner.deleted_at:
            refusal = "token_revoked"
        if way != "regenerate":
            self._ask_at_once(talk, way, key and f"{old.id} again", {"regenerate": old.id}, [], refusal, last)
            return
        request = IdempotentRequest(talk.owner.person.id, "again", None, "")
        self._accept(
            talk, old.type, refusal, last, lambda: admission.regenerate(talk.owner.caller, old.id, request), None
        )

    def _ask_at_once(
        self,
        talk: Talk,
        way: str,
        key: str | None,
        body: dict[str, Any],
        roles: list[str],
        refusal: str | None,
        replaces: int | None = None,
    ) -> Work | None:
        """Ask by one of WAYS, and return the new task. A known key gets its first task."""
        caller, key = talk.owner.caller, key or new_id()
        body = {**body, "messages": [{"role": role, "content": "more"} for role in roles]}
        wanted = NewTask(**body, stream=False) if way == "queue" else NewQuestion(**body)
        request = admission.identify(caller, wanted, key)

        def call() -> Any:
            if isinstance(wanted, NewTask):
                return admission.create(caller, wanted, request)
            return admission.begin(caller, wanted, request)

        if known := self.asked.get(key):
            answer, error = self.attempt(call)
            assert (error and error.code) == ("token_revoked" if talk.owner.deleted_at else None)
            if isinstance(answer, Accepted):
                assert (answer.task.id, answer.prompt) == (known.id, None)
            assert not answer or isinstance(answer, Accepted) or answer.task_id == known.id
            return None
        if way in (NEVER, LATE):
            refusal = refusal or "busy"
        with doubtful(way):
            work = self._accept(talk, "chat_generation", refusal, replaces, call, key, roles)
        if work:
            self.asked[key] = work
        return work

    def _accept(
        self,
        talk: Talk,
        type: str,
        refusal: str | None,
        replaces: int | None,
        call: Callable[[], Any],
        key: str | None,
        roles: Sequence[str] = (),
    ) -> Work | None:
        balance = self.balance(talk.owner)
        answer, error = self.attempt(call)
        if error and error.code == "insufficient_credits":
            assert error.extra["credits_left"] == balance < error.extra["credits_needed"]
            assert refusal is None
            return None
        assert (error and error.code) == refusal
        if error:
            return None
        here = isinstance(answer, Accepted)
        task_id, hold = (answer.task.id, int(answer.task.hold)) if here else (answer.task_id, answer.credits_held)
        assert 0 < hold <= balance
        added = {n: (role, True, None) for n, role in enumerate(roles, talk.next_n)}
        assert list(answer.messages or ()) == list(added)
        talk.messages |= added
        talk.next_n += len(added)
        is_title = type == TITLE
        work = Work(
            task_id,
            talk,
            type,
            hold,
            None if is_title else talk.next_n,
            replaces,
            talk.title,
            clock.now(),
        )
        stored = Task.get(work.id, consistent_read=True)
        work.lease = float(stored.lease_until)
        work.key = key
        self.works.append(work)
        if not is_title:
            talk.active, talk.next_n = work, talk.next_n + 1
            assert Chat.get(stored.chat_id, consistent_read=True).version == answer.chat_version
        if here:
            assert answer.prompt
            work.status, work.executor = "running", stored.executor
            self.executors.append(Executor(work, answer.task))
        return work

    @rule(talk=TALKS, roles=st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=3))
    def append(self, talk: Talk, roles: list[str]) -> None:
        new = NewMessages.model_validate({"messages": [{"role": role, "content": "more"} for role in roles]})
        stored, error = self.attempt(lambda: chats.append(talk.owner.person.user, talk.chat.id, new))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        if error:
            return
        assert [message.n for message in stored] == list(range(talk.next_n, talk.next_n + len(roles)))
        talk.messages |= {message.n: (message.role, True, None) for message in stored}
        talk.next_n += len(roles)

    @rule(talk=TALKS, keep=st.integers(0, 3), add=st.integers(0, 2))
    def replace(self, talk: Talk, keep: int, add: int) -> None:
        chat = Chat.get(talk.chat.id, consistent_read=True) if not talk.deleted else talk.chat
        kept = list(Message.query(chat.thread, consistent_read=True))[:keep]
        placed = [PlacedMessage(n=message.n, role=message.role, content=message.content) for message in kept]
        placed += [PlacedMessage(role="user", content="new")] * add
        change = ChatChange(messages=placed)
        _, error = self.attempt(lambda: chats.change(talk.owner.person.user, talk.chat.id, change, "*"))
        refusal = "chat_not_found" if talk.deleted else "task_running" if talk.active else None
        assert (error and error.code) == refusal
        if error:
            return
        talk.messages = {message.n: talk.messages[message.n] for message in kept}
        talk.messages |= dict.fromkeys(range(talk.next_n, talk.next_n + add), ("user", True, None))
        talk.next_n += add

    @rule(talk=TALKS, what=st.sampled_from(["rename", "rename", "delete", "work_jobs"]))
    def tidy(self, talk: Talk, what: str) -> None:
        """What happens now and then."""
        {"rename": self.rename, "delete": self.delete_chat, "work_jobs": self.work_jobs}[what](talk)

    def rename(self, talk: Talk) -> None:
        title = f"{talk.title[:20]}+"
        change = ChatChange(title=title)
        _, error = self.attempt(lambda: chats.change(talk.owner.person.user, talk.chat.id, change, None))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        talk.title = talk.title if error else title

    def delete_chat(self, talk: Talk) -> None:
        _, error = self.attempt(lambda: chat_deletion.delete(talk.owner.person.user, talk.chat.id))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        if error:
            return
        talk.deleted = True
        if talk.active and talk.active.status == "pending":
            self.ended(talk.active, "stopped", 0, "")
        self._open(talk.owner)

    @rule(someone=PEOPLE, text=CODES, key=st.sampled_from([None, "a"]))
    def redeem(self, someone: Someone, text: str, key: str | None) -> None:
        if someone.deleted_at:
            return
        value, max_uses = self.codes[text]
        wanted = NewRedemption(redeem_code=text)
        request = IdempotentRequest(someone.person.id, f"redeem {text}", key, wanted)
        repeated = key is not None and someone.redeemed.get(text) == key
        before = self.balance(someone)
        answer, error = self.attempt(lambda: topups.redeem(someone.person.user, text, request))
        if repeated:
            assert error is None
            return
        refusal = "code_used_up" if self.uses[text] == max_uses else None
        if text in self.revoked:
            refusal = "code_revoked"
        if text in someone.redeemed:
            refusal = "code_already_redeemed"
        assert (error and error.code) == refusal
        if error:
            return
        assert answer["credits_left"] == before + value
        someone.redeemed[text] = key
        someone.ledger += value
        self.uses[text] += 1

    @rule(someone=PEOPLE)
    def delete_user(self, someone: Someone) -> None:
        """They are gone for all clients, while executors go on with their tasks. Another one comes."""
        if someone.deleted_at or len(self.works) < 3:
            return
        deletion.delete(someone.person.user, someone.person.id)
        someone.deleted_at = clock.now()
        self.talks = [talk for talk in self.talks if talk.owner is not someone]
        self.people.append(Someone(self.world.person(500), 500))
        self._open(self.people[-1])

    @rule(text=CODES, really=st.integers(0, 3))
    def revoke(self, text: str, really: int) -> None:
        if really == 3:  # now and then: nothing more comes of it
            redeem_codes.revoke(self.admin, text)
            self.revoked.add(text)

    @rule(someone=PEOPLE, amount=st.sampled_from([50, -50, -700]), key=st.sampled_from([None, "a"]))
    def grant(self, someone: Someone, amount: int, key: str | None) -> None:
        new = NewGrant(amount=amount, description="because")
        request = IdempotentRequest(self.admin.id, f"grant {someone.person.id} {amount}", key, new)
        left = self.balance(someone) + amount
        answer, error = self.attempt(lambda: topups.grant(someone.person.id, new, self.admin, request))
        if key and amount in someone.granted:
            assert answer["credits_left"] == someone.granted[amount]
            return
        refusal = "insufficient_credits" if left < 0 else None
        if someone.deleted_at:
            refusal = "user_not_found"
        assert (error and error.code) == refusal
        if error:
            return
        assert answer["credits_left"] == left
        someone.ledger += amount
        if key:
            someone.granted[amount] = left

    @precondition(lambda rules: any(someone.deleted_at for someone in rules.people))
    @rule(times=st.integers(1, 3))
    def minutes_later(self, times: int) -> None:
        """What it takes for a deleted user to be gone."""
        for _ in range(times):
            self.sweep(61)
            self.work_jobs(self.talks[-1])

    @precondition(some("works"))
    @rule(work=WORKS)
    def read(self, work: Work) -> None:
        self.readings.append((work, Task.get(work.id, consistent_read=True)))

    @precondition(some("readings"))
    @rule(reading=READINGS)
    def stop(self, reading: tuple[Work, Task]) -> None:
        work, task = reading
        stored = control.stop(task)
        if task.status == "pending" and work.status == "pending":
            self.ended(work, "stopped", 0, "")
        if task.status in OPEN:  # else it was shown as it had been read
            assert stored.status == work.status

    @precondition(some("works"))
    @rule(work=WORKS)
    def delete_answer(self, work: Work) -> None:
        """The task goes, and its message and its bill stay."""
        _, error = self.attempt(lambda: control.delete(Task(work.id)))
        assert (error and error.code) == ("task_not_ended" if work.status in OPEN else None)
        work.deleted = work.deleted or error is None

    # --- executors

    @precondition(some("works"))
    @rule(work=WORKS)
    def deliver(self, work: Work) -> None:
        task = leases.claim(work.id)
        assert (task is not None) == (work.status == "pending")
        if task:
            work.status, work.executor, work.lease = "running", task.executor, float(task.lease_until)
            self.executors.append(Executor(work, task))

    @rule(talk=TALKS, text=TEXTS)
    def begin(self, talk: Talk, text: str) -> None:
        """The usual beginning, so that there are answers under way."""
        if not talk.deleted and not talk.active and not talk.asks(talk.next_n):
            self.append(talk, ["user"])
        self.ask(talk, "chat_generation", None)
        if talk.active:
            self.read(talk.active)
            self.deliver(talk.active)
            self.say(self.executors[-1], text)

    @rule(talk=TALKS, text=TEXTS, again=st.booleans())
    def answer(self, talk: Talk, text: str, again: bool) -> None:
        """The usual end, and perhaps the wish for another answer."""
        before = len(self.executors)
        self.begin(talk, text)
        if len(self.executors) > before:
            executor = self.executors[-1]
            self.settle(executor, "stop", output=9)
            if again:
                self.ask_again(executor.work, "regenerate", None)

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, text=TEXTS)
    def say(self, executor: Executor, text: str) -> None:
        stream_log.write(executor.task.id, stream_log.Slice(len(executor.said), "content", text))
        executor.said += text

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, output=st.sampled_from([None, 0, 3, 900]))
    def renew(self, executor: Executor, output: int | None) -> None:
        usage = None if output is None else Usage(20, output)
        stored = leases.renew(executor.task, usage)
        assert (stored is not None) == self.owns(executor)
        assert (leases.reload_if_owner(executor.task) is not None) == self.owns(executor)
        if stored:
            executor.work.lease = float(stored.lease_until)

    @precondition(some("executors"))
    @rule(
        executor=EXECUTORS,
        reason=st.sampled_from(["stop", "stop", "length", "content_filter", "stopped"]),
        output=st.integers(0, 5_000),
    )
    def settle(self, executor: Executor, reason: str, output: int) -> None:
        work, task, usage = executor.work, executor.task, Usage(20, output)
        status: Literal["finished", "stopped"] = "stopped" if reason == "stopped" else "finished"
        text = Text(content=executor.said)
        end = credits.settle(task, Closer.executor(task.executor), status, text, reason, usage)
        if self.owns(executor):
            cost = pricing.compute_cost(task.tariff, usage)
            work.talk.owner.uncovered += max(cost - work.hold, 0)
            self.ended(work, status, min(cost, work.hold), executor.said, reason)
        assert (end.status, int(end.credits or 0)) == (work.status, work.credits)

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, lost=st.sampled_from([0, 7]))
    def fail(self, executor: Executor, lost: int) -> None:
        text, closer = Text(content=executor.said), Closer.executor(executor.task.executor)
        end = credits.release(executor.task, closer, "upstream_error", text, uncovered_credits=lost)
        if self.owns(executor):
            executor.work.talk.owner.uncovered += lost
            self.ended(executor.work, "failed", 0, executor.said)
        assert end.status == executor.work.status

    def owns(self, executor: Executor) -> bool:
        return executor.work.status == "running" and executor.work.executor == executor.task.executor

    # --- the schedule

    @rule(seconds=st.sampled_from([1, int(settings.LEASE_SECONDS) + 1]))
    def wait(self, seconds: int) -> None:
        self.world.clock.ahead += seconds

    @rule(seconds=st.sampled_from([0, 61, 400]))
    def sweep(self, seconds: int) -> None:
        self.wait(seconds)
        now = clock.now()
        running = [work for work in self.works if work.status == "running"]
        said = {work.id: stream_log.read_text(work.id).content for work in running}
        lost = {work.id: uncovered.compute_bound(Task.get(work.id, consistent_read=True)) for work in running}
        sweeper.sweep()
        for work in self.works:
            if work.status == "running" and work.lease < now:
                work.talk.owner.uncovered += lost[work.id]
                self.ended(work, "failed", 0, said[work.id])
            elif work.status == "pending" and work.lease < now:
                stored = Task.get(work.id, consistent_read=True)
                assert (stored.status == "failed") == (now >= work.accepted_at + leases.QUEUE_SECONDS - 0.01)
                if stored.status == "failed":
                    self.ended(work, "failed", 0, "")
                else:
                    work.lease = float(stored.lease_until)

    @precondition(some("readings"))
    @rule(reading=READINGS)
    def sweep_late(self, reading: tuple[Work, Task]) -> None:
        """A sweep that read the task some time ago."""
        work, task = reading
        if task.status not in OPEN or float(task.lease_until) >= clock.now():
            return
        text, lost = stream_log.read_text(task.id), uncovered.compute_bound(task)
        end = credits.release(task, Closer.sweep(task), "interrupted", text, uncovered_credits=lost)
        if work.status == task.status and work.lease == float(task.lease_until):
            work.talk.owner.uncovered += lost
            self.ended(work, "failed", 0, text.content)
        assert end.status == work.status

    def work_jobs(self, _: Talk) -> None:
        for pk, sk in sorted(self.world.job_keys):
            if sk < clock.timestamp():
                jobs.run(pk, sk, time.monotonic() + 60, WORKERS)
        for talk in self.talks:
            if talk.deleted and talk.active and talk.active.status == "pending":
                self.ended(talk.active, "stopped", 0, "")
        for someone in self.people:
            if someone.deleted_at and clock.now() > someone.deleted_at + deletion.BEFORE_SECONDS:
                for work in self.open_of(someone):
                    if work.status == "pending":
                        self.ended(work, "stopped", 0, "")

    # --- what the model makes of it

    def balance(self, someone: Someone) -> int:
        return someone.ledger - sum(work.hold for work in self.open_of(someone))

    def open_of(self, someone: Someone) -> list[Work]:
        return [work for work in self.works if work.status in OPEN and work.talk.owner is someone]

    def ended(self, work: Work, status: str, cost: int, text: str, reason: str = "") -> None:
        """Close a task in the model."""
        assert work.status in OPEN
        talk = work.talk
        work.status, work.credits = status, cost
        talk.owner.ledger -= cost
        if work.type == TITLE:
            if reason in ("stop", "length") and not talk.deleted and talk.title == work.title_before:
                talk.title = characters.extract_title(text) or talk.title
            return
        if not talk.deleted:
            talk.active = None
        is_whole = status != "failed" and reason != "content_filter"
        if not text or talk.deleted or (work.replaces and not is_whole):
            return
        assert work.answer_n
        talk.messages[work.answer_n] = ("assistant", is_whole, work.id)
        if work.replaces:
            del talk.messages[work.replaces]

    # --- I1 to I5, and that nothing else has moved

    @invariant()
    def the_rules_hold(self) -> None:
        type(self).steps += 1
        users = {user.id: user for user in User.batch_get([s.person.id for s in self.people], consistent_read=True)}
        stored = {task.id: task for task in Task.batch_get([w.id for w in self.works], consistent_read=True)}
        for someone in self.people:
            user = users.get(someone.person.id)
            if user is None:
                assert someone.deleted_at
                assert self.open_of(someone) == [], "I3"
                continue
            assert bool(user.deleted) == bool(someone.deleted_at)
            entries = list(CreditEntry.query(user.id, consistent_read=True))
            mine = [work for work in self.works if work.talk.owner is someone]
            assert user.credits >= 0, "I1"
            assert user.credits + credits.sum_holds(user) == sum(entry.amount for entry in entries), "I2"
            assert someone.ledger == sum(entry.amount for entry in entries), "I2"
            assert dict(user.holds.attribute_values) == {work.id: work.hold for work in self.open_of(someone)}, "I3"
            billed = sorted(entry.task_id for entry in entries if entry.task_id)
            assert billed == sorted(work.id for work in mine if work.status in ("finished", "stopped")), "I4"
            redeemed = [entry.code for entry in entries if entry.kind == "redeem"]
            assert sorted(redeemed) == sorted(someone.redeemed), "I5"
            counted = Record.query(f"uncovered#{user.id}", consistent_read=True)
            assert sum(record.uncovered or 0 for record in counted) == someone.uncovered, "I6"
        for code in Code.batch_get(list(self.codes), consistent_read=True):
            assert code.used == self.uses[code.code] <= code.max_uses, "I5"
        for work in self.works:
            assert stored[work.id].status == work.status
            assert (stored[work.id].open_shard is not None) == (work.status in OPEN)

    @invariant()
    def chats_are_as_they_should_be(self) -> None:
        found = {chat.id: chat for chat in Chat.batch_get([t.chat.id for t in self.talks], consistent_read=True)}
        for talk in self.talks:
            chat = found.get(talk.chat.id)
            if talk.deleted:
                assert chat is None or chat.deleted
                continue
            assert chat
            assert chat.active_task == (talk.active.id if talk.active else None)
            assert (chat.next_n, chat.message_count) == (talk.next_n, len(talk.messages))
            assert chat.title == talk.title

    def teardown(self) -> None:
        """Threads are read once, at the end: all of them, whole."""
        for talk in self.talks:
            if not talk.deleted:
                chat = Chat.get(talk.chat.id, consistent_read=True)
                messages = {
                    message.n: (message.role, message.finish_reason not in LEFT_OUT, message.task_id)
                    for message in Message.query(chat.thread, consistent_read=True)
                }
                assert messages == talk.messages
