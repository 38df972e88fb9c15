"""Every text of a stranger is shown, and does nothing: in answers, titles, names, tags, presets, shared chats, news, keys, and in
the console.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote
from zlib import crc32

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web import corpus
from tests.web.browser import Watch, open_context, wait_for
from tests.web.conftest import OpenPage
from tests.web.console_page import go, settled
from tests.web.corpus import MARK
from tests.web.stack import Person, Stack

TITLE = 50
"""The most characters of a title and of a name."""
LINES = {name: text[:TITLE].strip() for name, text in corpus.LINES.items()}

# What must not be in the page, whatever a text says. The page's own elements have styles, which its scripts set.
DANGERS = r"""(root) => {
  const found = globalThis.stolen === undefined ? [] : ["a script ran"];
  const tags = "script iframe object embed base meta link style video audio use animate set foreignobject image template maction";
  for (const element of root.querySelectorAll("*")) {
    const tag = element.localName;
    if (tags.split(" ").includes(tag.toLowerCase()) && !element.matches("body > *")) found.push(`<${tag}>`);
    for (const { name, value } of element.attributes) {
      const shown = `${tag} ${name}=${value}`;
      if (name.startsWith("on")) found.push(shown);
      if (name === "style" && /url|fixed|expression/.test(value)) found.push(shown);
      if (/href|action$/.test(name) && !/^(https?:\/\/|mailto:|#|\/|blob:http)/.test(value)) found.push(shown);
      if (/^(src|poster|srcset|data)$/.test(name) && !/^(\/|blob:)/.test(value.replace(location.origin, ""))) found.push(shown);
    }
  }
  if (getComputedStyle(document.body).display === "none") found.push("the page is hidden");
  return found;
}"""


@dataclass
class Reader:
    """One page for many texts, and its user."""

    page: Page
    person: Person
    watch: Watch
    preset: str

    def show(self, text: str) -> None:
        """Open a chat whose answer is this text."""
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
        chat_id = self.person.chat("Hostile", messages, self.preset)
        self.page.evaluate(f"location.hash = '#/chat/{chat_id}'")

    def check(self) -> None:
        """Fail if anything of a text is more than text."""
        assert self.page.evaluate(f"({DANGERS})(document.body)") == []
        self.watch.check()
        assert self.page.url.startswith(self.watch.origin), "the page is still there"


@pytest.fixture(scope="module")
def reader(stack: Stack, browser: Browser) -> Iterator[Reader]:
    """A page that stays open."""
    person, watch = stack.person(), Watch(stack.url)
    context = open_context(browser, stack, watch, person)
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_role("textbox", name="Your question")).to_be_visible()
    yield Reader(page, person, watch, person.preset())
    context.close()


def last_answer_has(text: str, selector: str = "article.answer") -> str:
    """The condition that the chat's last answer shows this text."""
    return f"[...document.querySelectorAll('{selector}')].at(-1)?.textContent.includes('{text}')"


@pytest.mark.parametrize("name", corpus.answers())
def test_a_stored_answer_is_shown_and_does_nothing(reader: Reader, name: str) -> None:
    text = corpus.answers()[name]
    marked = f"{MARK}-{crc32(name.encode())}"
    reader.show(text.replace(MARK, marked))
    wait_for(
        reader.page, f"[...document.querySelectorAll('article.answer')].at(-1)?.textContent.includes('{marked}')", name
    )
    reader.check()


@pytest.mark.parametrize("name", [*corpus.HTML, *corpus.UNCLOSED])
def test_markup_is_shown_as_the_text_that_it_is(reader: Reader, name: str) -> None:
    text = (corpus.HTML | corpus.UNCLOSED)[name]
    marked = f"as-text-{crc32(name.encode())}"
    reader.show(f"{text}{marked}")
    wait_for(
        reader.page, f"[...document.querySelectorAll('article.answer')].at(-1)?.textContent.includes('{marked}')", name
    )
    shown = reader.page.evaluate("[...document.querySelectorAll('article.answer')].at(-1).textContent")
    for word in ("globalThis.stolen", "evil.example", "<div", "CDATA"):
        assert (word in text) <= (word in shown), word
    reader.check()


GROUPS = {
    "html": "\n\n".join(corpus.HTML.values()),
    "svg and mathml": "\n\n".join((corpus.SVG | corpus.MATHML).values()),
    "links": "\n\n".join(text for text in corpus.LINKS.values() if len(text) < 1000),
    "formulas": "\n\n".join(text for text in corpus.FORMULAS.values() if len(text) < 1000),
    "code": "\n\n".join(corpus.CODE.values()),
    **corpus.UNCLOSED,
    "small shapes": "\n\n".join(text for text in corpus.SHAPES.values() if len(text) < 2000),
}


@pytest.mark.parametrize("name", GROUPS)
def test_an_answer_that_arrives_is_shown_and_does_nothing(reader: Reader, name: str) -> None:
    """The page draws a growing answer: markup that is not complete yet, again and again."""
    marked = f"live-{crc32(name.encode())}"
    chat_id = reader.person.chat("Hostile", [], reader.preset)
    page = reader.page
    page.evaluate(f"location.hash = '#/chat/{chat_id}'")
    page.get_by_role("textbox", name="Your question").fill(f"/sim echo delay=0\n{GROUPS[name]}\n{marked}")
    page.get_by_role("textbox", name="Your question").press("Enter")
    wait_for(
        page,
        f"[...document.querySelectorAll('article.answer:not(.live)')].at(-1)?.textContent.includes('{marked}')",
        name,
    )
    reader.check()


def test_titles_tags_and_questions_are_shown_as_they_are(stack: Stack, open_page: OpenPage) -> None:
    mallory = stack.person()
    preset = mallory.preset()
    for name, text in LINES.items():
        chat_id = mallory.chat(text, [{"role": "user", "content": corpus.LINES[name]}], preset)
        mallory.checked(mallory.http.put(f"/chats/{chat_id}", json={"tags": [text[:20].strip()]}))
    page = open_page("/", mallory, viewport={"width": 1440, "height": 5000})
    navigation = page.get_by_role("navigation").first
    for text in LINES.values():
        expect(navigation.get_by_text(text, exact=True).first).to_be_attached()
    navigation.get_by_text(LINES["script"], exact=True).first.click()
    expect(page.get_by_role("main").get_by_text(corpus.LINES["script"], exact=True).first).to_be_visible()
    assert page.evaluate(f"({DANGERS})(document.body)") == []


@pytest.mark.parametrize("name", ["script", "image", "svg onload", "javascript link", "formula with a link"])
def test_a_nickname_is_shown_as_it_is(stack: Stack, open_page: OpenPage, name: str) -> None:
    text = LINES[name]
    mallory = stack.person(nickname=text)
    page = open_page("/", mallory)
    expect(page.get_by_text(text).first).to_be_visible()
    assert page.evaluate(f"({DANGERS})(document.body)") == []


def test_a_shared_chat_of_a_stranger_is_shown_as_it_is(stack: Stack, open_page: OpenPage) -> None:
    mallory = stack.person(nickname=LINES["image"])
    everything = "\n\n".join((corpus.HTML | corpus.SVG | corpus.MATHML | corpus.LINKS | corpus.FORMULAS).values())
    messages = [
        {"role": "user", "content": corpus.HTML["image"]},
        {"role": "assistant", "content": f"{everything}\n\n{MARK}"},
    ]
    chat_id = mallory.chat(LINES["script"], messages)
    link = mallory.post(f"/chats/{chat_id}/shares", {})
    page = open_page(f"/s/{link['token']}")
    expect(page.get_by_text(LINES["script"]).first).to_be_visible()
    expect(page.get_by_text(MARK).first).to_be_attached()
    assert page.evaluate(f"({DANGERS})(document.body)") == []


def test_public_presets_and_news_of_a_stranger_are_shown_as_they_are(stack: Stack, open_page: OpenPage) -> None:
    """An administrator writes them, but may have copied them from somewhere."""
    admin = stack.admin()
    made = [
        admin.preset(
            LINES[name],
            description=corpus.LINES[name],
            visibility="public",
            messages=[{"role": "system", "content": corpus.LINES[name]}],
        )
        for name in ("script", "image", "svg onload", "javascript link")
    ]
    before = admin.http.get("/admin/config")
    news = {"announcement": {"text": corpus.HTML["image"], "level": "info"}}
    admin.put("/admin/config", news, **{"If-Match": before.headers["ETag"]})
    try:
        page = open_page("/", stack.person())
        page.get_by_role("button", name="Browse presets").click()
        expect(page.get_by_role("dialog").get_by_text(LINES["script"], exact=True).first).to_be_visible()
        assert page.evaluate(f"({DANGERS})(document.body)") == []
    finally:
        for preset in made:
            admin.checked(admin.http.delete(f"/presets/{preset}"))
        after = admin.http.get("/admin/config")
        admin.put("/admin/config", {"announcement": None}, **{"If-Match": after.headers["ETag"]})


# --- the page Connect


def harmless(page: Page) -> None:
    """Fail if anything of a text is more than text."""
    assert page.evaluate(f"({DANGERS})(document.body)") == []


def test_names_of_keys_and_of_presets_are_shown_as_they_are(stack: Stack, open_page: OpenPage) -> None:
    mallory = stack.person()
    names = list(LINES.values())[:45]
    for name in names[:25]:  # there is a limit an hour
        mallory.post("/users/me/keys", {"name": name})
    for name in names:
        mallory.preset(name)
    page = open_page("/#/connect", mallory)
    expect(page.locator(".key-card")).to_have_count(25)
    for name in names[:25]:
        expect(page.locator(".key-card strong").get_by_text(name, exact=True).first).to_be_attached()
    options = page.get_by_label("Model or preset")
    for name in names:
        options.select_option(label=name)
        harmless(page)
    page.get_by_role("button", name="New API key").click()
    page.get_by_role("dialog").get_by_role("radio", name="Only these").click()
    expect(page.get_by_role("dialog").get_by_text(f"{LINES['script']} (preset)", exact=True)).to_be_attached()
    page.get_by_role("dialog").get_by_role("textbox", name="Name", exact=True).fill(LINES["image"])
    page.get_by_role("dialog").get_by_role("radio", name="All models").click()
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".made-key h3")).to_contain_text(LINES["image"])
    page.locator(".key-card").first.get_by_role("button").click()
    page.get_by_role("menuitem", name="Revoke").click()
    expect(page.get_by_role("dialog")).to_contain_text(LINES["image"])
    harmless(page)


# --- the console: an administrator looks at what strangers have written

CHOSEN = ["script", "image", "frame", "svg onload", "javascript link", "formula with a link", "style attribute"]


@pytest.fixture(scope="module")
def attacked(stack: Stack) -> dict[str, Person]:
    """Strangers whose names, presets, codes, feedback and keys are texts of an attacker, by the name of the text."""
    admin = stack.admin()
    strangers = {}
    for name in CHOSEN:
        text = corpus.LINES[name]
        stranger = stack.person(nickname=LINES[name])
        # A username may have these characters too.
        stranger.put("/users/me", {"username": f"{LINES[name][:40]} {stranger.username[-6:]}"})
        preset = stranger.preset(LINES[name], description=text, messages=[{"role": "system", "content": text}])
        chat_id = stranger.chat(LINES[name], [], preset)
        task = stranger.echo(chat_id, text)
        [answer] = [
            one for one in stranger.get(f"/chats/{chat_id}")["messages"] if one.get("task_id") == task["task_id"]
        ]
        feedback = {"rating": "down", "tags": ["wrong"], "comment": text}
        stranger.put(f"/chats/{chat_id}/messages/{answer['n']}/feedback", feedback)
        stranger.post("/users/me/keys", {"name": LINES[name]})
        user_id = stranger.get("/users/me")["id"]
        reason = {"X-Reason": quote(text)}
        grant = {"amount": 1, "description": text[:100]}
        admin.post(f"/users/{user_id}/credits", grant, **reason, **{"Idempotency-Key": f"hostile-{user_id}"})
        admin.post("/codes", {"value": 1, "description": text[:100]}, **reason)
        admin.preset(LINES[name], description=text, visibility="public")
        strangers[name] = stranger
    return strangers


def test_the_console_shows_users_and_their_ledgers_as_they_are(
    stack: Stack, open_page: OpenPage, attacked: dict[str, Person]
) -> None:
    page = open_page("/admin#/users", stack.admin(), viewport={"width": 1440, "height": 3000})
    settled(page)
    for name in attacked:
        expect(page.get_by_text(LINES[name], exact=True).first).to_be_attached()
    harmless(page)
    for name, stranger in attacked.items():
        go(page, f"users/{stranger.get('/users/me')['id']}")
        expect(page.get_by_role("heading", level=1, name=LINES[name])).to_be_visible()
        expect(page.get_by_text(corpus.LINES[name][:100], exact=True).first).to_be_attached()
        harmless(page)
        page.get_by_role("button", name="Delete").first.click()
        expect(page.get_by_role("dialog")).to_contain_text(LINES[name])
        harmless(page)
        page.keyboard.press("Escape")


@pytest.mark.parametrize("place", ["codes", "presets", "feedback", "audit"])
def test_the_console_shows_what_strangers_wrote_as_it_is(
    stack: Stack, open_page: OpenPage, attacked: dict[str, Person], place: str
) -> None:
    page = open_page(f"/admin#/{place}", stack.admin(), viewport={"width": 1440, "height": 4000})
    settled(page)
    for name in attacked:
        shown = corpus.LINES[name][:100] if place != "presets" else LINES[name]
        expect(page.get_by_text(shown).first).to_be_attached()
    harmless(page)


def test_the_console_shows_an_announcement_and_a_search_as_they_are(stack: Stack, open_page: OpenPage) -> None:
    admin = stack.admin()
    before = admin.http.get("/admin/config")
    news = {"announcement": {"text": corpus.HTML["image"], "level": "critical"}}
    admin.put("/admin/config", news, **{"If-Match": before.headers["ETag"]})
    try:
        page = open_page("/admin#/announcement", admin)
        settled(page)
        expect(page.get_by_text(corpus.HTML["image"]).first).to_be_attached()
        harmless(page)
        for name in CHOSEN:
            go(page, f"users?name={quote(LINES[name])}")
            harmless(page)
            go(page, f"{quote(LINES[name])}/{quote(LINES[name])}")  # an address that somebody was sent
            harmless(page)
        config = page.evaluate("fetch('/api/v1/config').then((answer) => answer.json())")
        page.route(
            "**/api/v1/config", lambda route: route.fulfill(json={**config, **news})
        )  # a cache may keep the old one
        page.goto("/")
        expect(page.locator(".banner").get_by_text(corpus.HTML["image"])).to_be_visible()
        harmless(page)
    finally:
        after = admin.http.get("/admin/config")
        admin.put("/admin/config", {"announcement": None}, **{"If-Match": after.headers["ETag"]})


# --- shared chats


@pytest.mark.parametrize("name", [*CHOSEN, "html link", "image that reports", "formula that is markup", "svg use"])
def test_each_text_in_a_shared_chat_is_shown_as_it_is(stack: Stack, open_page: OpenPage, name: str) -> None:
    text = corpus.LINES[name]
    mallory = stack.person(nickname=LINES[name])
    preset = mallory.preset(LINES[name])
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text}\n\n{MARK}"}]
    chat_id = mallory.chat(LINES[name], messages, preset)
    link = mallory.post(f"/chats/{chat_id}/shares", {"nickname": True, "preset": True, "reasoning": True})
    page = open_page(f"/s/{link['token']}")
    expect(page.get_by_role("heading", level=1, name=LINES[name], exact=True)).to_be_visible()
    expect(page.get_by_text(MARK).first).to_be_attached()
    expect(page.locator(".bubble").get_by_text(text, exact=True)).to_be_visible()
    harmless(page)


@pytest.mark.parametrize("token", ["..%2F..%2Fadmin", "%3Cscript%3E", "x%22onmouseover=1", "javascript:1"])
def test_a_share_address_that_is_none_shows_nothing_of_itself(stack: Stack, open_page: OpenPage, token: str) -> None:
    page = open_page(f"/#/s/{token}")
    expect(page.locator("main")).to_be_visible()
    harmless(page)
    assert "stolen" not in page.content()
