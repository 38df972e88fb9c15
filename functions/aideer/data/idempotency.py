"""Idempotency-Key: for 24 hours, a repeated POST returns the answer of the first one and has no second effect.

The rules follow draft-ietf-httpapi-idempotency-key-header. The record is written in the same transaction as the effect, so neither
exists without the other. Errors are not stored.

Look the key up before any check, and again after any error: this request's own first attempt may have caused the error.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from aideer.core import clock
from aideer.core.errors import Unprocessable
from aideer.data import lookup
from aideer.data.models import Record
from aideer.data.transactions import Transaction

if TYPE_CHECKING:  # functions that only close tasks do not need pydantic
    from pydantic import BaseModel

SECONDS = 24 * 3600
KEY_CHARACTERS = 128


class IdempotentRequest:
    """One user's use of one key on one route. Without a key, nothing is stored."""

    def __init__(self, user_id: str, route: str, key: str | None, body: "BaseModel | str", *former: str) -> None:
        """`body` is what a repetition must equal. `former` are other forms of it that an earlier release may have stored."""
        canonical = body if isinstance(body, str) else json.dumps(body.model_dump(mode="json"), sort_keys=True)
        self._bodies = [hashlib.sha256(text.encode()).hexdigest() for text in (canonical, *former)]
        self._pk, self._key = f"idempotency#{user_id}#{route}", key

    def find_answer(self) -> dict[str, Any] | None:
        """Return the answer of the first request with this key, or None if there was none.

        Raises Unprocessable if that request had another body.
        """
        if self._key is None:
            return None
        record = lookup.find(Record, self._pk, self._key)
        if record is None or record.ttl <= clock.now():
            return None
        if record.data["body"] not in self._bodies:
            raise Unprocessable("idempotency_key_reused", "This Idempotency-Key came with another body before.")
        answer: dict[str, Any] = record.data["answer"]
        return answer

    def store_in(self, transaction: Transaction, answer: dict[str, Any]) -> None:
        """Store the answer in the transaction that has the effect.

        If an answer is already stored, the transaction is refused with the step "idempotency".
        """
        if self._key is None:
            return
        now = int(clock.now())
        transaction.put(
            "idempotency",
            Record(self._pk, self._key, data={"body": self._bodies[0], "answer": answer}, ttl=now + SECONDS),
            Record.pk.does_not_exist() | (Record.ttl <= now),
        )
