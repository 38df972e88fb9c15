"""The parts of a long run. Each is a process with an embedded AWS and a provider of its own, so several can work side by side."""

import contextlib
import logging
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.stack import resources

KILLED = "process killed"
STEPS = 50


@dataclass(frozen=True)
class Part:
    """What one process does: the named scenarios with every fault, so many kills, or so many histories of a state machine."""

    scenarios: tuple[str, ...] = ()
    kills: int = 0
    histories: int = 0
    hostile_histories: int = 0


def run(part: Part, every: int) -> Any:
    """Do a part, and reconcile all that it has left. Return its report.Counted. One of `every` faults is tried."""
    logging.disable(logging.CRITICAL)  # what is told of every fault by every library
    with embedded():
        from tests.chaos.report import Counted

        counted = Counted(every=every)
        try:
            _do(part, counted)
            _reconcile(counted)
        except Exception:  # a rule that does not hold; the other parts are still worth their time
            traceback.print_exc()
            counted.broken += 1
        return counted


def _do(part: Part, counted: Any) -> None:
    if part.hostile_histories:
        _hostile(counted, part.hostile_histories)
        return
    from tests.chaos.cases import laboratory

    with laboratory() as lab:
        if part.scenarios:
            _faults(lab, counted, part.scenarios)
        if part.kills:
            _kills(lab, counted, part.kills)
        if part.histories:
            _model(lab, counted, part.histories)


def say(*what: Any) -> None:
    """How far it is."""
    print(*what, file=sys.stderr, flush=True)


@contextlib.contextmanager
def embedded() -> Iterator[None]:
    """An embedded AWS, and the environment of functions, before any of them is imported."""
    with tempfile.TemporaryDirectory(prefix="aideer-chaos-") as folder, resources.run_stack(Path(folder)) as stack:
        os.environ.update(stack.environment)
        os.environ.update(
            SIGNUP_CREDITS="1000000",
            UNCOVERED_CREDITS="1000000",
            OPEN_TASKS="1000",
            LEASE_SECONDS="15",  # a question in doubt waits for it, in real time
            THROTTLES="all=1000000/60",
            METRICS_NAMESPACE="",
            STREAM_BASE_URL="http://stream.test",
            POWERTOOLS_LOG_LEVEL="CRITICAL",
        )
        yield


def _faults(lab: Any, counted: Any, names: tuple[str, ...]) -> None:
    from tests.chaos.fault_injection import FAULTS
    from tests.chaos.harness import BROKEN, Violation
    from tests.chaos.report import Row
    from tests.chaos.scenarios import SCENARIOS

    for fault in FAULTS:
        row = counted.rows.setdefault(fault.kind, Row(""))
        row.how += f"{'; ' if row.how else ''}{fault.name}"
    for scenario in SCENARIOS:
        if scenario.name not in names:
            continue
        cases = lab.cases(scenario)
        calls = len({case.call for case in cases})
        cases = random.Random(scenario.name).sample(cases, -(-len(cases) // counted.every))
        struck = 0
        for case in cases:
            try:
                met, violations = lab.run(case)
            except Exception as error:  # the other cases are still worth their time
                traceback.print_exc()
                met, violations = True, [Violation(BROKEN, repr(error))]
            for violation in violations:
                say("  !!", case, "=>", violation)
            if met or violations:
                counted.rows[case.fault.kind].add(violations)
            struck += met
        counted.unreached += len(cases) - struck
        counted.scenarios[scenario.name] = calls, struck
        say(scenario.name, *counted.scenarios[scenario.name])


def _kills(lab: Any, counted: Any, number: int) -> None:
    from tests.chaos import kills
    from tests.chaos.report import Row

    counted.rows[KILLED] = row = Row(
        "SIGKILL of a real process at many answers and requests at once, at instants over its work"
    )
    with kills.victims(lab) as victims:
        while counted.kills < number:
            instants = list(kills.instants(lab, victims, 30))
            random.shuffle(instants)  # so that the last round may end early
            while instants and counted.kills < number:
                instant = instants.pop()
                kill = kills.strike(lab, victims, instant)
                for violation in kill.violations:
                    say("  !! killed after", instant, "=>", violation)
                row.add(kill.violations, kill.killed)
                counted.kills += kill.killed
                counted.tasks_of_the_killed += kill.tasks
                counted.interrupted += kill.interrupted
                counted.unanswered += kill.unanswered
            say("kills", counted.kills)


def _model(lab: Any, counted: Any, histories: int) -> None:
    from tests.chaos.model import Rules

    say("model")
    Rules.make_world = staticmethod(lab.world)
    _play(Rules, histories)
    counted.steps, counted.examples = Rules.steps, histories


def _hostile(counted: Any, histories: int) -> None:
    from tests.chaos.hostile import playground

    say("hostile user")
    with playground() as machine:
        _play(machine, histories)
        counted.hostile_steps, counted.hostile_examples = machine.steps, histories


def _play(machine: Any, histories: int) -> None:
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=False,  # each part plays its own, also where CI is set
            suppress_health_check=list(HealthCheck),
        ),
    )


def _reconcile(counted: Any) -> None:
    """Look at everything that is stored by now, with the product's own reconciliation."""
    from aideer.billing import reconciliation
    from aideer.data.models import Chat, Task

    run = None
    while run is None:
        run = reconciliation.continue_run(600, begin=True)
    counted.users, counted.tasks, counted.drifts = run.users, run.tasks, sum(run.drifts.values())
    if counted.drifts:
        say("  !!", Counter(run.drifts), run.examples[:5])
    still_open = {task.id for task in Task.scan(Task.open_shard.exists(), consistent_read=True)}
    held = Chat.scan(Chat.active_task.exists() & Chat.deleted.does_not_exist(), consistent_read=True)
    counted.blocked = sum(chat.active_task not in still_open for chat in held)
