"""An answer goes on at the exact character: after a reload, offline, in a second tab, and before it was accepted."""

import json

from playwright.sync_api import Page, Route, expect

from tests.web.browser import wait_for
from tests.web.chat_page import answers, chat_id, composer, ended, questions, text_of, write
from tests.web.conftest import OpenPage
from tests.web.stack import Person, Stack

SLOW = "/sim tokens=120 delay=90\nTell me about deer, 用中文和 emoji 🦌."
GROWING = "document.querySelector('.message.live .markdown')?.innerText.length"


def stored_answer(person: Person, chat: str) -> str:
    """Return the last answer of a chat, as it is stored."""
    return str(person.get(f"/chats/{chat}")["messages"][-1]["content"])


def words(text: str) -> str:
    """Return a text without the differences of white space that drawing makes."""
    return " ".join(text.split())


def test_a_reload_goes_on_with_the_same_answer(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    write(page, SLOW)
    wait_for(page, f"{GROWING} > 30")
    before = page.evaluate("document.querySelector('.message.live .markdown').innerText")
    page.reload()
    expect(page.locator(".message.live")).to_contain_text(before[:30])
    ended(page, 1)
    assert words(text_of(page)) == words(stored_answer(ada, chat_id(page)))
    assert len(ada.get(f"/chats/{chat_id(page)}")["messages"]) == 2


def test_an_answer_that_is_made_again_stays_in_its_place_after_a_reload(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Once more")
    first = ada.ask(chat, SLOW.replace("delay=90", "delay=0"))
    page = open_page(f"/#/chat/{chat}", ada)
    ended(page, 1)
    slow_down(ada, chat)
    page.get_by_role("button", name="Answer again").click()
    wait_for(page, f"{GROWING} > 30")
    page.reload()
    wait_for(page, f"{GROWING} > 30")
    expect(answers(page)).to_have_count(1)
    second = page.context.new_page()
    second.goto(f"/#/chat/{chat}")
    wait_for(second, f"{GROWING} > 30")
    expect(answers(second)).to_have_count(1)
    for tab in (page, second):
        ended(tab, 1)
    stored = ada.get(f"/chats/{chat}")["messages"]
    assert len(stored) == 2
    assert stored[-1]["task_id"] != first["task_id"]
    assert words(text_of(page)) == words(text_of(second)) == words(stored[-1]["content"])


def test_an_answer_that_goes_on_shows_its_beginning_after_a_reload(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    preset = ada.preset(parameters={"model": "qwen-plus", "max_tokens": 80})
    chat = ada.chat("Cut off", [], preset)
    begun = ada.ask(chat, "/sim tokens=400 delay=0\nTell me about deer.")
    assert begun["finish_reason"] == "length"
    page = open_page(f"/#/chat/{chat}", ada)
    ended(page, 1)
    slow_down(ada, chat)
    page.get_by_role("button", name="Continue", exact=True).click()
    wait_for(page, f"{GROWING} > {len(begun['content']) + 10}")
    page.reload()
    wait_for(page, f"{GROWING} > {len(begun['content']) + 10}")
    expect(answers(page)).to_have_count(1)
    expect(page.locator(".message.live")).to_contain_text(words(begun["content"])[:40])
    ended(page, 1)
    assert words(text_of(page)) == words(stored_answer(ada, chat))


def slow_down(person: Person, chat: str) -> None:
    """Let the next answer to the chat's question come slowly."""
    question = person.get(f"/chats/{chat}")["messages"][0]
    content = question["content"].replace("delay=0", "delay=120")
    version = person.http.get(f"/chats/{chat}").json()["version"]
    person.put(f"/chats/{chat}/messages/{question['n']}", {"content": content}, **{"If-Match": f'"{version}"'})


def test_offline_in_mid_answer_loses_and_repeats_no_character(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    resumed: list[str] = []
    page.on("request", lambda request: resumed.append(request.url) if "/stream?after=" in request.url else None)
    write(page, SLOW)
    wait_for(page, f"{GROWING} > 30")
    drop_lines(page)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    shown = page.evaluate("document.querySelector('.message.live .markdown').innerText")
    page.context.set_offline(False)
    ended(page, 1)
    assert words(text_of(page)) == words(stored_answer(ada, chat_id(page)))
    assert words(text_of(page)).startswith(words(shown)[:-1])


def drop_lines(page: Page) -> None:
    """Take the network away."""
    page.context.set_offline(True)


def test_a_second_tab_shows_the_same_answer_while_it_is_made(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    chat = ada.chat("Two tabs")
    first = open_page(f"/#/chat/{chat}", ada)
    second = first.context.new_page()
    second.goto(f"/#/chat/{chat}")
    expect(composer(second)).to_be_visible()
    expect(second.get_by_role("heading", name="Two tabs")).to_be_visible()
    write(first, SLOW)
    wait_for(second, f"{GROWING} > 10", "the second tab follows")
    expect(questions(second)).to_have_count(1)
    ended(first, 1)
    ended(second, 1)
    assert text_of(first) == text_of(second)
    assert words(text_of(first)) == words(stored_answer(ada, chat))

    # What one tab changes, the other one shows.
    ada.put(f"/chats/{chat}", {"pinned": True})
    write(second, "/sim echo delay=0\nfrom the second tab")
    ended(second, 2)
    expect(answers(first).last).to_contain_text("from the second tab")


def test_a_sign_out_in_one_tab_is_one_in_the_other(open_page: OpenPage, stack: Stack) -> None:
    first = open_page("/", stack.person())
    second = first.context.new_page()
    second.goto("/")
    expect(composer(second)).to_be_visible()
    first.locator("button.account").click()
    first.get_by_role("menuitem", name="Sign out").click()
    for page in (first, second):
        expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()


def test_a_question_whose_acceptance_was_lost_is_asked_once(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    keys: list[str] = []

    def lose(route: Route) -> None:
        """Let the server accept the first question, and lose its answer."""
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/tasks/stream", lose)
    write(page, "/sim echo delay=0\nasked once")
    ended(page, 1)
    assert len(keys) >= 2
    assert len(set(keys)) == 1
    assert len(ada.get(f"/chats/{chat_id(page)}")["messages"]) == 2
    assert len(ada.get("/chats")) == 1


def test_a_reload_before_the_acceptance_asks_with_the_same_key(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    keys: list[str] = []
    held: list[Route] = []

    def hold(route: Route) -> None:
        """Keep the first question from the server until the reload."""
        keys.append(route.request.headers["idempotency-key"])
        held.append(route) if len(keys) == 1 else route.continue_()

    page.route("**/api/v1/tasks/stream", hold)
    write(page, "/sim echo delay=0\nstill asked")
    expect(questions(page)).to_have_count(1)
    wait_for(page, "sessionStorage.getItem('aideer.asking') !== null")
    page.reload()
    expect(ended(page, 1)).to_contain_text("still asked")
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(ada.get("/chats")) == 1
    assert page.evaluate("sessionStorage.getItem('aideer.asking')") is None


def test_an_access_token_that_has_expired_is_refreshed_once(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/")
    refreshes: list[str] = []
    page.on("request", lambda request: refreshes.append(request.url) if request.url.endswith("/oauth2/token") else None)
    page.evaluate(
        "tokens => localStorage.setItem('aideer.tokens', tokens)", json.dumps({**ada.tokens, "access_token": "x"})
    )
    page.reload()
    expect(page.get_by_role("heading", name="What can I help with")).to_be_visible()
    assert len(refreshes) == 1


def test_a_session_that_was_ended_elsewhere_leads_to_the_sign_in(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    expect(composer(page)).to_be_visible()
    ada.http.delete("/session")
    write(page, "hello?")
    expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()
    expect(page.get_by_text("Your session has ended.")).to_be_visible()


def test_a_refused_question_comes_back_into_the_field(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    refusal = {"code": "too_many_answers", "detail": "You may ask for 20 answers a minute."}
    page.route(
        "**/api/v1/tasks/stream",
        lambda route: route.fulfill(status=429, json=refusal, headers={"Retry-After": "30"}),
    )
    write(page, "a question that is not lost")
    expect(page.locator(".notice", has_text="You may ask for 20 answers a minute.")).to_be_visible()
    expect(composer(page)).to_have_value("a question that is not lost")
    page.unroute("**/api/v1/tasks/stream")
    composer(page).press("Enter")
    ended(page, 1)
