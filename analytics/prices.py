"""Which price holds for a call that the gateway could not finish pricing itself."""

from collections.abc import Iterable

from keys.caller import matches
from providers.models import Price
from providers.pricing import Rates, RateSchedule


class PriceBook:
    """The prices of the providers that some calls went to, in the order the snapshot prefers them."""

    def __init__(self, providers: Iterable[str]) -> None:
        """Read the rows of `providers`."""
        self._rows: dict[str, list[Price]] = {}
        rows = Price.objects.filter(provider__name__in=set(providers)).select_related("provider")
        for row in rows:
            self._rows.setdefault(row.provider.name, []).append(row)

    def rates(self, provider: str, model: str, at: float) -> Rates | None:
        """Return the rates in force at epoch second `at`; None when no price is known."""
        fitting = [row for row in self._rows.get(provider, ()) if matches(row.model, model)]
        if not fitting:
            return None
        # An exact name beats a prefix, and a longer prefix a shorter one.
        pattern = min((row.model for row in fitting), key=lambda name: (name.endswith("*"), -len(name)))
        rows = sorted((row for row in fitting if row.model == pattern), key=_preference)
        return RateSchedule([_rates(row) for row in rows]).at(at)


def _preference(row: Price) -> tuple[bool, float]:
    return (row.source != Price.Source.OPERATOR, -row.effective_from.timestamp())


def _rates(row: Price) -> Rates:
    return Rates(
        price_id=row.pk,
        effective_from=row.effective_from.timestamp(),
        input=row.input_nanousd_per_mtok,
        output=row.output_nanousd_per_mtok,
        cached_input=row.cached_input_nanousd_per_mtok,
        cache_write=row.cache_write_nanousd_per_mtok,
    )
