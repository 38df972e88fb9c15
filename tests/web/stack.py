"""A local stack for the browser tests, and its users."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
ADMIN = ("admin", "admin123")
PASSWORD = "a-deer-in-the-fog-7"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
"""Variables that a stack gets from the tests. All others could be of a developer's own stack."""


@dataclass
class Person:
    """A signed-in user of the stack, and what it may do without a browser."""

    url: str
    username: str
    password: str
    tokens: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=PATIENCE_SECONDS, trust_env=False)
        weakref.finalize(self, self.http.close)
        form = {"grant_type": "password", "username": self.username, "password": self.password}
        self.tokens = self.checked(self.http.post("/session/oauth2/token", data=form)).json()
        self.http.headers["Authorization"] = f"Bearer {self.tokens['access_token']}"

    @staticmethod
    def checked(answer: httpx.Response) -> httpx.Response:
        """Return the response, if it is no refusal."""
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer

    def get(self, path: str, **query: Any) -> Any:
        """GET a path below /api/v1, and return its JSON."""
        return self.checked(self.http.get(path, params=query or None)).json()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """POST JSON, and return JSON."""
        return self.checked(self.http.post(path, json=body, headers=headers)).json()

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        """PUT JSON, and return JSON."""
        return self.checked(self.http.put(path, json=body, headers=headers)).json()

    def preset(self, title: str = "Deer", model: str = "qwen-plus", **more: Any) -> str:
        """Make a preset, and return its id."""
        body = {"title": title, "parameters": {"model": model}, "messages": [], **more}
        return str(self.post("/presets", body)["id"])

    def chat(self, title: str = "A chat", messages: list[dict[str, Any]] | None = None, preset_id: str = "") -> str:
        """Open a chat, and return its id."""
        body = {"preset_id": preset_id or self.preset(), "title": title, "messages": messages or []}
        return str(self.post("/chats", body)["id"])

    def ask(self, chat_id: str, question: str) -> dict[str, Any]:
        """Ask, and wait for the end of the answer. Return its task."""
        body = {"chat_id": chat_id, "messages": [{"role": "user", "content": question}], "stream": False}
        task_id = self.post("/tasks", body, **{"Idempotency-Key": secrets.token_hex(8)})["task_id"]
        return self.ended(task_id)

    def echo(self, chat_id: str, text: str) -> dict[str, Any]:
        """Make an answer that is exactly this text. Return its task."""
        return self.ask(chat_id, f"/sim echo delay=0\n{text}")

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of a task, and return it."""

        def closed() -> Any:
            task = self.get(f"/tasks/{task_id}")
            return task if task["status"] in ("finished", "stopped", "failed") else None

        return dict(until(closed, f"task {task_id} ends"))


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    url: str
    state_dir: Path

    def person(self, prefix: str = "u", **profile: Any) -> Person:
        """Sign up a new user. `profile` has further fields of POST /users."""
        username = f"{prefix}{secrets.token_hex(5)}"
        body = {"username": username, "password": PASSWORD, **profile}
        Person.checked(httpx.post(f"{self.url}/api/v1/users", json=body, timeout=PATIENCE_SECONDS, trust_env=False))
        return Person(self.url, username, PASSWORD)

    def admin(self) -> Person:
        """Sign in the administrator."""
        return Person(self.url, *ADMIN)


def free_port() -> int:
    """Return a port that nothing uses, from WEB_TEST_PORTS (such as 8110-8119) if it is set."""
    first, _, last = os.environ.get("WEB_TEST_PORTS", "0-0").partition("-")
    for port in range(int(first), int(last) + 1):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise AssertionError("no port is free")


@contextlib.contextmanager
def running(state_dir: Path, **environment: str) -> Iterator[Stack]:
    """Run a stack on a port of its own."""
    process, stack = _start(state_dir, environment)
    try:
        yield stack
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)


def _start(state_dir: Path, environment: dict[str, str], attempts: int = 3) -> tuple[subprocess.Popen[bytes], Stack]:
    port = free_port()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    with (state_dir / "console.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "local.stack.run"],
            cwd=ROOT,
            env={**kept, "PORT": str(port), "STATE_DIR": str(state_dir / "state"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    stack = Stack(f"http://127.0.0.1:{port}", state_dir / "state")

    def ready() -> bool:
        if process.poll() is not None:
            return True
        return httpx.get(f"{stack.url}/api/v1/health", timeout=10, trust_env=False).status_code == httpx.codes.OK

    try:
        until(ready, "the stack is ready")
    except BaseException:
        process.send_signal(signal.SIGINT)
        raise
    if process.poll() is None:
        return process, stack
    # Another program may have taken the port since.
    assert attempts > 1, (state_dir / "console.log").read_text()
    return _start(state_dir, environment, attempts - 1)
