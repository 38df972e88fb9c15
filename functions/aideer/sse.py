"""The stream as text/event-stream (HTML Living Standard, section 9.2), and the position at which a client resumes."""

import json
from typing import Any

from aideer.errors import Unprocessable

END = "end"
"""The last event's id. An EventSource that reconnects with it is answered 204, which makes it stop."""
KEEP_ALIVE = ": keep-alive\n\n"
CLOSE = "event: close\ndata: {}\n\n"


def opened(position: int) -> str:
    """The first event. Its id keeps a client that drops at once where it was."""
    return f"event: open\nid: {position}\ndata: {{}}\n\n"


def retry(milliseconds: int) -> str:
    """How soon a client shall reconnect."""
    return f"retry: {milliseconds}\n\n"


def text(position: int, kind: str, new: str) -> str:
    """New text ("reasoning" or "content"), with the position after it."""
    return f"id: {position}\ndata: {_json({'status': 'running', kind: new})}\n\n"


def final(body: dict[str, Any]) -> str:
    """The last data event, which says all: a client may replace what it has with it."""
    return f"id: {END}\ndata: {_json(body)}\n\n"


def position(last_event_id: str | None, after: str | None) -> int | str | None:
    """Where to resume: a position, END, or None for a stream from its start. `after` wins over the header.

    Raises Unprocessable where it is neither.
    """
    given = after if after is not None else last_event_id
    if given is None or given == END:
        return given
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise Unprocessable("invalid_position", "Last-Event-ID and after take an id of this stream.")
    return int(given)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
