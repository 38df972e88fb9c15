"""Text from a model that is used as data obeys what a user's text must obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from aideer.core import characters
from aideer.schemas.strings import Prompt, Title

TITLE = TypeAdapter(Title)
PIECES = st.sampled_from(
    [
        "\x00", "\x1b[31m", "\x1b]0;title\x07", "\x1b]0;open", "\x9b2J", "\u202e", "\u2066", "\u2028", "\x85", "\r\n", "\n", "\t",
        "\u3000", "\u200b", "\u200d", "\ufe0f", "\u2800", "<think>", "</think>", "<THINKING>", "</thinking>", '"', "#", "。",
        "A title", "标题", "👩‍🚀", "e\u0301", "x" * 60, "\x7f", "\x08", "\x1c",
    ]
)  # fmt: skip
ANSWERS = st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join))


@given(ANSWERS)
def test_a_models_title_is_one_that_a_user_could_have_given_or_none(answer):
    title = characters.extract_title(answer)
    assert title == "" or TITLE.validate_python(title) == title
    assert characters.extract_title(title) == title


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("A deer", "A deer"),
        ('"A deer."', "A deer"),
        ("**森林里的鹿**。", "森林里的鹿"),
        ("\n\n  \nA deer\nin the woods", "A deer"),
        ("<think>They want a title.\nHm.</think>\n\nA deer", "A deer"),
        ("<think>They want a title, and", ""),
        ("They want a title.</think>A deer", "A deer"),
        ("<Thinking>no</Thinking> A deer", "A deer"),
        ("\x1b[1;31mA deer\x1b[0m", "A deer"),
        ("\x1b]0;rm -rf\x07A deer", "A deer"),
        ("\x9b31mA deer", "A deer"),
        ("A\x00 de\x07er", "A deer"),
        ("\u202eA deer\u2066", "A deer"),
        ("A\u2028deer", "A"),
        ("   \u3000 \t ", ""),
        ("\u200b\u2800\ufe0f", ""),
        ("\x1b[2J\n\u202e\nA deer", "A deer"),
        ("", ""),
        ("d" * 80, "d" * 50),
        ("👩‍🚀 in space", "👩‍🚀 in space"),
    ],
)
def test_what_is_left_of_a_models_title(answer, title):
    assert characters.extract_title(answer) == title


@given(ANSWERS)
def test_a_text_without_controls_is_one_that_a_user_could_have_written(text):
    clean = characters.without_controls(text).encode("utf-8", "ignore").decode()
    assert clean == "" or TypeAdapter(Prompt).validate_python(clean) == clean


def test_an_open_escape_takes_no_other_line_with_it():
    assert characters.without_controls("\x1b]0;open\nstill here") == "\nstill here"


@given(ANSWERS, st.integers(1, 80))
def test_one_line_is_one_line_of_that_length(text, most):
    line = characters.one_line(text, most)
    assert len(line) <= most
    assert not characters.breaks_a_line(line)
    assert line == line.strip()
