"""Writes a checked document into the rows: upsert by name, and only what differs.

An unchanged row is not saved, so applying a file twice bumps no version. Objects that the file
does not mention are left alone: several files, and the admin, may each own a part. A list inside an
object (targets, limits, budgets, exclusions) is that object's whole list. A budget keeps its
row, and with it what it has spent, for as long as its window and models stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from config.vault import SecretUnreadable, Vault, reference, sealed
from gatewaysite.config_file import fields
from gatewaysite.config_file.credentials import same_credential
from gatewaysite.config_file.document import Document, Entry, Row
from gatewaysite.config_file.existing import Existing
from gatewaysite.config_file.reading import price_identity
from gatewaysite.config_file.rowwriter import Changes, Listed, RowWriter
from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.builtin_prices import write_builtin_prices
from providers.models import Credential, Price, Provider, vault
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

EVERYONE: Mapping[str, None] = {"tenant": None, "key": None}


class Applier:
    """Applies one document that was checked before."""

    def __init__(self, document: Document, existing: Existing) -> None:
        self._document = document
        self._existing = existing
        self._vault: Vault = vault()
        self._writer = RowWriter()

    def apply(self) -> Changes:
        """Write all sections, those that others refer to first."""
        document = self._document
        for entry in document.providers:
            self._provider(entry)
        for entry in document.tenants:
            self._tenant(entry)
        for entry in document.keys:
            self._key(entry)
        for entry in document.routes:
            self._route(entry)
        for entry in document.prices:
            self._price(entry)
        self._limits("everyone", EVERYONE, document.rate_limits, document.budgets)
        self._exclusions()
        self._settings()
        return self._writer.changes

    def _provider(self, entry: Entry) -> None:
        name, row = entry.row["name"], dict(entry.row)
        found = self._existing.providers.get(name)
        before = (found.dialect, found.base_url) if found else None
        row |= self._sealed("credential", entry, found.credential if found else "")
        provider = self._writer.upsert(f"provider {name}", Provider, found, row)
        self._existing.providers[name] = provider
        if before != (provider.dialect, provider.base_url):
            write_builtin_prices(provider)
        self._further(provider, entry)
        if provider.enabled:
            self._warn_of_unset(provider, entry)

    def _sealed(self, column: str, entry: Entry, stored: str) -> Row:
        """Return the column of a secret, unless it is the `stored` one."""
        if entry.secret is None or same_credential(self._vault, stored, entry.secret):
            return {}
        return {column: entry.secret if sealed(entry.secret) else self._vault.seal(entry.secret)}

    def _further(self, provider: Provider, entry: Entry) -> None:
        """Make the further credentials those of the file, in its order; known ones keep their secrets."""
        if entry.further is None:
            return
        rows = {row.name: row for row in self._existing.credentials.get(provider.pk, ())}
        wanted = [each.row["name"] for each in entry.further]
        for name, surplus in rows.items():
            if name not in wanted:
                self._writer.remove(f"provider {provider.name}", surplus)
        ordered = [name for name in rows if name in wanted] == wanted
        for position, each in enumerate(entry.further):
            found = rows.get(each.row["name"])
            row = {**each.row, **self._sealed("credential", each, found.credential if found else "")}
            if not ordered:
                row["position"] = position
            if found is None:
                row["provider"] = provider
            what = f"provider {provider.name}: credential {each.row['name']}"
            self._writer.upsert(what, Credential, found, row)

    def _warn_of_unset(self, provider: Provider, entry: Entry) -> None:
        warnings = self._writer.changes.warnings
        if variable := provider.unset_variable:
            effect = (
                "is asked by its further keys"
                if _reached_otherwise(provider)
                else "stays disabled until it is"
            )
            warnings.append(f"{entry.path}.api_key: {variable} is not set: provider {provider.name} {effect}")
        for each in entry.further or ():
            variable = reference(each.secret or "")
            if variable and each.row["enabled"] and not self._vault.open(each.secret or ""):
                warnings.append(f"{each.path}: {variable} is not set: this key is not used until it is")

    def _tenant(self, entry: Entry) -> None:
        name, found = entry.row["name"], self._existing.tenants.get(entry.row["name"])
        row = {**entry.row, **self._sealed("alert_webhook", entry, found.alert_webhook if found else "")}
        tenant = self._writer.upsert(f"tenant {name}", Tenant, found, row)
        if (variable := reference(tenant.alert_webhook)) and not self._vault.open(tenant.alert_webhook):
            self._writer.changes.warnings.append(
                f"{entry.path}.alert_webhook: {variable} is not set: nothing is sent to it until it is"
            )
        self._existing.tenants[name] = tenant
        owner = {"tenant": tenant, "key": None}
        self._limits(f"tenant {name}", owner, entry.rate_limits, entry.budgets)

    def _key(self, entry: Entry) -> None:
        name, row = entry.row["name"], dict(entry.row)
        found = self._existing.keys.get(name)
        if "tenant" in row:
            row["tenant"] = self._existing.tenants[row["tenant"]]
        if found is not None and row.get("digest", found.digest) != found.digest:
            row.setdefault("prefix", "")  # it showed the old secret
        if found is None and "digest" not in row:
            key, secret = ApiKey.issue(tenant=row["tenant"], name=name)
            row |= {"digest": key.digest, "prefix": key.prefix}
            self._writer.changes.secrets[name] = secret
        if found is not None and row.get("enabled") is False:
            # What operators disable is not its tenant's to enable, whoever disabled it before.
            row.setdefault("tags", found.tags_of_operators)
        key = self._writer.upsert(f"key {name}", ApiKey, found, row)
        self._limits(f"key {name}", {"tenant": None, "key": key}, entry.rate_limits, entry.budgets)

    def _route(self, entry: Entry) -> None:
        kind, match = entry.row["kind"], entry.row["match"]
        what = f"{kind} route {match}"
        route = self._writer.upsert(what, Route, self._existing.routes.get((kind, match)), entry.row)
        if entry.targets is not None:
            self._targets(what, route, entry.targets, roles=Target.ASKED_ROLES)
        # One after the other also where people see all of them in one list.
        for place, role in enumerate(fields.CHAINS, start=1):
            if role in entry.chains:
                self._targets(what, route, entry.chains[role], roles=(role,), first=1000 * place)

    def _targets(
        self, what: str, route: Route, targets: Sequence[Row], *, roles: Sequence[str], first: int = 0
    ) -> None:
        wanted = [{**target, "provider": self._existing.providers[target["provider"]]} for target in targets]
        rows = list(route.targets.filter(role__in=roles).select_related("provider"))
        self._writer.reorder(Listed(what, Target, {"route": route}), rows, wanted, first=first)

    def _price(self, entry: Entry) -> None:
        provider, model = entry.row["provider"], entry.row["model"]
        found = self._existing.prices.get(price_identity(entry.row))
        row = {**entry.row, "provider": self._existing.providers[provider]}
        self._writer.upsert(f"price {provider}/{model}", Price, found, row)

    def _limits(
        self,
        what: str,
        owner: Mapping[str, Any],
        rate_limits: Sequence[Row] | None,
        budgets: Sequence[Row] | None,
    ) -> None:
        tenant, key = owner["tenant"], owner["key"]
        ids = (tenant and tenant.pk, key and key.pk)
        if rate_limits is not None:
            rows = self._existing.rate_limits.get(ids, ())
            identity = ("kind", "per", "model", "each")
            self._writer.replace(Listed(what, RateLimit, owner), rows, rate_limits, identity=identity)
        if budgets is not None:
            spent = self._existing.budgets.get(ids, ())
            self._writer.replace(Listed(what, Budget, owner), spent, budgets, identity=("window", "model"))

    def _exclusions(self) -> None:
        wanted = self._document.exclusions
        if wanted is not None:
            rows = list(CacheExclusion.objects.order_by("pk"))
            self._writer.replace(
                Listed("cache", CacheExclusion, {}), rows, wanted, identity=("kind", "pattern")
            )

    def _settings(self) -> None:
        row = dict(self._document.settings)
        if "default_provider" in row:
            row["default_provider"] = self._existing.providers.get(row["default_provider"])
        found = self._existing.settings
        if any(getattr(found, column) != value for column, value in row.items()):
            stored = found if found.pk else GatewaySettings.load()
            self._writer.upsert("settings", GatewaySettings, stored, row)


def _reached_otherwise(provider: Provider) -> bool:
    """Is a provider whose own variable is not set reached by another credential?"""
    try:
        return bool(provider.first_credential())
    except SecretUnreadable:
        return False
