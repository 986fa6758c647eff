"""The demo data of docs/analytics.md is of one piece, can be made again, and can be taken away."""

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import Sum
from django.utils import timezone

from analytics import rollup_check, usage
from analytics.booking import book
from analytics.demo_cast import PREFIX
from analytics.models import RequestLog, StoredPayload, UsageRollup
from analytics.payloads import payload_of
from analytics.tests.spool_files import done, text
from analytics.usage import Period
from keys import spending
from keys.models import ApiKey, BudgetWindow, LedgerEntry, Member, Tenant
from providers.models import Provider

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def seed(**options) -> str:
    out = StringIO()
    call_command("seed_demo", **{"days": 10, "requests": 3_000, "stdout": out, **options})
    return out.getvalue()


def test_everything_in_it_agrees():
    said = seed()
    assert "3,000 requests of 10 days" in said
    assert RequestLog.objects.count() == 3_000
    now = timezone.now()
    period = Period.days(11, now=now)
    figures = usage.totals(period, latency=True)
    assert figures.requests == 3_000
    assert figures.cost_nanousd == LedgerEntry.objects.aggregate(sum=Sum("cost_nanousd"))["sum"] > 0
    assert min(figures.errors, figures.hits, figures.saved_nanousd, figures.streams, figures.limited) > 0
    assert figures.unpriced == 0
    assert figures.attempts > LedgerEntry.objects.count()
    assert rollup_check.rebuild(now - timedelta(days=11), now) == 0
    assert len(usage.by("tenant", period)) == 4
    assert {"search", "support", "app", "data", "chat", ""} == {
        name for name, _ in usage.by("tag:team", period)
    }


def test_budgets_have_spent_what_the_ledger_says_and_are_near_their_ends():
    seed()
    windows = BudgetWindow.objects.select_related("budget")
    assert windows.count() > 40
    entries = [spending.Spend.of(row) for row in LedgerEntry.objects.values()]
    spends = [spend for spend in entries if spend is not None]
    sums = spending.Ceilings(spends).sums(spends)
    stored = {(row.budget_id, row.starts_at): row.spent_nanousd for row in windows}
    assert stored == {window: found.spent for window, found in sums.items()}
    newest = {row.budget_id: row for row in windows.order_by("starts_at")}
    assert any(0.9 < row.spent_nanousd / row.budget.amount_nanousd < 1.1 for row in newest.values())


def test_its_people_may_sign_in():
    said = seed(requests=10)
    people = dict(re.findall(r"^  (demo-\S+) +(\S+)$", said, re.MULTILINE))
    assert len(people) == 12
    assert all(authenticate(username=name, password=password) for name, password in people.items())
    assert set(Member.objects.filter(tenant__name="demo-acme").values_list("role", flat=True)) == {
        "owner",
        "member",
        "viewer",
    }


def test_failovers_have_their_attempts():
    seed()
    tried_twice = [row for row in RequestLog.objects.all() if len(row.attempts) == 2]
    assert tried_twice
    for row in tried_twice:
        assert row.attempts[0]["provider"] != row.attempts[1]["provider"] == row.provider
        assert LedgerEntry.objects.get(completion_id=row.completion_id).attempt == 1


def test_every_screen_has_something_to_show():
    seed()
    by_status = {status: RequestLog.objects.filter(status=status) for status in (0, 200, 429)}
    for row in by_status[429]:
        limits: Any = row.limits
        measured_by, refused_by = limits
        assert "refused" not in measured_by
        assert refused_by["refused"]
        assert refused_by["limit"].startswith("600 requests per minute for key demo-")
    assert all(row.limits for row in by_status[200])
    # A process has died twice: what it had under way is estimated.
    assert by_status[0].count() == 8
    for row in by_status[0]:
        entry = LedgerEntry.objects.get(completion_id=row.completion_id)
        assert (row.outcome, row.usage_estimated) == ("interrupted", True)
        assert (entry.kind, entry.estimated, entry.cost_nanousd) == ("interrupted", True, row.cost_nanousd)
    assert len({row.at.replace(minute=0, second=0, microsecond=0) for row in by_status[0]}) == 2
    acme = Tenant.objects.get(name="demo-acme")
    stored = StoredPayload.objects.all()
    assert {row.tenant_ref for row in stored} == {acme.pk}
    assert stored.count() == 60
    found = [payload_of(row.completion_id) for row in stored]
    texts = [f"{each.request}{each.answer}" for each in found if each is not None]
    assert len(texts) == 60
    assert any("[EMAIL]" in text for text in texts)
    assert not any("@example.com" in text for text in texts)
    assert all('"role": "system"' in text for text in texts)


def test_it_refuses_where_there_is_real_traffic_or_a_demo_already():
    book("s", 1, done=text(done("real")), interrupted="")
    with pytest.raises(CommandError, match="real traffic"):
        seed()
    seed(requests=10, force=True)
    with pytest.raises(CommandError, match="already"):
        seed(force=True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"days": 0}, "--days"), ({"requests": -1}, "--requests"), ({"days": 10_000}, "1000 at most")],
)
def test_it_names_what_is_wrong(options, problem):
    with pytest.raises(CommandError, match=problem):
        seed(**options)


def test_it_can_be_taken_away_but_for_the_ledger_and_its_sums():
    book("s", 1, done=text(done("real", at=timezone.now().timestamp())), interrupted="")
    other = Tenant.objects.create(name="acme")
    seed(requests=50, force=True)
    before = UsageRollup.objects.aggregate(sum=Sum("cost_nanousd"))
    out = StringIO()
    call_command("seed_demo", remove=True, stdout=out)
    assert "50 requests removed" in out.getvalue()
    assert list(Tenant.objects.all()) == [other]
    assert not ApiKey.objects.exists()
    assert not Provider.objects.filter(name__startswith=PREFIX).exists()
    assert not get_user_model().objects.filter(username__startswith=PREFIX).exists()
    assert [row.completion_id for row in RequestLog.objects.all()] == ["real"]
    assert not StoredPayload.objects.exists()
    assert UsageRollup.objects.aggregate(sum=Sum("cost_nanousd")) == before
    seed(requests=10, force=True, seed=2)
