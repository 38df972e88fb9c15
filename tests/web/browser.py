"""A browser for the tests: Debian's Chromium, driven by Playwright, and a watch over everything that its pages do."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, Route

from tests.waiting import PATIENCE_SECONDS
from tests.web.stack import Person, Stack

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"]
TOKENS = "aideer.tokens"
"""The key of localStorage under which the pages keep their tokens (shared/session.js)."""
DESKTOP = {"width": 1440, "height": 900}
TABLET = {"width": 768, "height": 1024}
PHONE = {"width": 375, "height": 812}

# Runs before each page's own scripts.
_REPORT = """
globalThis.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI, sourceFile, lineNumber, sample }) => {
  const what = `CSP: ${effectiveDirective} ${blockedURI} ${sourceFile}:${lineNumber} ${sample}`;
  globalThis.__violations = [...(globalThis.__violations ?? []), what];
  console.error(what);
});
"""


@dataclass
class Watch:
    """What pages of a context have done, and what none may do: break the policy, fail, or call another host."""

    origin: str
    requests: list[Request] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    """The addresses that have answered."""
    errors: list[str] = field(default_factory=list)
    friends: set[str] = field(default_factory=set)
    """Other origins that a test visits."""

    def follow(self, context: BrowserContext) -> None:
        """Watch all pages of a context."""
        context.on("request", self._note_request)
        context.on("response", lambda response: self.reached.append(response.url))
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)
        parts = urlsplit(request.url)
        allowed = {self.origin, *self.friends}
        if parts.scheme in ("http", "https", "ws", "wss") and f"{parts.scheme}://{parts.netloc}" not in allowed:
            self.errors.append(f"request to another host: {request.url}")
        for token in ("access_token", "refresh_token", "ticket=", "eyJ"):
            if token in parts.query or token in parts.path:
                self.errors.append(f"a token in an address: {request.url}")

    def _note_console(self, message: ConsoleMessage) -> None:
        # A refused or lost request is what many tests are about. Everything else is a fault.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(f"console: {message.text}")

    def check(self) -> None:
        """Fail if a page did what none may do, since the last check."""
        errors, self.errors = self.errors, []
        assert not errors, "\n".join(errors)


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Start the browser. Without one, `apt-get install chromium` brings it."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    assert path, f"none of {', '.join(BROWSERS)} is installed"
    browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
    try:
        yield browser
    finally:
        browser.close()


def open_context(browser: Browser, stack: Stack, watch: Watch, person: Person | None, **options: Any) -> BrowserContext:
    """Return a new context (as a new browser profile), signed in as a person, if one is given."""
    kept = [{"name": TOKENS, "value": json.dumps(person.tokens)}] if person else []
    state: Any = {"cookies": [], "origins": [{"origin": stack.url, "localStorage": kept}]}
    settings = {"viewport": DESKTOP, "locale": "en-US", "color_scheme": "light", **options}
    context = browser.new_context(base_url=stack.url, storage_state=state, reduced_motion="reduce", **settings)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    context.add_init_script(_REPORT)
    watch.follow(context)
    return context


def wait_for(page: Page, expression: str, what: str = "") -> Any:
    """Wait until an expression of JavaScript is true in the page, and return its value.

    Playwright's own wait_for_function needs eval, which the pages' policy refuses.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if value := page.evaluate(expression):
            return value
        page.wait_for_timeout(50)
    raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what or expression}")


def wait_for_copied(page: Page, text: str) -> None:
    """Wait until the clipboard has this text."""
    wait_for(page, f"navigator.clipboard.readText().then((text) => text === {json.dumps(text)})", f"{text!r} is copied")


def wait_for_held(page: Page, held: list[Route], number: int = 1) -> None:
    """Wait until so many requests are held."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while len(held) < number:
        assert time.monotonic() < give_up_at, f"{len(held)} requests of {number}"
        page.wait_for_timeout(50)


def violations(page: Page) -> list[str]:
    """Return what the page's policy has refused."""
    return list(page.evaluate("globalThis.__violations ?? []"))
