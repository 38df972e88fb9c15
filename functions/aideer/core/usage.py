"""The usage and sources that the provider reports for one call.

The module imports no other of AIDeer, so every layer may use it.
"""

from typing import NamedTuple, TypedDict


class Usage(NamedTuple):
    """Counts from the beginning of a call.

    `reasoning_tokens` are part of `output_tokens`, and `cached_tokens` are part of `input_tokens`. `searches` counts the web
    searches that the provider made for the answer. Items of the first release hold the first three fields only.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    searches: int = 0

    def maximum(self, other: "Usage | None") -> "Usage":
        """Return the larger count of each field: counts are cumulative, so a smaller later one is an error of the provider."""
        return Usage(*map(max, self, other)) if other else self


class Source(TypedDict):
    """A web page that the provider's search found (Model Studio, "search_info.search_results")."""

    index: int
    title: str
    url: str
    site_name: str
