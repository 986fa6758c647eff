"""The daily report: what it says is what the rollups say, and everybody gets it once."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db.models import Sum

from analytics.models import UsageRollup
from analytics.report import report_of
from analytics.report_delivery import send_due
from config.jobs import remember, remembered
from config.money import nanousd, usd
from config.telling import Untold
from gatewaysite.environment import read_environment
from keys.calendar import bounds, zone_of
from keys.models import Budget, BudgetWindow, Tenant
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
    inside = UsageRollup.objects.filter(starts_at__gte=day, starts_at__lt=day + timedelta(hours=23))
    report = report_of(date(2026, 3, 29), zone=BERLIN, now=NOON)
    assert report["requests"] == report["errors"] == inside.count() == 23
    assert report["cost_usd"] == usd(inside.aggregate(cost=Sum("cost_nanousd"))["cost"])
    assert report["tenants"][0]["tenant"] == "acme"
    assert report["models"][0]["model"] == "openai/gpt-4o"
    assert report["models"][0]["cost_usd"] == report["tenants"][0]["cost_usd"] == report["cost_usd"]


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
