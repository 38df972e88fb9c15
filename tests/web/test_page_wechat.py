"""Sign-in with WeChat in a browser: to the simulated WeChat's page and back, with a ticket or with a refusal."""

import re
import secrets
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Request, expect

from tests.waiting import PATIENCE_SECONDS
from tests.web.browser import Watch
from tests.web.chat_page import open_account
from tests.web.conftest import OpenPage
from tests.web.stack import Stack

CHALLENGE = {"code_challenge": "c" * 43, "code_challenge_method": "S256"}
GREETING = re.compile("What can I help with, 微信用户")


@pytest.fixture(autouse=True)
def weixin(stack: Stack, watch: Watch) -> None:
    """The browser may visit WeChat's page, at the address to which the sign-in leads."""
    way = httpx.get(
        f"{stack.url}/api/v1/session/wechat/authorize", params=CHALLENGE, trust_env=False, timeout=PATIENCE_SECONDS
    )
    parts = urlsplit(way.headers["location"])
    watch.friends.add(f"{parts.scheme}://{parts.netloc}")


def go_to_wechat(page: Page) -> None:
    page.get_by_role("button", name="Continue with WeChat").click()
    expect(page.get_by_role("heading", name="Simulated WeChat")).to_be_visible()


def scan_as(page: Page, person: str) -> None:
    page.get_by_placeholder("somebody else").fill(person)
    page.get_by_role("button", name="sign in").click()


def test_who_scans_the_code_is_signed_in_and_stays_so(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/")
    exchanges: list[Request] = []
    page.on("request", lambda request: exchanges.append(request) if "/session/refresh" in request.url else None)
    go_to_wechat(page)
    scan_as(page, f"w{secrets.token_hex(5)}")
    expect(page.get_by_role("heading", name=GREETING)).to_be_visible()
    assert page.url.partition("#")[0] == f"{stack.url}/"
    assert "ticket" not in page.url, "it is taken out of the address"
    [exchange] = exchanges
    assert set(exchange.post_data_json) == {"ticket", "code_verifier"}
    page.reload()
    expect(page.get_by_role("heading", name=GREETING)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Simulated WeChat")).to_be_visible()


def test_who_declines_is_told_so_and_may_begin_again(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/")
    go_to_wechat(page)
    page.get_by_role("button", name="nobody").click()
    expect(page.get_by_text("You did not allow the sign-in in WeChat.")).to_be_visible()
    assert "error" not in page.url
    go_to_wechat(page)
    scan_as(page, f"w{secrets.token_hex(5)}")
    expect(page.get_by_role("heading", name=GREETING)).to_be_visible()


def test_a_sign_in_from_another_name_of_the_host_is_told_and_works_from_there(
    open_page: OpenPage, stack: Stack, watch: Watch
) -> None:
    """The cookie of localhost does not come to 127.0.0.1, where the sign-in ends."""
    other = stack.url.replace("127.0.0.1", "localhost")
    watch.friends.add(other)
    page = open_page(f"{other}/")
    go_to_wechat(page)
    scan_as(page, f"w{secrets.token_hex(5)}")
    expect(page.get_by_text("The sign-in with WeChat did not work. Try again.")).to_be_visible()
    go_to_wechat(page)
    scan_as(page, f"w{secrets.token_hex(5)}")
    expect(page.get_by_role("heading", name=GREETING)).to_be_visible()


def test_without_a_page_for_tickets_there_is_no_way_by_wechat(open_page: OpenPage, stack: Stack) -> None:
    config = stack.person().get("/config")
    config["sign_in"]["wechat_website_ticket"] = False
    page = open_page("/")
    page.route("**/api/v1/config", lambda route: route.fulfill(json=config))
    page.reload()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Continue with WeChat")).to_have_count(0)


@pytest.mark.parametrize("error", ["constructor", "__proto__", "toString", "<img>", "x" * 2000])
def test_any_error_in_a_link_is_a_sentence(open_page: OpenPage, error: str) -> None:
    page = open_page(f"/#error={error}")
    expect(page.get_by_text("The sign-in with WeChat did not work. Try again.")).to_be_visible()
    expect(page.get_by_role("button", name="Continue with WeChat")).to_be_visible()


def test_who_is_signed_in_already_is_told_at_once_and_not_later(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/#error=wechat_declined", stack.person())
    expect(page.locator(".toast")).to_contain_text("You did not allow the sign-in in WeChat.")
    open_account(page, "Sign out")
    expect(page.get_by_role("heading", name="Welcome to AIDeer")).to_be_visible()
    expect(page.locator(".notice")).to_have_count(0)
