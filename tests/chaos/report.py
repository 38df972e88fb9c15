"""docs/reliability.md's figures, from what a long run has counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.harness import OUTCOMES, Violation
from tests.chaos.load import ASKED, AT_ONCE, DELAY_MS, PAYABLE, STREAMS, TOKENS, Accepted, Streams

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- made by `make chaos`: begin -->", "<!-- made by `make chaos`: end -->"


@dataclass
class Row:
    """A class of faults: how it is put in, how often it was, and what came of it."""

    how: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, violations: Iterable[Violation], cases: int = 1) -> None:
        """Count cases."""
        self.cases += cases
        self.outcomes.update(violation.outcome for violation in violations)


@dataclass
class Counted:
    """One long run."""

    every: int = 1
    """One of so many faults was tried."""
    rows: dict[str, Row] = field(default_factory=dict)
    scenarios: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By name: different calls, faults."""
    unreached: int = 0
    kills: int = 0
    tasks_of_the_killed: int = 0
    interrupted: int = 0
    unanswered: int = 0
    steps: int = 0
    examples: int = 0
    hostile_steps: int = 0
    hostile_examples: int = 0
    users: int = 0
    tasks: int = 0
    drifts: int = 0
    blocked: int = 0
    broken: int = 0
    """Parts of the run that ended with an error."""
    seconds: float = 0.0
    streams: Streams | None = None
    accepted: Accepted | None = None

    def add(self, part: "Counted") -> None:
        """Add what another process has counted."""
        for name, row in part.rows.items():
            mine = self.rows.setdefault(name, Row(row.how))
            mine.cases += row.cases
            mine.outcomes += row.outcomes
        self.scenarios |= part.scenarios
        for name, value in vars(part).items():
            if isinstance(value, int) and name != "every":
                setattr(self, name, getattr(self, name) + value)

    @property
    def bad(self) -> int:
        """What must not be."""
        streams_bad = self.streams is not None and self.streams.complete != STREAMS
        accepted_bad = self.accepted is not None and (
            self.accepted.accepted != PAYABLE or self.accepted.least_credits < 0 or self.accepted.drift > 0
        )
        counted = sum(row.outcomes.total() for row in self.rows.values())
        return counted + self.drifts + self.blocked + self.broken + streams_bad + accepted_bad


def page(counted: Counted) -> str:
    """The tables, in Markdown."""
    parts = [_faults(counted), _scenarios(counted)]
    parts.append(
        f"State machine: {counted.steps:,} steps in {counted.examples} histories, "
        "the tables compared with the model after each.\n\n"
        f"Hostile user: {counted.hostile_steps:,} steps in {counted.hostile_examples} histories; after each, the charges and the "
        "uncovered count were together at least the provider's bill.\n\n"
        f"Killed processes: {counted.kills} SIGKILLs met {counted.tasks_of_the_killed:,} tasks, of which the sweep then ended "
        f"{counted.interrupted:,} as interrupted, for nothing, and {counted.unanswered:,} requests that had not been answered; "
        "repeated with their keys, each had one effect.\n\n"
        f"All that these runs left behind, {counted.users:,} users and {counted.tasks:,} tasks, was reconciled in the end: "
        f"{counted.drifts} drifts from I1 to I5, {counted.blocked} chats blocked by a task that has ended."
    )
    if counted.streams:
        parts.append(_streams(counted.streams))
    if counted.accepted:
        parts.append(_accepted(counted.accepted))
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the tables into the page, in the place of the last ones."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _faults(counted: Counted) -> str:
    lines = [
        f"| fault | how it is put in | cases | {' | '.join(OUTCOMES)} |",
        f"| --- | --- | ---: |{' ---: |' * len(OUTCOMES)}",
    ]
    total = Row("")
    for name, row in counted.rows.items():
        total.cases += row.cases
        total.outcomes += row.outcomes
        lines.append(_line(name, row))
    return "\n".join([*lines, _line("**all**", total)])


def _line(name: str, row: Row) -> str:
    return f"| {name} | {row.how} | {row.cases:,} | {' | '.join(str(row.outcomes[outcome]) for outcome in OUTCOMES)} |"


def _scenarios(counted: Counted) -> str:
    lines = ["| what was broken | calls | faults |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {calls} | {faults} |" for name, (calls, faults) in counted.scenarios.items()]
    some = f"One of {counted.every} faults was tried. " if counted.every > 1 else ""
    return "\n".join(
        [
            *lines,
            "",
            f"{some}({counted.unreached} more faults waited for a call that did not come: a run that ended sooner.)",
        ]
    )


def _streams(streams: Streams) -> str:
    return (
        f"{STREAMS} streams at once against `make run`, {TOKENS} tokens at {DELAY_MS} ms: {streams.complete} complete and exact, "
        f"{streams.failed} tasks failed; the slowest first token after {streams.slowest_first_token:.1f} s, the slowest end after "
        f"{streams.slowest_end:.1f} s (on 2 cores, with the provider and the viewers on them too). Memory of all processes: "
        f"{streams.memory_before} MB before, {streams.memory_most} MB at most."
    )


def _accepted(accepted: Accepted) -> str:
    answers = ", ".join(f"{count} times {status}" for status, count in sorted(accepted.answers.items()))
    return (
        f"{ASKED:,} POST /tasks, {AT_ONCE} at a time, one chat each, by a user who could pay {PAYABLE} holds, with the "
        f"executors parked: {answers}. In {accepted.reads} reads meanwhile the least that the user had was "
        f"{accepted.least_credits} credits, and credits and holds together were {accepted.drift} times other than what was given."
    )
