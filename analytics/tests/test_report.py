"""The daily report: what it says is what the rollups say, and everybody gets it once."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db.models import Sum

from analytics.booking import book
from analytics.models import RequestLog, UsageRollup
from analytics.report import report_of
from analytics.report_delivery import send_due
from analytics.tests.spool_files import done, opened, text
from analytics.tests.wide_sums import widen
from config.jobs import remember, remembered
from config.money import nanousd, usd
from config.telling import Untold
from gatewaysite.environment import read_environment
from keys.calendar import bounds, zone_of
from keys.models import Budget, BudgetWindow, LedgerEntry, Tenant
from providers.usage import Usage
from tests.receivers import webhook_receiver

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)
BERLIN = zone_of("Europe/Berlin")


@pytest.fixture
def hook():
    with webhook_receiver() as receiver:
        yield receiver


def slot(at, tenant, **fields):
    return UsageRollup.objects.create(
        grain=UsageRollup.Grain.HOUR,
        starts_at=at,
        tenant_ref=tenant,
        provider="openai",
        model=fields.pop("model", "gpt-4o"),
        **fields,
    )


def test_it_says_what_the_day_came_to_where_clocks_are_put_forward():
    tenant = Tenant.objects.create(name="acme")
    day = datetime(2026, 3, 28, 23, tzinfo=UTC)  # the 29th of March begins, and has 23 hours
    for hour in range(-1, 24):
        slot(day + timedelta(hours=hour), tenant.pk, requests=1, errors=1, cost_nanousd=10**9 + hour)
    widen()
    inside = UsageRollup.objects.filter(grain=60, starts_at__gte=day, starts_at__lt=day + timedelta(hours=23))
    report = report_of(date(2026, 3, 29), zone=BERLIN, now=NOON)
    assert report["requests"] == report["errors"] == inside.count() == 23
    assert report["cost_usd"] == usd(inside.aggregate(cost=Sum("cost_nanousd"))["cost"])
    assert report["tenants"][0]["tenant"] == "acme"
    assert report["models"][0]["model"] == "openai/gpt-4o"
    assert report["models"][0]["cost_usd"] == report["tenants"][0]["cost_usd"] == report["cost_usd"]


def test_its_numbers_are_those_of_log_and_ledger():
    """Where a day begins in the middle of an hour of UTC, with failed, cut off and unpriced answers."""
    rng = random.Random(3)
    zone, day = zone_of("Asia/Kathmandu"), date(2026, 3, 29)
    tenants = [Tenant.objects.create(name=name, timezone=zone.key) for name in ("acme", "globex")]
    start = datetime.combine(day, datetime.min.time(), zone)
    for number in range(120):
        model, cost = rng.choice(["gpt-4o", "o3"]), rng.choice([None, rng.randrange(10**10)])
        usage = Usage(prompt=rng.randrange(5000), completion=rng.randrange(900))
        failed = {"outcome": "error", "status": 502, "usage": None, "cost_nanousd": None, "attempts": []}
        line = (opened if number % 7 == 0 else done)(
            f"c{number}",
            at=(start + timedelta(seconds=rng.randrange(-40_000, 126_000))).timestamp(),
            tenant_id=rng.choice(tenants).pk,
            model=model,
            **(failed if number % 5 == 0 else {"usage": usage, "cost_nanousd": cost}),
        )
        cut_off = number % 7 == 0
        book(f"s{number}", 1, done="" if cut_off else text(line), interrupted=text(line) if cut_off else "")
    of_day = {"at__gte": start, "at__lt": start + timedelta(days=1)}
    log, ledger = RequestLog.objects.filter(**of_day), LedgerEntry.objects.filter(**of_day)
    report = report_of(day, zone=zone, now=NOON)
    assert 0 < log.count() < 120
    assert report["requests"] == log.count()
    assert report["errors"] == log.filter(outcome__in=("error", "interrupted")).count()
    assert report["unpriced"] == ledger.filter(cost_nanousd=None).count() > 0
    assert report["tokens"] == _sum(log, "prompt_tokens") + _sum(log, "completion_tokens")
    assert nanousd(report["cost_usd"]) == _sum(ledger, "cost_nanousd") > 0
    for tenant in tenants:
        (told,) = [each for each in report["tenants"] if each["tenant"] == tenant.name]
        assert nanousd(told["cost_usd"]) == _sum(ledger.filter(tenant_ref=tenant.pk), "cost_nanousd")
        assert told["requests"] == log.filter(tenant_ref=tenant.pk).count()
    for told in report["models"]:
        provider, _, model = told["model"].partition("/")
        entries = ledger.filter(provider=provider, model=model)
        assert nanousd(told["cost_usd"]) == _sum(entries, "cost_nanousd")
    assert sum(nanousd(told["cost_usd"]) for told in report["models"]) == nanousd(report["cost_usd"])


def _sum(rows, column):
    return rows.aggregate(sum=Sum(column))["sum"] or 0


def test_it_names_budgets_near_their_end():
    tenant = Tenant.objects.create(name="acme")
    for amount in ("10", "100"):
        budget = Budget.objects.create(tenant=tenant, amount_nanousd=nanousd(amount), window="day")
        start, _ = bounds("day", NOON, zone_of("UTC"))
        BudgetWindow.objects.create(budget=budget, starts_at=start, spent_nanousd=nanousd("8.5"))
    (near,) = report_of(date(2026, 3, 29), zone=BERLIN, now=NOON)["budgets_near_their_end"]
    assert (near["limit_usd"], near["spent_usd"], near["percent"]) == ("10", "8.5", 85)


def test_it_is_sent_once_a_day_from_its_hour_on(settings, hook):
    settings.GATEWAY = read_environment(
        {"REPORT_WEBHOOK": hook.url, "REPORT_WEBHOOK_SECRET": "s3cret", "REPORT_HOUR": "8"}
    )
    early = NOON.replace(hour=7, minute=59)
    assert send_due(early) == ""
    assert send_due(early + timedelta(minutes=1)) == "report of 2026-03-29 sent to 1 recipient"
    assert send_due(NOON) == ""
    (first,) = hook.requests
    assert (first.json["type"], first.json["day"]) == ("daily_report", "2026-03-29")
    assert "x-gateway-signature" in {name.lower() for name in first.headers}
    assert send_due(NOON + timedelta(days=1)).startswith("report of 2026-03-30")
    assert len(hook.requests) == 2


def test_who_could_not_be_told_is_tried_again_and_nobody_else(settings, hook):
    settings.GATEWAY = read_environment({"REPORT_EMAILS": "ops@acme.test", "REPORT_WEBHOOK": hook.url})
    settings.EMAIL_BACKEND = "config.mail.NotConfigured"
    with pytest.raises(Untold, match="EMAIL_URL is not set"):
        send_due(NOON)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert send_due(NOON) == "report of 2026-03-29 sent to 2 recipients"
    assert len(hook.requests) == 1
    from django.core import mail

    (sent,) = mail.outbox
    assert sent.subject == "LLM gateway, 2026-03-29: 0 requests, $0"
    assert remembered("daily-report")["told"] == ["webhook", "ops@acme.test"]


def test_it_says_that_there_is_nobody_to_tell(settings):
    settings.GATEWAY = read_environment({})
    assert send_due(NOON).startswith("nothing to do")
    remember("daily-report", day="2026-03-28", told=["webhook"])
