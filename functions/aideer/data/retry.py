"""Repeated attempts at a change that concurrent requests can refuse."""

import random
import time
from collections.abc import Iterator

from aideer.data import transactions


def attempts() -> Iterator[None]:
    """Yield for each attempt, for at most PATIENCE_SECONDS. A caller whose last attempt was refused raises Busy."""
    give_up_at = time.monotonic() + transactions.PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        yield


def pause() -> None:
    """Wait for a moment, so that two refused requests do not meet again."""
    time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
