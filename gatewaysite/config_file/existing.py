"""The rows that a file's objects may already be: read once, looked up by what names them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import QuerySet

from gatewaysite.config_file.document import Document
from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.models import Credential, Price, Provider
from proxy.models import GatewaySettings, Route

# (tenant id, key id); both None: everyone.
Owner = tuple[int | None, int | None]
_SECRETS = ("previous_digest", "digest")  # the present ones count where both are known
# Below the number of parameters that every database takes in one query.
CHUNK = 500
Limit = TypeVar("Limit", RateLimit, Budget)


@dataclass(frozen=True, slots=True)
class Existing:
    """Rows by name. Of keys only those that the file names, or whose secret it gives."""

    settings: GatewaySettings
    providers: dict[str, Provider]
    credentials: Mapping[int, Sequence[Credential]]
    routes: dict[tuple[str, str], Route]
    tenants: dict[str, Tenant]
    keys: dict[str, ApiKey]
    key_names: Mapping[str, str]
    prices: dict[tuple[Any, ...], Price]
    rate_limits: Mapping[Owner, Sequence[RateLimit]]
    budgets: Mapping[Owner, Sequence[Budget]]


def read_existing(document: Document) -> Existing:
    """Return the rows that `document` may be about."""
    operators_prices = Price.objects.filter(source=Price.Source.OPERATOR).select_related("provider")
    digests = [
        digest for key in document.keys for column in _SECRETS if (digest := key.row.get(column)) is not None
    ]
    keys = ApiKey.objects.in_bulk([key.row["name"] for key in document.keys], field_name="name")
    key_ids = [key.pk for key in keys.values()]
    return Existing(
        settings=GatewaySettings.objects.filter(pk=1).first() or GatewaySettings(),
        providers={row.name: row for row in Provider.objects.all()},
        credentials=_by_provider(),
        routes={(row.kind, row.match): row for row in Route.objects.all()},
        tenants={row.name: row for row in Tenant.objects.all()},
        keys=keys,
        key_names={
            digest: name
            for chunk in chunks(digests)
            for column in _SECRETS
            for digest, name in ApiKey.objects.filter(**{f"{column}__in": chunk}).values_list(column, "name")
        },
        rate_limits=_by_owner(RateLimit.objects.all(), key_ids),
        budgets=_by_owner(Budget.objects.all(), key_ids),
        prices={(row.provider.name, row.model, row.effective_from): row for row in operators_prices},
    )


def _by_provider() -> Mapping[int, Sequence[Credential]]:
    """Return the further credentials in their order."""
    listed: dict[int, list[Credential]] = defaultdict(list)
    for row in Credential.objects.order_by("position", "id"):
        listed[row.provider_id].append(row)
    return listed


def _by_owner(rows: QuerySet[Limit], key_ids: Sequence[int]) -> Mapping[Owner, Sequence[Limit]]:
    """Return the limits of everyone, of all tenants and of these keys, in the order of their making."""
    limits = list(rows.filter(key=None))
    for chunk in chunks(key_ids):
        limits += rows.filter(key_id__in=chunk)
    owned: dict[Owner, list[Limit]] = defaultdict(list)
    for limit in sorted(limits, key=lambda limit: limit.pk):
        owned[limit.tenant_id, limit.key_id].append(limit)
    return owned


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield `items` in pieces that fit into one query."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
