"""axe-core finds nothing serious on either page, in its states, themes, sizes and languages (WCAG 2.2, levels A and AA)."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.browser import DESKTOP, PHONE, TABLET
from tests.web.conftest import OpenPage
from tests.web.console_page import settled
from tests.web.stack import ROOT, Person, Stack

AXE = (ROOT / ".venv" / "node" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE},
    "tablet": {"viewport": TABLET, "color_scheme": "dark"},
    "Chinese": {"locale": "zh-CN"},
}
ANSWER = """## A list

1. **Deer** shed their antlers every year.
2. They grow again, up to 2 cm a day.

| part | grows |
| --- | --- |
| antler | yes |
| horn | no |

> A quote, with `code` and a [link](https://example.com).

```python
def antlers(year: int) -> int:
    return year * 2  # points
```

The length is $l = \\\\frac{a}{b}$ and $$\\\\sum_{n=1}^{12} n^2 = 650.$$
"""


def serious(page: Page) -> list[str]:
    """Return axe's serious and critical findings, each with the elements that it is about."""
    page.evaluate(AXE)
    found = page.evaluate(
        "(tags) => axe.run(document, { runOnly: tags, resultTypes: ['violations'] }).then((result) => result.violations)",
        TAGS,
    )
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: " + "; ".join(node["html"][:160] for node in one["nodes"][:5])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Person:
    """A user with chats of all kinds."""
    ada = stack.person(nickname="Ada")
    preset = ada.preset("Deer", description="Knows the forest.")
    for n in range(12):
        ada.chat(f"Chat {n}", [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}], preset)
    chat_id = ada.chat("Antlers", [], preset)
    ada.echo(chat_id, ANSWER)
    return ada


@pytest.mark.parametrize("look", LOOKS)
def test_signing_in(open_page: OpenPage, look: str) -> None:
    page = open_page("/", **LOOKS[look])
    expect(page.locator("input[type=password]")).to_be_visible()
    assert serious(page) == []


@pytest.mark.parametrize("look", LOOKS)
def test_a_new_chat(open_page: OpenPage, ada: Person, look: str) -> None:
    page = open_page("/", ada, **LOOKS[look])
    expect(page.locator("textarea")).to_be_visible()
    assert serious(page) == []


@pytest.mark.parametrize("look", LOOKS)
def test_an_answer_with_code_a_table_and_formulas(open_page: OpenPage, ada: Person, look: str) -> None:
    [chat] = [one for one in ada.get("/chats", limit=50) if one["title"] == "Antlers"]
    page = open_page(f"/#/chat/{chat['id']}", ada, **LOOKS[look])
    expect(page.locator("article.answer table")).to_be_visible()
    expect(page.locator("article.answer math").first).to_be_visible()
    expect(page.locator("article.answer pre code span").first).to_be_attached()
    assert serious(page) == []


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_an_answer_that_is_being_made(open_page: OpenPage, ada: Person, look: str) -> None:
    page = open_page("/", ada, **LOOKS[look])
    page.locator("textarea").fill("/sim tokens=2000 delay=20 Tell me of deer")
    page.locator("textarea").press("Enter")
    expect(page.locator("article.answer.live")).to_contain_text(" ")
    assert serious(page) == []
    page.get_by_role("button", name="Stop").click()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_console(open_page: OpenPage, stack: Stack, look: str) -> None:
    """Each of its parts, as its navigation lists them."""
    page = open_page("/admin", stack.admin(), **LOOKS[look], viewport=DESKTOP)
    links = page.get_by_role("navigation").get_by_role("link")
    expect(links.nth(4)).to_be_visible()
    for n in range(links.count()):
        links.nth(n).click()
        expect(links.nth(n)).to_have_attribute("aria-current", "page")
        settled(page)
        assert serious(page) == [], links.nth(n).inner_text()


def test_the_console_of_a_phone(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin", stack.admin(), viewport=PHONE)
    expect(page.get_by_role("main")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert serious(page) == []
