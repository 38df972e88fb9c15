"""A page starts, even if the server refuses some of its parts at first."""

import re

import pytest
from playwright.sync_api import Route, expect

from tests.web.browser import Watch
from tests.web.conftest import OpenPage
from tests.web.stack import Stack

AT_ONCE = 10
BUSY = {"status": 503, "content_type": "application/json", "body": '{"message":"Service Unavailable"}'}


@pytest.mark.parametrize("path", ["/", "/admin"])
def test_a_page_whose_parts_are_refused_at_first_starts_by_itself(
    open_page: OpenPage, watch: Watch, stack: Stack, path: str
) -> None:
    """As in an account with a concurrency of 10: of what a page asks for at once, the first ten are answered."""
    page = open_page("about:blank")
    kept: set[str] = set()
    refused: list[str] = []
    loads: list[int] = []

    def answer(route: Route) -> None:
        address = route.request.url
        if address == f"{stack.url}{path}":
            loads.append(AT_ONCE)
        elif address not in kept and loads[-1] == 0:  # routing turns the browser's cache off: `kept` is in its place
            refused.append(address)
            route.fulfill(**BUSY)
            return
        elif address not in kept:
            loads[-1] -= 1
            kept.add(address)
        route.continue_()

    page.route(re.compile(r"/(admin|web/.*)?$"), answer)
    page.goto(path)
    expect(page.locator("input[type=password]")).to_be_visible()
    assert refused
    watch.errors = [error for error in watch.errors if "dynamically imported module" not in error]
    assert len(loads) == 1 + -(-(len(kept) - AT_ONCE) // AT_ONCE)


def test_a_page_that_never_arrives_says_so(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("about:blank")
    loads: list[str] = []
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    page.route("**/vendor/preact.js", lambda route: route.fulfill(**BUSY))
    page.goto("/")
    expect(page.locator("body")).to_contain_text("did not load")
    assert len([url for url in loads if url.startswith(stack.url)]) == 6
