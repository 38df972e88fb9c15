"""`make run` as a child process, and its clients, for tests that look at the whole product from outside."""

import atexit
import contextlib
import functools
import importlib.metadata
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from local.stack.processes import Processes, listener
from tests.events import Stream, parse
from tests.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).parents[2]
ADMIN = ("admin", "admin123")


class Stack:
    """A running stack."""

    def __init__(self, url: str, state_dir: Path) -> None:
        self.url = url
        self.state_dir = state_dir

    def ready(self) -> None:
        """Wait until any endpoint would answer."""
        until(self.answers, "ready")

    def answers(self) -> bool:
        """Whether any endpoint would answer now."""
        return httpx.get(f"{self.url}/api/v1/health", timeout=10).status_code == 200

    def pid(self, kind: str) -> int:
        """The process of this kind: one of local.stack.processes, zygote (the workers' parent), or worker."""
        parent = {"zygote": "front", "worker": "zygote"}.get(kind)
        if parent:
            children = subprocess.run(
                ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
            ).stdout.split("\n")
            return next(int(row.split()[0]) for row in children if row.split()[1:] == [str(self.pid(parent))])
        pid = getattr(Processes(self.state_dir), kind).pid
        assert pid, f"no {kind}"
        return int(pid)


REFUSE = """
import sys
from importlib.abc import MetaPathFinder

class Refusing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"{name} is not in requirements-run.txt", name=name)

sys.meta_path.insert(0, Refusing())
ABSENT = """


@functools.cache
def only_running() -> str:
    """A folder for PYTHONPATH that leaves a Python with the packages of requirements-run.txt, as `make run` has it."""
    pins = (ROOT / "requirements-run.txt").read_text(encoding="utf-8").splitlines()
    there = {canonical(line.partition("==")[0]) for line in pins} | {"pip"}
    absent = {
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if not any(canonical(package) in there for package in packages)
    }
    assert {"pytest", "mypy", "cfnlint"} <= absent
    folder = Path(tempfile.mkdtemp(prefix="aideer-tests-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "sitecustomize.py").write_text(REFUSE + repr(absent))
    return str(folder)


def canonical(package: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()


@contextlib.contextmanager
def running(state_dir: Path, **environment: str) -> Iterator[Stack]:
    """A stack on a free port, ready."""
    process, stack = _start(state_dir, environment)
    try:
        yield stack
    finally:
        os.kill(stack.pid("launcher"), signal.SIGINT)  # not always the one that was started here
        process.wait(PATIENCE_SECONDS)


def _start(state_dir: Path, environment: dict[str, str], attempts: int = 3) -> tuple[subprocess.Popen[bytes], Stack]:
    with listener(0) as sock:
        port = sock.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_TABLE", "_URL", "_ARN"))}
    for name in (
        "SIGNUP_CREDITS",
        "UNCOVERED_CREDITS",
        "OPEN_TASKS",
        "THROTTLES",
        "MOST_CHATS",
        "LEASE_SECONDS",
        "TASK_SECONDS",
        "WECHAT_LOGIN_PAGE",
    ):
        clean.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "local.stack.run"],
        cwd=ROOT,
        env={**clean, "PORT": str(port), "STATE_DIR": str(state_dir), "PYTHONPATH": only_running(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack = Stack(f"http://127.0.0.1:{port}", state_dir)
    try:
        until(lambda: process.poll() is not None or stack.answers(), "ready")
    except BaseException:
        process.send_signal(signal.SIGINT)
        raise
    if process.poll() is None:
        return process, stack
    assert attempts > 1, f"it ended with {process.returncode}"  # another program may have taken the port since
    return _start(state_dir, environment, attempts - 1)


class Client:
    """One signed-in user of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.http = httpx.Client(base_url=f"{stack.url}/api/v1", timeout=PATIENCE_SECONDS)
        weakref.finalize(self, self.http.close)
        name = f"u{random.randrange(10**12)}"
        self.post("/users", {"username": name, "password": "secret-123"})
        form = {"grant_type": "password", "username": name, "password": "secret-123"}
        tokens = self.http.post("/session/oauth2/token", data=form).json()
        self.token: str = tokens["access_token"]
        self.http.headers["Authorization"] = f"Bearer {self.token}"
        preset = {"title": "Test", "type": "chat_generation", "parameters": {"model": "qwen-plus"}, "messages": []}
        self.preset_id = self.post("/presets", preset)["id"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()
        return value

    def get(self, path: str) -> dict[str, Any]:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()
        return value

    def chat(self, question: str) -> str:
        message = {"role": "user", "type": "text", "content": question, "visibility": True}
        chat_id: str = self.post("/chats", {"preset_id": self.preset_id, "title": "Test", "messages": [message]})["id"]
        return chat_id

    def ask(self, question: str, *, stream: bool = True) -> dict[str, Any]:
        return self.post("/tasks", {"chat_id": self.chat(question), "stream": stream})

    def task(self, task_id: str) -> dict[str, Any]:
        return self.get(f"/tasks/{task_id}")

    def ended(self, task_id: str) -> dict[str, Any]:
        def closed() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in ("finished", "stopped", "failed") else None

        task: dict[str, Any] = until(closed, f"task {task_id} ends")
        return task

    def watch(self, url: str) -> Stream:
        """The stream to its end, as far as the connection holds."""
        text = ""
        with contextlib.suppress(httpx.HTTPError), self.http.stream("GET", url) as answer:
            for piece in answer.iter_text():
                text += piece
        return parse(text)
