"""Cursors and links of paged lists: a cursor continues its own list, and any other text is refused."""

import base64
import contextlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core.errors import Unprocessable
from aideer.web import pagination
from aideer.web.http import app

TYPES = (str, int)
KEYS = st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers())


def cursor_of(value: object) -> str:
    """What the codec of cursors would make of any JSON value."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(KEYS)
def test_a_cursor_gives_back_its_key(key: tuple[str, int]) -> None:
    cursor = pagination.encode("chats", list(key))
    assert pagination.decode("chats", cursor, TYPES) == list(key)
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#")


@given(KEYS)
def test_a_cursor_of_another_list_is_refused(key: tuple[str, int]) -> None:
    with pytest.raises(Unprocessable) as refused:
        pagination.decode("presets", pagination.encode("chats", list(key)), TYPES)
    assert refused.value.code == "invalid_cursor"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%00",
        "Zm9v",
        "\ud800",
        cursor_of(None),
        cursor_of(["chats"]),
        cursor_of(["chats", "a"]),
        cursor_of(["chats", "a", "1"]),
        cursor_of(["chats", "a", True]),
        cursor_of(["chats", "a", 1.0]),
        cursor_of(["chats", "a", 1, 2]),
        cursor_of(["chats", "\ud800", 1]),
        cursor_of({"chats": 1}),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_a_text_that_is_no_cursor_of_the_list_is_refused(cursor: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        pagination.decode("chats", cursor, TYPES)
    assert refused.value.code == "invalid_cursor"


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Unprocessable):
        key = pagination.decode("chats", text, TYPES)
        assert [type(part) for part in key] == list(TYPES)


class Request:
    """The part of an event that links are made of."""

    path = "/api/v1/chats"

    def __init__(self, **query: str) -> None:
        self.query_string_parameters = query


def test_the_last_page_names_no_other() -> None:
    assert pagination.page_headers(None) == {}


def test_the_link_is_the_same_request_from_the_cursor_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "current_event", Request(limit="5", offset="10", title="a b&c"), raising=False)
    headers = pagination.page_headers("next-one")
    assert headers["X-Next-Cursor"] == "next-one"
    address, _, relation = str(headers["Link"]).partition("; ")
    assert relation == 'rel="next"'
    parts = urlsplit(address.strip("<>"))
    assert parts.path == "/api/v1/chats"
    assert parse_qs(parts.query) == {"limit": ["5"], "title": ["a b&c"], "cursor": ["next-one"]}
