"""Users that have used up a limit, as far as this process knows. It refuses them without a call until the window ends.

An outage of a counter of asking, reading or streaming refuses nobody. DynamoDB takes only 1,000 writes a second to one item. So a
user with enough requests could throttle the user's own counter, and would pass the limit by. With this memory, each process writes
to a counter that is used up only once in a window.

Only a refusal of a caller whose token is valid may be remembered. Otherwise the holder of a revoked token could lock the user out.
"""

from collections import OrderedDict

from aideer.core import clock
from aideer.core.errors import TooManyRequests
from aideer.security import limits
from aideer.security.limits import Kind

_MOST = 1_000
"""The most users and limits that a process remembers."""

_ends: OrderedDict[tuple[Kind, str], float] = OrderedDict()
"""The time at which the window ends, by limit and user."""


def require_room(kind: Kind, user_id: str) -> None:
    """Raise TooManyRequests if this process knows that the user has used up the limit. This makes no call."""
    end = _ends.get((kind, user_id))
    if end is None:
        return
    if end <= clock.now():
        _ends.pop((kind, user_id), None)
        return
    raise limits.refusal(kind, end - clock.now())


def remember(kind: Kind, user_id: str, refusal: TooManyRequests) -> None:
    """Remember that the limit has refused the user, until its window ends. A later refusal does not prolong that."""
    now = clock.now()
    if _ends.get((kind, user_id), 0) <= now:
        _ends[kind, user_id] = now + int(refusal.headers["Retry-After"])
    if len(_ends) > _MOST:
        _ends.popitem(last=False)
