"""Check that the credit rules of credits.py hold for the stored data. The audit reads one page at a time and corrects nothing.

Users prove I1, I2 and their side of I3. The lines of their ledgers prove that no task and no redemption is billed twice (I4, I5).
Tasks prove the other sides of I3 and I4. Codes prove the counts of I5.

One look takes several reads, and credits move meanwhile. So a look reads each user before and after. If the user's money_version
has changed, the audit looks again. A reader may also see one item of a transaction before the other. So the audit reports a drift
only after two looks, a moment apart, have found it.

A ledger is read from its checkpoint on. The checkpoint holds the sum of the lines up to one line. The newest lines stay outside it,
because an earlier line may still come (ids are made before their transaction, and clocks differ). All lines from the first line
with a drift on stay outside too. So each run reports this drift until it is corrected. If a user drifts (I2), the checkpoint of an
earlier run is deleted and the next look reads the whole ledger. A checkpoint also ends after CHECKPOINT_DAYS.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from aideer.billing import credits
from aideer.core import clock
from aideer.data.models import Code, CreditEntry, Record, Task, User

RULES = ("I1", "I2", "I3", "I4", "I5")
EXAMPLES = 100
PAGE = 100
"""Users, or codes, to read at once: one BatchGetItem."""
TASKS = 500
LINES = 500
LOOKS = 5
PAUSE_SECONDS = 0.2
SETTLING_SECONDS = 900
CHECKPOINT_DAYS = 30
CHECKPOINT_LINES = 20
"""How many lines a new checkpoint must be ahead of the old one. Writing it costs more than reading a few lines again."""
THREADS = 8

Key = dict[str, Any]
T = TypeVar("T", User, Task, Code)

_USER = ["id", "credits", "holds", "money_version", "deleted"]
_TASK = ["id", "user_id", "status", "hold", "open_shard", "entry_id", "credits"]
_LINE = ["user_id", "entry_id", "amount", "task_id", "code"]
_CODE = ["code", "used", "max_uses"]


class OutOfTime(Exception):
    """The deadline passed within a page. The page's results do not count, but the checkpoints keep what was read of its ledgers."""


@dataclass
class Findings:
    """Drifts: the count for each rule, and the ids of the first EXAMPLES."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, rule: str, **ids: str) -> None:
        """Count one drift, and keep its ids while there are fewer than EXAMPLES."""
        self.counts[rule] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"rule": rule, **ids})

    def join(self, other: "Findings") -> None:
        """Add the drifts of another object."""
        self.counts += other.counts
        self.examples += other.examples[: EXAMPLES - len(self.examples)]

    def __bool__(self) -> bool:
        return bool(self.counts)


@dataclass
class Page:
    """The result of checking one page of users, tasks or codes."""

    next: Key | None
    checked: int
    entries: int = 0
    moving: int = 0
    """Items without a result after LOOKS looks, because they changed during them."""
    findings: Findings = field(default_factory=Findings)


@dataclass
class _Checkpoint:
    """The sum of a ledger's lines up to `entry_id`. Without `entry_id`, it is the ledger's beginning."""

    user_id: str
    run: str
    ttl: int
    entry_id: str | None = None
    sum: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return _checkpoint_key(self.user_id, "ledger")

    def save(self) -> None:
        data = {"run": self.run, "entry_id": self.entry_id, "sum": self.sum}
        Record(*self.key, data=data, ttl=self.ttl).save()

    def forget(self) -> None:
        Record(*self.key).delete()


@dataclass
class _Ledger:
    sum: int
    lines: int
    findings: Findings


class Audit:
    """One run's reads in one invocation.

    `deadline` is on the clock of time.monotonic. Tasks that ended at or after `since` are new.
    """

    def __init__(self, run: str, since: str, deadline: float) -> None:
        self._run = run
        self._since = since
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> "Audit":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)

    def users(self, start: Key | None) -> Page:
        """Check the users after the key `start`. Raises OutOfTime."""
        page, users = _scan(User, _USER, PAGE, start)
        _confirm(page, users, partial(self._look_at_users, page), _users)
        return page

    def tasks(self, start: Key | None) -> Page:
        """Check the tasks after the key `start`: the open ones, and those that have ended since the last run."""
        fresh = Task.end_time.does_not_exist() | (Task.end_time >= self._since)
        page, tasks = _scan(Task, _TASK, TASKS, start, fresh if self._since else None)
        _confirm(page, tasks, _look_at_tasks, _tasks)
        return page

    def codes(self, start: Key | None) -> Page:
        """Check the codes after the key `start` that were used since they were last counted. Raises OutOfTime."""
        page, codes = _scan(Code, _CODE, PAGE, start)
        counted = {
            record.pk: record.data["used"] for record in _records(_checkpoint_key(code.code, "code") for code in codes)
        }
        new = [code for code in codes if counted.get(_checkpoint_key(code.code, "code")[0]) != code.used]
        _confirm(page, new, self._look_at_codes, _codes)
        return page

    def _look_at_users(self, page: Page, users: list[User]) -> list[Findings | None]:
        checkpoints = self._checkpoints(users)
        ledgers = list(self._threads.map(self._ledger, users, checkpoints))
        page.entries += sum(ledger.lines for ledger in ledgers)
        held = {task.id: task for task in _by_ids(Task, (task_id for user in users for task_id in _holds(user)), _TASK)}
        after = {user.id: user for user in _users(users)}
        looks: list[Findings | None] = []
        for user, ledger, checkpoint in zip(users, ledgers, checkpoints, strict=True):
            if user.id not in after:
                looks.append(Findings())  # deleted, and its ledger before it
            elif after[user.id].money_version != user.money_version:
                looks.append(None)
            else:
                looks.append(findings := _user_findings(user, ledger, held))
                if findings.counts["I2"] and checkpoint.run != self._run:
                    checkpoint.forget()
        return looks

    def _checkpoints(self, users: list[User]) -> list[_Checkpoint]:
        found = {record.pk: record for record in _records(_checkpoint_key(user.id, "ledger") for user in users)}
        new_ttl = int(clock.now()) + CHECKPOINT_DAYS * 86400
        checkpoints = []
        for user in users:
            checkpoint = _Checkpoint(user.id, self._run, new_ttl)
            if record := found.get(checkpoint.key[0]):
                checkpoint = _Checkpoint(user.id, ttl=record.ttl, **record.data)
            checkpoints.append(checkpoint)
        return checkpoints

    def _ledger(self, user: User, checkpoint: _Checkpoint) -> _Ledger:
        ledger = _Ledger(checkpoint.sum, 0, Findings())
        if user.deleted:
            return ledger  # the deletion may have begun to remove its lines
        settled, ahead = _first_id(clock.now() - SETTLING_SECONDS), 0
        reads = CreditEntry.query(
            user.id,
            CreditEntry.entry_id > checkpoint.entry_id if checkpoint.entry_id else None,
            consistent_read=True,
            page_size=LINES,
            attributes_to_get=_LINE,
        ).page_iter
        for raw in reads:
            lines = [CreditEntry.from_raw_data(item) for item in raw["Items"]]
            drifts = _line_drifts(user.id, lines)
            for line in lines:
                ledger.lines += 1
                ledger.sum += line.amount
                for rule, ids in drifts.get(line.entry_id, ()):
                    ledger.findings.add(rule, user_id=user.id, entry_id=line.entry_id, **ids)
                if line.entry_id < settled and not ledger.findings:
                    checkpoint.entry_id, checkpoint.sum = line.entry_id, ledger.sum
                    ahead += 1
            if reads.last_evaluated_key and time.monotonic() > self._deadline:
                checkpoint.save()
                raise OutOfTime
        if ahead >= CHECKPOINT_LINES:
            checkpoint.save()
        return ledger

    def _look_at_codes(self, codes: list[Code]) -> list[Findings | None]:
        counts = list(self._threads.map(self._redemptions, codes))
        after = {code.code: code for code in _codes(codes)}
        looks: list[Findings | None] = []
        for code, count in zip(codes, counts, strict=True):
            findings = Findings()
            if code.code not in after:
                looks.append(findings)
            elif after[code.code].used != code.used:
                looks.append(None)
            else:
                if code.used > code.max_uses or code.used != count:
                    findings.add("I5", code=code.code)
                elif code.used:
                    ttl = int(clock.now()) + CHECKPOINT_DAYS * 86400
                    Record(*_checkpoint_key(code.code, "code"), data={"used": code.used}, ttl=ttl).save()
                looks.append(findings)
        return looks

    def _redemptions(self, code: Code) -> int:
        count, start = 0, None
        while True:
            answer = Record._get_connection().query(
                credits.redemptions_key(code.code), consistent_read=True, select="COUNT", exclusive_start_key=start
            )
            count += int(answer["Count"])
            start = answer.get("LastEvaluatedKey")
            if not start:
                return count
            if time.monotonic() > self._deadline:
                raise OutOfTime


def _confirm(
    page: Page,
    items: list[T],
    look: Callable[[list[T]], list[Findings | None]],
    reread: Callable[[list[T]], list[T]],
) -> None:
    """Add the drifts that two looks have found to the page.

    `look` returns the findings of each item, or None if the item changed meanwhile. `reread` reads items again.
    """
    seen: set[str] = set()
    for attempt in range(LOOKS):
        again = []
        for item, findings in zip(items, look(items) if items else [], strict=True):
            if findings is None:
                again.append(item)
            elif findings and _key(item) not in seen:
                seen.add(_key(item))
                again.append(item)
            else:
                page.findings.join(findings)
        if not again:
            return
        if attempt < LOOKS - 1:
            time.sleep(PAUSE_SECONDS * 2**attempt)
            items = reread(again)
    page.moving += len(again)


def _user_findings(user: User, ledger: _Ledger, held: dict[str, Task]) -> Findings:
    findings = Findings()
    available = user.credits or 0
    if available < 0:
        findings.add("I1", user_id=user.id)
    if not user.deleted and available + credits.sum_holds(user) != ledger.sum:
        findings.add("I2", user_id=user.id)
    for task_id, amount in _holds(user).items():
        task = held.get(task_id)
        # The sweeper finds open tasks through the index only, so a task without open_shard would never end.
        found = task and task.is_open and task.user_id == user.id and task.hold == amount and task.open_shard
        if not found:
            findings.add("I3", user_id=user.id, task_id=task_id)
    findings.join(ledger.findings)
    return findings


def _line_drifts(user_id: str, lines: list[CreditEntry]) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Return the drifts of lines as (rule, ids), by entry id.

    Each task and each redemption names the one line that belongs to it. The task of a line may be deleted.
    """
    tasks = _by_ids(Task, (line.task_id for line in lines if line.task_id), ["id", "entry_id"])
    line_of_task = {task.id: task.entry_id for task in tasks}
    uses = _records((credits.redemptions_key(line.code), user_id) for line in lines if line.code)
    line_of_use = {record.pk: (record.data or {}).get("entry_id") for record in uses}
    drifts: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for line in lines:
        if line.task_id and line_of_task.get(line.task_id, line.entry_id) != line.entry_id:
            drifts.setdefault(line.entry_id, []).append(("I4", {"task_id": line.task_id}))
        if line.code and line_of_use.get(credits.redemptions_key(line.code)) != line.entry_id:
            drifts.setdefault(line.entry_id, []).append(("I5", {"code": line.code}))
    return drifts


def _look_at_tasks(tasks: list[Task]) -> list[Findings | None]:
    keys = {(task.user_id, task.entry_id) for task in tasks if task.user_id and task.entry_id}
    lines = {line.entry_id: line for line in CreditEntry.batch_get(keys, True, _LINE)}
    unbilled = {task.id for task in tasks if not _is_billed(task, lines.get(task.entry_id))}
    in_doubt = {task.user_id for task in tasks if task.is_open or task.id in unbilled}
    users = {user.id: user for user in _by_ids(User, in_doubt - {None}, _USER)}
    looks: list[Findings | None] = []
    for task in tasks:
        findings, user = Findings(), users.get(task.user_id)
        if task.is_open:
            if user is None or task.id not in _holds(user):
                findings.add("I3", user_id=task.user_id or "", task_id=task.id)
        elif task.id in unbilled and user and not user.deleted:
            findings.add("I4", user_id=task.user_id, task_id=task.id)
        looks.append(findings)
    return looks


def _is_billed(task: Task, line: CreditEntry | None) -> bool:
    """Return whether a finished or stopped task has its line with the right amount, and any other task has none."""
    if task.status not in ("finished", "stopped"):
        return task.entry_id is None
    return line is not None and line.task_id == task.id and line.amount == -(task.credits or 0)


def _scan(
    model: type[T], attributes: list[str], size: int, start: Key | None, condition: Any = None
) -> tuple[Page, list[T]]:
    scan = model.scan(condition, last_evaluated_key=start, page_size=size, attributes_to_get=attributes)
    raw = next(scan.page_iter)
    items = [model.from_raw_data(item) for item in raw["Items"]]
    return Page(raw.get("LastEvaluatedKey"), len(items)), items


def _users(users: list[User]) -> list[User]:
    return _by_ids(User, (user.id for user in users), _USER)


def _tasks(tasks: list[Task]) -> list[Task]:
    return _by_ids(Task, (task.id for task in tasks), _TASK)


def _codes(codes: list[Code]) -> list[Code]:
    return _by_ids(Code, (code.code for code in codes), _CODE)


def _by_ids(model: type[T], ids: Iterable[str], attributes: list[str]) -> list[T]:
    return list(model.batch_get(ids, consistent_read=True, attributes_to_get=attributes))


def _records(keys: Iterable[tuple[str, str]]) -> list[Record]:
    now = clock.now()
    found = Record.batch_get(keys, consistent_read=True)
    return [record for record in found if not (record.ttl and record.ttl <= now)]


def _checkpoint_key(of: str, kind: str) -> tuple[str, str]:
    return f"reconciled#{of}", kind


def _holds(user: User) -> dict[str, int]:
    return dict(user.holds.attribute_values)


def _key(item: User | Task | Code) -> str:
    return str(item.code if isinstance(item, Code) else item.id)


def _first_id(seconds: float) -> str:
    """Return a string that every UUIDv7 of this moment or later sorts after (RFC 9562, section 5.7)."""
    text = f"{int(seconds * 1000):012x}"
    return f"{text[:8]}-{text[8:]}"
