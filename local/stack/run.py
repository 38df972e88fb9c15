"""`make run`: start the stack, show its state on the console, and stop it at Ctrl-C.

With arguments, this process replaces a launcher that was killed. It does the same work without a console.
"""

import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

from local.stack import prices, welcome
from local.stack.processes import STOP_SECONDS, Process, Processes, Sockets, listener
from local.stack.settings import DEFAULT_PORT, Settings, SettingsError, command
from local.stack.state import Stack
from local.stack.supervisor import FAILED

ERROR = re.compile(r'^(ERROR|CRITICAL)\b|"level":\s*"(ERROR|CRITICAL)"')
NEWS = re.compile(r"[A-Z]{3,10} \S+ (\d{3}|left) \d+ ms|RELOAD .*")
"""Lines that the front prints for the console: an answered request, and edited code."""
TAIL_SECONDS = 0.5
PROBE_BYTES = 64 * 1024
PROGRESS_SECONDS = 0.2
KEPT = ("run", "logs", "aws", "chat.json")
"""The files that the stack and its clients keep in STATE_DIR."""
LEAST_FREE = 64 * 2**20
"""Free bytes required on STATE_DIR's disk. The embedded AWS saves a whole copy before it deletes the old one."""
ANOTHER_FOLDER = "Choose another folder: STATE_DIR=folder make run"


class Console:
    """Shows the errors that processes log, and a line for each answered request."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._read: dict[Path, tuple[int, int]] = {}
        self._in_traceback: set[Path] = set()
        for process in processes:  # skip older lines: they were shown before, or belong to an earlier run
            self._new_lines(process.log)

    def show_until(self, over: threading.Event) -> None:
        """Show new lines at intervals until `over` is set."""
        while not over.wait(TAIL_SECONDS):
            self.show()

    def show(self) -> None:
        """Show the new errors and requests."""
        for process in self._processes:
            for line in self._new_lines(process.log):
                if NEWS.fullmatch(line):
                    say(line)
                elif self._is_error(process.log, line):
                    say(f"[{process.name}] {line}")

    def _new_lines(self, log: Path) -> list[str]:
        try:
            with log.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                known, position = self._read.get(log, (inode, 0))
                file.seek(position if known == inode else 0)
                text = file.read()
                complete = text[: text.rfind(b"\n") + 1]
                self._read[log] = (inode, file.tell() - len(text) + len(complete))
        except FileNotFoundError:
            return []
        return complete.decode(errors="replace").splitlines()

    def _is_error(self, log: Path, line: str) -> bool:
        if line.startswith("Traceback "):
            self._in_traceback.add(log)
        elif log in self._in_traceback:
            if line and not line[0].isspace():
                self._in_traceback.discard(log)  # the exception's own line ends the traceback
        else:
            return bool(ERROR.search(line))
        return True


def say(text: str) -> None:
    """Print a line. Ignore a console that is gone."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - the console has gone


class Launcher:
    """Keeps the supervisor running, and stops everything on a signal."""

    def __init__(self, settings: Settings, sockets: Sockets) -> None:
        self._settings = settings
        self._sockets = sockets
        self._processes = Processes(settings.state_dir, sockets)
        self._stop = threading.Event()
        self._failed = False

    def run(self) -> int:
        """Work until SIGINT or SIGTERM, and return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop.set())
        console = Console(self._processes.logged)
        for target in (self._keep_supervisor, self._welcome):
            threading.Thread(target=target, daemon=True).start()
        console.show_until(self._stop)
        if not self._failed:
            # Stopping interrupts work, which may log errors. They are not faults, so the console no longer shows them.
            say(f"\nstopping. Answers that are being made get up to {STOP_SECONDS:.0f} s to end.")
        self._processes.stop()
        if self._failed:
            console.show()
        say("AIDeer did not start." if self._failed else "stopped")
        return 1 if self._failed else 0

    def _keep_supervisor(self) -> None:
        supervisor = self._processes.supervisor
        while True:
            lock = supervisor.claim()
            if self._stop.is_set() or supervisor.exit_code == FAILED:
                os.close(lock)
                self._failed = not self._stop.is_set()
                self._stop.set()
                return
            supervisor.start(lock)

    def _welcome(self) -> None:
        began, waited_for = time.monotonic(), list(self._processes.logged)
        while not self._processes.front.is_ready:
            for process in [process for process in waited_for if process.is_ready]:
                waited_for.remove(process)
                say(f"  {process.name} is ready after {time.monotonic() - began:.0f} s")
            time.sleep(PROGRESS_SECONDS)
        say(welcome.text(self._settings, f"http://127.0.0.1:{self._sockets.wechat_port}"))


def open_sockets(settings: Settings) -> Sockets:
    """Bind the stack's ports.

    Raises
    ------
    SettingsError
        PORT is taken.
    """
    try:
        public = listener(settings.port)
    except OSError as error:
        with listener(0) as other:
            free = other.getsockname()[1]
        choice = 8001 if settings.port == DEFAULT_PORT and _is_free(8001) else free
        message = f"PORT {settings.port} cannot be used: {error.strerror}. Choose another: PORT={choice} make run"
        raise SettingsError(message) from None
    aws, dashscope, wechat = listener(0), listener(0), listener(0)
    with dashscope, wechat:
        ports = aws.getsockname()[1], dashscope.getsockname()[1], wechat.getsockname()[1]
    return Sockets(public.detach(), aws.detach(), *ports)


def _is_free(port: int) -> bool:
    try:
        listener(port).close()
    except OSError:
        return False
    return True


def open_state_dir(folder: Path) -> None:
    """Make STATE_DIR, and let only its owner read what the stack keeps in it, because it holds the providers' keys.

    If the folder exists already, its other files stay as they are.

    Raises
    ------
    SettingsError
        The folder cannot be made or written, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = [folder / name for name in KEPT]
        for path in [
            *kept,
            *(path for part in kept for path in part.rglob("*")),
        ]:  # an earlier version made these readable by all
            if path.exists() and not path.is_symlink() and (mode := path.stat().st_mode) & 0o077:
                path.chmod(stat.S_IMODE(mode) & 0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * PROBE_BYTES)
            file.flush()
        free = shutil.disk_usage(folder).free
    except FileExistsError:
        raise SettingsError(f"STATE_DIR {folder} is a file. {ANOTHER_FOLDER}") from None
    except OSError as error:
        raise SettingsError(f"STATE_DIR {folder} cannot be used: {error.strerror}. {ANOTHER_FOLDER}") from None
    if free < LEAST_FREE:
        raise SettingsError(
            f"STATE_DIR {folder} is on a disk with {free // 2**20} MB left, and {LEAST_FREE // 2**20} are needed. "
            + ANOTHER_FOLDER
        )


def take_place(settings: Settings) -> Sockets:
    """Become the launcher of STATE_DIR.

    Raises
    ------
    SettingsError
        A launcher runs already, or PORT is taken, or STATE_DIR cannot be used.
    """
    open_state_dir(settings.state_dir)
    processes = Processes(settings.state_dir)
    lock = processes.launcher.try_claim()
    if lock is None:
        stop = command("stop", settings.state_dir)
        raise SettingsError(f"AIDeer already runs with STATE_DIR {settings.state_dir}. Stop it with: {stop}")
    processes.launcher.hold(lock, os.getpid())
    processes.stop()  # if the launcher and the supervisor were both killed, other processes may still run
    Stack.forget(settings.state_dir)
    return open_sockets(settings)


def main() -> int:
    """Launch the stack."""
    os.umask(0o077)  # the stack writes keys, so only the owner may read its files; child processes inherit this
    try:
        settings = Settings.read()
        if len(sys.argv) > 1:
            return Launcher(settings, Sockets.parse(sys.argv[1:])).run()
        prices.check_table(prices.TABLES / f"{settings.provider_region}.json")
        sockets = take_place(settings)
    except (SettingsError, prices.PriceTableError) as error:
        print(error, file=sys.stderr)
        return 1
    os.environ["STATE_DIR"] = str(settings.state_dir)  # the children may have another working directory
    say("AIDeer is starting; the first time it makes its tables, which takes a little longer.")
    return Launcher(settings, sockets).run()


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:  # before anything was started
        code = 130
    sys.stdout.flush()
    os._exit(code)  # the watching threads never end
