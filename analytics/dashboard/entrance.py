"""/dashboard/: to the tenant that one has been at, the only one, a choice, or what to do without any."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from analytics.dashboard.access import LAST_TENANT, may_visit, tenants_of
from keys.models import Tenant

SHOWN_TO_OPERATORS = 200


@require_safe
@never_cache
@login_required
def entrance(request: HttpRequest) -> HttpResponse:
    """Lead a person to a tenant."""
    tenants = tenants_of(request.user)
    last = next((each for each in tenants if each.pk == request.session.get(LAST_TENANT)), None)
    if last is None and len(tenants) == 1:
        last = tenants[0]
    if last is not None and "choose" not in request.GET:
        return HttpResponseRedirect(reverse("dashboard:overview", kwargs={"tenant": last.name}))
    visits = may_visit(request.user)
    others = Tenant.objects.exclude(pk__in=[each.pk for each in tenants]).order_by("name")
    context = {
        "title": "Tenants",
        "tenants": tenants,
        "visited": list(others[:SHOWN_TO_OPERATORS]) if visits else [],
        "visits": visits,
    }
    return render(request, "dashboard/entrance.html", context)
