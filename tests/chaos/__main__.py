"""`make chaos`: every fault, the state machine, real deaths, and many at once. It writes its figures into docs/reliability.md."""

import argparse
import contextlib
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.stack import resources

KILLS, EXAMPLES, STEPS = 110, 80, 50
HOSTILE_EXAMPLES = 15
"""Of the hostile user, whose steps take most of a second each: they wait for real silences."""
KILLED = "process killed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it, and nothing else")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="one of N faults, which ones is the same each time"
    )
    options = parser.parse_args()
    sys.path.insert(0, "functions")
    logging.disable(logging.CRITICAL)  # what is told of every fault by every library
    with _embedded():
        from tests.chaos import report

        counted = report.Counted(every=options.every)
        began = time.monotonic()
        from tests.chaos.cases import laboratory

        with laboratory() as lab:
            _faults(lab, counted, options.only, options.every)
            if not options.only:
                _kills(lab, counted)
                _model(lab, counted)
        if not options.only:
            _hostile(counted)
        _reconcile(counted)
        if not options.only:
            from tests.chaos import load

            say("streams")
            counted.streams = load.streams()
            say(counted.streams, "tasks")
            counted.accepted = load.accepted()
            say(counted.accepted)
        counted.seconds = time.monotonic() - began
        text = report.page(counted)
        print(text)
        if not options.only:
            report.write(text)
    sys.exit(1 if counted.bad else 0)


def say(*what: Any) -> None:
    """How far it is."""
    print(*what, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _embedded() -> Iterator[None]:
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


def _faults(lab: Any, counted: Any, only: str, every: int) -> None:
    from tests.chaos.fault_injection import FAULTS
    from tests.chaos.harness import BROKEN, Violation
    from tests.chaos.report import Row
    from tests.chaos.scenarios import SCENARIOS

    for fault in FAULTS:
        counted.rows.setdefault(
            fault.kind, Row("")
        ).how += f"{'; ' if counted.rows[fault.kind].how else ''}{fault.name}"
    for scenario in SCENARIOS:
        if only not in scenario.name:
            continue
        cases = lab.cases(scenario)
        calls = len({case.call for case in cases})
        cases = random.Random(scenario.name).sample(cases, -(-len(cases) // every))
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


def _kills(lab: Any, counted: Any) -> None:
    from tests.chaos import kills
    from tests.chaos.report import Row

    counted.rows[KILLED] = row = Row(
        "SIGKILL of a real process at many answers and requests at once, at instants over its work"
    )
    with kills.victims(lab) as victims:
        while counted.kills < KILLS:
            for instant in kills.instants(lab, victims, 30):
                kill = kills.strike(lab, victims, instant)
                for violation in kill.violations:
                    say("  !! killed after", instant, "=>", violation)
                row.add(kill.violations, kill.killed)
                counted.kills += kill.killed
                counted.tasks_of_the_killed += kill.tasks
                counted.interrupted += kill.interrupted
                counted.unanswered += kill.unanswered
            say("kills", counted.kills)


def _model(lab: Any, counted: Any) -> None:
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.chaos.model import Rules

    say("model")
    Rules.make_world = staticmethod(lab.world)
    run_state_machine_as_test(
        Rules,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    counted.steps, counted.examples = Rules.steps, EXAMPLES


def _hostile(counted: Any) -> None:
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.chaos.hostile import playground

    say("hostile user")
    with playground() as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=HOSTILE_EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        counted.hostile_steps, counted.hostile_examples = machine.steps, HOSTILE_EXAMPLES


def _reconcile(counted: Any) -> None:
    """Look at everything that is stored by now, with the product's own reconciliation."""
    from aideer.billing import reconciliation
    from aideer.data.models import Chat, Task

    say("reconciliation")
    run = None
    while run is None:
        run = reconciliation.continue_run(600, begin=True)
    counted.users, counted.tasks, counted.drifts = run.users, run.tasks, sum(run.drifts.values())
    say(Counter(run.drifts), run.examples[:5])
    still_open = {task.id for task in Task.scan(Task.open_shard.exists(), consistent_read=True)}
    held = Chat.scan(Chat.active_task.exists() & Chat.deleted.does_not_exist(), consistent_read=True)
    counted.blocked = sum(chat.active_task not in still_open for chat in held)


if __name__ == "__main__":
    main()
