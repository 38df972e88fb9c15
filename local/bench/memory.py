"""The memory of the processes of a stack."""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.stack.processes import Processes


@dataclass(frozen=True)
class Memory:
    """The memory of one process of the stack, in MB."""

    name: str
    resident: float
    own: float | None
    """Its resident memory, with shared pages divided among their processes, or None if the system does not report it."""


def measure_memory(state_dir: Path) -> list[Memory]:
    """Return the memory of every process of a stack."""
    processes = Processes(state_dir)
    names = {process.pid: process.name for process in (processes.launcher, *processes.logged)}
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,rss=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for line in sorted(listing, key=lambda line: int(line.split()[0])):
        pid, parent, kilobytes, command = line.split(maxsplit=3)
        if int(pid) not in names and int(parent) in names:  # the workers: they descend from the front
            names[int(pid)] = "workers' parent" if names[int(parent)] == "front" else "worker"
        if int(pid) in names and "local." in command:
            found.append(Memory(names[int(pid)], int(kilobytes) / 1024, _proportional(pid)))
    return found


def _proportional(pid: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return None
