"""What is to be seen of upstreams that are not simply well, for whoever shows it: health, metrics, the admin.

A Standing is for the event loop alone; these are frozen copies, for any thread. They are made when an
upstream fails or its breaker turns, and once a second from then on until it is well again: what only time
changes (failures that no longer count, a wait that is over) is a second late. While all is well, nothing
runs.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.fleet.breaker import State
from proxy.fleet.registry import Fleet
from proxy.fleet.standing import Standing

LOOK_EVERY_S = 1.0
# So many are looked at in one turn of the loop: a vendor may fail with thousands of models.
AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One upstream's. Moments are epoch seconds, None where there is nothing to wait for.

    `refused_until`: how long the first credential of its account that was refused is left alone.
    """

    upstream: str
    state: State = State.CLOSED
    failures: int = 0
    reason: str = ""
    held: bool = False
    open_until: float | None = None
    cooling_until: float | None = None
    refused_until: float | None = None

    @property
    def provider(self) -> str:
        """The name of its account."""
        return provider_of(self.upstream)

    @property
    def ails(self) -> bool:
        """Is there anything to say of the upstream itself?"""
        return bool(
            self.failures or self.held or self.cooling_until is not None or self.state is not State.CLOSED
        )

    def state_at(self, now: float) -> State:
        """Return what the breaker does with attempts at an epoch second soon after it was looked at."""
        over = self.open_until is not None and self.open_until <= now
        return State.HALF_OPEN if over else self.state


class Lookout:
    """Keeps the conditions of one process's upstreams."""

    def __init__(self, fleet: Fleet) -> None:
        """See nobody ail."""
        self._loop = fleet.loop
        self._epoch_s = time.time() - fleet.loop.time()
        self._conditions: dict[str, Condition] = {}
        self._standings: dict[str, Standing] = {}
        self._timer: asyncio.TimerHandle | None = None

    def look(self, standing: Standing) -> Condition:
        """Return an upstream's condition, and keep it while there is something to say."""
        condition = self._condition(standing)
        if condition.ails or condition.refused_until is not None:
            self._conditions[standing.id], self._standings[standing.id] = condition, standing
            if self._timer is None:
                self._timer = self._loop.call_later(LOOK_EVERY_S, self._look_around)
        else:
            self._conditions.pop(standing.id, None)
            self._standings.pop(standing.id, None)
        return condition

    def of(self, upstream: str) -> Condition | None:
        """Return the condition of an upstream when it was last looked at; None: it was well."""
        return self._conditions.get(upstream)

    def conditions(self) -> Sequence[Condition]:
        """Return all of them. For any thread."""
        return list(self._conditions.values())

    def ailing(self) -> Sequence[Standing]:
        """Return the upstreams that they are of."""
        return list(self._standings.values())

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_around(self) -> None:
        self._timer = None
        self._look_at(self.ailing())

    def _look_at(self, standings: Sequence[Standing]) -> None:
        for standing in standings[:AT_ONCE]:
            self.look(standing)
        if len(standings) > AT_ONCE:
            self._loop.call_soon(self._look_at, standings[AT_ONCE:])

    def _condition(self, standing: Standing) -> Condition:
        now, breaker = self._loop.time(), standing.breaker
        state = breaker.state(now)
        waits = state is State.OPEN and not breaker.held
        return Condition(
            upstream=standing.id,
            state=state,
            failures=breaker.failures(now),
            reason=breaker.reason,
            held=breaker.held,
            open_until=self._epoch_s + breaker.retry_at(now) if waits else None,
            cooling_until=self._epoch(standing.cooling.until(now), now),
            refused_until=self._epoch(standing.refused.until(now), now),
        )

    def _epoch(self, until: float, now: float) -> float | None:
        return self._epoch_s + until if until > now else None


def provider_of(upstream: str) -> str:
    """Return the provider in an upstream's name, "provider/model"."""
    return upstream.partition("/")[0]
