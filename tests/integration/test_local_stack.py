"""`make run` itself: it says what it is, outlives who watches it, stops cleanly, and has its data the next time."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from local.stack import resources
from local.stack import state as local_stack
from local.stack.processes import ROOT, Process, Processes, listener
from local.stack.run import open_state_dir
from local.stack.settings import SettingsError
from local.stack.state import Stack as RunningStack
from tests.integration.stacks import ADMIN, Client, Stack, only_running
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.early

APP = "https://app.test"


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
        own = {"PORT": str(self.port), "STATE_DIR": str(self.state_dir), "WORKERS": "1", "ALLOWED_ORIGINS": APP}
        own["PYTHONPATH"] = only_running()
        with self._console.open("wb") as console:
            process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=ROOT, env=kept | own | environment, stdout=console, stderr=console
            )
        self._started.callback(process.wait)
        return process

    def start_stack(self) -> subprocess.Popen[bytes]:
        """`make run`, until it is ready."""
        launcher = self.start("local.stack.run")
        until(lambda: launcher.poll() is not None or self.is_healthy(), "ready")
        assert launcher.poll() is None, self.console
        return launcher

    def stop(self) -> int:
        """`make stop`, whatever there is."""
        code = self.start("local.stack.stop").wait(PATIENCE_SECONDS)
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
        return httpx.get(f"{self.url}/api/v1/health", timeout=10).status_code == 200

    def kill(self, process: Process) -> None:
        """Kill a process, and wait until another does its work."""
        before = process.pid
        assert before
        os.kill(before, signal.SIGKILL)
        until(lambda: process.pid not in (None, before), f"another {process.name}")


def endpoint(run: Run) -> str:
    """Where the embedded AWS of a stack is now."""
    found: str = local_stack.Stack.wait(run.state_dir).environment["AWS_ENDPOINT_URL"]
    return found


def queue_urls(run: Run) -> list[str]:
    """What ListQueues says."""
    found: list[str] = resources.client("sqs", endpoint(run)).list_queues()["QueueUrls"]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("stack") / "state")
    run.start_stack()
    yield run
    run.stop()


def test_the_console_says_what_there_is(run: Run) -> None:
    until(lambda: f"{run.url}/docs" in run.console, "the console")

    assert "DashScope" in run.console
    assert " / ".join(ADMIN) in run.console


def test_each_request_is_a_line_on_the_console_without_its_query(run: Run) -> None:
    httpx.get(
        f"{run.url}/api/v1/nothing-of-that-name?ticket=geheim",
        headers={"Authorization": "Bearer geheim"},
        timeout=PATIENCE_SECONDS,
    )
    line = r"^GET /api/v1/nothing-of-that-name 404 \d+ ms$"
    until(lambda: re.search(line, run.console, re.MULTILINE), "the line")
    me = Client(run.stack)
    me.watch(me.ask("/sim tokens=3")["stream_url"])
    until(
        lambda: re.search(r"^GET /api/v1/tasks/\S+/stream 200 \d+ ms$", run.console, re.MULTILINE),
        "the stream",
    )
    for secret in ("geheim", "ticket", "secret-123", "Bearer"):
        assert secret not in run.console


def test_no_answer_notices_the_death_of_who_watches(run: Run) -> None:
    me = Client(run.stack)
    accepted = me.ask("/sim tokens=50 delay=20")

    with me.http.stream("GET", accepted["stream_url"]) as answer:
        lines = answer.iter_lines()
        assert "start" in next(lines)
        run.kill(run.processes.supervisor)
        run.kill(run.processes.launcher)
        assert any('"finished"' in line for line in list(lines))


def test_the_embedded_aws_comes_back_after_its_death(run: Run) -> None:
    run.kill(run.processes.ministack)

    until(lambda: Client(run.stack).get("/users/me"), "the API")


@pytest.mark.parametrize("path", ["/api/v1/tasks/1/stream", "/api/v1/users/me"])
def test_a_page_that_is_listed_may_read_answers_and_another_may_not(run: Run, path: str) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "Authorization, Last-Event-ID"}

    def let_in(origin: str) -> list[str | None]:
        answers = [
            httpx.options(f"{run.url}{path}", headers={"Origin": origin, **asked}, timeout=PATIENCE_SECONDS),
            httpx.get(f"{run.url}{path}", headers={"Origin": origin}, timeout=PATIENCE_SECONDS),
        ]
        return [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]

    assert let_in(APP) == [APP, APP]
    assert let_in("https://evil.test") == [None, None]


def test_no_page_reads_the_embedded_aws_where_the_keys_are(run: Run) -> None:
    endpoint = RunningStack.wait(run.state_dir).endpoint
    call = {"X-Amz-Target": "secretsmanager.ListSecrets", "Content-Type": "application/x-amz-json-1.1"}

    own = httpx.post(endpoint, headers=call, json={}, timeout=PATIENCE_SECONDS)
    assert own.status_code == 200
    page = httpx.post(endpoint, headers={**call, "Origin": "https://evil.test"}, json={}, timeout=PATIENCE_SECONDS)
    assert not [name for name in page.headers if name.lower().startswith("access-control-")]
    rebound = httpx.post(
        endpoint,
        headers={**call, "Host": f"evil.test:{endpoint.rpartition(':')[2]}"},
        json={},
        timeout=PATIENCE_SECONDS,
    )
    assert rebound.status_code == 403


def test_the_printed_address_leads_somewhere(run: Run) -> None:
    page = httpx.get(run.url, timeout=PATIENCE_SECONDS)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    addresses = re.findall(r' (?:href|src)="(/[^"]*)"', page.text)
    assert len(addresses) > 5
    for address in addresses:
        answer = httpx.get(f"{run.url}{address}", timeout=PATIENCE_SECONDS)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True), address


def test_a_body_in_chunks_arrives(run: Run) -> None:
    name = uuid4().hex
    pieces = [b'{"username":"', name.encode(), b'","password":"secret-123"}']
    answer = httpx.post(
        f"{run.url}/api/v1/users",
        content=iter(pieces),
        headers={"Content-Type": "Application/JSON"},
        timeout=PATIENCE_SECONDS,
    )

    assert (answer.status_code, answer.json()["username"]) == (200, name)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/health", "/api/v1/prices", "/api/v1/config", "/openapi.json", "/docs", "/", "/s/abc", "/web/aideer.js"],
)
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_head_is_get_without_its_body(run: Run, path: str, encoding: str) -> None:
    head, get = (
        httpx.request(method, f"{run.url}{path}", headers={"Accept-Encoding": encoding}, timeout=PATIENCE_SECONDS)
        for method in ("HEAD", "GET")
    )

    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize("path", ["//api/v1/health", "/api/v1/health/", "/api//v1/health", "//users"])
def test_a_path_is_a_routes_as_it_is_or_nothings(run: Run, path: str) -> None:
    answer = httpx.get(f"{run.url}{path}", timeout=PATIENCE_SECONDS)

    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_an_address_above_ten_kilobytes_is_refused(run: Run) -> None:
    assert httpx.get(f"{run.url}/api/v1/health?{'a' * 20_000}", timeout=PATIENCE_SECONDS).status_code == 431


def test_a_queues_address_names_a_port_that_lives(run: Run) -> None:
    assert len(queue_urls(run)) > 2
    for url in queue_urls(run):
        assert urlsplit(url).netloc == urlsplit(endpoint(run)).netloc


def test_a_second_launcher_says_that_there_is_one(run: Run) -> None:
    second = Run(run.state_dir)

    assert second.start("local.stack.run").wait(PATIENCE_SECONDS) == 1
    assert f"Stop it with: STATE_DIR={run.state_dir} make stop" in second.console
    assert run.is_healthy()


def test_a_stack_without_a_console_can_be_stopped_and_its_data_are_there_again(run: Run) -> None:
    me = Client(run.stack)
    user = me.get("/users/me")
    run.kill(run.processes.launcher)

    assert run.stop() == 0
    assert run.left == []

    run.start_stack()
    assert me.get("/users/me") == user  # the token, too, is as good as it was
    assert {urlsplit(url).netloc for url in queue_urls(run)} == {urlsplit(endpoint(run)).netloc}


def test_control_c_stops_everything_quietly_once_the_answer_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")
    launcher = run.start_stack()
    me = Client(run.stack)
    accepted = me.ask("/sim tokens=40 delay=20")

    with me.http.stream("GET", accepted["stream_url"]) as answer:
        lines = answer.iter_lines()
        assert "start" in next(lines)
        launcher.send_signal(signal.SIGINT)
        assert any('"finished"' in line for line in list(lines))

    assert launcher.wait(PATIENCE_SECONDS) == 0
    assert run.left == []
    assert "Traceback" not in run.console
    assert run.console.rstrip().endswith("stopped")
    assert json.loads((run.processes.data_dir / "dynamodb.json").read_text())["payload"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")
    with listener(run.port) as sock:
        sock.listen()
        assert run.start("local.stack.run").wait(PATIENCE_SECONDS) == 1

    assert f"PORT {run.port}" in run.console


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "abc"), ("THROTTLES", "redeem=20")])
def test_a_bad_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    run = Run(tmp_path / "state")

    assert run.start("local.stack.run", **{name: value}).wait(PATIENCE_SECONDS) == 1
    assert run.console.startswith(f"{name}={value}")
    assert run.console.count("\n") == 1


def test_a_bad_value_does_not_keep_a_stack_from_being_stopped(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")

    assert run.start("local.stack.stop", WORKERS="abc").wait(PATIENCE_SECONDS) == 0
    assert "nothing runs" in run.console


def test_an_admin_that_the_api_refuses_is_named_without_the_password(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")

    assert run.start("local.stack.run", ADMIN_PASSWORD="ge\u200bh").wait(PATIENCE_SECONDS) == 1
    assert "ERROR ADMIN_PASSWORD: " in run.console
    assert "Traceback" not in run.console
    assert "ge\u200bh" not in run.console


def test_stopping_makes_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "state")

    assert run.stop() == 0
    assert f"nothing runs with STATE_DIR {run.state_dir}" in run.console
    assert not run.state_dir.exists()
    run.state_dir.mkdir()
    assert run.stop() == 0
    assert not list(run.state_dir.iterdir())


@pytest.mark.parametrize("command", ["local.stack.run", "local.stack.stop", "local.operations.dlq"])
@pytest.mark.parametrize("name", ["a file", "a file/below", "n" * 300])
def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "a file").touch()
    run = Run(tmp_path / name)
    run._console = tmp_path / "console.txt"

    assert run.start(command).wait(PATIENCE_SECONDS) == (1 if command != "local.stack.stop" or len(name) == 300 else 0)
    assert run.console.count("\n") == 1
    assert "Traceback" not in run.console
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "console.txt"]


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(SettingsError, match="1 MB left"):
        open_state_dir(tmp_path / "state")


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root, who runs CI, may write anywhere
    with pytest.raises(SettingsError, match=r"cannot be used: Permission denied\. Choose another folder"):
        open_state_dir(tmp_path / "state")


def test_what_an_earlier_version_left_is_closed_to_others_and_nothing_else_is_touched(tmp_path: Path) -> None:
    for name in ("aws/dynamodb.json", "run/stack.json", "logs/front.log", "chat.json", "mine/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    (tmp_path / "aws").chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "logs" / "elsewhere").symlink_to(tmp_path / "mine" / "notes.txt")

    open_state_dir(tmp_path)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path, *tmp_path.rglob("*")]}
    assert modes["aws"] == 0o700
    assert {modes[name] for name in ("dynamodb.json", "stack.json", "front.log", "chat.json")} == {0o600}
    assert (modes["notes.txt"], modes[tmp_path.name]) == (0o644, 0o755)


def test_nothing_that_a_stack_keeps_is_for_others_to_read(run: Run) -> None:
    paths = [run.state_dir, *run.state_dir.rglob("*")]
    assert {"stack.json", "front.log"} <= {path.name for path in paths}
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
