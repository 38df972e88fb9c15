"""Reconciliation: what holds is called so, what does not is named, and nobody is accused while their credits move."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ReadTimeoutError
from pynamodb.exceptions import PynamoDBException

from aideer.billing import audit, credits, reconciliation, topups
from aideer.billing.audit import Audit
from aideer.billing.credits import Closer, Text
from aideer.billing.reconciliation import Run
from aideer.core import clock
from aideer.core.usage import Usage
from aideer.data.base import connection, new_id
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Code, CreditEntry, Record, Task, User
from aideer.schemas.questions import NewTask
from aideer.security import auth
from aideer.tasks import control, leases
from aideer.tasks.admission import create
from reconciliation.run import handler
from tests.embedded_aws import empty_tables
from tests.faults import THROTTLED, answer_lost, refused
from tests.pauses import clock_with
from tests.support import Api, Context, Person, make_chat, recorded_calls

MakePerson = Callable[..., Person]
URL = "/admin/reconciliation"


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with empty tables: a run is over everything that there is. And do not wait between two looks."""
    empty_tables()
    monkeypatch.setattr(audit, "time", clock_with())


def run() -> Run:
    """A whole run in one invocation."""
    handler({"begin": True}, Context(seconds=900))
    ended, _ = reconciliation.read_runs()
    assert ended
    return ended


def found(ended: Run) -> list[dict[str, str]]:
    assert sum(ended.drifts.values()) == len(ended.examples)
    return ended.examples


def accepted(person: Person) -> Task:
    wanted = NewTask(chat_id=make_chat(person, "hello").id)
    answer = create(person.user, wanted, IdempotentRequest(person.id, "POST /tasks", None, wanted))
    return Task.get(answer.task_id, consistent_read=True)


def settled(person: Person) -> Task:
    task = leases.claim(accepted(person).id)
    assert task
    return credits.settle(
        task, Closer.executor(task.executor), "finished", Text(content="Hi"), "stop", Usage(1000, 1000)
    )


def failed(person: Person) -> Task:
    task = leases.claim(accepted(person).id)
    assert task
    return credits.release(task, Closer.executor(task.executor), "upstream_error", Text())


def code(max_uses: int = 5) -> str:
    text = f"TEST-{uuid4().hex[:12].upper()}"
    Code(text, value=100, max_uses=max_uses, create_time=clock.timestamp()).save()
    return text


def redeem(person: Person, text: str) -> None:
    topups.redeem(person.user, text, IdempotentRequest(person.id, "redeem", None, NewTask(chat_id="unused")))


def entry_of(person: Person, **wanted: Any) -> CreditEntry:
    entries = CreditEntry.query(person.id, consistent_read=True)
    (entry,) = [e for e in entries if all(getattr(e, name) == value for name, value in wanted.items())]
    return entry


def move(person: Person, amount: int) -> None:
    """Change what a user has, by hand, with nothing to show for it."""
    User(person.id).update([User.credits.add(amount)])


def old_lines(person: Person, count: int, since: float = 40 * 86400) -> None:
    """Lines of a ledger as old as that, and their credits."""
    began = clock.now() - since
    with CreditEntry.batch_write() as batch:
        for n in range(count):
            ms = f"{int((began + n) * 1000):012x}"
            entry_id = f"{ms[:8]}-{ms[8:]}-7000-8000-{n:012x}"
            batch.save(
                CreditEntry(
                    person.id, entry_id, amount=3, kind="grant", description="", create_time=clock.timestamp(began + n)
                )
            )
    User(person.id).update([User.credits.add(3 * count), User.money_version.add(1)])


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock on."""
    ahead, now = [0.0], clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + ahead[0])

    def move_on(seconds: float) -> None:
        ahead[0] += seconds

    return move_on


# --- what holds


def test_with_nobody_there_is_nothing_to_find() -> None:
    ended = run()
    assert (ended.users, ended.tasks, ended.codes, found(ended)) == (0, 0, 0, [])


def test_what_the_product_does_is_no_drift(person: MakePerson) -> None:
    one, other, visitor = person(), person(), person(permission=0, credits=0)
    text = code()
    for someone in (one, other, visitor):
        redeem(someone, text)
    settled(one)
    failed(one)
    accepted(one)
    leases.claim(accepted(other).id)
    control.request_stop(accepted(other).id)
    ended = run()
    assert (ended.users, ended.tasks, ended.codes) == (3, 5, 1)
    assert ended.entries == 2 + 3 + 1 + 1
    assert (found(ended), ended.moving) == ([], 0)


def test_a_user_on_the_way_out_is_not_accused_of_a_ledger_that_has_gone(person: MakePerson) -> None:
    me = person()
    settled(me)
    User(me.id).update([User.deleted.set(True)])
    for entry in CreditEntry.query(me.id):
        entry.delete()
    assert found(run()) == []
    me.user.delete()
    assert found(run()) == []


# --- each rule, broken by hand


def test_i1_credits_below_zero(person: MakePerson) -> None:
    person()
    me = person(credits=100)
    entry = entry_of(me, kind="signup")
    entry.update([CreditEntry.amount.set(-1)])
    move(me, -101)
    assert found(run()) == [{"rule": "I1", "user_id": me.id}]


@pytest.mark.parametrize("amount", [1, -1])
def test_i2_credits_that_no_line_accounts_for(person: MakePerson, amount: int) -> None:
    person()
    me = person()
    move(me, amount)
    assert found(run()) == [{"rule": "I2", "user_id": me.id}]


def test_i2_a_hold_that_came_from_nowhere(person: MakePerson) -> None:
    me = person()
    task = accepted(me)
    User(me.id).update([User.holds[task.id].set(task.hold + 1)])
    assert found(run()) == [
        {"rule": "I2", "user_id": me.id},
        {"rule": "I3", "user_id": me.id, "task_id": task.id},
    ]


def without_a_task(me: Person, task: Task) -> None:
    task.delete()


def of_another(me: Person, task: Task) -> None:
    Task(task.id).update([Task.user_id.set("somebody")])


def closed(me: Person, task: Task) -> None:
    Task(task.id).update([Task.status.set("failed")])


def out_of_the_index(me: Person, task: Task) -> None:
    Task(task.id).update([Task.open_shard.remove()])


def without_a_hold(me: Person, task: Task) -> None:
    User(me.id).update([User.holds[task.id].remove(), User.credits.add(task.hold)])


@pytest.mark.parametrize("broken", [without_a_task, closed, out_of_the_index, without_a_hold])
def test_i3_a_hold_and_an_open_task_belong_together(person: MakePerson, broken: Callable[[Person, Task], None]) -> None:
    me = person()
    accepted(me)
    task = accepted(me)
    broken(me, task)
    assert found(run()) == [{"rule": "I3", "user_id": me.id, "task_id": task.id}]


def test_i3_an_open_task_of_another_is_missed_on_both_sides(person: MakePerson) -> None:
    me = person()
    task = accepted(me)
    of_another(me, task)
    assert found(run()) == [
        {"rule": "I3", "user_id": me.id, "task_id": task.id},
        {"rule": "I3", "user_id": "somebody", "task_id": task.id},
    ]


def test_what_an_update_made_again_of_a_deleted_item_breaks_no_run(person: MakePerson) -> None:
    task_id, user_id = new_id(), new_id()
    Task(task_id).update([Task.status.set("running")])
    Task(new_id()).update([Task.resends.set(1)])
    User(user_id).update([User.credits.add(5)])
    assert found(run()) == [
        {"rule": "I2", "user_id": user_id},
        {"rule": "I3", "user_id": "", "task_id": task_id},
    ]


def test_i4_a_finished_task_without_its_line(person: MakePerson) -> None:
    me = person()
    task = settled(me)
    entry = entry_of(me, task_id=task.id)
    entry.delete()
    move(me, -entry.amount)
    assert found(run()) == [{"rule": "I4", "user_id": me.id, "task_id": task.id}]


def test_i4_a_finished_task_with_a_line_of_another_amount(person: MakePerson) -> None:
    me = person()
    task = settled(me)
    entry_of(me, task_id=task.id).update([CreditEntry.amount.add(1)])
    move(me, 1)
    assert found(run()) == [{"rule": "I4", "user_id": me.id, "task_id": task.id}]


@pytest.mark.parametrize("end", [settled, failed, accepted])
def test_i4_a_line_too_many(person: MakePerson, end: Callable[[Person], Task]) -> None:
    me = person()
    task = end(me)
    entry_id = new_id()
    CreditEntry(
        me.id, entry_id, amount=-5, kind="chat_generation", description="", task_id=task.id, create_time="2026"
    ).save()
    move(me, -5)
    assert found(run()) == [{"rule": "I4", "user_id": me.id, "entry_id": entry_id, "task_id": task.id}]


def test_i5_a_code_used_more_often_than_it_may_be(person: MakePerson) -> None:
    text = code(max_uses=1)
    redeem(person(), text)
    code()
    Code(text).update([Code.max_uses.set(0)])
    assert found(run()) == [{"rule": "I5", "code": text}]


@pytest.mark.parametrize("uses", [1, -1])
def test_i5_a_code_that_has_another_count_than_redemptions(person: MakePerson, uses: int) -> None:
    text = code()
    redeem(person(), text)
    redeem(person(), text)
    Code(text).update([Code.used.add(uses)])
    assert found(run()) == [{"rule": "I5", "code": text}]


def test_i5_a_code_redeemed_twice_by_one_user(person: MakePerson) -> None:
    me = person()
    text = code()
    redeem(me, text)
    redemption = Record.get(credits.redemptions_key(text), me.id)
    redemption.delete()
    redeem(me, text)
    first, second = sorted(e.entry_id for e in CreditEntry.query(me.id, consistent_read=True) if e.code == text)
    assert found(run()) == [
        {"rule": "I5", "user_id": me.id, "entry_id": first, "code": text},
        {"rule": "I5", "code": text},
    ]
    assert second == Record.get(credits.redemptions_key(text), me.id).data["entry_id"]


def test_many_drifts_are_counted_and_the_first_hundred_named(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 25)
    users_of(130)
    for user in User.scan():
        user.update([User.credits.add(1)])
    ended = run()
    assert ended.drifts == {"I1": 0, "I2": 130, "I3": 0, "I4": 0, "I5": 0}
    assert len({example["user_id"] for example in ended.examples}) == len(ended.examples) == audit.EXAMPLES


def test_a_drift_is_reported_by_every_run_until_it_is_mended(
    person: MakePerson, later: Callable[[float], None]
) -> None:
    """Whatever runs remember: checkpoints of ledgers, counts of codes, and which tasks they have seen."""
    me = person()
    old_lines(me, 60)
    unbilled, doubly = settled(me), settled(me)
    text = code()
    redeem(me, text)
    assert found(run()) == []
    later(2 * 3600)
    move(me, 7)  # I2
    twin = CreditEntry(
        me.id, new_id(), amount=0, kind="chat_generation", description="", task_id=doubly.id, create_time="2026"
    )
    twin.save()  # I4
    gone = entry_of(me, task_id=unbilled.id)
    gone.delete()  # I4, and I2 still
    Code(text).update([Code.used.add(1)])  # I5
    fresh = settled(me)
    fresh_line = entry_of(me, task_id=fresh.id)
    fresh_line.delete()  # I4
    drifts = []
    for _ in range(3):
        drifts.append(run().drifts)
        later(86400)
    assert drifts[0] == drifts[1] == drifts[2]
    assert drifts[0] == {"I1": 0, "I2": 1, "I3": 0, "I4": 3, "I5": 1}
    for entry in (gone, fresh_line):
        entry.save()
    move(me, -7)
    twin.delete()
    Code(text).update([Code.used.add(-1)])
    assert found(run()) == []


def test_a_checkpoint_stays_before_a_line_with_a_drift(person: MakePerson) -> None:
    me = person()
    task = failed(me)
    old_lines(me, 100)
    wrong = list(CreditEntry.query(me.id))[40]
    wrong.update([CreditEntry.task_id.set(task.id)])
    assert [run().entries for _ in range(2)] == [101 + 61, 61 + 61], "looked at twice"
    assert found(run()) == [{"rule": "I4", "user_id": me.id, "entry_id": wrong.entry_id, "task_id": task.id}]


# --- many users, much time


def users_of(count: int) -> list[str]:
    """Users with a ledger of a line, without the trouble of signing up."""
    now = clock.timestamp()
    ids = [new_id() for _ in range(count)]
    with User.batch_write() as users, CreditEntry.batch_write() as entries:
        for user_id in ids:
            users.save(User(user_id, nickname="n", permission=1, credits=5, create_time=now, update_time=now))
            entries.save(CreditEntry(user_id, new_id(), amount=5, kind="signup", description="", create_time=now))
    return ids


class Seen:
    """What a run asks DynamoDB for, and how much of it at once."""

    def __init__(self) -> None:
        self.ledgers: list[str] = []
        self.limits: set[int] = set()
        self.most = 0

    def request(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        body = json.loads(params["body"])
        if model.name == "Query" and body["TableName"] == CreditEntry.Meta.table_name:
            self.ledgers += [v["S"] for v in body["ExpressionAttributeValues"].values()][:1]
            self.limits.add(body["Limit"])
        elif model.name == "Scan":
            self.limits.add(body["Limit"])

    def answer(self, parsed: dict[str, Any], **_: Any) -> None:
        many = parsed.get("Items") or [i for items in parsed.get("Responses", {}).values() for i in items]
        self.most = max(self.most, len(many))


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen, events = Seen(), connection().client.meta.events
    events.register("before-call.dynamodb.*", seen.request)
    events.register("after-call.dynamodb.*", seen.answer)
    yield seen
    events.unregister("before-call.dynamodb.*", seen.request)
    events.unregister("after-call.dynamodb.*", seen.answer)


def test_a_run_takes_as_many_invocations_as_it_needs_and_sees_everyone_once(
    monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr(audit, "PAGE", 10)
    ids = users_of(95)
    User(ids[70]).update([User.credits.add(1)])
    codes = [code() for _ in range(15)]
    invocations, ended = 0, reconciliation.continue_run(reconciliation.RESERVE_SECONDS, begin=True)
    while not ended:
        invocations += 1
        _, under_way = reconciliation.read_runs()
        assert under_way
        assert under_way.users == min(10 * invocations, 95)
        ended = reconciliation.continue_run(reconciliation.RESERVE_SECONDS, begin=False)
    assert invocations >= 10 + 1
    assert (ended.users, ended.entries, ended.codes) == (95, 96, len(codes))
    assert sorted(seen.ledgers) == sorted([*ids, ids[70]]), "the one with a drift was looked at again"
    assert found(ended) == [{"rule": "I2", "user_id": ids[70]}]


def test_a_page_is_all_that_is_ever_read_at_once(person: MakePerson, seen: Seen) -> None:
    me = person()
    old_lines(me, 1300)
    users_of(250)
    ended = run()
    assert (ended.users, ended.entries) == (251, 1 + 1300 + 250)
    assert seen.limits <= {audit.PAGE, audit.LINES, audit.TASKS}
    assert seen.most <= audit.LINES


def test_a_user_costs_one_query() -> None:
    users_of(300)
    with recorded_calls() as calls:
        run()
    assert sum(call.startswith("Query") and CreditEntry.Meta.table_name in call for call in calls) == 300
    assert len(calls) <= 300 + 25, "all the rest, by pages"


def test_a_long_ledger_costs_the_second_run_no_more_than_a_short_one(person: MakePerson) -> None:
    short, long = person(), person()
    old_lines(short, 10)
    old_lines(long, 2_000)
    assert run().entries == 2_012

    def calls_for(user: Person) -> tuple[int, int]:
        with recorded_calls() as calls, Audit("run", "", time.monotonic() + 60) as auditor:
            page = audit.Page(None, 0)
            assert auditor._look_at_users(page, [user.user]) == [audit.Findings()]
        return len(calls), page.entries

    assert calls_for(long) == (4, 1), "the line of the sign-up, which is new"
    assert calls_for(short) == (4, 11), "not worth a checkpoint"


def test_a_ledger_that_outlasts_an_invocation_goes_on_where_it_was(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LINES", 100)
    me = person()
    old_lines(me, 450)
    with recorded_calls() as calls:
        for _ in range(4):
            assert reconciliation.continue_run(0, begin=True) is None
        ended = run()
    assert (ended.users, found(ended)) == (1, [])
    queries = [call for call in calls if call.startswith("Query") and CreditEntry.Meta.table_name in call]
    assert len(queries) == 5


def test_a_checkpoint_is_not_believed_for_ever(person: MakePerson, later: Callable[[float], None]) -> None:
    me = person()
    old_lines(me, 50)
    assert run().entries == 51
    assert run().entries == 1
    later(audit.CHECKPOINT_DAYS * 86400 + 1)
    assert run().entries == 51


def test_a_line_that_came_late_is_found_behind_the_checkpoint(person: MakePerson) -> None:
    me = person()
    old_lines(me, 50)
    run()
    old_lines(me, 1, since=41 * 86400)
    assert found(run()) == []
    assert run().entries == 1, "and there is a checkpoint again"


# --- credits that move meanwhile


def test_who_is_paid_between_two_reads_is_not_accused(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me, text = person(), code()
    real, times = Audit._ledger, []

    def paid_first(self: Audit, user: User, checkpoint: Any) -> Any:
        if not times:
            times.append(1)
            redeem(me, text)
        return real(self, user, checkpoint)

    monkeypatch.setattr(Audit, "_ledger", paid_first)
    ended = run()
    assert (found(ended), ended.moving) == ([], 0)


def test_who_never_rests_is_counted_and_not_accused(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me, resting = person(), person()
    move(me, 1)
    real = Audit._ledger

    def moving(self: Audit, user: User, checkpoint: Any) -> Any:
        if user.id == me.id:
            User(me.id).update([User.money_version.add(1)])
        return real(self, user, checkpoint)

    monkeypatch.setattr(Audit, "_ledger", moving)
    ended = run()
    assert (ended.users, found(ended), ended.moving) == (2, [], 1)
    assert resting.user.money_version == 0


def test_half_a_transaction_that_shows_for_a_moment_is_no_drift(
    person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may meet the line of a transaction and not yet its user, whose version is then the same before and after."""
    me = person()
    pending, times = CreditEntry(me.id, new_id(), amount=9, kind="grant", description="", create_time="2026"), []
    pending.save()

    def complete(_: float) -> None:
        times.append(1)
        User(me.id).update([User.credits.add(9), User.money_version.add(1)])

    monkeypatch.setattr(audit, "time", clock_with(complete))
    ended = run()
    assert (times, found(ended), ended.moving) == ([1], [], 0)


def test_a_task_that_ends_between_two_reads_is_not_accused(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    task = accepted(me)
    real = audit._by_ids

    def ended_first(model: Any, ids: Any, attributes: Any) -> Any:
        if model is User and Task.get(task.id).status == "pending":
            control.request_stop(task.id)
        return real(model, ids, attributes)

    monkeypatch.setattr(audit, "_by_ids", ended_first)
    with Audit("run", "", time.monotonic() + 60) as auditor:
        assert not auditor.tasks(None).findings
    assert Task.get(task.id).status == "stopped"


def test_a_code_that_is_in_use_is_not_accused(person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    text, others = code(), [person(), person()]
    real = Audit._redemptions

    def used_meanwhile(self: Audit, found: Code) -> int:
        count = real(self, found)
        if others:
            redeem(others.pop(), text)
        return count

    monkeypatch.setattr(Audit, "_redemptions", used_meanwhile)
    ended = run()
    assert (found(ended), ended.moving) == ([], 0)


def test_under_fire_nobody_is_accused(person: MakePerson) -> None:
    """Runs beside users who ask, fail and redeem all the time."""
    people, text = [person() for _ in range(4)], code(max_uses=1000)
    for someone in people:
        redeem(someone, text)
    enough = threading.Event()
    ended_tasks: list[Task] = []

    def busy(someone: Person) -> None:
        while not enough.is_set():
            ended_tasks.extend((settled(someone), failed(someone)))

    runs = []
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(busy, someone) for someone in people]
        while (len(runs) < 3 or len(ended_tasks) < 20) and not any(work.done() for work in working):
            runs.append(run())
        enough.set()
    for work in working:
        work.result()
    assert all(found(ended) == [] for ended in [*runs, run()])


# --- one run at a time


def test_of_two_at_once_one_works() -> None:
    users_of(30)
    with ThreadPoolExecutor(4) as pool:
        ended = [e for e in pool.map(lambda _: reconciliation.continue_run(900, begin=True), range(4)) if e]
    assert {e.users for e in ended} == {30}
    assert len(list(Record.query("reconciliation"))) == len({e.id for e in ended})


def test_a_run_is_continued_and_no_second_one_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 10)
    users_of(20)
    assert reconciliation.continue_run(0, begin=False) is None
    assert reconciliation.read_runs() == (None, None), "none was asked for"
    assert reconciliation.continue_run(0, begin=True) is None
    _, first = reconciliation.read_runs()
    ended = reconciliation.continue_run(900, begin=True)
    assert first
    assert ended
    assert (ended.id, ended.users) == (first.id, 20)


def test_what_a_killed_invocation_held_is_free_after_its_time(
    monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
) -> None:
    users_of(5)
    with monkeypatch.context() as patched:
        patched.setattr(reconciliation, "_check_pages", lambda *_: None)
        patched.setattr(reconciliation, "_update_current", lambda *_: True)  # it had no time for anything
        reconciliation.continue_run(840, begin=True)
    later(839)
    assert reconciliation.continue_run(840, begin=True) is None
    later(2)
    ended = reconciliation.continue_run(840, begin=False)
    assert ended
    assert ended.users == 5


def test_an_invocation_that_lost_its_run_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    users_of(5)
    real = Audit.users

    def taken(self: Audit, start: Any) -> Any:
        Record("reconciliation", "current").update([Record.at.set(clock.now() + 500)])
        return real(self, start)

    monkeypatch.setattr(Audit, "users", taken)
    assert reconciliation.continue_run(900, begin=True) is None
    _, under_way = reconciliation.read_runs()
    assert under_way
    assert under_way.users == 0
    assert Record.get("reconciliation", "current").at > clock.now() + 400


def test_a_failure_loses_a_page_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 10)
    users_of(30)
    real, pages = Audit.users, []

    def failing(self: Audit, start: Any) -> Any:
        pages.append(start)
        if len(pages) == 3:
            raise ReadTimeoutError(endpoint_url="embedded")
        return real(self, start)

    monkeypatch.setattr(Audit, "users", failing)
    with pytest.raises(ReadTimeoutError):
        reconciliation.continue_run(900, begin=True)
    ended = reconciliation.continue_run(900, begin=False)
    assert ended
    assert ended.users == 30
    assert pages[2] == pages[3]


@pytest.mark.parametrize("operation", ["UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_run_ends_whatever_happens_to_a_call(person: MakePerson, operation: str, lost: bool) -> None:
    old_lines(person(), 30)
    redeem(person(), code())
    with answer_lost(operation) if lost else refused(operation, THROTTLED):
        while reconciliation.read_runs()[0] is None:
            with contextlib.suppress(PynamoDBException):
                reconciliation.continue_run(900, begin=True)
    last, under_way = reconciliation.read_runs()
    assert last
    assert (last.users, last.codes, found(last), under_way) == (2, 1, [], None)
    assert len(list(Record.query("reconciliation"))) == 1


def test_results_are_kept_and_the_newest_is_shown(later: Callable[[float], None]) -> None:
    ids = []
    for _ in range(3):
        ids.append(run().id)
        later(86400)
    last, _ = reconciliation.read_runs()
    assert last
    assert last.id == ids[-1]
    kept = list(Record.query("reconciliation"))
    assert [record.sk for record in kept] == ids
    assert all(record.ttl > time.time() + 89 * 86400 for record in kept)


def test_tasks_that_a_run_has_seen_are_not_seen_again(person: MakePerson, later: Callable[[float], None]) -> None:
    me = person()
    settled(me)
    assert run().tasks == 1
    later(3 * 3600)
    assert run().tasks == 1, "it ended less than an hour before the last run"
    settled(me)
    still_open = accepted(me)
    assert run().tasks == 2
    later(3 * 3600)
    assert run().tasks == 2
    later(3 * 3600)
    assert run().tasks == 1
    assert Task.get(still_open.id).is_open


# --- the function and the endpoint


def test_the_function_tells_cloudwatch_what_it_found(
    person: MakePerson, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    me = person()
    person()
    context: Any = Context(seconds=900)
    handler({}, context)
    assert capsys.readouterr().out == "", "nothing was begun"
    handler({"begin": True}, context)
    metric = json.loads(capsys.readouterr().out)
    assert (metric["ReconciliationDrift"], metric["UsersReconciled"]) == (0, 2)
    assert metric["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert metric["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "local"
    assert caplog.records == []
    move(me, 1)
    handler({"begin": True}, context)
    assert json.loads(capsys.readouterr().out)["ReconciliationDrift"] == 1
    (record,) = caplog.records
    assert vars(record)["drifts"]["I2"] == 1


def test_administrators_see_the_last_run_and_the_one_under_way(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, broken = person(permission=2), person()
    answer = api("admin.reconciliation", "GET", URL, user=admin)
    assert (answer.status, answer.json["code"]) == (404, "no_reconciliation")
    move(broken, 1)
    ended = run()
    answer = api("admin.reconciliation", "GET", URL, user=admin)
    assert answer.status == 200
    assert answer.json["running"] is None
    assert answer.json["last"] == {
        "id": ended.id,
        "started": ended.started,
        "ended": ended.ended,
        "users": 2,
        "entries": 3,
        "tasks": 0,
        "codes": 0,
        "moving": 0,
        "drifts": {"I1": 0, "I2": 1, "I3": 0, "I4": 0, "I5": 0},
        "examples": [{"rule": "I2", "user_id": broken.id}],
    }
    monkeypatch.setattr(audit, "PAGE", 1)
    reconciliation.continue_run(0, begin=True)
    answer = api("admin.reconciliation", "GET", URL, user=admin)
    assert answer.json["last"]["id"] == ended.id
    assert answer.json["running"]["users"] == 1
    assert answer.json["running"]["ended"] is None


def test_only_administrators_see_it(api: Api, person: MakePerson) -> None:
    admin = person(permission=2)
    run()
    expired = auth.sign({**auth.verify(admin.token), "exp": int(clock.now()) - 60})

    def refusal(**kwargs: Any) -> tuple[int, str]:
        answer = api("admin.reconciliation", "GET", URL, **kwargs)
        return answer.status, answer.json["code"]

    assert refusal() == (401, "unauthorized")
    assert refusal(token="garbage") == (401, "invalid_token")
    assert refusal(token=expired) == (401, "token_expired")
    assert refusal(token=admin.refresh_token) == (401, "wrong_token_type")
    assert refusal(user=person(permission=1)) == (403, "not_admin")
    assert refusal(user=person(permission=0)) == (403, "not_admin")
    assert api("admin.reconciliation", "GET", URL, user=admin).status == 200
