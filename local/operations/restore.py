"""Make a table equal to a restored copy: `python -m local.operations.restore COPY TABLE`. docs/operations.md says when to use it.

DynamoDB restores into a new table, but the stack keeps using its own table. The command skips equal items, so it can be
interrupted and repeated. With --exactly, it deletes items that the copy does not have. Stop all other writes meanwhile.

Feeds of changes (`changes#<user>` in Records) are deleted instead. Each begins anew, so cursors from before answer 410 `resync`.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

Item = dict[str, Any]
BATCH = 25
PAGE = 100
FEED = "changes#"


def restore(dynamodb: Any, copy: str, table: str, *, exactly: bool) -> tuple[int, int]:
    """Restore, and return the number of items written and deleted."""
    keys = [key["AttributeName"] for key in dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]]

    def key(item: Item) -> Item:
        return {name: item[name] for name in keys}

    def differing(source: str, other: str, requested: Callable[[Item, Item | None], Item | None]) -> Iterator[Item]:
        for page in dynamodb.get_paginator("scan").paginate(TableName=source, ConsistentRead=True, Limit=PAGE):
            there = {_text(key(item)): item for item in _read(dynamodb, other, map(key, page["Items"]))}
            for item in page["Items"]:
                if request := requested(item, there.get(_text(key(item)))):
                    yield request

    def put(old: Item, now: Item | None) -> Item | None:
        return None if old == now or _is_feed(old) else _put(old)

    def delete(now: Item, old: Item | None) -> Item | None:
        return {"DeleteRequest": {"Key": key(now)}} if _is_feed(now) or (exactly and not old) else None

    written = _write(dynamodb, table, differing(copy, table, put))
    if not exactly and "pk" not in keys:
        return written, 0
    return written, _write(dynamodb, table, differing(table, copy, delete))


def _is_feed(item: Item) -> bool:
    return str(item.get("pk", {}).get("S", "")).startswith(FEED)


def _put(item: Item) -> Item:
    return {"PutRequest": {"Item": item}}


def _text(key: Item) -> str:
    return str(sorted(key.items()))


def _read(dynamodb: Any, table: str, keys: Iterable[Item]) -> Iterator[Item]:
    left = list(keys)
    while left:
        asked = {table: {"Keys": left, "ConsistentRead": True}}
        answer = dynamodb.batch_get_item(RequestItems=asked)
        yield from answer["Responses"][table]
        left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])


def _write(dynamodb: Any, table: str, requests: Iterator[Item]) -> int:
    count, left = 0, []
    for request in requests:
        left.append(request)
        count += 1
        while len(left) == BATCH:
            left = _sent(dynamodb, table, left)
    while left:
        left = _sent(dynamodb, table, left)
    return count


def _sent(dynamodb: Any, table: str, requests: list[Item]) -> list[Item]:
    left: list[Item] = (
        dynamodb.batch_write_item(RequestItems={table: requests}).get("UnprocessedItems", {}).get(table, [])
    )
    return left


def main(arguments: list[str]) -> int:
    """Run the command, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.operations.restore", description="Brings a table back to a restored copy."
    )
    parser.add_argument("copy", help="the restored table")
    parser.add_argument("table", help="the stack's own")
    parser.add_argument("--exactly", action="store_true", help="delete what the copy does not have")
    parser.add_argument("--region", help="where both are")
    given = parser.parse_args(arguments)
    try:
        dynamodb: Any = botocore.session.get_session().create_client("dynamodb", region_name=given.region)
        written, deleted = restore(dynamodb, given.copy, given.table, exactly=given.exactly)
    except (BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{written} written, {deleted} deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
