"""Transactions. Each is one TransactWriteItems, and tells the different answers of DynamoDB apart.

A refused condition is a final answer (Refused). A conflict with another transaction, throttling, an internal error or a lost answer
is not final. After these, the transaction is tried again with jitter. All tries have one ClientRequestToken, so repeating a
transaction that did happen changes nothing (AWS: "TransactWriteItems", idempotency). If the first outcome is unknown and the
repetition is refused, `proof` decides by a consistent read whether this transaction happened.
"""

import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from pynamodb.exceptions import TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from aideer.core import aws_errors
from aideer.core.errors import AideerError, Busy
from aideer.data.models import connection

PATIENCE_SECONDS = 8.0
_TRANSIENT_REASONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class Refused(Exception):
    """Conditions of these steps did not hold. The transaction wrote no item."""

    def __init__(self, steps: set[str]) -> None:
        super().__init__(", ".join(sorted(steps)))
        self.steps = steps


class Transaction:
    """Steps that are written together, each with the name under which its refusal is reported.

    `commit` writes all of them or none.
    """

    def __init__(self) -> None:
        # In the order in which pynamodb sends them, which is the order of the cancellation reasons.
        self._kinds: dict[str, list[tuple[str, Callable[[TransactWrite], None]]]] = {
            "check": [],
            "delete": [],
            "put": [],
            "update": [],
        }
        self._errors: dict[str, Callable[[], AideerError]] = {}

    def check(
        self,
        step: str,
        model: type[Model],
        hash_key: Any,
        range_key: Any,
        condition: Condition,
        error: Callable[[], AideerError] | None = None,
    ) -> None:
        """Require a condition of an item that the transaction does not write. If it does not hold, `commit` raises `error()`."""
        if error:
            self._errors[step] = error
        self._kinds["check"].append(
            (step, lambda write: write.condition_check(model, hash_key, range_key, condition=condition))
        )

    def delete(self, step: str, item: Model, condition: Condition | None = None) -> None:
        """Delete an item."""
        self._kinds["delete"].append((step, lambda write: write.delete(item, condition=condition)))

    def put(self, step: str, item: Model, condition: Condition | None = None) -> None:
        """Write a whole item."""
        self._kinds["put"].append((step, lambda write: write.save(item, condition=condition)))

    def update(self, step: str, item: Model, actions: list[Action], condition: Condition | None) -> None:
        """Change an item. The condition has no default, because an update without one creates a deleted item again."""
        self._kinds["update"].append((step, partial(_update, item=item, actions=actions, condition=condition)))

    @property
    def has_steps(self) -> bool:
        """Whether there is anything to commit."""
        return any(self._kinds.values())

    def commit(self, proof: Callable[[], bool] | None = None) -> None:
        """Write everything or nothing.

        Raises Refused, or the error of a check, if a condition did not hold. Raises Busy if DynamoDB gave no final answer within
        PATIENCE_SECONDS. `proof` reads consistently whether this very transaction has happened.
        """
        steps = [step for kind in self._kinds.values() for step in kind]
        token = str(uuid.uuid4())
        uncertain = False
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        pause = 0.01
        while True:
            try:
                with TransactWrite(connection=connection(), client_request_token=token) as write:
                    for _, add in steps:
                        add(write)
                return
            except TransactWriteError as error:
                refused = {
                    name
                    for (name, _), reason in zip(steps, error.cancellation_reasons, strict=False)
                    if reason and reason.code == "ConditionalCheckFailed"
                }
                if refused:
                    if uncertain and proof and proof():
                        return
                    for step in refused & self._errors.keys():
                        raise self._errors[step]() from None
                    raise Refused(refused) from None
                if not _transient(error):
                    raise
                uncertain = uncertain or aws_errors.is_uncertain(error)
                if time.monotonic() > give_up_at:
                    if uncertain and proof and proof():
                        return
                    raise Busy from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, 0.5)


def _update(write: TransactWrite, item: Model, actions: list[Action], condition: Condition | None) -> None:
    write.update(item, actions=actions, condition=condition)


def _transient(error: TransactWriteError) -> bool:
    # First check whether there is an answer at all: pynamodb fails if it looks for reasons in a missing answer.
    return aws_errors.is_unavailable(error) or any(
        reason and reason.code in _TRANSIENT_REASONS for reason in error.cancellation_reasons
    )
