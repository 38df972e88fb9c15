"""Language negotiation: whether a request's Accept-Language (RFC 9110, section 12.5.4) prefers Chinese to English."""

import functools
import re

LONGEST = 1000
"""The most characters of a header that is read. Browsers send less than a hundred."""
_LANGUAGES = ("en", "zh")  # the first is the default
_ELEMENT = re.compile(
    r"(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)"  # a language range (RFC 4647, section 2.1)
    r"(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?",  # its weight (RFC 9110, section 12.4.2)
    re.ASCII | re.IGNORECASE,
)
_REFUSED = (0.0, False, 0)


@functools.lru_cache(maxsize=16)
def choose(header: str) -> str:
    """Return "zh" if the header prefers Chinese, and "en" in all other cases.

    A range stands for its whole language: zh-CN, zh-Hant and zh-TW are all "zh". A language that no range names has the weight of
    `*`, and without `*` the weight 0. If two weights are equal, a named language wins over `*`, then the one that is named first. A
    header that is malformed, too long, or refuses both languages means the default, as section 12.5.4 allows.
    """
    ranges = _parse(header)
    ranks = [_rank(ranges, language) for language in _LANGUAGES]
    return _LANGUAGES[ranks.index(max(ranks))]


def _rank(ranges: list[tuple[str, float]], language: str) -> tuple[float, bool, int]:
    """Return the weight of a language, whether it is named, and how early."""
    named = [(weight, True, -place) for place, (name, weight) in enumerate(ranges) if name == language]
    other = [(weight, False, 0) for name, weight in ranges if name == "*"]
    best = max(named or other, default=_REFUSED)
    return best if best[0] else _REFUSED


def _parse(header: str) -> list[tuple[str, float]]:
    """Return (primary subtag or `*`, weight) of each range, or nothing if the header is malformed."""
    found = []
    for element in header.split(",") if len(header) <= LONGEST else ():
        if not (trimmed := element.strip(" \t")):
            continue  # section 5.6.1.2: a recipient ignores empty elements
        match = _ELEMENT.fullmatch(trimmed)
        if match is None:
            return []
        found.append((match[1].partition("-")[0].lower(), float(match[2] or 1)))
    return found
