"""Long lists and long answers: what is drawn stays small, however much there is."""

import datetime
import json
import time
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.waiting import PATIENCE_SECONDS, until
from tests.web.browser import PHONE, wait_for, wait_for_held
from tests.web.chat_page import answers, ended, questions, write
from tests.web.conftest import OpenPage
from tests.web.stack import Stack

CHATS = 10_000
MESSAGES = 2_000
ROWS = 60
"""More rows than this are never drawn at one time."""
NODES_A_FRAME = 3_000
"""More elements and texts than this are never added in one frame."""

# Counts the nodes that are added between two frames, and keeps the largest count and the longest time between frames.
COUNT = """
globalThis.frames_ = { most: 0, longest: 0, last: performance.now() };
const added = new Set();
new MutationObserver((records) => {
  for (const record of records) for (const node of record.addedNodes) {
    const walker = document.createTreeWalker(node);
    do added.add(walker.currentNode); while (walker.nextNode());
  }
}).observe(document, { childList: true, subtree: true });
const frame = (time) => {
  frames_.most = Math.max(frames_.most, added.size);
  added.clear();
  frames_.longest = Math.max(frames_.longest, time - frames_.last);
  frames_.last = time;
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


def fake_chat(number: int) -> dict[str, Any]:
    """Return a chat as GET /chats has it, the newest one first."""
    seconds = 1_790_000_000 - number * 600
    time = f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "id": f"chat-{number:05}",
        "owner_id": "me",
        "preset_id": "p",
        "preset_version": 1,
        "title": f"Chat {number:05}",
        "title_source": "person",
        "visibility": "private",
        "version": 1,
        "pinned": False,
        "archived": False,
        "tags": [],
        "create_time": time,
        "update_time": time,
        "message_count": 2,
        "last_message": "…",
    }


def test_ten_thousand_chats_are_scrolled_and_few_are_drawn(open_page: OpenPage, stack: Stack) -> None:
    asked: list[int] = []

    def list_chats(route: Route) -> None:
        if "pinned=true" in route.request.url:
            route.fulfill(json=[])
            return
        start = int(route.request.url.split("cursor=")[1]) if "cursor=" in route.request.url else 0
        asked.append(start)
        end = min(start + 500, CHATS)
        headers = {"X-Next-Cursor": str(end)} if end < CHATS else {}
        route.fulfill(json=[fake_chat(number) for number in range(start, end)], headers=headers)

    page = open_page("/", stack.person())
    page.route("**/api/v1/chats?*", list_chats)
    page.reload()
    rows = page.locator(".chat-row")
    expect(rows.first).to_contain_text("Chat 00000")
    most, give_up_at = 0, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        page.evaluate("document.querySelector('.chat-list .windowed').scrollTop = 1e9")
        page.wait_for_timeout(30)
        most = max(most, rows.count())
        if page.get_by_text("Chat 09999").count():
            break
    expect(page.get_by_text("Chat 09999")).to_be_visible()
    assert most <= ROWS
    assert [start for start in asked if start] == list(range(500, CHATS, 500)), "each further page is read once"
    page.evaluate("document.querySelector('.chat-list .windowed').scrollTop = 0")
    expect(rows.first).to_contain_text("Chat 00000")
    assert rows.count() <= ROWS

    # Up and down go from chat to chat, and further rows are drawn on the way.
    rows.first.get_by_role("link").focus()
    for number in range(1, 61):
        expect(page.get_by_text(f"Chat {number:05}")).to_be_attached()  # the frame that draws it may come later
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").startswith("Chat 00060")


def test_two_thousand_messages_are_scrolled_and_few_are_drawn(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Long")
    for first in range(0, MESSAGES, 50):
        ada.post(
            f"/chats/{chat}/messages",
            {
                "messages": [
                    {
                        "role": "assistant" if number % 2 else "user",
                        "content": f"message {number} " + "deer " * (number % 90),
                    }
                    for number in range(first, first + 50)
                ]
            },
        )
    page = open_page(f"/#/chat/{chat}", ada)
    last = page.get_by_text(f"message {MESSAGES - 1} ")
    expect(last).to_be_in_viewport()
    turns = page.locator(".thread .turn")
    page.locator(".thread").hover()
    most, give_up_at = 0, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        page.mouse.wheel(0, -100_000)
        page.wait_for_timeout(40)
        most = max(most, turns.count())
        if page.get_by_text("message 0 ").count():
            break
    expect(page.get_by_text("message 0 ", exact=False).first).to_be_visible()
    assert most <= ROWS
    page.get_by_role("button", name="To the newest message").click()
    expect(last).to_be_in_viewport()
    assert turns.count() <= ROWS


def test_older_messages_come_in_above_without_moving_what_is_read(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Anchored")
    for first in range(0, 150, 50):
        content = [{"role": "user", "content": f"message {n} " + "deer " * (n % 70)} for n in range(first, first + 50)]
        ada.post(f"/chats/{chat}/messages", {"messages": content})
    page = open_page(f"/#/chat/{chat}", ada)
    expect(page.get_by_text("message 149 ")).to_be_in_viewport()
    thread = page.locator(".thread")
    held: list[Route] = []
    page.route("**/api/v1/chats/*before=*", lambda route: held.append(route))
    thread.hover()
    page.mouse.wheel(0, -100_000)
    wait_for_held(page, held)
    wait_for(page, "document.querySelector('.thread').scrollTop === 0")
    place = "document.querySelector('[id=\"message-95\"]').getBoundingClientRect().top"
    before = settled(page, place)
    held[0].continue_()
    above = f"document.querySelector('.thread').scrollTop > 500 && Math.abs({place} - {before}) < 4"
    wait_for(page, above, "the older messages are above")


def settled(page: Page, expression: str) -> Any:
    """Return a value as soon as it is the same in ten frames, one after the other."""
    frames = """const values = [];
      const next = (resolve) => requestAnimationFrame(() => {
        values.push(EXPRESSION);
        const last = values.slice(-10);
        if (last.length === 10 && last.every((value) => value === last[0])) resolve(last[0]); else next(resolve);
      });"""
    return page.evaluate(f"() => {{ {frames.replace('EXPRESSION', expression)} return new Promise(next); }}")


def test_an_answer_of_300_kb_is_drawn_in_bounded_frames(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    page.evaluate(COUNT)
    write(page, "/sim fail=huge")
    ended(page, 1)
    length = "document.querySelector('.message.answer .markdown').textContent.length"
    wait_for(page, f"{length} > 150_000", "the whole is drawn")
    shown = page.evaluate(length)
    frames = page.evaluate("frames_")
    print("longest frame", round(frames["longest"]), "ms; most nodes in a frame", frames["most"], "; characters", shown)
    assert frames["most"] <= NODES_A_FRAME


def test_all_of_a_long_answer_at_once_is_drawn_in_bounded_frames(open_page: OpenPage, stack: Stack) -> None:
    text = "".join(
        f"## Part {n}\n\nSome **bold** words, `code` and a [link](https://example.com/{n}).\n\n"
        f"| a | b |\n|---|---|\n| {n} | *x* |\n\n1. one\n2. two\n\n```js\nconst part = {n};\n```\n\n"
        for n in range(2_000)
    )
    ada = stack.person()
    chat = ada.chat("Burst")
    page = open_page(f"/#/chat/{chat}", ada)
    expect(page.get_by_role("heading", name="Burst")).to_be_visible()
    message = {
        "n": 2,
        "role": "assistant",
        "type": "text",
        "content": text,
        "task_id": "t",
        "create_time": "2026-11-29",
    }
    end = {
        "status": "finished",
        "content": text,
        "finish_reason": "stop",
        "credits": 9,
        "message": message,
        "chat_version": 3,
    }
    start = {"task_id": "t", "chat_id": chat, "position": 0, "messages": [1], "credits_held": 50}
    body = f"event: start\nid: 0\ndata: {json.dumps(start)}\n\n"
    for at in range(0, len(text), 1_000):
        piece = json.dumps({"status": "running", "content": text[at : at + 1_000]})
        body += f"id: {at + 1_000}\ndata: {piece}\n\n"
    body += f"id: end\ndata: {json.dumps(end)}\n\nevent: close\ndata: {{}}\n\n"
    page.route(
        "**/api/v1/tasks/stream",
        lambda route: route.fulfill(body=body, headers={"Content-Type": "text/event-stream; charset=utf-8"}),
    )
    page.route(f"**/api/v1/chats/{chat}?*", lambda route: route.abort())
    page.evaluate(COUNT)
    write(page, "burst")
    wait_for(page, "[...document.querySelectorAll('.markdown h2')].at(-1)?.textContent === 'Part 1999'", "the whole")
    frames = page.evaluate("frames_")
    print("longest frame", round(frames["longest"]), "ms; most nodes in a frame", frames["most"])
    assert frames["most"] <= NODES_A_FRAME
    assert page.locator(".markdown h2").count() == 2_000
    assert len(text) > 300_000


def test_code_and_formulas_whose_libraries_come_late_are_drawn_in_bounded_frames(
    open_page: OpenPage, stack: Stack
) -> None:
    ada = stack.person()
    parts = 700
    answer = "".join(f"```js\nconst a = {n};\n```\n\n$x_{{{n}}}$\n\n" for n in range(parts))
    chat = ada.chat("Late", [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}])
    page = open_page("/", ada)
    held: list[Route] = []
    for library in ("**/vendor/highlight/*.js", "**/vendor/temml.js"):
        page.route(library, lambda route: held.append(route))
    page.goto(f"/#/chat/{chat}")
    wait_for(page, f"document.querySelectorAll('.markdown pre').length === {parts}", "all is drawn")
    assert page.locator(".markdown pre span, .markdown math").count() == 0
    wait_for_held(page, held, 3)  # the highlighter, its grammar, and the formulas
    page.evaluate(COUNT)
    for route in held:
        route.continue_()
    colored = "document.querySelectorAll('.markdown pre .hljs-keyword').length"
    drawn = "document.querySelectorAll('.markdown math').length"
    wait_for(page, f"{colored} === {parts} && {drawn} === {parts}", "all has its colors and formulas")
    frames = page.evaluate("frames_")
    print("longest frame", round(frames["longest"]), "ms; most nodes in a frame", frames["most"])
    assert frames["most"] <= NODES_A_FRAME


def test_a_hostile_answer_draws_bounded_frames_too(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Hostile")
    page = open_page(f"/#/chat/{chat}", ada)
    page.evaluate(COUNT)
    hostile = [
        ">" * 20_000,
        "|" * 5_000 + "\n" + "|-" * 5_000 + "|\n" + "|x" * 5_000,
        "*a*" * 10_000,
        "[" * 20_000,
        "- " * 10_000,
        "```js\n" + "let deer = 1;" * 5_000,
        "$" * 9_999 + "\\frac{" * 2_000,
    ]
    for number, text in enumerate(hostile, 1):
        write(page, f"/sim echo delay=0\n{text}")
        until(lambda count=2 * number: ada.get(f"/chats/{chat}")["message_count"] == count, "the answer is stored")
        expect(page.locator(".message.live")).to_have_count(0)
    frames = page.evaluate("frames_")
    print("longest frame", round(frames["longest"]), "ms; most nodes in a frame", frames["most"])
    assert frames["most"] <= NODES_A_FRAME
    assert answers(page).count() <= len(hostile)


def test_a_phone_draws_few_rows_too(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Phone", [{"role": "user", "content": f"message {n}"} for n in range(50)])
    page = open_page(f"/#/chat/{chat}", ada, viewport=PHONE)
    expect(questions(page).last).to_be_in_viewport()
    assert page.locator(".thread .turn").count() <= ROWS
