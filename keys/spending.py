"""Keeps BudgetWindow the sum of the ledger: which budgets an entry counts for, and in which window."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from keys.calendar import QUARTER_S, bounds, span, zone_of
from keys.caller import matches
from keys.models import Budget, BudgetWindow, LedgerEntry

# A budget and the moment its window starts: what names a BudgetWindow row.
Window = tuple[int, datetime]
# What budgets tell spends apart by: key, tenant, names of the model, and the quarter of an hour (since 1970).
Alike = tuple[int | None, int | None, tuple[str, ...], int]


def budgeted() -> QuerySet[LedgerEntry]:
    """Return the ledger rows that count for budgets: those of requests that somebody sent, and we paid."""
    return LedgerEntry.objects.filter(shadow=False, own_credential=False)


def names(requested_model: str, provider: str, model: str) -> tuple[str, ...]:
    """Return the names by which a budget's model pattern may know a ledger row's model."""
    return (requested_model or model, f"{provider}/{model}")


@dataclass(frozen=True, slots=True)
class Spend:
    """What one ledger row cost, and for whom. A model pattern may match any of `names`.

    `correction`: it puts another row right, up or down.
    """

    key_id: int | None
    tenant_id: int | None
    at: datetime
    names: tuple[str, ...]
    cost_nanousd: int
    correction: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Spend | None":
        """Return what a ledger row (column to value) adds to budgets; None when it adds nothing."""
        if not row["cost_nanousd"] or row["shadow"] or row["own_credential"]:
            return None
        return cls(
            key_id=row["key_ref"],
            tenant_id=row["tenant_ref"],
            at=row["at"],
            names=names(row["requested_model"], row["provider"], row["model"]),
            cost_nanousd=row["cost_nanousd"],
            correction=row["kind"] in LedgerEntry.CORRECTIONS,
        )


class Sums(NamedTuple):
    """What a window holds, or what is added. `corrected` is the part of `spent` that corrections are."""

    spent: int = 0
    corrected: int = 0


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


_NOTHING = Sums()


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

    def sums(self, spends: Iterable[Spend]) -> dict[Window, Sums]:
        """Return how much `spends` add to each window."""
        added: dict[Window, Sums] = {}
        for (key_id, tenant_id, names, quarter), (cost, corrected) in _alike(spends).items():
            at = datetime.fromtimestamp(quarter * QUARTER_S, UTC)
            owners = {(key_id, None), (None, tenant_id), (None, None)}
            for ceiling in (found for owner in owners for found in self._by_owner.get(owner, ())):
                if ceiling.covers(names):
                    window = ceiling.window_of(at)
                    known = added.get(window, _NOTHING)
                    added[window] = Sums(known.spent + cost, known.corrected + corrected)
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
                [self._from_ledger(budget_id, starts_at) for budget_id, starts_at in sorted(missing)],
                ignore_conflicts=True,
            )

    def _from_ledger(self, budget_id: int, starts_at: datetime) -> BudgetWindow:
        spent, corrected = ledger_sums(self._by_id[budget_id], starts_at)
        return BudgetWindow(
            budget_id=budget_id, starts_at=starts_at, spent_nanousd=spent, corrected_nanousd=corrected
        )


def _alike(spends: Iterable[Spend]) -> dict[Alike, Sums]:
    """Return what those come to that no budget tells apart."""
    alike: dict[Alike, Sums] = {}
    for spend in spends:
        cost = spend.cost_nanousd
        # Every window begins and ends with a quarter of an hour, wherever it is.
        name = (spend.key_id, spend.tenant_id, spend.names, int(spend.at.timestamp()) // QUARTER_S)
        known = alike.get(name, _NOTHING)
        alike[name] = Sums(known.spent + cost, known.corrected + (cost if spend.correction else 0))
    return alike


def add(sums: Mapping[Window, Sums]) -> None:
    """Add to each window, in the current transaction. A budget deleted meanwhile is passed over."""
    # Locked in one order, so that two workers cannot wait for each other.
    rows = [
        row
        for row in _rows(sums).select_for_update().order_by("pk")
        if (row.budget_id, row.starts_at) in sums
    ]
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        # Not by bulk_update: the statement that it writes for many rows takes longer than all else here.
        cursor.executemany(
            f"UPDATE {BudgetWindow._meta.db_table} SET spent_nanousd = %s, "  # noqa: S608 - of our own
            "corrected_nanousd = %s, updated_at = %s WHERE id = %s",
            [_with(row, sums[row.budget_id, row.starts_at], now) for row in rows],
        )


def _with(row: BudgetWindow, added: Sums, now: Any) -> tuple[int, int, Any, int]:
    return row.spent_nanousd + added.spent, row.corrected_nanousd + added.corrected, now, row.pk


def _rows(windows: Collection[Window]) -> QuerySet[BudgetWindow]:
    budgets = {budget_id for budget_id, _ in windows}
    starts = {starts_at for _, starts_at in windows}
    return BudgetWindow.objects.filter(budget_id__in=budgets, starts_at__in=starts)


def ledger_sums(ceiling: Ceiling, starts_at: datetime) -> Sums:
    """Return what the ledger holds for a budget's window that starts at `starts_at`."""
    start, end = bounds(ceiling.window, starts_at, ceiling.zone)
    rows = budgeted().filter(at__gte=start, at__lt=end)
    if ceiling.key_id is not None:
        rows = rows.filter(key_ref=ceiling.key_id)
    if ceiling.tenant_id is not None:
        rows = rows.filter(tenant_ref=ceiling.tenant_id)
    corrections = Q(kind__in=LedgerEntry.CORRECTIONS)
    groups = (
        rows.order_by()
        .values_list("requested_model", "provider", "model")
        .annotate(cost=Sum("cost_nanousd"), correction=Sum("cost_nanousd", filter=corrections))
    )
    spent = corrected = 0
    for requested_model, provider, model, cost, correction in groups:
        if ceiling.covers(names(requested_model, provider, model)):
            spent += cost or 0
            corrected += correction or 0
    return Sums(spent, corrected)
