"""Every address under /api/v1/."""

from django.urls import URLPattern, URLResolver, include, path

from gatewaysite.api.addresses import addresses
from gatewaysite.api.budget_windows import BudgetWindows, RaiseBudget
from gatewaysite.api.callers import KEYS, TENANTS
from gatewaysite.api.descriptions import KEY_READS, READS
from gatewaysite.api.documents import ApplyConfig, Explain, ExportConfig, PurgeCache, Settings, Whoami
from gatewaysite.api.exclusions import EXCLUSIONS, MEMBERS
from gatewaysite.api.key_actions import DisableKey, EnableKey, KeyItem, KeyList, KeyState, RotateKey
from gatewaysite.api.limits import BUDGETS, RATE_LIMITS
from gatewaysite.api.member_views import MemberItem, MemberList
from gatewaysite.api.provider_parts import ProviderHealth, ProviderModels
from gatewaysite.api.providers import PRICES, PROVIDERS
from gatewaysite.api.records import Audit, Jobs, Ledger, LogItem, Logs
from gatewaysite.api.routes import ROUTES
from gatewaysite.api.usage import Usage
from proxy.api.leaks import ReportLeakView

# What stands below a name comes before the name itself, which may hold slashes.
urlpatterns: list[URLPattern | URLResolver] = [
    path("whoami", Whoami.as_view(), name="whoami"),
    path("explain", Explain.as_view(), name="explain"),
    path("keys/report-leak", ReportLeakView.as_view(), name="report-leak"),
    path("keys/<path:name>/rotate", RotateKey.as_view(), name="key-rotate"),
    path("keys/<path:name>/disable", DisableKey.as_view(), name="key-disable"),
    path("keys/<path:name>/enable", EnableKey.as_view(), name="key-enable"),
    path("keys/<path:name>/state", KeyState.as_view(), name="key-state"),
    *addresses(KEYS, list_view=KeyList, item_view=KeyItem, reads=KEY_READS),
    path("providers/<str:name>/models", ProviderModels.as_view(), name="provider-models"),
    path("providers/<str:name>/health", ProviderHealth.as_view(), name="provider-health"),
    *addresses(PROVIDERS, reads={"credential": "from ${OPENAI_API_KEY}", **READS}),
    *addresses(PRICES, reads={"source": "operator"}),
    *addresses(ROUTES),
    path("cache/purge", PurgeCache.as_view(), name="purge-cache"),
    *addresses(EXCLUSIONS),
    path("settings", Settings.as_view(), name="settings"),
    *addresses(
        MEMBERS,
        under="tenants/<str:tenant>/",
        reads={"tenant": "acme", "username": "ada"},
        adding=False,
        list_view=MemberList,
        item_view=MemberItem,
    ),
    *addresses(TENANTS, reads={"has_alert_webhook": False, **READS}),
    *addresses(RATE_LIMITS, reads={"id": 7}),
    path("budgets/<int:id>/raise", RaiseBudget.as_view(), name="budget-raise"),
    *addresses(BUDGETS, reads={"id": 7}),
    path("budget-windows", BudgetWindows.as_view(), name="budget-window-list"),
    path("usage", Usage.as_view(), name="usage"),
    path("logs", Logs.as_view(), name="log-list"),
    path("logs/<path:completion_id>", LogItem.as_view(), name="log-item"),
    path("ledger", Ledger.as_view(), name="ledger"),
    path("audit", Audit.as_view(), name="audit"),
    path("jobs", Jobs.as_view(), name="job-list"),
    path("config/export", ExportConfig.as_view(), name="config-export"),
    path("config/apply", ApplyConfig.as_view(), name="config-apply"),
    path("", include("proxy.api.urls")),  # whatever is not there
]
