"""A fast person types as soon as a field is on the screen. Nothing typed there is lost, and the focus stays in the field."""

import pytest
from playwright.sync_api import expect

from tests.web.chat_page import composer
from tests.web.conftest import OpenPage
from tests.web.console_page import settled
from tests.web.stack import Stack

FIELD = "main form[role=search] input"

# Types into a field in the microtask after the page has put it there: before the browser paints, so before any effect of the page.
TYPE_AT_ONCE = """([selector, text]) => {
  const observer = new MutationObserver(() => {
    const field = document.querySelector(selector);
    if (!field) return;
    observer.disconnect();
    field.focus();
    field.value = text;
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  });
  observer.observe(document.body, { childList: true, subtree: true });
}"""


@pytest.mark.parametrize("place", ["users", "audit", "feedback"])
def test_a_filter_of_the_console_keeps_what_is_typed_at_once(open_page: OpenPage, stack: Stack, place: str) -> None:
    page = open_page("/admin#/overview", stack.admin())
    settled(page)
    page.evaluate(TYPE_AT_ONCE, [FIELD, "deer"])
    page.get_by_role("navigation").locator(f"a[href='#/{place}']").click()
    expect(page.get_by_role("link", name="Overview")).not_to_have_attribute("aria-current", "page")
    settled(page)
    expect(page.locator(FIELD).first).to_have_value("deer")
    expect(page.locator(FIELD).first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**=deer*")
    expect(page.locator(FIELD).first).to_have_value("deer")


@pytest.mark.parametrize(("place", "name"), [("users", "name"), ("audit", "admin"), ("feedback", "model")])
def test_a_filter_of_the_console_follows_the_address(open_page: OpenPage, stack: Stack, place: str, name: str) -> None:
    page = open_page(f"/admin#/{place}?{name}=first", stack.admin())
    field = page.locator(FIELD).first
    expect(field).to_have_value("first")
    page.goto(f"/admin#/{place}?{name}=second")
    expect(field).to_have_value("second")
    field.fill("third, and never applied")
    page.go_back()
    expect(field).to_have_value("first")
    page.go_forward()
    expect(field).to_have_value("second")
    page.get_by_role("button", name="Show all").click()
    expect(field).to_have_value("")


def test_a_search_in_chats_keeps_what_is_typed_at_once(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    expect(composer(page)).to_be_visible()
    page.evaluate(TYPE_AT_ONCE, ["dialog.search input", "deer"])
    page.keyboard.press("Control+k")
    field = page.locator("dialog.search input")
    expect(page.get_by_role("dialog")).to_contain_text("Nothing found")
    expect(field).to_have_value("deer")
    expect(field).to_be_focused()
