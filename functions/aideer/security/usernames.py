"""User names: the allowed characters, and look-alikes. Import this module only to set a name, because its tables are large.

A name consists of parts, divided by single spaces (RFC 8265, section 3.1). Each part has the profile UsernameCasePreserved:
letters, digits and ASCII punctuation, in NFC. It has no invisible, unassigned or compatibility characters. All its marks are
visible (UTS #39, section 5.4). No mark is drawn over another mark, over a dot or through a letter. Two names that look alike
share a skeleton (section 4). users.py reserves skeletons, so the second of two look-alikes is refused.
"""

import functools
import gzip
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precis_i18n.profile import Profile

_TABLE = Path(__file__).with_name("tables") / "confusables.txt.gz"
_AM = {"\u0e33": "\u0e4d\u0e32", "\u0eb3": "\u0ecd\u0eb2"}
"""The vowel am of Thai and Lao keyboards. It is a compatibility character, so RFC 8265 accepts it only as two parts."""
_MOST_MARKS = 4
_DOT_ABOVE = "\u0307"
_SOFT_DOTTED = set("ij\u0249\u0268\u029d\u03f3\u0456\u0458\u1d96\U0001df1a")
"""The letters with the property Soft_Dotted (Unicode 15) that a decomposed name can have."""
_OVERLAY = re.compile("[\u0334-\u0338\u1cd4\u1ce2-\u1ce8\u20d0-\u20ff\U0001d167-\U0001d169]")
"""Marks that are drawn through a letter, and marks for symbols."""


def enforce(text: str) -> str:
    """Return a name in its stored form. Raises ValueError if it has characters that no name may have."""
    parts = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text).split(" ")
    name = " ".join(_enforce(part) for part in parts if part)
    if not name.isascii():
        _require_plain_marks(name)
    return name


def compute_skeletons(name: str) -> set[str]:
    """Return the skeletons of a name: as it is written, and in small letters."""
    return {_lower_skeleton(name), _lower_skeleton(_fold(name))}


def _enforce(part: str) -> str:
    if part.isascii():
        if not part.isprintable():
            raise ValueError("control characters")
        return part
    try:
        return _with_am(str(_profile().enforce(_without_am(part))))
    except UnicodeEncodeError as error:
        raise ValueError(error.reason) from None


def _without_am(part: str) -> str:
    return "".join(_AM.get(c, c) for c in part)


def _with_am(part: str) -> str:
    for am, parts in _AM.items():
        part = part.replace(parts, am)
    return part


def _require_plain_marks(name: str) -> None:
    """Raise ValueError if a mark has no letter or would be invisible, or if a letter has too many marks."""
    base, marks = " ", ""
    for c in unicodedata.normalize("NFD", name):
        if unicodedata.category(c) not in ("Mn", "Me"):
            base, marks = c, ""
            continue
        if base == " " or _OVERLAY.match(c) or marks.endswith(c) or len(marks) == _MOST_MARKS:
            raise ValueError("combining marks")
        if c == _DOT_ABOVE and _takes_no_dot(base):
            raise ValueError("combining marks")
        marks += c


def _takes_no_dot(letter: str) -> bool:
    """Return whether a letter with a dot above it would look like i or j, which have their own dots. A capital I may have one."""
    looks = _confusables().get(letter, letter)
    return letter != "I" and (letter in _SOFT_DOTTED or looks[-1:] in (*_SOFT_DOTTED, "l"))


def _lower_skeleton(name: str) -> str:
    """Return the skeleton in small letters. A capital I, a small l and a 1 look alike, as do characters that map to them."""
    looks = _fold(_skeleton(name))
    return _fold(_skeleton(looks))


def _skeleton(text: str) -> str:
    table = _confusables()
    mapped = "".join(table.get(c, c) for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFD", mapped)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@functools.cache
def _confusables() -> dict[str, str]:
    lines = gzip.decompress(_TABLE.read_bytes()).decode().split("\n")
    return {line[0]: line[1:] for line in lines if line}


@functools.cache
def _profile() -> "Profile":
    from precis_i18n import get_profile

    return get_profile("UsernameCasePreserved")
