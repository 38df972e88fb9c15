"""Tokens of a text: an upper bound that costs nothing, and the count by Qwen's own vocabulary.

Qwen normalises a text to NFC before it splits it, and a token is at least one byte of the result: so the bytes of NFC are an
upper bound, and the bytes of the text itself are not (U+1D1C0 has 4, and 12 in NFC).

The vocabulary is a file that the dashscope package carries. It and tiktoken are loaded at the first count, which few functions
ever make. Special tokens that users type, such as <|im_start|>, count as plain text: the most that they can be.
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
"""The longest time of the processor for one count, without loading. What it leaves over counts as its bytes."""
_PIECE = 100_000
"""Characters that tiktoken is given at once: a longer run of spaces overflows its stack, one of letters takes seconds."""
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen splits a text before it looks for tokens (dashscope.tokenizers.qwen_tokenizer.PAT_STR; a test compares them)."""
_NORMALIZED_AT_ONCE = 128
"""Characters. Normalising takes time with the square of a run of combining marks: 15 s for 100,000 of them."""
_CUT_BYTES = 16
"""What normalising two halves of a text apart can hide: a mark that undoes and reorders what the half before was composed of."""


def bound(text: str) -> int:
    """Return the most tokens that a text can be: its bytes in NFC."""
    if text.isascii():
        return len(text)
    if unicodedata.is_normalized("NFC", text):
        return len(text.encode())
    return sum(len(piece.encode()) + _CUT_BYTES for piece in _normalized(text))


def count(texts: Iterable[str], seconds: float = COUNT_SECONDS) -> int:
    """Return how many tokens of Qwen's vocabulary these texts are.

    Text for which `seconds` did not suffice, or which tiktoken cannot take, counts as its bytes.
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
        # Rust's panics come as pyo3_runtime.PanicException, which no module exports and which is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return len(piece.encode())


def _pieces(text: str) -> Iterator[str]:
    if not (text.isascii() or unicodedata.is_normalized("NFC", text)):
        text = "".join(_normalized(text))
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _normalized(text: str) -> Iterator[str]:
    for start in range(0, len(text), _NORMALIZED_AT_ONCE):
        yield unicodedata.normalize("NFC", text[start : start + _NORMALIZED_AT_ONCE])


@functools.cache
def _encoding() -> "tiktoken.Encoding":
    import tiktoken

    lines = _vocabulary().read_bytes().splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding("Qwen", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})


def _vocabulary() -> Path:
    # Found without importing the package: it takes a second, and the layer of the functions that only count is without it.
    found = find_spec("dashscope")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("dashscope, which carries Qwen's vocabulary")
    return Path(found.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
