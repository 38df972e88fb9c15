"""The stream as text/event-stream (HTML Living Standard, section 9.2), and the position at which a client resumes."""

import json
from typing import Any

from aideer.errors import Unprocessable

END = "end"
"""The last event's id. An EventSource that reconnects with it is answered 410, which makes it stop."""
KEEP_ALIVE = ": keep-alive\n\n"
CLOSE = "event: close\ndata: {}\n\n"
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
"""Some clients split lines as Unicode does (UAX #14), not as the standard does. JSON escapes the other line ends itself."""


def started(task_id: str, chat_id: str, position: int) -> str:
    """Return the first event. Its id keeps a client that drops at once where it was.

    Its name is none of EventSource's own (open, message, error): a handler of those must not run for it.
    """
    body = {"task_id": task_id, "chat_id": chat_id, "position": position}
    return f"event: start\nid: {position}\ndata: {_json(body)}\n\n"


def retry(milliseconds: int) -> str:
    """How soon a client shall reconnect."""
    return f"retry: {milliseconds}\n\n"


def text(position: int, kind: str, new: str) -> str:
    """New text ("reasoning" or "content"), with the position after it."""
    return f"id: {position}\ndata: {_json({'status': 'running', kind: new})}\n\n"


def final(body: dict[str, Any]) -> str:
    """The last data event, which says all: a client may replace what it has with it."""
    return f"id: {END}\ndata: {_json(body)}\n\n"


def position(last_event_id: str | None, in_query: str | None, after: str | None) -> int | str | None:
    """Return where to resume: a position, END, or None for a stream from its start.

    `last_event_id` is the header, and `in_query` is `lastEventId` of the query, where polyfills of EventSource send the same. Both
    say what was received. So they win over `after`, which an EventSource repeats at every reconnection, as part of its address.
    An empty id is no id, as in the standard. Raises Unprocessable for what is no position.
    """
    given = last_event_id or in_query or after
    if given is None or given == END:
        return given
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise Unprocessable("invalid_position", "Last-Event-ID, lastEventId and after take an id of this stream.")
    return int(given)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_LINE_ENDS)
