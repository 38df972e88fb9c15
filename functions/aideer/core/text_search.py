"""Whether a text contains words, whatever their case and width; and the part of the text to show.

Text and words are compared after NFKC and case folding, so full-width letters find narrow ones, and "STRASSE" finds "Straße". A
word is found anywhere in the text, because Chinese has no spaces between words.
"""

import bisect
import unicodedata
from collections.abc import Iterator, Sequence

_CHUNK = 256
"""Characters that are normalized at once. Normalization takes quadratic time for a run of combining marks."""
_BEFORE, _SHOWN = 40, 160


def fold(text: str) -> str:
    """Return a text in the form in which it is compared."""
    if text.isascii():
        return text.lower()
    return "".join(_fold_chunk(text[start:end]) for start, end in _chunks(text))


def split_words(query: str) -> list[str]:
    """Return the words of a query, folded, each once."""
    return list(dict.fromkeys(fold(query).split()))


def contains(text: str, words: Sequence[str]) -> bool:
    """Return whether a text contains all of these folded words."""
    folded = fold(text)
    return all(word in folded for word in words)


def cut_snippet(text: str, words: Sequence[str]) -> str:
    """Return the part of a text around the first of these folded words, in one line of at most 162 characters."""
    folded = fold(text)
    found = [at for at in map(folded.find, words) if at >= 0]
    at = _find_original(text, folded, min(found, default=0))
    start = max(0, at - _BEFORE)
    end = min(len(text), start + _SHOWN)
    inside = " ".join(text[start:end].split())
    return "…" * (start > 0) + inside + "…" * (end < len(text))


def _find_original(text: str, folded: str, at: int) -> int:
    """Return the index of the character of a text that became the character `at` of its folded form."""
    if len(text) == len(folded):
        return at
    # The longest beginning of the chunk whose folded form has at most the rest of `at`. Folding can shorten and lengthen it.
    for start, end in _chunks(text):
        chunk = text[start:end]
        if (length := len(_fold_chunk(chunk))) > at:
            ends = range(len(chunk) + 1)
            return start + max(0, bisect.bisect_right(ends, at, key=lambda end: len(_fold_chunk(chunk[:end]))) - 1)
        at -= length
    return len(text)


def _chunks(text: str) -> Iterator[tuple[int, int]]:
    """Yield the begin and the end of each part that is folded at once. No character joins the one before its part."""
    start = 0
    while start < len(text):
        end = start + _CHUNK
        while end < min(len(text), start + 2 * _CHUNK) and _joins(text[end]):
            end += 1
        yield start, min(end, len(text))
        start = end


def _fold_chunk(chunk: str) -> str:
    part = unicodedata.normalize("NFKC", chunk).casefold()
    return unicodedata.normalize("NFKC", part)


def _joins(character: str) -> bool:
    """Return whether a character may become one with the character before it: combining marks, and vowels of Hangul."""
    return unicodedata.combining(character) > 0 or "\u1160" <= character <= "\u11ff"
