"""A tenant's request log, page by page: filters, keyset pages by (at, id), and rows in words.

A page reads an index of (tenant, at) from a moment on, within a period, and never counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import Q, QuerySet

from analytics import usage
from analytics.dashboard.access import Seat
from analytics.dashboard.names import clock, is_id, key_names
from analytics.models import RequestLog
from analytics.usage import Period, Where
from config.words import dollars, duration

PAGE = 50
STATUSES: Sequence[tuple[str, str]] = (
    ("ok", "Answered"),
    ("failed", "Failed"),
    ("4xx", "Refused (4xx)"),
    ("429", "Limited (429)"),
    ("5xx", "Failed (5xx)"),
    ("cancelled", "Client left"),
)
CACHES: Sequence[tuple[str, str]] = (("hit", "Hit"), ("miss", "Miss"), ("bypass", "Bypass"))
FAILED = (RequestLog.Outcome.ERROR, RequestLog.Outcome.INTERRUPTED)
_BY_STATUS: Mapping[str, Q] = {
    "ok": Q(outcome=RequestLog.Outcome.OK),
    "failed": Q(outcome__in=FAILED),
    "4xx": Q(status__gte=400, status__lt=500),
    "429": Q(status=429),
    "5xx": Q(status__gte=500, status__lt=600),
    "cancelled": Q(outcome=RequestLog.Outcome.CANCELLED),
}
# What no list shows.
_LEFT_OUT = ("attempts", "limits", "tags")


class Place(NamedTuple):
    """A row's place in the order of the log."""

    at: datetime
    id: int

    def text(self) -> str:
        """Return it for an address."""
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S%f}-{self.id}"

    @classmethod
    def read(cls, text: str) -> "Place | None":
        """Return the place that an address names; None for what is none."""
        moment, _, ref = text.partition("-")
        try:
            at = datetime.strptime(moment, "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(at, int(ref)) if is_id(ref) else None


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of requests is narrowed to; "" where it is not."""

    status: str = ""
    key: str = ""
    model: str = ""
    cache: str = ""
    request_id: str = ""

    @classmethod
    def read(cls, parameters: Any) -> "Filters":
        """Return those that the parameters of an address ask for; what is none narrows nothing."""
        status, key, cache = (parameters.get(name, "").strip() for name in ("status", "key", "cache"))
        return cls(
            status=status if status in _BY_STATUS else "",
            key=key if is_id(key) else "",
            model=parameters.get("model", "").strip()[:200],
            cache=cache if cache in dict(CACHES) else "",
            request_id=parameters.get("request_id", "").strip()[:128],
        )

    @property
    def query(self) -> str:
        """Return them as parameters of an address."""
        return urlencode(self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return those that there are."""
        names = ("status", "key", "model", "cache", "request_id")
        return [(name, getattr(self, name)) for name in names if getattr(self, name)]

    def __bool__(self) -> bool:
        """Is there any?"""
        return bool(self.pairs)

    def of(self, rows: QuerySet[RequestLog]) -> QuerySet[RequestLog]:
        """Return those of `rows`."""
        if self.status:
            rows = rows.filter(_BY_STATUS[self.status])
        if self.key:
            rows = rows.filter(key_ref=int(self.key))
        if self.model:
            provider, _, short = self.model.partition("/")
            rows = rows.filter(
                Q(requested_model=self.model) | Q(model=self.model) | Q(provider=provider, model=short)
            )
        if self.cache:
            rows = rows.filter(cache=self.cache)
        if self.request_id:
            rows = rows.filter(Q(request_id=self.request_id) | Q(completion_id=self.request_id))
        return rows


def logged(seat: Seat, period: Period | None) -> QuerySet[RequestLog]:
    """Return the tenant's requests of a period (None: all), newest first."""
    rows = RequestLog.objects.filter(tenant_ref=seat.tenant.pk).order_by("-at", "-id")
    return rows if period is None else rows.filter(at__gte=period.since, at__lt=period.until)


def one_page(rows: QuerySet[RequestLog], before: Place | None) -> tuple[list[RequestLog], Place | None]:
    """Return a page of rows that come before a place, and the place that the next page begins at."""
    if before is not None:
        # The first condition lets an index begin there; the second takes apart those of one moment.
        earlier = Q(at__lt=before.at) | Q(at=before.at, id__lt=before.id)
        rows = rows.filter(earlier, at__lte=before.at)
    found = list(rows.defer(*_LEFT_OUT)[: PAGE + 1])
    more = len(found) > PAGE
    found = found[:PAGE]
    return found, Place(found[-1].at, found[-1].pk) if more else None


def failures(seat: Seat, period: Period, before: Place | None) -> QuerySet[RequestLog]:
    """Return the failed requests of the hours that had any: the latest of them that fill a page.

    The sums say which hours those are, so that a day without errors costs nothing, however busy it was.
    """
    hourly = Period(period.since, period.until, period.zone, "hour")
    hours = usage.by_time(hourly, Where(tenant_id=seat.tenant.pk))
    ranges, found = list[Q](), 0
    for at, figures in reversed(hours):
        if not figures.errors or (before is not None and at > before.at):
            continue
        ranges.append(Q(at__gte=at, at__lt=at + timedelta(hours=1)))
        # The hour of the place itself may have been shown to its end.
        found += figures.errors if before is None or at + timedelta(hours=1) <= before.at else 0
        if found > PAGE:
            break
    rows = logged(seat, period).filter(outcome__in=FAILED)
    return rows.filter(reduce(or_, ranges)) if ranges else rows.none()


def listed(seat: Seat, rows: Sequence[RequestLog]) -> list[dict[str, Any]]:
    """Return rows in words."""
    names = key_names(seat.tenant, [row.key_ref for row in rows])
    return [
        {
            "row": row,
            "at": clock(row.at, seat.zone, seconds=True),
            "key": names[row.key_ref],
            "answer": answer(row),
            "model": row.requested_model or "-",
            "by": by(row),
            "tokens": tokens(row),
            "cost": dollars(row.cost_nanousd, unknown="-"),
            "took": duration(row.latency_ms),
        }
        for row in rows
    ]


def answer(row: RequestLog) -> str:
    """Say how it ended: the status, and what went wrong."""
    word = row.error_code or ("" if row.outcome == RequestLog.Outcome.OK else row.get_outcome_display())
    return f"{row.status or ''} {word}".strip()


def by(row: RequestLog) -> str:
    """Say who answered."""
    if not row.provider:
        return "-"
    return f"{row.provider}/{row.model}{' (cache)' if row.cache == 'hit' else ''}"


def tokens(row: RequestLog) -> str:
    """Say both counts, where known."""
    if row.prompt_tokens is None and row.completion_tokens is None:
        return "-"
    about = "≈ " if row.usage_estimated else ""
    return f"{about}{row.prompt_tokens or 0:,} in, {row.completion_tokens or 0:,} out"
