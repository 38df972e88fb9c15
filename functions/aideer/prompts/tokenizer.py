"""Tokens of a text: a cheap upper bound, and the count by Qwen's own vocabulary.

Qwen normalises a text to NFC before it splits it, and a token is at least one byte of the result. So the bytes of NFC are an upper
bound. The bytes of the text itself are not: U+1D1C0 has 4 bytes, and 12 in NFC.

The vocabulary is a file in the dashscope package. It and tiktoken are loaded at the first count, because few functions count.
Special tokens that users type, such as <|im_start|>, count as plain text, which is the most that they can be.
"""

import functools
import time
import unicodedata
from base64 import b64decode
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

COUNT_SECONDS = 2.0
"""The most processor time for one count, without loading. Text that is left after it counts as its bytes."""
_PIECE = 100_000
"""The number of characters that tiktoken gets at once.

A longer run of spaces overflows its stack, and one of letters takes seconds.
"""
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pattern by which Qwen splits a text before it looks for tokens.

It is dashscope.tokenizers.qwen_tokenizer.PAT_STR, and a test compares them.
"""
_NORMALIZED_AT_ONCE = 128
"""The number of characters that are normalised at once.

The time grows with the square of a run of combining marks: 15 s for 100,000 of them.
"""
_CUT_BYTES = 16
"""The most bytes that a separate normalisation of two pieces can hide.

A mark at the start of a piece may decompose and reorder the end of the piece before it.
"""


def compute_bound(text: str) -> int:
    """Return the most tokens that a text can have: its bytes in NFC."""
    if text.isascii():
        return len(text)
    if unicodedata.is_normalized("NFC", text):
        return len(text.encode())
    return sum(len(piece.encode()) + _CUT_BYTES for piece in _normalize(text))


def count(texts: Iterable[str], seconds: float = COUNT_SECONDS) -> int:
    """Return how many tokens of Qwen's vocabulary these texts have.

    Text counts as its bytes if `seconds` of processor time did not suffice for it, or if tiktoken fails on it.
    """
    encoding = _encoding()
    give_up_at = time.thread_time() + seconds
    total = 0
    for text in texts:
        for piece in _pieces(text):
            total += _count(encoding, piece) if time.thread_time() < give_up_at else len(piece.encode())
    return total


def _count(encoding: "tiktoken.Encoding", piece: str) -> int:
    try:
        return len(encoding.encode_ordinary(piece))
    except BaseException as error:
        # A panic in Rust raises pyo3_runtime.PanicException. No module exports it, and it is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return len(piece.encode())


def _pieces(text: str) -> Iterator[str]:
    if not (text.isascii() or unicodedata.is_normalized("NFC", text)):
        text = "".join(_normalize(text))
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _normalize(text: str) -> Iterator[str]:
    for start in range(0, len(text), _NORMALIZED_AT_ONCE):
        yield unicodedata.normalize("NFC", text[start : start + _NORMALIZED_AT_ONCE])


@functools.cache
def _encoding() -> "tiktoken.Encoding":
    import tiktoken

    lines = _vocabulary().read_bytes().splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding("Qwen", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})


def _vocabulary() -> Path:
    # The package is not imported: an import takes a second. The layer of the functions that only count has no more of the package
    # than the vocabulary.
    found = find_spec("dashscope")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("dashscope, which carries Qwen's vocabulary")
    return Path(found.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
