import pytest

from keys.calendar import Span
from keys.caller import ANONYMOUS
from keys.limits import Ceiling, Purse
from providers.usage import Usage
from proxy.completion import Attempt, Completion
from proxy.demand import Applicable, Untargeted
from proxy.estimating import Costs
from proxy.holding import Holding
from proxy.learning import Learned
from proxy.limit_errors import BudgetExhausted
from proxy.store.base import Demand
from proxy.store.memory import MemoryStore

NOW = 1_800_000_000.0
SPAN = Span(int(NOW) - 100, int(NOW) + 100)


def purse(number, limit=100, **fields):
    return Purse(Ceiling(number, limit, "day", **fields), f"{number}@0", limit, SPAN)


def held(*purses, worst=40):
    store = MemoryStore(max_bytes=0)
    hold = store.counts.take(Demand("c-1", purses=purses, worst=worst, expected=4), now=NOW).hold
    learned = Learned()
    applicable = Applicable(ANONYMOUS, "gpt", Untargeted(), [])
    costs = Costs(worst, 4, unpriced=False)
    return store, Holding(store, hold, costs=costs, applicable=applicable, model="gpt", learned=learned)


def done(**fields):
    values = {"id": "c-1", "request_id": "r", "at": NOW, "endpoint": "chat", "requested_model": "gpt"}
    return Completion(**{**values, "provider": "openai", "model": "gpt-4o", "usage": Usage(3, 4), **fields})


def charged(cost, provider):
    attempt = Attempt(provider=provider, model="m", started_ms=0.0)
    attempt.usage, attempt.cost_nanousd = Usage(1, 1), cost
    return attempt


def spent(store, *purses):
    return [store.counts.spent_of(each)[:2] for each in purses]


def test_it_puts_what_was_spent_in_the_place_of_what_was_held():
    budget = purse(1)
    store, holding = held(budget)
    assert spent(store, budget) == [(0, 40)]
    for _ in range(2):
        holding.settle(done(cost_nanousd=7))
    assert spent(store, budget) == [(7, 0)]


def test_what_has_no_known_price_is_in_no_budget():
    budget = purse(1)
    store, holding = held(budget)
    holding.settle(done(cost_nanousd=None))
    assert spent(store, budget) == [(0, 0)]


def test_a_budget_of_some_models_counts_the_attempts_that_were_theirs():
    all_of_it, openai, other = purse(1), purse(2, model="openai/*"), purse(3, model="mistral/*")
    store, holding = held(all_of_it, openai, other)
    attempts = [charged(5, "openai"), charged(20, "anthropic")]
    holding.settle(done(attempts=attempts, cost_nanousd=25))
    assert spent(store, all_of_it, openai, other) == [(25, 0), (5, 0), (0, 0)]


def test_of_two_attempts_one_of_which_has_no_price_the_other_counts():
    budget = purse(1)
    store, holding = held(budget)
    holding.settle(done(attempts=[charged(5, "openai"), charged(None, "vllm")], cost_nanousd=None))
    assert spent(store, budget) == [(5, 0)]


def test_what_the_caller_pays_itself_is_in_no_budget():
    budget = purse(1)
    store, holding = held(budget)
    holding.settle(done(cost_nanousd=30, own_credential=True))
    assert spent(store, budget) == [(0, 0)]


async def test_a_further_attempt_is_held_or_refused():
    budget = purse(1)
    store, holding = held(budget)
    await holding.raise_again(done())
    assert spent(store, budget) == [(0, 80)]
    with pytest.raises(BudgetExhausted, match="budget:1"):
        await holding.raise_again(done())
    assert spent(store, budget) == [(0, 80)]
