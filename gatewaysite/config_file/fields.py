"""The file's vocabulary, once: which field of the file is which column of which row.

Reading and exporting both go by these tables, so that they cannot drift apart.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewaysite.config_file import values
from gatewaysite.config_file.problems import Problems, did_you_mean
from keys.limit_models import MAX_COUNT, Budget, RateLimit
from keys.models import MAX_PAYLOAD_DAYS
from providers.dialects import DIALECTS
from providers.pricing import RATE_COLUMNS
from providers.tiers import ABOVE
from proxy.models import CacheExclusion, Route, Target


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the file and its column; `required` where a row is new (or has no name of its own)."""

    name: str
    column: str
    read: values.Reader = values.text
    write: Callable[[Any], Any] = _as_it_is
    required: bool = False


ENABLED = Field("enabled", "enabled", values.flag)
NOTE = Field("note", "note", values.optional_text)
MODELS = Field("model", "model", values.optional_text)
_WINDOW = Field("context_window", "context_window", values.optional(values.whole(1)))
_optional_usd = values.optional(values.usd)

PROVIDER = (
    Field("name", "name", required=True),
    Field("dialect", "dialect", values.one_of(DIALECTS), required=True),
    Field("base_url", "base_url", required=True),
    Field("auth_header", "auth_header", values.optional_text),
    Field("extra_headers", "extra_headers", values.headers, values.headers_written),
    Field("shares_stored", "shares_stored", values.flag),
    Field("path_template", "path_template", values.optional_text),
    Field("quirks", "quirks", values.mapping, values.mapping_written),
    ENABLED,
    Field("drop_unsupported_params", "drop_unsupported_params", values.flag),
    Field("max_connections", "max_connections", values.whole(1)),
    Field("max_concurrency", "max_concurrency", values.optional(values.whole(1))),
    Field("max_queue", "max_queue", values.whole(0)),
    Field("queue_timeout", "queue_timeout_s", values.seconds, values.number_written),
)
FURTHER_KEY = (
    Field("name", "name", required=True),
    ENABLED,
)
_optional_seconds = values.optional(values.seconds)
TIMEOUTS = (
    Field("connect", "connect_timeout_s", values.seconds, values.number_written),
    Field("first_content", "first_content_timeout_s", _optional_seconds, values.number_written),
    Field("idle", "idle_timeout_s", values.seconds, values.number_written),
    Field("total", "total_timeout_s", _optional_seconds, values.number_written),
)
ROUTE_TIMEOUTS = tuple(
    Field(field.name, field.column, _optional_seconds, values.number_written) for field in TIMEOUTS
)
# The whole of a demo provider's faults: those that are left out are off.
FAULTS = (
    Field("percent", "fault_percent", values.percent, values.number_written),
    Field("status", "fault_status", values.optional(values.whole(400, 599))),
    Field("retry_after", "fault_retry_after_s", values.optional(values.whole(0))),
    Field("latency_ms", "fault_latency_ms", values.whole(0)),
    Field("ttft_ms", "fault_ttft_ms", values.whole(0)),
    Field("cut_after", "fault_cut_after", values.optional(values.whole(0))),
    Field("stall_after", "fault_stall_after", values.optional(values.whole(0))),
)
ROUTE = (
    Field("match", "match", required=True),
    Field("kind", "kind", values.choice(Route.Kind)),
    Field("priority", "priority", values.whole(-values.INTEGER)),
    Field("strategy", "strategy", values.choice(Route.Strategy)),
    Field("hedge", "hedge", values.flag),
    Field("continue_streams", "continue_streams", values.flag),
    ENABLED,
    NOTE,
)
STICKY = (Field("header", "sticky_header", required=True),)
TARGET = (
    Field("provider", "provider", required=True),
    MODELS,
    Field("weight", "weight", values.whole(0)),
    Field("canary", "percent", values.optional(values.percent), values.number_written),
    _WINDOW,
)
CHAINED = (
    Field("provider", "provider", required=True),
    MODELS,
    _WINDOW,
)
SHADOW = (
    Field("provider", "provider", required=True),
    MODELS,
    Field("percent", "percent", values.optional(values.percent), values.number_written),
    Field("budget_usd_per_day", "shadow_budget_nanousd_per_day", _optional_usd, values.usd_written),
)
# What a route lists besides its targets, by the field's name, which is the role of its rows too.
CHAINS: Mapping[str, Sequence[Field]] = {
    str(Target.Role.ON_CONTEXT_OVERFLOW): CHAINED,
    str(Target.Role.ON_CONTENT_FILTER): CHAINED,
    str(Target.Role.SHADOW): SHADOW,
}
EXCLUSION = (
    Field("kind", "kind", values.choice(CacheExclusion.Kind)),
    Field("pattern", "pattern", required=True),
    NOTE,
)
CACHE = (Field("ttl_seconds", "cache_ttl_s", values.optional(values.whole(1))),)
SETTINGS = (
    Field("default_provider", "default_provider", values.optional_text),
    Field("default_model", "default_model", values.optional_text),
)
TENANT = (
    Field("name", "name", required=True),
    Field("timezone", "timezone"),
    Field("queue_weight", "queue_weight", values.whole(1, 1000)),
    Field("alert_emails", "alert_emails", values.listed),
    Field("payload_days", "payload_days", values.whole(0, MAX_PAYLOAD_DAYS)),
)
KEY = (
    Field("name", "name", required=True),
    Field("tenant", "tenant", required=True),
    Field("secret_sha256", "digest", values.sha256),
    Field("prefix", "prefix", values.optional_text),
    ENABLED,
    Field("expires_at", "expires_at", values.optional(values.instant), values.instant_written),
    Field("allowed_models", "allowed_models", values.patterns),
    Field("denied_models", "denied_models", values.patterns),
    Field("allowed_networks", "allowed_networks", values.listed),
    Field("tags", "tags", values.tags, values.mapping_written),
    Field("max_tokens", "max_tokens", values.optional(values.whole(1))),
    Field("forced_route", "forced_route", values.optional_text),
    Field("payload_days", "payload_days", values.optional(values.whole(0, MAX_PAYLOAD_DAYS))),
    Field("previous_secret_sha256", "previous_digest", values.optional(values.sha256)),
    Field("previous_prefix", "previous_prefix", values.optional_text),
    Field("previous_until", "previous_until", values.optional(values.instant), values.instant_written),
)
# A rate limit says its kind by the name of its amount: {requests: 60, per: minute}.
LIMIT_AMOUNTS = tuple(
    Field(str(kind), "amount", values.whole(1, MAX_COUNT)) for kind in RateLimit.Kind.values
)
LIMIT = (
    Field("per", "per", values.choice(RateLimit.Per)),
    Field("each", "each", values.choice(RateLimit.Each)),
    MODELS,
    ENABLED,
)
BUDGET = (
    Field("amount_usd", "amount_nanousd", values.budget_usd, values.usd_written, required=True),
    Field("window", "window", values.choice(Budget.Window), required=True),
    Field("mode", "mode", values.choice(Budget.Mode)),
    Field("raised_usd", "raised_nanousd", values.optional(values.budget_usd), values.usd_written),
    Field("raised_until", "raised_until", values.optional(values.instant), values.instant_written),
    Field("alert_percents", "alert_percents", values.listed),
    Field("refuse_unpriced", "refuse_unpriced", values.flag),
    MODELS,
    ENABLED,
)
_OPTIONAL_RATES = tuple(
    Field(f"{name}_usd_per_mtok", column, _optional_usd, values.usd_written)
    for name, column in RATE_COLUMNS.items()
    if name not in ("input", "output")
)
PRICE = (
    Field("provider", "provider", required=True),
    Field("model", "model", required=True),
    Field("input_usd_per_mtok", "input_nanousd_per_mtok", values.usd, values.usd_written, required=True),
    Field("output_usd_per_mtok", "output_nanousd_per_mtok", values.usd, values.usd_written, required=True),
    *_OPTIONAL_RATES,
    Field("max_output_tokens", "max_output_tokens", values.optional(values.whole(1))),
    _WINDOW,
    Field("effective_from", "effective_from", values.instant, values.instant_written),
)
# A tier's columns are the names in its JSON. What it does not say is as below it.
TIER = (
    Field(ABOVE, ABOVE, values.whole(1), required=True),
    *(Field(f"{name}_usd_per_mtok", name, values.usd, values.usd_written) for name in RATE_COLUMNS),
)


def read_fields(
    mapping: Any, path: str, table: Sequence[Field], problems: Problems, *, beside: Collection[str] = ()
) -> dict[str, Any]:
    """Return column -> value for the fields that `mapping` gives; what is wrong goes to `problems`.

    `beside` names fields that the caller reads itself.
    """
    if not isinstance(mapping, dict):
        problems.add(path, "must be a mapping of fields")
        return {}
    known = {field.name for field in table} | set(beside)
    for name in mapping:
        if name not in known:
            problems.add(_below(path, str(name)), f"unknown field{did_you_mean(str(name), known)}")
    row: dict[str, Any] = {}
    for field in table:
        if field.name in mapping:
            try:
                row[field.column] = field.read(mapping[field.name])
            except ValueError as problem:
                problems.add(_below(path, field.name), str(problem))
    return row


def written_fields(row: Mapping[str, Any], table: Sequence[Field]) -> dict[str, Any]:
    """Return the file's fields of a row's columns."""
    return {field.name: field.write(row[field.column]) for field in table}


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
