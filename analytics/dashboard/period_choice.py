"""The time that a page is about: the last hours or days, or dates, in the tenant's time zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from analytics.usage import Period

CHOICES: Sequence[tuple[str, str]] = (
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
)
CUSTOM, USUAL = "dates", "7d"
MOST_DAYS = 400
HOURLY_DAYS = 2  # periods of so many days are told by the hour


@dataclass(frozen=True, slots=True)
class PeriodChoice:
    """A period and how it was asked for. `problem`: why what was asked for is not shown; "" where it is."""

    name: str
    period: Period
    first: date
    last: date
    problem: str = ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return it as parameters."""
        if self.name == CUSTOM:
            return [("range", CUSTOM), ("since", f"{self.first}"), ("until", f"{self.last}")]
        return [("range", self.name)]

    @property
    def query(self) -> str:
        """Return it as the parameters of an address."""
        return urlencode(self.pairs)

    @property
    def words(self) -> str:
        """Return it in words."""
        named = dict(CHOICES).get(self.name)
        return f"Last {named}" if named else f"{self.first} to {self.last}"


def chosen(parameters: Any, *, now: datetime, zone: ZoneInfo) -> PeriodChoice:
    """Return the period that the parameters `range`, `since` and `until` ask for; the usual one if wrong."""
    name = parameters.get("range") or USUAL
    if name == CUSTOM:
        return _dates(parameters, now=now, zone=zone)
    if name not in dict(CHOICES):
        return _named(USUAL, now, zone, problem=f"range: {name!r} is none of those below.")
    return _named(name, now, zone)


def _named(name: str, now: datetime, zone: ZoneInfo, *, problem: str = "") -> PeriodChoice:
    count = int(name[:-1])
    make = Period.hours if name.endswith("h") else Period.days
    period = make(count, now=now, zone=zone)
    first, last = period.since.astimezone(zone).date(), now.astimezone(zone).date()
    return PeriodChoice(name, period, first, last, problem)


def _dates(parameters: Any, *, now: datetime, zone: ZoneInfo) -> PeriodChoice:
    try:
        first, last = (_date(name, parameters.get(name, "")) for name in ("since", "until"))
        days = (last - first).days + 1
        period = Period.dates(first, _checked(days), zone)
    except ValueError as problem:
        return _named(USUAL, now, zone, problem=str(problem))
    if days <= HOURLY_DAYS:
        period = Period(period.since, period.until, zone, "hour")
    return PeriodChoice(CUSTOM, period, first, last)


def _checked(days: int) -> int:
    if days < 1:
        raise ValueError("until: it is before the first day.")
    if days > MOST_DAYS:
        raise ValueError(f"until: at most {MOST_DAYS} days at once.")
    return days


def _date(name: str, text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: write a day as 2027-01-31.") from None
    if not 2000 <= found.year <= 9000:
        raise ValueError(f"{name}: the year {found.year} is outside of what is kept.")
    return found
