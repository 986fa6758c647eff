"""The page at `/`: where the gateway is and how to send it a first request."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """Show the base URL. It asks no database, so it is there when nothing else is."""
    base_url = settings.GATEWAY.app_base_url.rstrip("/") or request.build_absolute_uri("/").rstrip("/")
    return render(request, "landing.html", {"base_url": base_url})
