"""The rules for characters in a line of text, and the cleaning of a model's text by the same rules.

A user's text that breaks a rule is refused (schemas/strings.py). A model cannot be asked again, so its text is cleaned. The
result obeys every rule that a user's text must obey.
"""

import re
import unicodedata

CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that no text may have. They cannot be shown, and a terminal executes them."""
_BREAKS = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Invisible letters and marks."""
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a control sequence, 7-bit or 8-bit
    r"|\x1b[\]PX^_][^\n]*?(?:\x07|\x1b\\|(?=\n)|$)"  # a control string, ended or not
    r"|\x1b[ -/]*[0-~]"
)
"""ANSI escapes (ECMA-48)."""
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL | re.IGNORECASE)
TITLE_CHARACTERS = 50
"""The length of a chat's title in characters. A user's title has the same bound."""
_MARKS = " \t\"'“”‘’「」『』《》*#.。"
_END_OF_THOUGHT = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)


def breaks_a_line(text: str) -> bool:
    """Tell whether a text has line breaks, control characters or halves of a surrogate pair, or changes its direction.

    Directional overrides could make a name look like another, and reverse the text that follows it.
    """
    return any(unicodedata.category(c) in _BREAKS or c in _DIRECTIONS for c in text)


def has_invisible(text: str) -> bool:
    """Tell whether a text has invisible characters.

    Some letters and marks are invisible (Default_Ignorable_Code_Point, and the empty Braille pattern). They would make two names
    look the same. Only names must not contain them, because emoji need joiners and variation selectors.
    """
    return bool(BLANK.search(text)) or any(unicodedata.category(c)[0] == "C" for c in text)


def without_thought(text: str) -> str:
    """Return a model's text without blocks of <think>, closed or not, and without the text before a lone </think>."""
    return _END_OF_THOUGHT.sub("", _THOUGHT.sub("", text))


def without_controls(text: str) -> str:
    """Return a text without ANSI sequences and control characters; tabs and line breaks stay."""
    return CONTROLS.sub("", _ESCAPES.sub("", text))


def one_line(text: str, characters: int) -> str:
    """Return a text as one line of at most `characters` characters, without those that `breaks_a_line` refuses.

    Return "" if no character is visible. This is for text from a model or from the provider that is used as data: titles,
    previews, names and titles of sources.
    """
    line = " ".join(_ESCAPES.sub("", text).split())
    line = "".join(c for c in line if not breaks_a_line(c))[:characters].strip()
    return line if any(_is_visible(c) for c in line) else ""


def extract_title(answer: str) -> str:
    """Return the title in a model's answer: its first line with text, without marks around it.

    The result is a title that a user could have given, or "" if there is none.
    """
    for line in without_thought(answer).splitlines():
        whole = one_line(line, len(line)).strip(_MARKS)
        if found := one_line(whole[:TITLE_CHARACTERS].strip(_MARKS), TITLE_CHARACTERS):
            return found
    return ""


def _is_visible(character: str) -> bool:
    return not (has_invisible(character) or character.isspace())
