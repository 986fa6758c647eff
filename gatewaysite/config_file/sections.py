"""Readers of the file's objects: one mapping of the file to the columns of its row."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import models

from config.vault import reference, sealed
from gatewaysite.config_file import fields
from gatewaysite.config_file.document import Entry, Row
from gatewaysite.config_file.fields import Field, read_fields
from gatewaysite.config_file.problems import Problems
from keys.models import DISABLED_BY, ApiKey, Budget, RateLimit, Tenant
from keys.validators import usual_percents
from providers.faults import OFF
from providers.models import Credential, Price, Provider
from providers.pricing import RATE_NAMES
from providers.tiers import read_tiers
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

_LIMITS = ("rate_limits", "budgets")
# A list is replaced whole: what an item leaves out is as if it were new.
_PLAIN_BUDGET: Row = {
    "mode": str(Budget.Mode.STRICT),
    "raised_nanousd": None,
    "raised_until": None,
    "refuse_unpriced": False,
    "model": "",
    "enabled": True,
}
_PLAIN_TARGET: Row = {
    "model": "",
    "weight": 1,
    "percent": None,
    "shadow_budget_nanousd_per_day": None,
    "context_window": None,
}


class Sections:
    """Reads objects; what is wrong goes to `problems`, and an object without a name is left out."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def provider(self, item: Any, path: str) -> Entry | None:
        """Read a provider, its timeouts, its faults and its credentials."""
        row = self._read(item, path, fields.PROVIDER, beside=("api_key", "api_keys", "timeouts", "faults"))
        row |= self._timeouts(item, path, Provider, fields.TIMEOUTS)
        if isinstance(item, dict) and "faults" in item:
            given = {} if item["faults"] is None else item["faults"]
            row |= {**OFF, **self._read(given, f"{path}.faults", fields.FAULTS)}
            self._check(Provider, row, f"{path}.faults", fields.FAULTS)
        self._check(Provider, row, path, fields.PROVIDER)
        secret, further = self._credential(item, path), self._further(item, path)
        return self._named(item, row, path, ("name",), secret=secret, further=further)

    def route(self, item: Any, path: str) -> Entry | None:
        """Read a route, its targets and chains; without a kind, a trailing * says prefix."""
        row = self._read(item, path, fields.ROUTE, beside=("timeouts", "sticky", "targets", *fields.CHAINS))
        if "match" in row and isinstance(item, dict) and "kind" not in item:
            row["kind"] = str(Route.Kind.PREFIX if row["match"].endswith("*") else Route.Kind.EXACT)
        row |= self._timeouts(item, path, Route, fields.ROUTE_TIMEOUTS)
        row |= self._sticky(item, path)
        self._check(Route, row, path, fields.ROUTE)
        targets = self._list(item, path, "targets", self._target)
        chains = {
            role: listed
            for role, table in fields.CHAINS.items()
            if (listed := self._list(item, path, role, partial(self._chained, role=role, table=table)))
            is not None
        }
        return self._named(item, row, path, ("match", "kind"), targets=targets, chains=chains)

    def cache(self, item: Any) -> tuple[Row, Sequence[Row] | None]:
        """Read the cache's settings and its exclusions."""
        row = self._read(item, "cache", fields.CACHE, beside=("exclusions",))
        self._check(GatewaySettings, row, "cache", fields.CACHE)
        exclusions = self._list(item, "cache", "exclusions", self._exclusion)
        seen: dict[Any, int] = {}
        for index, exclusion in enumerate(exclusions or ()):
            first = seen.setdefault((exclusion["kind"], exclusion.get("pattern", index)), index)
            if first != index:
                self._problems.add(f"cache.exclusions[{index}]", f"the same as cache.exclusions[{first}]")
        return row, exclusions

    def tenant(self, item: Any, path: str) -> Entry | None:
        """Read a tenant and its limits."""
        row = self._read(item, path, fields.TENANT, beside=("alert_webhook", *_LIMITS))
        self._check(Tenant, row, path, fields.TENANT)
        webhook = self._webhook(item, path)
        return self._named(item, row, path, ("name",), secret=webhook, **self._limits(item, path))

    def key(self, item: Any, path: str) -> Entry | None:
        """Read a key, what identifies it, and its limits."""
        row = self._read(item, path, fields.KEY, beside=("secret", *_LIMITS))
        self._check(ApiKey, {name: row[name] for name in row if name != "tenant"}, path, fields.KEY)
        if row.get("enabled"):
            row.get("tags", {}).pop(DISABLED_BY, None)  # as the row itself forgets it
        row |= self._secret(item, path)
        row |= self._previous(row, path)
        return self._named(item, row, path, ("name",), **self._limits(item, path))

    def price(self, item: Any, path: str) -> Entry | None:
        """Read a price."""
        row = self._read(item, path, fields.PRICE, beside=("tiers",))
        self._check(Price, {name: row[name] for name in row if name != "provider"}, path, fields.PRICE)
        tiers = self._list(item, path, "tiers", self._tier)
        if tiers is not None:
            row["tiers"] = tiers
            pairs = zip(tiers, item["tiers"], strict=True)
            if all(isinstance(each, dict) and len(tier) == len(each) for tier, each in pairs):
                self._rise(tiers, f"{path}.tiers")  # else what does not read is told already
        return self._named(item, row, path, ("provider", "model"))

    def rate_limits(self, item: Any, path: str) -> Sequence[Row] | None:
        """Read the rate limits of `item`; None when it gives none."""
        return self._list(item, path, "rate_limits", self._rate_limit)

    def budgets(self, item: Any, path: str) -> Sequence[Row] | None:
        """Read the budgets of `item`; None when it gives none."""
        return self._list(item, path, "budgets", self._budget)

    def _limits(self, item: Any, path: str) -> dict[str, Sequence[Row] | None]:
        return {"rate_limits": self.rate_limits(item, path), "budgets": self.budgets(item, path)}

    def _timeouts(self, item: Any, path: str, model: type[models.Model], table: Sequence[Field]) -> Row:
        if not isinstance(item, dict) or "timeouts" not in item:
            return {}
        row = self._read(item["timeouts"], f"{path}.timeouts", table)
        self._check(model, row, f"{path}.timeouts", table)
        return row

    def _sticky(self, item: Any, path: str) -> Row:
        """Return the columns of `user`, `{header: x-session-id}` or null."""
        if not isinstance(item, dict) or "sticky" not in item:
            return {}
        written, where = item["sticky"], f"{path}.sticky"
        if written is None or written == str(Route.Sticky.USER):
            return {"sticky": written or ""}
        if not isinstance(written, dict):
            self._problems.add(where, "must be user, {header: x-session-id} or null")
            return {}
        row = self._read(written, where, fields.STICKY)
        self._require(written, where, fields.STICKY)
        by_header = {"sticky": str(Route.Sticky.HEADER)}
        self._check(Route, row, where, fields.STICKY, given=by_header)
        return {**row, **by_header}

    def _target(self, item: Any, path: str) -> Row:
        canary = isinstance(item, dict) and item.get("canary") is not None
        role = Target.Role.CANARY if canary else Target.Role.NORMAL
        return self._chained(item, path, role=str(role), table=fields.TARGET)

    def _chained(self, item: Any, path: str, *, role: str, table: Sequence[Field]) -> Row:
        row = self._read(item, path, table)
        self._require(item, path, table)
        if isinstance(item, dict) and len(row) == len(item):  # what does not read is told already
            own = {name: row[name] for name in row if name != "provider"}
            self._check(Target, own, path, table, given={"role": role})
        return {**_PLAIN_TARGET, **row, "role": role}

    def _exclusion(self, item: Any, path: str) -> Row:
        row = {"kind": str(CacheExclusion.Kind.EXACT), **self._read(item, path, fields.EXCLUSION)}
        self._require(item, path, fields.EXCLUSION)
        self._check(CacheExclusion, row, path, fields.EXCLUSION)
        return {"note": "", **row}

    def _rate_limit(self, item: Any, path: str) -> Row:
        kinds = [field for field in fields.LIMIT_AMOUNTS if isinstance(item, dict) and field.name in item]
        row = self._read(item, path, (*kinds, *fields.LIMIT), beside=RateLimit.Kind.values)
        if len(kinds) != 1:
            if isinstance(item, dict):
                self._problems.add(path, f"must have exactly one of {', '.join(RateLimit.Kind.values)}")
            return {}
        kind = kinds[0].name
        if kind == RateLimit.Kind.CONCURRENT and "per" in row:
            self._problems.add(f"{path}.per", "requests at once have no window: leave it out")
        if kind != RateLimit.Kind.CONCURRENT and "per" not in item:
            windows = ", ".join(RateLimit.Per.values)
            self._problems.add(f"{path}.per", f"required: one of {windows}")
        self._check(RateLimit, row, path, (*kinds, *fields.LIMIT))
        return {"kind": kind, "per": "", "each": "", "model": "", "enabled": True, **row}

    def _budget(self, item: Any, path: str) -> Row:
        row = self._read(item, path, fields.BUDGET)
        self._require(item, path, fields.BUDGET)
        self._check(Budget, row, path, fields.BUDGET)
        budget = {**_PLAIN_BUDGET, "alert_percents": usual_percents(), **row}
        for name, other in (("raised_usd", "raised_until"), ("raised_until", "raised_usd")):
            if isinstance(item, dict) and item.get(name) is not None and item.get(other) is None:
                self._problems.add(f"{path}.{other}", f"required beside {name}")
        return budget

    def _tier(self, item: Any, path: str) -> Row:
        row = self._read(item, path, fields.TIER)
        self._require(item, path, fields.TIER)
        return row

    def _rise(self, tiers: Sequence[Row], path: str) -> None:
        try:
            read_tiers(tiers, RATE_NAMES)
        except ValueError as problem:
            self._problems.add(path, str(problem))

    def _further(self, item: Any, path: str) -> Sequence[Entry] | None:
        """Read a provider's further credentials: each a text, or a mapping with a name."""
        if not isinstance(item, dict) or "api_keys" not in item:
            return None
        where = f"{path}.api_keys"
        if not isinstance(item["api_keys"], list):
            self._problems.add(where, "must be a list ([] for none)")
            return None
        listed: dict[str, Entry] = {}
        for index, each in enumerate(item["api_keys"]):
            entry = self._further_key(each, f"{where}[{index}]", index=index)
            first = listed.setdefault(entry.row["name"], entry) if entry else None
            if entry and first is not entry:
                self._problems.add(entry.path, f"has the same name as {first.path if first else where}")
        return list(listed.values())

    def _further_key(self, item: Any, path: str, *, index: int) -> Entry | None:
        if not isinstance(item, dict):  # the second of the keys: the provider's own is the first
            secret = self._written(item, path)
            return Entry(
                path, {"name": reference(secret) or f"key-{index + 2}", "enabled": True}, secret=secret
            )
        row = {"enabled": True, **self._read(item, path, fields.FURTHER_KEY, beside=("api_key",))}
        self._check(Credential, row, path, fields.FURTHER_KEY)
        return self._named(item, row, path, ("name",), secret=self._credential(item, path))

    def _credential(self, item: Any, path: str) -> str | None:
        if not isinstance(item, dict) or "api_key" not in item:
            return None
        return self._written(item["api_key"], f"{path}.api_key")

    def _written(self, written: Any, path: str) -> str:
        """Return a credential as it is written, "" for none."""
        if written is None or written == "":
            return ""
        if not isinstance(written, str):
            self._problems.add(path, "must be text: put it in quotes")
        elif "${" in written and not reference(written):
            self._problems.add(path, "a reference stands alone, as in ${OPENAI_API_KEY}")
        else:
            return written.strip()
        return ""

    def _webhook(self, item: Any, path: str) -> str | None:
        """Return the URL that is told of a tenant's budgets, as it is written; "" for none."""
        if not isinstance(item, dict) or "alert_webhook" not in item:
            return None
        where = f"{path}.alert_webhook"
        written = self._written(item["alert_webhook"], where)
        if written and not (reference(written) or sealed(written) or _is_url(written)):
            self._problems.add(where, "must be a URL that begins with http:// or https://, or ${VARIABLE}")
        return written

    def _previous(self, row: Row, path: str) -> Row:
        """Return what else is gone where the file says that there is no secret from before."""
        if "previous_digest" not in row:
            return {}
        if row["previous_digest"] is None:
            return {"previous_prefix": "", "previous_until": None}
        if row["previous_digest"] == row.get("digest"):
            self._problems.add(f"{path}.previous_secret_sha256", "is the secret that the key has now")
        return {}

    def _secret(self, item: Any, path: str) -> Row:
        """Return the digest and prefix of a `secret`; a `${VARIABLE}` is read now, as only they are kept."""
        if not isinstance(item, dict) or "secret" not in item:
            return {}
        where, written = f"{path}.secret", item["secret"]
        if "secret_sha256" in item:
            self._problems.add(where, "give secret or secret_sha256, not both")
        if not isinstance(written, str):
            self._problems.add(where, "must be text: put it in quotes")
            return {}
        variable = reference(written)
        if variable and not os.environ.get(variable):
            self._problems.add(where, f"the environment variable {variable} is not set")
            return {}
        key = ApiKey()
        try:
            key.set_secret(os.environ[variable] if variable else written)
        except ValueError as problem:
            self._problems.add(where, str(problem))
            return {}
        return {"digest": key.digest, "prefix": key.prefix}

    def _read(
        self, item: Any, path: str, table: Sequence[Field], *, beside: Collection[str] = ()
    ) -> dict[str, Any]:
        return read_fields(item, path, table, self._problems, beside=beside)

    def _named(self, item: Any, row: Row, path: str, names: Sequence[str], **more: Any) -> Entry | None:
        missing = [name for name in names if name not in row]
        for name in missing:
            self._require_one(item, path, name)
        return None if missing else Entry(path=path, row=row, given=frozenset(item), **more)

    def _require(self, item: Any, path: str, table: Sequence[Field]) -> None:
        for field in table:
            if field.required:
                self._require_one(item, path, field.name)

    def _require_one(self, item: Any, path: str, name: str) -> None:
        if isinstance(item, dict) and name not in item:  # given but wrong: already told
            self._problems.add(f"{path}.{name}", "required")

    def _list(self, item: Any, path: str, name: str, read: Callable[[Any, str], Row]) -> Sequence[Row] | None:
        if not isinstance(item, dict) or name not in item:
            return None
        below = f"{path}.{name}" if path else name
        if not isinstance(item[name], list):
            self._problems.add(below, "must be a list ([] for none)")
            return None
        return [read(entry, f"{below}[{index}]") for index, entry in enumerate(item[name])]

    def _check(
        self,
        model: type[models.Model],
        row: Row,
        path: str,
        table: Sequence[Field],
        *,
        given: Row = MappingProxyType({}),
    ) -> None:
        """Hold the columns against the row's own rules, the ones that the admin's forms have.

        `given` are columns that no field of the file says by itself.
        """
        names: Mapping[str, str] = {field.column: field.name for field in table if field.column in row}
        instance = model(**given, **{column: row[column] for column in names})
        skipped = {column.name for column in model._meta.fields} - set(names)
        rules: tuple[Callable[[], None], ...] = (
            partial(instance.clean_fields, exclude=skipped),
            instance.clean,
        )
        for check in rules:
            try:
                check()
            except ValidationError as found:
                for column, messages in found.message_dict.items():
                    where = f"{path}.{names[column]}" if column in names else path
                    for message in messages:
                        self._problems.add(where, _sentence_end(message))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and text.isprintable()
    except ValueError:
        return False


def _sentence_end(message: str) -> str:
    """Make Django's sentence the end of ours: `Ensure ...` -> `ensure ...`."""
    return message[:1].lower() + message[1:].removesuffix(".") if message[1:2].islower() else message
