"""The event stream of DashScope, from bytes to JSON: server-sent events (WHATWG HTML, 9.2.6), read leniently.

A line ends in CR, LF or CRLF, a byte order mark may come first, and one event may have several data lines. The SDK's own
reader takes each data line for an event and lines for ended by LF alone. A body that is one JSON object and no stream is
one event here, because a gateway may answer so where it refuses a call.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

EVENT_BYTES = 8 * 1024 * 1024
"""The longest event."""

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
        """Whether events of this name bring the answer. An event without a name is a `message` (WHATWG HTML, 9.2.6)."""
        return self.name in (b"result", b"message", b"")

    def values(self) -> list[Any]:
        """Return the JSON values of the data, usually one. Raises ValueError for anything else.

        JSON that is cut over several data lines is one value, and several lines that each hold a value are several.
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
    """Cuts bytes into events as they come."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name, self._status = b"", 400
        self._begun = self._is_json = self._ended_in_cr = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Return the events that these bytes complete. Raises ValueError where one is too long."""
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
        """Return the event that the end of the body completes, where its blank line is missing."""
        if self._is_json:
            yield Event(name=b"", status=400, data=bytes(self._line))
            return
        if self._line:
            self._field(bytes(self._line))
            self._line.clear()
        if event := self._event():
            yield event

    def _begin(self, piece: bytes) -> bytes:
        """Hold the first bytes back until they tell an event stream from a JSON object."""
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
        # Line feeds between data lines are dropped: in JSON they can only be white space, or a cut inside of a string.
        data = b"".join(self._data)
        event = Event(self._name, self._status, data)
        self._data.clear()
        self._size, self._name, self._status = 0, b"", 400
        return event if data or event.is_error else None

    def _limit(self, size: int) -> None:
        if size > EVENT_BYTES:
            raise ValueError("an event is too long")
