"""The chat page as its user sees it: the parts that tests find, and what they do again and again."""

from playwright.sync_api import Locator, Page, expect

COMPOSER = "Your question"


def composer(page: Page) -> Locator:
    """Return the field for a question."""
    return page.get_by_role("textbox", name=COMPOSER)


def write(page: Page, text: str) -> None:
    """Send a question, as a person does who pastes it and presses Enter."""
    field = composer(page)
    field.fill(text)
    field.press("Enter")


def answers(page: Page) -> Locator:
    """Return the answers that are drawn, the one that is being made included."""
    return page.locator(".message.answer")


def ended(page: Page, count: int) -> Locator:
    """Wait until this many answers are drawn and none is being made. Return the last one."""
    expect(page.locator(".message.answer:not(.live)")).to_have_count(count)
    expect(page.locator(".message.live")).to_have_count(0)
    return answers(page).last


def text_of(page: Page) -> str:
    """Return the text of the last answer, without anything around it."""
    return answers(page).last.locator(":scope > .markdown").inner_text()


def questions(page: Page) -> Locator:
    """Return the questions that are drawn."""
    return page.locator(".message.question .bubble")


def choose(page: Page, menu: str, item: str) -> None:
    """Choose from a menu."""
    page.get_by_role("button", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def open_account(page: Page, item: str) -> None:
    """Choose from the menu of the account."""
    page.locator("button.account").click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def chat_id(page: Page) -> str:
    """Return the id of the open chat."""
    return page.url.split("#/chat/")[1].split("/")[0]
