"""The budgets of bytes: how many kilobytes a user may read, and change, in an hour.

What counts as reading are lists, pages, exports, polls and streams of ended answers. What counts as writing are changes of chats,
likes, settings, API keys and users, and new, changed and removed messages. Calls with a narrower limit of their own, such as
copies, do not count as writing too.

A write for each call would double the calls of small ones. So each process sums up the bytes of a user, and writes the sum into the
counter of the rate limit (`read` or `write`) when it has reached BATCH bytes. A user can use at most BATCH bytes more in each
process, which is little beside the budget.

A process remembers the users that have used up their budget (exhausted.py). It refuses them before it reads or writes anything.

Strangers who read a user's share links use up a budget of that user's links, `shared_read`, in the same way.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from pynamodb.exceptions import PynamoDBException

from aideer.core.errors import TooManyRequests
from aideer.core.logs import logger
from aideer.security import exhausted, rate_limits
from aideer.security.limits import Kind

BATCH = 64 * 1024
"""The bytes of one user that a process sums up before it counts them."""
CHANGE_BYTES = 8192
"""The bytes that a change counts beside its messages, for the items that it changes with them."""
_USERS = 1_000
"""The most users that a process remembers."""

_unwritten: OrderedDict[tuple[Kind, str], int] = OrderedDict()
_lock = threading.Lock()


def require(user_id: str, kind: Kind = "read") -> None:
    """Raise TooManyRequests if this process knows that the user has used up the budget. This makes no call."""
    exhausted.require_room(kind, user_id)


def charge(user_id: str, size: int) -> None:
    """Add `size` bytes to what the user has read. Raises TooManyRequests if the budget was used up before.

    If DynamoDB does not respond, the bytes do not count.
    """
    _add("read", user_id, size, lambda kilobytes: rate_limits.count("read", user_id, amount=kilobytes))


def charge_links(owner_id: str, size: int) -> None:
    """Add `size` bytes to what the links of this user have sent, as `charge` does."""
    _add("shared_read", owner_id, size, lambda kilobytes: rate_limits.count("shared_read", owner_id, amount=kilobytes))


def charge_writing(user_id: str, size: int) -> None:
    """Add `size` bytes to what the user has changed, and CHANGE_BYTES for the call itself, before it writes anything.

    Raises TooManyRequests if the budget was used up before.
    """
    require(user_id, "write")
    _add("write", user_id, size + CHANGE_BYTES, lambda kilobytes: rate_limits.count("write", user_id, amount=kilobytes))


def note(user_id: str, size: int, kind: Kind = "read") -> None:
    """Add `size` bytes that were read for this request's answer and are not in it. They count when the answer is charged."""
    with _lock:
        _keep(kind, user_id, _unwritten.pop((kind, user_id), 0) + size)


def _keep(kind: Kind, user_id: str, total: int) -> None:
    _unwritten[kind, user_id] = total
    if len(_unwritten) > _USERS:
        _unwritten.popitem(last=False)


def _add(kind: Kind, user_id: str, size: int, count: Callable[[int], object]) -> None:
    with _lock:
        total = _unwritten.pop((kind, user_id), 0) + size
        if total < BATCH:
            _keep(kind, user_id, total)
            return
    try:
        count(-(-total // 1024))
    except TooManyRequests as refusal:
        exhausted.remember(kind, user_id, refusal)
        raise
    except PynamoDBException as error:
        logger.warning("budget", extra={"error": type(error).__name__})
