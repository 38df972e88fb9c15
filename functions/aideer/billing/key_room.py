"""The room of API keys: the credits that a key may still spend or hold, beside those of its user.

A hold takes its amount from the room, on the condition that the room is large enough. Each close returns the hold less the cost.
Both are steps of the transactions in credits.py. So a key never spends more than its limit, however many of its calls come at the
same time.
"""

from aideer.core import clock
from aideer.data.models import Record, Task
from aideer.data.transactions import Transaction
from aideer.security import api_keys
from aideer.security.api_keys import ApiKey

STEP = "key"
"""The name of the step that is refused if the key has changed or has too little room, or at a close if it is gone."""


def hold_in(transaction: Transaction, key: ApiKey, hold: int) -> None:
    """Take a hold from the room, and note the use of the key."""
    transaction.update(
        STEP,
        Record(*api_keys.record_key(key.hash)),
        [Record.room.add(-hold), Record.at.set(int(clock.now()))],
        (Record.version == key.version) & (Record.room >= hold),
    )


def return_in(transaction: Transaction, task: Task, credits: int) -> None:
    """Return what a closed task did not spend to the room of its key, also if the key was revoked.

    The step is refused if the key is gone with its user. Then leave it out.
    """
    record = Record(*api_keys.record_key(task.key["hash"]))
    transaction.update(STEP, record, [Record.room.add(int(task.hold) - credits)], Record.pk.exists())
