"""Batch writes: write or delete many items of one table without conditions, by BatchWriteItem."""

import random
import time
from collections.abc import Sequence
from typing import Any

from pynamodb.models import Model

from aideer.core.errors import Busy

SIZE = 25  # BatchWriteItem's limit
_PATIENCE_SECONDS = 8.0


def write(
    model: type[Model], *, puts: Sequence[Any] | None = None, deletes: Sequence[dict[str, Any]] | None = None
) -> None:
    """Write at most SIZE items, or delete at most SIZE keys, in DynamoDB's format. Raises Busy after _PATIENCE_SECONDS."""
    # pynamodb's own batch write gives up after two immediate retries, when throttling has only just begun.
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    pause = 0.02
    while True:
        answer = model._get_connection().batch_write_item(put_items=puts, delete_items=deletes)
        left = answer.get("UnprocessedItems", {}).get(model.Meta.table_name, [])
        if not left:
            return
        if time.monotonic() > give_up_at:
            raise Busy
        puts = [request["PutRequest"]["Item"] for request in left if "PutRequest" in request]
        deletes = [request["DeleteRequest"]["Key"] for request in left if "DeleteRequest" in request]
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 1.0)


def delete(model: type[Model], keys: Sequence[dict[str, Any]], deadline: float) -> bool:
    """Delete the items with these keys. Return False if `deadline` (of time.monotonic) comes first."""
    for start in range(0, len(keys), SIZE):
        if time.monotonic() > deadline:
            return False
        write(model, deletes=keys[start : start + SIZE])
    return True
