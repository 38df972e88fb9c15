"""Executors as processes of their own: each has a thread and an event loop, and can be killed."""

import asyncio
import contextlib
import threading
from typing import Any

from aideer.core.usage import Usage
from aideer.data.models import Task
from aideer.tasks import executor
from tests.waiting import PATIENCE_SECONDS

_executors: "dict[str, Executor]" = {}


class Run(executor.Run):
    """A run that its executor knows, so that a test can wait until it has read what the provider reported."""

    def __init__(self, task: Task, *arguments: Any, **more: Any) -> None:
        super().__init__(task, *arguments, **more)
        if executor := _executors.get(task.id):
            executor.run_of_it = self

    def knows(self, usage: Usage) -> bool:
        known = self.received.usage
        return known is not None and all(a >= b for a, b in zip(known, usage, strict=True))


class Executor(threading.Thread):
    """A process that executes one task, and can be killed."""

    def __init__(self, task_id: str, deadline: float) -> None:
        super().__init__(daemon=True)
        self._task_id, self._deadline = task_id, deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self.run_of_it: Run | None = None
        self.killed = False

    def run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._work())

    async def _work(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        _executors[self._task_id] = self
        await executor.execute(self._task_id, self._deadline)
        await executor.finish(1)

    @property
    def over(self) -> bool:
        return not self.is_alive()

    def kill(self) -> None:
        """End it at once: what it has begun to write may happen still."""
        self.killed = True
        if self._loop and self._main:
            self._loop.call_soon_threadsafe(self._main.cancel)
        self.join(PATIENCE_SECONDS)
