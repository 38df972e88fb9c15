"""A hostile user against a provider that keeps its own bill, as a state machine.

The user asks, stops at any point, signs out, has answers filtered, empty, interrupted, made again and deleted; executors die; the
provider falls silent. After every step the rules of aideer/billing/credits.py hold. I6 is checked by the provider's bill: for
whatever has ended in a step, what was charged and what was counted as uncovered are at least what the provider can claim.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aideer.accounts import deletion, sessions
from aideer.billing import pricing
from aideer.chats import chats
from aideer.core import clock, settings
from aideer.core.errors import AideerError
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Record, Task
from aideer.prompts import prompts
from aideer.schemas.chats import NewMessages
from aideer.schemas.questions import NewTask
from aideer.security.auth import Bearer
from aideer.tasks import admission, chat_deletion, control, executor, leases, sweeper
from jobs.run import WORKERS
from tests.chaos.fake_time import Clock, hurried
from tests.chaos.model import Shown
from tests.executors import Executor, Run
from tests.metered import Call, Metered
from tests.support import Person, check_rules, make_chat, make_person
from tests.waiting import PATIENCE_SECONDS

BOUND = 120
"""Credits that a user may leave uncovered in a day, here."""
OPEN = ("pending", "running")
FREE = {"upstream_error", "upstream_timeout", "interrupted", "internal_error", "throttled", "upstream_auth"}
"""Ends that nobody pays for, though the provider may bill them."""
FAR = 10.0**7


@dataclass(eq=False)
class Talk(Shown):
    """A chat of the user's."""

    owner: Person
    chat: Chat
    marker: str
    deleted: bool = False

    def __repr__(self) -> str:
        return f"<chat {self.marker[:4]}{' deleted' if self.deleted else ''}>"


@dataclass(eq=False)
class Work(Shown):
    """A task of the user's, and the provider's calls for it."""

    id: str
    talk: Talk
    tariff: Any
    hold: int
    good: int | None
    """The answer that it is to replace."""
    calls_before: int
    executor: Executor | None = None
    call: Call | None = None
    input_tokens: int = 20
    output_tokens: int = 0
    closed: Task | None = None

    def __repr__(self) -> str:
        return f"<task of {self.talk.marker[:4]}>"


@dataclass
class Account:
    """What the model knows of a user's money."""

    person: Person
    uncovered: int = 0
    works: list[Work] = field(default_factory=list)


def of(name: str) -> st.SearchStrategy[Any]:
    """One of these, or None if there are none.

    It draws the same number in either case. How many there are depends on how fast the threads are, and hypothesis refuses draws
    that differ between two runs of the same steps.
    """
    return st.tuples(st.runner(), st.integers(0, 9_999)).map(lambda drawn: _pick(getattr(drawn[0], name), drawn[1]))


def _pick(found: list[Any], number: int) -> Any:
    return found[number % len(found)] if found else None


def acts(step: Callable[..., None]) -> Callable[..., None]:
    """Leave out a step that has nothing to act on. A precondition would make the draws depend on the state."""

    @functools.wraps(step)
    def act(machine: Any, **drawn: Any) -> None:
        if None not in drawn.values():
            step(machine, **drawn)

    return act


TOKENS = st.integers(0, 300)
USAGES = st.sampled_from(["grows", "grows", "none", "shrinks", "zero"])


class Hostile(RuleBasedStateMachine):
    """What may happen."""

    provider: Metered
    moved: Clock
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.moved.ahead = 0.0
        self.account = Account(make_person(balance=20_000))
        self.talks: list[Talk] = []
        self.gone: list[Account] = []

    @property
    def works(self) -> list[Work]:
        return self.account.works

    @property
    def talking(self) -> list[Work]:
        """Those whose call the provider can go on with."""
        return [work for work in self.works if work.call and not work.call.over and not work.closed]

    @property
    def pending(self) -> list[Work]:
        return [work for work in self.works if work.executor is None and not work.closed]

    @property
    def open(self) -> list[Work]:
        return [work for work in self.works if not work.closed]

    @property
    def ended(self) -> list[Work]:
        return [work for work in self.works if work.closed][-4:]

    @property
    def alive(self) -> list[Work]:
        return [work for work in self.works if work.executor and not work.executor.over]

    @property
    def standing(self) -> list[Talk]:
        return [talk for talk in self.talks if not talk.deleted]

    # --- the user

    @rule(thinks=st.booleans(), at_once=st.sampled_from([True, True, True, False]))
    def ask(self, thinks: bool, at_once: bool) -> None:
        if (work := self._asked(thinks)) and at_once:
            self._deliver(work)

    @rule(talk=of("standing"))
    @acts
    def ask_more(self, talk: Talk) -> None:
        new = NewMessages.model_validate({"messages": [{"role": "user", "content": f"more of {talk.marker}"}]})
        chats.append(talk.owner.user, talk.chat.id, new)
        if work := self._accepted(
            talk, None, lambda: admission.create(self._caller, NewTask(chat_id=talk.chat.id), self._once)
        ):
            self._deliver(work)

    @rule(work=of("ended"))
    @acts
    def ask_again(self, work: Work) -> None:
        assert work.closed
        last = prompts.read_last(work.talk.chat.path)
        good = int(last.n) if last is not None and last.role == "assistant" else None
        if again := self._accepted(work.talk, good, lambda: admission.regenerate(self._caller, work.id, self._once)):
            self._deliver(again)

    def _asked(self, thinks: bool) -> Work | None:
        marker = uuid4().hex
        parameters: dict[str, Any] = {"max_tokens": 400}
        if thinks:
            parameters |= {"enable_thinking": True, "thinking_budget": 100}
        person = self.account.person
        talk = Talk(person, make_chat(person, f"Tell me about {marker}", parameters=parameters), marker)
        self.talks.append(talk)
        return self._accepted(
            talk, None, lambda: admission.create(self._caller, NewTask(chat_id=talk.chat.id), self._once)
        )

    @property
    def _caller(self) -> Bearer:
        user = self.account.person.user
        return Bearer.of(user)

    @property
    def _once(self) -> IdempotentRequest:
        return IdempotentRequest(self.account.person.id, "POST /tasks", None, "")

    def _accepted(self, talk: Talk, good: int | None, call: Callable[[], Any]) -> Work | None:
        before = self._uncovered()
        calls_before = len(self.provider.asked(talk.marker))
        try:
            answer = call()
        except AideerError as refusal:
            refused = refusal
        else:
            refused = None
        if refused:
            assert refused.status < 500
            assert refused.code != "too_many_failed_answers" or before >= BOUND
            return None
        assert before < BOUND, "a user who has reached the bound is not answered"
        task = Task.get(answer.task_id, consistent_read=True)
        work = Work(task.id, talk, task.tariff, int(task.hold), good, calls_before)
        self.works.append(work)
        return work

    @rule(work=of("open"))
    @acts
    def stop(self, work: Work) -> None:
        control.request_stop(work.id)
        known = work.call and work.call.reported and work.call.reported.input_tokens
        if work.executor and known:
            self._wait_over(work)

    @rule()
    def sign_out(self) -> None:
        sessions.sign_out(self.account.person.user)

    @rule(talk=of("standing"))
    @acts
    def delete_chat(self, talk: Talk) -> None:
        chat_deletion.delete(talk.owner.user, talk.chat.id)
        talk.deleted = True
        self._work_jobs(talk)

    def _work_jobs(self, talk: Talk) -> None:
        for job in list(jobs.list_due(clock.now() + 1)):
            if job.data.get("chat_id") == talk.chat.id:
                jobs.run(job.pk, job.sk, time.monotonic() + 60, WORKERS)

    @rule(really=st.integers(0, 5))
    def delete_user(self, really: int) -> None:
        """Their open answers go on, and are billed to what is left of them."""
        if really or len(self.works) <= 4:
            return
        person = self.account.person
        deletion.delete(person.user, person.id)
        for work in self.open:
            control.request_stop(work.id)
        for work in self.alive:
            if work.call and not work.call.over:
                work.call.say(usage=Usage(20, 5), finish_reason="null")
        for work in self.alive:
            self._end_by_provider(work)
        self._look()
        self.gone.append(self.account)
        self.account = Account(make_person(balance=20_000))
        self.talks = []

    # --- executors

    @rule(work=of("pending"))
    @acts
    def deliver(self, work: Work) -> None:
        self._deliver(work)

    def _deliver(self, work: Work, seconds: float = FAR) -> None:
        """Start an executor, and wait until the provider is asked."""
        work.executor = Executor(work.id, clock.now() + seconds)
        work.executor.start()
        calls = lambda: self.provider.asked(work.talk.marker)[work.calls_before :]  # noqa: E731
        assert self.provider.wait(lambda: bool(calls()) or bool(work.executor and work.executor.over))
        if calls():
            work.call = calls()[0]

    @rule(work=of("alive"))
    @acts
    def kill(self, work: Work) -> None:
        assert work.executor
        work.executor.kill()
        call = work.call
        assert call is None or self.provider.wait(lambda: call.over)

    @rule(seconds=st.sampled_from([0, 61, 400, 1000]))
    def sweep(self, seconds: int) -> None:
        """The schedule's. A living executor whose lease runs out unseen has lost its task."""
        self.moved.ahead += seconds
        sweeper.sweep()
        for work in self.alive:
            if Task.get(work.id, consistent_read=True).closed_by:
                self._wait_over(work)

    # --- the provider

    @rule(work=of("talking"), tokens=TOKENS, how=USAGES, kind=st.sampled_from(["content", "reasoning", "neither"]))
    @acts
    def say(self, work: Work, tokens: int, how: str, kind: str) -> None:
        assert work.call
        usage = self._usage(work, tokens, how)
        if kind == "reasoning" and not work.call.parameters.get("enable_thinking"):
            kind = "content"
        text = {kind: "text "} if kind != "neither" else {}
        work.call.say(text.get("content", ""), reasoning=text.get("reasoning", ""), usage=usage)
        self._noted(work, usage)

    @rule(
        work=of("talking"),
        tokens=TOKENS,
        reason=st.sampled_from(["stop", "stop", "length", "content_filter"]),
        how=st.sampled_from(["grows", "none", "shrinks", "zero", "late"]),
    )
    @acts
    def finish(self, work: Work, tokens: int, reason: str, how: str) -> None:
        assert work.call
        if how == "late":
            work.call.finish(reason, late_usage=self._usage(work, tokens, "grows"))
        else:
            work.call.finish(reason, usage=self._usage(work, tokens, how))
        self._wait_over(work)

    @rule(
        work=of("talking"),
        how=st.sampled_from(
            ["DataInspectionFailed", "InternalError", "Throttling.AllocationQuota", "RequestTimeOut", "reset", "end"]
        ),
    )
    @acts
    def break_off(self, work: Work, how: str) -> None:
        call = work.call
        assert call
        steps = {"reset": call.reset, "end": call.end}
        self._ending(work, steps.get(how, lambda: call.error(how, 500)))

    @rule(
        work=of("talking"),
        how=st.sampled_from(
            [(429, "Throttling"), (429, "Throttling.RateQuota"), (400, "DataInspectionFailed"), (500, "InternalError")]
        ),
    )
    @acts
    def refuse(self, work: Work, how: tuple[int, str]) -> None:
        call = work.call
        assert call
        if not call.accepted:
            self._ending(work, lambda: call.refuse(*how))

    @rule(work=of("talking"))
    @acts
    def accept(self, work: Work) -> None:
        assert work.call
        work.call.accept()

    @rule(spoke=st.sampled_from(["no", "accepted", "usage", "text"]), stops=st.booleans(), thinks=st.booleans())
    def fall_silent(self, spoke: str, stops: bool, thinks: bool) -> None:
        """Nothing comes any more, and everybody's patience ends."""
        with mock.patch.object(executor, "IDLE_SECONDS", 0.2), mock.patch.object(executor, "FIRST_SECONDS", 0.2):
            work = self._asked(thinks)
            if work is None:
                return
            self._deliver(work)
            self._speak(work, spoke)
            if stops:
                control.request_stop(work.id)
            self._wait_over(work)

    @rule(spoke=st.sampled_from(["no", "accepted", "usage", "text"]))
    def run_out_of_time(self, spoke: str) -> None:
        work = self._asked(thinks=False)
        if work is None:
            return
        with mock.patch.object(executor, "SETTLE_SECONDS", FAR):
            self._deliver(work, FAR + 0.3)
            self._speak(work, spoke)
            self._wait_over(work)

    def _speak(self, work: Work, how: str) -> None:
        if work.call is None or how == "no":
            return
        if how == "accepted":
            work.call.accept()
            return
        usage = self._usage(work, 7, "grows")
        work.call.say("text" if how == "text" else "", usage=usage)
        self._noted(work, usage)
        if not self._knows(work, usage):  # the patience had ended a moment before it was said
            work.call.reported = None

    # --- waiting

    def _usage(self, work: Work, tokens: int, how: str) -> Usage | None:
        work.output_tokens = min(work.output_tokens + tokens, 400)
        return {
            "grows": Usage(work.input_tokens, work.output_tokens),
            "none": None,
            "shrinks": Usage(work.input_tokens // 2, work.output_tokens // 2),
            "zero": Usage(0, 0),
        }[how]

    def _noted(self, work: Work, usage: Usage | None) -> None:
        """Wait until the executor has read this, so that what is said and what the user does next are in this order."""
        executor = work.executor
        assert executor
        assert self.provider.wait(lambda: executor.over or self._knows(work, usage)), "a usage that was not read"

    def _knows(self, work: Work, usage: Usage | None) -> bool:
        run = work.executor.run_of_it if work.executor else None
        return usage is None or not any(usage) or bool(run and run.knows(usage))

    def _wait_over(self, work: Work) -> None:
        assert work.executor
        work.executor.join(PATIENCE_SECONDS)
        assert work.executor.over, "an executor that does not end"

    def _ending(self, work: Work, step: Callable[[], None]) -> None:
        """End a call, and wait until the executor has ended, or has asked again after it was refused for lack of room."""
        executor, number = work.executor, len(self._calls(work))
        assert executor
        step()
        assert self.provider.wait(lambda: executor.over or len(self._calls(work)) > number)
        work.call = self._calls(work)[-1]

    def _calls(self, work: Work) -> list[Call]:
        later = [w.calls_before for w in self.works[self.works.index(work) + 1 :] if w.talk is work.talk]
        return self.provider.asked(work.talk.marker)[work.calls_before : min(later, default=None)]

    def _end_by_provider(self, work: Work) -> None:
        assert work.executor
        if work.call and not work.call.over:
            work.call.finish(usage=Usage(20, 6))
        self._wait_over(work)

    # --- the rules

    def _uncovered(self) -> int:
        day = clock.timestamp()[:10]
        records = Record.query(f"uncovered#{self.account.person.id}", consistent_read=True)
        return sum(record.uncovered or 0 for record in records if record.sk == day)

    def _all_uncovered(self) -> int:
        records = Record.query(f"uncovered#{self.account.person.id}", consistent_read=True)
        return sum(record.uncovered or 0 for record in records)

    def bill(self, work: Work) -> int:
        """What the provider can claim for a task: the cost of what it reported."""
        reported = [call for call in self._calls(work) if call.accepted and call.reported]
        return sum(
            pricing.compute_cost(work.tariff, call.reported, thought=call.thought) for call in reported if call.reported
        )

    @invariant()
    def the_rules_hold(self) -> None:
        type(self).steps += 1
        self._look()

    def _look(self) -> None:
        closed = []
        for work in self.open:
            task = Task.get(work.id, consistent_read=True)
            if task.status not in OPEN:
                work.closed = task
                closed.append(work)
        for work in self.works:
            assert sum(call.accepted for call in self._calls(work)) <= 1, "a call that was accepted is not repeated"
        uncovered = self._all_uncovered()
        added, self.account.uncovered = uncovered - self.account.uncovered, uncovered
        assert added >= 0
        charged = sum(int(work.closed.credits or 0) for work in closed if work.closed)
        billed = sum(map(self.bill, closed))
        assert charged + added >= billed, f"I6: {charged} charged and {added} counted of {billed}"
        for work in closed:
            self._look_at(work)
        assert added <= sum(self._most(work) for work in closed if self._may_be_uncovered(work))
        check_rules(self.account.person)

    def _may_be_uncovered(self, work: Work) -> bool:
        assert work.closed
        uncounted = work.closed.status == "finished" and not any((work.closed.usage or {}).values())
        return uncounted or work.closed.error_code in FREE or self.bill(work) > work.hold

    def _most(self, work: Work) -> int:
        """The most that one task may leave uncovered: its hold or its bill, and the tokens by which a provider exceeds a limit."""
        return max(work.hold, self.bill(work)) + int(pricing.compute_cost(work.tariff, Usage(0, 10), thought=True))

    def _look_at(self, work: Work) -> None:
        task, bill = work.closed, self.bill(work)
        assert task
        assert 0 <= int(task.credits) <= work.hold
        if task.status == "failed":
            assert task.credits == 0
        else:
            assert int(task.credits) >= min(bill, work.hold), "who caused an end pays for it"
        if work.good is not None and not work.talk.deleted:
            self._look_at_replacement(work, task)

    def _look_at_replacement(self, work: Work, task: Task) -> None:
        """An answer goes only where another one with content takes its place."""
        thread = work.talk.chat.thread
        messages = {int(message.n): message for message in Message.query(thread, consistent_read=True)}
        replaced = work.good not in messages
        if replaced:
            assert messages[int(task.answer_n)].content, "a good answer is replaced by one with content"
            assert task.finish_reason != "content_filter"

    def teardown(self) -> None:
        for work in self.alive:
            assert work.executor
            work.executor.kill()


@contextlib.contextmanager
def playground() -> Iterator[type[Hostile]]:
    """The state machine, with a provider, and time that does not last."""
    with (
        Metered() as provider,
        hurried() as moved,
        mock.patch.object(settings, "DASHSCOPE_HTTP_BASE_URL", provider.base_url),
        mock.patch.object(settings, "UNCOVERED_CREDITS", BOUND),
        mock.patch.object(executor, "Run", Run),
        mock.patch.object(executor, "STOP_SECONDS", 0.05),
        mock.patch.object(leases, "RENEW_SECONDS", 0.4),
    ):
        Hostile.provider, Hostile.moved = provider, moved
        yield Hostile
