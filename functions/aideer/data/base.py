"""The base of the tables' models: their attributes, their ids, and the one connection to DynamoDB."""

import functools
import json
import threading
from typing import Any

from pynamodb.attributes import Attribute, JSONAttribute
from pynamodb.connection import Connection, TableConnection
from pynamodb.constants import NUMBER
from pynamodb.models import Model
from uuid6 import uuid7

from aideer.core import aws, warmth


class Json(JSONAttribute):
    """JSON in UTF-8. pynamodb's own JSON escapes text that is not ASCII: twice the bytes for Chinese, and DynamoDB bills bytes."""

    def serialize(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Whole(Attribute[int]):
    """A whole number. pynamodb's own NumberAttribute is a float to the type checker."""

    attr_type = NUMBER

    def serialize(self, value: int) -> str:
        return str(int(value))

    def deserialize(self, value: str) -> int:
        return int(value)


def new_id() -> str:
    """Return a UUIDv7. It is unique, and later ones sort after earlier ones (RFC 9562, section 5.7)."""
    return str(uuid7())


_opening = threading.Lock()


@functools.cache
def connection() -> Connection:
    """Return the process's one connection to DynamoDB.

    Its time-outs are short, so that a call that hangs does not outlive a lease.
    """
    opened = Connection(
        connect_timeout_seconds=2, read_timeout_seconds=2, max_retry_attempts=3, max_pool_connections=64
    )
    opened._local.session = aws.shared_session()
    # Made here, under the caller's lock, because botocore makes clients in one thread only.
    aws.remember(opened.client)
    return opened


@warmth.at_start
def _connect() -> None:
    aws.connect(connection().client)


class Table(Model):
    """A model that uses the one connection. pynamodb would make a client, and its sockets, for each table."""

    _joined = False

    @property
    def key_values(self) -> tuple[str, Any, Any]:
        """The table's name, the hash key and the range key. The range key is None in a table without one."""
        range_key = getattr(self, self._range_keyname) if self._range_keyname else None
        return self.Meta.table_name, getattr(self, str(self._hash_keyname)), range_key

    @classmethod
    def _get_connection(cls) -> TableConnection:
        if not cls._joined:
            with _opening:
                if not cls._joined:
                    own = super()._get_connection()
                    connection().add_meta_table(own.get_meta_table())
                    own.connection = connection()
                    cls._joined = True
        return super()._get_connection()
