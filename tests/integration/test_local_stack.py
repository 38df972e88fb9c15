"""`make run` itself: it says what it is, outlives who watches it, stops cleanly, and has its data the next time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local.processes import ROOT, Process, Processes, listener
from tests.integration.stacks import ADMIN, Client, Stack, until

SECONDS = 40.0
"""The longest that anything here may take on a busy machine."""


class Run:
    """The commands of one stack, in a state directory and on a port of its own, and what they say."""

    def __init__(self, state_dir: Path) -> None:
        with listener(0) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.stack = Stack(self.url, state_dir)
        self.state_dir = state_dir
        self.processes = Processes(state_dir)
        self._console = state_dir.with_suffix(".txt")
        self._started = contextlib.ExitStack()

    def start(self, module: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command, without what the tests have in their own environment."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "NO_PROXY") if name in os.environ}
        own = {"PORT": str(self.port), "STATE_DIR": str(self.state_dir), "WORKERS": "1"}
        with self._console.open("wb") as console:
            process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=ROOT, env=kept | own | environment, stdout=console, stderr=console
            )
        self._started.callback(process.wait)
        return process

    def start_stack(self) -> subprocess.Popen[bytes]:
        """`make run`, until it is ready."""
        launcher = self.start("local.run")
        until(lambda: launcher.poll() is not None or self.is_healthy(), SECONDS, "ready")
        assert launcher.poll() is None, self.console
        return launcher

    def stop(self) -> int:
        """`make stop`, whatever there is."""
        code = self.start("local.stop").wait(SECONDS)
        self._started.close()
        return code

    @property
    def console(self) -> str:
        return self._console.read_text()

    @property
    def left(self) -> list[str]:
        """The processes that live."""
        processes = [self.processes.launcher, *self.processes.logged]
        return [process.name for process in processes if process.pid]

    def is_healthy(self) -> bool:
        return httpx.get(f"{self.url}/api/v1/health", timeout=SECONDS).status_code == 200

    def kill(self, process: Process) -> None:
        """Kill a process, and wait until another does its work."""
        before = process.pid
        assert before
        os.kill(before, signal.SIGKILL)
        until(lambda: process.pid not in (None, before), SECONDS, f"another {process.name}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("stack") / "state")
    run.start_stack()
    yield run
    run.stop()


def test_the_console_says_what_there_is(run: Run) -> None:
    until(lambda: "ready" in run.console, SECONDS, "the console")

    assert f"{run.url}/docs" in run.console
    assert "DashScope" in run.console
    assert " / ".join(ADMIN) in run.console


def test_no_answer_notices_the_death_of_who_watches(run: Run) -> None:
    me = Client(run.stack)
    accepted = me.ask("/sim tokens=50 delay=20")

    with me.http.stream("GET", accepted["stream_url"]) as answer:
        lines = answer.iter_lines()
        assert "open" in next(lines)
        run.kill(run.processes.supervisor)
        run.kill(run.processes.launcher)
        assert any('"finished"' in line for line in list(lines))


def test_the_embedded_aws_comes_back_after_its_death(run: Run) -> None:
    run.kill(run.processes.ministack)

    until(lambda: Client(run.stack).get("/users/me"), SECONDS, "the API")


def test_a_browser_may_read_the_stream(run: Run) -> None:
    headers = {
        "Origin": "https://app.test",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "Authorization, Last-Event-ID",
    }
    answer = httpx.options(f"{run.url}/api/v1/tasks/1/stream", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_second_launcher_says_that_there_is_one(run: Run) -> None:
    second = Run(run.state_dir)

    assert second.start("local.run").wait(SECONDS) == 1
    assert "make stop" in second.console
    assert run.is_healthy()


def test_a_stack_without_a_console_can_be_stopped_and_its_data_are_there_again(run: Run) -> None:
    me = Client(run.stack)
    user = me.get("/users/me")
    run.kill(run.processes.launcher)

    assert run.stop() == 0
    assert run.left == []

    run.start_stack()
    assert me.get("/users/me") == user  # the token, too, is as good as it was


def test_control_c_stops_everything_quietly_once_the_answer_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")
    launcher = run.start_stack()
    me = Client(run.stack)
    accepted = me.ask("/sim tokens=40 delay=20")

    with me.http.stream("GET", accepted["stream_url"]) as answer:
        lines = answer.iter_lines()
        assert "open" in next(lines)
        launcher.send_signal(signal.SIGINT)
        assert any('"finished"' in line for line in list(lines))

    assert launcher.wait(SECONDS) == 0
    assert run.left == []
    assert "Traceback" not in run.console
    assert run.console.rstrip().endswith("stopped")
    assert json.loads((run.processes.data_dir / "dynamodb.json").read_text())["payload"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")
    with listener(run.port) as sock:
        sock.listen()
        assert run.start("local.run").wait(SECONDS) == 1

    assert f"PORT {run.port}" in run.console


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORKERS", "abc"), ("PORT", "0"), ("LEASE_SECONDS", "nan"), ("SIGNUP_CREDITS", "-1"), ("THROTTLES", "redeem=20")],
)
def test_a_bad_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    run = Run(tmp_path / "state")

    assert run.start("local.run", **{name: value}).wait(SECONDS) == 1
    assert f"{name}={value}" in run.console
    assert "Traceback" not in run.console
