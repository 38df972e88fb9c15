"""The executor's writer of the stream log: it writes what is shown, in slices, by time and by size.

A slice is cut once: writing one again after a lost answer must repeat it exactly. A write that fails is tried again at the next
flush, because the stored message does not need the log.
"""

import asyncio
import contextlib
from collections import deque

from aws_lambda_powertools import Logger

from aideer import leases, streamlog
from aideer.models import Task
from aideer.streamlog import Slice

FLUSH_PIECES = 1_000
"""So many unwritten pieces are written at once, whatever the time."""

logger = Logger(service="aideer")


class LogWriter:
    """Writes the pieces of `shown`, a list of (kind, text) that only grows, every `seconds`."""

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
        """Tell that `shown` has grown."""
        if len(self._shown) - self._cut >= FLUSH_PIECES:
            self._now.set()

    async def keep(self) -> None:
        """Write what is shown, by time and by size, until this is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._now.wait()
            self._now.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what is shown and not yet written, as far as DynamoDB takes it."""
        async with self._writing:
            for part in streamlog.slices(self._position, self._shown[self._cut :]):
                self._unwritten.append(part)
                self._position = part.end
            self._cut = len(self._shown)
            try:
                while self._unwritten:
                    await asyncio.to_thread(streamlog.write, self._task.id, self._unwritten[0])
                    self._unwritten.popleft()
            except Exception as error:  # the next flush goes on here
                logger.warning("log", extra={**leases.who(self._task), "error": type(error).__name__})
