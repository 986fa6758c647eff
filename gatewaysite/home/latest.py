"""The first page's rows as they are: how many there are of each, and the latest requests."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from analytics.models import RequestLog
from config.words import dollars
from keys.models import ApiKey
from providers.models import Provider
from proxy.models import Route

LATEST = 8


def counts(request: HttpRequest) -> Iterator[dict[str, Any]]:
    """Yield how many rows there are, of those whose screens the user may open."""
    valid = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    counted: Sequence[tuple[str, str, QuerySet[Any]]] = (
        ("Providers in use", "providers.provider", Provider.objects.filter(enabled=True)),
        ("Routes in use", "proxy.route", Route.objects.filter(enabled=True)),
        ("Active API keys", "keys.apikey", ApiKey.objects.filter(valid, enabled=True)),
    )
    for title, model, rows in counted:
        app, name = model.split(".")
        if request.user.has_perm(f"{app}.view_{name}"):
            yield {"title": title, "count": rows.count(), "url": reverse(f"admin:{app}_{name}_changelist")}


def latest(request: HttpRequest) -> Iterator[dict[str, Any]]:
    """Yield the latest requests, for who may see the log."""
    if not request.user.has_perm("analytics.view_requestlog"):
        return
    for row in RequestLog.objects.order_by("-at", "-id")[:LATEST]:
        yield {
            "row": row,
            "url": reverse("admin:analytics_requestlog_change", args=[row.pk]),
            "upstream": f"{row.provider}/{row.model}" if row.provider else "-",
            "cost": dollars(row.cost_nanousd, unknown="-"),
            "good": row.outcome == RequestLog.Outcome.OK,
        }
