"""A shadow's purse: one UTC day, what is under way, and what nobody can price."""

import asyncio

import pytest

from proxy.shadow_budgets import BUSY, MAX_RUNNING, OVER_BUDGET, UNPRICED, Purse, ShadowBudgets

PURSE = Purse("exact:gpt", "openai/gpt")
DAY_S = 86_400.0
NOW = 20_000 * DAY_S + 10


def refusal(budgets, budget, estimate, now=NOW):
    return budgets.refusal(PURSE, budget, estimate=estimate, now=now)


@pytest.mark.parametrize(
    ("budget", "estimate", "why"),
    [
        (None, None, ""),
        (None, 10**9, ""),
        (100, None, UNPRICED),
        (100, 100, ""),
        (100, 101, OVER_BUDGET),
        (0, 0, OVER_BUDGET),
        (0, None, UNPRICED),
    ],
)
def test_it_says_why_a_shadow_may_not_go(budget, estimate, why):
    assert refusal(ShadowBudgets(), budget, estimate) == why


def test_it_counts_what_is_under_way():
    budgets = ShadowBudgets()
    budgets.hold(PURSE, 60)
    assert refusal(budgets, 100, 40) == ""
    assert refusal(budgets, 100, 41) == OVER_BUDGET
    budgets.settle(PURSE, held=60, cost=10, now=NOW)
    assert budgets.spent(PURSE, NOW) == 10
    assert refusal(budgets, 100, 90) == ""
    assert refusal(budgets, 100, 91) == OVER_BUDGET


def test_it_gives_each_shadow_its_own_purse():
    budgets = ShadowBudgets()
    budgets.hold(Purse("exact:other", "openai/gpt"), 100)
    assert refusal(budgets, 100, 100) == ""


def test_it_begins_anew_at_midnight_but_for_what_is_under_way():
    budgets = ShadowBudgets()
    for held, cost in ((5, 100), (5, 0)):
        budgets.hold(PURSE, held)
        if cost:
            budgets.settle(PURSE, held=held, cost=cost, now=NOW)
    assert refusal(budgets, 100, 1) == OVER_BUDGET
    tomorrow = NOW + DAY_S
    assert refusal(budgets, 100, 95, tomorrow) == ""
    assert refusal(budgets, 100, 96, tomorrow) == OVER_BUDGET
    budgets.settle(PURSE, held=5, cost=30, now=tomorrow)
    assert budgets.spent(PURSE, tomorrow) == 30


async def test_it_has_so_many_under_way_at_most():
    budgets = ShadowBudgets()
    budgets.running = {asyncio.create_task(asyncio.sleep(60)) for _ in range(MAX_RUNNING)}
    assert refusal(budgets, None, 0) == BUSY
    budgets.stop()
    ended = await asyncio.gather(*budgets.running, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
