"""Input methods, phones, keyboards alone, Chinese, and what screen readers are told."""

import re

from playwright.sync_api import FilePayload, Page, Route, expect

from tests.web.browser import PHONE, wait_for, wait_for_held
from tests.web.chat_page import chat_id, composer, ended, open_account, questions, text_of, write
from tests.web.conftest import OpenPage
from tests.web.stack import PASSWORD, Stack

FOCUSED = "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"


def test_enter_while_composing_does_not_send(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person(), locale="zh-CN")
    field = page.get_by_role("textbox", name="你的问题")
    field.focus()
    keyboard = page.context.new_cdp_session(page)
    keyboard.send("Input.imeSetComposition", {"text": "lu", "selectionStart": 2, "selectionEnd": 2})
    # While it composes, a browser sends keydown with isComposing, or with the key code 229.
    field.evaluate(
        """field => {
          const key = { key: "Enter", code: "Enter", bubbles: true, cancelable: true };
          field.dispatchEvent(new KeyboardEvent("keydown", { ...key, isComposing: true }));
          field.dispatchEvent(new KeyboardEvent("keydown", { ...key, keyCode: 229 }));
        }"""
    )
    expect(questions(page)).to_have_count(0)
    keyboard.send("Input.insertText", {"text": "鹿吃什么？"})
    expect(field).to_have_value("鹿吃什么？")
    field.press("Shift+Enter")
    field.press_sequentially("冬天呢？")
    expect(questions(page)).to_have_count(0)
    field.press("Enter")
    expect(questions(page)).to_have_text("鹿吃什么？\n冬天呢？")
    ended(page, 1)


def test_the_page_speaks_chinese(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person(nickname="小鹿"), locale="zh-CN")
    expect(page.get_by_role("heading", name="小鹿，今天想聊点什么？")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    write_in(page, "你的问题", "/sim echo delay=0\n鹿爱吃**嫩叶**和树皮。\n\n1. 春天：嫩芽\n2. 冬天：树皮")
    answer = ended(page, 1)
    expect(answer.locator("strong")).to_have_text("嫩叶")
    expect(answer.locator("li")).to_have_count(2)
    expect(page.get_by_test_id("live-line")).to_contain_text("花费")
    untranslated = re.findall(r"\b[a-z]+\.[a-z_]+\b", page.locator("body").inner_text())
    assert untranslated == [], "each text has its Chinese"


def write_in(page: Page, label: str, text: str) -> None:
    """Send a question from the field of this name."""
    field = page.get_by_role("textbox", name=label)
    field.fill(text)
    field.press("Enter")


def test_both_catalogues_have_the_same_keys_and_values(open_page: OpenPage) -> None:
    page = open_page("/")
    page.get_by_role("heading", name="Welcome to AIDeer").wait_for()
    keys = page.evaluate(
        """async () => {
          const folder = new URL(".", document.querySelector("script[type=module]").src.replace("/page/", "/shared/")).href;
          const [en, zh] = await Promise.all(["en", "zh"].map((name) => import(`${folder}text-${name}.js`)));
          const values = (text) => [...new Set([...text.matchAll(/\\{(\\w+)[|}]/g)].map((found) => found[1]))].sort().join();
          return Object.keys({ ...en.default, ...zh.default }).filter((key) =>
            !(key in en.default) || !(key in zh.default) || values(en.default[key]) !== values(zh.default[key]));
        }"""
    )
    assert keys == []


def test_the_whole_journey_goes_by_keyboard_alone(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/")
    page.get_by_role("heading", name="Welcome to AIDeer").wait_for()
    tab_to(page, "", "document.activeElement.name === 'username'")
    page.keyboard.type(ada.username)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(composer(page)).to_be_focused()  # the field waits for the question
    page.keyboard.type("/sim echo delay=0\u2028by keyboard".replace("\u2028", " "))
    page.keyboard.press("Enter")
    ended(page, 1)
    expect(composer(page)).to_be_focused()

    tab_to(page, "Good answer", back=True)
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")

    # A menu opens, moves by arrows and letters, closes by Escape, and gives the focus back.
    tab_to(page, "Actions on this chat", back=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Pin")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUSED) == "Actions on this chat"
    page.keyboard.press("Enter")
    page.keyboard.press("t")
    expect(page.get_by_role("menuitem", name="Tags")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("New tag")).to_be_focused()
    page.keyboard.type("woods")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    # The search opens by keys, and a dialog keeps the focus inside.
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+O")
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()


def tab_to(page: Page, name: str, condition: str = "", *, back: bool = False) -> None:
    """Press Tab until the element of this name has the focus. Its outline must be seen."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate(condition or f"{FOCUSED} === {name!r}"):
            break
    else:
        raise AssertionError(f"no way by keyboard to {name or condition}")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_a_screen_reader_is_told_when_an_answer_begins_and_ends(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    said = """globalThis.said ??= (() => {
      const [all, region] = [[], document.querySelector("#app > .hidden-text[role=status]")];
      const options = { childList: true, characterData: true, subtree: true };
      new MutationObserver(() => all.push(region.textContent)).observe(region, options);
      return all;
    })()"""
    expect(composer(page)).to_be_visible()
    page.evaluate(said)
    write(page, "/sim tokens=40 delay=60\nhello")
    expect(page.locator(".message.live")).to_have_attribute("aria-busy", "true")
    ended(page, 1)
    assert page.evaluate("said") == ["The answer begins.", "The answer is complete."]
    assert page.locator("h1").count() == 1
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation").count() == 1


def test_a_phone_shows_everything_without_scrolling_sideways(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    earlier = [ada.chat(f"Chat {number}") for number in range(5)]
    page = open_page("/", ada, viewport=PHONE, has_touch=True, is_mobile=True)
    expect(composer(page)).to_be_visible()
    narrow(page)
    table = f"| {'a | ' * 12}\n|{'---|' * 12}\n| {'x | ' * 12}"
    composer(page).fill(f"/sim echo delay=0\n{table}\n\n```\n{'wide ' * 60}\n```\n{'w' * 300}")
    page.get_by_role("button", name="Send", exact=True).tap()
    ended(page, 1)
    narrow(page)
    page.get_by_role("button", name="Show the chats").tap()
    row = page.locator(".chat-row").first
    expect(row).to_be_in_viewport()
    expect(page.locator(".chat-row")).to_have_count(len(earlier) + 1)
    narrow(page)
    row.get_by_role("link").tap()
    expect(row).not_to_be_in_viewport()  # choosing a chat closes the drawer
    page.get_by_role("button", name="Share", exact=True).tap()
    expect(page.get_by_role("dialog")).to_be_in_viewport()
    narrow(page)
    page.get_by_role("button", name="Close").tap()
    small = page.evaluate(
        """[...document.querySelectorAll("button, a")].filter((one) => one.checkVisibility() && one.getBoundingClientRect().width)
          .filter((one) => { const box = one.getBoundingClientRect(); return Math.min(box.width, box.height) < 24; })
          .filter((one) => getComputedStyle(one).display !== "inline").map((one) => one.outerHTML.slice(0, 90))"""
    )
    assert small == [], "a target has at least 24 by 24 pixels (WCAG 2.5.8)"


def narrow(page: Page) -> None:
    """Nothing is wider than the page."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "[...document.querySelectorAll('.thread')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
    )


def test_enter_on_a_phone_is_a_new_line(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person(), viewport=PHONE, has_touch=True, is_mobile=True)
    composer(page).fill("one")
    composer(page).press("End")
    composer(page).press("Enter")
    composer(page).press_sequentially("two")
    expect(composer(page)).to_have_value("one\ntwo")
    expect(questions(page)).to_have_count(0)


def test_each_chat_has_a_draft_of_its_own(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    first, second = ada.chat("First"), ada.chat("Second")
    page = open_page(f"/#/chat/{first}", ada)
    expect(page.get_by_role("heading", name="First")).to_be_visible()
    composer(page).fill("for the first")
    page.get_by_role("link", name="Second").click()
    expect(page.get_by_role("heading", name="Second")).to_be_visible()
    expect(composer(page)).to_have_value("")
    page.go_back()
    expect(page.get_by_role("heading", name="First")).to_be_visible()
    expect(composer(page)).to_have_value("for the first")
    assert chat_id(page) == first != second


def test_a_question_is_sent_to_the_chat_of_the_address_also_while_it_loads(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Slow to load")
    page = open_page("/", ada)
    expect(composer(page)).to_be_visible()
    held: list[Route] = []
    page.route(f"**/api/v1/chats/{chat}?*", lambda route: held.append(route))
    page.evaluate("id => { location.hash = `#/chat/${id}`; }", chat)
    wait_for(page, f"location.hash === '#/chat/{chat}'")
    wait_for_held(page, held)
    write(page, "/sim echo delay=0\nin the right chat")
    expect(questions(page)).to_have_count(0)
    for route in held:
        route.continue_()
    held.clear()
    page.unroute(f"**/api/v1/chats/{chat}?*")
    ended(page, 1)
    assert text_of(page) == "in the right chat"
    assert [one["id"] for one in ada.get("/chats")] == [chat]


def test_what_is_written_while_the_first_question_is_accepted_stays(open_page: OpenPage, stack: Stack) -> None:
    """The new chat gets its id in between."""
    page = open_page("/", stack.person())
    held: list[Route] = []
    page.route("**/api/v1/tasks/stream", lambda route: held.append(route))
    write(page, "/sim echo delay=0\nthe first")
    wait_for_held(page, held)
    composer(page).fill("and then")
    held[0].continue_()
    ended(page, 1)
    assert "/#/chat/" in page.url
    expect(composer(page)).to_have_value("and then")
    page.get_by_role("button", name="New chat").first.click()
    expect(composer(page)).to_have_value("")


def test_the_next_user_of_a_page_sees_no_question_that_was_refused(open_page: OpenPage, stack: Stack) -> None:
    """It would have gone back into the field of the new chat, and its user was in another one."""
    ada, bo = stack.person(), stack.person()
    chat = ada.chat("Another one")
    page = open_page("/", ada)
    held: list[Route] = []
    page.route("**/api/v1/tasks/stream", lambda route: held.append(route))
    write(page, "A secret of Ada's.")
    wait_for_held(page, held)
    page.evaluate("id => { location.hash = `#/chat/${id}`; }", chat)
    expect(page.get_by_role("heading", name="Another one")).to_be_visible()
    with page.expect_response("**/api/v1/tasks/stream"):
        held[0].fulfill(status=429, json={"detail": "Too many.", "code": "too_many_tasks"})
    open_account(page, "Sign out")
    page.get_by_label("Name").fill(bo.username)
    page.get_by_label("Password").fill(bo.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()
    expect(composer(page)).to_have_value("")


def test_the_next_user_of_a_page_sees_no_draft(open_page: OpenPage, stack: Stack) -> None:
    ada, bo = stack.person(), stack.person()
    page = open_page("/", ada)
    composer(page).fill("A secret of Ada's.")
    page.locator("input[type=file]").set_input_files(FilePayload(name="a.txt", mimeType="text/plain", buffer=b"deer"))
    expect(page.locator(".attachment")).to_be_visible()
    open_account(page, "Sign out")
    page.get_by_label("Name").fill(bo.username)
    page.get_by_label("Password").fill(bo.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(composer(page)).to_have_value("")
    expect(page.locator(".attachment")).to_have_count(0)


def test_a_dialog_closes_with_the_session_that_another_tab_ends(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    ada.chat("A secret of Ada's")
    page = open_page("/", ada)
    expect(composer(page)).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog")).to_contain_text("A secret of Ada's")
    second = page.context.new_page()
    second.goto("/")
    open_account(second, "Sign out")
    expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)
