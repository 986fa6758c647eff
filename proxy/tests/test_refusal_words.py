"""What a refused caller is told, and what is nobody else's business."""

from dataclasses import replace

from keys.limits import Ceiling
from proxy.demand import purse_of
from proxy.limit_errors import refused
from proxy.store.base import Refusal

USD = 10**9
NOW = 1_800_000_000.0


def told(ceiling):
    return refused(Refusal(purse_of(ceiling, NOW), 3 * USD, 5 * USD, 60.0)).message


def test_a_budget_tells_its_amount_and_what_is_left_of_it():
    assert told(Ceiling(7, 40 * USD, "total", holds_for="tenant acme")) == (
        "Budget budget:7: $40 in total for tenant acme. $3 is left, and this request may cost $5. "
        "It does not reset."
    )


def test_the_budget_of_everyone_does_not_tell_what_others_have_spent():
    everyones = Ceiling(7, 40 * USD, "total")
    assert told(everyones) == (
        "Budget budget:7: in total for everyone. $3 is left, and this request may cost $5. It does not reset."
    )
    assert "40" not in told(replace(everyones, window="month"))
