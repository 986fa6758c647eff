"""CSV for spreadsheets: usage by day, model or key, and the request log. Dollars are exact decimals.

Text that a spreadsheet would take for a formula gets a quote before it, since some of it is whatever a client
has sent: https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC
from itertools import chain, islice
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics import usage
from analytics.dashboard.access import Seat, seated
from analytics.dashboard.log_rows import Filters, Place, logged
from analytics.dashboard.names import key_names
from analytics.dashboard.period_choice import PeriodChoice, chosen
from analytics.models import RequestLog
from analytics.usage import Figures, Where
from config.money import usd

BATCH = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
USAGE_HEADS = (
    *("requests", "errors", "cache_hits", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("cost_usd", "unbilled_usd", "saved_usd", "unpriced_calls"),
)
LOG_HEADS = (
    *("at_utc", "request_id", "completion_id", "key", "endpoint", "requested_model", "provider", "model"),
    *("status", "outcome", "error_code", "stream", "cache", "prompt_tokens", "completion_tokens"),
    *("usage_estimated", "cost_usd", "latency_ms", "ttft_ms"),
)


@require_safe
@seated("look")
def usage_csv(request: HttpRequest, seat: Seat, by: str) -> StreamingHttpResponse:
    """Return the usage of a period by `by`: day, model or key. Raises Http404 for anything else."""
    choice = chosen(request.GET, now=timezone.now(), zone=seat.zone)
    where = Where(tenant_id=seat.tenant.pk)
    if by == "day":
        rows = _by_time(choice, where)
        head = "starts_at" if choice.period.step == "hour" else "day"
    elif by in {"model", "key"}:
        found = usage.by(by, choice.period, where)
        names = key_names(seat.tenant, [ref for ref, _ in found]) if by == "key" else {}
        rows = [(names.get(ref, ref) or "none", figures) for ref, figures in found]
        head = by
    else:
        raise Http404("Usage is exported by day, model or key.")
    lines = chain([(head, *USAGE_HEADS)], ((name, *_figures(figures)) for name, figures in rows))
    return _streamed(request, lines, f"usage-by-{by}-{choice.first}-{choice.last}.csv")


@require_safe
@seated("look")
def requests_csv(request: HttpRequest, seat: Seat) -> StreamingHttpResponse:
    """Return the log of a period, narrowed as the list is, newest first."""
    choice, filters = chosen(request.GET, now=timezone.now(), zone=seat.zone), Filters.read(request.GET)
    lines = chain([LOG_HEADS], _log_lines(seat, choice, filters))
    return _streamed(request, lines, f"requests-{choice.first}-{choice.last}.csv")


def _by_time(choice: PeriodChoice, where: Where) -> list[tuple[str, Figures]]:
    zone, hourly = choice.period.zone, choice.period.step == "hour"
    return [
        (at.astimezone(zone).isoformat() if hourly else at.astimezone(zone).date().isoformat(), figures)
        for at, figures in usage.by_time(choice.period, where)
    ]


def _figures(of: Figures) -> tuple[Any, ...]:
    money = (usd(of.cost_nanousd), usd(of.unbilled_nanousd), usd(of.saved_nanousd))
    counts = (of.requests, of.errors, of.hits, of.prompt_tokens, of.completion_tokens, of.cached_tokens)
    return (*counts, *map(_Number, money), of.unpriced)


def _log_lines(seat: Seat, choice: PeriodChoice, filters: Filters) -> Iterator[Sequence[Any]]:
    """Yield rows by keyset pages, so that neither memory nor a long cursor holds the whole log."""
    place: Place | None = None
    while True:
        rows = filters.of(logged(seat, choice.period))
        if place is not None:
            earlier = Q(at__lt=place.at) | Q(at=place.at, id__lt=place.id)
            rows = rows.filter(earlier, at__lte=place.at)
        found = list(rows.defer("attempts", "limits", "tags")[:BATCH])
        names = key_names(seat.tenant, [row.key_ref for row in found])
        yield from (_log_line(row, names[row.key_ref]) for row in found)
        if len(found) < BATCH:
            return
        place = Place(found[-1].at, found[-1].pk)


def _log_line(row: RequestLog, key: str) -> Sequence[Any]:
    cost = "" if row.cost_nanousd is None else _Number(usd(row.cost_nanousd))
    return (
        *(row.at.astimezone(UTC).isoformat(), row.request_id, row.completion_id, key, row.endpoint),
        *(row.requested_model, row.provider, row.model, row.status, row.outcome, row.error_code),
        *("yes" if row.stream else "no", row.cache, row.prompt_tokens, row.completion_tokens),
        *("yes" if row.usage_estimated else "no", cost, row.latency_ms, row.ttft_ms),
    )


class _Number(str):
    """A decimal number as text: a minus sign in front of it begins no formula."""

    __slots__ = ()


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and not isinstance(value, _Number) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


class _Echo:
    """What csv writes to: gives each line back."""

    @staticmethod
    def write(line: str) -> str:
        return line


def _streamed(request: HttpRequest, lines: Iterable[Sequence[Any]], name: str) -> StreamingHttpResponse:
    writer = csv.writer(_Echo())
    pieces = _pieces(writer.writerow([safe_cell(cell) for cell in line]) for line in lines)
    # Under ASGI Django would take a plain iterator in whole before it sends anything.
    content: Any = _in_threads(pieces) if hasattr(request, "scope") else pieces
    response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Accel-Buffering"] = "no"
    return response


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    while piece := "".join(islice(lines, BATCH)):
        yield piece


async def _in_threads(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield pieces that are made in the thread of Django's database connections."""
    while piece := await sync_to_async(_next)(pieces):
        yield piece


def _next(pieces: Iterator[str]) -> str:
    """Return the next piece, "" after the last: StopIteration cannot leave a coroutine."""
    return next(pieces, "")
