"""The rate limit of quotes and refused asks. Each reads up to a whole chat and prices it. Accepted asks have limits of their own.

A quote is counted before it is priced, and so is an ask of a user that this process has refused before. The count runs beside the
read of the chat. Any other ask is trusted: it is counted only if it is refused, and before the refusal leaves. So the first token
of an honest user waits for no count. A process trusts one ask of a user at a time, and none after a refusal.
"""

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pynamodb.exceptions import PynamoDBException

from aideer.core import aws_errors
from aideer.core.errors import TooManyRequests
from aideer.security import exhausted, rate_limits
from aideer.security.rate_limits import Counted

_MOST = 10_000
"""The most users that a process does not trust. After that, it trusts the one again whose last refusal is the oldest."""
_refused: OrderedDict[str, None] = OrderedDict()
_trusted: set[str] = set()
"""The users with a trusted ask that has not ended yet."""
_lock = threading.Lock()


class AskCount:
    """The count of one ask or quote. A repeated attempt at the same ask counts once."""

    def __init__(self, user_id: str, *, trusted: bool = False) -> None:
        self._user_id = user_id
        self._trusted = trusted
        self._count: Future[Counted | None] | None = None

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Count the ask while the `with` block reads, unless it is trusted. Raises TooManyRequests after the block, in place of its
        own error.

        If this process knows that the limit is used up, that comes before the block. If DynamoDB does not respond, the ask does not
        count. Its hold has limits of its own.
        """
        if self._count is None:
            exhausted.require_room("ask", self._user_id)
            if not self._trusted:
                self._count = _threads().submit(_count, self._user_id)
        try:
            yield
        finally:
            if self._count:
                self._count.result()

    def refuse(self) -> TooManyRequests | None:
        """Note that the ask is refused or repeats an earlier one. Return the limit's error if the limit is used up.

        It may be called again for the same ask, which counts once. Call it once the user's token is known to be valid.
        """
        with _lock:
            _refused[self._user_id] = None
            _refused.move_to_end(self._user_id)
            while len(_refused) > _MOST:
                _refused.popitem(last=False)
        try:
            if self._count is None:
                exhausted.require_room("ask", self._user_id)
                self._count = _threads().submit(_count, self._user_id)
            self._count.result()
        except TooManyRequests as error:
            exhausted.remember("ask", self._user_id, error)
            return error
        return None

    def give_back(self) -> None:
        """Do not count the ask: its token was revoked, and whoever holds it must not use up the user's limit."""
        if self._count and self._count.exception() is None and (counted := self._count.result()):
            rate_limits.give_back(counted)


@contextlib.contextmanager
def count_ask(user_id: str) -> Iterator[AskCount]:
    """Yield the count of an ask, which is made in the `with` block."""
    with _lock:
        trusted = user_id not in _refused and user_id not in _trusted
        if trusted:
            _trusted.add(user_id)
    try:
        yield AskCount(user_id, trusted=trusted)
    finally:
        if trusted:
            _trusted.discard(user_id)


def _count(user_id: str) -> Counted | None:
    try:
        return rate_limits.count("ask", user_id)
    except PynamoDBException as error:
        if not aws_errors.is_unavailable(error):
            raise
        return None


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4)
