"""What DynamoDB bills for calls: capacity units, by its published rules, from what was really read and written.

The embedded AWS answers ReturnConsumedCapacity with constants, so the sizes are taken from requests and answers ("DynamoDB item
sizes and formats", "Read and write operations" in its developer guide). A read unit is 4 KB read consistently, or 8 KB
eventually; a write unit is 1 KB, and a transaction's write two of them. A key that changes in an index is a delete and a put there.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aideer.core import aws, settings
from aideer.data.base import connection
from aideer.data.models import Chat, Task

READ_BYTES, WRITE_BYTES = 4096, 1024


@dataclass
class Bill:
    """The calls of a request, in order, and the units that they consume."""

    calls: list[str] = field(default_factory=list)
    read: float = 0
    write: float = 0

    def __str__(self) -> str:
        return f"{len(self.calls)} calls, {self.read:g} RCU, {self.write:g} WCU"


@contextlib.contextmanager
def metered() -> Iterator[Bill]:
    """Meter the DynamoDB calls, and count the queue's, that are made meanwhile."""
    bill = Bill()
    clients = [connection().client, aws.get_client("sqs")]
    unmetered = aws.shared_session().create_client("dynamodb")

    def before(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        request = context["metered"] = json.loads(params["body"])
        bill.calls.append(f"{model.name} {TABLE_NAMES.get(request.get('TableName'), '')}".strip())

    def after(parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        request = context["metered"]
        if model.name == "TransactWriteItems":
            read, write = _transacted(request, unmetered)
        elif model.name in _READS:
            read, write = _READS[model.name](request, parsed), 0
        else:
            return
        bill.read += read
        bill.write += write

    for client in clients:
        client.meta.events.register("before-call.*.*", before)
        client.meta.events.register("after-call.*.*", after)
    try:
        yield bill
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.*.*", before)
            client.meta.events.unregister("after-call.*.*", after)


TABLE_NAMES = {
    value: name.removesuffix("_TABLE").replace("_", " ").title()
    for name, value in vars(settings).items()
    if name.endswith("_TABLE")
}


def item_bytes(item: dict[str, Any]) -> int:
    """The size of an item in DynamoDB's JSON."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: dict[str, Any]) -> int:
    ((kind, held),) = value.items()
    if kind == "S":
        return len(held.encode())
    if kind == "N":
        return math.ceil(len(held.strip("-").replace(".", "")) / 2) + 1
    if kind in ("M", "L"):
        parts = item_bytes(held) if kind == "M" else sum(_value_bytes(part) for part in held)
        return 3 + len(held) + parts
    return 1 if kind in ("BOOL", "NULL") else sum(len(str(part)) for part in held)


def _reads(size: int, *, consistent: bool) -> float:
    return max(1, math.ceil(size / READ_BYTES)) * (1 if consistent else 0.5)


def _got(request: dict[str, Any], answer: dict[str, Any]) -> float:
    return _reads(item_bytes(answer.get("Item", {})), consistent=request.get("ConsistentRead", False))


def _queried(request: dict[str, Any], answer: dict[str, Any]) -> float:
    assert "FilterExpression" not in request, "what a filter leaves out is not in the answer"
    size = sum(item_bytes(item) for item in answer["Items"])
    return _reads(size, consistent=request.get("ConsistentRead", False))


def _batch_got(request: dict[str, Any], answer: dict[str, Any]) -> float:
    consistent = {table: keys.get("ConsistentRead", False) for table, keys in request["RequestItems"].items()}
    found = [(table, item) for table, items in answer["Responses"].items() for item in items]
    return sum(_reads(item_bytes(item), consistent=consistent[table]) for table, item in found)


def _transacted(request: dict[str, Any], unmetered: Any) -> tuple[float, float]:
    read, write = 0.0, 0.0
    for step in request["TransactItems"]:
        ((kind, what),) = step.items()
        if kind == "Put":
            item = what["Item"]
        else:
            item = unmetered.get_item(TableName=what["TableName"], Key=what["Key"], ConsistentRead=True).get("Item", {})
        if kind == "ConditionCheck":
            read += 2 * _reads(item_bytes(item), consistent=True)
        else:
            write += 2 * max(1, math.ceil(item_bytes(item) / WRITE_BYTES))
        if kind == "Put" and what["TableName"] == Task.Meta.table_name:
            write += 1  # into the index of open tasks
        if kind == "Update" and what["TableName"] == Chat.Meta.table_name:
            changed = set(what.get("ExpressionAttributeNames", {}).values())
            write += 2 * len({"create_time", "update_time", "title"} & changed)
    return read, write


_READS = {"GetItem": _got, "Query": _queried, "BatchGetItem": _batch_got}
