"""One answer of DashScope as far as it came: each event in, what it adds out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aideer.characters import breaks_a_line, one_line
from aideer.dashscope_errors import Refusal, UpstreamError
from aideer.dashscope_events import Event
from aideer.usage import Source, Usage

_MOST_TOKENS = 1_000_000_000
"""No call counts as many tokens: a larger count is an error of the provider."""
_MOST_SOURCES = 50
_TITLE_CHARACTERS, _NAME_CHARACTERS, _ADDRESS_CHARACTERS = 300, 100, 2_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event added. `usage` counts from the beginning of the call and never shrinks."""

    reasoning: str
    content: str
    finish_reason: str | None
    usage: Usage | None
    sources: tuple[Source, ...] = ()
    """The web pages that the provider found for this answer, all of them so far; empty where this event named none."""


class Answer:
    """One answer. Once it is `finished`, an event can only raise its usage."""

    def __init__(self, model: str) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._model = model
        self._reasoning, self._content = _Text(), _Text()
        self._sources: dict[tuple[int, str], Source] = {}

    def read(self, event: Event) -> Iterator[Chunk]:
        """Return what an event adds, if anything.

        Raises UpstreamError for an event that is an error, and anything for one that cannot be read. It raises nothing once
        the answer is finished.
        """
        try:
            values = [] if event.data == b"[DONE]" else event.values()
        except ValueError:
            if not (self.finished or event.is_error):
                raise
            values = []
        for value in values or [None]:
            usage, grew = self._count(value)
            try:
                chunk = None if self.finished else self._chunk(value, event, usage)
            except Exception:
                if grew:
                    yield Chunk("", "", None, usage)
                raise
            if chunk:
                yield chunk
            elif grew:
                yield Chunk("", "", None, usage)

    def _chunk(self, value: Any, event: Event, usage: Usage | None) -> Chunk | None:
        output = {} if value is None else value.get("output") or {}
        choices = output.get("choices")
        refusal = None if choices else Refusal.read(value)
        if event.is_error or refusal:
            error = (refusal or Refusal()).error(self._model, event.status, accepted=True)
            if error.code != "content_filtered":
                raise error
            return self._end("", "", "content_filter", usage, ())
        search = output.get("search_info")
        sources = self._search(search["search_results"]) if search and search.get("search_results") else ()
        choice = choices[0] if choices else {}
        message = choice.get("message") or {}
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content)
        thought, text = self._reasoning.add(message.get("reasoning_content") or ""), self._content.add(content)
        finish_reason = choice.get("finish_reason")
        if finish_reason in (None, "", "null"):
            return Chunk(thought, text, None, usage, sources) if thought or text or sources else None
        if finish_reason in ("stop", "length", "content_filter"):
            return self._end(thought, text, finish_reason, usage, sources)
        named = re.sub(r"\W", "", str(finish_reason))[:32]
        raise UpstreamError("upstream_error", f"{self._model}: finish_reason {named}, not asked for", accepted=True)

    def _end(
        self, thought: str, text: str, finish_reason: str, usage: Usage | None, sources: tuple[Source, ...]
    ) -> Chunk:
        self.finished = True
        return Chunk(thought + self._reasoning.rest(), text + self._content.rest(), finish_reason, usage, sources)

    def _count(self, value: Any) -> tuple[Usage | None, bool]:
        """Return the usage so far where an event reports one, and whether that event raised it."""
        reported = _usage(value.get("usage")) if isinstance(value, dict) else None
        if reported is None:
            return None, False
        before, self.usage = self.usage, reported.maximum(self.usage)
        if self.usage.cached_tokens > self.usage.input_tokens:  # they are part of the input, whatever is reported
            return self.usage._replace(cached_tokens=self.usage.input_tokens), self.usage != before
        return self.usage, self.usage != before

    def _search(self, results: Sequence[Any]) -> tuple[Source, ...]:
        """Return all sources so far where these results add any."""
        before = len(self._sources)
        for result in results:
            if len(self._sources) < _MOST_SOURCES and (source := _source(result, len(self._sources) + 1)):
                self._sources.setdefault((source["index"], source["url"]), source)
        return tuple(self._sources.values()) if len(self._sources) > before else ()


def _usage(reported: Any) -> Usage | None:
    """Read the counts that are there, and leave out what is no count: text, fractions, less than 0, more than any call has.

    A usage without a single token is none: providers send `{}` and zeros before they know it.
    """
    if not isinstance(reported, dict):
        return None
    details = reported.get("prompt_tokens_details") or reported.get("input_tokens_details")
    plugins = reported.get("plugins")
    usage = Usage(
        _number(reported, "input_tokens"),
        _number(reported, "output_tokens"),
        _number(reported.get("output_tokens_details"), "reasoning_tokens"),
        _number(details, "cached_tokens"),
        _number(plugins.get("search"), "count") if isinstance(plugins, dict) else 0,
    )
    return usage if any(usage) else None


def _number(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else 0
    return value if type(value) is int and 0 < value < _MOST_TOKENS else 0


def _source(result: Any, position: int) -> Source | None:
    """Read one search result. Clients make a link of it: only web addresses are taken, and titles are one line."""
    if not isinstance(result, dict):
        return None
    url = result.get("url")
    if (
        not isinstance(url, str)
        or not re.fullmatch(rf"https?://[^\s/]\S{{0,{_ADDRESS_CHARACTERS}}}", url)
        or breaks_a_line(url)
    ):
        return None
    index = result.get("index")
    return Source(
        index=index if type(index) is int and 0 <= index < 1_000_000 else position,
        title=one_line(str(result.get("title") or ""), _TITLE_CHARACTERS),
        url=url,
        site_name=one_line(str(result.get("site_name") or ""), _NAME_CHARACTERS),
    )


class _Text:
    """Joins surrogate pairs that were cut between two events. What never finds its other half becomes U+FFFD."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        if not piece:
            return ""
        piece = self._half + piece
        self._half = ""
        if not _SURROGATE.search(piece):
            return piece
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def rest(self) -> str:
        half, self._half = self._half, ""
        return "\ufffd" if half else ""
