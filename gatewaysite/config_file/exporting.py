"""The rows as the file that makes them: every field written out, so that applying it restores them.

The order is by names, never by ids: two databases with the same configuration export the same bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from config.vault import sealed
from gatewaysite.config_file import fields
from gatewaysite.config_file.fields import written_fields
from gatewaysite.config_file.reading import ALWAYS, FORMAT_VERSION
from keys.models import ApiKey, Budget, RateLimit, Tenant
from keys.validators import usual_percents
from providers.credential import CredentialHolder
from providers.models import DEMO_URL, Credential, Price, Provider
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

HEADER = "# Configuration of the LLM gateway; `manage.py apply_config` reads it back.\n"


_UNSET = ("canary", "context_window", "percent", "budget_usd_per_day", "raised_usd", "raised_until")


class Inline(dict[str, Any]):
    """A mapping written on one line."""


# By (tenant id, key id); both None: everyone.
Owned = dict[tuple[int | None, int | None], list[Inline]]


class _Dumper(yaml.SafeDumper):
    """Writes Inline mappings inline, and nothing as an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write a value out each time it occurs."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # The other styles write line breaks of other alphabets as they are, and reading makes them \n.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(
    Inline, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def export(*, with_secrets: bool = False) -> str:
    """Return the configuration as YAML; without secrets, stored credentials are left out (= unchanged)."""
    limits, budgets = _by_owner(RateLimit, _rate_limit), _by_owner(Budget, _budget)
    settings = GatewaySettings.objects.filter(pk=1).first() or GatewaySettings()
    default = settings.default_provider
    document = {
        "version": FORMAT_VERSION,
        "default_provider": default.name if default else None,
        "default_model": settings.default_model or None,
        "providers": _providers(with_secrets=with_secrets),
        "routes": _routes(),
        "cache": {**written_fields(vars(settings), fields.CACHE), "exclusions": _exclusions()},
        "rate_limits": limits[None, None],
        "budgets": budgets[None, None],
        "tenants": _tenants(limits, budgets, with_secrets=with_secrets),
        "keys": _keys(limits, budgets),
        "prices": _prices(),
    }
    return HEADER + dump(document)


def dump(document: dict[str, Any]) -> str:
    """Return YAML that is read back as exactly this."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=110
    )


def _providers(*, with_secrets: bool) -> list[dict[str, Any]]:
    further: dict[int, list[Inline]] = defaultdict(list)
    for row in Credential.objects.order_by("position", "id"):
        written = written_fields(vars(row), fields.FURTHER_KEY)
        written |= _credential(row, with_secrets=with_secrets)
        further[row.provider_id].append(_short(written))
    return [
        _provider(row, further[row.pk], with_secrets=with_secrets)
        for row in Provider.objects.order_by("name")
    ]


def _provider(provider: Provider, further: list[Inline], *, with_secrets: bool) -> dict[str, Any]:
    written = written_fields(vars(provider), fields.PROVIDER)
    return {
        **{name: written.pop(name) for name in ("name", "dialect", "base_url")},
        **_credential(provider, with_secrets=with_secrets),
        "api_keys": further,
        **written,
        "timeouts": Inline(written_fields(vars(provider), fields.TIMEOUTS)),
        **({"faults": _faults(provider)} if provider.base_url == DEMO_URL else {}),
    }


def _faults(provider: Provider) -> Inline:
    """Return those that are on: the others are off where they are left out."""
    given = set(provider.given_faults())
    return Inline(written_fields(vars(provider), [field for field in fields.FAULTS if field.column in given]))


def _credential(row: CredentialHolder, *, with_secrets: bool) -> dict[str, str | None]:
    return _secret("api_key", row.credential, with_secrets=with_secrets)


def _secret(name: str, stored: str, *, with_secrets: bool) -> dict[str, str | None]:
    return {name: stored or None} if with_secrets or not sealed(stored) else {}


def _routes() -> list[dict[str, Any]]:
    targets: dict[tuple[int, str], list[Inline]] = defaultdict(list)
    columns = ("role", "weight", "percent", "shadow_budget_nanousd_per_day", "context_window")
    rows = Target.objects.order_by("route_id", "position", "id")
    for row in rows.values("route_id", "model", "provider__name", *columns):
        listed = "targets" if row["role"] in Target.ASKED_ROLES else row["role"]
        table = fields.CHAINS.get(listed, fields.TARGET)
        written = written_fields({**row, "provider": row["provider__name"]}, table)
        targets[row["route_id"], listed].append(_short(written))
    return [
        {
            **written_fields(row, fields.ROUTE),
            "sticky": _sticky(row),
            "timeouts": Inline(written_fields(row, fields.ROUTE_TIMEOUTS)),
            **{listed: targets[row["id"], listed] for listed in ("targets", *fields.CHAINS)},
        }
        for row in Route.objects.order_by("-priority", "kind", "match").values()
    ]


def _sticky(row: Mapping[str, Any]) -> Any:
    if row["sticky"] == Route.Sticky.HEADER:
        return Inline(written_fields(row, fields.STICKY))
    return row["sticky"] or None


def _exclusions() -> list[Inline]:
    rows = CacheExclusion.objects.order_by("kind", "pattern").values()
    return [Inline(written_fields(row, fields.EXCLUSION)) for row in rows]


def _tenants(limits: Owned, budgets: Owned, *, with_secrets: bool) -> list[dict[str, Any]]:
    return [
        {
            **written_fields(row, fields.TENANT),
            **_secret("alert_webhook", row["alert_webhook"], with_secrets=with_secrets),
            "rate_limits": limits[row["id"], None],
            "budgets": budgets[row["id"], None],
        }
        for row in Tenant.objects.order_by("name").values()
    ]


def _keys(limits: Owned, budgets: Owned) -> list[dict[str, Any]]:
    columns = ("id", "tenant__name", *(field.column for field in fields.KEY if field.column != "tenant"))
    return [
        {
            **written_fields({**row, "tenant": row["tenant__name"]}, fields.KEY),
            "rate_limits": limits[None, row["id"]],
            "budgets": budgets[None, row["id"]],
        }
        for row in ApiKey.objects.order_by("name").values(*columns)
    ]


def _prices() -> list[dict[str, Any]]:
    columns = (
        "provider__name",
        "tiers",
        *(field.column for field in fields.PRICE if field.column != "provider"),
    )
    rows = Price.objects.filter(source=Price.Source.OPERATOR).order_by(
        "provider__name", "model", "effective_from"
    )
    prices = []
    for row in rows.values(*columns):
        price = written_fields({**row, "provider": row["provider__name"]}, fields.PRICE)
        if row["effective_from"] == ALWAYS:
            del price["effective_from"]
        prices.append({**price, "tiers": [_tier(tier) for tier in row["tiers"]]})
    return prices


def _tier(tier: Mapping[str, Any]) -> Inline:
    return Inline(written_fields(tier, [field for field in fields.TIER if field.column in tier]))


def _by_owner(model: type[RateLimit | Budget], write: Callable[[dict[str, Any]], Inline]) -> Owned:
    owners: Owned = defaultdict(list)
    for row in model.objects.order_by("pk").values():
        owners[row["tenant_id"], row["key_id"]].append(write(dict(row)))
    return owners


def _rate_limit(row: dict[str, Any]) -> Inline:
    written = {row["kind"]: row["amount"], **written_fields(row, fields.LIMIT)}
    if not row["per"]:
        del written["per"]
    return _short(written)


def _budget(row: dict[str, Any]) -> Inline:
    return _short(written_fields(row, fields.BUDGET))


def _short(written: dict[str, Any]) -> Inline:
    """Leave out what an item of a list has anyway: a list is replaced whole."""
    usual = {
        "model": "",
        "enabled": True,
        "mode": str(Budget.Mode.STRICT),
        "each": "",
        "alert_percents": usual_percents(),
        "refuse_unpriced": False,
        **dict.fromkeys(_UNSET),
    }
    return Inline({name: value for name, value in written.items() if usual.get(name, ...) != value})
