"""The console's other pages: presets, models, the announcement, feedback, reconciliation and dead letters."""

import datetime
import re
from typing import Any
from uuid import uuid4

import httpx
from playwright.sync_api import Route, expect

from tests.waiting import until
from tests.web.conftest import OpenPage
from tests.web.console_page import button, figure, go, row, settled, toast
from tests.web.stack import Stack

# Presets


def test_a_public_preset_is_made_changed_and_deleted(open_page: OpenPage, stack: Stack) -> None:
    admin, title = stack.admin(), f"Guide {uuid4().hex[:6]}"
    page = open_page("/admin#/presets", admin)
    button(page, "New preset").click()
    page.get_by_label("Name", exact=True).fill(title)
    page.get_by_role("dialog").get_by_label("Model").select_option("qwen-plus")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Text").fill("You are a guide.")
    button(page, "Save").click()
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()
    [made] = [preset for preset in admin.get("/presets", limit=100) if preset["title"] == title]
    assert made["visibility"] == "public"
    assert made["parameters"] == {"model": "qwen-plus", "temperature": 0.5}
    assert [m["visibility"] for m in admin.get(f"/presets/{made['id']}")["messages"]] == [False], (
        "instructions are hidden"
    )

    button(page, "Edit").click()
    page.get_by_label("Longest answer").fill("500")
    page.get_by_label("Description").fill("Shows the way")
    button(page, "Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("Shows the way")
    changed = admin.get(f"/presets/{made['id']}")
    assert changed["parameters"] == {"model": "qwen-plus", "temperature": 0.5, "max_tokens": 500}
    assert changed["messages"][0]["content"] == "You are a guide."

    button(page, "Delete").click()
    button(page, "Delete").click()
    expect(page.get_by_role("heading", level=1, name="Presets")).to_be_visible()
    assert admin.http.get(f"/presets/{made['id']}").status_code == httpx.codes.NOT_FOUND


def test_a_change_keeps_what_the_form_does_not_show(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    parameters = {
        "model": "qwen-plus",
        "top_p": 0.4,
        "stop": ["END"],
        "enable_search": True,
        "search_options": {"search_strategy": "max"},
    }
    preset = admin.post("/presets", {"title": "Kept", "visibility": "public", "parameters": parameters})["id"]
    page = open_page(f"/admin#/presets/{preset}", admin)
    button(page, "Edit").click()
    page.get_by_label("Name", exact=True).fill("Renamed")
    button(page, "Save").click()
    expect(page.get_by_role("heading", level=1, name="Renamed")).to_be_visible()
    assert admin.get(f"/presets/{preset}")["parameters"].items() >= parameters.items()
    button(page, "Edit").click()
    page.get_by_label("Search the web").uncheck()
    button(page, "Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    left = admin.get(f"/presets/{preset}")["parameters"]
    assert not left.get("enable_search")
    assert not left.get("search_options"), "options of a search that is off would be refused"
    assert left["stop"] == ["END"]


def test_a_refusal_of_a_preset_stays_in_the_dialog(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/presets", stack.admin())
    button(page, "New preset").click()
    page.get_by_label("Name", exact=True).fill("Too long an answer")
    page.get_by_role("dialog").get_by_label("Model").select_option("qwen-max")
    page.get_by_role("dialog").get_by_label("Longest answer").evaluate("input => input.removeAttribute('max')")
    page.get_by_label("Longest answer").fill("900000")
    button(page, "Save").click()
    expect(page.get_by_role("alert")).to_contain_text("answers in at most")


# Models


def test_models_are_listed_and_what_retires_names_its_presets(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    admin.preset(title="Old friend", model="qwen-flash", visibility="public")
    day = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(20)).isoformat()

    def retire(route: Route) -> None:
        prices = route.fetch().json()
        for model in prices["models"]:
            if model["model"] == "qwen-flash":
                model["retires_on"] = day
        route.fulfill(json=prices)

    page = open_page("/web/none", admin)
    page.route("**/api/v1/prices", retire)
    go(page, "models")
    notice = page.locator(".notice", has_text="qwen-flash")
    expect(notice).to_contain_text(re.compile("(19|20|21) days left"))
    notice.get_by_role("link", name="Old friend").first.click()
    expect(page.get_by_role("heading", level=1, name="Old friend")).to_be_visible()
    go(page, "models")
    prices: dict[str, Any] = admin.get("/prices")
    available = [model["model"] for model in prices["models"] if model["status"] == "available"]
    expect(page.locator("tbody tr")).to_have_count(len(available))
    page.get_by_role("radio", name="All").click()
    expect(page.locator("tbody tr")).to_have_count(len(prices["models"]))


# The announcement


def test_an_announcement_is_published_and_removed(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    page = open_page("/admin#/announcement", admin)
    page.get_by_label("Text").fill("Maintenance <b>tonight</b>")
    page.get_by_role("radio", name="Warning").click()
    expect(page.locator(".notice.warning")).to_have_text("Maintenance <b>tonight</b>")
    button(page, "Publish").click()
    expect(toast(page)).to_contain_text("70 seconds")
    stored = admin.get("/admin/config")["announcement"]
    assert (stored["text"], stored["level"]) == ("Maintenance <b>tonight</b>", "warning")
    button(page, "Remove").click()
    button(page, "Remove").click()
    expect(page.get_by_text("None is shown.")).to_be_visible()
    assert admin.get("/admin/config")["announcement"] is None


def test_two_administrators_do_not_overwrite_each_other(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    page = open_page("/admin#/announcement", admin)
    page.get_by_label("Text").fill("Mine")
    etag = admin.http.get("/admin/config").headers["etag"]
    admin.put("/admin/config", {"announcement": {"text": "Of another"}}, **{"If-Match": etag})
    button(page, "Publish").click()
    expect(page.get_by_role("alert")).to_contain_text("Another administrator has changed this")
    button(page, "Refresh").click()
    expect(page.get_by_label("Text")).to_have_value("Of another")
    button(page, "Remove").click()
    button(page, "Remove").click()
    expect(page.get_by_text("None is shown.")).to_be_visible()


def test_the_default_preset_is_one_of_the_public_ones(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    before = admin.get("/admin/config")["default_preset"]
    preset, own = admin.preset(title="The first", visibility="public"), admin.preset(title="My own")
    page = open_page("/admin#/announcement", admin)
    choice = page.get_by_label("Preset", exact=True)
    expect(choice.locator(f"option[value='{preset}']")).to_have_count(1)
    expect(choice.locator(f"option[value='{own}']")).to_have_count(0)
    choice.select_option(preset)
    with page.expect_response(lambda answer: answer.request.method == "GET" and answer.url.endswith("/admin/config")):
        button(page, "Save").click()
    expect(toast(page)).to_contain_text("Saved")
    assert admin.get("/admin/config")["default_preset"] == preset
    settled(page)
    expect(button(page, "Save")).to_be_disabled()
    expect(choice.locator(f"option[value='{before}']")).to_have_count(1)
    choice.select_option(before)
    button(page, "Save").click()
    until(lambda: admin.get("/admin/config")["default_preset"] == before, "the old default is back")


# Feedback


def test_feedback_is_read_and_filtered(open_page: OpenPage, stack: Stack) -> None:
    user = stack.person()
    for rating, comment in (("up", "Clear and short"), ("down", "鹿不会下蛋")):
        chat = user.chat()
        user.ask(chat, "Hello")
        user.put(f"/chats/{chat}/messages/2/feedback", {"rating": rating, "tags": ["wrong"], "comment": comment})
    page = open_page("/admin#/feedback", stack.admin())
    expect(page.locator("blockquote", has_text="鹿不会下蛋")).to_be_visible()
    page.get_by_role("radio", name="Good").click()
    expect(page.locator("blockquote", has_text="Clear and short")).to_be_visible()
    expect(page.locator("blockquote", has_text="鹿不会下蛋")).to_have_count(0)
    page.get_by_label("Model").fill("no-such-model")
    button(page, "Apply").click()
    expect(page.get_by_role("heading", name="No rated answer fits")).to_be_visible()


# Reconciliation


def test_a_clean_check_and_one_with_drifts_are_told_apart(open_page: OpenPage, stack: Stack) -> None:
    admin, user = stack.admin(), stack.person()
    user_id = user.get("/users/me")["id"]
    run: dict[str, Any] = {
        "id": "r", "started": "2026-11-29T02:00:00.000000Z", "ended": "2026-11-29T02:00:09.000000Z",
        "users": 1200, "entries": 56_000, "tasks": 3_400, "codes": 500, "moving": 0,
        "drifts": {"I1": 0, "I2": 2, "I3": 0, "I4": 0, "I5": 0}, "examples": [{"rule": "I2", "user_id": user_id}],
    }  # fmt: skip
    page = open_page("/web/none", admin)
    page.route("**/api/v1/admin/reconciliation", lambda route: route.fulfill(json={"last": run, "running": None}))
    go(page, "reconciliation")
    expect(page.get_by_role("alert")).to_contain_text("2 drifts found")
    expect(figure(page, "Ledger lines")).to_have_text("56,000")
    row(page, "I2").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(user.username)
    run["drifts"]["I2"], run["examples"] = 0, []
    go(page, "reconciliation")
    expect(page.get_by_text("All credits match.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


# Dead letters


def test_dead_letters_are_shown_and_put_back_after_a_question(open_page: OpenPage, stack: Stack) -> None:
    letters = [
        {"queue": "tasks", "task_id": "01980c2f-4d5e-7f60-b172-8d9e0f1a2b3c", "state": "failed", "error": "queue_timeout",
         "since": "2026-11-22T14:42:03.000000Z", "received": 6},
        {"queue": "jobs", "job": "jobs#3 2026", "state": "waiting", "since": "2026-11-22T14:43:03.000000Z", "received": 5},
        {"queue": None, "state": "unknown", "since": "2026-11-22T14:44:03.000000Z", "received": 5},
    ]  # fmt: skip
    asked: list[str] = []

    def put_back(route: Route) -> None:
        asked.append(route.request.method)
        letters[:2] = []
        route.fulfill(json={"moved": 2, "kept": 1})

    page = open_page("/web/none", stack.admin())
    page.route(
        "**/api/v1/admin/dead-letters", lambda route: route.fulfill(json={"count": len(letters), "letters": letters})
    )
    page.route("**/api/v1/admin/dead-letters/redrive", put_back)
    go(page, "letters")
    expect(page.locator(".notice")).to_contain_text("3 messages have failed five times")
    expect(row(page, "01980c2f")).to_contain_text("Waited too long in the queue")
    expect(row(page, "A job to be done")).to_contain_text("still to be done")
    button(page, "Put back").click()
    button(page, "Cancel").click()
    assert asked == []
    button(page, "Put back").click()
    button(page, "Put back").click()
    expect(toast(page)).to_contain_text("2 put back. 1 stays")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert asked == ["POST"]


def test_a_stack_without_dead_letters_says_so(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/letters", stack.admin())
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    expect(button(page, "Put back")).to_be_disabled()
