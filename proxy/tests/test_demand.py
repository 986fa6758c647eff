"""What holds for a request, and how much of it the request takes."""

from keys.caller import Caller, KeyTerms
from keys.limits import Ceiling, Rules
from proxy.demand import applicable
from proxy.destination import destination
from proxy.routing import resolve
from proxy.tests.fakes import make_snapshot, price_row, route_row

USD = 10**9
NOW = 1_800_000_000.0


def caller_with(*ceilings):
    return Caller(1, 2, "ci", "", terms=KeyTerms(rules=Rules(ceilings=ceilings)))


def test_what_is_passed_on_to_a_named_provider_is_held_to_that_ones_budgets_and_price():
    """One model's name, three ways: another provider answers, at another price."""
    dear = price_row("azure", "draw", input_nanousd_per_mtok=50 * USD)
    snapshot = make_snapshot(
        "openai",
        "azure",
        routes=[route_row("draw", "openai")],
        prices=[price_row("openai", "draw"), dear],
    )
    caller = caller_with(Ceiling(1, USD, "day", model="openai/*"), Ceiling(2, USD, "day", model="azure/*"))

    def held(targets):
        found = applicable(snapshot, caller, "draw", targets)
        return [each.ceiling.id for each in found.purses_at(NOW)], found.dearest(NOW).rates[0][0] // USD

    def named(provider):
        return destination(snapshot, model="draw", provider=provider, path="/v1/images/generations")

    assert held(resolve(snapshot, "draw")) == ([1], 1)
    assert held(named("azure")) == ([2], 50)
    assert held(named("openai")) == ([1], 1)
    assert held(named("")) == ([1], 1)
