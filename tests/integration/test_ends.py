"""Every end of tests/ends.py, made to happen: what the provider bills, what the user pays, and who pays the difference."""

from collections.abc import Callable, Iterator
from unittest import mock
from uuid import uuid4

import pytest

from aideer.accounts import deletion, sessions
from aideer.billing import pricing
from aideer.core import clock, settings
from aideer.core.usage import Usage
from aideer.data import jobs
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message, Record, Task
from aideer.schemas.questions import NewTask
from aideer.tasks import admission, chat_deletion, control, executor, leases, sweeper
from jobs.run import WORKERS
from tests import ends
from tests.chaos.fake_time import Clock, hurried
from tests.ends import ENDS, Sum, Told
from tests.executors import Executor, Run
from tests.metered import Call, Metered
from tests.support import Person, caller, check_rules, in_loop, make_chat, make_person
from tests.waiting import PATIENCE_SECONDS

INPUT = 500
"""Tokens of the question, as the provider counts them."""
QUESTION = "Tell me about deer. " * 100
PART = 100
"""Tokens of each piece of the answer."""
FAR = 10.0**7
ACTS: dict[str, Callable[["Stage"], None]] = {}


class Stage:
    """One task of one user, with the provider that is asked."""

    def __init__(self, provider: Metered, moved: Clock, told: Told) -> None:
        self.provider, self.moved, self.told = provider, moved, told
        self.me: Person = make_person(balance=50_000)
        self.marker = uuid4().hex
        self.executor: Executor | None = None
        self.parts = 0
        """Pieces of the answer that the provider has made."""
        self.chat: Chat | None = None
        self.task_id = ""

    def accept(self, **parameters: object) -> None:
        self.chat = make_chat(self.me, f"{QUESTION}{self.marker}", parameters={"max_tokens": 2000, **parameters})
        wanted = NewTask(chat_id=self.chat.id)
        request = IdempotentRequest(self.me.id, "POST /tasks", None, wanted)
        self.task_id = admission.create(caller(self.me.user), wanted, request).task_id

    def begin(self, seconds: float = FAR, **parameters: object) -> Call:
        """Accept the task and execute it; the provider's call."""
        self.accept(**parameters)
        self.executor = Executor(self.task_id, clock.now() + seconds)
        self.executor.start()
        return self.provider.called(self.marker)

    def usage(self) -> Usage | None:
        """What the provider tells with the next piece."""
        self.parts += 1
        if self.told in (Told.LATE, Told.MISSING):
            return None
        return Usage(INPUT, PART * self.parts)

    def say(self, call: Call, content: str = "Deer. ", reasoning: str = "") -> None:
        """Say a piece, and wait until it was read."""
        usage = self.usage()
        call.say(content, reasoning=reasoning, usage=usage)
        run = self.executor and self.executor.run_of_it
        assert run
        assert self.provider.wait(lambda: run.knows(usage) if usage else run.over or len(run.shown) >= self.parts)

    def finish(self, call: Call, reason: str = "stop") -> None:
        """End the answer."""
        usage = self.usage()
        shrunk = Usage(INPUT // 2, 1) if self.told is Told.SHRINKING else usage
        late = Usage(INPUT, PART * self.parts) if self.told is Told.LATE else None
        if self.told is Told.SHRINKING:
            call.say(usage=usage)
        call.finish(reason, usage=shrunk, late_usage=late)
        self.over()

    def shrink(self, call: Call) -> None:
        """Tell fewer tokens than before, where this is what the provider does."""
        if self.told is Told.SHRINKING:
            call.say("More. ", usage=Usage(INPUT // 2, 1))
            run = self.executor and self.executor.run_of_it
            assert run
            assert self.provider.wait(lambda: "More. " in run.received.text.content)

    def over(self) -> None:
        """Wait until the executor has ended."""
        assert self.executor
        self.executor.join(PATIENCE_SECONDS)
        assert self.executor.over

    def stop(self) -> None:
        """The user's."""
        control.request_stop(self.task_id)

    def pass_lease(self) -> None:
        """Let the lease run out, and sweep."""
        self.moved.ahead += settings.LEASE_SECONDS + 61
        sweeper.attend(self.task_id)

    # --- what came of it

    @property
    def task(self) -> Task:
        return Task.get(self.task_id, consistent_read=True)

    @property
    def bill(self) -> int:
        """What the provider wants for its tokens, whether or not it has told them."""
        [*accepted] = [call for call in self.provider.asked(self.marker) if call.accepted]
        assert len(accepted) <= 1
        if not accepted:
            return 0
        return pricing.compute_cost(self.task.tariff, Usage(INPUT, PART * self.parts), thought=accepted[0].thought)

    @property
    def uncovered(self) -> int:
        records = Record.query(f"uncovered#{self.me.id}", consistent_read=True)
        return sum(record.uncovered or 0 for record in records)


def act(way: str) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Say which way of ending this brings about."""

    def note(function: Callable[[Stage], None]) -> Callable[[Stage], None]:
        ACTS[way] = function
        return function

    return note


@act("finished")
def finished(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.finish(call)


@act("as long as max_tokens")
def long(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.finish(call, "length")


@act("empty")
def empty(stage: Stage) -> None:
    stage.finish(stage.begin())


@act("content filter before any text")
def filtered_at_once(stage: Stage) -> None:
    call = stage.begin()
    call.say(usage=stage.usage())
    call.error("DataInspectionFailed")
    stage.over()


@act("content filter after some text")
def filtered(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.shrink(call)
    call.error("DataInspectionFailed")
    stage.over()


@act("stopped before the first usage")
def stopped_early(stage: Stage) -> None:
    call = stage.begin()
    call.accept()
    with mock.patch.object(executor, "FIRST_SECONDS", PATIENCE_SECONDS if stage.told is Told.LATE else 0.2):
        stage.stop()
        if stage.told is Told.LATE:
            stage.parts = 1
            call.say("Deer. ", usage=Usage(INPUT, PART))
        stage.over()


@act("stopped while it thinks, before the first usage")
def stopped_thinking(stage: Stage) -> None:
    call = stage.begin(enable_thinking=True, thinking_budget=1000)
    call.accept()
    stage.stop()
    run = stage.executor and stage.executor.run_of_it
    assert run
    assert stage.provider.wait(lambda: run.received.muted)
    stage.parts = 1
    call.say(reasoning="Deer? ", usage=Usage(INPUT, PART))
    stage.over()


@act("stopped after the first usage")
def stopped(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.shrink(call)
    stage.stop()
    stage.over()


@act("the executor's time is over")
def out_of_time(stage: Stage) -> None:
    with mock.patch.object(executor, "SETTLE_SECONDS", FAR):
        call = stage.begin(FAR + 3)
        stage.say(call)
        stage.shrink(call)
        stage.over()


@act("signed out while it is made")
def signed_out(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    sessions.sign_out(stage.me.user)
    stage.finish(call)


@act("chat deleted while it is made")
def chat_deleted(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    assert stage.chat
    chat_deletion.delete(stage.me.user, stage.chat.id)
    with mock.patch.object(executor, "FIRST_SECONDS", 0.2):
        for job in list(jobs.list_due(clock.now() + 1)):
            if job.data.get("chat_id") == stage.chat.id:
                jobs.run(job.pk, job.sk, FAR, WORKERS)
        stage.over()


@act("user deleted while it is made")
def user_deleted(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    deletion.delete(stage.me.user, stage.me.id)
    stage.finish(call)


@act("silent before any text")
def silent(stage: Stage) -> None:
    with mock.patch.object(executor, "IDLE_SECONDS", 0.3), mock.patch.object(executor, "FIRST_SECONDS", 0.3):
        stage.begin().accept()
        stage.over()


@act("silent after some text")
def silent_after_text(stage: Stage) -> None:
    with mock.patch.object(executor, "IDLE_SECONDS", 1.0), mock.patch.object(executor, "FIRST_SECONDS", 1.0):
        call = stage.begin()
        stage.say(call)
        stage.shrink(call)
        stage.over()


@act("reset after some text")
def reset(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.shrink(call)
    call.reset()
    stage.over()


@act("an error after some text")
def broken(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    stage.shrink(call)
    call.error("InternalError", 500)
    stage.over()


@act("throttled after it was accepted")
def throttled_late(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    call.error("Throttling.AllocationQuota", 429)
    stage.over()


@act("executor killed")
def killed(stage: Stage) -> None:
    call = stage.begin()
    stage.say(call)
    if stage.told is Told.PRESENT:
        assert stage.provider.wait(lambda: stage.task.usage_so_far is not None)
    assert stage.executor
    stage.executor.kill()
    stage.pass_lease()


@act("question refused by the content filter")
def question_refused(stage: Stage) -> None:
    stage.begin().refuse(400, "DataInspectionFailed")
    stage.over()


@act("throttled until patience ends")
def throttled(stage: Stage) -> None:
    with mock.patch.object(executor, "RETRY_SECONDS", 0.0):
        stage.begin().refuse(429, "Throttling.RateQuota")
        stage.over()


@act("refused with an error")
def refused(stage: Stage) -> None:
    stage.begin().refuse(500, "InternalError")
    stage.over()


@act("stopped between two throttled tries")
def stopped_between(stage: Stage) -> None:
    with mock.patch.object(executor.random, "uniform", return_value=PATIENCE_SECONDS):
        call = stage.begin()
        call.refuse(429, "Throttling.RateQuota")
        stage.stop()
        stage.over()


@act("stopped before anybody began")
def stopped_pending(stage: Stage) -> None:
    stage.accept()
    stage.stop()


@act("a message became longer before anybody began")
def longer(stage: Stage) -> None:
    stage.accept()
    assert stage.chat
    Message(stage.chat.thread, 1).update([Message.content.set(f"{QUESTION}{'0123456789' * 900}")])
    in_loop(executor.execute(stage.task_id, clock.now() + FAR))


@act("never begun")
def never_begun(stage: Stage) -> None:
    stage.accept()
    stage.moved.ahead += leases.QUEUE_SECONDS + 61
    sweeper.attend(stage.task_id)


@pytest.fixture(scope="module")
def playing() -> Iterator[tuple[Metered, Clock]]:
    with (
        Metered() as provider,
        hurried() as moved,
        mock.patch.object(settings, "DASHSCOPE_HTTP_BASE_URL", provider.base_url),
        mock.patch.object(executor, "Run", Run),
    ):
        yield provider, moved


@pytest.mark.parametrize("end", ENDS, ids=lambda end: f"{end.way}, usage {end.told}")
def test_each_end_is_paid_as_the_table_says(playing: tuple[Metered, Clock], end: ends.End) -> None:
    provider, moved = playing
    moved.ahead = 0.0
    stage = Stage(provider, moved, end.told)
    ACTS[end.way](stage)
    task, bill = stage.task, stage.bill
    assert f"{task.status}, `{task.error_code or task.finish_reason}`" == end.stored
    assert (bill > 0) == end.billed
    check(end.user, int(task.credits or 0), bill, task)
    check(end.counted, stage.uncovered, bill, task)
    check_rules(stage.me)


def check(wanted: Sum, amount: int, bill: int, task: Task) -> None:
    """Assert that an amount is what the table says."""
    least = pricing.compute_cost(task.tariff, Usage(INPUT, 0))
    match wanted:
        case Sum.NOTHING:
            assert amount == 0
        case Sum.BILL:
            assert amount == bill
        case Sum.INPUT | Sum.COUNTED:
            assert least <= amount <= task.hold
        case Sum.TEXT:
            assert 0 <= amount <= task.hold
        case Sum.WORST:
            assert bill <= amount <= task.hold + pricing.compute_cost(task.tariff, Usage(0, 10))


def test_every_way_is_in_the_table_and_the_page_shows_it() -> None:
    assert {end.way for end in ENDS} == ACTS.keys()
    page = ends.PAGE.read_text(encoding="utf-8")
    assert ends.written(page) == page, "run `python -m tests.ends`"
