from prometheus_client import REGISTRY

from proxy.breaker_metrics import BreakerMeter, worst_states
from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition
from proxy.metrics import Meter


def state(provider):
    return REGISTRY.get_sample_value("gateway_breaker_state", {"provider": provider})


def opened(provider):
    return REGISTRY.get_sample_value("gateway_breaker_opened_total", {"provider": provider})


def test_it_shows_the_worst_upstream_of_a_provider():
    conditions = [
        Condition(upstream="a/1", state=State.HALF_OPEN),
        Condition(upstream="a/2", state=State.OPEN, open_until=50.0),
        Condition(upstream="b/1", failures=3),
        Condition(upstream="c/1", state=State.OPEN, held=True),
        Condition(upstream="gone/1", state=State.HALF_OPEN),
    ]
    providers = ("a", "b", "c", "d")
    assert worst_states(providers, conditions, 49.0) == {"a": 2, "b": 0, "c": 2, "d": 0, "gone": 1}
    assert worst_states(providers, conditions, 50.0)["a"] == 1


def test_it_tells_states_when_they_are_published():
    meter = BreakerMeter()
    meter.states = lambda: {"bm-a": 2, "bm-b": 0}
    assert state("bm-a") is None
    meter.publish()
    assert (state("bm-a"), state("bm-b")) == (2, 0)
    meter.states = lambda: {"bm-b": 1}
    meter.publish()
    assert (state("bm-a"), state("bm-b")) == (0, 1), "a provider that is gone has nothing open"


def test_it_counts_each_opening_once():
    meter = Meter()
    for _ in range(3):
        meter.breakers.opened("bm-c")
    assert opened("bm-c") is None
    meter.publish()
    meter.publish()
    assert opened("bm-c") == 3
    meter.breakers.opened("bm-c")
    meter.publish()
    assert opened("bm-c") == 4
