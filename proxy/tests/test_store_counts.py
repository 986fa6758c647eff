import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.calendar import Span
from keys.limits import CONCURRENT, REQUESTS, TOKENS, Ceiling, Counted, Purse, RateRule
from proxy.store import counts as counting
from proxy.store.base import Demand, Ledgered, Left
from proxy.store.counts import Counts

NOW = 1_000_000.0


def counted(amount, *, kind=REQUESTS, per="minute", key="a"):
    rule = RateRule(f"rate:{key}", kind, amount, per=per)
    return Counted(rule, f"rate:{key}//{rule.step_us}", kind == TOKENS)


def slot(amount, key="a"):
    return Counted(RateRule(f"rate:{key}", CONCURRENT, amount), f"rate:{key}//0", by_tokens=False)


def purse(limit, *, strict=True, key="7@0", ends=NOW + 3600):
    return Purse(Ceiling(7, limit, "day", strict=strict), key, limit, Span(0, int(ends)))


def take(counts, *rates, now=NOW, **demand):
    return counts.take(Demand("1", rates=rates, **demand), now=now)


# ---------------------------------------------------------------- rates


def test_it_lets_the_amount_through_and_says_when_there_is_room_again():
    counts, limit = Counts(), counted(2)
    admissions = [take(counts, limit, now=NOW + second) for second in (0, 10, 20)]
    assert [each.requests for each in admissions] == [Left(limit.rule, 1), Left(limit.rule, 0), None]
    refusal = admissions[2].refusal
    assert (refusal.by, refusal.left, refusal.needs) == (limit, 0, 1)
    assert refusal.retry_after_s == pytest.approx(40.1)
    assert take(counts, limit, now=NOW + 20 + refusal.retry_after_s + 1e-6).refusal is None
    assert take(counts, limit, now=NOW + 20 + refusal.retry_after_s + 1e-6).refusal is not None


@given(st.lists(st.floats(0, 90), min_size=1, max_size=60), st.integers(1, 6))
def test_no_window_of_its_length_ever_has_more_than_the_limit(moments, amount):
    counts, limit, passed = Counts(), counted(amount), []
    for moment in sorted(moments):
        if take(counts, limit, now=NOW + moment).refusal is None:
            passed.append(moment)
        else:  # and none is refused while there is room: a step is all that it may be too careful
            assert len([each for each in passed if moment - each < 60.2]) >= amount
    for index, first in enumerate(passed[: max(len(passed) - amount, 0)]):
        assert passed[index + amount] - first >= 60


@pytest.mark.parametrize("per", ["second", "minute", "hour", "day"])
def test_a_place_is_not_free_again_before_the_whole_window_is_over(per):
    """A second is no whole number of steps."""
    limit = counted(1, per=per)
    window_us, step_us = int(limit.rule.window_s * 1e6), limit.rule.step_us
    last_of_a_step = (10**12 // step_us + 1) * step_us - 1
    counts = Counts()
    assert take(counts, limit, now=(last_of_a_step + 0.5) / 1e6).refusal is None
    assert take(counts, limit, now=(last_of_a_step + window_us - 100) / 1e6).refusal is not None


def test_it_takes_from_all_limits_or_from_none():
    counts, wide, narrow = Counts(), counted(5, key="wide"), counted(2, key="narrow")
    refused = [take(counts, wide, narrow).refusal for _ in range(10)]
    assert [each and each.by for each in refused] == [None, None] + [narrow] * 8
    assert counts.used_of(wide, now=NOW).used == 2


def test_a_refused_request_leaves_slots_and_money_alone():
    counts, window, one, budget = Counts(), counted(9), slot(1), purse(100)
    first = take(counts, window, slots=(one,), purses=(budget,), worst=60)
    assert take(counts, window, slots=(one,), purses=(budget,), worst=10).refusal.by is one
    counts.settle(first.hold, tokens=0, costs=(0,), now=NOW)
    assert take(counts, window, slots=(one,), purses=(budget,), worst=101).refusal.by is budget
    assert [counts.used_of(each, now=NOW).used for each in (window, one)] == [1, 0]
    assert counts.spent_of(budget) == (0, 0, None)


def test_it_tells_of_each_kind_the_limit_that_bites_first():
    counts = Counts()
    rates = [counted(10), counted(4, key="b"), counted(500, kind=TOKENS, key="c")]
    admission = take(counts, *rates, tokens=20)
    assert admission.requests == Left(rates[1].rule, 3)
    assert admission.tokens == Left(rates[2].rule, 480)


def test_it_counts_tokens_by_their_estimate_until_it_is_corrected():
    counts, limit = Counts(), counted(100, kind=TOKENS)
    small, large = take(counts, limit, tokens=60).hold, take(counts, limit, tokens=40).hold
    refusal = take(counts, limit, tokens=1).refusal
    assert (refusal.left, refusal.needs) == (0, 1)
    counts.settle(small, tokens=10, costs=(), now=NOW + 1)
    assert take(counts, limit, tokens=50).refusal is None
    counts.settle(large, tokens=90, costs=(), now=NOW + 1)
    assert counts.used_of(limit, now=NOW + 1).used == 10 + 90 + 50


def test_it_never_lets_through_what_is_more_than_the_limit_at_all():
    counts, limit = Counts(), counted(100, kind=TOKENS)
    refusal = take(counts, limit, tokens=101).refusal
    assert (refusal.left, refusal.needs, refusal.retry_after_s) == (100, 101, None)


def test_what_a_long_answer_had_more_counts_when_it_ends():
    counts, limit = Counts(), counted(100, kind=TOKENS)
    hold = take(counts, limit, tokens=10).hold
    counts.settle(hold, tokens=70, costs=(), now=NOW + 120)
    assert counts.used_of(limit, now=NOW + 120).used == 60


def test_what_was_taken_before_a_loss_counts_what_it_had_more():
    counts, limit = Counts(), counted(100, kind=TOKENS)
    more, less = [take(Counts(), limit, tokens=10).hold for _ in range(2)]
    for hold, tokens in ((more, 70), (less, 0)):
        counts.settle(hold, tokens=tokens, costs=(), now=NOW + 120)
    assert counts.used_of(limit, now=NOW + 120).used == 60


def test_it_gives_back_all_that_was_taken():
    counts, rates, one, budget = (
        Counts(),
        (counted(9), counted(99, kind=TOKENS, key="t")),
        slot(1),
        purse(100),
    )
    hold = take(counts, *rates, slots=(one,), purses=(budget,), tokens=7, worst=60, expected=3).hold
    counts.give_back(hold, now=NOW)
    counts.give_back(hold, now=NOW)
    assert [counts.used_of(each, now=NOW).used for each in (*rates, one)] == [0, 0, 0]
    assert counts.spent_of(budget) == (0, 0, None)


def test_a_clock_that_goes_back_frees_nothing():
    counts, limit = Counts(), counted(2)
    take(counts, limit, now=NOW)
    take(counts, limit, now=NOW - 30)
    assert take(counts, limit, now=NOW + 30.05).refusal is not None


def test_it_forgets_windows_that_are_at_rest(monkeypatch):
    monkeypatch.setattr(counting, "MAX_COUNTERS", 10)
    counts = Counts()
    for number in range(11):
        take(counts, counted(2, key=str(number)))
    take(counts, counted(2, key="late"), now=NOW + 3600)
    assert list(counts._windows) == [counted(2, key="late").key]


# ---------------------------------------------------------------- slots


def test_a_slot_is_taken_until_its_hold_ends_and_given_back_once():
    counts, two = Counts(), slot(2)
    holds = [take(counts, slots=(two,)).hold for _ in range(2)]
    assert take(counts, slots=(two,)).refusal.by is two
    for _ in range(3):
        counts.settle(holds[0], tokens=0, costs=(), now=NOW)
    assert counts.used_of(two, now=NOW).used == 1
    assert take(counts, slots=(two,)).refusal is None


# ---------------------------------------------------------------- budgets


def test_a_strict_budget_has_room_for_the_worst_of_all_calls_under_way():
    counts, budget = Counts(), purse(100)
    holds = [take(counts, purses=(budget,), worst=40, expected=1).hold for _ in range(2)]
    refusal = take(counts, purses=(budget,), worst=40, expected=1).refusal
    assert (refusal.by, refusal.left, refusal.needs) == (budget, 20, 40)
    assert refusal.retry_after_s == 3600
    for hold in holds:
        counts.settle(hold, tokens=0, costs=(10,), now=NOW)
    assert take(counts, purses=(budget,), worst=80, expected=1).refusal is None
    assert counts.spent_of(budget) == (20, 80, None)


def test_a_soft_budget_goes_by_what_calls_are_likely_to_cost():
    counts, budget = Counts(), purse(100, strict=False)
    taken = [take(counts, purses=(budget,), worst=80, expected=30) for _ in range(4)]
    assert [each.refusal is None for each in taken] == [True, True, True, False]
    assert (taken[3].refusal.left, taken[3].refusal.needs) == (10, 30)


def test_a_further_attempt_is_held_before_it_is_made():
    counts, budget = Counts(), purse(100)
    hold = take(counts, purses=(budget,), worst=40, expected=4).hold
    assert counts.take_more(hold, worst=40, expected=4, now=NOW) is None
    refusal = counts.take_more(hold, worst=40, expected=4, now=NOW)
    assert (refusal.left, refusal.needs) == (20, 40)
    assert counts.spent_of(budget) == (0, 80, None)
    counts.settle(hold, tokens=0, costs=(75,), now=NOW)
    assert counts.spent_of(budget) == (75, 0, None)


def test_the_ledger_lifts_sums_and_never_lowers_them_but_by_corrections():
    counts, budget = Counts(), purse(1000)
    counts.raise_spent({budget.key: Ledgered(300)})
    counts.settle(take(counts, purses=(budget,), worst=50).hold, tokens=0, costs=(50,), now=NOW)
    counts.raise_spent({budget.key: Ledgered(320)})
    assert counts.spent_of(budget).used == 350
    counts.raise_spent({budget.key: Ledgered(330, corrected=-20)})
    counts.raise_spent({budget.key: Ledgered(330, corrected=-20)})
    assert counts.spent_of(budget).used == 330
    counts.raise_spent({budget.key: Ledgered(430, corrected=-20)})
    assert counts.spent_of(budget).used == 430


def test_what_was_taken_elsewhere_is_held_whatever_the_limit_says():
    counts, budget = Counts(), purse(100)
    elsewhere = Counts()
    hold = elsewhere.take(Demand("2", purses=(purse(1000),), worst=150), now=NOW).hold
    counts.adopt(hold)
    refusal = take(counts, purses=(budget,), worst=1).refusal
    assert (refusal.left, refusal.needs) == (0, 1)
    counts.settle(hold, tokens=0, costs=(20,), now=NOW)
    assert counts.spent_of(budget) == (20, 0, None)


MONEY = st.integers(0, 60)


@given(st.lists(st.tuples(MONEY, MONEY, st.booleans()), max_size=40))
def test_a_strict_budget_is_never_overspent_while_no_call_costs_more_than_its_worst(calls):
    counts, budget, running = Counts(), purse(100), []
    spent = 0
    for worst, actual, ends in calls:
        hold = take(counts, purses=(budget,), worst=worst).hold
        if hold is not None:
            running.append((hold, min(actual, worst)))
        if ends and running:
            hold, cost = running.pop(0)
            counts.settle(hold, tokens=0, costs=(cost,), now=NOW)
            spent += cost
        assert counts.spent_of(budget).used == spent
        assert spent + sum(cost for _, cost in running) <= 100
