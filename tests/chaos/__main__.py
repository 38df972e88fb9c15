"""`make chaos`: every fault, the state machine, real deaths, and many at once. It writes its figures into docs/reliability.md."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.chaos import parts
from tests.chaos.parts import Part, say

KILLS, HISTORIES, HOSTILE_HISTORIES = 110, 80, 16
"""Few histories of the hostile user, whose steps take most of a second each: they wait for real silences."""
SLICES = 16
"""Parts that the scenarios are cut into. Many, so that no process works alone for long in the end."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it, and nothing else")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="one of N faults, which ones is the same each time"
    )
    processors = os.cpu_count() or 1
    parser.add_argument(
        "--processes",
        type=int,
        default=processors + 1,
        metavar="N",
        help="parts at work at once (default: %(default)s)",
    )
    options = parser.parse_args()
    sys.path.insert(0, "functions")
    with parts.embedded():
        from tests.chaos import load, report
        from tests.chaos.scenarios import SCENARIOS

        began = time.monotonic()
        names = [scenario.name for scenario in SCENARIOS if options.only in scenario.name]
        counted = report.Counted(every=options.every)
        todo = list(slices(names) if options.only else (*others(), *slices(names)))
        workers = ProcessPoolExecutor(
            options.processes, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
        )
        with workers:
            finished = list(workers.map(parts.run, todo, [options.every] * len(todo)))
        for part in reversed(finished):  # the page shows the scenarios' faults first
            counted.add(part)
        counted.scenarios = {name: counted.scenarios[name] for name in names if name in counted.scenarios}
        if not options.only:
            say("streams")
            counted.streams = load.streams()
            say(counted.streams, "tasks")
            counted.accepted = load.accepted()
            say(counted.accepted)
        counted.seconds = time.monotonic() - began
        text = report.page(counted)
        print(text)
        say(f"{counted.seconds / 60:.0f} minutes")
        if counted.broken:
            say(
                f"{counted.broken} parts ended with an error, so their figures are missing, and the page stays as it is"
            )
        elif not options.only:
            report.write(text)
    sys.exit(1 if counted.bad else 0)


def slices(names: list[str]) -> Iterator[Part]:
    """Cut the scenarios into parts."""
    for first in range(min(SLICES, len(names))):
        yield Part(scenarios=tuple(names[first::SLICES]))


def others() -> Iterator[Part]:
    """Return the other parts, halved. They are the longest, so they begin first."""
    yield from [Part(hostile_histories=HOSTILE_HISTORIES // 2)] * 2
    yield from [Part(kills=KILLS // 2)] * 2
    yield from [Part(histories=HISTORIES // 2)] * 2


if __name__ == "__main__":
    main()
