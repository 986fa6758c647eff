"""What the pages of /accounts/ share with the admin: its name, styles and colours."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest

_SHARED = (
    "site_title",
    "site_header",
    "site_favicons",
    "site_symbol",
    "site_url",
    "styles",
    "scripts",
    "colors",
    "border_radius",
    "theme",
)


def accounts(request: HttpRequest) -> dict[str, Any]:
    """Give them to pages of /accounts/ alone: the admin has them already."""
    if not request.path.startswith("/accounts/") and not request.path.startswith("/admin/login/"):
        return {}
    known = admin.site.each_context(request)
    return {
        **{name: known.get(name) for name in _SHARED},
        "oidc_name": settings.GATEWAY.oidc_name if settings.GATEWAY.oidc_issuer else "",
    }
