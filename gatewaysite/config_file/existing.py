"""The rows that a file's objects may already be: read once, looked up by what names them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewaysite.config_file.document import Document
from keys.models import ApiKey, Tenant
from providers.models import Price, Provider
from proxy.models import GatewaySettings, Route

# Below the number of parameters that every database takes in one query.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Existing:
    """Rows by name. Of keys only those that the file names, or whose secret it gives."""

    settings: GatewaySettings
    providers: dict[str, Provider]
    routes: dict[tuple[str, str], Route]
    tenants: dict[str, Tenant]
    keys: dict[str, ApiKey]
    key_names: Mapping[str, str]
    prices: dict[tuple[Any, ...], Price]


def read_existing(document: Document) -> Existing:
    """Return the rows that `document` may be about."""
    operators_prices = Price.objects.filter(source=Price.Source.OPERATOR).select_related("provider")
    digests = [key.row["digest"] for key in document.keys if "digest" in key.row]
    return Existing(
        settings=GatewaySettings.objects.filter(pk=1).first() or GatewaySettings(),
        providers={row.name: row for row in Provider.objects.all()},
        routes={(row.kind, row.match): row for row in Route.objects.all()},
        tenants={row.name: row for row in Tenant.objects.all()},
        keys=ApiKey.objects.in_bulk([key.row["name"] for key in document.keys], field_name="name"),
        key_names={
            digest: name
            for chunk in chunks(digests)
            for digest, name in ApiKey.objects.filter(digest__in=chunk).values_list("digest", "name")
        },
        prices={(row.provider.name, row.model, row.effective_from): row for row in operators_prices},
    )


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield `items` in pieces that fit into one query."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
