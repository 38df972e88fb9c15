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
from dataclasses import dataclass, field, replace

from pynamodb.exceptions import PynamoDBException, TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.transactions import TransactWrite

from aideer.core import aws_errors
from aideer.core.errors import AideerError, Busy
from aideer.data.base import Table, connection

PATIENCE_SECONDS = 8.0
TRANSIENT_REASONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class Refused(Exception):
    """Conditions of these steps did not hold. The transaction wrote no item."""

    def __init__(self, steps: set[str]) -> None:
        super().__init__(", ".join(sorted(steps)))
        self.steps = steps


@dataclass(slots=True)
class _Step:
    name: str
    item: Table
    condition: Condition | None = None
    actions: list[Action] = field(default_factory=list)
    errors: list[Callable[[], AideerError | None]] = field(default_factory=list)


class Transaction:
    """Steps that are written together, each with the name under which its refusal is reported.

    `commit` writes all of them or none.
    """

    def __init__(self) -> None:
        # In the order in which pynamodb sends them, which is the order of the cancellation reasons.
        self._steps: dict[str, list[_Step]] = {"check": [], "delete": [], "put": [], "update": []}

    def check(
        self, step: str, item: Table, condition: Condition, error: Callable[[], AideerError | None] | None = None
    ) -> None:
        """Require a condition of an item. `item` needs only its key.

        A transaction takes each item only once. So if another step writes the item, the condition joins that step's condition, and
        a refusal has that step's name. If the condition does not hold, `commit` raises the result of `error`. `error` reads what
        is stored, and returns None if the condition does hold.
        """
        self._steps["check"].append(_Step(step, item, condition, errors=[error] if error else []))

    def delete(self, step: str, item: Table, condition: Condition | None = None) -> None:
        """Delete an item."""
        self._steps["delete"].append(_Step(step, item, condition))

    def put(self, step: str, item: Table, condition: Condition | None = None) -> None:
        """Write a whole item."""
        self._steps["put"].append(_Step(step, item, condition))

    def replace(self, step: str, item: Table) -> None:
        """Write a whole item without a condition, in place of an earlier step of this name."""
        self._steps["put"] = [earlier for earlier in self._steps["put"] if earlier.name != step]
        self.put(step, item)

    def update(self, step: str, item: Table, actions: list[Action], condition: Condition | None) -> None:
        """Change an item. The condition has no default, because an update without one creates a deleted item again."""
        self._steps["update"].append(_Step(step, item, condition, actions))

    @property
    def has_steps(self) -> bool:
        """Whether there is anything to commit."""
        return any(self._steps.values())

    def commit(self, proof: Callable[[], bool] | None = None) -> None:
        """Write everything or nothing.

        Raises Refused, or the error of a check, if a condition did not hold. Raises Busy if DynamoDB gave no final answer within
        PATIENCE_SECONDS. `proof` reads consistently whether this very transaction has happened.
        """
        steps = self._joined()
        token = str(uuid.uuid4())
        uncertain = False
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        pause = 0.01
        while True:
            try:
                with TransactWrite(connection=connection(), client_request_token=token) as write:
                    for kind, step in steps:
                        _send(write, kind, step)
                return
            except TransactWriteError as error:
                refused = [
                    step
                    for (_, step), reason in zip(steps, error.cancellation_reasons, strict=False)
                    if reason and reason.code == "ConditionalCheckFailed"
                ]
                if refused:
                    if uncertain and _is_proven(proof):
                        return
                    for found in (make() for step in refused for make in step.errors):
                        if found:
                            raise found from None
                    raise Refused({step.name for step in refused}) from None
                if not _transient(error):
                    raise
                uncertain = uncertain or aws_errors.is_uncertain(error)
                if time.monotonic() > give_up_at:
                    if uncertain and _is_proven(proof):
                        return
                    raise Busy from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, 0.5)

    def _joined(self) -> list[tuple[str, _Step]]:
        """Return (kind, step) in the order of sending. A check joins another step with the same item."""
        writes = [(kind, replace(step)) for kind, steps in self._steps.items() if kind != "check" for step in steps]
        by_key = {step.item.key_values: step for _, step in writes}
        checks = []
        for check in self._steps["check"]:
            if same := by_key.get(check.item.key_values):
                same.condition = check.condition if same.condition is None else same.condition & check.condition
                same.errors = [*same.errors, *check.errors]
            else:
                by_key[check.item.key_values] = joined = replace(check)
                checks.append(("check", joined))
        return [*checks, *writes]


def _send(write: TransactWrite, kind: str, step: _Step) -> None:
    match kind:
        case "check":
            _, hash_key, range_key = step.item.key_values
            write.condition_check(type(step.item), hash_key, range_key, condition=step.condition)
        case "delete":
            write.delete(step.item, condition=step.condition)
        case "put":
            write.save(step.item, condition=step.condition)
        case _:
            write.update(step.item, actions=step.actions, condition=step.condition)


def _is_proven(proof: Callable[[], bool] | None) -> bool:
    """Return whether this transaction has happened. Raises Busy if that cannot be read now: then the outcome stays unknown."""
    try:
        return proof is not None and proof()
    except PynamoDBException as error:
        if not aws_errors.is_unavailable(error):
            raise
        raise Busy from error


def _transient(error: TransactWriteError) -> bool:
    # First check whether there is an answer at all: pynamodb fails if it looks for reasons in a missing answer.
    return aws_errors.is_unavailable(error) or any(
        reason and reason.code in TRANSIENT_REASONS for reason in error.cancellation_reasons
    )
