"""The texts of the page Connect: each that its script uses is in both languages, and none is left over."""

import re

import pytest

from tests.unit.test_console_texts import LANGUAGES, SITE

SOURCE = (SITE / "page/connect.js").read_text(encoding="utf-8")


def texts(language: str) -> dict[str, str]:
    """The texts of the page in a language, by key."""
    source = (SITE / f"page/connect-text-{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  "([^"]+)": "((?:[^"\\]|\\.)*)",$', source, re.MULTILINE))


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    english, chinese = texts("en"), texts("zh")
    assert len(english) > 70
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        values = set(re.findall(r"\{(\w+)\}", text))
        assert set(re.findall(r"\{(\w+)\}", chinese[key])) == values, key
        assert not re.search(r"[\u4e00-\u9fff]", text), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_is_used_and_each_used_text_is_there(language: str) -> None:
    used = set(re.findall(r'"(connect\.\w+)"', SOURCE))
    computed = {f"connect.state_{state}" for state in ("active", "paused", "expired", "used_up")}
    codes = {"error.key_not_found"}  # `explain` looks them up
    assert texts(language).keys() == used | computed | codes
