"""Which time the first page is about, as its query string says; in UTC, as everywhere in the admin."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics.usage import Period

# Name -> what it is called, and so many whole hours or days before the one that runs.
CHOICES: Mapping[str, tuple[str, int, str]] = {
    "1h": ("Last hour", 1, "hour"),
    "6h": ("Last 6 hours", 6, "hour"),
    "24h": ("Last 24 hours", 24, "hour"),
    "7d": ("Last 7 days", 7, "day"),
    "30d": ("Last 30 days", 30, "day"),
    "90d": ("Last 90 days", 90, "day"),
}
DEFAULT, CUSTOM = "24h", "custom"
HOURS_AT_MOST = timedelta(hours=72)  # what is longer is shown by days, unless it is asked for by hours
MOST_HOURS, MOST = timedelta(days=14), timedelta(days=800)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Range:
    """A period, what it is called, and what of it is over: only that can be compared with earlier times."""

    name: str
    title: str
    period: Period
    now: datetime
    problem: str = ""

    @property
    def steps_over(self) -> int:
        """How many steps have ended."""
        ends = [*self.period.steps()[1:], self.period.until]
        return sum(end <= self.now for end in ends)

    @property
    def before(self) -> Period | None:
        """As many steps before the period as have ended in it; None: none has."""
        over = self.steps_over
        if not over:
            return None
        length = over * (_HOUR if self.period.step == "hour" else _DAY)
        return Period(self.period.since - length, self.period.since, step=self.period.step)

    @property
    def compared(self) -> str:
        """What changes are against."""
        over = self.steps_over
        return (
            f"in the {over} {self.period.step}s before" if over > 1 else f"in the {self.period.step} before"
        )


def read_range(query: Mapping[str, str], now: datetime) -> Range:
    """Return what `range`, or `from`, `to` and `step`, ask for; where it makes no sense, a problem."""
    now = now.astimezone(UTC)
    name = query.get("range") or (CUSTOM if query.get("from") or query.get("to") else DEFAULT)
    if name == CUSTOM:
        try:
            return _custom(query, now)
        except ValueError as problem:
            return _usual(DEFAULT, now, problem=str(problem))
    if name not in CHOICES:
        return _usual(DEFAULT, now, problem=f"range: must be one of {', '.join((*CHOICES, CUSTOM))}.")
    return _usual(name, now)


def _usual(name: str, now: datetime, *, problem: str = "") -> Range:
    title, count, step = CHOICES[name]
    period = Period.hours(count + 1, now=now) if step == "hour" else Period.days(count + 1, now=now)
    return Range(name, title, period, now, problem)


def _custom(query: Mapping[str, str], now: datetime) -> Range:
    since, until = _moment("from", query.get("from", "")), _moment("to", query.get("to", ""))
    if since >= until:
        raise ValueError("to: must be after from.")
    if until - since > MOST:
        raise ValueError(f"to: must be at most {MOST.days} days after from.")
    wanted = query.get("step") or ("hour" if until - since <= HOURS_AT_MOST else "day")
    if wanted not in {"hour", "day"}:
        raise ValueError("step: must be hour or day.")
    if wanted == "hour":
        if until - since > MOST_HOURS:
            raise ValueError(f"step: by the hour at most {MOST_HOURS.days} days.")
        period = Period(_floor(since, _HOUR), _ceiling(until, _HOUR), step="hour")
    else:
        period = Period(_floor(since, _DAY), _ceiling(until, _DAY))
    title = f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} (UTC)"
    return Range(CUSTOM, title, period, now)


def _moment(name: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'{name}: must be a moment as "2026-06-30T14:00".') from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if not 2000 <= at.year <= 2200:
        raise ValueError(f"{name}: must be between the years 2000 and 2200.")
    return at


def _floor(at: datetime, unit: timedelta) -> datetime:
    epoch = datetime.fromtimestamp(0, UTC)
    return at - (at - epoch) % unit


def _ceiling(at: datetime, unit: timedelta) -> datetime:
    return _floor(at + unit - timedelta(microseconds=1), unit)
