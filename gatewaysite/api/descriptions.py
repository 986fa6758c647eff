"""What OpenAPI says of the operations that are no resource's own."""

from typing import Any

from drf_spectacular.types import OpenApiTypes

from gatewaysite.api import describing
from gatewaysite.api import record_shapes as shapes
from gatewaysite.api.budget_windows import BudgetWindows, RaiseBudget, RaiseSerializer, WindowSerializer
from gatewaysite.api.callers import KEYS
from gatewaysite.api.describing import Operation, described, in_path, query
from gatewaysite.api.documents import (
    ApplyConfig,
    Explain,
    ExportConfig,
    PurgeCache,
    Settings,
    SettingsSerializer,
    Whoami,
    WhoamiSerializer,
)
from gatewaysite.api.filters import BudgetFilters
from gatewaysite.api.key_actions import (
    DisableKey,
    EnableKey,
    KeyState,
    KeyStateSerializer,
    RotateKey,
    RotationSerializer,
)
from gatewaysite.api.limits import BUDGETS
from gatewaysite.api.provider_parts import ProviderHealth, ProviderModels
from gatewaysite.api.record_filters import AuditFilters, LedgerFilters, LogFilters
from gatewaysite.api.records import Audit, Jobs, Ledger, LogItem, Logs
from gatewaysite.api.shapes import NoFieldsSerializer, listed
from gatewaysite.api.usage import GROUPS, Usage
from proxy.api.explain import QuestionSerializer
from proxy.api.leaks import ReportLeakView, ReportSerializer

READS = {"created_at": "2026-01-31T12:00:00Z"}
KEY_READS = {
    "prefix": "sk-gw-AbC123",
    "previous_prefix": "",
    "previous_until": None,
    "disabled_because": "",
    **READS,
}
_NAME = in_path("name", "Its name.")
_ID = in_path("id", "Its id.")
_FIGURES = {"requests": 1200, "errors": 3, "cost_usd": "1.25"}


def _list(view: Any, word: str, plural: str, *, tag: str, serializer: Any, filters: Any = None) -> None:
    """Describe a list that is only read."""
    parameters = (*describing.of_filters(filters), *describing.PAGES)
    described(
        view,
        get=Operation(
            id=f"list_{plural.replace(' ', '_')}",
            tag=tag,
            summary=f"List {plural}",
            response=listed(word, serializer),
            answered={"items": [], "next_cursor": None},
            parameters=parameters,
        ),
    )


def _part(view: Any, word: str, plural: str, serializer: Any) -> None:
    """Describe a list of what belongs to a provider."""
    described(
        view,
        get=Operation(
            id=f"list_provider_{plural}",
            tag="Providers",
            summary=f"List a provider's {plural}",
            response=listed(word, serializer),
            answered={"items": [], "next_cursor": None},
            parameters=(_NAME, *describing.PAGES),
            errors=(404,),
        ),
    )


def _key_action(view: Any, verb: str, summary: str, *, request: Any = NoFieldsSerializer, sent: Any) -> None:
    answered = {"name": "acme-ci", "tenant": "acme", "enabled": True, **KEY_READS}
    described(
        view,
        post=Operation(
            id=f"{verb}_key",
            tag="Keys",
            summary=summary,
            request=request,
            response=KEYS.serializer,
            sent=sent,
            answered={**answered, "secret": "sk-gw-..."} if verb == "rotate" else answered,
            parameters=(_NAME, describing.IF_MATCH),
            errors=(404, 409, 412),
            tagged=True,
        ),
    )


RAISED = {"raised_usd": "50.00", "raised_until": "2030-01-31T00:00:00Z"}
described(
    RaiseBudget,
    post=Operation(
        id="raise_budget",
        tag="Limits and budgets",
        summary="Raise a budget for a while",
        request=RaiseSerializer,
        response=BUDGETS.serializer,
        sent=RAISED,
        answered={"id": 7, **BUDGETS.example, **RAISED},
        parameters=(_ID, describing.IF_MATCH),
        errors=(404, 409, 412),
        tagged=True,
    ),
    delete=Operation(
        id="end_raise",
        tag="Limits and budgets",
        summary="End a budget's raise",
        response=BUDGETS.serializer,
        answered={"id": 7, **BUDGETS.example},
        parameters=(_ID, describing.IF_MATCH),
        errors=(404, 409, 412),
        tagged=True,
    ),
)
described(
    KeyState,
    get=Operation(
        id="get_key_state",
        tag="Keys",
        summary="Read whether a key is accepted, and when it was used",
        response=KeyStateSerializer,
        answered={"state": "active", "last_used_at": "2026-01-31T12:00:00Z"},
        parameters=(_NAME,),
        errors=(404,),
    ),
)
described(
    LogItem,
    get=Operation(
        id="get_log",
        tag="Usage",
        summary="Read a request with its attempts",
        response=shapes.LogDetailSerializer,
        answered={"completion_id": "chatcmpl-1", "status": 200, "outcome": "ok", "attempts": []},
        parameters=(in_path("completion_id", "The answer's id."),),
        errors=(404,),
    ),
)
described(
    Usage,
    get=Operation(
        id="get_usage",
        tag="Usage",
        summary="Read sums of usage",
        description="What traffic came to from `since` up to `until` (widened to whole hours or days of "
        "`zone`), in all and by one thing. Costs are the ledger's to the nano-dollar.",
        response=shapes.UsageSerializer,
        answered={"by": "model", "totals": _FIGURES, "groups": [{"name": "openai/gpt-4o-mini", **_FIGURES}]},
        parameters=(
            query("by", f"{', '.join(GROUPS)} or tag:NAME. Default day."),
            query("since", "From when on; default 30 days before `until`, by hour 24 hours."),
            query("until", "Up to when; default the end of today, or of this hour."),
            query("zone", "Whose days and hours: Europe/Berlin. Default UTC."),
            query("tenant", "A tenant's name."),
            query("key", "A key's name."),
            query("provider", "A provider's name."),
            query("model", "A model, as the vendor calls it."),
            query("tag", "NAME=VALUE."),
            query(
                "latency",
                "Quantiles of latency and of the time to the first content.",
                enum=["true", "false"],
            ),
        ),
    ),
)
described(
    ExportConfig,
    get=Operation(
        id="export_config",
        tag="Configuration",
        summary="Export the configuration as YAML",
        description="What `manage.py export_config` writes; stored secrets are left out.",
        response=OpenApiTypes.OBJECT,
        media="application/yaml",
        answered={"version": 1, "providers": [], "tenants": [{"name": "acme"}]},
    ),
)
described(
    ApplyConfig,
    post=Operation(
        id="apply_config",
        tag="Configuration",
        summary="Apply a configuration file",
        description="YAML (`application/yaml`), or JSON of the same form: all of it, or nothing and every "
        "problem by its path. With `dry_run=true` nothing is written, and `diff` shows what would be.",
        request={"application/json": OpenApiTypes.OBJECT, "application/yaml": OpenApiTypes.STR},
        response=shapes.AppliedSerializer,
        sent={"version": 1, "tenants": [{"name": "acme", "timezone": "Europe/Berlin"}]},
        answered={"dry_run": True, "changes": [], "unchanged": ["tenant acme"], "diff": ""},
        parameters=(query("dry_run", "Change nothing, only tell.", enum=["true", "false"]),),
        errors=(409,),
    ),
)
_SETTINGS = {"default_provider": "openai", "default_model": "gpt-4o-mini", "cache_ttl_seconds": 3600}
described(
    Settings,
    get=Operation(
        id="get_settings",
        tag="Configuration",
        summary="Read the settings",
        response=SettingsSerializer,
        answered=_SETTINGS,
        parameters=(describing.IF_CHANGED,),
        also={304: None},
        tagged=True,
    ),
    put=Operation(
        id="put_settings",
        tag="Configuration",
        summary="Replace the settings",
        request=SettingsSerializer,
        response=SettingsSerializer,
        sent={"default_model": "demo/echo", "cache_ttl_seconds": 3600},
        answered=_SETTINGS,
        parameters=(describing.IF_MATCH, describing.IF_NONE_MATCH),
        errors=(409, 412),
        tagged=True,
    ),
    patch=Operation(
        id="patch_settings",
        tag="Configuration",
        summary="Change some settings",
        request=SettingsSerializer,
        response=SettingsSerializer,
        sent={"cache_ttl_seconds": 60},
        answered=_SETTINGS,
        parameters=(describing.IF_MATCH,),
        errors=(409, 412),
        tagged=True,
    ),
)
described(
    PurgeCache,
    post=Operation(
        id="purge_cache",
        tag="Cache",
        summary="Purge the cache",
        description="Every cached answer becomes unreachable, in all workers within a second.",
        request=NoFieldsSerializer,
        response=shapes.PurgedSerializer,
        sent={},
        answered={"epoch": 2},
    ),
)
described(
    Whoami,
    get=Operation(
        id="whoami",
        tag="Access",
        summary="Who asks",
        response=WhoamiSerializer,
        answered={
            "username": "admin",
            "staff": True,
            "token": "ci",
            "scopes": ["config:read"],
            "tenants": [],
        },
    ),
)
described(
    Explain,
    post=Operation(
        id="explain",
        tag="Explain",
        summary="Explain what would become of a request",
        description="Route, targets with reasons, cache, limits, price; nothing is called. With a token, a "
        "session or a caller's own key.",
        request=QuestionSerializer,
        response=OpenApiTypes.OBJECT,
        sent={"body": {"model": "demo/echo", "messages": [{"role": "user", "content": "Hi"}]}},
        answered={"answer": "It would be sent."},
        errors=(404, 503),
    ),
)
described(
    ReportLeakView,
    post=Operation(
        id="report_leak",
        tag="Keys",
        summary="Report a leaked secret",
        description="Disables its key at once. Nobody need sign in.",
        request=ReportSerializer,
        response=OpenApiTypes.OBJECT,
        sent={"key": "sk-gw-..."},
        answered={"reported": [{"prefix": "sk-gw-AbC123", "status": "unknown"}]},
        security=[],
    ),
)


_key_action(
    RotateKey, "rotate", "Give a key another secret", request=RotationSerializer, sent={"overlap": "24h"}
)
_key_action(DisableKey, "disable", "Disable a key", sent={})
_key_action(EnableKey, "enable", "Enable a key", sent={})
_part(ProviderModels, "ProviderModel", "models", shapes.ProviderModelSerializer)
_part(ProviderHealth, "UpstreamHealth", "health", shapes.HealthSerializer)
_list(
    BudgetWindows,
    "BudgetWindow",
    "budget windows",
    tag="Limits and budgets",
    serializer=WindowSerializer,
    filters=BudgetFilters,
)
_list(Logs, "Log", "logs", tag="Usage", serializer=shapes.LogSerializer, filters=LogFilters)
_list(
    Ledger,
    "LedgerEntry",
    "ledger entries",
    tag="Usage",
    serializer=shapes.LedgerSerializer,
    filters=LedgerFilters,
)
_list(
    Audit, "AuditEntry", "audit entries", tag="Audit", serializer=shapes.AuditSerializer, filters=AuditFilters
)
_list(Jobs, "Job", "jobs", tag="Configuration", serializer=shapes.JobSerializer)
