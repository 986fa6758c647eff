"""The playground: a page whose script talks to the API itself, with a key that the browser alone keeps."""

import os
import secrets as random
from datetime import timedelta
from urllib.parse import urlsplit

from csp.decorators import csp_update
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from analytics.dashboard.access import MADE_BY, PLAYGROUND, Seat, seated
from analytics.dashboard.log_rows import tokens
from analytics.dashboard.pages import at, base_url, page
from analytics.dashboard.reach import Reach
from analytics.models import RequestLog
from config.money import usd
from config.words import dollars
from keys.models import ApiKey

LASTS = timedelta(hours=1)


@require_safe
@seated("use")
def playground(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """Show it."""
    calls = api_url(request)
    settings = {
        "base": base_url(request),
        "calls": calls,
        "makeKey": at(seat, "playground-key"),
        "cost": at(seat, "playground-cost"),
        # Kept apart by person and tenant: a browser may be shared.
        "store": f"playground-{seat.user.pk}-{seat.tenant.pk}",
    }
    # Where the API is at another origin, the page's policy lets the script go there as well.
    allowed = csp_update({"connect-src": [urlsplit(calls)._replace(path="", query="").geturl()]})
    show = allowed(lambda request: page(request, seat, "playground", {"settings": settings}))
    return show(request)


def api_url(request: HttpRequest) -> str:
    """Return where the script sends to: here, but for a process that serves no API itself."""
    if os.environ.get("GATEWAY_PLANE") == "control":
        return base_url(request)
    return request.build_absolute_uri("/").rstrip("/")


@require_POST
@seated("use")
@sensitive_variables()
def playground_key(_request: HttpRequest, seat: Seat) -> JsonResponse:
    """Make this person's playground key, or give it a new secret: for an hour, shown in this answer alone."""
    with transaction.atomic():
        mine = ApiKey.objects.select_for_update(of=("self",)).filter(
            tenant=seat.tenant, tags__made_by=seat.maker, tags__playground="yes"
        )
        key, secret = mine.order_by("pk").first(), ""
        if key is not None and not key.enabled:
            return JsonResponse(
                {"error": f"Your key {key.name} is disabled. Enable it under Keys."}, status=409
            )
        if key is None:
            key, secret = ApiKey.issue(
                tenant=seat.tenant,
                name=_name(seat),
                tags={MADE_BY: seat.maker, PLAYGROUND: "yes"},
            )
        else:
            secret = key.rotate(until=None)
        reach = Reach.of(seat.tenant)
        key.expires_at = timezone.now() + LASTS
        key.allowed_models, key.denied_models = list(reach.allowed), list(reach.denied)
        key.save()
    expires = f"{key.expires_at.astimezone(seat.zone):%H:%M} ({seat.zone.key})"
    response = JsonResponse({"secret": secret, "name": key.name, "expires": expires})
    response["Cache-Control"] = "no-store"
    return response


def _name(seat: Seat) -> str:
    """Return a name that no key has: they are unique in the whole gateway."""
    return f"playground {seat.maker[:40]} {random.token_hex(5)}"


@require_safe
@seated("use")
def playground_cost(request: HttpRequest, seat: Seat) -> JsonResponse:
    """Say what a request of this tenant has cost, by its x-request-id; it is booked in a second or two."""
    request_id = request.GET.get("request_id", "")[:128]
    rows = RequestLog.objects.filter(tenant_ref=seat.tenant.pk, request_id=request_id)
    row = rows.order_by("-at").first() if request_id else None
    if row is None:
        return JsonResponse({"found": False})
    return JsonResponse(
        {
            "found": True,
            "cost": dollars(row.cost_nanousd),
            "cost_usd": None if row.cost_nanousd is None else usd(row.cost_nanousd),
            "tokens": tokens(row),
            "url": at(seat, "request", ref=row.pk),
        }
    )
