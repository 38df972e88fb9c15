"""The console's statistics: figures and charts have the values of the API, also for those who see no chart."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import OpenPage
from tests.web.console_page import figure, go, row, settled
from tests.web.stack import Stack

TODAY = datetime.datetime.now(datetime.UTC).date()


def sums(**values: Any) -> dict[str, Any]:
    names = ("tasks", "failed", "input_tokens", "output_tokens", "credits", "rated_up", "rated_down")
    return {**dict.fromkeys(names, 0), "first_token": {}, **values}


def statistics(days: int, busy: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """An answer of GET /admin/stats. `busy` has the sums of days, counted back from today."""
    listed = []
    for back in reversed(range(days)):
        of_day = sums(**busy.get(back, {}))
        models = [{"model": "qwen-plus", **of_day}] if back in busy else []
        day = {"day": (TODAY - datetime.timedelta(back)).isoformat(), "signed_up": back, "deleted": 0, "uncovered": {}}
        listed.append({**day, **of_day, "models": models})
    total = {name: sum(day[name] for day in listed) for name in sums() if name != "first_token"}
    groups: dict[str, int] = {}
    for day in listed:
        for bound, count in day["first_token"].items():
            groups[bound] = groups.get(bound, 0) + count
    return {
        "from": listed[0]["day"],
        "to": listed[-1]["day"],
        "users": {"total": 1234, "signed_up": sum(day["signed_up"] for day in listed), "deleted": 0},
        "uncovered": {"interrupted": 5},
        "models": [{"model": "qwen-plus", **total, "first_token": groups}],
        "presets": [],
        "days": listed,
        **total,
        "first_token": groups,
    }


@pytest.fixture
def shown(open_page: OpenPage, stack: Stack) -> Callable[..., Page]:
    def open_with(busy: dict[int, dict[str, Any]], **options: Any) -> Page:
        page = open_page("/web/none", stack.admin(), **options)
        page.route("**/api/v1/admin/stats?*", lambda route: route.fulfill(json=statistics(30, busy)))
        go(page, "overview")
        return page

    return open_with


def test_figures_sum_up_and_the_first_token_is_estimated_from_its_groups(shown: Callable[..., Page]) -> None:
    groups = {"500": 50, "1000": 40, "4000": 8, "more": 2}
    page = shown({0: {"tasks": 95, "failed": 5, "credits": 12_345, "first_token": groups}})
    expect(figure(page, "Users")).to_have_text("1,234")
    expect(figure(page, "Answers")).to_have_text("95")
    expect(figure(page, "Credits")).to_have_text("12,345")
    expect(figure(page, "Failed")).to_have_text("5 %")
    expect(figure(page, "First token")).to_have_text("0.5 s")
    expect(page.locator(".figure", has_text="First token")).to_contain_text("95 % within 3.3 s")
    expect(row(page, "qwen-plus")).to_contain_text("12,345")
    expect(row(page, "interrupted")).to_contain_text("5")


def test_without_a_streamed_answer_no_time_is_claimed(shown: Callable[..., Page]) -> None:
    page = shown({0: {"tasks": 3}})
    expect(figure(page, "First token")).to_have_text("–")
    chart = page.locator("figure", has=page.get_by_role("heading", name="Time to the first token"))
    expect(chart).to_contain_text("Nothing in this time.")


def test_a_chart_is_read_by_keyboard_and_its_table_has_every_day(shown: Callable[..., Page]) -> None:
    page = shown({0: {"tasks": 7, "failed": 2}, 1: {"tasks": 1_000}})
    chart = page.locator("figure", has=page.get_by_role("heading", name="Answers", exact=True))
    chart.locator("svg").focus()
    page.keyboard.press("End")
    expect(chart.get_by_role("status")).to_contain_text("Billed: 7, Failed: 2")
    page.keyboard.press("ArrowLeft")
    expect(chart.get_by_role("status")).to_contain_text("Billed: 1,000, Failed: 0")
    expect(chart.locator(".tip")).to_contain_text("1,000")
    page.keyboard.press("Escape")
    expect(chart.locator(".tip")).to_have_count(0)
    chart.get_by_text("As a table").click()
    expect(chart.locator("tbody tr")).to_have_count(30)
    assert chart.locator("tbody tr").first.locator("td").all_inner_texts() == ["7", "2"]


def test_bars_are_as_high_as_their_values(shown: Callable[..., Page]) -> None:
    page = shown({0: {"tasks": 40}, 1: {"tasks": 80}})
    bars = page.locator("figure", has=page.get_by_role("heading", name="Answers", exact=True)).locator("path.bar")
    heights = [bars.nth(n).evaluate("bar => bar.getBBox().height") for n in range(bars.count())]
    assert heights[0] / heights[1] == pytest.approx(2, rel=0.02)


def test_the_range_is_chosen(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin", stack.admin())
    settled(page)
    before = datetime.datetime.now(datetime.UTC).date()
    with page.expect_request("**/api/v1/admin/stats?*") as asked:
        page.get_by_role("radio", name="7 days").click()
    after = datetime.datetime.now(datetime.UTC).date()
    begins = asked.value.url.rpartition("from=")[2]
    assert begins in {f"{day - datetime.timedelta(6)}" for day in (before, after)}
    settled(page)
    expect(page.get_by_role("radio", name="7 days")).to_have_attribute("aria-checked", "true")


def test_a_streamed_answer_counts_with_its_first_token(open_page: OpenPage, stack: Stack) -> None:
    admin, user = stack.admin(), stack.person()
    before = admin.get("/admin/stats")
    chat = user.chat()
    body = {"chat_id": chat, "messages": [{"role": "user", "content": "Hello"}]}
    user.checked(user.http.post("/tasks/stream", json=body, headers={"Idempotency-Key": chat}))
    after = admin.get("/admin/stats")
    assert after["tasks"] > before["tasks"]
    assert sum(after["first_token"].values()) == sum(before["first_token"].values()) + 1
    page = open_page("/admin", admin)
    settled(page)
    expect(figure(page, "First token")).to_contain_text("s")
