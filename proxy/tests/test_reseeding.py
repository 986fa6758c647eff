"""Sums of budgets from a real database and real segments, as the watcher's thread asks for them."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from analytics.models import SpoolReceipt
from analytics.receipts import arrived
from keys.caller import Caller, KeyTerms
from keys.limits import Ceiling, Rules
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, Tenant
from providers.usage import Usage
from proxy import keeping as keeping_module
from proxy import kept_counts, ledger_sums
from proxy import reseeding as module
from proxy.cache import BYPASS
from proxy.demand import purse_of
from proxy.keeping import Keeping
from proxy.reseeding import Reseeding
from proxy.spool import Spool
from proxy.store.base import Demand, Ledgered
from proxy.store.beside import Beside
from proxy.store.side_by_side import SideBySideStore
from proxy.tests.fakes import Log, make_completion, make_snapshot

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    for each in (module, keeping_module, kept_counts):
        monkeypatch.setattr(each, "log", recorder)
    monkeypatch.setattr(Spool, "_run", lambda _: None)
    return recorder


def told():
    return [event for _, event, _ in module.log.lines]


@pytest.fixture
def key():
    made, _ = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="ci")
    made.save()
    return made


@pytest.fixture
def budget(key):
    return Budget.objects.create(key=key, amount_nanousd=1000, window="total")


def spend(key, cost, **fields):
    values = {"completion_id": f"c-{LedgerEntry.objects.count()}", "at": NOW, "provider": "p", "model": "m"}
    return LedgerEntry.objects.create(
        **{**values, **fields}, key_ref=key.pk, tenant_ref=key.tenant_id, cost_nanousd=cost
    )


class Idle:
    """A loop in which nothing happens: the test looks around itself."""

    def call_later(self, delay, callback, *args, **_):
        return asyncio.TimerHandle(delay, callback, args, self)

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        pass


class Process:
    """What one process counts with. Everything runs where the test runs, but the event loop's timer."""

    def __init__(self, home, name="now"):
        self.home = home
        self.spool = Spool(home / "spool", boot=name, worker=0, reserve_bytes=0)
        self.store = SideBySideStore(Beside(home / "beside", f"{name}-0"), max_bytes=0, loop=Idle())
        self.keeping = Keeping(
            self.store, self.spool, sums=home / "sums", rates=home / "rates", on_loop=lambda work: work()
        )
        self.reseeding = Reseeding(
            self.store,
            spool=home / "spool",
            receipts=arrived,
            on_loop=lambda work: work(),
            keeping=self.keeping,
        )
        self.number = 0

    def prepare(self, *budgets, up=True):
        self.reseeding.prepare(snapshot(*budgets), database_up=up)
        return self

    def poll(self, *, up=True):
        self.reseeding._polled_at = 0.0
        self.reseeding.poll(database_up=up)

    def answer(self, key, cost, *, purses=()):
        """Have an answer end as requests do: the line, then the counter."""
        self.number += 1
        call = make_completion(
            id=f"{self.spool.name}-{self.number}",
            at=NOW.timestamp(),
            key_id=key.pk,
            tenant_id=key.tenant_id,
            requested_model="m",
            provider="p",
            model="m",
            usage=Usage(prompt=1),
            cost_nanousd=cost,
        )
        demand = Demand(call.id, purses=[purse_of(each, NOW.timestamp()) for each in purses], worst=cost)
        admission = self.store.admit_now(demand, BYPASS, now=NOW.timestamp())
        self.spool.append_done(call.id, call.done_line())
        if purses:
            self.store.settle(admission.hold, tokens=0, costs=[cost] * len(purses), now=NOW.timestamp())

    def stand(self, budget):
        sums = self.store.counts._sums.get(purse(budget).key)
        return (0, 0) if sums is None else (sums.spent, sums.worst)

    def die(self):
        """End as by SIGKILL: what is open stays open, and is locked no more."""
        self.store._looks.cancel()
        os.close(self.store.beside._file)
        self.spool._segment.close(final=False)
        self.spool._segment = None


def ceiling(budget):
    return Ceiling(budget.pk, budget.amount_nanousd, budget.window)


def purse(budget):
    return purse_of(ceiling(budget), NOW.timestamp())


def snapshot(*budgets):
    """Return a configuration of these budgets, each of its key."""
    callers = {}
    for each in budgets:
        rules = Rules(ceilings=[ceiling(one) for one in budgets if one.key_id == each.key_id])
        key = Caller(each.key_id, each.key.tenant_id, "", "", terms=KeyTerms(rules=rules))
        callers[str(each.key_id).encode()] = key
    return make_snapshot("openai", callers=callers)


@pytest.fixture
def process(tmp_path):
    return Process(tmp_path)


def test_it_starts_with_what_the_ledger_says(process, key, budget):
    BudgetWindow.objects.create(budget=budget, starts_at=datetime(1970, 1, 1, tzinfo=UTC), spent_nanousd=70)
    process.prepare(budget)
    assert process.stand(budget) == (70, 0)


def test_a_budget_that_nothing_was_booked_for_starts_with_what_its_key_has_spent(process, key, budget):
    spend(key, 40)
    spend(key, 5, own_credential=True)
    month = Budget.objects.create(key=key, amount_nanousd=1000, window="month")
    spend(key, 7, at=NOW - timedelta(days=40))
    process.prepare(budget, month)
    assert process.stand(budget) == (47, 0)
    assert process.stand(month) == (40, 0)
    assert not BudgetWindow.objects.exists()


def test_a_budget_that_appears_later_is_counted_before_it_holds(process, key, budget):
    process.prepare(budget)
    process.answer(key, 30, purses=[ceiling(budget)])
    spend(key, 12)
    later = Budget.objects.create(key=key, amount_nanousd=1000, window="total")
    process.prepare(budget, later)
    assert process.stand(later) == (42, 0), "the ledger's, and what is in the spool"
    assert process.stand(budget) == (30, 0)


def test_it_adds_what_the_spool_holds_and_the_ledger_does_not(tmp_path, key, budget):
    before = Process(tmp_path, "before")
    before.answer(key, 30)
    before.spool._rotate()
    before.answer(key, 9)
    before.die()
    SpoolReceipt.objects.create(segment="before-0-00000001", lines=1)
    spend(key, 30)
    now = Process(tmp_path).prepare(budget)
    assert now.stand(budget) == (39, 0)


def test_it_looks_until_sums_and_receipts_are_of_one_moment(tmp_path, key, budget, monkeypatch):
    """A segment that is booked while we ask is in both, or in neither."""
    before = Process(tmp_path, "before")
    before.answer(key, 30)
    before.die()
    window = BudgetWindow.objects.create(budget=budget, starts_at=datetime(1970, 1, 1, tzinfo=UTC))
    now, looks = Process(tmp_path), []

    def booked_between(segments):
        looks.append(1)
        if len(looks) == 1:
            SpoolReceipt.objects.create(segment="before-0-00000001", lines=1)
            BudgetWindow.objects.filter(pk=window.pk).update(spent_nanousd=30)
            return set()
        return arrived(segments)

    now.reseeding._receipts = booked_between
    now.prepare(budget)
    assert now.stand(budget) == (30, 0)
    assert len(looks) == 2


def test_it_follows_the_ledger_up_and_with_its_corrections_down(process, key, budget):
    process.prepare(budget)
    window = BudgetWindow.objects.create(
        budget=budget, starts_at=datetime(1970, 1, 1, tzinfo=UTC), spent_nanousd=70
    )
    process.poll()
    assert process.stand(budget) == (70, 0)
    window.spent_nanousd, window.corrected_nanousd = 50, -20
    window.save()
    process.poll()
    process.poll()
    assert process.stand(budget) == (50, 0)


def test_it_asks_only_for_what_has_changed(process, key, budget, django_assert_num_queries):
    process.prepare(budget)
    process.poll()
    with django_assert_num_queries(1):
        process.poll()


def test_it_asks_nobody_more_often_than_once_a_second(process, budget, django_assert_num_queries):
    process.prepare(budget)
    process.poll()
    with django_assert_num_queries(0):
        process.reseeding.poll(database_up=True)


# ---------------------------------------------------------------- the database is down


def gone(*_):
    raise OperationalError("the database is gone")


def test_without_a_database_it_goes_by_what_was_kept_and_what_was_written_since(
    tmp_path, key, budget, monkeypatch
):
    spend(key, 100)
    before = Process(tmp_path, "before").prepare(budget)
    before.answer(key, 30, purses=[ceiling(budget)])
    before.poll()
    before.answer(key, 9, purses=[ceiling(budget)])
    before.die()
    really = ledger_sums.sums_of
    monkeypatch.setattr(ledger_sums, "sums_of", gone)
    now = Process(tmp_path).prepare(budget, up=False)
    assert now.stand(budget) == (139, 0)
    assert "budgets_by_kept_sums" in told()
    # The next one, too, and when the database is back, nothing of it counts twice.
    now.answer(key, 1, purses=[ceiling(budget)])
    now.poll(up=False)
    now.die()
    third = Process(tmp_path, "third").prepare(budget, up=False)
    assert sum(third.stand(budget)) >= 140
    monkeypatch.setattr(ledger_sums, "sums_of", really)
    third.poll()
    assert third.stand(budget) == (140, 0)


def test_without_kept_sums_it_goes_by_the_spool_and_says_so(tmp_path, key, budget, monkeypatch):
    before = Process(tmp_path, "before")
    before.answer(key, 30)
    before.die()
    (tmp_path / "sums").write_text("{")
    now = Process(tmp_path).prepare(budget, up=False)
    assert now.stand(budget) == (30, 0)
    assert {"kept_counts_unusable", "budgets_unknown"} <= set(told())
    spend(key, 500)
    now.poll()
    assert now.stand(budget) == (530, 0)


def test_a_database_that_goes_away_while_it_is_asked_stops_nothing(process, key, budget, monkeypatch):
    spend(key, 500)
    with monkeypatch.context() as patched:
        patched.setattr(module, "consistent", gone)
        process.prepare(budget)
        process.poll()
        assert process.stand(budget) == (0, 0)
    process.poll()
    assert process.stand(budget) == (500, 0)


def test_a_window_that_has_begun_since_is_not_asked_for(process, key, budget, django_assert_num_queries):
    process.reseeding._began = 0.0
    day = Budget.objects.create(key=key, amount_nanousd=1000, window="day")
    with django_assert_num_queries(0):
        process.prepare(day)


# ---------------------------------------------------------------- Redis


@pytest.mark.django_db(transaction=True)
def test_it_tells_what_is_spent_by_now(process, key, budget, monkeypatch):
    process.prepare(budget)
    spend(key, 20)
    process.answer(key, 30)
    found = asyncio.run(process.reseeding.reseed())
    assert found[purse(budget).key].spent == 50
    assert asyncio.run(process.reseeding.before_dropping([purse(budget).key, "99@0"]))
    assert process.stand(budget) == (50, 0)
    monkeypatch.setattr(module, "consistent", gone)
    process.answer(key, 1)
    assert not asyncio.run(process.reseeding.before_dropping([purse(budget).key]))
    assert asyncio.run(process.reseeding.reseed())[purse(budget).key].spent == 51


def test_what_others_have_just_written_is_settled_before_a_shared_sum_is_lifted(
    process, key, budget, monkeypatch
):
    """Lifted to what the spool says before that, the sum would have it twice."""
    demand = Demand("theirs", purses=[purse(budget)], worst=30)
    hold = process.store.admit_now(demand, BYPASS, now=NOW.timestamp()).hold
    process.answer(key, 30)  # its line alone
    another = Reseeding(
        process.store,
        spool=process.home / "spool",
        receipts=arrived,
        on_loop=lambda work: work(),
        keeping=None,
    )

    def settled(seconds):
        process.store.settle(hold, tokens=0, costs=(30,), now=NOW.timestamp())

    monkeypatch.setattr(module.time, "sleep", settled)
    another.prepare(snapshot(budget), database_up=True)
    assert hold.settled
    assert process.stand(budget) == (30, 0)


# ---------------------------------------------------------------- rate limits


def test_limits_of_hours_and_days_go_on_after_a_restart(tmp_path, budget):
    before = Process(tmp_path, "before").prepare(budget)
    now = NOW.timestamp()
    before.store.restore({"1//144000000": {int(now * 1e6) // 144_000_000: 5}, "2//100000": {1: 1}}, now=now)
    before.reseeding.close()
    before.die()
    after = Process(tmp_path).prepare(budget)
    assert [(key, window.total) for key, window in after.store.counts._windows.items()] == [
        ("1//144000000", 5)
    ]
    assert (tmp_path / "rates").stat().st_mode & 0o777 == 0o600


def test_a_predecessor_overwrites_nothing_of_its_successor(tmp_path, key, budget):
    first = Process(tmp_path, "first").prepare(budget)
    first.answer(key, 1, purses=[ceiling(budget)])
    first.poll()
    second = Process(tmp_path, "second")
    second.store.raise_spent({purse(budget).key: Ledgered(2)})
    second.keeping.close()
    first.answer(key, 3, purses=[ceiling(budget)])
    first.reseeding.close()
    assert kept_counts.recall_sums(kept_counts.KeptFile(tmp_path / "sums")).writer == "second-0"
