"""Rate limits and budgets as JSON: of a key, of a tenant or of everyone."""

from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers

from gatewaysite.api.access import Seen
from gatewaysite.api.filters import BudgetFilters, RateLimitFilters
from gatewaysite.api.shapes import fields_of, shape, shown_fields
from gatewaysite.api.table_kinds import TableKind
from gatewaysite.config_file import fields, values
from gatewaysite.config_file.fields import Field
from keys.limit_models import MAX_COUNT, Budget, RateLimit
from keys.models import ApiKey, Tenant

_OWNER = (
    Field("tenant", "tenant", values.optional_text),
    Field("key", "key", values.optional_text),
)
_OWNERS: dict[str, Any] = {"tenant": Tenant, "key": ApiKey}
# A file names a limit's kind by its amount; here both are fields.
RATE_LIMIT = (
    *_OWNER,
    Field("kind", "kind", values.choice(RateLimit.Kind), required=True),
    Field("amount", "amount", values.whole(1, MAX_COUNT), required=True),
    Field("per", "per", values.one_of(["", *RateLimit.Per.values])),
    Field("each", "each", values.one_of(["", *(each for each in RateLimit.Each.values if each)])),
    fields.MODELS,
    fields.ENABLED,
)
BUDGET = (*_OWNER, *fields.BUDGET)


def _owned(rows: QuerySet[Any], seen: Seen) -> QuerySet[Any]:
    return rows.filter(Q(tenant__in=seen.tenant_ids) | Q(key__tenant__in=seen.tenant_ids))


def _owner(row: Any) -> dict[str, Any]:
    return {"tenant": row.tenant.name if row.tenant else None, "key": row.key.name if row.key else None}


def _written(row: Any, table: Any) -> dict[str, Any]:
    return {"id": row.pk, **shown_fields({**vars(row), **_owner(row)}, table)}


_ID = {"id": serializers.IntegerField(read_only=True)}
RATE_LIMITS = TableKind(
    noun="rate limit",
    plural="rate limits",
    path="rate-limits",
    model=RateLimit,
    serializer=shape(
        "RateLimit", {**_ID, **fields_of(RateLimit, RATE_LIMIT)}, "How many in a window, or at once."
    ),
    example={"key": "acme-ci", "kind": "requests", "amount": 60, "per": "minute"},
    scope="keys",
    tag="Limits and budgets",
    ordering=("id",),
    identity=("id",),
    named=False,
    filters=RateLimitFilters,
    for_members=True,
    narrowed=_owned,
    table=RATE_LIMIT,
    shown=lambda row: _written(row, RATE_LIMIT),
    base=lambda: RateLimit.objects.select_related("tenant", "key"),
    found_by=lambda identity: {"pk": identity["id"]},
    refer=_OWNERS,
)
BUDGETS = TableKind(
    noun="budget",
    plural="budgets",
    path="budgets",
    model=Budget,
    serializer=shape(
        "Budget", {**_ID, **fields_of(Budget, BUDGET)}, "The most that may be spent in a window."
    ),
    example={"tenant": "acme", "amount_usd": "25.00", "window": "month", "mode": "strict"},
    scope="keys",
    tag="Limits and budgets",
    ordering=("id",),
    identity=("id",),
    named=False,
    filters=BudgetFilters,
    for_members=True,
    narrowed=_owned,
    table=BUDGET,
    shown=lambda row: _written(row, BUDGET),
    base=lambda: Budget.objects.select_related("tenant", "key__tenant"),
    found_by=lambda identity: {"pk": identity["id"]},
    refer=_OWNERS,
)
