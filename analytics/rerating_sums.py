"""What a re-rating changes, added up by model, key, tenant and day: for people who decide about it."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from keys.models import ApiKey, LedgerEntry, Tenant

# So many of each are told one by one, those that change most; the others together.
TOLD = 100
OTHERS = "all others"

_GROUPS: Mapping[str, Callable[[LedgerEntry], Any]] = {
    "model": lambda entry: f"{entry.provider}/{entry.model}",
    "tenant": lambda entry: entry.tenant_ref,
    "key": lambda entry: entry.key_ref,
    "day": lambda entry: f"{entry.at.astimezone(UTC):%Y-%m-%d}",
}


class Differences:
    """Sums of changes by group: how many attempts, what they cost before, the difference."""

    def __init__(self) -> None:
        """Know none."""
        self._sums: dict[str, dict[Any, list[int]]] = {
            group: defaultdict(lambda: [0, 0, 0]) for group in _GROUPS
        }

    def add(self, entry: LedgerEntry, *, before: int, difference: int) -> None:
        """Add one."""
        for group, name_of in _GROUPS.items():
            sums = self._sums[group][name_of(entry)]
            sums[0] += 1
            sums[1] += before
            sums[2] += difference

    def as_json(self) -> dict[str, list[list[Any]]]:
        """Return [name, attempts, before, difference] of each, by group; days in their order."""
        names: Mapping[str, Callable[[Any], str]] = {
            "tenant": _names(Tenant, self._sums["tenant"], "tenant"),
            "key": _names(ApiKey, self._sums["key"], "key"),
        }
        found = {}
        for group, sums in self._sums.items():
            rows = sorted(sums.items(), key=lambda item: -abs(item[1][2]))
            told = [[names.get(group, str)(name), *values] for name, values in rows[:TOLD]]
            rest = [values for _, values in rows[TOLD:]]
            if group == "day":
                told.sort()
            if rest:
                told.append([OTHERS, *map(sum, zip(*rest, strict=True))])
            found[group] = told
        return found


def _names(model: type[ApiKey | Tenant], refs: Mapping[Any, Any], word: str) -> Callable[[Any], str]:
    known = dict(model.objects.filter(pk__in=[ref for ref in refs if ref]).values_list("pk", "name"))

    def name(ref: int | None) -> str:
        return f"no {word}" if ref is None else known.get(ref, f"deleted {word} {ref}")

    return name
