import json
import re
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.contrib.admin.models import LogEntry as AdminLogEntry
from django.contrib.sessions.models import Session
from django.core import serializers
from django.urls import reverse
from django.utils import timezone

from config.models import current_version
from config.tests.admin_kit import inlines, messages_in, page, signed_in, statements
from keys import secret as secrets
from keys.models import (
    AlertDelivery,
    ApiKey,
    Budget,
    BudgetAlert,
    BudgetWindow,
    LedgerEntry,
    RateLimit,
    Tenant,
)

pytestmark = pytest.mark.django_db

KEYS = "/admin/keys/apikey/"


def make(tenant, name="ci", **fields):
    key, _ = ApiKey.issue(tenant=tenant, name=name, **fields)
    key.save()
    return key


def form(tenant, *, limits=(), budgets=(), **changes):
    return {
        "name": "ci",
        "tenant": tenant.pk,
        "enabled": "on",
        "expires_at_0": "",
        "expires_at_1": "",
        "allowed_models": "",
        "own_secret": "",
        **inlines("ratelimits", limits),
        **inlines("budgets", budgets),
        **changes,
    }


def create(client, tenant, **changes):
    response = client.post(f"{KEYS}add/", form(tenant, **changes))
    assert response.status_code == 200
    found = re.search(r"data-secret>([^<]+)<", response.content.decode())
    assert found, messages_in(response.content.decode())
    return response, found[1]


def change(key):
    return reverse("admin:keys_apikey_change", args=[key.pk])


# ---------------------------------------------------------------- the secret


def test_it_shows_a_new_secret_once_and_stores_its_digest_alone(client, tenant):
    response, secret = create(client, tenant)
    key = ApiKey.objects.get()
    assert secret.startswith("sk-gw-")
    assert secrets.well_formed(secret)
    assert key.digest == secrets.digest(secret).hex()
    assert key.prefix == secret[:12]
    assert "no-store" in response["Cache-Control"]
    for url in (KEYS, change(key), f"{KEYS}add/"):
        html = page(client, url)
        assert secret not in html
        assert key.digest not in html
    assert key.prefix in page(client, change(key))


def test_it_leaves_no_copy_of_a_secret_anywhere(client, tenant, caplog, capfd):
    response, secret = create(client, tenant)
    assert not response.cookies.get("messages")
    assert secret not in str(response.cookies)
    assert secret not in response.get("Location", "")
    stored = [session.get_decoded() for session in Session.objects.all()]
    rows = serializers.serialize(
        "json", [*ApiKey.objects.all(), *LogEntry.objects.all(), *AdminLogEntry.objects.all()]
    )
    assert secret not in json.dumps(stored, default=str)
    assert secret not in rows
    assert secret not in caplog.text
    assert secret not in "".join(capfd.readouterr())


def test_it_does_not_make_a_second_key_when_the_page_is_reloaded(client, tenant):
    create(client, tenant)
    response = client.post(f"{KEYS}add/", form(tenant))
    assert "already exists" in response.content.decode()
    assert b"data-secret" not in response.content
    assert ApiKey.objects.count() == 1


def test_it_takes_an_own_secret(client, tenant):
    own = "our-own-secret-of-enough-characters"
    _, shown = create(client, tenant, own_secret=own)
    assert shown == own
    assert ApiKey.objects.get().digest == secrets.digest(own).hex()


@pytest.mark.parametrize(
    "own", ["too-short", "x" * 30 + " with spaces", "sk-gw-" + "a" * 49, "ü" * 30], ids=str
)
def test_it_refuses_a_weak_or_mistyped_own_secret_without_repeating_it(client, tenant, own):
    response = client.post(f"{KEYS}add/", form(tenant, own_secret=own))
    assert response.status_code == 200
    assert not ApiKey.objects.exists()
    assert own not in response.content.decode()


def test_it_refuses_a_secret_that_another_key_has(client, tenant):
    own = "our-own-secret-of-enough-characters"
    create(client, tenant, own_secret=own)
    response = client.post(f"{KEYS}add/", form(tenant, name="other", own_secret=own))
    assert "This secret cannot be used" in response.content.decode()
    assert ApiKey.objects.count() == 1


def test_it_keeps_the_secret_when_a_key_is_edited(client, tenant):
    _, secret = create(client, tenant)
    key = ApiKey.objects.get()
    response = client.post(change(key), form(tenant, name="renamed", own_secret="x" * 40))
    assert response.status_code == 302
    key.refresh_from_db()
    assert key.name == "renamed"
    assert key.digest == secrets.digest(secret).hex()


def test_it_audits_a_key_without_its_digest(client, tenant):
    create(client, tenant)
    entry = LogEntry.objects.get(content_type__model="apikey")
    assert entry.actor is not None
    assert "digest" not in entry.changes_dict
    assert ApiKey.objects.get().digest not in json.dumps(entry.changes)


# ---------------------------------------------------------------- form


def test_it_creates_a_key_with_limits_and_budgets(client, tenant):
    create(
        client,
        tenant,
        limits=[{"kind": "requests", "amount": "60", "per": "minute", "enabled": "on"}],
        budgets=[{"amount_nanousd": "2.50", "window": "day", "mode": "strict", "enabled": "on"}],
        allowed_models="gpt-4o*\n\n anthropic/* \n",
    )
    key = ApiKey.objects.get()
    assert key.allowed_models == ["gpt-4o*", "anthropic/*"]
    assert str(key.ratelimits.get()) == "60 requests per minute"
    assert key.budgets.get().amount_nanousd == 2_500_000_000
    text = messages_in(page(client, KEYS))
    assert "60 requests per minute, $2.5 per day" in text
    assert "gpt-4o*, anthropic/*" in text
    assert "anthropic/*</textarea>" in page(client, change(key))


def test_it_refuses_a_limit_without_a_window(client, tenant):
    limit = {"kind": "requests", "amount": "60", "per": "", "enabled": "on"}
    response = client.post(f"{KEYS}add/", form(tenant, limits=[limit]))
    assert "Per what?" in response.content.decode()
    assert not ApiKey.objects.exists()


def test_it_never_writes_back_when_the_key_was_last_used(client, tenant, monkeypatch):
    key = make(tenant)
    used = timezone.now()
    original = ApiKey.save

    def save_late(self, **options):
        ApiKey.objects.filter(pk=self.pk).update(last_used_at=used)
        original(self, **options)

    monkeypatch.setattr(ApiKey, "save", save_late)
    client.post(change(key), form(tenant, name="renamed"))
    key.refresh_from_db()
    assert (key.name, key.last_used_at) == ("renamed", used)


# ---------------------------------------------------------------- lists and actions


def test_it_disables_and_enables_keys_and_audits_it(client, tenant):
    keys = [make(tenant, f"k{number}") for number in range(3)]
    chosen = {"_selected_action": [key.pk for key in keys]}
    version = current_version()
    response = client.post(KEYS, {"action": "disable_selected", **chosen}, follow=True)
    assert "3 API keys disabled." in messages_in(response.content.decode())
    assert not ApiKey.objects.filter(enabled=True).exists()
    assert current_version() == version + 3
    client.post(KEYS, {"action": "enable_selected", **chosen})
    assert ApiKey.objects.filter(enabled=True).count() == 3
    assert LogEntry.objects.filter(content_type__model="apikey", action=LogEntry.Action.UPDATE).count() == 6


def test_it_lets_no_viewer_disable_a_key(tenant):
    key = make(tenant)
    viewer = signed_in("keys.view_apikey")
    viewer.post(KEYS, {"action": "disable_selected", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.enabled
    assert viewer.get(f"{KEYS}add/").status_code == 403


def test_it_shows_a_viewer_budgets_in_dollars(tenant):
    budget = Budget.objects.create(tenant=tenant, amount_nanousd=2_500_000_000)
    viewer = signed_in("keys.view_budget", "keys.view_tenant")
    for url in (
        reverse("admin:keys_budget_change", args=[budget.pk]),
        reverse("admin:keys_tenant_change", args=[tenant.pk]),
    ):
        text = messages_in(page(viewer, url))
        assert "$2.50" in text
        assert "2500000000" not in text


def test_it_says_what_state_a_key_is_in_and_filters_by_it(client, tenant):
    now = timezone.now()
    make(tenant, "fine")
    make(tenant, "off", enabled=False)
    make(tenant, "old", expires_at=now - timedelta(days=3))
    make(tenant, "soon", expires_at=now + timedelta(days=3, hours=1))
    text = messages_in(page(client, KEYS))
    for words in ("disabled", "expired 3 days ago", "active, 3 days left", "never"):
        assert words in text.replace("\xa0", " ")
    for state, found in (("active", {"fine", "soon"}), ("disabled", {"off"}), ("expired", {"old"})):
        html = page(client, KEYS, state=state)
        assert {key.name for key in ApiKey.objects.all() if f"{key.prefix}…" in html} == found


def test_it_lists_many_rows_with_as_many_queries_as_few(client):
    def fill(numbers):
        for number in numbers:
            tenant = Tenant.objects.create(name=f"t{number}")
            key = make(tenant, f"k{number}")
            for owner in ({"tenant": tenant}, {"key": key}, {}):
                RateLimit.objects.create(amount=5, per="minute", **owner)
                Budget.objects.create(amount_nanousd=10**9, **owner)
            LedgerEntry.objects.create(
                completion_id=f"c{number}",
                at=timezone.now(),
                key_ref=key.pk,
                tenant_ref=tenant.pk,
                provider="p",
                model="m",
                cost_nanousd=5,
            )

    urls = [f"/admin/keys/{name}/" for name in ("tenant", "apikey", "ratelimit", "budget", "ledgerentry")]
    fill(range(2))
    few = [len(statements(client, url)) for url in urls]
    fill(range(2, 30))
    assert [len(statements(client, url)) for url in urls] == few


def test_it_opens_a_tenant_of_many_keys_a_page_at_a_time(client, tenant):
    make(tenant, "k0")
    url = reverse("admin:keys_tenant_change", args=[tenant.pk])
    few = len(statements(client, url))
    for number in range(1, 50):
        make(tenant, f"k{number}")
    assert len(statements(client, url)) <= few
    html = page(client, url)
    assert html.count("sk-gw-") == 20


def test_it_saves_a_tenant_without_touching_its_keys(client, tenant):
    key = make(tenant)
    url = reverse("admin:keys_tenant_change", args=[tenant.pk])
    budget = {"amount_nanousd": "25", "window": "month", "mode": "strict", "enabled": "on"}
    fields = {
        "name": "acme",
        "timezone": "Europe/Berlin",
        "queue_weight": "3",
        "payload_days": "0",
        **inlines("members"),
        **inlines("ratelimits"),
        **inlines("budgets", [budget]),
        **inlines("keys", [{"id": key.pk, "tenant": tenant.pk}], initial=1),
    }
    response = client.post(url, fields)
    assert response.status_code == 302, messages_in(response.content.decode())
    tenant.refresh_from_db()
    assert (tenant.timezone, tenant.queue_weight) == ("Europe/Berlin", 3)
    assert tenant.budgets.get().amount_nanousd == 25 * 10**9
    assert ApiKey.objects.get().digest == key.digest


def test_it_refuses_an_unknown_time_zone(client):
    fields = {"name": "acme", "timezone": "Mars/Olympus", **inlines("ratelimits"), **inlines("budgets")}
    response = client.post("/admin/keys/tenant/add/", fields)
    assert "not a known time zone" in response.content.decode()


def test_it_refuses_a_limit_for_a_key_and_a_tenant_at_once(client, tenant):
    fields = {"kind": "requests", "amount": "5", "per": "minute", "tenant": tenant.pk, "key": make(tenant).pk}
    response = client.post("/admin/keys/ratelimit/add/", fields)
    assert "Choose a key or a tenant, not both." in messages_in(response.content.decode())


@pytest.mark.parametrize("owner", ["everyone", "tenant", "key"])
def test_it_filters_limits_by_whom_they_hold_for(client, tenant, owner):
    key = make(tenant)
    for number, scope in enumerate(({}, {"tenant": tenant}, {"key": key})):
        RateLimit.objects.create(amount=1000 + number, per="minute", **scope)
    text = messages_in(page(client, "/admin/keys/ratelimit/", owner=owner))
    expected = {"everyone": "1000", "tenant": "1001", "key": "1002"}
    for name, amount in expected.items():
        assert (f"{int(amount):,} requests" in text) is (name == owner)


# ---------------------------------------------------------------- ledger


def entry(number=0, **fields):
    fields = {
        "at": timezone.now() - timedelta(minutes=number),
        "provider": "openai",
        "model": "gpt-4o",
        **fields,
    }
    return LedgerEntry.objects.create(completion_id=f"c{number:04d}", **fields)


def test_it_never_counts_the_ledger(client):
    for number in range(120):
        entry(number)
    sql = statements(client, "/admin/keys/ledgerentry/")
    assert not [each for each in sql if "COUNT(" in each.upper()]
    pages = [page(client, "/admin/keys/ledgerentry/")]
    while older := re.search(r"[?&;]p=(o[\d.]+)", pages[-1]):
        pages.append(page(client, "/admin/keys/ledgerentry/", p=older[1]))
    assert [[f"c{number:04d}" in each for number in (0, 49, 50, 99, 100, 119)] for each in pages] == [
        [True, True, False, False, False, False],
        [False, False, True, True, False, False],
        [False, False, False, False, True, True],
    ]


def test_it_shows_the_ledger_in_words(client, tenant):
    key = make(tenant)
    entry(1, key_ref=key.pk, tenant_ref=tenant.pk, cost_nanousd=1_500_000, prompt_tokens=1200, estimated=True)
    entry(2, key_ref=999, cost_nanousd=None, kind="interrupted")
    text = messages_in(page(client, "/admin/keys/ledgerentry/"))
    for words in ("ci", "acme", "$0.0015", "≈ 1,200 → 0", "deleted key 999", "no price known", "Interrupted"):
        assert words in text


def test_it_finds_a_ledger_entry_by_its_whole_id_alone(client):
    entry(1)
    entry(2)
    assert "c0002" not in page(client, "/admin/keys/ledgerentry/", q="c0001")
    assert "c0001" in page(client, "/admin/keys/ledgerentry/", q=" c0001 ")
    assert "c0001" not in page(client, "/admin/keys/ledgerentry/", q="c000")


def test_it_filters_the_ledger_by_names(client, tenant):
    key = make(tenant)
    entry(1, key_ref=key.pk, tenant_ref=tenant.pk)
    entry(2)
    for query in ({"key": "ci"}, {"tenant": "acme"}):
        html = page(client, "/admin/keys/ledgerentry/", **query)
        assert "c0001" in html
        assert "c0002" not in html
    assert "c0001" not in page(client, "/admin/keys/ledgerentry/", key="nobody")


def test_it_lets_nobody_write_the_ledger(client):
    row = entry(1)
    assert client.get("/admin/keys/ledgerentry/add/").status_code == 403
    assert client.post(reverse("admin:keys_ledgerentry_change", args=[row.pk]), {}).status_code == 403
    assert client.post(reverse("admin:keys_ledgerentry_delete", args=[row.pk]), {}).status_code == 403
    assert "/admin/analytics/requestlog/?q=c0001" in page(
        client, reverse("admin:keys_ledgerentry_change", args=[row.pk])
    )


def test_it_deletes_a_tenant_with_all_it_owns_but_its_ledger(client, tenant):
    key = make(tenant)
    RateLimit.objects.create(key=key, amount=5, per="minute")
    entry(1, key_ref=key.pk, tenant_ref=tenant.pk)
    client.post(reverse("admin:keys_tenant_delete", args=[tenant.pk]), {"post": "yes"})
    assert not ApiKey.objects.exists()
    assert not RateLimit.objects.exists()
    assert LedgerEntry.objects.count() == 1


# ---------------------------------------------------------------- alerts


def alert(tenant, **fields):
    budget = Budget.objects.create(tenant=tenant, amount_nanousd=10 * 10**9)
    window = BudgetWindow.objects.create(budget=budget, starts_at=timezone.now(), spent_nanousd=8 * 10**9)
    made = BudgetAlert.objects.create(
        **{"window": window, "percent": 80, "spent_nanousd": 8 * 10**9, "limit_nanousd": 10 * 10**9, **fields}
    )
    return budget, made


def test_it_lists_what_a_budget_has_reached_and_who_was_told(client, tenant):
    budget, made = alert(tenant)
    AlertDelivery.objects.create(
        alert=made,
        kind="email",
        address="team@acme.test",
        attempts=2,
        problem="status 500",
        due_at=timezone.now(),
    )
    other, _ = alert(tenant, percent=100)
    html = page(client, "/admin/keys/budget/")
    link = f"/admin/keys/budgetalert/?window__budget__id__exact={budget.pk}"
    assert link in html
    listed = page(client, link)
    assert "80 %" in listed
    assert "100 %" not in listed
    assert "trying again" in listed
    shown = page(client, reverse("admin:keys_budgetalert_change", args=[made.pk]))
    for text in ("$8.00", "$10.00", "tenant acme", "team@acme.test", "status 500"):
        assert text in shown
    assert 'name="_save"' not in shown
    assert other.pk != budget.pk


@pytest.mark.parametrize(("state", "count"), [("sent", 1), ("unsent", 2), ("failing", 1), ("", 3)])
def test_it_finds_alerts_by_what_became_of_them(client, tenant, state, count):
    alert(tenant, sent_at=timezone.now())
    alert(tenant, problem="ops@acme.test: EMAIL_URL is not set")
    alert(tenant)
    listed = page(client, f"/admin/keys/budgetalert/?state={state}")
    assert listed.count("80 %") == count


def test_its_list_of_alerts_costs_the_same_for_many(client, tenant):
    alert(tenant)
    page(client, "/admin/keys/budgetalert/")
    few = statements(client, "/admin/keys/budgetalert/")
    for _ in range(5):
        alert(tenant)
    assert len(statements(client, "/admin/keys/budgetalert/")) == len(few)


def test_deleting_a_budget_takes_its_alerts_along(client, tenant):
    budget, made = alert(tenant)
    AlertDelivery.objects.create(alert=made, kind="email", address="team@acme.test")
    response = client.post(reverse("admin:keys_budget_delete", args=[budget.pk]), {"post": "yes"})
    assert response.status_code == 302
    assert not BudgetAlert.objects.exists()
