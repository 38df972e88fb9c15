"""One stack and one browser for all tests of the web client. Each test has its own users and its own browser profiles.

    def test_a_chat_is_opened(open_page, stack):
        ada = stack.person()
        page = open_page("/", ada)                                  # signed in
        phone = open_page("/", ada, viewport=PHONE, locale="zh-CN") # a second profile

After each test, its pages must have kept the policy: no CSP violation, no uncaught error, no dialog, no request to another host, no
token in an address.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.waiting import PATIENCE_SECONDS
from tests.web.browser import Watch, launched, open_context
from tests.web.stack import Person, Stack, running

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


class OpenPage(Protocol):
    """Opens a page in a new browser profile."""

    def __call__(self, path: str = "/", person: Person | None = None, **options: Any) -> Page:
        """Return the page at this path. `options` are those of Playwright's new_context."""


class Report(Protocol):
    """Notes a measurement for the end of the run. Times are reported, and never asserted."""

    def __call__(self, line: str) -> None:
        """Note a line."""


_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Notes a measurement for the end of the run."""
    return request.config.stash.setdefault(_LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests have measured."""
    for line in config.stash.get(_LINES, []):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack for all tests."""
    with running(tmp_path_factory.mktemp("stack")) as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for all tests."""
    with sync_playwright() as playwright, launched(playwright) as made:
        yield made


@pytest.fixture
def watch(stack: Stack) -> Iterator[Watch]:
    """What the pages of this test do. It is checked at the end."""
    made = Watch(stack.url)
    yield made
    made.check()


@pytest.fixture
def open_page(stack: Stack, browser: Browser, watch: Watch) -> Iterator[OpenPage]:
    """Opens pages, each in a profile of its own. `page.context.new_page()` opens a second tab."""
    contexts = []

    def open_one(path: str = "/", person: Person | None = None, **options: Any) -> Page:
        contexts.append(open_context(browser, stack, watch, person, **options))
        page = contexts[-1].new_page()
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
