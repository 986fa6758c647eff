"""What every page of the dashboard has: its frame, and the menu of what this person may open."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from analytics.dashboard.access import Right, Seat, tenants_of

# Name of the page, what it is called, and the right that it asks for.
MENU: tuple[tuple[str, str, Right], ...] = (
    ("overview", "Overview", "look"),
    ("requests", "Requests", "look"),
    ("errors", "Errors", "look"),
    ("models", "Models", "look"),
    ("keys", "Keys", "look"),
    ("playground", "Playground", "use"),
    ("members", "Members", "manage"),
    ("settings", "Settings", "manage"),
)

_TITLES = {entry: title for entry, title, _ in MENU}


def page(
    request: HttpRequest,
    seat: Seat,
    name: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    template: str = "",
) -> HttpResponse:
    """Return the page `name` of the menu, by its template or by another one below the same entry."""
    menu = [
        {"title": title, "url": at(seat, entry), "current": entry == name}
        for entry, title, right in MENU
        if seat.may(right)
    ]
    told = {
        "seat": seat,
        "tenant": seat.tenant,
        "tenants": tenants_of(seat.user),
        "menu": menu,
        "title": _TITLES[name],
        "zone_name": seat.zone.key,
        "may_use": seat.may("use"),
        "may_manage": seat.may("manage"),
        **(context or {}),
    }
    return render(request, template or f"dashboard/{name}.html", told, status=status)


def at(seat: Seat, name: str, **arguments: Any) -> str:
    """Return the address of a page at this tenant."""
    return reverse(f"dashboard:{name}", kwargs={"tenant": seat.tenant.name, **arguments})


def base_url(request: HttpRequest) -> str:
    """Return where the API is, without a slash at its end: APP_BASE_URL, else where this page is."""
    base: str = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
    return base.rstrip("/")
