"""tests/changes_rule.py finds each write of a chat that the feed of changes would miss."""

from typing import Any

import pytest

from aideer.core import settings
from aideer.data import changes
from aideer.data.models import Chat, Record
from tests import changes_rule

CHAT = {"id": {"S": "c"}}
UPDATE = {
    "TableName": settings.CHATS_TABLE,
    "Key": CHAT,
    "UpdateExpression": "SET #10 = :1 REMOVE #2",
    "ExpressionAttributeNames": {"#1": "deleted", "#10": "title", "#2": "preview"},
}
DELETION = {**UPDATE, "UpdateExpression": "SET #1 = :1 REMOVE #2"}
NEW = {"TableName": settings.CHATS_TABLE, "Item": {**CHAT, "owner_id": {"S": "o"}}}


def mark(owner: str = "o", chat: str = "c", *, deleted: bool = False) -> dict[str, Any]:
    item = {
        "pk": {"S": changes.key(owner)},
        "sk": {"S": f"{changes.MARKS}{chat}"},
        **({"ttl": {"N": "1"}} if deleted else {}),
    }
    return {"Put": {"TableName": settings.RECORDS_TABLE, "Item": item}}


def found(*steps: dict[str, Any]) -> list[tuple[str, str]]:
    return changes_rule.find_unmarked("TransactWriteItems", {"TransactItems": list(steps)})


@pytest.mark.parametrize(
    "steps",
    [
        [{"Update": UPDATE}, mark()],
        [{"Update": DELETION}, mark(deleted=True)],
        [{"Put": NEW}, mark()],
        [{"Delete": {"TableName": settings.CHATS_TABLE, "Key": CHAT}}, mark(deleted=True)],
        [{"ConditionCheck": {"TableName": settings.CHATS_TABLE, "Key": CHAT}}],
        [{"Put": {"TableName": settings.MESSAGES_TABLE, "Item": {}}}],
    ],
)
def test_a_change_with_its_mark_is_right(steps: list[dict[str, Any]]) -> None:
    assert found(*steps) == []


@pytest.mark.parametrize(
    "steps",
    [
        [{"Update": UPDATE}],
        [{"Update": UPDATE}, mark(chat="d")],
        [{"Update": UPDATE}, mark(deleted=True)],
        [{"Update": DELETION}, mark()],
        [{"Put": NEW}, mark(owner="somebody else")],
        [{"Delete": {"TableName": settings.CHATS_TABLE, "Key": CHAT}}, mark()],
    ],
)
def test_a_change_without_its_mark_is_found(steps: list[dict[str, Any]]) -> None:
    assert [chat for chat, _ in found(*steps)] == ["c"]


@pytest.mark.parametrize("operation", changes_rule.SINGLE)
def test_a_write_outside_of_a_transaction_is_found(operation: str) -> None:
    params = {"TableName": settings.CHATS_TABLE, "Item": CHAT, "Key": CHAT}
    assert changes_rule.find_unmarked(operation, params) == [("c", operation)]
    assert changes_rule.find_unmarked(operation, {**params, "TableName": Record.Meta.table_name}) == []


def test_a_batch_of_chats_is_found() -> None:
    batch = {"RequestItems": {Chat.Meta.table_name: [{"DeleteRequest": {"Key": CHAT}}]}}
    assert changes_rule.find_unmarked("BatchWriteItem", batch) == [("c", "BatchWriteItem")]


def test_the_exempt_functions_exist() -> None:
    for file, function in changes_rule.EXEMPT:
        assert f"def {function}(" in (changes_rule.ROOT / "functions/aideer" / file).read_text(encoding="utf-8")
