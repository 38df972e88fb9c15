"""The console's frame: who may come in, and its pages on every width, in both languages and themes, by keyboard and read aloud."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.browser import PHONE, TABLET
from tests.web.conftest import OpenPage
from tests.web.console_page import PAGES, button, go, overflow, settled
from tests.web.stack import ADMIN, ROOT, Person, Stack

AXE = (ROOT / ".venv/node/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


@pytest.fixture(scope="module")
def filled(stack: Stack) -> dict[str, Any]:
    """Something to see on each page, with hostile texts where users write."""
    admin, user = stack.admin(), stack.person(nickname=HOSTILE[:50])
    chat = user.chat("Deer")
    user.ask(chat, "Hello")
    user.put(
        f"/chats/{chat}/messages/2/feedback", {"rating": "down", "tags": ["wrong", "<b>x</b>"], "comment": HOSTILE}
    )
    batch = admin.post("/codes", {"value": 5, "count": 3, "description": HOSTILE})["batch"]
    preset = admin.preset(title="A <b>bold</b> preset", visibility="public", description=HOSTILE)
    return {"user": user.get("/users/me")["id"], "batch": batch, "preset": preset}


def places(filled: dict[str, Any]) -> list[str]:
    return [*PAGES, f"users/{filled['user']}", f"codes/batch/{filled['batch']}", f"presets/{filled['preset']}"]


def faults(page: Page) -> list[str]:
    """Return what axe finds wrong."""
    page.evaluate(AXE)
    found = page.evaluate(f"axe.run(document, {{ runOnly: {json.dumps(RULES)} }})")
    return [f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found["violations"]]


def test_an_administrator_signs_in_and_out(open_page: OpenPage) -> None:
    page = open_page("/admin")
    page.get_by_label("Name", exact=True).fill(ADMIN[0])
    page.get_by_label("Password", exact=True).fill("not-it")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password", exact=True).fill(ADMIN[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_visible()
    page.get_by_role("button", name="admin", exact=True).click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_user_is_told_that_the_console_is_for_administrators(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/users", stack.person())
    expect(page.get_by_role("heading", name="This account is not an administrator")).to_be_visible()
    expect(page.get_by_role("navigation")).to_have_count(0)
    button(page, "Use another account").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.parametrize(
    "look",
    [
        {"locale": "en-US", "color_scheme": "light"},
        {"locale": "zh-CN", "color_scheme": "dark"},
        {"locale": "zh-CN", "color_scheme": "light", "viewport": PHONE},
        {"locale": "en-US", "color_scheme": "dark", "viewport": PHONE},
        {"locale": "en-US", "viewport": TABLET},
    ],
    ids=["desktop", "dark-zh", "phone-zh", "phone-dark", "tablet"],
)
def test_each_page_fits_speaks_and_is_accessible(
    open_page: OpenPage, stack: Stack, filled: dict[str, Any], look: dict[str, Any]
) -> None:
    page = open_page("/admin", stack.admin(), **look)
    for place in places(filled):
        go(page, place)
        text = page.locator("body").inner_text()
        assert "console." not in text, f"{place}: a text is missing"
        assert (look["locale"] == "zh-CN") == ("控制台" in text), place
        assert overflow(page) <= 0, place
        assert not faults(page), place
        assert page.locator("main img, main script").count() == 0, place


def test_dialogs_are_accessible_and_give_the_focus_back(
    open_page: OpenPage, stack: Stack, filled: dict[str, Any]
) -> None:
    page = open_page("/admin", stack.admin())
    for place, names in (
        (f"users/{filled['user']}", ("Credits", "Permission", "Password", "Delete")),
        ("codes", ("New codes",)),
        (f"codes/batch/{filled['batch']}", ("Revoke the batch",)),
        (f"presets/{filled['preset']}", ("Edit", "Delete")),
    ):
        go(page, place)
        for name in names:
            opener = page.get_by_role("button", name=name, exact=True)
            opener.focus()
            page.keyboard.press("Enter")
            expect(page.get_by_role("dialog")).to_be_visible()
            assert not faults(page), (place, name)
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
            expect(opener).to_be_focused()


def test_a_new_page_takes_the_focus_and_a_link_skips_the_menu(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin", stack.admin())
    settled(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Users").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Users")).to_be_focused()
    assert page.title() == "Users · AIDeer"
    expect(page.get_by_role("link", name="Users", exact=True)).to_have_attribute("aria-current", "page")


def test_a_phone_has_the_pages_in_a_menu(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin", stack.admin(), viewport=PHONE)
    settled(page)
    page.get_by_role("button", name="Pages of the console").click()
    page.get_by_role("menuitem", name="Audit trail").click()
    expect(page.get_by_role("heading", level=1, name="Audit trail")).to_be_visible()


def test_language_and_theme_are_chosen_and_kept(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/users", stack.admin())
    page.get_by_role("button", name="admin", exact=True).click()
    page.get_by_role("menuitemradio", name="中文").click()
    expect(page.get_by_role("heading", level=1, name="用户")).to_be_visible()
    page.get_by_role("button", name="admin", exact=True).click()
    page.get_by_role("menuitemradio", name="深色").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.get_by_role("heading", level=1, name="用户")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_a_lost_line_is_told_and_tried_again(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/models", stack.admin())
    settled(page)
    page.route("**/api/v1/users?*", lambda route: route.abort())
    page.get_by_role("link", name="Users", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/api/v1/users?*")
    button(page, "Try again").click()
    expect(page.locator("tbody tr").first).to_be_visible()


def test_an_ended_session_leads_to_the_sign_in(open_page: OpenPage, stack: Stack) -> None:
    boss = stack.admin()
    second = stack.person("boss")
    boss.put(f"/users/{second.get('/users/me')['id']}", {"permission": 2})
    page = open_page("/admin#/users", second)
    settled(page)
    Person.checked(second.http.delete("/session"))
    page.get_by_role("link", name="Redeem codes").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_the_test_of_accessibility_finds_faults(open_page: OpenPage) -> None:
    page = open_page("/admin")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert any(fault.startswith("button-name") for fault in faults(page))


def test_the_console_has_no_build_step() -> None:
    folder = Path(ROOT / "functions/web/site/console")
    assert {path.suffix for path in folder.iterdir()} == {".js"}
