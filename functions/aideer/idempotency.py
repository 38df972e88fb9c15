"""Idempotency-Key: a repeated POST gives the first one's answer and has no second effect, for 24 hours.

(draft-ietf-httpapi-idempotency-key-header.) The record is written in the same transaction as the effect, so there is never one
without the other; refusals are not remembered. Look it up before any check, and again after any refusal: the refusal may be
the echo of this very request's first attempt.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from aideer import clock
from aideer.errors import Unprocessable
from aideer.models import Record
from aideer.transactions import Transaction

if TYPE_CHECKING:  # the functions that only close tasks need none of it
    from pydantic import BaseModel

SECONDS = 24 * 3600


class Once:
    """One user's one use of a key on one route; with no key, nothing is remembered."""

    def __init__(self, user_id: str, route: str, key: str | None, body: "BaseModel | str") -> None:
        canonical = body if isinstance(body, str) else json.dumps(body.model_dump(mode="json"), sort_keys=True)
        self._body = hashlib.sha256(canonical.encode()).hexdigest()
        self._pk, self._key = f"idempotency#{user_id}#{route}", key

    def answer(self) -> dict[str, Any] | None:
        """What the first request with this key answered, if there was one.

        Raises Unprocessable where that request had another body.
        """
        if self._key is None:
            return None
        try:
            record = Record.get(self._pk, self._key, consistent_read=True)
        except Record.DoesNotExist:
            return None
        if record.ttl <= clock.now():
            return None
        if record.data["body"] != self._body:
            raise Unprocessable("idempotency_key_reused", "This Idempotency-Key came with another body before.")
        answer: dict[str, Any] = record.data["answer"]
        return answer

    def join(self, transaction: Transaction, answer: dict[str, Any]) -> None:
        """Remember the answer in the transaction that has the effect; refused as step "idempotency" if there is one."""
        if self._key is None:
            return
        now = int(clock.now())
        transaction.put(
            "idempotency",
            Record(self._pk, self._key, data={"body": self._body, "answer": answer}, ttl=now + SECONDS),
            Record.pk.does_not_exist() | (Record.ttl <= now),
        )
