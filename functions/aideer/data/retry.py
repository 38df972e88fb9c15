"""Repeated attempts at a change that concurrent requests can refuse."""

import time
from collections.abc import Iterator

from aideer.data import transactions


def attempts() -> Iterator[None]:
    """Yield for each attempt, for at most PATIENCE_SECONDS. A caller whose last attempt was refused raises Busy."""
    give_up_at = time.monotonic() + transactions.PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        yield
