"""Reads of several items at one moment, each by one TransactGetItems.

A plain read, even a consistent one, may see one item of a transaction changed and another item not yet changed (AWS: "Amazon
DynamoDB Transactions", isolation levels). A snapshot is refused while a transaction writes one of its items, and is then tried
again. So it shows all of a transaction or nothing.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from aideer.core import aws_errors
from aideer.core.errors import Busy
from aideer.data import transactions
from aideer.data.base import Table, connection

M = TypeVar("M", bound=Table)
MOST = 100
"""The most items of one snapshot."""


def read(items: Sequence[M]) -> list[M | None]:
    """Return the stored items with these keys, in their order; None for each that is not stored. `items` need only their keys.

    Raises Busy if other transactions keep writing them.
    """
    if not items:
        return []
    gets = [{"Get": {"TableName": item.Meta.table_name, "Key": _key(item)}} for item in items]
    client: Any = connection().client  # pynamodb's own gives up at the first conflict
    give_up_at, pause = time.monotonic() + transactions.PATIENCE_SECONDS, 0.01
    while True:
        try:
            answer = client.transact_get_items(TransactItems=gets)
        except (ClientError, BotoCoreError) as error:
            if not _is_transient(error):
                raise
            if time.monotonic() > give_up_at:
                raise Busy from error
        else:
            found = [part.get("Item") for part in answer["Responses"]]
            return [raw and type(item).from_raw_data(raw) for item, raw in zip(items, found, strict=True)]
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.5)


def _key(item: Table) -> dict[str, Any]:
    attributes = item.get_attributes()
    names = [name for name in (item._hash_keyname, item._range_keyname) if name]
    return {name: {attributes[name].attr_type: attributes[name].serialize(getattr(item, name))} for name in names}


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ClientError) and (reasons := error.response.get("CancellationReasons")):
        return all(reason.get("Code", "None") in {"None", *transactions.TRANSIENT_REASONS} for reason in reasons)
    return aws_errors.is_unavailable(error)
