"""Rate limits for processes whose clock a test cannot set."""

import itertools
import time

LASTS = 3600
"""Seconds for which a window must still last: longer than any run of tests."""


def limit(kind: str, times: int) -> str:
    """Return an entry of THROTTLES whose current window does not end during the test.

    A window begins at a multiple of its length since the epoch. A test that counts up to the limit of an hour would fail if it ran
    across the full hour.
    """
    now = int(time.time())
    seconds = next(length for length in itertools.count(86_400, LASTS + 1) if length - now % length > LASTS)
    return f"{kind}={times}/{seconds}"
