"""The one place that asks what time it is, so that tests can move it."""

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def timestamp(seconds: float | None = None) -> str:
    """ISO 8601 in UTC with microseconds, always of one width, so that text order is time order."""
    return written(datetime.fromtimestamp(now() if seconds is None else seconds, UTC))


def written(moment: datetime) -> str:
    """A moment in UTC as `timestamp` writes it."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time."""
    return datetime.fromisoformat(text).timestamp()
