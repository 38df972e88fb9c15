"""User-Agent in short, as people recognize their devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.web import user_agents

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0 Safari/537.36", "Chrome, Windows"),
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0 Safari/537.36 Edg/140.0", "Edge, Windows"),
        (f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/19.0 Safari/605.1.15", "Safari, macOS"),
        (
            f"{MOZILLA} (iPhone; CPU iPhone OS 19_1 like Mac OS X) {WEBKIT} CriOS/140 Mobile Safari/604.1",
            "Chrome, iPhone",
        ),
        (f"{MOZILLA} (iPhone; CPU iPhone OS 19_1) {WEBKIT} Mobile MicroMessenger/8.0.50", "WeChat, iPhone"),
        (f"{MOZILLA} (Linux; Android 16; Pixel 10) {WEBKIT} Chrome/140.0 Mobile Safari/537.36", "Chrome, Android"),
        (f"{MOZILLA} (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, Linux"),
        ("AIDeer/1.0 (iPhone; iOS 19.1)", "AIDeer, iPhone"),
        ("curl/8.14.1", "curl"),
        (MOZILLA, None),
        ("", None),
        (None, None),
        ("鹿", None),
    ],
)
def test_a_device_is_named_by_its_program_and_its_system(agent: str | None, name: str | None) -> None:
    assert user_agents.describe(agent) == name


@given(st.text())
def test_a_name_is_always_short_and_printable(agent: str) -> None:
    name = user_agents.describe(agent)
    assert name is None or (0 < len(name) <= 50 and name.isascii() and name.isprintable())
