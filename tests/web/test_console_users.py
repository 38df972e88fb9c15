"""The console's users: they are found, given credits, permissions and passwords, deleted, and each look is recorded."""

import re
from urllib.parse import unquote

import httpx
from playwright.sync_api import Page, Route, expect

from tests.waiting import PATIENCE_SECONDS
from tests.web.conftest import OpenPage
from tests.web.console_page import button, figure, go, refuse_once, row, settled, toast
from tests.web.stack import ADMIN, PASSWORD, Person, Stack

FRESH = {"detail": "Sign in again, or send your current password.", "code": "fresh_sign_in_required"}


def id_of(person: Person) -> str:
    return str(person.get("/users/me")["id"])


def credits_of(person: Person) -> int:
    return int(person.get("/users/me")["credits_left"])


def may_sign_in(stack: Stack, username: str, password: str) -> bool:
    form = {"grant_type": "password", "username": username, "password": password}
    return httpx.post(
        f"{stack.url}/api/v1/session/oauth2/token", data=form, timeout=PATIENCE_SECONDS, trust_env=False
    ).is_success


def search(page: Page, text: str) -> None:
    page.get_by_label("Find a user").fill(text)
    page.keyboard.press("Enter")


def test_a_user_is_found_by_name_in_any_spelling_and_by_id(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person("findme", nickname="鹿 Deer")
    page = open_page("/admin#/users", stack.admin())
    search(page, user.username.upper())
    expect(row(page, user.username)).to_have_count(1)
    row(page, user.username).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1, name="鹿 Deer")).to_be_visible()
    page.get_by_role("link", name="Users").last.click()
    search(page, id_of(user))
    expect(page.get_by_role("heading", level=1, name="鹿 Deer")).to_be_visible()
    go(page, "users")
    search(page, user.username[:-3].upper())
    expect(button(page, "Show all")).to_be_visible()
    settled(page)
    expect(row(page, user.username)).to_have_count(1)
    search(page, "nobody-of-that-name")
    expect(page.get_by_role("heading", name="No username begins with nobody-of-that-name")).to_be_visible()
    button(page, "Show all").click()
    expect(page.locator("tbody tr").first).to_be_visible()


def test_the_list_goes_on_page_by_page(open_page: OpenPage, stack: Stack) -> None:
    names = [stack.person("many").username for _ in range(27)]
    page = open_page("/admin#/users", stack.admin())
    expect(page.locator("tbody tr")).to_have_count(25)
    button(page, "Show more").click()
    for name in names:
        expect(row(page, name)).to_have_count(1)


def test_credits_are_given_and_taken_and_stand_in_the_ledger(open_page: OpenPage, stack: Stack) -> None:
    user, admin = stack.person(), stack.admin()
    before = credits_of(user)
    page = open_page(f"/admin#/users/{id_of(user)}", admin)
    page.get_by_label("Reason").first.fill("Ticket 4711：退款")
    button(page, "Credits").click()
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill("2500")
    expect(button(page, "Give")).to_be_disabled()
    page.get_by_label("Description").fill("For your help")
    expect(page.get_by_role("dialog")).to_contain_text(f"{before + 2500:,}")
    button(page, "Give").click()
    expect(toast(page)).to_contain_text(f"{before + 2500:,}")
    expect(figure(page, "Credits")).to_have_text(f"{before + 2500:,}")
    expect(row(page, "For your help")).to_contain_text("+2,500")
    assert credits_of(user) == before + 2500

    button(page, "Credits").click()
    page.get_by_role("radio", name="Take").click()
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill(str(before + 2501))
    page.get_by_label("Description").fill("Too much")
    button(page, "Take").last.click()
    expect(page.get_by_role("alert")).to_contain_text("credits")
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill("500")
    button(page, "Take").last.click()
    expect(row(page, "Too much")).to_contain_text("−500")
    assert credits_of(user) == before + 2000

    trail = [entry for entry in admin.get("/admin/audit", user=id_of(user), limit=50) if entry["reason"]]
    assert {entry["reason"] for entry in trail} == {"Ticket 4711：退款"}
    assert {"user.grant", "user.ledger"} <= {entry["action"] for entry in trail}


def test_a_grant_whose_answer_is_lost_is_sent_again_and_counts_once(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    before = credits_of(user)
    page = open_page(f"/admin#/users/{id_of(user)}", stack.admin())
    keys: list[str] = []

    def lose_the_first(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/credits", lose_the_first)
    button(page, "Credits").click()
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill("70")
    page.get_by_label("Description").fill("Once")
    button(page, "Give").last.click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    button(page, "Give").last.click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert credits_of(user) == before + 70


def test_a_permission_is_changed_with_the_password_if_the_sign_in_is_old(open_page: OpenPage, stack: Stack) -> None:
    user, admin = stack.person(), stack.admin()
    page = open_page(f"/admin#/users/{id_of(user)}", admin)
    sent = refuse_once(page, "PUT", f"**/api/v1/users/{id_of(user)}", 403, FRESH)
    button(page, "Permission").click()
    expect(button(page, "Change")).to_be_disabled()
    page.get_by_role("dialog").get_by_label("Permission").select_option("Visitor")
    button(page, "Change").click()
    password = page.get_by_label("Your own password")
    expect(password).to_be_focused()
    assert sent[-1] == {"permission": 0}
    password.fill(ADMIN[1])
    button(page, "Change").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert sent[1] == {"permission": 0, "current_password": ADMIN[1]}
    expect(page.locator(".heading .badge")).to_have_text("Visitor")
    assert user.get("/users/me")["permission"] == 0


def test_nobody_changes_or_deletes_themselves_here(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    page = open_page(f"/admin#/users/{id_of(admin)}", admin)
    expect(button(page, "Permission")).to_be_disabled()
    expect(button(page, "Delete")).to_be_disabled()


def test_a_made_up_password_is_set_and_ends_all_sessions(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    page = open_page(f"/admin#/users/{id_of(user)}", stack.admin())
    button(page, "Password").click()
    button(page, "Make one up").click()
    made = page.get_by_role("textbox", name="New password").input_value()
    assert re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", made)
    button(page, "Set password").click()
    expect(toast(page)).to_contain_text("all sessions of the user have ended")
    assert may_sign_in(stack, user.username, made)
    assert not may_sign_in(stack, user.username, PASSWORD)
    assert user.http.get("/users/me").status_code == httpx.codes.UNAUTHORIZED


def test_a_user_is_deleted_only_after_the_name_was_typed(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    page = open_page(f"/admin#/users/{id_of(user)}", stack.admin())
    button(page, "Delete").click()
    expect(button(page, "Delete")).to_be_disabled()
    page.get_by_label(f"Type {user.username} to confirm").fill(user.username[:-1])
    expect(button(page, "Delete")).to_be_disabled()
    page.get_by_label(f"Type {user.username} to confirm").fill(user.username)
    button(page, "Delete").click()
    expect(page.get_by_role("heading", level=1, name="Users")).to_be_visible()
    assert not may_sign_in(stack, user.username, PASSWORD)
    search(page, user.username)
    expect(page.get_by_role("heading", name=f"No username begins with {user.username}")).to_be_visible()


def test_a_look_is_recorded_with_its_reason_and_the_trail_is_filtered(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    page = open_page("/admin#/users", stack.admin())
    settled(page)
    page.get_by_label("Reason").first.fill("Complaint 5 & 6")
    go(page, f"users/{id_of(user)}")
    page.get_by_role("link", name="What administrators did here").click()
    expect(row(page, "Looked at a ledger")).to_contain_text("Complaint 5 & 6")
    page.get_by_label("Action").select_option("Looked at a user")
    button(page, "Apply").click()
    expect(row(page, "Looked at a ledger")).to_have_count(0)
    expect(row(page, "Looked at a user").first).to_be_visible()
    assert "action=user.read" in unquote(page.url)
    page.reload()
    expect(page.get_by_label("Action")).to_have_value("user.read")
    page.locator("tbody a").first.click()
    expect(page.get_by_label("Administrator")).not_to_have_value("")
    page.go_back()
    expect(page.get_by_label("Administrator")).to_have_value("")


def test_the_keys_of_a_user_are_listed_and_revoked(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    leaked = user.post("/users/me/keys", {"name": "Leaked", "models": ["qwen-plus"], "credit_limit": 500})
    user.post("/users/me/keys", {"name": "Laptop"})
    paused = user.post("/users/me/keys", {"name": "Old"})
    user.put(f"/users/me/keys/{paused['id']}", {"disabled": True})
    page = open_page(f"/admin#/users/{id_of(user)}", stack.admin())
    button(page, "Show the keys").click()
    expect(row(page, "Leaked")).to_contain_text(f"sk-…{leaked['hint']}")
    expect(row(page, "Leaked")).to_contain_text("0 of 500")
    expect(row(page, "Leaked")).to_contain_text("qwen-plus")
    expect(row(page, "Laptop")).to_contain_text("All models")
    expect(row(page, "Old")).to_contain_text("Paused")
    assert leaked["key"] not in page.content()
    button(page, "Revoke “Leaked”").click()
    button(page, "Revoke").click()
    expect(toast(page)).to_contain_text("“Leaked” is revoked.")
    expect(row(page, "Leaked")).to_have_count(0)
    expect(button(page, "Hide the keys")).to_be_focused()
    assert {key["name"] for key in user.get("/users/me/keys")} == {"Laptop", "Old"}
    headers = {"Authorization": f"Bearer {leaked['key']}"}
    assert (
        httpx.get(f"{stack.url}/v1/models", headers=headers, timeout=PATIENCE_SECONDS, trust_env=False).status_code
        == 401
    )
    page.get_by_role("link", name="What administrators did here").click()
    for what in ("Listed API keys", "Revoked an API key"):
        expect(row(page, what).first).to_be_visible()


def test_a_user_without_keys_says_so(open_page: OpenPage, stack: Stack) -> None:
    page = open_page(f"/admin#/users/{id_of(stack.person())}", stack.admin())
    button(page, "Show the keys").click()
    expect(page.get_by_role("heading", name="This user has no API keys")).to_be_visible()
