"""An EventSource's reading of a stream (HTML Living Standard, 9.2.6), for tests."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stream:
    """What a viewer got: the start event, the ids, the deltas put together, and the final event."""

    ids: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    reasoning: str = ""
    content: str = ""
    final: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Stream:
    """Read a whole text/event-stream."""
    events, last_id = [], ""
    for block in text.split("\n\n"):
        name, data = "message", []
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "id":
                last_id = value
            elif key == "event":
                name = value
            elif key == "data":
                data.append(value)
        if data:
            events.append((name, last_id, "\n".join(data)))
    return put_together(events)


def put_together(events: list[tuple[str, str, str]]) -> Stream:
    """What a viewer makes of events, given as (event, last event id, data)."""
    stream = Stream()
    for name, last_id, data in events:
        stream.events.append(name)
        stream.ids.append(last_id)
        if name not in ("start", "message"):
            continue
        body = json.loads(data)
        if name == "start":
            stream.start = body
            continue
        if last_id == "end":
            stream.final = body
        else:
            stream.reasoning += body.get("reasoning", "")
            stream.content += body.get("content", "")
    return stream
