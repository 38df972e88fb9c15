"""The processes of the local stack. Each process holds a lock on a file as long as it lives.

So any process can see whether another lives, wait for its end, or take its place, without being its parent. If a process that
watches others is killed, the others continue, and its successor takes them over. This module imports only the standard library,
because the two watching processes should use little memory.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY = "READY"
"""The line that a process prints on its standard output when it is ready."""
POLL_SECONDS = 0.05
STOP_SECONDS = 15.0
"""Seconds that the answering processes may take to end."""


class Process:
    """One named process: its lock, its log, and its start.

    Parameters
    ----------
    name
        Names the lock and the log in state_dir.
    state_dir
        The folder of both.
    arguments
        The arguments after `python -m`.
    files
        Descriptors that it inherits, under the same numbers.
    """

    def __init__(self, name: str, state_dir: Path, arguments: Sequence[str], files: Iterable[int] = ()) -> None:
        self.name = name
        self.log = state_dir / "logs" / f"{name}.log"
        self._lock = state_dir / "run" / f"{name}.lock"
        self._arguments = arguments
        self._files = tuple(files)
        self._child: subprocess.Popen[bytes] | None = None

    def claim(self) -> int:
        """Wait for the process's end, take its lock, and return the locked descriptor for start() or os.close()."""
        lock = self._open()
        fcntl.flock(lock, fcntl.LOCK_EX)
        return self._claimed(lock)

    def try_claim(self) -> int | None:
        """Take the lock without waiting. Return None while the process lives."""
        lock = self._open()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return self._claimed(lock)

    def _open(self) -> int:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)

    def _claimed(self, lock: int) -> int:
        os.ftruncate(lock, 0)  # the pid of the previous process is no longer valid
        if self._child:
            self._child.wait()
        return lock

    def hold(self, lock: int, pid: int) -> None:
        """Write down which process holds the claimed lock."""
        os.pwrite(lock, str(pid).encode(), 0)

    def start(self, lock: int) -> None:
        """Start the process with the claimed lock, which it then holds. Its previous log becomes <name>.log.1."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                cwd=ROOT,
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock, *self._files),
                start_new_session=True,  # Ctrl-C is only for the launcher, which stops the others in order
            )
        self.hold(lock, self._child.pid)
        os.close(lock)

    @property
    def pid(self) -> int | None:
        """The process's pid while it lives."""
        with contextlib.suppress(ValueError, FileNotFoundError):
            return int(self._lock.read_text()) if self._lives else None
        return None

    @property
    def _lives(self) -> bool:
        """Whether a process holds the lock. This check creates no file, so it leaves an unused folder unchanged."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._lock.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def exit_code(self) -> int | None:
        """The exit code, if this object started the process."""
        return self._child.returncode if self._child else None

    @property
    def is_ready(self) -> bool:
        """Whether the process lives and has announced that it is ready."""
        if self.pid is None:
            return False
        with contextlib.suppress(FileNotFoundError), self.log.open(errors="replace") as lines:
            return any(line.startswith(READY) for line in lines)
        return False

    def wait_until_ready(self, seconds: float) -> bool:
        """Wait until the process is ready. Return False if that takes longer, or if it ends first."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.is_ready:
                return True
            if self._child and self._child.poll() is not None:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it lives."""
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for the process's end. Return False if it still lives after that time."""
        deadline = time.monotonic() + seconds
        while self._lives:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        if self._child:
            self._child.wait()
        return True

    def stop(self, seconds: float) -> None:
        """Ask the process to end. Kill it if it has not ended after that time."""
        self.signal(signal.SIGTERM)
        if not self.wait(seconds):
            self.signal(signal.SIGKILL)
            self.wait(5)


@dataclass(frozen=True)
class Sockets:
    """The stack's ports. The sockets stay open while any watching process lives.

    So a connection that arrives while a process is replaced waits, and is not refused.
    """

    public: int
    """Descriptor of the socket bound to PORT."""
    aws: int
    """Descriptor of the embedded AWS's socket."""
    aws_port: int
    dashscope_port: int
    wechat_port: int

    @property
    def endpoint(self) -> str:
        """The URL of the embedded AWS."""
        return f"http://127.0.0.1:{self.aws_port}"

    @property
    def arguments(self) -> list[str]:
        """The sockets as command-line arguments."""
        numbers = (self.public, self.aws, self.aws_port, self.dashscope_port, self.wechat_port)
        return [str(number) for number in numbers]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "Sockets":
        """Read the sockets from command-line arguments."""
        return cls(*(int(argument) for argument in arguments))


class Processes:
    """All processes of one stack. Without sockets they can be inspected and stopped, but not started."""

    def __init__(self, state_dir: Path, sockets: Sockets | None = None) -> None:
        self.data_dir = state_dir / "aws"
        public, aws = (str(sockets.public), str(sockets.aws)) if sockets else ("", "")
        dashscope, wechat = (str(sockets.dashscope_port), str(sockets.wechat_port)) if sockets else ("", "")
        arguments = sockets.arguments if sockets else []
        files = (sockets.public, sockets.aws) if sockets else ()
        self.launcher = Process("launcher", state_dir, ["local.stack.run", *arguments], files)
        self.supervisor = Process("supervisor", state_dir, ["local.stack.supervisor", *arguments], files)
        self.ministack = Process(
            "ministack", state_dir, ["local.stack.ministack_server", aws, str(self.data_dir), "serve"], files[1:]
        )
        self.dashscope = Process("dashscope", state_dir, ["local.simulators.dashscope", "--port", dashscope])
        self.wechat = Process("wechat", state_dir, ["local.simulators.wechat", "--port", wechat])
        self.front = Process("front", state_dir, ["local.stack.server", public], files[:1])
        self.background = Process("background", state_dir, ["local.stack.event_sources"])

    @property
    def logged(self) -> list[Process]:
        """The processes whose errors the console shows."""
        return [self.supervisor, self.ministack, self.dashscope, self.wechat, self.front, self.background]

    def stop(self) -> None:
        """Stop all but the launcher: first the supervisor, which would restart the others; last ministack, which keeps the data."""
        self.supervisor.stop(10)
        working = [
            threading.Thread(target=process.stop, args=(STOP_SECONDS,)) for process in (self.front, self.background)
        ]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
        self.dashscope.stop(2)
        self.wechat.stop(2)
        self.ministack.stop(60)


def announce_ready() -> None:
    """Announce that this process is ready. The line stays separate even if other threads print."""
    os.write(1, f"\n{READY}\n".encode())


def own_environment() -> dict[str, str]:
    """Return this process's environment for its children, without the user's AWS account and with no proxy for loopback."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    outside = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    no_proxy = f"{outside},127.0.0.1,localhost" if outside else "127.0.0.1,localhost"
    return environment | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS: the nursery forks, and has started no thread
        # glibc would give each thread its own arena, and would not return freed memory.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "SAM_CLI_TELEMETRY": "0",
    }


def listener(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Bind a port (0: any free one) without listening. The process that inherits the socket listens when it is ready.

    Raises
    ------
    OSError
        The port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
