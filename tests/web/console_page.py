"""The console as an administrator sees it: the parts that tests find, and what they do again and again."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

PAGES = (
    "overview",
    "users",
    "codes",
    "presets",
    "models",
    "announcement",
    "feedback",
    "reconciliation",
    "letters",
    "audit",
)


def go(page: Page, place: str) -> None:
    """Open a page of the console, and wait until it shows what it has loaded."""
    page.goto(f"/admin#/{place}")
    name = re.split("[/?]", place)[0]
    if name in PAGES:  # within the console, only the fragment changes, and the page before may still be there
        expect(page.locator(f"nav a[href='#/{name}']")).to_have_attribute("aria-current", "page")
    expect(page.locator("h1[data-heading]")).to_be_visible()
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page is there and nothing is loading."""
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def figure(page: Page, label: str) -> Locator:
    """Return the value of a figure."""
    return page.locator(".figure", has=page.get_by_text(label, exact=True)).locator(".value")


def row(page: Page, text: str) -> Locator:
    """Return the row of a table that holds this text."""
    return page.locator("tbody tr", has_text=text)


def button(page: Page, name: str) -> Locator:
    """Return the button of this name: in the dialog, if one is open."""
    dialog = page.get_by_role("dialog")
    return (dialog if dialog.count() else page).get_by_role("button", name=name, exact=True)


def toast(page: Page) -> Locator:
    """Return the last thing that the page has said."""
    return page.locator(".toast").last


def refuse_once(page: Page, method: str, path: str, status: int, body: dict[str, Any]) -> list[Any]:
    """Refuse the next request of this method to this path. Return the list of the bodies that are sent there."""
    sent: list[Any] = []

    def answer(route: Route) -> None:
        if route.request.method != method:
            route.continue_()
            return
        sent.append(route.request.post_data_json if route.request.post_data else None)
        if len(sent) == 1:
            route.fulfill(status=status, json=body)
        else:
            route.continue_()

    page.route(path, answer)
    return sent


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
