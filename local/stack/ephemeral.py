"""A temporary stack on a free port, for measurements and for tests of the whole."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.stack.processes import ROOT, Processes

NOT_INHERITED = ("DASHSCOPE_", "WECHAT_", "ADMIN_", "SIGNUP_", "WORKERS", "LEASE_", "SWEEP_")
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class EphemeralStackError(Exception):
    """The stack did not start. The message is for the console."""


@dataclass(frozen=True)
class EphemeralStack:
    """A running stack."""

    url: str
    port: int
    state_dir: Path
    ready_seconds: float
    """Seconds from starting `python -m local.stack.run` to the first healthy answer."""


@contextlib.contextmanager
def run_ephemeral(state_dir: Path, **variables: str) -> Iterator[EphemeralStack]:
    """Run a stack in this state directory. `variables` are those of `make run`. The simulated DashScope answers.

    Raises
    ------
    TrialError
        The stack did not start.
    """
    port = find_free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    state_dir.mkdir(parents=True, exist_ok=True)
    console = state_dir / "console.log"
    with console.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "local.stack.run"],
            cwd=ROOT,
            env={**inherited, "PORT": str(port), "STATE_DIR": str(state_dir), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while not _is_healthy(port):
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise EphemeralStackError(f"the stack did not start: {console.read_text(errors='replace')}")
            time.sleep(0.01)
        yield EphemeralStack(f"http://127.0.0.1:{port}", port, state_dir, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        Processes(state_dir).stop()  # a launcher that was killed may leave processes
        process.kill()
        process.wait()


def find_free_port() -> int:
    """Return a port of the loopback interface that no process uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/v1/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
