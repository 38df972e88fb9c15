"""The reading budget: how many kilobytes a user may read in an hour, in lists, pages, exports, polls and streams of
ended answers.

A write for each page would double the calls of small reads. So each process sums up what a user reads, and writes the sum into the
counter of the rate limit `read` when it has reached BATCH bytes. A user can read at most BATCH bytes more in each process, which is
little beside the budget.

A process remembers the users that have used up their budget (exhausted.py). It refuses them before it reads anything.
"""

from collections import OrderedDict

from pynamodb.exceptions import PynamoDBException

from aideer.core.errors import TooManyRequests
from aideer.core.logs import logger
from aideer.security import exhausted, rate_limits

BATCH = 64 * 1024
"""The bytes of one user that a process sums up before it counts them."""
_USERS = 1_000
"""The most users that a process remembers."""

_unwritten: OrderedDict[str, int] = OrderedDict()


def require(user_id: str) -> None:
    """Raise TooManyRequests if this process knows that the user has used up the budget. This makes no call."""
    exhausted.require_room("read", user_id)


def charge(user_id: str, size: int) -> None:
    """Add `size` bytes to what the user has read. Raises TooManyRequests if the budget was used up before.

    If DynamoDB does not respond, the bytes do not count.
    """
    total = _unwritten.pop(user_id, 0) + size
    if total < BATCH:
        _unwritten[user_id] = total
        if len(_unwritten) > _USERS:
            _unwritten.popitem(last=False)
        return
    try:
        rate_limits.count("read", user_id, amount=-(-total // 1024))
    except TooManyRequests as refusal:
        exhausted.remember("read", user_id, refusal)
        raise
    except PynamoDBException as error:
        logger.warning("reading", extra={"error": type(error).__name__})
