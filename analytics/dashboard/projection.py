"""Where a budget will be at the end of its window, if it goes on as it has until now: a straight line.

Pure: what is spent, the limit and the moments come in, a sentence goes out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from config.words import about

# Before so much of a window has passed, a line through what is spent would say anything.
TOO_EARLY = 0.02


class Outlook(Enum):
    """How it will end."""

    NOTHING = "nothing"
    EARLY = "early"
    WITHIN = "within"
    OVER = "over"
    USED_UP = "used up"
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True)
class Projection:
    """`at_end_nanousd`: what will be spent by the end; `over_at`: when the limit will be reached."""

    outlook: Outlook
    at_end_nanousd: int | None = None
    over_at: datetime | None = None


def projected(*, spent: int, limit: int, start: datetime, end: datetime | None, now: datetime) -> Projection:
    """Return how a window will end (`end` None: it never does). Money in nano-dollars."""
    if spent >= limit:
        return Projection(Outlook.USED_UP)
    if end is None:
        return Projection(Outlook.ENDLESS)
    if spent <= 0:
        return Projection(Outlook.NOTHING)
    passed, whole = now - start, end - start
    if passed < whole * TOO_EARLY:
        return Projection(Outlook.EARLY)
    # Microseconds are whole numbers, so that the line is exact however long the window is.
    at_end = spent * _micros(whole) // max(_micros(passed), 1)
    if at_end <= limit:
        return Projection(Outlook.WITHIN, at_end)
    over_at = start + timedelta(microseconds=_micros(passed) * limit // spent)
    return Projection(Outlook.OVER, at_end, over_at)


def in_words(found: Projection, *, end: datetime | None, zone: ZoneInfo) -> str:
    """Say it in a sentence, as the tenant's clocks tell it."""
    if found.outlook is Outlook.USED_UP:
        until = f" until {_moment(end, zone)}" if end else ""
        return f"Used up: requests that cost something are refused{until}."
    if found.outlook is Outlook.NOTHING:
        return "Nothing is spent yet."
    if found.outlook is Outlook.EARLY:
        return "The window has just begun: too early to say where it will end."
    if found.outlook is Outlook.ENDLESS or end is None or found.at_end_nanousd is None:
        return "It has no end to project to."
    pace = f"At this pace {about(found.at_end_nanousd)} by {_end_day(end, zone)}"
    if found.over_at is None:
        return f"{pace}: within the limit."
    return f"{pace}: over the limit on {_over(found.over_at, end, zone)}."


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _end_day(end: datetime, zone: ZoneInfo) -> str:
    last = (end - timedelta(microseconds=1)).astimezone(zone)
    return f"the end of {last.day} {last:%b}"


def _over(at: datetime, end: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    clock = f" at {local:%H:%M}" if end - at < timedelta(days=2) else ""
    return f"{local.day} {local:%b}{clock}"


def _moment(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %H:%M}"
