"""How tests wait: until a condition holds, with one limit for all of them.

A test that passes never waits for the limit. So it may be longer than the busiest machine needs: a test is no place for a promise
about time.
"""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")
PATIENCE_SECONDS = 180.0
"""Longer than anything here takes. A test that waits so long has found a fault."""


def until(condition: Callable[[], T], what: str, pause_seconds: float = 0.02) -> T:
    """Wait until a condition is true, and return its value. A request that fails is made again.

    Raises
    ------
    AssertionError
        It was not true within PATIENCE_SECONDS. The text says `what`.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        with contextlib.suppress(httpx.HTTPError):
            if value := condition():
                return value
        time.sleep(pause_seconds)
    raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
