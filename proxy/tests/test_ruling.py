"""Limits of everyone and of tenants, and what no limit can be."""

import pytest

from keys.limit_models import MAX_BUDGET_NANOUSD, MAX_COUNT
from proxy.ruling import compile_rules, rules_of
from proxy.snapshot import ConfigurationError
from proxy.tests.fakes import environment, make_snapshot
from proxy.tests.test_callers import BUDGET, RATE

EVERYONE = {"tenant_id": None, "tenant__name": None}
ACME = {"tenant_id": 3, "tenant__name": "acme"}


def test_it_tells_the_limits_of_everyone_from_those_of_tenants():
    rows = [{**RATE, **EVERYONE}, {**RATE, "id": 8, **ACME}, {**BUDGET, **ACME}]
    everyone, tenants = compile_rules(rows)
    assert [(each.id, each.holds_for) for each in everyone.rates] == [("rate:5", "everyone")]
    assert not everyone.ceilings
    assert list(tenants) == [3]
    assert [(each.id, each.holds_for) for each in tenants[3].rates] == [("rate:8", "tenant acme")]
    assert [(each.id, each.holds_for, each.zone.key) for each in tenants[3].ceilings] == [
        (6, "tenant acme", "Asia/Tokyo")
    ]


def test_it_has_the_environments_limit_among_those_of_everyone(settings):
    settings.GATEWAY = environment(rpm_limit=60)
    everyone, _ = compile_rules([{**RATE, **EVERYONE}])
    assert [each.id for each in everyone.rates] == ["RPM_LIMIT", "rate:5"]


def test_a_snapshot_has_them_and_one_kept_before_there_were_any_has_none():
    snapshot = make_snapshot("openai", limits=[{**RATE, **EVERYONE}, {**BUDGET, **ACME}])
    assert (len(snapshot.rules.rates), len(snapshot.tenant_rules[3].ceilings)) == (1, 1)
    assert not make_snapshot("openai").rules


def test_it_takes_what_was_too_much_before_there_was_a_most_for_the_most():
    rules = rules_of(
        [{**RATE, "amount": 10**15}, {**BUDGET, "amount_nanousd": 2**60, "raised_nanousd": 2**61}], "everyone"
    )
    assert rules.rates[0].amount == MAX_COUNT
    assert (rules.ceilings[0].amount_nanousd, rules.ceilings[0].raised_nanousd) == (MAX_BUDGET_NANOUSD,) * 2


def test_a_budget_that_is_not_raised_is_not():
    (ceiling,) = rules_of([{**BUDGET, "raised_nanousd": None, "raised_until": None}], "everyone").ceilings
    assert ceiling.limit_at(0) == 10


@pytest.mark.parametrize(
    "row",
    [
        {**RATE, "kind": "images"},
        {**RATE, "per": "week"},
        {**RATE, "per": ""},
        {**RATE, "kind": "concurrent"},
        {**RATE, "each": "planet"},
        {**RATE, "amount": 0},
        {**BUDGET, "window": "year"},
        {**BUDGET, "mode": "lax"},
        {**BUDGET, "amount_nanousd": -1},
        {**BUDGET, "raised_nanousd": -1},
    ],
)
def test_it_says_whose_limit_is_none(row):
    with pytest.raises(ConfigurationError, match=f"{row['id']} of everyone"):
        compile_rules([{**row, **EVERYONE}])
