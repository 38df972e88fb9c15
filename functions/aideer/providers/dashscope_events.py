"""The event stream of DashScope, from bytes to JSON: server-sent events (WHATWG HTML, 9.2.6), read leniently.

A line ends in CR, LF or CRLF. A byte order mark may come first, and one event may have several data lines. The SDK's own reader
treats each data line as an event, and ends lines at LF only. A gateway may refuse a call with a JSON body instead of a stream. This
module returns such a body as one event.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

EVENT_BYTES = 8 * 1024 * 1024
"""The size of the longest accepted event."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_STATUS = re.compile(rb"\d{3}")
_BOM = b"\xef\xbb\xbf"
_SPACES = " \t\r\n"
_scan = json.JSONDecoder().raw_decode


class Event(NamedTuple):
    """One event. `data` is not parsed yet."""

    name: bytes
    status: int
    data: bytes

    @property
    def is_error(self) -> bool:
        return self.name == b"error"

    @property
    def carries_answer(self) -> bool:
        """Whether events of this name contain the answer. An event without a name is a `message` (WHATWG HTML, 9.2.6)."""
        return self.name in (b"result", b"message", b"")

    def values(self) -> list[Any]:
        """Return the JSON values of the data, usually one. Raises ValueError for anything else.

        JSON that is split over several data lines is one value. If each line holds a value of its own, they are several.
        """
        text = self.data.decode().strip(_SPACES)
        values, position = [], 0
        while position < len(text):
            try:
                value, position = _scan(text, position)
            except RecursionError:
                raise ValueError("JSON that is nested too deeply") from None
            values.append(value)
            while text[position : position + 1].isspace():
                position += 1
        return values


class Events:
    """Splits bytes into events as they arrive."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name, self._status = b"", 400
        self._begun = self._is_json = self._ended_in_cr = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete. Raises ValueError if one is too long."""
        if not self._begun:
            piece = self._begin(piece)
            if not self._begun:
                return
        if self._is_json:
            self._line += piece
            self._limit(len(self._line))
            return
        if self._ended_in_cr:
            piece = piece.removeprefix(b"\n")
        self._ended_in_cr = piece.endswith(b"\r")
        *lines, rest = _LINE_END.split(piece) if b"\r" in piece else piece.split(b"\n")
        for line in lines:
            if self._line:
                line, self._line = bytes(self._line) + line, bytearray()
            if line:
                self._field(line)
            elif event := self._event():
                yield event
        self._line += rest
        self._limit(self._size + len(self._line))

    def end(self) -> Iterator[Event]:
        """Yield the event that the end of the body completes, if its blank line is missing."""
        if self._is_json:
            yield Event(name=b"", status=400, data=bytes(self._line))
            return
        if self._line:
            self._field(bytes(self._line))
            self._line.clear()
        if event := self._event():
            yield event

    def _begin(self, piece: bytes) -> bytes:
        """Keep the first bytes back until they show whether the body is an event stream or JSON."""
        self._line += piece
        if len(self._line) < len(_BOM) and _BOM.startswith(self._line):
            return b""
        held = bytes(self._line).removeprefix(_BOM)
        if not held.strip():
            return b""
        self._begun = True
        self._is_json = held.lstrip().startswith((b"{", b"["))
        self._line.clear()
        return held

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._size += len(value)
            self._data.append(value)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line.startswith((b":HTTP_STATUS/", b"status:")) and (status := _STATUS.search(line)):
            self._status = int(status[0])

    def _event(self) -> Event | None:
        # Drop the line feeds between data lines: in JSON they can only be white space, or a split inside a string.
        data = b"".join(self._data)
        event = Event(self._name, self._status, data)
        self._data.clear()
        self._size, self._name, self._status = 0, b"", 400
        return event if data or event.is_error else None

    def _limit(self, size: int) -> None:
        if size > EVENT_BYTES:
            raise ValueError("an event is too long")
