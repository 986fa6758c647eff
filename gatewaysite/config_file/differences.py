"""What applying a file changes, for people: created, changed field by field, removed, and left alone.

Secrets are told by that they differ, never by what they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.db import models

from config.audit import hide
from config.moments import moment_text
from config.money import usd
from gatewaysite.config_file.document import Document
from keys.models import ApiKey, Tenant
from providers.models import Price, Provider
from proxy.models import Route

Verb = Literal["created", "changed", "removed"]
_MARKS: Mapping[Verb, str] = {"created": "+", "changed": "~", "removed": "-"}
_SECRET = frozenset({"credential", "alert_webhook", "digest", "previous_digest"})
# What begins a secret tells which key it is, and says nothing that its digest does not.
_SILENT = frozenset({"prefix", "previous_prefix", "position"})
_NOTHING = "(none)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs: column -> (before, after) in words, None where there was no row."""

    what: str
    verb: Verb
    fields: Mapping[str, tuple[str | None, str | None]]


def shown(column: str, value: Any) -> str | None:
    """Return a column's value for people; None for None."""
    if value is None:
        return None
    if column in _SECRET:
        return hide(str(value))
    if isinstance(value, models.Model):
        return str(value)
    if "_nanousd" in column and isinstance(value, int):
        return f"${usd(value)}"
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in ("", [], {}) else _NOTHING


def diff(differences: Iterable[Difference]) -> Iterator[str]:
    """Yield the lines that tell of them, as `diff` marks them: +, ~ and -."""
    for each in differences:
        yield f"{_MARKS[each.verb]} {each.what}"
        for name, (before, after) in each.fields.items():
            if name in _SILENT:
                continue
            if each.verb == "changed":
                told = "(hidden, differs)" if before == after else after or _NOTHING
                yield f"    {name}: {before or _NOTHING} -> {told}"
            elif after not in (None, _NOTHING):
                yield f"    {name}: {after}"


def left_alone(document: Document) -> dict[str, int]:
    """Return how many rows of each kind the file says nothing of: section -> count, where there are any."""
    prices = Price.objects.filter(source=Price.Source.OPERATOR)
    counts = {
        "providers": Provider.objects.count() - len(document.providers),
        "routes": Route.objects.count() - len(document.routes),
        "tenants": Tenant.objects.count() - len(document.tenants),
        "keys": ApiKey.objects.count() - len(document.keys),
        "prices": prices.count() - len(document.prices),
    }
    return {section: count for section, count in counts.items() if count > 0}
