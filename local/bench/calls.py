"""The AWS calls that AIDeer makes, one after the other, before it asks the model.

They are a table, because a running stack also makes calls for other requests. tests/integration/test_bench.py counts the real
calls and compares them with it.
"""

Round = tuple[str, ...]
"""Calls that are made at the same time."""

ASKED = "POST /tasks/stream"
OPENED = "POST /tasks/stream, a new chat"
READ = "POST /tasks/stream, a chat to be read"
QUEUED = "POST /tasks, GET /tasks/{id}/stream"
COMPLETED = "POST /v1/chat/completions"
BEFORE_THE_MODEL: dict[str, tuple[Round, ...]] = {
    ASKED: (("TransactWriteItems",),),
    OPENED: (("GetItem Presets",), ("TransactWriteItems",)),
    READ: (("GetItem Chats",), ("Query Messages",), ("TransactWriteItems",)),
    QUEUED: (
        ("GetItem Chats",),
        ("Query Messages",),
        ("SendMessage", "TransactWriteItems"),
        ("UpdateItem Tasks",),
        ("Query Messages",),
    ),
    COMPLETED: (("GetItem Records",), ("TransactWriteItems",)),
}
"""By way: the rounds of calls for a question with an Idempotency-Key.

ASKED goes on in a chat in which this process has just answered. READ is in a chat that it does not know, and so is QUEUED.
COMPLETED has an API key, whose record is read, and no Idempotency-Key, because no client of OpenAI's API sends one. The
process knows the preset's version and the secrets by now.
"""


def describe(way: str) -> str:
    """Return the calls of a way in words."""
    return ", then ".join(" beside ".join(calls) for calls in BEFORE_THE_MODEL[way])
