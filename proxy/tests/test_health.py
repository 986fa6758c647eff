import pytest

from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition
from proxy.health import providers
from proxy.tests.fakes import make_snapshot, provider_row

NOW = 1000.0
OPEN = Condition(
    upstream="openai/b", state=State.OPEN, failures=5, reason="upstream_error", open_until=NOW + 12.34
)


def seen(*conditions, now=NOW):
    return providers(make_snapshot("openai", "vllm"), conditions, now)


def test_it_shows_nothing_of_the_well():
    assert seen() == {name: {"state": "closed", "usable": True} for name in ("openai", "vllm")}


def test_it_lists_what_is_not_simply_well():
    failing = Condition(upstream="openai/a", failures=2, reason="upstream_reset")
    assert seen(OPEN, failing)["openai"] == {
        "state": "open",
        "usable": True,
        "upstreams": {
            "openai/a": {"state": "closed", "failures": 2, "reason": "upstream_reset"},
            "openai/b": {"state": "open", "failures": 5, "retry_in_s": 12.3, "reason": "upstream_error"},
        },
    }
    assert seen(OPEN)["vllm"] == {"state": "closed", "usable": True}


def test_it_shows_who_may_be_probed():
    (shown,) = seen(OPEN, now=NOW + 13)["openai"]["upstreams"].values()
    assert shown == {"state": "half_open", "failures": 5, "reason": "upstream_error"}


def test_it_shows_who_is_held():
    held = Condition(upstream="openai/a", state=State.OPEN, held=True)
    assert seen(held)["openai"]["upstreams"] == {"openai/a": {"state": "open", "failures": 0, "held": True}}


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([Condition(upstream="openai/a", failures=1)], "closed"),
        ([Condition(upstream="openai/a", cooling_until=NOW + 1)], "cooling"),
        ([Condition(upstream="openai/a", cooling_until=NOW - 1)], "closed"),
        ([Condition(upstream="openai/a", refused_until=NOW + 1)], "cooling"),
        ([Condition(upstream="openai/a", state=State.HALF_OPEN, cooling_until=NOW + 1)], "half_open"),
        ([OPEN, Condition(upstream="openai/a", state=State.HALF_OPEN)], "open"),
        ([OPEN, Condition(upstream="vllm/a")], "open"),
    ],
)
def test_it_gives_a_provider_the_state_of_its_worst_upstream(conditions, state):
    assert seen(*conditions)["openai"]["state"] == state


def test_it_shows_how_long_one_cools():
    shown = seen(Condition(upstream="openai/a", cooling_until=NOW + 20))["openai"]["upstreams"]
    assert shown == {"openai/a": {"state": "closed", "failures": 0, "cooling_s": 20.0}}


def test_it_lists_no_upstream_for_a_refused_credential():
    shown = seen(Condition(upstream="openai/a", refused_until=NOW + 20))["openai"]
    assert shown == {"state": "cooling", "usable": True, "reason": "it has refused a credential"}


def test_it_says_why_a_provider_is_not_usable_whatever_its_upstreams():
    unset = provider_row("vllm", credential="${NO_SUCH_VARIABLE_HERE}")
    condition = Condition(upstream="vllm/a", state=State.OPEN)
    shown = providers(make_snapshot("openai", unset), [condition], NOW)["vllm"]
    assert (shown["state"], shown["usable"]) == ("unusable", False)
    assert "NO_SUCH_VARIABLE_HERE" in shown["reason"]


def test_it_shows_nothing_before_the_first_configuration():
    assert providers(None, [OPEN], NOW) == {}
