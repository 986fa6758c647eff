"""Reads sums of usage from rollups: the one way by which screens, reports and the API come to their numbers.

    period = Period.days(30, now=timezone.now(), zone=ZoneInfo("Europe/Berlin"))
    whole = totals(period, Where(tenant_id=7))
    whole.cost_nanousd, whole.latency_ms(0.95)
    for starts_at, figures in by_time(period, Where(tenant_id=7)): ...
    for name, figures in by("model", period, Where(tenant_id=7)): ...

It reads the fewest rows that tell what is asked for: wide sums, where that is of a tenant, of models or of
everything. Nothing here reads the request log or the ledger, and nothing is cut off or rounded: the numbers
of a period's steps add up to its totals, and its cost is the ledger's to the nano-dollar.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from operator import or_
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

import orjson
from django.db.models import Q, QuerySet, Sum

from analytics.rollup_models import EDGES_MS, LATENCY_COLUMNS, TTFT_COLUMNS, UsageRollup

Step = Literal["hour", "day"]
# What figures can be told apart by; "tag:team" is by the value of the tag "team".
DIMENSIONS = ("provider", "model", "tenant", "key")

_HOUR = timedelta(hours=1)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` up to `until`, which begin hours or days of `zone`; in steps as its clocks show them."""

    since: datetime
    until: datetime
    zone: ZoneInfo = _UTC
    step: Step = "day"

    def __post_init__(self) -> None:
        """Take moments as UTC. Raises ValueError for a period that is empty, or has no time zone."""
        if self.since.tzinfo is None or self.until.tzinfo is None:
            raise ValueError("a period needs moments with a time zone")
        # Moments of one zone are compared by what its clocks show, which an hour a year shows twice.
        object.__setattr__(self, "since", self.since.astimezone(UTC))
        object.__setattr__(self, "until", self.until.astimezone(UTC))
        if self.since >= self.until:
            raise ValueError("a period must end after it begins")

    @classmethod
    def hours(cls, count: int, *, now: datetime, zone: ZoneInfo = _UTC) -> Self:
        """Return the last `count` hours, the one that runs included."""
        hour = now.astimezone(zone).replace(minute=0, second=0, microsecond=0)
        until = hour.astimezone(UTC) + _HOUR
        return cls(until - count * _HOUR, until, zone, "hour")

    @classmethod
    def days(cls, count: int, *, now: datetime, zone: ZoneInfo = _UTC) -> Self:
        """Return the last `count` days, today included."""
        return cls.dates(now.astimezone(zone).date() - timedelta(days=count - 1), count, zone)

    @classmethod
    def dates(cls, first: date, count: int, zone: ZoneInfo = _UTC) -> Self:
        """Return `count` days of a zone's calendar."""
        return cls(_midnight(first, zone), _midnight(first + timedelta(days=count), zone), zone)

    def before(self) -> "Period":
        """Return the period of as many hours or days that ends where this one begins."""
        if self.step == "hour":
            return Period(self.since - (self.until - self.since), self.since, self.zone, self.step)
        first, last = (at.astimezone(self.zone).date() for at in (self.since, self.until))
        return Period.dates(first - (last - first), (last - first).days, self.zone)

    def steps(self) -> list[datetime]:
        """Return the moment (UTC) each step begins."""
        found, at = list[datetime](), self.since
        while at < self.until:
            found.append(at)
            if self.step == "hour":
                at += _HOUR
            else:
                at = _midnight(at.astimezone(self.zone).date() + timedelta(days=1), self.zone)
        return found

    @property
    def grain(self) -> UsageRollup.Grain:
        """The coarsest slots that this period and its steps are made of."""
        if self.step == "day" and all(at.time() == time() for at in (*self.steps(), self.until)):
            return UsageRollup.Grain.DAY
        return UsageRollup.Grain.HOUR


@dataclass(frozen=True, slots=True)
class Where:
    """Whose figures; what is left out is not asked for. `tag` is a name and its value."""

    tenant_id: int | None = None
    key_id: int | None = None
    provider: str = ""
    model: str = ""
    tag: tuple[str, str] | None = None

    @property
    def columns(self) -> set[str]:
        """The columns that it asks about."""
        asked = {
            "tenant_ref": self.tenant_id is not None,
            "key_ref": self.key_id is not None,
            "provider": bool(self.provider),
            "model": bool(self.model),
            "tags": self.tag is not None,
        }
        return {column for column, is_asked in asked.items() if is_asked}

    def of(self, rows: QuerySet[UsageRollup]) -> QuerySet[UsageRollup]:
        """Return those rows."""
        wanted: dict[str, Any] = {"provider": self.provider, "model": self.model}
        found = rows.filter(**{name: value for name, value in wanted.items() if value})
        if self.tenant_id is not None:
            found = found.filter(tenant_ref=self.tenant_id)
        if self.key_id is not None:
            found = found.filter(key_ref=self.key_id)
        if self.tag is not None:
            found = found.filter(tags__contains=orjson.dumps(dict([self.tag])).decode()[1:-1])
        return found


EVERYTHING = Where()


@dataclass(slots=True)
class Figures:
    """Sums, as UsageRollup's columns; histograms are counts by bucket, empty where none were asked for."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    limited: int = 0
    cancelled: int = 0
    streams: int = 0
    hits: int = 0
    misses: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int = 0
    unbilled_nanousd: int = 0
    unpriced: int = 0
    saved_nanousd: int = 0
    latency: Sequence[int] = field(default=(), repr=False)
    ttft: Sequence[int] = field(default=(), repr=False)

    def __add__(self, other: "Figures") -> "Figures":
        """Return both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMMED}
        return Figures(
            **sums, latency=_added(self.latency, other.latency), ttft=_added(self.ttft, other.ttft)
        )

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def error_rate(self) -> float | None:
        """The share of requests that failed, from 0 to 1; None where there were none."""
        return self.errors / self.requests if self.requests else None

    @property
    def hit_rate(self) -> float | None:
        """The share of hits among lookups in the cache, from 0 to 1; None where there were none."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def latency_ms(self, share: float) -> float | None:
        """Return the time that so great a share of answered requests took at most, about; None: unknown."""
        return quantile_ms(self.latency, share)

    def ttft_ms(self, share: float) -> float | None:
        """Return the same of the time to the first content of streams."""
        return quantile_ms(self.ttft, share)


SUMMED = tuple(each.name for each in fields(Figures) if each.name not in {"latency", "ttft"})


def totals(period: Period, where: Where = EVERYTHING, *, latency: bool = False) -> Figures:
    """Return the sums of a whole period, with histograms if `latency`."""
    return _figures(_whole(period, where).aggregate(**_sums(latency=latency)), latency=latency)


def by_time(
    period: Period, where: Where = EVERYTHING, *, latency: bool = False
) -> list[tuple[datetime, Figures]]:
    """Return each step's moment (UTC) and sums, in order; steps without traffic too."""
    steps = period.steps()
    sums = [Figures() for _ in steps]
    grain = _telling(period.grain, where.columns)
    slots = where.of(UsageRollup.objects.filter(_between(grain, period.since, period.until)))
    for row in slots.values("starts_at").annotate(**_sums(latency=latency)).order_by("starts_at"):
        step = bisect_right(steps, row["starts_at"]) - 1
        sums[step] += _figures(row, latency=latency)
    return list(zip(steps, sums, strict=True))


def by(
    dimension: str,
    period: Period,
    where: Where = EVERYTHING,
    *,
    latency: bool = False,
    limit: int | None = None,
) -> list[tuple[Any, Figures]]:
    """Return who or what has how much, the dearest first, then the busiest.

    `dimension` is one of DIMENSIONS or "tag:NAME". Names are the provider's, "provider/model", the id of a
    tenant or key (0: none), the tag's value ("": without it). Raises ValueError for any other dimension.
    """
    columns = _columns(dimension)
    rows = _whole(period, where, columns)
    found: dict[Any, Figures] = {}
    grouped = rows.values(*columns).annotate(**_sums(latency=latency)).order_by(*columns)
    if limit is not None and columns != ("tags",):
        # Each row is one name's: the database need not tell of a hundred thousand keys.
        grouped = grouped.order_by("-cost_nanousd_sum", "-requests_sum", *columns)[:limit]
    for row in grouped:
        name = _name(dimension, row)
        figures = _figures(row, latency=latency)
        found[name] = found[name] + figures if name in found else figures
    ranked = sorted(found.items(), key=lambda each: (-each[1].cost_nanousd, -each[1].requests, str(each[0])))
    return ranked[:limit]


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """Return a histogram's quantile in milliseconds, evenly spread inside a bucket; None for an empty one."""
    wanted, seen = share * sum(counts), 0
    if not counts or not sum(counts):
        return None
    edges = (0, *EDGES_MS)
    for number, count in enumerate(counts):
        if count and seen + count >= wanted:
            low = edges[number]
            high = edges[number + 1] if number + 1 < len(edges) else low
            return low + (high - low) * max(wanted - seen, 0.0) / count
        seen += count
    return float(edges[-1])


def _whole(period: Period, where: Where, columns: Iterable[str] = ()) -> QuerySet[UsageRollup]:
    """Return the fewest rows that make up a period: days of UTC, and the hours before and after them.

    `columns` are those that they will be told apart by.
    """
    asked = where.columns | set(columns)
    hour, day = (_telling(grain, asked) for grain in (UsageRollup.Grain.HOUR, UsageRollup.Grain.DAY))
    first, last = _day_after(period.since), _day_before(period.until)
    if first >= last:
        return where.of(UsageRollup.objects.filter(_between(hour, period.since, period.until)))
    spans = ((hour, period.since, first), (day, first, last), (hour, last, period.until))
    chosen = [_between(grain, since, until) for grain, since, until in spans if since < until]
    return where.of(UsageRollup.objects.filter(reduce(or_, chosen)))


def _telling(grain: UsageRollup.Grain, asked: set[str]) -> UsageRollup.Grain:
    """Return the grain of the fewest rows that still have what is asked about in their columns."""
    if asked == {"tenant_ref"}:
        return grain.of_tenants
    return grain.of_models if asked <= {"provider", "model"} else grain


def _between(grain: int, since: datetime, until: datetime) -> Q:
    return Q(grain=grain, starts_at__gte=since, starts_at__lt=until)


def _day_before(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _day_after(at: datetime) -> datetime:
    day = _day_before(at)
    return day if day == at else day + timedelta(days=1)


def _sums(*, latency: bool) -> dict[str, Sum]:
    columns = (*SUMMED, *LATENCY_COLUMNS, *TTFT_COLUMNS) if latency else SUMMED
    return {f"{column}_sum": Sum(column) for column in columns}


def _figures(row: Mapping[str, Any], *, latency: bool) -> Figures:
    sums: dict[str, Any] = {name: int(row[f"{name}_sum"] or 0) for name in SUMMED}
    figures = Figures(**sums)
    if latency:
        figures.latency = _counts(row, LATENCY_COLUMNS)
        figures.ttft = _counts(row, TTFT_COLUMNS)
    return figures


def _counts(row: Mapping[str, Any], columns: Iterable[str]) -> tuple[int, ...]:
    return tuple(int(row[f"{column}_sum"] or 0) for column in columns)


def _columns(dimension: str) -> tuple[str, ...]:
    if dimension.startswith("tag:") and len(dimension) > len("tag:"):
        return ("tags",)
    columns = {
        "provider": ("provider",),
        "model": ("provider", "model"),
        "tenant": ("tenant_ref",),
        "key": ("key_ref",),
    }
    if dimension not in columns:
        raise ValueError(f"must be one of {', '.join(DIMENSIONS)}, or tag:NAME")
    return columns[dimension]


def _name(dimension: str, row: Mapping[str, Any]) -> Any:
    if dimension.startswith("tag:"):
        return orjson.loads(row["tags"]).get(dimension[4:], "") if row["tags"] else ""
    if dimension == "model":
        return f"{row['provider']}/{row['model']}" if row["provider"] or row["model"] else ""
    return row[_columns(dimension)[0]]


def _added(one: Sequence[int], other: Sequence[int]) -> Sequence[int]:
    if not one or not other:
        return one or other
    return tuple(left + right for left, right in zip(one, other, strict=True))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the moment (UTC) a day begins, where clocks are put forward at midnight too."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
