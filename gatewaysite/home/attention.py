"""What needs attention: configuration, providers, routes, jobs, budgets; each with a link to its repair."""

from collections.abc import Iterator

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from config.vault import SecretUnreadable
from gatewaysite.admin_jobs import failing_jobs, title_of
from keys.admin_limits import used_up
from providers.models import Provider
from proxy.admin_status import configuration_badge
from proxy.models import Route, Target

SHOWN_PROBLEMS = 20

Problem = dict[str, str]


def problems(request: HttpRequest) -> Iterator[Problem]:
    """Yield what is wrong, of what the user may see."""
    badge = configuration_badge(request)
    if badge and badge[1] == "danger":
        yield {"text": badge[0], "url": reverse("admin:proxy_route_changelist")}
    for permission, found in (
        ("providers.view_provider", _providers),
        ("proxy.view_route", _routes),
        ("config.view_jobrun", _jobs),
        ("keys.view_budget", _budgets),
    ):
        if request.user.has_perm(permission):
            yield from found()


def _providers() -> Iterator[Problem]:
    for provider in Provider.objects.filter(enabled=True).only("name", "credential", "models_error"):
        problem = _problem_of(provider)
        if problem:
            url = reverse("admin:providers_provider_change", args=[provider.pk])
            yield {"text": f"Provider {provider}: {problem}", "url": url}


def _problem_of(provider: Provider) -> str:
    try:
        if (variable := provider.unset_variable) and not provider.first_credential():
            return f"the environment variable {variable} is not set."
    except SecretUnreadable as problem:
        return f"{problem}."
    return provider.models_error


def _routes() -> Iterator[Problem]:
    # One with chains and shadows alone goes nowhere too.
    going = Q(targets__role__in=Target.ASKED_ROLES)
    for route in Route.objects.filter(enabled=True).exclude(going)[:SHOWN_PROBLEMS]:
        url = reverse("admin:proxy_route_change", args=[route.pk])
        yield {"text": f"Route {route}: it has no target, so its requests fail.", "url": url}


def _jobs() -> Iterator[Problem]:
    for job in failing_jobs():
        url = reverse("admin:config_jobrun_change", args=[job.pk])
        yield {"text": f"Job {title_of(job)} fails: {job.problem}", "url": url}


def _budgets() -> Iterator[Problem]:
    for budget in used_up(timezone.now()):
        url = reverse("admin:keys_budget_change", args=[budget.pk])
        yield {"text": f"Budget {budget} for {budget.scope}: nothing is left.", "url": url}
