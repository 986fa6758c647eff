"""The admin's first page, and the part of it that is fetched again and again."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from gatewaysite.home.attention import SHOWN_PROBLEMS, problems
from gatewaysite.home.breakdowns import breakdowns
from gatewaysite.home.figures import overall
from gatewaysite.home.health import providers_health, workers_alive, workers_health
from gatewaysite.home.latest import counts, latest
from gatewaysite.home.nearness import near_budgets, near_limits
from gatewaysite.home.ranges import CHOICES, CUSTOM, Range, read_range

# Who may see sums of usage; tables by tenant and key need the right to see those, too.
USAGE = ("analytics.view_usagerollup", "analytics.view_requestlog")


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the page shows; each part only to those who may open its screen."""
    return context | {"title": "Overview", **_parts(request)}


def refresh(request: HttpRequest) -> HttpResponse:
    """Show the part of the page that changes by itself."""
    answer = render(request, "admin/home/parts.html", _parts(request))
    answer["Cache-Control"] = "no-store"
    return answer


refresh_view = admin.site.admin_view(refresh)


def _parts(request: HttpRequest) -> dict[str, Any]:
    now = timezone.now()
    base = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
    chosen = read_range(request.GET, now)
    parts: dict[str, Any] = {
        "base_url": f"{base.rstrip('/')}/v1",
        "problems": list(problems(request))[:SHOWN_PROBLEMS],
        "counts": list(counts(request)),
        "latest": list(latest(request)),
        "may_see_log": request.user.has_perm("analytics.view_requestlog"),
        "log_url": reverse("admin:analytics_requestlog_changelist"),
        "live_url": reverse("admin:analytics_requestlog_live"),
        "new_key_url": reverse("admin:keys_apikey_add"),
        "health_url": reverse("admin:proxy_upstreamstate_changelist"),
        "new_provider_url": reverse("admin:providers_provider_add"),
        "refresh_url": f"{reverse('overview_parts')}?{request.GET.urlencode()}",
        "at": now,
        **_picker(request, chosen),
    }
    if request.user.has_perms(["proxy.view_upstreamstate", "providers.view_provider"]):
        parts["health"] = providers_health(now)
    workers = workers_alive(now)
    if request.user.has_perm("proxy.view_upstreamstate"):
        parts["work"] = workers_health(workers, now)
    if request.user.has_perm("keys.view_ratelimit"):
        parts["near_limits"] = near_limits(request, workers, now)
        parts["shows_near_limits"] = True
    if request.user.has_perm("keys.view_budget"):
        parts["near"] = near_budgets(now)
        parts["shows_near"] = True
    if any(request.user.has_perm(permission) for permission in USAGE):
        parts |= _usage(request, chosen)
    return parts


def _usage(request: HttpRequest, chosen: Range) -> dict[str, Any]:
    found = overall(chosen)
    return {
        "shows_usage": True,
        "has_usage": bool(found.whole.requests or found.whole.cost_nanousd),
        "cards": found.cards,
        "charts": found.charts,
        "tables": list(breakdowns(request, chosen, found.whole)),
    }


def _picker(request: HttpRequest, chosen: Range) -> dict[str, Any]:
    period = chosen.period
    return {
        "range": chosen,
        "choices": [(name, title) for name, (title, *_) in CHOICES.items()] + [(CUSTOM, "From … to …")],
        "chosen": request.GET.get("range") if chosen.problem else chosen.name,
        "since": request.GET.get("from") or f"{period.since:%Y-%m-%dT%H:%M}",
        "until": request.GET.get("to") or f"{period.until:%Y-%m-%dT%H:%M}",
        "step": request.GET.get("step", ""),
    }
