"""The stream as text/event-stream (HTML Living Standard, section 9.2), and the position at which a client resumes."""

import json
from typing import Any

from aideer.core.errors import Unprocessable

END = "end"
"""The id of the last event. An EventSource that reconnects with it gets 410, which makes it stop."""
KEEP_ALIVE = ": keep-alive\n\n"
CLOSE = "event: close\ndata: {}\n\n"
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
"""Some clients split lines by Unicode's rules (UAX #14) instead of the standard's. JSON itself escapes the other line ends."""


def start_event(task_id: str, chat_id: str | None, position: int, **more: Any) -> str:
    """Return the first event, with `more` fields. Its id keeps the position of a client that disconnects at once.

    Its name is none of EventSource's own (open, message, error), because their handlers must not run for it.
    """
    body = {"task_id": task_id, "chat_id": chat_id, "position": position} | more
    return f"event: start\nid: {position}\ndata: {to_json(body)}\n\n"


def retry_field(milliseconds: int) -> str:
    """Return the field that tells a client how soon to reconnect."""
    return f"retry: {milliseconds}\n\n"


def text_event(position: int, kind: str, new: str) -> str:
    """Return an event with new text ("reasoning" or "content") and the position after it."""
    return f"id: {position}\ndata: {to_json({'status': 'running', kind: new})}\n\n"


def final_event(body: dict[str, Any]) -> str:
    """Return the last data event. It is complete, so a client may replace all earlier text with it."""
    return f"id: {END}\ndata: {to_json(body)}\n\n"


def parse_position(last_event_id: str | None, in_query: str | None, after: str | None) -> int | str | None:
    """Return the position at which to resume, END, or None for a stream from its start.

    `last_event_id` is the header. Polyfills of EventSource send the same as `lastEventId` in the query, which is `in_query`. Both
    name the last event that the client received. So they win over `after`, which an EventSource repeats at every reconnection, as
    part of its address. An empty id is no id, as in the standard. Raises Unprocessable if the value is no position.
    """
    given = last_event_id or in_query or after
    if given is None or given == END:
        return given
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise Unprocessable("invalid_position", "Last-Event-ID, lastEventId and after take an id of this stream.")
    return int(given)


def to_json(value: dict[str, Any]) -> str:
    """Return a value as JSON in one line, by every rule for the ends of lines."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_LINE_ENDS)
