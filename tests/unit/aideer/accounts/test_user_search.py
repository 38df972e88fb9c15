"""The spellings of a text, and the places in an index to which a search of users goes on."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.accounts.user_search import Spellings

LETTERS = "aAbBzZ1 -éÉßжЖ鹿𐐀𐐨"
TEXTS = st.text(LETTERS, min_size=1, max_size=4)
NAMES = st.text(LETTERS, max_size=6)


def every(spellings: Spellings) -> list[str]:
    """All spellings, in order."""
    return sorted("".join(each) for each in itertools.product(*spellings.forms))


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("an", ["AN", "An", "aN", "an"]),
        ("1鹿", ["1鹿"]),
        ("É", ["É", "é"]),
        ("ß", ["ß"]),  # its other case is SS
        ("İ", ["İ"]),
    ],
)
def test_a_letter_has_both_cases_and_everything_else_one_form(text: str, spelled: list[str]) -> None:
    spellings = Spellings.of(text)
    assert every(spellings) == spelled
    assert spellings.first == spelled[0]


@given(TEXTS, NAMES)
def test_a_name_begins_with_a_spelling_or_with_none(text: str, name: str) -> None:
    spellings = Spellings.of(text)
    assert spellings.begin(name) == any(name.startswith(each) for each in every(spellings))
    if spellings.begin(name):
        assert spellings.first <= name <= spellings.end


@given(TEXTS, NAMES)
def test_the_next_place_passes_no_name_that_is_wanted(text: str, name: str) -> None:
    spellings = Spellings.of(text)
    behind = [each for each in every(spellings) if each > name and not name.startswith(each)]
    assert spellings.find_next(name) == (behind[0] if behind else None)
