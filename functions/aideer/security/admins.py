"""Administrators. At least one always remains.

Only a user's permission decides whether the user is an administrator. Demoting or deleting an administrator requires, in the same
transaction, that another named user is still an administrator. So the last one stays, even if several requests run at once. The
named user is normally the administrator that makes the change. If administrators delete themselves, it is any other one. A record
for each administrator is written in the same transaction as the permission. The records help to find administrators only.
"""

from collections.abc import Callable, Iterator

from aideer.core.errors import AideerError
from aideer.data.models import Record, User
from aideer.data.transactions import Transaction

_RECORDS = "administrators"
_PERMISSION = 2  # auth.ADMIN, not imported: background functions need no tokens


def is_admin(user: User) -> bool:
    """Return whether this user, as it was read, is an administrator."""
    return user.permission >= _PERMISSION


def add_in(transaction: Transaction, user_id: str) -> None:
    """Add the administrator's record to the transaction that promotes this user."""
    transaction.put("administrator", Record(_RECORDS, user_id))


def remove_in(transaction: Transaction, user_id: str) -> None:
    """Delete the administrator's record in the transaction that demotes or deletes this user."""
    transaction.delete("administrator", Record(_RECORDS, user_id))


def require_in(
    transaction: Transaction, step: str, user_id: str, error: Callable[[], AideerError | None] | None = None
) -> None:
    """Require that this user is an administrator when the transaction happens.

    If not, `commit` raises the result of `error`. Without one, it raises Refused with `step`.
    """
    condition = User.id.exists() & User.deleted.does_not_exist() & (User.permission >= _PERMISSION)
    transaction.check(step, User(user_id), condition, error)


def list_others(user_id: str) -> Iterator[str]:
    """Yield the ids of other users that may be administrators."""
    for record in Record.query(_RECORDS, consistent_read=True, page_size=10):
        if record.sk != user_id:
            yield record.sk
