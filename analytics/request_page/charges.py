"""What a request cost, as the ledger has it: each attempt, the price it was reckoned by, and corrections."""

from dataclasses import dataclass

from django.urls import reverse

from analytics.ledger_rows import COUNTS
from config.words import dollars, signed_dollars
from keys.models import LedgerEntry
from providers.models import Price
from providers.pricing import RATE_COLUMNS

_CORRECTIONS = frozenset(LedgerEntry.CORRECTIONS)


@dataclass(frozen=True, slots=True)
class Charge:
    """One row of the ledger."""

    url: str
    kind: str
    attempt: int
    upstream: str
    tokens: str
    price: str
    price_url: str
    cost: str
    notes: str


@dataclass(frozen=True, slots=True)
class Charges:
    """All rows of one request. `total` is their sum in words."""

    rows: list[Charge]
    total: str


def charges(completion_id: str) -> Charges:
    """Return what was booked. Two queries."""
    rows = LedgerEntry.objects.filter(completion_id=completion_id)
    entries = list(rows.order_by("attempt", "revision", "pk"))
    used = {each.price_ref for each in entries if each.price_ref}
    prices = Price.objects.select_related("provider").in_bulk(used)
    known = [each.cost_nanousd for each in entries if each.cost_nanousd is not None]
    total = dollars(sum(known) if known else None)
    if known and any(each.cost_nanousd is None for each in entries):
        total += " and more, whose price nobody knew"
    return Charges([_charge(each, prices.get(each.price_ref or 0)) for each in entries], total)


def _charge(entry: LedgerEntry, price: Price | None) -> Charge:
    cost = dollars(entry.cost_nanousd, unknown="price unknown")
    if entry.kind in _CORRECTIONS and entry.cost_nanousd is not None:
        cost = signed_dollars(entry.cost_nanousd)
    return Charge(
        url=reverse("admin:keys_ledgerentry_change", args=[entry.pk]),
        kind=entry.get_kind_display(),
        attempt=entry.attempt + 1,
        upstream=f"{entry.provider}/{entry.model}",
        tokens=_tokens(entry),
        price=_price(entry, price),
        price_url=reverse("admin:providers_price_change", args=[price.pk]) if price else "",
        cost=cost,
        notes=", ".join(_notes(entry)),
    )


def _tokens(entry: LedgerEntry) -> str:
    names = {column: name.replace("_", " ") for name, column in COUNTS.items()}
    counts = {name: getattr(entry, column) for column, name in names.items()}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _price(entry: LedgerEntry, price: Price | None) -> str:
    if price is None:
        return f"deleted, number {entry.price_ref}" if entry.price_ref else "none known"
    rates = [
        f"{name.replace('_', ' ')} {dollars(getattr(price, column))}"
        for name, column in RATE_COLUMNS.items()
        if getattr(price, column) is not None
    ]
    tiers = "; long prompts have others" if price.tiers else ""
    return f"{price}: {', '.join(rates)} per million tokens{tiers}"


def _notes(entry: LedgerEntry) -> list[str]:
    notes = {
        "estimated": entry.estimated,
        "paid by the caller's own vendor key": entry.own_credential,
        "of a shadow, in no budget": entry.shadow,
        f"by re-rating {entry.rerating_ref}": entry.rerating_ref is not None,
    }
    return [note for note, holds in notes.items() if holds]
