"""Ranges of days that a reader asks for."""

from datetime import UTC, date, datetime, timedelta, timezone

from aideer.core import clock
from aideer.core.errors import Detail, Unprocessable

MOST_DAYS = 92
DAYS = 30


def parse_range(first: str | None, last: str | None, zone: timezone = UTC) -> tuple[date, date]:
    """Return the range from the day `first` to the day `last`. Without both, these are the DAYS days until today.

    Raises Unprocessable if there is no such day, or if the range is none or too long.
    """
    try:
        end = date.fromisoformat(last) if last else datetime.fromtimestamp(clock.now(), zone).date()
        begin = date.fromisoformat(first) if first else end - timedelta(DAYS - 1)
    except (ValueError, OverflowError):
        raise Unprocessable("invalid_date", "There is no such day.") from None
    if not 0 <= (end - begin).days < MOST_DAYS:
        raise Unprocessable(
            "invalid_range",
            Detail("The range must end after it begins, and can have at most {most} days.", most=MOST_DAYS),
        )
    return begin, end
