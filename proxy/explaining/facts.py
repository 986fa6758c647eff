"""What is known at the moment: of each upstream, of the cache, of what shadows have spent.

From a process that serves (`live`), which must be asked on its event loop, or from what the workers have
last reported (`reported`). Both give plain values, so that the explanation itself keeps nobody waiting.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from providers.upstream import Upstream
from proxy.admission import asked
from proxy.demand import NOTHING
from proxy.explaining.reading import Reading
from proxy.fleet.registry import Fleet
from proxy.fleet.standing import Standing
from proxy.gateway import Gateway
from proxy.races import SLOW
from proxy.routing import Resolved
from proxy.shadow_budgets import Purse
from proxy.upstream_state import UpstreamState


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether an upstream may be asked now. `why` it may not, or what speaks against it.

    `credential`: the name of the one that it would be asked by, "" for the provider's own. `cost` and `busy`
    are what the strategies go by; `ttft_s` and `total_s` what hedging goes by, None where it is not known.
    """

    askable: bool = True
    usable: bool = True
    why: str = ""
    credential: str = ""
    cost: float = 0.0
    busy: int = 0
    waiting: int = 0
    full: bool = False
    ttft_s: float | None = None
    total_s: float | None = None


UNKNOWN = Prospect()


@dataclass(frozen=True, slots=True)
class Facts:
    """`source`: "live" or "reported". `stored_at` (epoch seconds): of the cached answer, None without one.

    `cache_known`: somebody has looked. `spent`: nano-dollars today, by the ids of shadows.
    """

    source: str
    prospects: Mapping[str, Prospect] = field(default_factory=dict)
    cache_known: bool = False
    stored_at: float | None = None
    in_flight: bool = False
    spent: Mapping[str, int] = field(default_factory=dict)

    def of(self, upstream: Upstream) -> Prospect:
        """Return the prospect of an upstream; of one that nobody has asked yet nothing speaks against it."""
        return self.prospects.get(upstream.id, UNKNOWN)


async def live(gateway: Gateway, reading: Reading, *, now: float) -> Facts:
    """Look around in the process that serves, on its event loop. `now` is epoch seconds."""
    resolved, policy = reading.resolved, reading.policy
    if resolved is None:
        return Facts("live")
    entry, in_flight = None, False
    if policy.key:
        looked = policy._replace(read=True, max_age_s=math.inf)
        entry = (await asked(gateway.store, looked, NOTHING, now=now)).entry
        in_flight = policy.read and policy.write and gateway.flights.find(policy.key) is not None
    return Facts(
        "live",
        {each.id: _prospect(gateway.fleet, each, reading.tokens) for each in _everyone(resolved)},
        cache_known=True,
        stored_at=None if entry is None else entry.stored_at,
        in_flight=in_flight,
        spent={
            each.upstream.id: gateway.shadows.spent(Purse(resolved.route, each.upstream.id), now)
            for each in resolved.shadows
        },
    )


def reported(reading: Reading, *, now: float) -> Facts:
    """Read what the workers have last reported. Asks the database."""
    if reading.resolved is None:
        return Facts("reported")
    names = [each.id for each in _everyone(reading.resolved)]
    rows = UpstreamState.objects.filter(upstream__in=names)
    return Facts("reported", {row.upstream: _from_report(row, now) for row in rows})


def _everyone(resolved: Resolved) -> Iterable[Upstream]:
    return (*resolved.all_upstreams, *(shadow.upstream for shadow in resolved.shadows))


def _prospect(fleet: Fleet, upstream: Upstream, tokens: int) -> Prospect:
    standing, gate, now = (
        fleet.found(upstream.id),
        fleet.look_at_gate(upstream.account.name),
        fleet.loop.time(),
    )
    waiting = 0 if gate is None else gate.waiting
    full = gate is not None and not gate.free
    if standing is None:
        return Prospect(credential=upstream.account.credential, waiting=waiting, full=full)
    pick = standing.pick(upstream, now, tokens=tokens)
    return Prospect(
        askable=pick.upstream is not None,
        usable=standing.ready(upstream, now),
        why=_why(standing, now, at=pick.at, open=pick.open, last_resort=pick.last_resort),
        credential=(pick.upstream or upstream).account.credential,
        cost=standing.cost.cost(now, standing.busy),
        busy=standing.busy,
        waiting=waiting,
        full=full,
        ttft_s=standing.ttft.p(SLOW),
        total_s=standing.total.p(SLOW),
    )


def _why(standing: Standing, now: float, *, at: float, open: bool, last_resort: bool) -> str:  # noqa: A002 - Pick's word
    if open and standing.breaker.held:
        return "an operator holds its circuit breaker open"
    if open:
        return f"its circuit breaker is open for {_seconds(at - now)} more{_last(standing.breaker.reason)}"
    if last_resort:
        return "each of its credentials was refused or limited lately: it is tried after the others"
    if at > now and standing.cooling:
        return f"the vendor asked us to wait: {_seconds(at - now)} more"
    return f"the vendor's quota is used up for {_seconds(at - now)} more" if at > now else ""


def _from_report(row: UpstreamState, now: float) -> Prospect:
    if row.held_open:
        return Prospect(askable=False, usable=False, why="an operator holds its circuit breaker open")
    open_s = 0.0 if row.open_until is None else row.open_until.timestamp() - now
    if row.state == UpstreamState.State.OPEN and open_s > 0:
        why = f"its circuit breaker is reported open for {_seconds(open_s)} more{_last(row.reason)}"
        return Prospect(askable=False, usable=False, why=why)
    cooling_s = 0.0 if row.cooling_until is None else row.cooling_until.timestamp() - now
    if cooling_s > 0:
        why = f"the vendor asked us to wait: {_seconds(cooling_s)} more"
        return Prospect(askable=False, usable=False, why=why)
    return UNKNOWN


def _last(reason: str) -> str:
    return f"; the last failure: {reason}" if reason not in ("", "failed") else ""


def _seconds(seconds: float) -> str:
    return f"{max(math.ceil(seconds), 1)} s"
