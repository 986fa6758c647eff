"""Which price holds for a call that the gateway could not finish pricing itself."""

from collections.abc import Iterable

from providers.models import Price
from providers.pricing import PriceRule, Rates, schedule


class PriceBook:
    """The prices of the providers that some calls went to."""

    def __init__(self, providers: Iterable[str]) -> None:
        """Read the rows of `providers`."""
        self._rules: dict[str, list[PriceRule]] = {}
        rows = Price.objects.filter(provider__name__in=set(providers)).select_related("provider")
        for row in rows:
            rule = PriceRule(
                pattern=row.model, operator=row.source == Price.Source.OPERATOR, rates=_rates(row)
            )
            self._rules.setdefault(row.provider.name, []).append(rule)

    def rates(self, provider: str, model: str, at: float) -> Rates | None:
        """Return the rates in force at epoch second `at`; None when no price is known."""
        return schedule(self._rules.get(provider, ()), model).at(at)


def _rates(row: Price) -> Rates:
    return Rates(
        price_id=row.pk,
        effective_from=row.effective_from.timestamp(),
        input=row.input_nanousd_per_mtok,
        output=row.output_nanousd_per_mtok,
        cached_input=row.cached_input_nanousd_per_mtok,
        cache_write=row.cache_write_nanousd_per_mtok,
    )
