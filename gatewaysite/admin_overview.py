"""The admin's first page: what needs attention, what there is, and the latest requests."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from analytics.models import RequestLog
from config.vault import SecretUnreadable
from config.words import dollars
from gatewaysite.admin_jobs import failing_jobs, title_of
from keys.admin_limits import used_up
from keys.models import ApiKey
from providers.models import Provider
from proxy.admin_status import configuration_badge
from proxy.models import Route, Target

LATEST = 8
SHOWN_PROBLEMS = 20


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the page shows; each part only to those who may open its screen."""
    base = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
    context |= {
        "title": "Overview",
        "base_url": f"{base.rstrip('/')}/v1",
        "problems": list(_problems(request))[:SHOWN_PROBLEMS],
        "cards": list(_cards(request)),
        "latest": list(_latest(request)),
        "log_url": reverse("admin:analytics_requestlog_changelist"),
        "new_key_url": reverse("admin:keys_apikey_add"),
    }
    return context


def _problems(request: HttpRequest) -> Iterator[dict[str, str]]:
    badge = configuration_badge(request)
    if badge and badge[1] == "danger":
        yield {"text": badge[0], "url": reverse("admin:proxy_route_changelist")}
    if request.user.has_perm("providers.view_provider"):
        for provider in Provider.objects.filter(enabled=True).only("name", "credential", "models_error"):
            problem = _problem_of(provider)
            if problem:
                url = reverse("admin:providers_provider_change", args=[provider.pk])
                yield {"text": f"Provider {provider}: {problem}", "url": url}
    if request.user.has_perm("proxy.view_route"):
        # One with chains and shadows alone goes nowhere too.
        going = Q(targets__role__in=Target.ASKED_ROLES)
        for route in Route.objects.filter(enabled=True).exclude(going)[:SHOWN_PROBLEMS]:
            url = reverse("admin:proxy_route_change", args=[route.pk])
            yield {"text": f"Route {route}: it has no target, so its requests fail.", "url": url}
    yield from _failing_jobs(request)
    if request.user.has_perm("keys.view_budget"):
        for budget in used_up(timezone.now()):
            url = reverse("admin:keys_budget_change", args=[budget.pk])
            yield {"text": f"Budget {budget} for {budget.scope}: nothing is left.", "url": url}


def _failing_jobs(request: HttpRequest) -> Iterator[dict[str, str]]:
    if request.user.has_perm("config.view_jobrun"):
        for job in failing_jobs():
            url = reverse("admin:config_jobrun_change", args=[job.pk])
            yield {"text": f"Job {title_of(job)} fails: {job.problem}", "url": url}


def _problem_of(provider: Provider) -> str:
    try:
        if (variable := provider.unset_variable) and not provider.first_credential():
            return f"the environment variable {variable} is not set."
    except SecretUnreadable as problem:
        return f"{problem}."
    return provider.models_error


def _cards(request: HttpRequest) -> Iterator[dict[str, Any]]:
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


def _latest(request: HttpRequest) -> Iterator[dict[str, Any]]:
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
