"""What somebody does first: the README's calls as they stand there, `make demo` and `make chat`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from local.clients.client import Client, End, Piece, Start
from tests.events import parse
from tests.integration.stacks import ROOT, Stack, only_running, running
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.early

README, TOUR, WECHAT = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tour.md", "docs/wechat.md")
)
JOURNEY = README.partition("## The journey in five calls")[2].partition("\n## ")[0]
MORE_CALLS, WAYS_TO_ASK, OF_A_FRONT_END = (
    TOUR.partition(f"## {title}")[2].partition("\n## ")[0]
    for title in ("More calls", "Ways to ask", "The calls of a front end")
)
BLOCKS, MORE, ASK, FRONT_END, WECHAT_BLOCKS = (
    re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for page in (JOURNEY, MORE_CALLS, WAYS_TO_ASK, OF_A_FRONT_END, WECHAT)
)
OUTPUT = [line.strip() for line in re.findall(r"^    (\S.*)$", JOURNEY, re.MULTILINE)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("first-look"), WORKERS="2") as started:
        yield started


def ran(command: list[str], stack: Stack, said: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PORT": stack.url.rpartition(":")[2], "STATE_DIR": str(stack.state_dir)}
    environment["PYTHONPATH"] = only_running()
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=said, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def test_the_readme_s_five_calls_work_as_pasted(stack: Stack) -> None:
    assert len(BLOCKS) == 7, "what saves typing, five calls, the credits"
    script = "\necho -----\n".join(["set -eu", *BLOCKS]).replace("http://127.0.0.1:8000", stack.url)
    done = ran(["bash", "-c", script], stack)
    assert done.returncode == 0, done.stderr
    _, _, user, *_, stream, ledger = done.stdout.split("-----\n")
    assert json.loads(user)["username"] == "ada"
    shown = parse(stream)
    assert shown.final["status"] == "finished"
    assert shown.content == shown.final["content"]
    assert "你好, who are you?" in shown.content
    assert [line for line in stream.splitlines() if line][:2] == OUTPUT[:2]  # then come ids
    assert shown.content.startswith(parse("\n\n".join(OUTPUT)).content.strip())  # a busy machine joins events
    assert json.loads(ledger)["credits_left"] == 1_000_000 - shown.final["credits"]


def test_the_rest_works_as_pasted(stack: Stack) -> None:
    assert len(MORE) == 4, "a code, a picture, a shared chat, statistics"
    script = "\n".join(["set -eu", *BLOCKS, "echo -----", *MORE]).replace("http://127.0.0.1:8000", stack.url)
    done = ran(
        ["bash", "-c", script.replace("\ncurl ", "\necho; curl ").replace("\nprintf ", "\necho; printf ")], stack
    )
    assert done.returncode == 0, done.stderr
    redeemed, user, shared, liked, copy, *export, statistics = done.stdout.partition("-----\n")[2].strip().split("\n")
    assert json.loads(redeemed)["value"] == 10_000
    assert json.loads(user)["avatar"]
    assert json.loads(shared)["visibility"] == "shared"
    assert json.loads(liked) == {"message": "Liked."}
    assert [message["content"] for message in json.loads(copy)["messages"]] == ["你好, who are you?"]
    assert "你好, who are you?" in export
    assert json.loads(statistics)["users"]["total"] >= 2


def test_the_ways_to_ask_work_as_pasted(stack: Stack) -> None:
    assert len(ASK) == 3, "one request, the same again, the queue"
    assert ASK[1] in ASK[0]
    script = "\necho -----\n".join(["set -eu", *BLOCKS, *ASK]).replace("http://127.0.0.1:8000", stack.url)
    done = ran(["bash", "-c", script], stack)
    assert done.returncode == 0, done.stderr
    first, again, queued = done.stdout.split("-----\n")[-3:]
    assert "What do deer eat?" in parse(first).content
    assert first.splitlines()[0] == "event: start"
    assert parse(again).final == parse(first).final
    assert "And what do you eat?" in queued


def test_the_calls_of_a_front_end_work_as_pasted(stack: Stack) -> None:
    assert len(FRONT_END) == 4, "a chat, a branch, a file, what a page shows"
    blocks = ["set -eu", *BLOCKS, ASK[0], *FRONT_END]
    script = "\necho -----\n".join(blocks).replace("http://127.0.0.1:8000", stack.url)
    done = ran(["bash", "-c", script.replace("\ncurl ", "\necho; curl ").replace("\nask ", "\necho; ask ")], stack)
    assert done.returncode == 0, done.stderr
    *_, asked, branched, filed, shown = done.stdout.split("-----\n")
    assert "What do deer eat?" in parse(asked.strip() + "\n\n").content
    switched = json.loads(branched.strip().split("\n")[-1])["messages"]
    assert (switched[0]["content"], switched[0]["siblings"]["shown"]) == ("What do deer eat?", 1)
    assert '"status":"ready"' in filed
    assert "Sum this up." in filed
    hits, shared, sessions, changes = map(json.loads, shown.strip().split("\n"))
    assert "deer" in hits[0]["snippet"]
    assert [message["type"] for message in shared["messages"]] == ["text", "text", "document", "text", "text"]
    assert sessions[0]["current"]
    assert changes["next"]


def test_signing_in_by_wechat_works_as_pasted(stack: Stack) -> None:
    assert len(WECHAT_BLOCKS) == 3, "a mini program, a refresh, a website"
    # Each of those calls answers one line of JSON, without a line break.
    script = "\n".join(["set -eu", BLOCKS[0], *WECHAT_BLOCKS]).replace("http://127.0.0.1:8000", stack.url)
    done = ran(["bash", "-c", script.replace("\ncurl ", "\necho; curl ")], stack)
    assert done.returncode == 0, done.stderr
    user, refreshed, nothing, refused, website = map(json.loads, filter(None, done.stdout.split("\n")))
    assert user["nickname"].startswith("微信用户")
    assert nothing == {}
    assert refused["code"] == "wechat_session_over"
    subjects = {jwt.decode(t["access_token"], options={"verify_signature": False})["sub"] for t in (refreshed, website)}
    assert subjects == {user["id"]}


def test_the_demo_finds_everything_as_promised(stack: Stack) -> None:
    done = ran([sys.executable, "-m", "local.clients.demo"], stack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as promised" in done.stdout


class Losing(httpx.BaseTransport):
    """A network that loses the answer to the first request of a path, after some of its bytes."""

    def __init__(self, path: str, after: bytes) -> None:
        self._network, self._path, self._after = httpx.HTTPTransport(), path, after
        self.sent: list[str] = []

    def close(self) -> None:
        self._network.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(f"{request.method} {request.url.path}")
        response = self._network.handle_request(request)
        if self.sent.count(f"POST {self._path}") != 1 or request.url.path != self._path:
            return response
        return httpx.Response(response.status_code, headers=response.headers, stream=Cut(response, self._after))


class Cut(httpx.SyncByteStream):
    """A body that breaks off as soon as it has brought these bytes."""

    def __init__(self, response: httpx.Response, after: bytes) -> None:
        self._response, self._after = response, after

    def __iter__(self) -> Iterator[bytes]:
        whole = b""
        for piece in self._response.iter_raw():
            whole += piece
            if self._after in whole:
                break
            yield piece
        self._response.close()
        raise httpx.ReadError("lost")


@pytest.mark.parametrize(("after", "resumed"), [(b"event: start", False), (b'"content"', True)])
def test_a_question_whose_answer_is_lost_is_asked_and_paid_once(stack: Stack, after: bytes, resumed: bool) -> None:
    network = Losing("/api/v1/tasks/stream", after)
    name = f"lost-{after.hex()[:12]}"
    with Client(stack.url, network) as client:
        client.call("POST", "/users", {"username": name, "password": "secret-1"})
        client.sign_in(name, "secret-1")
        preset = client.call(
            "POST", "/presets", {"title": "Deer", "parameters": {"model": "qwen-plus"}, "messages": []}
        )
        messages = [{"role": "user", "content": "/sim tokens=30 delay=20"}]
        start, *pieces, end = client.ask({"chat": {"preset_id": preset["id"]}, "messages": messages}, "once")
        assert isinstance(start, Start)
        assert isinstance(end, End)
        assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == end.content
        posts, gets = network.sent.count("POST /api/v1/tasks/stream"), network.sent[-1].startswith("GET")
        assert (posts, gets) == ((1, True) if resumed else (2, False))
        assert [message["role"] for message in client.call("GET", f"/chats/{start.chat_id}")["messages"]] == [
            "user",
            "assistant",
        ]
        credits = client.call("GET", "/users/me/credits")
    assert credits["credits_held"] == 0
    assert [record["amount"] for record in credits["credit_records"]] == [-end.credits, 1_000_000]


def test_a_conversation_that_is_piped(stack: Stack) -> None:
    lines = [
        "Hello 你好 👩‍🚀",
        "",
        "/sim tokens=30 fail=drop_mid at=5",
        "/redeem NO-SUCH-CODE",
        "/new",
        "/sim tokens=3 [b]",
    ]
    done = ran([sys.executable, "-m", "local.clients.chat"], stack, "\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for expected in (
        "「Hello 你好 👩‍🚀」",
        "The model's provider failed. (upstream_error)",
        "Failed answers cost nothing",
        "There is no such code. (code_unknown)",
        "A new chat",
        "Yes, of course.",
    ):
        assert expected in done.stdout
    left = 1_000_000
    for cost, shown in re.findall(r"([\d,]+) credits for .* · ([\d,]+) left", done.stdout):
        left -= int(cost.replace(",", ""))
        assert shown == f"{left:,}"
    assert left < 1_000_000
    again = ran([sys.executable, "-m", "local.clients.chat"], stack)
    assert again.stdout.splitlines()[0].split("·")[1] == done.stdout.splitlines()[0].split("·")[1], "the same guest"


def test_a_conversation_about_thinking(stack: Stack) -> None:
    done = ran(
        [sys.executable, "-m", "local.clients.chat", "--username", "thinker", "--password", "secret-1", "--think"],
        stack,
        "/sim details why?\n",
    )
    assert done.returncode == 0, done.stderr
    assert "Let me think 🤔" in done.stdout
    assert "12 of them thinking" in done.stdout


@pytest.mark.parametrize("module", ["local.clients.chat", "local.clients.demo"])
def test_without_a_stack_it_says_so(module: str, tmp_path: Path) -> None:
    done = ran([sys.executable, "-m", module], Stack("http://127.0.0.1:9", tmp_path), "hello\n")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["No AIDeer answers at http://127.0.0.1:9. Start one with: make run"]
    assert done.stderr == ""
