"""Reconciliation: check regularly that the credit rules hold over all stored data, and report the violations.

A run checks all users, then tasks, then codes (audit.py), and repairs nothing. A run in progress is the one record
(reconciliation, current), so at most one run exists at a time. The record stores the progress after every page. So the next
invocation continues from there, however the previous one ended. An invocation claims the run until its own end. When a run has
ended, it is kept as (reconciliation, its id) for KEEP_DAYS.
"""

import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pynamodb.exceptions import PutError, UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from aideer.billing.audit import RULES, Audit, Findings, OutOfTime, Page
from aideer.core import aws_errors, clock
from aideer.data.base import new_id
from aideer.data.models import Record
from aideer.data.transactions import Refused, Transaction

KEEP_DAYS = 90
RESERVE_SECONDS = 30
"""Seconds of an invocation that are reserved for the page in progress."""
OVERLAP_SECONDS = 3600
"""Seconds before the last run's start from which tasks count as new. They cover wrong clocks of writers, and reads that lag."""

_RUNS = "reconciliation"
_CURRENT = "current"  # sorts after every id
_NEXT = {"users": "tasks", "tasks": "codes", "codes": None}


@dataclass
class Run:
    """A run and its progress. Times are ISO 8601. Examples hold a rule and ids."""

    id: str
    started: str
    since: str
    """The end time from which tasks are checked. It is empty for all tasks."""
    phase: str | None = "users"
    start: dict[str, Any] | None = None
    ended: str | None = None
    users: int = 0
    entries: int = 0
    tasks: int = 0
    codes: int = 0
    moving: int = 0
    drifts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    examples: list[dict[str, str]] = field(default_factory=list)
    unsettled: bool = False
    """Whether tasks had drifts. If so, the next run checks the same tasks again."""

    @classmethod
    def of(cls, record: Record) -> "Run":
        """Return the run in a record. Another version of AIDeer may have stored it."""
        known = {part.name for part in fields(cls)}
        return cls(**{name: value for name, value in record.data.items() if name in known})

    def add(self, page: Page) -> None:
        """Add the results of a page, and move on to the next page or phase."""
        found = Findings(examples=self.examples)
        found.join(page.findings)
        self.examples = found.examples
        for rule, count in page.findings.counts.items():
            self.drifts[rule] += count
        self.moving += page.moving
        self.entries += page.entries
        if self.phase == "users":
            self.users += page.checked
        elif self.phase == "tasks":
            self.tasks += page.checked
            self.unsettled = self.unsettled or bool(page.findings)
        else:
            self.codes += page.checked
        self.start = page.next
        if page.next is None:
            self.phase = _NEXT[str(self.phase)]


def continue_run(seconds: float, *, begin: bool) -> Run | None:
    """Continue the run in progress for at most `seconds`. If there is none and `begin` is true, begin one.

    Returns the run if it has ended, otherwise None.
    """
    until = clock.now() + seconds
    deadline = time.monotonic() + seconds - RESERVE_SECONDS
    try:
        record = _claim(until) or (_begin(until) if begin else None)
        return _check_pages(Run.of(record), deadline, until) if record else None
    finally:
        _update_current(until, Record.at.remove())  # so that the next invocation need not wait


def read_runs() -> tuple[Run | None, Run | None]:
    """Return the last run that has ended, and the run in progress."""
    newest = list(Record.query(_RUNS, scan_index_forward=False, limit=2, consistent_read=True))
    under_way = Run.of(newest.pop(0)) if newest and newest[0].sk == _CURRENT else None
    return Run.of(newest[0]) if newest else None, under_way


def _check_pages(run: Run, deadline: float, until: float) -> Run | None:
    with Audit(run.id, run.since, deadline) as audit:
        phases = {"users": audit.users, "tasks": audit.tasks, "codes": audit.codes}
        while run.phase:
            try:
                run.add(phases[run.phase](run.start))
            except OutOfTime:
                return None
            held = _update_current(until, Record.data.set(asdict(run)))
            if not held or (run.phase and time.monotonic() > deadline):
                return None
    return _end(run, until)


def _claim(until: float) -> Record | None:
    record = Record(_RUNS, _CURRENT)
    free = Record.at.does_not_exist() | (Record.at <= clock.now())
    # Accept this invocation's own claim. A retry is refused if the first call succeeded and only its response was lost.
    claimed = _try_update(record, Record.at.set(until), Record.pk.exists() & (free | (Record.at == until)))
    return record if claimed else None


def _begin(until: float) -> Record | None:
    last, _ = read_runs()
    since = ""
    if last:
        since = last.since if last.unsettled else clock.timestamp(clock.parse(last.started) - OVERLAP_SECONDS)
    run = Run(new_id(), clock.timestamp(), since)
    record = Record(_RUNS, _CURRENT, data=asdict(run), at=until)
    try:
        record.save(Record.pk.does_not_exist() | (Record.at == until))
    except PutError as error:
        if aws_errors.is_refusal(error):
            return None
        raise
    return record


def _end(run: Run, until: float) -> Run | None:
    run.ended = clock.timestamp()
    result = Record(_RUNS, run.id, data=asdict(run), ttl=int(clock.now()) + KEEP_DAYS * 86400)
    transaction = Transaction()
    transaction.delete("current", Record(_RUNS, _CURRENT), Record.at == until)
    transaction.put("result", result)
    try:
        transaction.commit(proof=lambda: bool(list(Record.query(_RUNS, Record.sk == run.id, consistent_read=True))))
    except Refused:
        return None  # another invocation has claimed the run
    return run


def _update_current(until: float, action: Action) -> bool:
    return _try_update(Record(_RUNS, _CURRENT), action, Record.at == until)


def _try_update(record: Record, action: Action, condition: Condition) -> bool:
    try:
        record.update([action], condition)
    except UpdateError as error:
        if aws_errors.is_refusal(error):
            return False
        raise
    return True
