"""Whatever comes in, late, twice or corrected: what a budget has spent is the sum of its ledger rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import ledger_rows, rerating
from analytics.booking import book
from analytics.models import RequestLog, ReRating
from analytics.tests.spool_files import done, opened, text
from keys.calendar import bounds, zone_of
from keys.caller import matches
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, Tenant
from providers.models import Price, Provider
from providers.pricing import Rates, cost_nanousd
from providers.usage import Usage
from proxy.completion import Attempt

pytestmark = pytest.mark.django_db

AT = 1_790_000_000.25
IDS = [f"c{number}" for number in range(6)]
TARGETS = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("azure", "gpt-4o")]

usages = st.tuples(st.integers(1, 10_000), st.integers(0, 5_000), st.integers(0, 1), st.integers(0, 1)).map(
    lambda counts: Usage(prompt=counts[0], completion=counts[1], cached=counts[2], audio_prompt=counts[3])
)
charges = st.lists(
    st.tuples(st.sampled_from(TARGETS), usages, st.none() | st.integers(0, 10**7)), min_size=1, max_size=3
)
steps = st.one_of(
    st.tuples(st.just("done"), st.sampled_from(IDS), charges, st.booleans()),
    st.tuples(st.just("unanswered"), st.sampled_from(IDS)),
    st.tuples(st.just("interrupted"), st.sampled_from(IDS), usages),
    st.tuples(st.just("price"), st.sampled_from([*TARGETS, ("openai", "gpt-4*")]), st.integers(0, 10**11)),
    st.tuples(st.just("re-rate"), st.sampled_from(["", "openai", "azure"])),
    st.tuples(
        st.just("budget"), st.sampled_from(["day", "month", "total"]), st.sampled_from(["", "openai/*"])
    ),
)


class Site:
    """A database, and what it is expected to hold: for each completion its charges, or its estimate."""

    def __init__(self):
        self.tenant = Tenant.objects.create(name="acme", timezone="Asia/Kathmandu")
        self.key, _ = ApiKey.issue(tenant=self.tenant, name="ci")
        self.key.save()
        self.providers = {
            name: Provider.objects.create(name=name, dialect="openai", base_url=f"http://{name}.test")
            for name in ("openai", "azure")
        }
        self.segments = 0
        self.ended: set[str] = set()
        self.expected: dict[str, list[list[Any]]] = {}
        Budget.objects.create(key=self.key, amount_nanousd=1, window="day", model="openai/gpt-4o")
        Budget.objects.create(tenant=self.tenant, amount_nanousd=1, window="week")
        Budget.objects.create(amount_nanousd=1, window="total", model="fast")

    def at(self, name):
        return AT + IDS.index(name) * 40_000  # over three days

    def whose(self, name):
        return {
            "key_id": self.key.pk,
            "tenant_id": self.tenant.pk,
            "requested_model": "fast",
            "at": self.at(name),
        }

    def write(self, line, *, interrupted=False):
        self.segments += 1
        lines = text(line)
        book(
            f"s{self.segments}",
            1,
            done="" if interrupted else lines,
            interrupted=lines if interrupted else "",
        )

    def done(self, name, found, shadow):
        attempts = [
            Attempt(provider, model, 0, 1, 200, "ok", usage=usage, price_id=1, cost_nanousd=cost)
            for (provider, model), usage, cost in found
        ]
        together = found[0][1]
        for _, usage, _ in found[1:]:
            together = together.plus(usage)
        costs = [cost for _, _, cost in found]
        extra = {"route": "shadow:fast"} if shadow else {}
        self.write(
            done(
                name,
                attempts=attempts,
                usage=together,
                price_id=None,
                cost_nanousd=None if None in costs else sum(costs),
                **self.whose(name),
                **extra,
            )
        )
        self.end(name, [[target, usage, cost] for target, usage, cost in found])

    def unanswered(self, name):
        self.write(done(name, usage=None, cost_nanousd=None, outcome="error", status=502, **self.whose(name)))
        self.end(name, [])

    def end(self, name, charged):
        if name not in self.ended:
            self.ended.add(name)
            self.expected[name] = charged

    def interrupted(self, name, usage):
        self.write(opened(name, estimate=usage, **self.whose(name)), interrupted=True)
        if name not in self.ended and name not in self.expected:
            self.expected[name] = [[("openai", "gpt-4o"), usage, self.cost(("openai", "gpt-4o"), usage)]]

    def price(self, target, rate):
        provider, model = target
        Price.objects.update_or_create(
            provider=self.providers[provider],
            model=model,
            effective_from=datetime(2026, 1, 1, tzinfo=UTC),
            defaults={"input_nanousd_per_mtok": rate, "output_nanousd_per_mtok": rate * 3},
        )

    def rerate(self, provider):
        since = datetime(2026, 9, 1, tzinfo=UTC)
        run = ReRating(since=since, until=since + timedelta(days=60), provider=provider)
        run = rerating.apply(rerating.preview(run), by="me")
        assert run.applied_rows == run.changed
        assert run.applied_nanousd == run.difference_nanousd
        for charged in self.expected.values():
            for charge in charged:
                if provider in ("", charge[0][0]):
                    now = self.cost(charge[0], charge[1])
                    charge[2] = charge[2] if now is None else now

    def cost(self, target, usage):
        rows = Price.objects.filter(provider__name=target[0])
        fitting = [row for row in rows if matches(row.model, target[1])]
        if not fitting:
            return None
        row = min(fitting, key=lambda row: row.model.endswith("*"))
        return cost_nanousd(usage, Rates(row.pk, 0, row.input_nanousd_per_mtok, row.output_nanousd_per_mtok))

    def check(self):
        rows = list(LedgerEntry.objects.all())
        for name in IDS:
            own = [row for row in rows if row.completion_id == name]
            charged = self.expected.get(name, [])
            assert sum(row.cost_nanousd or 0 for row in own) == sum(cost or 0 for _, _, cost in charged)
            for column in ("prompt", "completion", "cached", "audio_prompt"):
                counted = sum(getattr(row, ledger_rows.COUNTS[column]) for row in own)
                assert counted == sum(getattr(usage, column) for _, usage, _ in charged)
        for window in BudgetWindow.objects.select_related("budget__key", "budget__tenant"):
            counted = [row for row in rows if self.counts(row, window)]
            assert window.spent_nanousd == sum(row.cost_nanousd or 0 for row in counted)
            corrected = [row for row in counted if row.kind in ("retracted", "adjusted")]
            assert window.corrected_nanousd == sum(row.cost_nanousd or 0 for row in corrected)

    def counts(self, row, window):
        budget = window.budget
        zone = zone_of("Asia/Kathmandu" if budget.key_id or budget.tenant_id else "UTC")
        start, end = bounds(budget.window, window.starts_at, zone)
        names = (row.requested_model, f"{row.provider}/{row.model}")
        return (
            not row.shadow
            and start <= row.at < end
            and (not budget.model or any(matches(budget.model, name) for name in names))
        )


@given(st.lists(steps, min_size=3, max_size=15))
@pytest.mark.timeout(600)  # each example is a few dozen transactions
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_a_budget_has_spent_is_the_sum_of_its_ledger_rows(plan):
    with transaction.atomic():
        site = Site()
        shadows: set[str] = set()
        for step, *arguments in plan:
            if step == "done":
                name, found, shadow = arguments
                # What is a shadow is one from its beginning.
                if name in site.expected and name not in shadows:
                    shadow = False
                if shadow:
                    shadows.add(name)
                site.done(name, found, shadow)
            elif step == "unanswered":
                site.unanswered(*arguments)
            elif step == "interrupted":
                site.interrupted(*arguments)
            elif step == "price":
                site.price(*arguments)
            elif step == "re-rate":
                site.rerate(*arguments)
            else:
                window, model = arguments
                Budget.objects.create(amount_nanousd=1, window=window, model=model)
            site.check()
        assert set(RequestLog.objects.values_list("completion_id", flat=True)) == set(site.expected)
        transaction.set_rollback(True)
