"""The console's redeem codes: batches and single codes are made, handed on as tables, looked at and revoked."""

import csv
import io
from pathlib import Path
from uuid import uuid4

import httpx
from playwright.sync_api import Page, Route, expect

from tests.web.conftest import OpenPage
from tests.web.console_page import button, figure, go, row, toast
from tests.web.stack import Stack


def make(page: Page, campaign: str, count: int = 3, value: int = 500) -> None:
    button(page, "New codes").click()
    page.get_by_label("Number of codes").fill(str(count))
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill(str(value))
    page.get_by_role("dialog").get_by_label("Campaign").fill(campaign)
    button(page, "Make the batch").click()


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def test_a_batch_is_made_and_saved_as_a_table(open_page: OpenPage, stack: Stack) -> None:
    admin, campaign = stack.admin(), f'=Spring "新年" {uuid4().hex[:6]}'
    page = open_page("/admin#/codes", admin)
    make(page, campaign, count=3)
    dialog = page.get_by_role("dialog", name="3 codes made")
    expect(dialog.locator("ol code")).to_have_count(3)
    shown = dialog.locator("ol code").all_inner_texts()
    with page.expect_download() as download:
        button(page, "CSV").click()
    assert download.value.suggested_filename.startswith("codes-")
    saved = Path(download.value.path())
    assert saved.read_bytes().startswith(b"\xef\xbb\xbf"), "spreadsheets read it as UTF-8"
    names, *rows = read(saved)
    assert names[0] == "redeem_code"
    assert sorted(each[0] for each in rows) == sorted(shown)
    assert {each[names.index("description")] for each in rows} == {f"'{campaign}"}, "no cell is a formula"
    button(page, "Close").last.click()
    expect(row(page, campaign)).to_contain_text("Batch of 3 codes")


def test_a_batch_shows_what_has_become_of_it_and_is_revoked(open_page: OpenPage, stack: Stack) -> None:
    admin, user = stack.admin(), stack.person()
    made = admin.post("/codes", {"value": 70, "count": 4, "description": "Fair"})
    first = made["codes"][0]["redeem_code"]
    user.post("/users/me/credits", {"redeem_code": first})
    page = open_page(f"/admin#/codes/batch/{made['batch']}", admin)
    expect(page.get_by_role("heading", level=1, name="Fair")).to_be_visible()
    expect(figure(page, "Credits given")).to_have_text("70")
    expect(figure(page, "Active")).to_have_text("3")
    expect(row(page, first)).to_contain_text("Used up")
    button(page, "Revoke the batch").click()
    expect(page.get_by_role("dialog")).to_contain_text("3 active codes")
    button(page, "Revoke").click()
    expect(figure(page, "Active")).to_have_text("0")
    other = stack.person()
    refused = other.http.post("/users/me/credits", json={"redeem_code": made["codes"][1]["redeem_code"]})
    assert refused.json()["code"] == "code_revoked"


def test_a_code_with_a_name_is_made_found_and_revoked(open_page: OpenPage, stack: Stack) -> None:
    name = f"DEER-{uuid4().hex[:8].upper()}"
    page = open_page("/admin#/codes", stack.admin())
    button(page, "New codes").click()
    page.get_by_role("radio", name="Single code").click()
    page.get_by_label("Code", exact=True).fill(name)
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill("9")
    page.get_by_label("Uses of each code").fill("5")
    expect(page.get_by_role("dialog")).to_contain_text("45")
    button(page, "Make the code").click()
    expect(page.get_by_role("dialog", name="1 code made")).to_contain_text(name)
    button(page, "Close").last.click()
    page.get_by_label("Find a code").fill(name.lower())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    expect(figure(page, "Uses")).to_have_text("0")
    button(page, "Revoke").click()
    button(page, "Revoke").click()
    expect(figure(page, "State")).to_have_text("Revoked")
    expect(button(page, "Revoke")).to_be_disabled()


def test_a_name_that_is_taken_is_told_in_the_dialog(open_page: OpenPage, stack: Stack) -> None:
    admin, name = stack.admin(), f"TAKEN-{uuid4().hex[:8].upper()}"
    admin.post("/codes", {"value": 1, "redeem_code": name})
    page = open_page("/admin#/codes", admin)
    button(page, "New codes").click()
    page.get_by_role("radio", name="Single code").click()
    page.get_by_label("Code", exact=True).fill(name)
    page.get_by_role("dialog").get_by_label("Credits", exact=True).fill("9")
    button(page, "Make the code").click()
    expect(page.get_by_role("alert")).to_contain_text("exists already")


def test_a_batch_whose_answer_is_lost_is_made_once(open_page: OpenPage, stack: Stack) -> None:
    admin, campaign = stack.admin(), f"Lost {uuid4().hex[:8]}"
    page = open_page("/admin#/codes", admin)
    lost: list[str] = []

    def lose_the_first(route: Route) -> None:
        if route.request.method == "POST" and not lost:
            lost.append(route.request.headers["idempotency-key"])
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/codes", lose_the_first)
    make(page, campaign)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    button(page, "Make the batch").click()
    expect(page.get_by_role("dialog", name="3 codes made")).to_be_visible()
    batches = [code for code in admin.get("/codes", group_batches="true", limit=100) if code["description"] == campaign]
    assert len(batches) == 1


def test_campaigns_bring_together_what_has_one_description(open_page: OpenPage, stack: Stack) -> None:
    admin, campaign = stack.admin(), f"Campaign {uuid4().hex[:8]}"
    for count in (2, 5):
        admin.post("/codes", {"value": 3, "count": count, "description": campaign})
    admin.post("/codes", {"value": 3, "description": "Another one"})
    page = open_page("/admin", admin)
    go(page, "codes")
    page.get_by_role("link", name=campaign).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.get_by_role("link", name=campaign)).to_have_attribute("aria-current", "true")


def test_a_code_that_is_not_there_is_told(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/admin#/codes/code/NOT-THERE", stack.admin())
    expect(page.get_by_role("alert")).to_contain_text("no such code")


def test_a_failed_download_is_told(open_page: OpenPage, stack: Stack) -> None:
    admin = stack.admin()
    made = admin.post("/codes", {"value": 1, "count": 1, "description": "Download"})
    page = open_page(f"/admin#/codes/batch/{made['batch']}", admin)
    expect(button(page, "CSV")).to_be_visible()
    page.route(
        "**/api/v1/codes?*format=csv*",
        lambda route: route.fulfill(
            status=httpx.codes.SERVICE_UNAVAILABLE, json={"detail": "The service is busy. Try again.", "code": "busy"}
        ),
    )
    button(page, "CSV").click()
    expect(toast(page)).to_contain_text("busy")
