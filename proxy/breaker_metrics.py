"""Prometheus metrics of the circuit breakers: by provider, for clients can name any model."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Counter, Gauge

from proxy.fleet.lookout import Condition

BREAKER = Gauge(
    "gateway_breaker_state",
    "Of a provider's worst upstream: 0 closed, 1 half-open, 2 open.",
    ["provider"],
    multiprocess_mode="livemax",
)
OPENED = Counter("gateway_breaker_opened", "How often failures opened a breaker, probes' too.", ["provider"])


class BreakerMeter:
    """One process's. `states` is asked while publishing, in any thread: it returns a new mapping."""

    def __init__(self) -> None:
        """Know no provider."""
        self.states: Callable[[], Mapping[str, int]] = dict
        self._told: dict[str, int] = {}
        self._opened: Tally[str] = Tally()
        self._told_opened: Tally[str] = Tally()

    def opened(self, provider: str) -> None:
        """Count a breaker that has opened. For the event loop."""
        self._opened[provider] += 1

    def publish(self) -> None:
        """Tell Prometheus what has changed. For any thread, one at a time."""
        states = self.states()
        gone = {name: 0 for name in self._told if name not in states}
        for provider, state in {**states, **gone}.items():
            if self._told.get(provider) != state:
                BREAKER.labels(provider).set(state)
                self._told[provider] = state
        for provider, count in list(self._opened.items()):
            new = count - self._told_opened[provider]
            if new:
                OPENED.labels(provider).inc(new)
                self._told_opened[provider] = count


def worst_states(providers: Iterable[str], conditions: Iterable[Condition], now: float) -> dict[str, int]:
    """Return each provider's worst breaker at an epoch second, as the gauge has it."""
    states = dict.fromkeys(providers, 0)
    for each in conditions:
        states[each.provider] = max(states.get(each.provider, 0), each.state_at(now))
    return states
