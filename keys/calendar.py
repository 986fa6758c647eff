"""The windows of budgets: days, weeks and months of a tenant's calendar, as moments in time."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
QUARTER_S = 900


class Span(NamedTuple):
    """A window in epoch seconds; `end` belongs to the next one."""

    start: int
    end: int


def bounds(window: str, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return start and end (UTC) of the calendar window around `at`. Weeks begin on Monday."""
    if window == "total":
        return FIRST, LAST
    day = at.astimezone(zone).date()
    if window == "week":
        first = day - timedelta(days=day.weekday())
        following = first + timedelta(days=7)
    elif window == "month":
        first = day.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    else:
        first, following = day, day + timedelta(days=1)
    return _midnight(first, zone), _midnight(following, zone)


def span(window: str, at: float, zone: ZoneInfo) -> Span:
    """Return the calendar window around epoch second `at`."""
    return _span(window, int(at) // QUARTER_S, zone)


@lru_cache(maxsize=4096)
def _span(window: str, quarter: int, zone: ZoneInfo) -> Span:
    # Every zone has been a whole number of quarter hours from UTC since 1972.
    start, end = bounds(window, datetime.fromtimestamp(quarter * QUARTER_S, UTC), zone)
    return Span(int(start.timestamp()), int(end.timestamp()))


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; one that this machine does not know is UTC."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
