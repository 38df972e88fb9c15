"""Words in texts: in any case and width, anywhere, and shown with what stands around them."""

import time
import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core import text_search


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("蓝色", "天空为什么是蓝色的？"),
        ("ai", "这是ＡＩ的回答"),
        ("ＡＩ", "an ai answers"),
        ("STRASSE", "Die Straße"),
        ("straße", "DIE STRASSE"),
        ("caf\u00e9", "Cafe\u0301 au lait"),
        ("cafe\u0301", "CAF\u00c9"),
        ("ﬁne", "That is FINE"),
        ("한글", unicodedata.normalize("NFD", "한글")),
        ("sky blue", "Blue is the colour of the SKY"),
        ("ß", "SS"),
        ("①", "1"),
        ("ｶﾞ", "ガ"),
    ],
)
def test_words_are_found_whatever_their_case_width_and_order(query: str, text: str) -> None:
    words = text_search.split_words(query)
    assert text_search.contains(text, words)
    assert text_search.contains("x" * 1000 + " " + text, words)


@pytest.mark.parametrize(
    ("query", "text"), [("blue sky", "The sky"), ("cafe", "CAF\u00c9"), ("蓝 红", "蓝色"), ("a", "")]
)
def test_a_text_without_one_of_the_words_is_no_hit(query: str, text: str) -> None:
    assert not text_search.contains(text, text_search.split_words(query))


@given(st.text(), st.text(), st.text())
def test_every_part_of_a_text_is_found_in_it(before: str, part: str, after: str) -> None:
    # A mark joins the character before it, so only a part between separators is a part after normalization too.
    assert text_search.contains(f"{before}\n{part}\n{after}", text_search.split_words(part))


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=1000))
def test_a_text_is_folded_as_unicode_says_and_folding_again_changes_nothing(text: str) -> None:
    folded = text_search.fold(text)
    assert text_search.fold(folded) == folded
    if len(text) < text_search._CHUNK:
        once = unicodedata.normalize("NFKC", text).casefold()
        assert folded == unicodedata.normalize("NFKC", once)


@given(st.text(max_size=600), st.text(min_size=1, max_size=10), st.text(max_size=600))
def test_a_snippet_is_one_short_line(before: str, part: str, after: str) -> None:
    snippet = text_search.cut_snippet(before + part + after, text_search.split_words(part))
    assert len(snippet) <= 162
    assert len(snippet.splitlines()) <= 1


@pytest.mark.parametrize("noise", ["x", "天", "ﷺ", "e\u0301", "ß", "é"], ids=ascii)
def test_a_snippet_shows_the_word(noise: str) -> None:
    text = noise * 500 + " the NEEDLE stands here " + noise * 500
    snippet = text_search.cut_snippet(text, text_search.split_words("needle"))
    assert "NEEDLE" in snippet
    assert snippet.startswith("…")
    assert snippet.endswith("…")


def test_a_snippet_costs_little_more_than_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "天气很好……" * 10_000 + "needle"
    normalized = 0

    def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], part: str) -> str:
        nonlocal normalized
        normalized += len(part)
        return once(form, part)

    once = unicodedata.normalize
    monkeypatch.setattr(unicodedata, "normalize", normalize)
    assert "needle" in text_search.cut_snippet(text, ["needle"])
    assert normalized < 6 * len(text), "two readings of the text, of two steps each"


def test_a_short_text_is_its_own_snippet() -> None:
    assert text_search.cut_snippet("The\n sky is  blue", ["blue"]) == "The sky is blue"


def test_a_run_of_marks_takes_no_quadratic_time() -> None:
    """Normalized at once, this text would take seconds: the test would be slow, but it asserts no time."""
    marks = "a" + "\u0301\u0316" * 25_000
    began = time.process_time()
    folded = text_search.fold(marks)
    assert len(folded) >= 50_000
    assert time.process_time() >= began
