"""The whole journey of a user on the chat page, by mouse and keyboard, against a real stack."""

import json
import secrets
import struct
import time
import zlib
from pathlib import Path
from typing import Any

from playwright.sync_api import FilePayload, Page, Route, expect

from tests.waiting import PATIENCE_SECONDS
from tests.web.browser import wait_for_copied, wait_for_held
from tests.web.chat_page import chat_id, choose, composer, ended, open_account, questions, text_of, write
from tests.web.conftest import OpenPage
from tests.web.stack import PASSWORD, Person, Stack


def green_square() -> bytes:
    """A PNG of 40 by 40 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x1d\x6b\x50" * 40 for _ in range(40))
    header = struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_stranger_signs_up_asks_and_pays_to_the_credit(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/")
    page.get_by_role("radio", name="Sign up").click()
    username = f"ada{secrets.token_hex(4)}"
    page.get_by_label("Name").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()
    assert "/#/" in page.url or page.url.endswith("/")

    write(page, "/sim tokens=40 delay=100\nWhat do deer eat?")
    line = page.get_by_test_id("live-line")
    expect(line).to_contain_text("held for this answer")
    ended(page, 1)
    expect(line).to_contain_text("spent ·")
    person = Person(stack.url, username, PASSWORD)
    ledger = person.get("/users/me/credits", limit=100)
    answer = next(entry for entry in ledger["credit_records"] if entry["kind"] == "chat_generation")
    expect(line).to_contain_text(f"{-answer['amount']} spent")
    stored = person.get(f"/chats/{chat_id(page)}")
    assert stored["messages"][1]["content"] == text_of(page)


def test_a_guest_needs_one_click(open_page: OpenPage) -> None:
    page = open_page("/")
    page.get_by_role("button", name="Try it as a guest").click()
    expect(page.get_by_role("heading", name="What can I help with, Guest?")).to_be_visible()
    page.get_by_role("button", name="Write with me").click()
    ended(page, 1)
    page.locator("button.account").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()
    assert page.evaluate("localStorage.getItem('aideer.tokens')") is None


def test_a_wrong_password_is_a_sentence_in_the_users_language(open_page: OpenPage) -> None:
    page = open_page("/", locale="zh-CN")
    page.get_by_label("用户名").fill("nobody-of-that-name")
    page.get_by_label("密码").fill("wrong-password")
    page.get_by_role("button", name="登录", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("密码")


def test_an_answer_is_stopped_continued_and_made_again(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    write(page, "/sim tokens=2000 delay=30\nCount the deer.")
    expect(page.locator(".message.live .segment").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    answer = ended(page, 1)
    expect(answer).to_contain_text("You stopped this answer.")
    first = ada.get(f"/chats/{chat_id(page)}")["messages"][1]
    assert first["finish_reason"] == "stopped"
    assert first["credits"] > 0

    composer(page).fill("x")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".message.live .segment").first).to_be_visible()
    expect(page.locator(".message.answer")).to_have_count(1)  # it stands in the place of the old one
    page.get_by_role("button", name="Stop").click()
    ended(page, 1)
    second = ada.get(f"/chats/{chat_id(page)}")["messages"]
    assert len(second) == 2
    assert second[1]["task_id"] != first["task_id"]
    assert composer(page).input_value() == "x"


def test_a_cut_off_answer_goes_on_in_the_same_message(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    preset = ada.post(
        "/presets", {"title": "Short", "parameters": {"model": "qwen-plus", "max_tokens": 30}, "messages": []}
    )
    chat = ada.chat("Long", preset_id=preset["id"])
    page = open_page(f"/#/chat/{chat}", ada)
    write(page, "/sim tokens=60\nTell a long story.")
    answer = ended(page, 1)
    expect(answer).to_contain_text("reached its greatest length")
    before = ada.get(f"/chats/{chat}")["messages"][1]["content"]
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator(".message.live")).to_contain_text(before[:20])
    ended(page, 1)
    after = ada.get(f"/chats/{chat}")["messages"][1]["content"]
    assert after.startswith(before)
    assert len(after) > len(before)
    expect(answer).to_contain_text(after[-20:].strip())


def test_a_failed_answer_says_that_it_is_free_and_can_be_tried_again(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    write(page, "/sim fail=drop_mid at=9")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("It costs nothing.")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("It costs nothing.")


def test_a_question_is_edited_and_both_branches_stay(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Branches")
    ada.echo(chat, "They eat twigs.")
    page = open_page(f"/#/chat/{chat}", ada)
    expect(questions(page)).to_have_count(1)
    page.locator(".message.question").hover()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Edit the question").fill("/sim echo delay=0\nThey sleep in the bush.")
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(ended(page, 1)).to_contain_text("They sleep in the bush.")
    expect(page.locator(".siblings")).to_have_text("2 / 2")
    page.get_by_role("button", name="Version before").click()
    expect(page.locator(".siblings")).to_have_text("1 / 2")
    expect(page.locator(".message.answer")).to_contain_text("They eat twigs.")
    page.get_by_role("button", name="Next version").click()
    expect(page.locator(".message.answer")).to_contain_text("They sleep in the bush.")


def test_an_answer_is_copied_rated_and_branched_off(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Rated")
    ada.echo(chat, "Deer **eat** `twigs`.")
    page = open_page(f"/#/chat/{chat}", ada, permissions=["clipboard-read", "clipboard-write"])
    answer = ended(page, 1)
    answer.get_by_role("button", name="Copy", exact=True).click()
    wait_for_copied(page, "Deer **eat** `twigs`.")

    answer.get_by_role("button", name="Good answer").click()
    expect(answer.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    assert ada.get(f"/chats/{chat}")["messages"][1]["feedback"]["rating"] == "up"
    answer.get_by_role("button", name="Bad answer").click()
    page.get_by_role("button", name="Incomplete").click()
    page.get_by_label("In your words").fill("Bark is missing.")
    page.get_by_role("button", name="Send", exact=True).last.click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    feedback = ada.get(f"/chats/{chat}")["messages"][1]["feedback"]
    assert (feedback["rating"], feedback["tags"], feedback["comment"]) == ("down", ["incomplete"], "Bark is missing.")

    answer.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Continue in a new chat").click()
    expect(page.get_by_text("This is a copy of the chat")).to_be_visible()
    assert chat_id(page) != chat
    ended(page, 1)


def test_a_chat_is_shared_read_by_a_stranger_and_revoked(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person(nickname="Ada")
    chat = ada.chat("Deer at night")
    ada.echo(chat, "They see well in the dark.")
    page = open_page(f"/#/chat/{chat}", ada)
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_label("Show my nickname").check()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link", exact=True).input_value()
    stranger = open_page(link.removeprefix(stack.url))
    expect(stranger.get_by_role("heading", name="Deer at night")).to_be_visible()
    expect(stranger.get_by_text("by Ada")).to_be_visible()
    expect(stranger.locator(".message.answer")).to_contain_text("They see well in the dark.")

    page.get_by_role("button", name="Revoke this link").click()
    expect(page.get_by_text("The link no longer works.")).to_be_visible()
    stranger.reload()
    expect(stranger.get_by_text("This link does not exist, or it has expired.")).to_be_visible()


def test_a_chat_is_saved_as_markdown_and_as_json(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Saved: deer/elk")
    ada.echo(chat, "Saved text.")
    page = open_page(f"/#/chat/{chat}", ada)
    ended(page, 1)
    with page.expect_download() as started:
        choose(page, "Actions on this chat", "Export as Markdown")
    assert started.value.suggested_filename == "Saved deer elk.md"
    assert "Saved text." in Path(started.value.path()).read_text(encoding="utf-8")
    with page.expect_download() as started:
        choose(page, "Actions on this chat", "Export as JSON")
    assert json.loads(Path(started.value.path()).read_text(encoding="utf-8"))["id"] == chat


def test_an_image_is_uploaded_pasted_and_asked_about(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    preset = ada.preset("Seeing", "qwen3.5-plus")
    page = open_page(f"/#/chat/{ada.chat('Photos', preset_id=preset)}", ada)
    photo = FilePayload(name="deer.png", mimeType="image/png", buffer=green_square())
    page.locator("input[type=file]").first.set_input_files([photo])
    expect(page.locator(".attachment.ready")).to_have_count(1)
    paste_image(page, green_square())
    expect(page.locator(".attachment.ready")).to_have_count(2)
    write(page, "/sim tokens=20\nWhat is it?")
    expect(ended(page, 1)).to_contain_text("I can see 2 images.")
    pictures = page.locator(".picture img")
    expect(pictures).to_have_count(2)
    page.reload()
    ended(page, 1)
    expect(pictures).to_have_count(2)
    assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 40


def paste_image(page: Page, content: bytes) -> None:
    """Paste an image from the clipboard."""
    composer(page).evaluate(
        """(field, bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        list(content),
    )


def test_a_document_tells_its_tokens_and_can_be_removed(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    text = FilePayload(name="deer.txt", mimeType="text/plain", buffer=b"Deer eat grass and bark.")
    page.locator("input[type=file]").first.set_input_files([text])
    expect(page.locator(".attachment.ready")).to_contain_text("tokens")
    page.get_by_role("button", name="Remove deer.txt").click()
    expect(page.locator(".attachment")).to_have_count(0)
    wrong = FilePayload(name="deer.exe", mimeType="application/x-msdownload", buffer=b"MZ")
    page.locator("input[type=file]").first.set_input_files([wrong])
    expect(page.locator(".attachment.failed")).to_contain_text("Images, text, Markdown, PDF and Word only.")


def test_a_code_is_redeemed_and_stands_in_the_ledger(open_page: OpenPage, stack: Stack) -> None:
    code = stack.admin().post("/codes", {"value": 12345})["redeem_code"]
    page = open_page("/", stack.person())
    open_account(page, "Credits")
    page.get_by_label("Redeem code").fill("NO-SUCH-CODE")
    page.get_by_role("button", name="Redeem", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("There is no such code.")
    page.get_by_label("Redeem code").fill(code.lower())
    page.get_by_role("button", name="Redeem", exact=True).click()
    expect(page.get_by_text("12,345 credits were added.")).to_be_visible()
    expect(page.locator(".ledger li").first).to_contain_text("+12,345")
    expect(page.locator("button.account")).to_contain_text("1,012,345")
    page.get_by_role("radio", name="Usage").click()
    expect(page.get_by_text("0 credits in the last")).to_be_visible()


def stored_as(page: Page, person: Person, wanted: dict[str, Any]) -> None:
    """Wait until the stored settings are these. The page's requests that a test routes go on meanwhile."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (stored := person.get("/users/me/settings")) != wanted:
        assert time.monotonic() < give_up_at, stored
        page.wait_for_timeout(50)


def test_settings_hold_on_another_device(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    open_account(page, "Settings")
    page.get_by_role("radio", name="Dark").click()
    page.get_by_role("radio", name="中文").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("heading", name="设置")).to_be_visible()
    stored_as(page, ada, {"theme": "dark", "language": "zh"})
    phone = open_page("/", ada)
    expect(phone.locator("html")).to_have_attribute("data-theme", "dark")
    expect(phone.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(phone.get_by_placeholder("随便问点什么")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_settings_that_change_at_once_are_all_stored(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    ada.put("/users/me/settings", {"theme": "light", "of_another_front_end": 1})
    page = open_page("/", ada)
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    held: list[Route] = []
    page.route("**/users/me/settings", lambda route: held.append(route) if not held else route.continue_())
    open_account(page, "Settings")
    page.get_by_role("radio", name="Dark").click()
    wait_for_held(page, held)
    page.get_by_role("radio", name="中文").click()
    expect(page.get_by_role("heading", name="设置")).to_be_visible()
    # Meanwhile another device stores a setting of its own.
    ada.put("/users/me/settings", {"theme": "light", "of_another_front_end": 2})
    held[0].continue_()
    wanted = {"theme": "dark", "language": "zh", "of_another_front_end": 2}
    stored_as(page, ada, wanted)


def test_a_setting_that_another_device_changes_in_between_is_kept(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    expect(composer(page)).to_be_visible()
    held: list[Route] = []

    def hold_the_first_put(route: Route) -> None:
        if route.request.method == "PUT" and not held:
            held.append(route)
        else:
            route.continue_()

    page.route("**/users/me/settings", hold_the_first_put)
    open_account(page, "Settings")
    page.get_by_role("radio", name="Dark").click()
    wait_for_held(page, held)
    ada.put("/users/me/settings", {"of_another_front_end": 1})
    held[0].continue_()
    wanted = {"theme": "dark", "of_another_front_end": 1}
    stored_as(page, ada, wanted)


def test_stored_settings_that_come_late_undo_no_choice(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    ada.put("/users/me/settings", {"theme": "light"})
    page = open_page("/admin", ada)  # the tokens are there, and the chat page is not yet open
    held: list[Route] = []
    page.route("**/users/me/settings", lambda route: held.append(route) if not held else route.continue_())
    page.goto("/")
    wait_for_held(page, held)
    stale = held[0].fetch()
    open_account(page, "Settings")
    page.get_by_role("radio", name="Dark").click()
    stored_as(page, ada, {"theme": "dark"})
    with page.expect_response("**/users/me/settings"):
        held[0].fulfill(response=stale)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_new_password_keeps_this_device_and_ends_the_others(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    open_account(page, "Settings")
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_label("Old password").fill(PASSWORD)
    page.get_by_label("New password").fill("another-deer-in-the-fog-8")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("The password was changed.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()
    assert ada.http.get("/users/me").status_code == 401


def test_chats_are_found_pinned_tagged_renamed_archived_and_deleted(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    ada.chat("Elk", [{"role": "user", "content": "where do elk sleep in winter"}])
    chat = ada.chat("Deer")
    page = open_page(f"/#/chat/{chat}", ada)
    menu = "Actions on this chat"
    choose(page, menu, "Pin")
    expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    choose(page, menu, "Tags")
    page.get_by_label("New tag").fill("forest")
    page.get_by_label("New tag").press("Enter")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".top-bar")).to_contain_text("forest")
    choose(page, menu, "Rename")
    page.get_by_label("Title").fill("红鹿与森林")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="红鹿与森林")).to_be_visible()
    stored = ada.get(f"/chats/{chat}")
    assert (stored["title"], stored["pinned"], stored["tags"]) == ("红鹿与森林", True, ["forest"])

    page.get_by_role("button", name="Filter the chats").click()
    page.get_by_role("menuitemradio", name="forest").click()
    expect(page.locator(".chat-row")).to_have_count(1)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".chat-row")).to_have_count(2)

    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search your chats").fill("SLEEP winter")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(questions(page)).to_contain_text("where do elk sleep in winter")

    choose(page, menu, "Archive")
    expect(page.locator(".chat-row")).to_have_count(1)
    choose(page, menu, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()
    assert [one["id"] for one in ada.get("/chats")] == [chat]


def test_a_preset_is_made_chosen_liked_and_deleted(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    page.get_by_role("button", name="Browse presets").click()
    page.get_by_role("button", name="New preset").click()
    page.get_by_label("Name", exact=True).fill("Forester")
    page.get_by_label("Instructions").fill("Answer as a forester.")
    page.get_by_label("Think before answering").check()
    page.get_by_role("button", name="Save").click()
    card = page.locator(".preset-card", has_text="Forester")
    expect(card).to_contain_text("Thinks first")
    card.get_by_role("button", name="Like (0)").click()
    expect(card.get_by_role("button", name="Like (1)")).to_have_attribute("aria-pressed", "true")
    card.get_by_role("button", name="New chat").click()
    expect(page.locator(".preset-picker")).to_contain_text("Forester")
    write(page, "/sim think=20 tokens=20\nWhich tree is this?")
    answer = ended(page, 1)
    expect(answer.locator(".thoughts")).to_have_count(0)  # folded
    answer.locator("summary").click()
    expect(answer.locator(".thoughts")).not_to_be_empty()
    stored = ada.get(f"/chats/{chat_id(page)}")
    assert ada.get(f"/presets/{stored['preset_id']}")["messages"][0]["content"] == "Answer as a forester."

    open_account(page, "Presets")
    page.get_by_role("radio", name="Mine").click()
    page.get_by_role("button", name="Actions on Forester").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(page.get_by_text("No presets here yet")).to_be_visible()


def test_sources_and_markdown_are_drawn_and_nothing_else_is_loaded(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    preset = ada.post(
        "/presets", {"title": "Web", "parameters": {"model": "qwen-plus", "enable_search": True}, "messages": []}
    )
    page = open_page(f"/#/chat/{ada.chat('Web', preset_id=preset['id'])}", ada)
    write(page, "/sim search=3 tokens=20\nNews of deer")
    expect(ended(page, 1).locator(".sources li")).to_have_count(3)

    shown = "| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nprint('deer')\n```\n\n$$\\frac{1}{2}$$\n\nand \\(x^2\\)\n"
    write(page, f"/sim echo delay=0\n{shown}")
    answer = ended(page, 2)
    expect(answer.locator("td")).to_have_count(2)
    expect(answer.locator(".hljs-string")).to_have_text("'deer'")
    expect(answer.locator("math")).to_have_count(2)
    expect(answer.locator("math mfrac")).to_have_count(1)
