"""What the read-only answers look like, for OpenAPI."""

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers as s

from analytics.models import RequestLog
from config.models import JobRun
from gatewaysite.api.shapes import Anything, Dollars, SignedDollars, TextByName, shape
from keys.models import LedgerEntry


def _texts(*names: str, null: Sequence[str] = ()) -> dict[str, Any]:
    return {name: s.CharField(allow_blank=True, allow_null=name in null) for name in names}


def _numbers(*names: str, null: bool = False) -> dict[str, Any]:
    return {name: s.IntegerField(allow_null=null) for name in names}


_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_OWNER = _texts("tenant", "key", null=("tenant", "key"))
_LOG: dict[str, Any] = {
    "at": s.DateTimeField(help_text="When the request arrived."),
    **_texts("completion_id", "request_id", "endpoint", "requested_model", "route", "provider", "model"),
    "status": s.IntegerField(),
    "outcome": s.ChoiceField(choices=RequestLog.Outcome.values),
    **_texts("error_code", "cache"),
    "stream": s.BooleanField(),
    "usage_estimated": s.BooleanField(),
    **_numbers(*_TOKENS, null=True),
    "latency_ms": s.FloatField(),
    **{name: s.FloatField(allow_null=True) for name in ("ttft_ms", "overhead_ms", "queue_ms")},
    **_OWNER,
    "tags": TextByName(),
    "cost_usd": Dollars(allow_null=True, help_text="Null: no price is known."),
    "saved_usd": Dollars(allow_null=True, help_text="Of a cache hit: what it would have cost."),
}
LogSerializer = shape("Log", _LOG, "A request.")
AttemptSerializer = shape(
    "Attempt",
    {
        **_texts("provider", "model", "outcome", "error", null=("provider", "model", "outcome", "error")),
        "started_ms": s.FloatField(allow_null=True, help_text="After the request's arrival."),
        "latency_ms": s.FloatField(allow_null=True),
        "status": s.IntegerField(allow_null=True),
        "cost_usd": Dollars(allow_null=True, help_text="Where several attempts have cost something."),
    },
    "One try at one upstream.",
)
LogDetailSerializer = shape(
    "LogDetail",
    {**_LOG, "attempts": AttemptSerializer(many=True), "limits": Anything(allow_null=True)},
    "A request with its attempts.",
)
LedgerSerializer = shape(
    "LedgerEntry",
    {
        "at": s.DateTimeField(),
        **_numbers("id", "attempt", "revision"),
        **_texts("completion_id", "provider", "model", "requested_model"),
        "kind": s.ChoiceField(choices=LedgerEntry.Kind.values),
        **_numbers(*_TOKENS),
        **{name: s.BooleanField() for name in ("estimated", "own_credential", "shadow")},
        **_OWNER,
        "tags": TextByName(),
        "cost_usd": SignedDollars(
            allow_null=True, help_text="Null: no price was known. Corrections may be negative."
        ),
    },
    "What an attempt has cost, or a correction of that.",
)
_PAIR = {
    "type": "object",
    "properties": {name: {"type": "string", "nullable": True} for name in ("before", "after")},
    "required": ["before", "after"],
}


@extend_schema_field({"type": "object", "additionalProperties": _PAIR})
class Changed(s.JSONField):
    """Field -> what it was and what it is."""


AuditSerializer = shape(
    "AuditEntry",
    {
        "id": s.IntegerField(),
        "at": s.DateTimeField(),
        **_texts("actor", "remote_addr", null=("actor", "remote_addr")),
        "action": s.ChoiceField(choices=["create", "update", "delete", "access"]),
        **_texts("kind", "object_id", "name"),
        "changes": Changed(),
    },
    "Who changed what.",
)
JobSerializer = shape(
    "Job",
    {
        "name": s.CharField(),
        "state": s.ChoiceField(choices=JobRun.State.values),
        **_texts("result", "problem"),
        **_numbers("runs", "failures"),
        "started_at": s.DateTimeField(),
        **{name: s.DateTimeField(allow_null=True) for name in ("finished_at", "failing_since")},
    },
    "How a periodic job's last run went.",
)
_QUANTILES = shape(
    "Quantiles",
    {f"p{percent}": s.FloatField(allow_null=True) for percent in (50, 95, 99)},
    "Milliseconds, about.",
)
_FIGURES: dict[str, Any] = {
    **_numbers(
        *("requests", "errors", "refused", "limited", "cancelled", "streams", "hits", "misses", "attempts"),
        *_TOKENS,
        "unpriced",
    ),
    "cost_usd": SignedDollars(help_text="The ledger's sum, exactly."),
    "unbilled_usd": SignedDollars(help_text="Of the cost: in no budget."),
    "saved_usd": SignedDollars(help_text="What cache hits did not cost."),
    "latency_ms": _QUANTILES(required=False),
    "ttft_ms": _QUANTILES(required=False),
}
UsageSerializer = shape(
    "Usage",
    {
        "since": s.DateTimeField(),
        "until": s.DateTimeField(),
        **_texts("zone", "by"),
        "totals": shape("Figures", _FIGURES, "Sums.")(),
        "groups": shape(
            "UsageGroup",
            {
                "name": s.CharField(allow_null=True, allow_blank=True, help_text="Null: without one."),
                **_FIGURES,
            },
            "Sums of one of them.",
        )(many=True),
        "groups_left_out": s.IntegerField(help_text="How many more there are."),
    },
    "What traffic came to.",
)
DifferenceSerializer = shape(
    "Difference",
    {
        "what": s.CharField(),
        "action": s.ChoiceField(choices=["created", "changed", "removed"]),
        "fields": Changed(help_text="Secrets are told by that they differ."),
    },
    "A row that differs.",
)
AppliedSerializer = shape(
    "Applied",
    {
        "dry_run": s.BooleanField(),
        "changes": DifferenceSerializer(many=True),
        "unchanged": s.ListField(child=s.CharField()),
        "left_alone": s.DictField(
            child=s.IntegerField(), help_text="What the file does not mention: how many."
        ),
        "warnings": s.ListField(child=s.CharField()),
        "secrets": s.DictField(child=s.CharField(), help_text="Of new keys, by name: shown only now."),
        "diff": s.CharField(
            allow_blank=True, help_text="The changes for people, as `apply_config --dry-run` prints them."
        ),
    },
    "What applying a file has changed.",
)
PurgedSerializer = shape("Purged", {"epoch": s.IntegerField()}, "The cache is empty.")
HealthSerializer = shape(
    "UpstreamHealth",
    {
        **_texts("upstream", "state", "reason", "worker"),
        "failures": s.IntegerField(),
        "held_open": s.BooleanField(),
        **{name: s.DateTimeField(allow_null=True) for name in ("open_until", "cooling_until", "reported_at")},
    },
    "An upstream's circuit breaker, as last reported.",
)
ProviderModelSerializer = shape(
    "ProviderModel",
    {"name": s.CharField(), "owned_by": s.CharField(allow_blank=True), "created": s.IntegerField()},
    "A model that the vendor says it serves.",
)
