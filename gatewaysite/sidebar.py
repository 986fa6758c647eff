"""The admin's sidebar: every screen once, for those who may open it."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def _screen(title: str, icon: str, model: str) -> dict[str, Any]:
    app, name = model.split(".")

    def allowed(request: HttpRequest) -> bool:
        return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))

    link = reverse_lazy(f"admin:{app}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": allowed}


RECONCILIATION = reverse_lazy("admin:analytics_vendorimport_drift")
LIVE = reverse_lazy("admin:analytics_requestlog_live")
EXPLAIN = reverse_lazy("admin:proxy_route_explain")


def _at_routes(request: HttpRequest) -> bool:
    """Is it a page of routes? The one that explains stands below their path, and has an entry of its own."""
    routes = str(reverse_lazy("admin:proxy_route_changelist"))
    return request.path.startswith(routes) and request.path != str(EXPLAIN)


def _at_log(request: HttpRequest) -> bool:
    """Is it a page of the log? The live screen stands below its path, as above."""
    log = str(reverse_lazy("admin:analytics_requestlog_changelist"))
    return request.path.startswith(log) and request.path != str(LIVE)


def _at_vendor_exports(request: HttpRequest) -> bool:
    """Is it a page of exports? The one that compares them stands below their path, as above."""
    exports = str(reverse_lazy("admin:analytics_vendorimport_changelist"))
    return request.path.startswith(exports) and request.path != str(RECONCILIATION)


SIDEBAR: dict[str, Any] = {
    "show_search": True,
    "navigation": [
        {
            "items": [{"title": "Overview", "icon": "home", "link": reverse_lazy("admin:index")}],
        },
        {
            "title": "Traffic",
            "separator": True,
            "items": [
                _screen("Request log", "receipt_long", "analytics.requestlog") | {"active": _at_log},
                {
                    "title": "Live",
                    "icon": "sensors",
                    "link": LIVE,
                    "permission": lambda request: request.user.has_perm("analytics.view_requestlog"),
                },
                _screen("Routes", "alt_route", "proxy.route") | {"active": _at_routes},
                {
                    "title": "Explain",
                    "icon": "help",
                    "link": EXPLAIN,
                    "permission": lambda request: request.user.has_perm("proxy.view_route"),
                },
                _screen("Cache exclusions", "block", "proxy.cacheexclusion"),
                _screen("Gateway settings", "tune", "proxy.gatewaysettings"),
                _screen("Jobs", "schedule", "config.jobrun"),
            ],
        },
        {
            "title": "Vendors",
            "separator": True,
            "items": [
                _screen("Providers", "cloud", "providers.provider"),
                _screen("Upstream health", "monitor_heart", "proxy.upstreamstate"),
                _screen("Models", "view_list", "providers.providermodel"),
                _screen("Prices", "payments", "providers.price"),
            ],
        },
        {
            "title": "Access",
            "separator": True,
            "items": [
                _screen("Tenants", "groups", "keys.tenant"),
                _screen("Members", "badge", "keys.member"),
                _screen("API keys", "vpn_key", "keys.apikey"),
                _screen("Rate limits", "speed", "keys.ratelimit"),
                _screen("Budgets", "savings", "keys.budget"),
                _screen("Budget alerts", "notifications", "keys.budgetalert"),
            ],
        },
        {
            "title": "Money",
            "separator": True,
            "items": [
                _screen("Ledger", "account_balance", "keys.ledgerentry"),
                _screen("Re-rating", "currency_exchange", "analytics.rerating"),
                {
                    "title": "Reconciliation",
                    "icon": "balance",
                    "link": RECONCILIATION,
                    "permission": lambda request: request.user.has_perm("analytics.view_vendorimport"),
                },
                _screen("Vendor exports", "upload_file", "analytics.vendorimport")
                | {"active": _at_vendor_exports},
            ],
        },
        {
            "title": "People",
            "separator": True,
            "items": [
                _screen("Users", "person", "auth.user"),
                _screen("Roles", "badge", "auth.group"),
                _screen("API tokens", "token", "gatewaysite.apitoken"),
                _screen("Audit log", "history", "auditlog.logentry"),
            ],
        },
    ],
}
