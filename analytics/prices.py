"""Which price holds for a call that the gateway did not finish pricing itself, or prices anew.

The choice is the hot path's own: the same rows, compiled by the same rules.
"""

import hashlib
from collections.abc import Iterable

from providers.pricing import Rates, RateSchedule, schedule
from proxy.compiling import price_rules
from proxy.rows import price_rows


class PriceBook:
    """The prices of the providers that some calls went to."""

    def __init__(self, providers: Iterable[str]) -> None:
        """Read the rows of `providers`."""
        self._rules = price_rules(price_rows(set(providers)))
        self._schedules: dict[tuple[str, str], RateSchedule] = {}

    def rates(self, provider: str, model: str, at: float) -> Rates | None:
        """Return the rates in force at epoch second `at`; None when no price is known."""
        known = self._schedules.get((provider, model))
        if known is None:
            known = self._schedules[provider, model] = schedule(self._rules.get(provider, ()), model)
        return known.at(at)

    def fingerprint(self) -> str:
        """Return a text that is another one as soon as any of the prices is."""
        rules = sorted(f"{provider} {rule!r}" for provider, of in self._rules.items() for rule in of)
        return hashlib.sha256("\n".join(rules).encode()).hexdigest()
