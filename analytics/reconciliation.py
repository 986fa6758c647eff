"""Reconciliation: what a vendor says it has cost beside what the ledger says, per model and day (UTC)."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.db.models.functions import TruncDate

from analytics.model_names import comparable
from analytics.models import VendorCost, VendorImport
from analytics.vendor_exports import read_export
from keys.models import LedgerEntry
from providers.models import Provider


@dataclass(slots=True)
class Drift:
    """One model on one day. Money is nano-dollars. `names` are ours, `billed` the vendor's.

    `unpriced`: attempts of ours whose price nobody knows; they are part of no sum.
    """

    day: date
    names: set[str] = field(default_factory=set)
    billed: set[str] = field(default_factory=set)
    ours: int = 0
    theirs: int = 0
    unpriced: int = 0
    our_tokens: int = 0
    their_tokens: int | None = None

    @property
    def difference(self) -> int:
        """What the ledger has more."""
        return self.ours - self.theirs

    @property
    def models(self) -> str:
        """Say which of our models is compared with which of the vendor's."""
        ours, theirs = ", ".join(sorted(self.names)), ", ".join(sorted(self.billed))
        if not self.billed or ours == theirs:
            return ours
        return f"{ours} (billed as {theirs})" if ours else f"{theirs} (billed alone)"

    @property
    def percent(self) -> float | None:
        """The difference in percent of the vendor's figure; None where that is 0."""
        return 100 * self.difference / self.theirs if self.theirs else None


class Comparison(NamedTuple):
    """The rows, the greatest difference first; what the ledger has of days that no export tells of."""

    rows: Sequence[Drift]
    ours: int
    theirs: int
    days: int
    unbilled_days: int
    unbilled: int

    @property
    def total(self) -> Drift:
        """All rows together."""
        return Drift(date.min, ours=self.ours, theirs=self.theirs)


def import_export(provider: str, content: bytes, *, file_name: str, by: str) -> VendorImport:
    """Read a vendor's export in: it replaces whatever was known of its days. Raises BadExport."""
    export = read_export(content)
    days = sorted({cost.day for cost in export.costs})
    with transaction.atomic():
        # One import at a time.
        list(Provider.objects.select_for_update().filter(name=provider).values_list("pk", flat=True))
        source = VendorImport.objects.create(
            provider=provider,
            file_name=file_name[:200],
            sha256=hashlib.sha256(content).hexdigest(),
            layout=export.layout,
            first_day=days[0],
            last_day=days[-1],
            lines=export.lines,
            cost_nanousd=sum(cost.cost_nanousd for cost in export.costs),
            made_by=by,
        )
        VendorCost.objects.filter(provider=provider, day__in=days).delete()
        rows = [VendorCost(source=source, provider=provider, **cost._asdict()) for cost in export.costs]
        VendorCost.objects.bulk_create(rows, batch_size=500)
    return source


def compare(provider: str, first_day: date, last_day: date) -> Comparison:
    """Return how the ledger and the vendor differ on the days that the vendor's exports tell of."""
    bill = list(VendorCost.objects.filter(provider=provider, day__range=(first_day, last_day)))
    days = {cost.day for cost in bill}
    booked = _booked(provider, first_day, last_day)
    names = comparable({row["model"] for row in booked if row["day"] in days}, {cost.model for cost in bill})
    rows: dict[tuple[date, str], Drift] = {}
    unbilled: dict[date, int] = defaultdict(int)
    for row in booked:
        if row["day"] not in days:
            unbilled[row["day"]] += row["cost"] or 0
            continue
        drift = rows.setdefault((row["day"], names[row["model"]]), Drift(row["day"]))
        drift.names.add(row["model"])
        drift.ours += row["cost"] or 0
        drift.unpriced += row["unpriced"]
        drift.our_tokens += row["tokens"]
    for cost in bill:
        drift = rows.setdefault((cost.day, names[cost.model]), Drift(cost.day))
        drift.billed.add(cost.model)
        drift.theirs += cost.cost_nanousd
        if cost.input_tokens is not None or cost.output_tokens is not None:
            drift.their_tokens = (
                (drift.their_tokens or 0) + (cost.input_tokens or 0) + (cost.output_tokens or 0)
            )
    found = sorted(rows.values(), key=lambda row: (-abs(row.difference), row.day, sorted(row.names)))
    return Comparison(
        rows=found,
        ours=sum(row.ours for row in found),
        theirs=sum(row.theirs for row in found),
        days=len(days),
        unbilled_days=len(unbilled),
        unbilled=sum(unbilled.values()),
    )


def billed_days(provider: str) -> tuple[date, date] | None:
    """Return the first and the last day that the exports of a provider tell of."""
    days = VendorCost.objects.filter(provider=provider).order_by("day").values_list("day", flat=True)
    first = days.first()
    last = days.last()
    return (first, last) if first and last else None


def _booked(provider: str, first_day: date, last_day: date) -> list[Mapping[str, Any]]:
    """Return what the ledger holds per day and model: shadows are billed too, callers' own keys are not."""
    adjusted = LedgerEntry.objects.filter(
        completion_id=OuterRef("completion_id"),
        attempt=OuterRef("attempt"),
        kind=LedgerEntry.Kind.ADJUSTED,
    )
    unknown = Q(cost_nanousd=None, kind__in=(LedgerEntry.Kind.SPENT, LedgerEntry.Kind.SHADOW))
    rows = (
        LedgerEntry.objects.filter(
            provider=provider,
            own_credential=False,
            at__gte=datetime.combine(first_day, time(), UTC),
            at__lt=datetime.combine(last_day + timedelta(days=1), time(), UTC),
        )
        .annotate(day=TruncDate("at", tzinfo=UTC))
        .order_by()
        .values("day", "model")
        .annotate(
            cost=Sum("cost_nanousd"),
            unpriced=Count("pk", filter=unknown & ~Q(Exists(adjusted))),
            tokens=Sum("prompt_tokens") + Sum("completion_tokens"),
        )
    )
    return list(rows)
