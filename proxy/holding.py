"""A request's hold while it runs: raised before each further attempt that may cost, settled at its end."""

import time
from collections.abc import Sequence

from keys.limits import Purse
from proxy.charges import Charge, charged_to
from proxy.completion import Completion
from proxy.demand import Applicable
from proxy.estimating import Costs
from proxy.learning import Learned
from proxy.limit_errors import refused
from proxy.store.base import Hold, Store


class Holding:
    """What one request holds of its limits and budgets, and how it gives it back."""

    __slots__ = ("_applicable", "_costs", "_hold", "_learned", "_model", "_store")

    def __init__(
        self, store: Store, hold: Hold, *, costs: Costs, applicable: Applicable, model: str, learned: Learned
    ) -> None:
        """`costs`: what one attempt may cost; `model`: by what name its answers are learned from."""
        self._store, self._hold, self._costs = store, hold, costs
        self._applicable, self._model, self._learned = applicable, model, learned

    async def raise_again(self, completion: Completion) -> None:
        """Hold what one more attempt may cost: one before it may have cost that. Raises GatewayError."""
        if not self._hold.demand.purses:
            return
        worst, expected = self._costs.worst, self._costs.expected
        refusal = await self._store.raise_hold(self._hold, worst=worst, expected=expected, now=time.time())
        if refusal is not None:
            completion.limits = self._applicable.told_refused(refusal.by)
            raise refused(refusal)

    def settle(self, completion: Completion) -> None:
        """Put what a finished request has used in the place of what it held. Never waits."""
        usage, purses = completion.usage, self._hold.demand.purses
        tokens = 0 if usage is None or completion.cache == "hit" else usage.total
        self._store.settle(
            self._hold,
            tokens=tokens,
            costs=_costs(completion, purses) if purses else (),
            now=completion.at + completion.latency_ms / 1000,
        )
        if self._applicable.learns and usage is not None and completion.outcome == "ok":
            self._learned.saw((completion.key_id, self._model), usage.completion)


def _costs(completion: Completion, purses: Sequence[Purse]) -> Sequence[int]:
    """Return what a completion has spent of each purse: as the ledger counts it (keys.spending)."""
    if completion.own_credential:
        return [0] * len(purses)
    whole = completion.cost_nanousd
    return [
        charged_to(purse.ceiling.model, _charges(completion))
        if whole is None or purse.ceiling.model  # where the price of one attempt is not known, others count
        else whole
        for purse in purses
    ]


def _charges(completion: Completion) -> Sequence[Charge]:
    """Return the costs of its attempts, each with the names of its model."""
    asked = completion.named_model
    charged = [each for each in completion.attempts if each.usage is not None]
    if not charged:
        names = (asked, f"{completion.provider}/{completion.model}")
        return [Charge(completion.cost_nanousd or 0, names)]
    return [Charge(each.cost_nanousd or 0, (asked, f"{each.provider}/{each.model}")) for each in charged]
