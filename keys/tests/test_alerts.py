"""Budgets that reach a percentage: who is told, how often, and what becomes of those who cannot be."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from config.money import nanousd
from config.vault import Vault
from gatewaysite.environment import read_environment
from keys import alert_delivery
from keys.alert_delivery import MAX_ATTEMPTS, deliver_due
from keys.alerting import find_reached
from keys.calendar import bounds, zone_of
from keys.models import AlertDelivery, ApiKey, Budget, BudgetAlert, BudgetWindow, Tenant
from keys.tasks import look_through_budgets, tell_of_budgets
from tests.receivers import mail_sink, webhook_receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def mails(settings):
    with mail_sink() as sink:
        host, _, port = sink.url.removeprefix("smtp://").partition(":")
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = host, int(port)
        yield sink


@pytest.fixture
def hook():
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def tenant():
    return Tenant.objects.create(name="acme", alert_emails=["team@acme.test"])


def operators(settings, **variables):
    settings.GATEWAY = read_environment(variables)


def budget(tenant=None, *, usd="10", **fields):
    return Budget.objects.create(
        tenant=None if fields.get("key") else tenant, amount_nanousd=nanousd(usd), **fields
    )


def spend(row, usd, *, at=None, zone="UTC"):
    """Have so much be spent in the window around `at`, as the ledger's sums say."""
    start, _ = bounds(row.window, at or timezone.now(), zone_of(zone))
    window, _ = BudgetWindow.objects.update_or_create(
        budget=row, starts_at=start, defaults={"spent_nanousd": nanousd(usd)}
    )
    return window


def told(hook):
    return [request.json["percent"] for request in hook.requests]


def make_due():
    """Let the time of all claims and waits pass."""
    AlertDelivery.objects.exclude(due_at=None).update(due_at=timezone.now())


# ---------------------------------------------------------------- when


def test_it_tells_once_in_a_window_and_again_in_the_next(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    row = budget(window="day")
    spend(row, "7.99")
    tell_of_budgets()
    assert told(hook) == []
    spend(row, "8")
    tell_of_budgets()
    spend(row, "9")
    tell_of_budgets()
    assert told(hook) == [80]
    spend(row, "10.5")
    tell_of_budgets()
    tell_of_budgets()
    assert told(hook) == [80, 100]
    tomorrow = timezone.now() + timedelta(days=1)
    spend(row, "8", at=tomorrow)
    find_reached(tomorrow, everything=True)
    deliver_due(tomorrow)
    assert told(hook) == [80, 100, 80]
    assert len({request.json["id"] for request in hook.requests}) == 3


def test_it_tells_of_several_that_are_reached_at_once_by_the_highest(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    row = budget(alert_percents=[50, 80, 90, 150])
    spend(row, "9")
    tell_of_budgets()
    assert told(hook) == [90]
    alerts = list(BudgetAlert.objects.order_by("percent"))
    assert [(each.percent, each.sent_at is not None) for each in alerts] == [
        (50, True),
        (80, True),
        (90, True),
    ]
    row.alert_percents = [20, *row.alert_percents]
    row.save()
    look_through_budgets()
    tell_of_budgets()
    assert told(hook) == [90]


def test_a_raise_moves_the_percentages_and_its_end_moves_them_back(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    now = timezone.now()
    row = budget(window="total", raised_nanousd=nanousd("100"), raised_until=now + timedelta(hours=1))
    spend(row, "9")
    tell_of_budgets()
    assert told(hook) == []
    find_reached(now + timedelta(hours=2), everything=True)
    deliver_due(now + timedelta(hours=2))
    assert told(hook) == [80]
    assert hook.told("limit_usd", "spent_usd") == [["10", "9"]]
    row.raised_until = now + timedelta(hours=5)
    row.save()
    spend(row, "85")
    tell_of_budgets()
    assert told(hook) == [80]
    spend(row, "100")
    tell_of_budgets()
    assert told(hook) == [80, 100]
    assert hook.requests[-1].json["limit_usd"] == "100"


@pytest.mark.parametrize(
    "fields", [{"enabled": False}, {"alert_percents": []}, {"usd": "1000"}], ids=["off", "none", "far"]
)
def test_it_tells_nobody_without_a_reason(settings, hook, fields):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    spend(budget(**fields), "12")
    tell_of_budgets()
    look_through_budgets()
    assert not BudgetAlert.objects.exists()


def test_a_budget_of_nothing_is_reached_by_the_first_cost(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    row = budget(usd="0")
    spend(row, "0")
    tell_of_budgets()
    assert told(hook) == []
    spend(row, "0.000000001")
    tell_of_budgets()
    assert hook.told("percent", "spent_usd", "limit_usd") == [[100, "0.000000001", "0"]]


def test_it_looks_at_what_was_booked_lately_and_at_everything_now_and_then(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    row = budget(window="total")
    window = spend(row, "5")
    BudgetWindow.objects.filter(pk=window.pk).update(updated_at=timezone.now() - timedelta(days=3))
    row.amount_nanousd = nanousd("5")
    row.save()
    tell_of_budgets()
    assert told(hook) == []
    look_through_budgets()
    tell_of_budgets()
    assert told(hook) == [100]


def test_windows_that_are_over_are_told_of_for_a_few_minutes_more():
    row = budget(window="day")
    at = datetime(2026, 5, 4, 23, 59, tzinfo=UTC)
    spend(row, "10", at=at)
    assert find_reached(datetime(2026, 5, 5, 0, 30, tzinfo=UTC), everything=True) == 0
    assert find_reached(datetime(2026, 5, 5, 0, 5, tzinfo=UTC), everything=True) == 1


def test_the_windows_are_those_of_the_tenants_clocks(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    tenant = Tenant.objects.create(name="kathmandu", timezone="Asia/Kathmandu")
    row = budget(tenant, window="day")
    at = datetime(2026, 5, 4, 20, 0, tzinfo=UTC)  # 01:45 on the fifth
    spend(row, "8", at=at, zone="Asia/Kathmandu")
    find_reached(at, everything=True)
    deliver_due(timezone.now())
    assert hook.told("window_starts_at", "window_ends_at", "tenant") == [
        ["2026-05-04T18:15:00Z", "2026-05-05T18:15:00Z", "kathmandu"]
    ]


def test_a_window_of_the_time_zone_before_is_no_window(tenant):
    row = budget(tenant, window="day")
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    spend(row, "10", at=at)
    tenant.timezone = "Asia/Kathmandu"
    tenant.save()
    assert find_reached(at, everything=True) == 0


# ---------------------------------------------------------------- what


def test_a_mail_says_what_was_spent_and_when_it_resets(settings, mails, tenant):
    operators(settings, APP_BASE_URL="https://gateway.test/")
    tenant.timezone = "Europe/Berlin"
    tenant.save()
    row = budget(tenant, window="month", model="gpt-4o*")
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    spend(row, "8.05", at=at, zone="Europe/Berlin")
    find_reached(at, everything=True)
    BudgetAlert.objects.update(reached_at=at)
    deliver_due(timezone.now())
    (mail,) = mails.taken
    assert mail["To"] == "team@acme.test"
    assert mail["From"] == "gateway@localhost"
    assert mail["Subject"] == ("Budget of tenant acme, gpt-4o*: 80 % spent ($8.05 of $10.00 per month)")
    text = mail.get_content().replace("\r\n", "\n")
    assert f"Budget:    $10.00 per month (budget:{row.pk})\nHolds for: tenant acme, gpt-4o*\n" in text
    assert "Spent:     $8.05 (80.5 %)\nLeft:      $1.95\n" in text
    assert "Window:    2026-05-01 00:00 (Europe/Berlin) to 2026-06-01 00:00 (Europe/Berlin)\n" in text
    assert "Resets:    2026-06-01 00:00 (Europe/Berlin)\nReached:   2026-05-04 14:00 (Europe/Berlin)" in text
    assert "Requests that may cost more than what is left are refused until it resets." in text
    assert text.rstrip().endswith(f"https://gateway.test/admin/keys/budget/{row.pk}/change/")


def test_a_webhook_is_told_the_same_and_can_tell_who_speaks(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_SECRET="a-shared-secret")
    tenant = Tenant.objects.create(
        name="acme", alert_webhook=Vault(django_settings.SECRET_KEYS).seal(hook.url)
    )
    key, _ = ApiKey.issue(tenant=tenant, name="ci")
    key.save()
    row = budget(key=key, window="total", model="gpt-4o")
    spend(row, "10")
    tell_of_budgets()
    (request,) = hook.requests
    alert = BudgetAlert.objects.get(percent=100)
    assert request.path == "/hooks/of-a-team"
    assert request.json == {
        "type": "budget.threshold",
        "id": f"budget-alert-{alert.pk}",
        "budget": f"budget:{row.pk}",
        "tenant": "acme",
        "key": "ci",
        "model": "gpt-4o",
        "percent": 100,
        "spent_usd": "10",
        "limit_usd": "10",
        "window": "total",
        "window_starts_at": None,
        "window_ends_at": None,
        "at": request.json["at"],
    }
    assert datetime.fromisoformat(request.json["at"]) == alert.reached_at.replace(microsecond=0)
    time, _, digest = request.headers["x-gateway-signature"].removeprefix("t=").partition(",v1=")
    signed = time.encode() + b"." + request.body
    assert digest == hmac.new(b"a-shared-secret", signed, hashlib.sha256).hexdigest()


def test_without_a_secret_it_signs_nothing(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    spend(budget(), "8")
    tell_of_budgets()
    assert "x-gateway-signature" not in hook.requests[0].headers


def test_it_opens_a_url_that_is_a_reference_and_takes_one_that_is_written_out(monkeypatch, hook):
    monkeypatch.setenv("ACME_HOOK", hook.url)
    for name, stored in (("one", "${ACME_HOOK}"), ("two", hook.url)):
        spend(budget(Tenant.objects.create(name=name, alert_webhook=stored)), "8")
    tell_of_budgets()
    assert sorted(request.json["tenant"] for request in hook.requests) == ["one", "two"]


# ---------------------------------------------------------------- whom


def test_it_tells_each_of_the_tenant_and_of_the_operators_by_itself(settings, mails, hook, tenant):
    operators(
        settings, BUDGET_ALERT_EMAILS="ops@gateway.test, team@acme.test", BUDGET_ALERT_WEBHOOK_URL=hook.url
    )
    key, _ = ApiKey.issue(tenant=tenant, name="ci")
    key.save()
    spend(budget(key=key), "8")
    tell_of_budgets()
    assert sorted(mail["To"] for mail in mails.taken) == ["ops@gateway.test", "team@acme.test"]
    assert hook.told("key") == [["ci"]]


def test_budgets_of_everyone_are_the_operators_alone(settings, mails, tenant):
    operators(settings, BUDGET_ALERT_EMAILS="ops@gateway.test")
    spend(budget(), "8")
    tell_of_budgets()
    (mail,) = mails.taken
    assert (mail["To"], mail["Subject"]) == (
        "ops@gateway.test",
        "Budget of everyone: 80 % spent ($8.00 of $10.00 per month)",
    )


def test_an_alert_that_nobody_asked_for_is_written_down():
    spend(budget(), "8")
    tell_of_budgets()
    (alert,) = BudgetAlert.objects.all()
    assert (alert.percent, alert.sent_at, alert.problem) == (80, None, "")


# ---------------------------------------------------------------- until it has worked


def test_a_receiver_that_fails_is_tried_again_and_the_others_are_not(settings, mails, hook, tenant):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    hook.answers += [500, 302]
    spend(budget(tenant), "8")
    tell_of_budgets()
    alert = BudgetAlert.objects.get()
    assert (alert.sent_at, alert.attempts, alert.problem) == (None, 1, "operators: status 500")
    tell_of_budgets()
    assert len(hook.requests) == 1, "it waits before it tries again"
    make_due()
    tell_of_budgets()
    assert BudgetAlert.objects.get().problem == "operators: status 302"
    make_due()
    tell_of_budgets()
    make_due()
    tell_of_budgets()
    assert told(hook) == [80, 80, 80]
    assert len({request.json["id"] for request in hook.requests}) == 1
    assert len(mails.taken) == 1
    alert.refresh_from_db()
    assert (alert.sent_at is not None, alert.attempts, alert.problem) == (True, 3, "")


def test_the_waits_grow_until_it_is_given_up(settings, hook):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    hook.answers += [503] * 100
    spend(budget(), "8")
    waits: list[float] = []
    for _ in range(MAX_ATTEMPTS):
        before = timezone.now()
        tell_of_budgets()
        delivery = AlertDelivery.objects.get()
        if delivery.due_at is not None:
            waits.append((delivery.due_at - before).total_seconds())
        make_due()
    assert len(waits) == MAX_ATTEMPTS - 1
    assert waits == sorted(waits)
    tell_of_budgets()
    assert len(hook.requests) == MAX_ATTEMPTS
    alert = BudgetAlert.objects.get()
    assert (alert.sent_at, alert.attempts, alert.problem) == (None, MAX_ATTEMPTS, "operators: status 503")


def test_one_refused_address_keeps_nobody_else_from_being_told(settings, mails):
    operators(settings, BUDGET_ALERT_EMAILS="gone@acme.test, ops@acme.test")
    mails.refused.add("gone@acme.test")
    spend(budget(), "8")
    tell_of_budgets()
    assert [mail["To"] for mail in mails.taken] == ["ops@acme.test"]
    assert "gone@acme.test: SMTPRecipientsRefused" in BudgetAlert.objects.get().problem
    mails.refused.clear()
    make_due()
    tell_of_budgets()
    assert [mail["To"] for mail in mails.taken] == ["ops@acme.test", "gone@acme.test"]


def test_without_a_mail_server_the_alert_says_what_is_missing(settings, tenant):
    settings.EMAIL_BACKEND = "config.mail.NotConfigured"
    spend(budget(tenant), "8")
    tell_of_budgets()
    alert = BudgetAlert.objects.get()
    assert (alert.sent_at, alert.problem) == (None, "team@acme.test: EMAIL_URL is not set")
    assert AlertDelivery.objects.get().due_at is not None


def test_who_is_no_longer_to_be_told_is_not(settings, mails, tenant):
    mails.refused.add("team@acme.test")
    spend(budget(tenant), "8")
    tell_of_budgets()
    mails.refused.clear()
    tenant.alert_emails = []
    tenant.save()
    make_due()
    tell_of_budgets()
    delivery = AlertDelivery.objects.get()
    assert (mails.taken, delivery.due_at, delivery.problem) == ([], None, "is not to be told any more")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("enc:of-another-key", "no key in GATEWAY_SECRET_KEYS opens the webhook's URL"),
        ("ftp://user:hidden@acme.test", "the webhook's URL does not start with http:// or https://"),
        ("${NOT_SET_ANYWHERE}", "no URL is set"),
        ("http://user:hidden@127.0.0.1:1/", "ConnectError"),
        ("http://hidden.test:port/", "InvalidURL"),
    ],
)
def test_no_problem_tells_a_secret(capfd, stored, said):
    spend(budget(Tenant.objects.create(name="acme", alert_webhook=stored)), "8")
    tell_of_budgets()
    assert BudgetAlert.objects.get().problem == f"tenant: {said}"
    out, err = capfd.readouterr()
    assert said in out
    assert "hidden" not in out + err


def test_a_process_that_dies_while_it_tells_leaves_the_rest_to_another(settings, hook, monkeypatch):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    spend(budget(), "8")
    with monkeypatch.context() as patched:
        patched.setattr(alert_delivery, "ThreadPoolExecutor", _died)
        with pytest.raises(SystemExit):
            tell_of_budgets()
    tell_of_budgets()
    assert told(hook) == [], "the claim holds"
    deliver_due(timezone.now() + alert_delivery.CLAIMED_FOR)
    assert told(hook) == [80]


def _died(*_, **__):
    raise SystemExit


def test_another_process_that_looks_meanwhile_takes_the_rest_and_nothing_twice(settings, hook, monkeypatch):
    operators(settings, BUDGET_ALERT_WEBHOOK_URL=hook.url)
    rows = [budget() for _ in range(4)]
    for row in rows:
        spend(row, "8")
    find_reached(timezone.now())
    now, sending, others = timezone.now(), alert_delivery._sending, []

    def interrupted(row):
        if not others:
            others.append(0)  # the first is claimed, the rest is read and not claimed yet
            others.append(deliver_due(now))
        return sending(row)

    monkeypatch.setattr(alert_delivery, "_sending", interrupted)
    assert (deliver_due(now), others[1]) == (1, 3)
    assert sorted(request.json["budget"] for request in hook.requests) == sorted(
        f"budget:{row.pk}" for row in rows
    )


def test_it_costs_few_queries_where_nothing_is_to_be_told(django_assert_num_queries):
    for row in [budget() for _ in range(20)]:
        spend(row, "10")
    tell_of_budgets()
    with django_assert_num_queries(4):  # windows, their alerts, what is due, and how the job went
        tell_of_budgets()
