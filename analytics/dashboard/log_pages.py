"""The tenant's request log, its failures with what to do about them, and a page for each request."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics import usage
from analytics.dashboard.access import Seat, seated
from analytics.dashboard.advice import advice
from analytics.dashboard.log_rows import (
    CACHES,
    STATUSES,
    Filters,
    Place,
    answer,
    by,
    failures,
    listed,
    logged,
    one_page,
    tokens,
)
from analytics.dashboard.names import clock, key_names
from analytics.dashboard.pages import page
from analytics.dashboard.period_choice import CHOICES, chosen
from analytics.models import RequestLog
from analytics.usage import Where
from config.words import dollars, duration
from keys.models import ApiKey

KEY_CHOICES = 200


@require_safe
@seated("look")
def requests(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Show a page of the log."""
    choice = chosen(request.GET, now=timezone.now(), zone=seat.zone)
    filters, before = Filters.read(request.GET), Place.read(request.GET.get("before", ""))
    # Whoever has an id need not know when it was: both kinds of ids have an index.
    found = logged(seat, None if filters.request_id else choice.period)
    rows, following = one_page(filters.of(found), before)
    context = {
        "choice": choice,
        "choices": CHOICES,
        "filters": filters,
        "statuses": STATUSES,
        "caches": CACHES,
        "key_choices": ApiKey.objects.filter(tenant=seat.tenant).values_list("pk", "name")[:KEY_CHOICES],
        "rows": listed(seat, rows),
        "following": following.text() if following else "",
        "later": before is not None,
    }
    return page(request, seat, "requests", context)


@require_safe
@seated("look")
def errors(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Show the latest requests that failed, and what to do about each."""
    choice = chosen(request.GET, now=timezone.now(), zone=seat.zone)
    before = Place.read(request.GET.get("before", ""))
    rows, following = one_page(failures(seat, choice.period, before), before)
    whole = usage.totals(choice.period, Where(tenant_id=seat.tenant.pk))
    told = [{**each, "advice": advice(each["row"])} for each in listed(seat, rows)]
    context = {
        "choice": choice,
        "choices": CHOICES,
        "counts": {
            name: f"{getattr(whole, name):,}" for name in ("requests", "errors", "refused", "limited")
        },
        "rows": told,
        "following": following.text() if following else "",
        "later": before is not None,
    }
    return page(request, seat, "errors", context)


@require_safe
@seated("look")
def one_request(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Show what became of a request: its attempts, usage, cost and times."""
    row = get_object_or_404(RequestLog, tenant_ref=seat.tenant.pk, pk=ref)
    context = {
        "title": "Request",
        "row": row,
        "at": clock(row.at, seat.zone, seconds=True),
        "key": key_names(seat.tenant, [row.key_ref])[row.key_ref],
        "answer": answer(row),
        "by": by(row),
        "failed": row.outcome not in {RequestLog.Outcome.OK, RequestLog.Outcome.CANCELLED},
        "advice": advice(row),
        "tokens": tokens(row),
        "cost": dollars(row.cost_nanousd),
        "saved": dollars(row.saved_nanousd) if row.saved_nanousd is not None else "",
        "took": duration(row.latency_ms),
        "first_content": duration(row.ttft_ms),
        "overhead": duration(row.overhead_ms),
        "queued": duration(row.queue_ms),
        "attempts": _attempts(row.attempts),
    }
    return page(request, seat, "requests", context, template="dashboard/request.html")


def _attempts(attempts: Any) -> Sequence[dict[str, Any]]:
    """Return each try in words. A vendor's own words stay with the operators."""
    if not isinstance(attempts, list):
        return []
    return [
        {
            "by": f"{each.get('provider', '?')}/{each.get('model', '?')}",
            "outcome": each.get("outcome") or "-",
            "good": each.get("outcome") == "ok",
            "status": each.get("status") or "-",
            "began": duration(each.get("started_ms")),
            "took": duration(each.get("latency_ms")),
        }
        for each in attempts
        if isinstance(each, dict)
    ]
