"""The current time. Only this module reads the clock, so that tests can change the time."""

import time
from datetime import UTC, datetime


def now() -> float:
    """Return the current time in seconds since the epoch."""
    return time.time()


def timestamp(seconds: float | None = None) -> str:
    """Return a time as ISO 8601 in UTC with microseconds. `seconds` is since the epoch, by default now.

    All timestamps have the same width, so their text order is their time order.
    """
    return format_utc(datetime.fromtimestamp(now() if seconds is None else seconds, UTC))


def format_utc(moment: datetime) -> str:
    """Return a UTC datetime in the format of `timestamp`."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse(text: str) -> float:
    """Return an ISO 8601 time in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
