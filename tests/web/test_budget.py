"""What a visit costs: bytes over the wire and requests, up to the first answer. First paint is reported."""

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.web.browser import PHONE, wait_for
from tests.web.conftest import OpenPage, Report
from tests.web.stack import Stack

MOST_BYTES = 150_000
MOST_REQUESTS = 60
"""Of a first visit. Later visits ask for the page and for data alone."""
PAINTS = "performance.getEntriesByType('paint').map((one) => [one.name, one.startTime])"
QUESTION = "/sim tokens=60 delay=1 Why do deer shed their antlers?"


class Wire:
    """Counts what comes over the wire, headers included, as the browser's network stack reports it."""

    def __init__(self, page: Page) -> None:
        self._addresses: dict[str, str] = {}
        self.bytes: dict[str, int] = {}
        self.kept: set[str] = set()
        session: CDPSession = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._note)
        session.on("Network.requestServedFromCache", lambda event: self.kept.add(event["requestId"]))
        session.on("Network.responseReceived", self._note_cached)
        session.on("Network.loadingFinished", self._count)
        session.send("Network.enable")

    def _note(self, event: dict) -> None:
        self._addresses[event["requestId"]] = event["request"]["url"]

    def _note_cached(self, event: dict) -> None:
        if event["response"].get("fromDiskCache"):
            self.kept.add(event["requestId"])

    def _count(self, event: dict) -> None:
        if event["requestId"] not in self.kept:
            self.bytes[event["requestId"]] = event["encodedDataLength"]

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.bytes.values())

    @property
    def addresses(self) -> list[str]:
        """The addresses that were not answered from the browser's cache."""
        return [self._addresses[request] for request in self.bytes]

    def describe(self) -> str:
        """The largest answers, for a failed assertion."""
        rows = sorted(((size, self._addresses[request]) for request, size in self.bytes.items()), reverse=True)
        return "\n".join(f"{size:8} {address}" for size, address in rows)


def ask(page: Page) -> None:
    """Ask the first question, and wait for the end of its answer."""
    page.get_by_role("textbox", name="Your question").fill(QUESTION)
    page.get_by_role("textbox", name="Your question").press("Enter")
    expect(page.locator("article.answer").last).to_be_visible()
    expect(page.locator("article.answer.live")).to_have_count(0)


@pytest.mark.parametrize("size", [{}, {"viewport": PHONE}], ids=["desktop", "phone"])
def test_the_first_answer_takes_at_most_150_kb_and_few_requests(
    open_page: OpenPage, stack: Stack, report: Report, size: dict
) -> None:
    page = open_page("about:blank", stack.person(), **size)
    wire = Wire(page)
    page.goto("/")
    ask(page)
    assert wire.total <= MOST_BYTES, wire.describe()
    assert len(wire.addresses) <= MOST_REQUESTS, wire.describe()
    name = "phone" if size else "desktop"
    report(f"{name}: {wire.total / 1000:.0f} kB in {len(wire.addresses)} requests up to the end of the first answer")


def test_a_stranger_signs_up_and_asks_within_the_same_budget(open_page: OpenPage) -> None:
    page = open_page("about:blank")
    wire = Wire(page)
    page.goto("/")
    page.get_by_role("button", name="guest").click()
    ask(page)
    assert wire.total <= MOST_BYTES, wire.describe()


def test_a_second_visit_asks_for_the_page_and_for_data_alone(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    expect(page.get_by_role("textbox", name="Your question")).to_be_visible()
    page.wait_for_load_state("networkidle")  # what is still loading would be asked for again
    page.goto("about:blank")
    wire = Wire(page)
    page.goto("/")
    expect(page.get_by_role("textbox", name="Your question")).to_be_visible()
    again = [address for address in wire.addresses if "/web/" in address]
    # The browser reads the tab's icon when it likes: on a busy machine, the first visit may be over by then.
    assert [address for address in again if not address.endswith("/icons/deer.svg")] == []


def test_highlighting_and_formulas_wait_for_an_answer_that_needs_them(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("about:blank", ada)
    wire = Wire(page)
    page.goto("/")
    ask(page)
    assert not [address for address in wire.addresses if "highlight" in address or "temml" in address]


def test_first_paint_is_reported(open_page: OpenPage, stack: Stack, report: Report) -> None:
    page = open_page("/", stack.person())
    paints = wait_for(page, f"(() => {{ const all = {PAINTS}; return all.length > 1 && all; }})()")
    report(", ".join(f"{name} after {time:.0f} ms" for name, time in paints))
