"""Administrators, of whom there is always one left.

Who is one is said by a user's permission alone. Whoever unmakes an administrator names another in the same transaction, who must
still be one when it happens: so the last one stays, whatever happens at once. That other one is the administrator who does it, and
where one deletes themselves any other; a record for each, written with the permission, helps to find one and decides nothing.
"""

from collections.abc import Callable, Iterator

from aideer.errors import AideerError
from aideer.models import Record, User
from aideer.transactions import Transaction

_RECORDS = "administrators"
_PERMISSION = 2  # auth.ADMIN; background functions do without tokens


def is_one(user: User) -> bool:
    """Whether this user is an administrator, as they were read."""
    return user.permission >= _PERMISSION


def made(transaction: Transaction, user_id: str) -> None:
    """Note, in the transaction that makes them one, that this user is an administrator."""
    transaction.put("administrator", Record(_RECORDS, user_id))


def unmade(transaction: Transaction, user_id: str) -> None:
    """Take that note back, in the transaction that makes them none."""
    transaction.delete("administrator", Record(_RECORDS, user_id))


def required(transaction: Transaction, step: str, user_id: str, error: Callable[[], AideerError] | None = None) -> None:
    """Require that this user is an administrator when the transaction happens; if not, its commit raises `error()`."""
    condition = User.id.exists() & User.deleted.does_not_exist() & (User.permission >= _PERMISSION)
    transaction.check(step, User, user_id, None, condition, error)


def besides(user_id: str) -> Iterator[str]:
    """Users who may be administrators, other than this one."""
    for record in Record.query(_RECORDS, consistent_read=True, page_size=10):
        if record.sk != user_id:
            yield record.sk
