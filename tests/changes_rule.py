"""The rule of GET /changes, over all tests: no write of a chat without the chat's mark in the same transaction.

A change without a mark never reaches clients that follow the feed. So each test fails that meets one, whatever it tests. What tests
write themselves is left out.
"""

import re
import sys
from pathlib import Path
from typing import Any

from aideer.core import aws, settings
from aideer.data import changes

ROOT = Path(__file__).parents[1]
PRODUCT, TESTS = str(ROOT / "functions"), str(ROOT / "tests")
DATA = str(ROOT / "functions/aideer/data")
EXEMPT = {
    ("tasks/chat_deletion.py", "remove"): "removes the tombstone of a chat that a mark has announced as deleted",
    ("accounts/deletion.py", "_remove_chat"): "removes the chats of a user who is gone, and whose feed is gone too",
}
"""Functions that write chats without a mark, and why nobody misses it."""
SINGLE = {"PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"}
HOW = """{place} changes the chat {chat} by {what}, without a mark in the same transaction. Clients that follow GET /changes would
never see this change. Change chats in a Transaction, and call beside the step that changes the chat:

    from aideer.data import changes

    changes.mark_in(transaction, chat.owner_id, chat.id)                # any change that the owner could see
    changes.mark_in(transaction, chat.owner_id, chat.id, deleted=True)  # the deletion

The owner is the chat's, also if an administrator or a job changes it. tests/changes_rule.py has the rule."""

broken: list[str] = []
"""Descriptions of writes that broke the rule since the last look."""


def watch() -> None:
    """Look at all calls of DynamoDB from now on."""
    aws.shared_session().register("before-parameter-build.dynamodb.*", _look)


def take_broken() -> list[str]:
    """Return what has broken the rule since the last look."""
    found, broken[:] = list(broken), []
    return found


def find_unmarked(operation: str, params: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the chats that a call writes without the right mark, each with the kind of the write."""
    chats = settings.CHATS_TABLE
    if operation == "TransactWriteItems":
        steps = [step for item in params["TransactItems"] for step in item.items()]
        marks = [what["Item"] for kind, what in steps if kind == "Put" and what["TableName"] == settings.RECORDS_TABLE]
        return [
            (_id(what), f"{kind} in a transaction")
            for kind, what in steps
            if what["TableName"] == chats and kind != "ConditionCheck" and not _is_marked(kind, what, marks)
        ]
    if operation in SINGLE and params["TableName"] == chats:
        return [(_id(params), operation)]
    if operation == "BatchWriteItem":
        return [
            (_id(what), operation) for request in params["RequestItems"].get(chats, []) for what in request.values()
        ]
    return []


def _is_marked(kind: str, what: dict[str, Any], marks: list[dict[str, Any]]) -> bool:
    mine = [mark for mark in marks if mark["sk"]["S"] == f"{changes.MARKS}{_id(what)}"]
    if kind == "Put":
        return any(mark["pk"]["S"] == changes.key(what["Item"]["owner_id"]["S"]) for mark in mine)
    names = what.get("ExpressionAttributeNames", {})
    written = {names.get(word, word) for word in re.findall(r"#?\w+", what.get("UpdateExpression", ""))}
    deletes = kind == "Delete" or "deleted" in written
    return any(mark["pk"]["S"].startswith(changes.key("")) and ("ttl" in mark) == deletes for mark in mine)


def _id(what: dict[str, Any]) -> str:
    found: str = (what.get("Item") or what["Key"])["id"]["S"]
    return found


def _look(params: dict[str, Any], model: Any, **_: Any) -> None:
    if not (unmarked := find_unmarked(model.name, params)):
        return
    writer = _writer()
    if writer is None or writer[:2] in EXEMPT:
        return
    place = f"functions/aideer/{writer[0]}:{writer[2]} {writer[1]}()"
    broken.extend(HOW.format(place=place, chat=chat, what=what) for chat, what in unmarked)


def _writer() -> tuple[str, str, int] | None:
    """Return file, function and line of the product that makes this call, or None if a test makes it."""
    frame = sys._getframe(2)
    while frame:
        name = frame.f_code.co_filename
        if name.startswith(PRODUCT) and not name.startswith(DATA):
            return name.removeprefix(f"{PRODUCT}/").removeprefix("aideer/"), frame.f_code.co_name, frame.f_lineno
        if name.startswith(TESTS) and name != __file__:
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return None
