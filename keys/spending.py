"""Keeps BudgetWindow the sum of the ledger: which budgets an entry counts for, and in which window."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from keys.calendar import bounds, span, zone_of
from keys.caller import matches
from keys.models import Budget, BudgetWindow, LedgerEntry

# A budget and the moment its window starts: what names a BudgetWindow row.
Window = tuple[int, datetime]


@dataclass(frozen=True, slots=True)
class Spend:
    """What one ledger row cost, and for whom. A model pattern may match any of `names`."""

    key_id: int | None
    tenant_id: int | None
    at: datetime
    names: tuple[str, ...]
    cost_nanousd: int


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A Budget row with its calendar."""

    budget_id: int
    key_id: int | None
    tenant_id: int | None
    model: str
    window: str
    zone: ZoneInfo

    def covers(self, names: Iterable[str]) -> bool:
        """Does its model pattern take in one of `names`?"""
        return not self.model or any(matches(self.model, name) for name in names)

    def window_of(self, at: datetime) -> Window:
        """Return the window that `at` falls into."""
        return self.budget_id, datetime.fromtimestamp(span(self.window, at.timestamp(), self.zone).start, UTC)


class Ceilings:
    """All budgets that some spends count for: their key's, their tenant's, and everyone's."""

    def __init__(self, spends: Sequence[Spend]) -> None:
        """Read the budgets' rows; disabled ones too, so that switching one on finds its sum."""
        keys = {spend.key_id for spend in spends if spend.key_id is not None}
        tenants = {spend.tenant_id for spend in spends if spend.tenant_id is not None}
        self._by_owner: dict[tuple[int | None, int | None], list[Ceiling]] = {}
        self._by_id: dict[int, Ceiling] = {}
        if not spends:
            return
        owned = Q(key_id__in=keys) | Q(tenant_id__in=tenants) | Q(key=None, tenant=None)
        columns = (
            "pk",
            "key_id",
            "tenant_id",
            "model",
            "window",
            "tenant__timezone",
            "key__tenant__timezone",
        )
        for pk, key_id, tenant_id, model, window, of_tenant, of_key in (
            Budget.objects.filter(owned).order_by("pk").values_list(*columns)
        ):
            ceiling = Ceiling(pk, key_id, tenant_id, model, window, zone_of(of_tenant or of_key or "UTC"))
            self._by_owner.setdefault((key_id, tenant_id), []).append(ceiling)
            self._by_id[pk] = ceiling

    def sums(self, spends: Iterable[Spend]) -> dict[Window, int]:
        """Return how much `spends` add to each window."""
        added: dict[Window, int] = {}
        for spend in spends:
            owners = {(spend.key_id, None), (None, spend.tenant_id), (None, None)}
            for ceiling in (found for owner in owners for found in self._by_owner.get(owner, ())):
                if ceiling.covers(spend.names):
                    window = ceiling.window_of(spend.at)
                    added[window] = added.get(window, 0) + spend.cost_nanousd
        return added

    def ensure(self, windows: Collection[Window]) -> None:
        """Make missing rows, each with what the ledger already holds for it.

        In a transaction of its own, before spends are added: rows that exist can then be locked
        in one order by everybody. If two processes make one row, the first wins, and both sums
        were right when taken, because nobody adds to a window before it exists.
        """
        missing = set(windows) - {(row.budget_id, row.starts_at) for row in _rows(windows)}
        if not missing:
            return
        with transaction.atomic():
            BudgetWindow.objects.bulk_create(
                [
                    BudgetWindow(
                        budget_id=budget_id,
                        starts_at=starts_at,
                        spent_nanousd=_ledger_sum(self._by_id[budget_id], starts_at),
                    )
                    for budget_id, starts_at in sorted(missing)
                ],
                ignore_conflicts=True,
            )


def add(sums: Mapping[Window, int]) -> None:
    """Add to each window, in the current transaction. A budget deleted meanwhile is passed over."""
    # Locked in one order, so that two workers cannot wait for each other.
    rows = [
        row
        for row in _rows(sums).select_for_update().order_by("pk")
        if (row.budget_id, row.starts_at) in sums
    ]
    for row in rows:
        row.spent_nanousd += sums[row.budget_id, row.starts_at]
        row.updated_at = timezone.now()
    BudgetWindow.objects.bulk_update(rows, ["spent_nanousd", "updated_at"], batch_size=200)


def _rows(windows: Collection[Window]) -> QuerySet[BudgetWindow]:
    budgets = {budget_id for budget_id, _ in windows}
    starts = {starts_at for _, starts_at in windows}
    return BudgetWindow.objects.filter(budget_id__in=budgets, starts_at__in=starts)


def _ledger_sum(ceiling: Ceiling, starts_at: datetime) -> int:
    start, end = bounds(ceiling.window, starts_at, ceiling.zone)
    rows = LedgerEntry.objects.filter(at__gte=start, at__lt=end).exclude(kind=LedgerEntry.Kind.SHADOW)
    if ceiling.key_id is not None:
        rows = rows.filter(key_ref=ceiling.key_id)
    if ceiling.tenant_id is not None:
        rows = rows.filter(tenant_ref=ceiling.tenant_id)
    sums = rows.order_by().values_list("provider", "model").annotate(Sum("cost_nanousd"))
    return sum(
        spent or 0 for provider, model, spent in sums if ceiling.covers((model, f"{provider}/{model}"))
    )
