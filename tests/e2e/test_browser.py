"""A browser's own EventSource, from a page of another origin: it goes on over every break, and stops at the end."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.lines import BreakingLine, through
from tests.integration.stacks import Client, Stack, running
from tests.waiting import PATIENCE_SECONDS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
PAGE = """<!doctype html><meta charset="utf-8"><script>
  const seen = {content: "", final: null, opened: 0, starts: []};
  const source = new EventSource(new URLSearchParams(location.search).get("stream"));
  source.onopen = () => seen.opened++;
  source.addEventListener("start", event => seen.starts.push(JSON.parse(event.data)));
  source.onmessage = event => {
    const data = JSON.parse(event.data);
    if (event.lastEventId === "end") seen.final = data; else seen.content += data.content ?? "";
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
  };
</script>"""


class Page:
    """The page, on an origin of its own, and what it reports."""

    def __init__(self) -> None:
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        reports = self.reports

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(PAGE.encode() if self.path.startswith("/page") else b"", "text/html; charset=utf-8")

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"", "text/plain")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self._server.server_address[1]}"
        self.url = f"{self.origin}/page"

    def __enter__(self) -> "Page":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with Page() as served:
        yield served


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("browser")
    # A line that breaks has a port of its own.
    with running(folder, WORKERS="2", ALLOWED_ORIGINS=page.origin, ALLOWED_HOSTS="127.0.0.1") as started:
        yield started


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"one of {BROWSERS} must be installed for this test"
    return found


def seen_in_browser(page: Page, stream_url: str, profile: Path) -> dict[str, Any]:
    process = subprocess.Popen(
        [
            browser(),
            *QUIET.split(),
            f"--user-data-dir={profile}",
            f"{page.url}?{urlencode({'stream': stream_url})}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return page.reports.get(timeout=PATIENCE_SECONDS)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("door", ["", "/gateway"], ids=["streaming", "waiting"])
def test_a_page_sees_the_whole_answer_once_over_a_line_that_breaks(
    stack: Stack, page: Page, tmp_path: Path, door: str
) -> None:
    me = Client(stack)
    task = me.ask("/sim tokens=800 delay=10 你好 🙂", stream=not door)
    with BreakingLine(stack.url, after=900, breaks=2) as line:
        seen = seen_in_browser(page, through(task["resume_url"], line.url, door), tmp_path)
        assert line.broken == 2
    whole = me.ended(task["task_id"])
    positions = [start["position"] for start in seen["starts"]]
    assert len(positions) >= 3 or door
    assert seen["opened"] == len(positions) >= 2, "no event is taken for the connection's own `open`"
    assert positions[0] == 0
    assert positions == sorted(positions)
    assert {(start["task_id"], start["chat_id"]) for start in seen["starts"]} == {(task["task_id"], whole["chat_id"])}
    assert seen["final"]["message"]["content"] == whole["content"]
    assert seen["content"] == seen["final"]["content"] == whole["content"]
    assert seen["final"]["status"] == "finished"
