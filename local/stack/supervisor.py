"""Starts the stack's processes in order, and restarts each that ends. The launcher watches the supervisor itself.

A new supervisor takes over the running processes, so its death interrupts no user. It also replaces a launcher that was killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from local.stack.processes import ROOT, Process, Processes, Sockets, own_environment
from local.stack.settings import Settings

FAILED = 3
"""The exit code for a stack that cannot start, if another attempt would not help."""
READY_SECONDS = 180.0
STABLE_SECONDS = 5.0
MAX_DELAY = 3.0


class Supervisor:
    """Keeps the processes of one stack alive."""

    def __init__(self, settings: Settings, sockets: Sockets, processes: Processes) -> None:
        self._settings = settings
        self._sockets = sockets
        self._processes = processes
        self._starting = threading.RLock()
        self._preparing: subprocess.Popen[bytes] | None = None
        self._was_ready = processes.front.is_ready
        """Whether this stack was ready before. Only before that, the end of a process is a failure to start."""

    def run(self) -> None:
        """Work until SIGTERM."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keepers: list[Callable[[], None]] = [
            self._keep_ministack,
            lambda: self._keep(self._processes.front),
            lambda: self._keep(self._processes.background),
            self._keep_launcher,
        ]
        if self._settings.simulates_dashscope:
            keepers.append(lambda: self._keep(self._processes.dashscope))
        if self._settings.simulates_wechat:
            keepers.append(lambda: self._keep(self._processes.wechat))
        for keeper in keepers:
            threading.Thread(target=keeper, daemon=True).start()
        threading.Event().wait()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        with self._starting:  # do not end between a process's start and the note of its pid
            if self._preparing:
                self._preparing.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._preparing.wait(5)
            os._exit(0)

    def _keep_ministack(self) -> None:
        ministack = self._processes.ministack
        lock = ministack.try_claim()
        while True:
            if lock is not None:
                self._prepare("resources")
                self._start(ministack, lock)
            if ministack.wait_until_ready(READY_SECONDS):
                self._prepare("connect", *self._sockets.arguments)
            elif not self._was_ready:
                self._fail(ministack)
            lock = ministack.claim()
            self._tell(ministack)

    def _keep(self, process: Process) -> None:
        delay = 0.1
        while True:
            lock = process.claim()
            began = time.monotonic()
            self._start(process, lock)
            if process.wait_until_ready(READY_SECONDS):
                self._was_ready = self._was_ready or process is self._processes.front
            elif not self._was_ready:
                self._fail(process)
            os.close(process.claim())
            self._tell(process)
            if time.monotonic() - began > STABLE_SECONDS:
                delay = 0.1
            time.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)

    def _keep_launcher(self) -> None:
        while True:
            self._start(self._processes.launcher, self._processes.launcher.claim())

    def _tell(self, process: Process) -> None:
        print(f"ERROR {process.name} has ended, and is started again. What it said is in {process.log}.1", flush=True)

    def _start(self, process: Process, lock: int) -> None:
        with self._starting:
            process.start(lock)

    def _prepare(self, *step: str) -> None:
        command = [sys.executable, "-m", "local.stack.prepare", *step]
        with self._starting:
            self._preparing = subprocess.Popen(command, cwd=ROOT, env=own_environment())
        if self._preparing.wait() and not self._was_ready:
            os._exit(FAILED)

    def _fail(self, process: Process) -> None:
        with self._starting:
            print(f"ERROR {process.name} did not start; all that it said is in {process.log}", flush=True)
            os._exit(FAILED)


def main() -> None:
    """Supervise the stack whose sockets are the arguments."""
    settings, sockets = Settings.read(), Sockets.parse(sys.argv[1:])
    Supervisor(settings, sockets, Processes(settings.state_dir, sockets)).run()


if __name__ == "__main__":
    main()
