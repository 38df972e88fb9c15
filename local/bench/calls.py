"""The AWS calls that AIDeer makes, one after the other, before it asks the model.

They are a table, because a running stack also makes calls for other requests. tests/integration/test_bench.py counts the real
calls and compares them with it.
"""

Round = tuple[str, ...]
"""Calls that are made at the same time."""

ASKED = "POST /tasks/stream"
QUEUED = "POST /tasks, GET /tasks/{id}/stream"
BEFORE_THE_MODEL: dict[str, tuple[Round, ...]] = {
    ASKED: (("GetItem Chats", "GetItem Records", "UpdateItem Records"), ("Query Messages",), ("TransactWriteItems",)),
    QUEUED: (
        ("GetItem Chats", "GetItem Records", "UpdateItem Records"),
        ("Query Messages",),
        ("SendMessage", "TransactWriteItems"),
        ("UpdateItem Tasks",),
        ("Query Messages",),
    ),
}
"""By way: the rounds of calls for a question in an open chat, with an Idempotency-Key.

The process knows the preset and the secrets by now.
"""


def describe(way: str) -> str:
    """Return the calls of a way in words."""
    return ", then ".join(" beside ".join(calls) for calls in BEFORE_THE_MODEL[way])
