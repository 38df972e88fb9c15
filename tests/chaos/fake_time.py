"""Time for runs of faults: pauses take none, patience runs out all the same, and the product's one clock can be moved."""

import contextlib
import importlib
import random
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.endpoint
from botocore.retries.quota import RetryQuota

from aideer.accounts import deletion, wechat_users
from aideer.chats import likes
from aideer.core import clock
from aideer.data import batch_write, retry, transactions
from aideer.security import password_hashing
from aideer.tasks import control, executor, leases, streaming

_PATIENT = (
    (retry, likes, wechat_users),
    *((batch_write,), (control,), (deletion,), (leases,), (transactions,), (botocore.endpoint,)),
)
"""Modules that pause. Pauses count against the patience of their own group only: deadlines from elsewhere are in real time."""


class Clock:
    """`aideer.core.clock.now`, as far ahead of this machine's as is said."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.ahead


class _Time(threading.local):
    """The module `time`, where a sleep is over at once and shows in monotonic() of its own thread alone."""

    slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def time(self) -> float:
        return time.time()


class _Random(SimpleNamespace):
    """The module `random` of the engine: its jittered pauses, a hundredth as long."""

    @staticmethod
    def uniform(low: float, high: float) -> float:
        return random.uniform(low, high) / 100


@contextlib.contextmanager
def hurried() -> Iterator[Clock]:
    """Hurry, and give the clock."""
    moved = Clock()
    with contextlib.ExitStack() as stack:

        def patch(target: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(target, name, value))

        for modules in _PATIENT:
            at_once = _Time()
            for module in modules:
                patch(module, "time", at_once)
        patch(RetryQuota, "acquire", lambda *_: True)  # it is shared by all calls of a client, and cases do not share
        patch(clock, "now", moved.now)
        patch(executor, "random", _Random())
        patch(executor, "STOP_SECONDS", 0.02)
        patch(executor, "FLUSH_ATTENDED", 0.02)
        patch(executor, "FLUSH_ALONE", 0.02)
        patch(leases, "RENEW_SECONDS", 0.04)
        patch(streaming, "POLL_SECONDS", 0.02)
        patch(importlib.import_module("tasks.stop"), "PATIENCE_SECONDS", 0.3)
        patch(importlib.import_module("tasks.stream"), "WAIT_SECONDS", 0.2)
        patch(password_hashing, "hash_password", lambda password: f"hash of {password}")
        yield moved
