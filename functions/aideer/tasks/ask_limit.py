"""The rate limit of asks and quotes. Each reads up to a whole chat and prices it, whether it is accepted or not.

An ask is counted before it is priced. The count runs beside the read of the chat, so that the first token does not wait for it.
"""

import contextlib
import functools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pynamodb.exceptions import PynamoDBException

from aideer.core import aws_errors
from aideer.core.errors import TooManyRequests
from aideer.security import exhausted, rate_limits
from aideer.security.rate_limits import Counted


class AskCount:
    """The count of one ask. A repeated attempt at the same ask counts once."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._count: Future[Counted | None] | None = None

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Count the ask while the `with` block reads. Raises TooManyRequests after it, in place of the block's own error.

        If this process knows that the limit is used up, that comes before the block. If DynamoDB does not respond, the ask does not
        count. Its hold has limits of its own.
        """
        if self._count is None:
            exhausted.require_room("ask", self._user_id)
            self._count = _threads().submit(_count, self._user_id)
        try:
            yield
        finally:
            self._count.result()

    def remember_refusal(self) -> None:
        """If the counter has refused the ask, remember that in this process. Call it once the user's token is known to be valid."""
        if self._count and isinstance(refusal := self._count.exception(), TooManyRequests):
            exhausted.remember("ask", self._user_id, refusal)

    def give_back(self) -> None:
        """Do not count the ask: its token was revoked, and whoever holds it must not use up the user's limit."""
        if self._count and self._count.exception() is None and (counted := self._count.result()):
            rate_limits.give_back(counted)


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
