"""All that is known of one upstream at the moment, and whether it may be asked."""

from collections.abc import Callable
from typing import NamedTuple

from providers.upstream import Upstream
from proxy.fleet.breaker import Breaker
from proxy.fleet.cooling import Cooling
from proxy.fleet.latency import PeakEwma, Quantiles
from proxy.fleet.quotas import Quota


class Pick(NamedTuple):
    """Whether an upstream may be asked. `upstream`: by which of its credentials, None: not now.

    `at` is the loop time from which on it may be. `open`: its breaker says no. `last_resort`: it may be
    asked, but a credential that has not been refused or limited lately would be the better choice.
    """

    upstream: Upstream | None
    at: float
    open: bool = False
    last_resort: bool = False


class Standing:
    """One upstream's. `busy`: attempts under way, streams until their end.

    `failed` is called after a failure that tells something of the upstream, its credentials or its limits.
    `remembers`: whether a limit or refusal puts a lone credential aside; several take turns in any case.
    """

    __slots__ = (
        "breaker",
        "busy",
        "cooling",
        "cost",
        "failed",
        "id",
        "quotas",
        "refused",
        "remembers",
        "total",
        "ttft",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - the upstream's
        *,
        breaker: Breaker,
        refused: Cooling,
        remembers: bool = True,
        failed: "Callable[[Standing], None]" = lambda _: None,
    ) -> None:
        """`refused`: the cool-downs of the account's credentials that the vendor does not take."""
        self.id = id
        self.failed = failed
        self.remembers = remembers
        self.breaker = breaker
        self.busy = 0
        self.cost = PeakEwma()
        self.ttft, self.total = Quantiles(), Quantiles()
        self.cooling = Cooling()  # those that the vendor has limited, for this model
        self.refused = refused
        self.quotas: dict[str, Quota] = {}  # by credential

    def is_clear(self, now: float) -> bool:
        """Can it be asked by any of its credentials, with nothing to weigh?"""
        # Asked for each request: a dict tells its truth faster than the Cooling around it.
        return self.breaker.allows(now) and not (self.cooling.down or self.refused.down or self.quotas)

    def pick(self, upstream: Upstream, now: float, *, tokens: int) -> Pick:
        """Return by which credential the upstream may be asked for a call of about `tokens`, or when."""
        if self.is_clear(now):
            return Pick(upstream, now)
        if not self.breaker.allows(now):
            return Pick(None, self.breaker.retry_at(now), open=True)
        if upstream.account.own_credential:  # what is known of limits and refusals is of ours
            return Pick(upstream, now)
        best: Pick | None = None
        for each in (upstream, *upstream.spares):
            pick = self._by(each, now, tokens)
            if pick.upstream is not None and not pick.last_resort:
                return pick
            if best is None or _rank(pick) < _rank(best):
                best = pick
        assert best is not None
        return best

    def quota(self, credential: str) -> Quota:
        """Return what is known of a credential's quota."""
        quota = self.quotas.get(credential)
        if quota is None:
            quota = self.quotas[credential] = Quota()
        return quota

    def ready(self, upstream: Upstream, now: float) -> bool:
        """Would a strategy send a request here? One good credential is enough."""
        pick = self.pick(upstream, now, tokens=0)
        return pick.upstream is not None and not pick.last_resort

    def troubled(self, now: float) -> bool:
        """Does something speak against it that must not be forgotten?"""
        breaker = self.breaker
        down = breaker.held or not breaker.allows(now) or breaker.failures(now) > 0
        return down or self.cooling.until(now) > now

    def reset(self) -> None:
        """Forget what speaks against it."""
        self.breaker.reset()
        self.cooling.clear()
        self.refused.clear()
        self.quotas.clear()

    def _by(self, upstream: Upstream, now: float, tokens: int) -> Pick:
        credential = upstream.account.credential
        down = self.cooling.of(credential, now)
        if down is not None and down.told:
            return Pick(None, down.until)
        quota = self.quotas.get(credential)
        at = now if quota is None else quota.ready_at(now, tokens)
        if at > now:
            return Pick(None, at)
        last_resort = down is not None or self.refused.of(credential, now) is not None
        return Pick(upstream, now, last_resort=last_resort)


def _rank(pick: Pick) -> tuple[bool, float]:
    return (pick.upstream is None, pick.at)
