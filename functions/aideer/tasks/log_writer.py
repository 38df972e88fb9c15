"""The executor's writer of the stream log. It writes the shown text in slices, by time and by size.

A slice is cut once, because a repeated write after a lost response must be exactly the same. A failed write is retried at the next
flush. This suffices, because the stored message does not need the log.
"""

import asyncio
import contextlib
from collections import deque

from aideer.core.logs import logger
from aideer.data.models import Task
from aideer.tasks import leases, stream_log
from aideer.tasks.stream_log import Slice

FLUSH_PIECES = 1_000
"""The number of unwritten pieces that causes a write at once, before the time is up."""


class LogWriter:
    """Writes the pieces of `shown` every `seconds`. `shown` is a list of (kind, text) that only grows."""

    def __init__(self, task: Task, shown: list[tuple[str, str]], seconds: float) -> None:
        self._task = task
        self._shown = shown
        self._seconds = seconds
        self._cut = 0
        self._position = 0
        self._unwritten: deque[Slice] = deque()
        self._writing = asyncio.Lock()
        self._now = asyncio.Event()

    def notice(self) -> None:
        """Signal that `shown` has grown."""
        if len(self._shown) - self._cut >= FLUSH_PIECES:
            self._now.set()

    async def keep(self) -> None:
        """Write the shown text, by time and by size, until this task is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._now.wait()
            self._now.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write all shown text that is not yet written. If DynamoDB fails, log it and leave the rest for the next flush."""
        async with self._writing:
            for part in stream_log.cut_slices(self._position, self._shown[self._cut :]):
                self._unwritten.append(part)
                self._position = part.end
            self._cut = len(self._shown)
            try:
                while self._unwritten:
                    await asyncio.to_thread(stream_log.write, self._task.id, self._unwritten[0])
                    self._unwritten.popleft()
            except Exception as error:  # the next flush continues here
                logger.warning("log", extra={**leases.log_ids(self._task), "error": type(error).__name__})
