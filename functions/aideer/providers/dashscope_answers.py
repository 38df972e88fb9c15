"""One answer of DashScope: it reads the events of a call and returns what each one adds."""

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aideer.core.characters import breaks_a_line, one_line
from aideer.core.usage import Source, Usage
from aideer.providers.dashscope_errors import Refusal, UpstreamError
from aideer.providers.dashscope_events import Event

_MOST_TOKENS = 1_000_000_000
"""No call uses this many tokens. A larger count is an error of the provider."""
_DIGITS = re.compile("[0-9]{1,10}")
_NOT_ASKED_FOR = ("tool_calls", "function_call", "sensitive", "insufficient_system_resource")
"""Finish reasons of other interfaces that a log may name. Any other value may be text of a user."""
_MOST_SOURCES = 50
_TITLE_CHARACTERS, _NAME_CHARACTERS, _ADDRESS_CHARACTERS = 300, 100, 2_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of the answer that one event added. `usage` counts from the beginning of the call and never shrinks."""

    reasoning: str
    content: str
    finish_reason: str | None
    usage: Usage | None
    sources: tuple[Source, ...] = ()
    """All web pages that the provider has found for this answer so far. Empty if this event added none."""
    tool_calls: str = ""
    """What this event added to calls of tools: lines of JSON. The first line of a call is {index, id, name, arguments}, and each
    later one is {index, arguments}.
    """

    @property
    def says_something(self) -> bool:
        """Whether the event added to the answer."""
        return bool(self.reasoning or self.content or self.tool_calls)


class Answer:
    """One answer. Once it is `finished`, an event can only raise its usage."""

    def __init__(self, model: str, *, calls_tools: bool = False) -> None:
        """`calls_tools` says that the call offers tools, so that the answer may call them."""
        self.finished = False
        self.usage_is_final = False
        """True after a usage in the event that finished the answer, or in a later one. Earlier ones count what was billed so far.
        """
        self.unreadable: set[str] = set()
        """The names of usage fields that were present but held no count."""
        self._usage: Usage | None = None
        self._model = model
        self._reasoning, self._content = _Text(), _Text()
        self._sources: dict[tuple[int, str], Source] = {}
        self._calls_tools = calls_tools
        self._arguments: defaultdict[int, _Text] = defaultdict(_Text)
        """By the index of a call of a tool."""

    @property
    def usage(self) -> Usage | None:
        """The largest count of each field that was reported, or None.

        Cached tokens are part of the input. If the provider reports more of them than of the input, they are cut to the input.
        """
        if self._usage and self._usage.cached_tokens > self._usage.input_tokens:
            return self._usage._replace(cached_tokens=self._usage.input_tokens)
        return self._usage

    def read(self, event: Event) -> Iterator[Chunk]:
        """Yield the chunks that an event adds, if any.

        Raises UpstreamError if the event is an error. Raises any exception if the event carries a piece of the answer and cannot
        be read. Once the answer is finished, it raises nothing.
        """
        try:
            values = [] if event.data == b"[DONE]" else event.values()
        except ValueError:
            if event.carries_answer and not self.finished:
                raise
            values = []
        # Count all values first, so that an error in one value does not hide the usage of a later one.
        for value, (usage, grew) in [(value, self._count(value)) for value in values or [None]]:
            chunk = None if self.finished else self._chunk(value, event, usage)
            news = grew or (self.finished and usage and not self.usage_is_final)
            self.usage_is_final = self.usage_is_final or bool(self.finished and usage)
            if chunk:
                yield chunk
            elif news:
                yield Chunk("", "", None, usage)

    def count(self, event: Event) -> None:
        """Count the usage of an event that comes too late to add anything else."""
        with suppress(ValueError):
            for value in event.values():
                self._count(value)

    def _chunk(self, value: Any, event: Event, usage: Usage | None) -> Chunk | None:
        refusal = Refusal.read(value)
        if event.is_error or refusal:
            error = (refusal or Refusal()).error(self._model, event.status, accepted=True)
            if error.code != "content_filtered":
                raise error
            return self._end("", "", "content_filter", usage, ())
        output = _get_object(value, "output")
        sources = self._search(_get_object(output, "search_info").get("search_results"))
        choices = output.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = choice.get("message") or {}
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if part is not None)
        thought, text = self._reasoning.add(message.get("reasoning_content") or ""), self._content.add(content)
        tool_calls = self._call_tools(message.get("tool_calls")) if self._calls_tools else ""
        finish_reason = choice.get("finish_reason")
        if finish_reason in (None, "", "null"):
            said = Chunk(thought, text, None, usage, sources, tool_calls)
            return said if said.says_something or sources else None
        if self._calls_tools and finish_reason in ("stop", "tool_calls"):
            finish_reason = "tool_calls" if self._arguments else "stop"
        if finish_reason in ("stop", "length", "content_filter", *(("tool_calls",) if self._calls_tools else ())):
            return self._end(thought, text, finish_reason, usage, sources, tool_calls)
        named = finish_reason if finish_reason in _NOT_ASKED_FOR else f"of {len(str(finish_reason))} characters"
        raise UpstreamError("upstream_error", f"{self._model}: finish_reason {named}, not asked for", accepted=True)

    def _end(
        self,
        thought: str,
        text: str,
        finish_reason: str,
        usage: Usage | None,
        sources: tuple[Source, ...],
        tool_calls: str = "",
    ) -> Chunk:
        self.finished = True
        thought, text = thought + self._reasoning.rest(), text + self._content.rest()
        return Chunk(thought, text, finish_reason, usage, sources, tool_calls)

    def _call_tools(self, calls: Any) -> str:
        """Return what these pieces of calls add, as `Chunk.tool_calls` has it.

        The provider names the id and the tool in the first piece of a call. Later pieces may have empty ones.
        """
        lines = ""
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            index = _parse_count(call.get("index"))
            index = position if index is None else index
            function = _get_object(call, "function")
            added: dict[str, Any] = {"index": index}
            if index not in self._arguments:
                added |= {"id": call.get("id") or f"call_{secrets.token_hex(12)}", "name": str(function["name"])}
            added["arguments"] = self._arguments[index].add(function.get("arguments") or "")
            lines += f"{json.dumps(added, ensure_ascii=False)}\n" if len(added) > 2 or added["arguments"] else ""
        return lines

    def _count(self, value: Any) -> tuple[Usage | None, bool]:
        """Return the usage so far if an event reports one, and whether that event raised it."""
        reported = self._read_usage(value.get("usage")) if isinstance(value, dict) else None
        if reported is None:
            return None, False
        before, self._usage = self._usage, reported.maximum(self._usage)
        return self.usage, self._usage != before

    def _read_usage(self, reported: Any) -> Usage | None:
        """Read the counts that are present, and ignore values that are no counts.

        Return None for a usage without a single token: providers send `{}` and zeros before they know the usage.
        """
        if not isinstance(reported, dict):
            return None
        usage = Usage(
            self._number(reported, "input_tokens"),
            self._number(reported, "output_tokens"),
            self._number(_get_object(reported, "output_tokens_details"), "reasoning_tokens"),
            max(
                self._number(_get_object(reported, "prompt_tokens_details"), "cached_tokens"),
                self._number(_get_object(reported, "input_tokens_details"), "cached_tokens"),
            ),
            self._number(_get_object(_get_object(reported, "plugins"), "search"), "count"),
        )
        return usage if any(usage) else None

    def _number(self, counts: dict[str, Any], name: str) -> int:
        value = counts.get(name)
        number = 0 if value is None else _parse_count(value)
        if number is None:
            self.unreadable.add(name)
        return number or 0

    def _search(self, results: Any) -> tuple[Source, ...]:
        """Return all sources so far if these results add one, else an empty tuple."""
        before = len(self._sources)
        for result in results if isinstance(results, list) else ():
            if len(self._sources) < _MOST_SOURCES and (source := _parse_source(result, len(self._sources) + 1)):
                self._sources.setdefault((source["index"], source["url"]), source)
        return tuple(self._sources.values()) if len(self._sources) > before else ()


def _get_object(value: Any, name: str) -> dict[str, Any]:
    """Return the object of that name within a JSON value, or an empty one if there is no object of that name."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _parse_count(value: Any) -> int | None:
    """Return a count as an integer: from an integer, from a float without a fraction, or from a string of digits.

    Return None for anything else: fractions, negative numbers, and more tokens than any call has. JSON has no integer type, so a
    gateway may write 200 as 200.0 or as "200".
    """
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _DIGITS.fullmatch(value)):
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _parse_source(result: Any, position: int) -> Source | None:
    """Read one search result, or return None if it has no web address.

    Clients make a link of it. So only http and https addresses are accepted, and titles are cut to one line.
    """
    if not isinstance(result, dict):
        return None
    url = result.get("url")
    if (
        not isinstance(url, str)
        or not re.fullmatch(rf"https?://[^\s/]\S{{0,{_ADDRESS_CHARACTERS}}}", url)
        or breaks_a_line(url)
    ):
        return None
    index = _parse_count(result.get("index"))
    title, site_name = (text if isinstance(text := result.get(name), str) else "" for name in ("title", "site_name"))
    return Source(
        index=position if index is None or index >= 1_000_000 else index,
        title=one_line(title, _TITLE_CHARACTERS),
        url=url,
        site_name=one_line(site_name, _NAME_CHARACTERS),
    )


class _Text:
    """Text that joins surrogate pairs cut between two events. A half without its other half becomes U+FFFD."""

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
