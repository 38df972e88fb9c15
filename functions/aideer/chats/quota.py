"""The number of a user's chats, and its limit, settings.MOST_CHATS.

A record of the user counts the chats. The transaction that creates or deletes a chat also changes the count, and the limit is a
condition of it. The count is not on the user's own item, because every hold and every settlement writes that one.

A user has no record before the first chat under this rule: release 0.1.0 did not count. Then the index of the user's chats is
counted once. An index lags, so the count may be wrong by a few. At the limit, it is taken anew, but at most every RECOUNT_SECONDS.
"""

from collections.abc import Callable

from pynamodb.exceptions import UpdateError
from pynamodb.expressions.update import Action

from aideer.core import aws_errors, clock, settings
from aideer.core.errors import Busy, Conflict, Detail
from aideer.data import lookup
from aideer.data.models import Chat, Record
from aideer.data.retry import attempts
from aideer.data.transactions import Refused, Transaction

STEP = "count of chats"
"""The name of the step that refuses a transaction if the user has too many chats, or no count yet."""
RECOUNT_SECONDS = 3600


def add_in(transaction: Transaction, owner_id: str) -> None:
    """Count one chat more in the transaction that creates it. `commit` commits it."""
    room = Record.uses.exists() & (Record.uses < settings.MOST_CHATS)
    transaction.update(STEP, Record(*key(owner_id)), [Record.uses.add(1)], room)


def commit(transaction: Transaction, owner_id: str, proof: Callable[[], bool]) -> None:
    """Commit a transaction with `add_in`.

    Raises Conflict if the user has too many chats, and the errors of `Transaction.commit`.
    """
    for _ in attempts():
        try:
            transaction.commit(proof)
        except Refused as refused:
            if STEP not in refused.steps:
                raise
            make_room(owner_id)
            continue
        return
    raise Busy


def make_room(owner_id: str) -> None:
    """Count the user's chats, if there is no count yet or if it may be too high. Raises Conflict if there are too many.

    Call it after `add_in` was refused, and then try again.
    """
    count = lookup.find(Record, *key(owner_id))
    now = int(clock.now())
    if count is None:
        known = None
    elif count.uses < settings.MOST_CHATS:
        return  # a chat was deleted meanwhile
    elif count.at + RECOUNT_SECONDS > now:
        raise limit_error()
    else:
        known = count.uses
    actions: list[Action] = [Record.uses.set(_count(owner_id)), Record.at.set(now)]
    try:
        Record(*key(owner_id)).update(actions, lookup.unchanged(Record.uses, known))
    except UpdateError as error:  # another request did it, or changes the count at this moment
        if not (aws_errors.is_refusal(error) or aws_errors.is_conflict(error)):
            raise


def remove_in(transaction: Transaction, owner_id: str, chats: int = 1) -> None:
    """Count so many chats less in the transaction that deletes them.

    The step is refused if there is no count, or a lower one: then leave it out.
    """
    transaction.update(STEP, Record(*key(owner_id)), [Record.uses.add(-chats)], Record.uses >= chats)


def limit_error() -> Conflict:
    """Return the error for a user that has too many chats."""
    return Conflict(
        "too_many_chats", Detail("A user can have at most {most} chats. Delete some first.", most=settings.MOST_CHATS)
    )


def remove_count(owner_id: str) -> None:
    """Remove the count of a deleted user."""
    Record(*key(owner_id)).delete()


def key(owner_id: str) -> tuple[str, str]:
    """Return the key of a user's count."""
    return f"chats#{owner_id}", "count"


def _count(owner_id: str) -> int:
    return int(Chat.by_create_time.count(owner_id))
