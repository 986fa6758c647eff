"""The admin screens of rotation, a key's terms, limits, budgets and a tenant's alerts."""

import json
import re
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from config.tests.admin_kit import inlines, messages_in, page, signed_in
from config.vault import Vault
from keys import secret as secrets
from keys.calendar import bounds, zone_of
from keys.models import ApiKey, Budget, BudgetWindow, RateLimit, Tenant
from keys.tests.test_admin import KEYS, change, create, form, make

pytestmark = pytest.mark.django_db

BUDGETS = "/admin/keys/budget/"

# ---------------------------------------------------------------- rotation


def opened(client, key):
    """Open the page of a rotation and return its fields, as a browser would send them."""
    html = page(client, f"{KEYS}{key.pk}/rotate/")
    fields = {}
    for tag in re.findall(r"<input[^>]+>", html):
        name, value = re.search(r'name="(rotates|until_\d)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and value:
            fields[name[1]] = value[1]
    return fields


def rotate(client, key, **fields):
    return client.post(f"{KEYS}{key.pk}/rotate/", {**opened(client, key), **fields})


def shown(response):
    found = re.search(r"data-secret>([^<]+)<", response.content.decode())
    assert found, messages_in(response.content.decode())
    return found[1]


def test_it_rotates_a_secret_and_shows_the_new_one_once(client, tenant):
    _, old = create(client, tenant)
    key, before = ApiKey.objects.get(), timezone.now()
    response = rotate(client, key)
    secret = shown(response)
    assert "no-store" in response["Cache-Control"]
    key.refresh_from_db()
    assert key.digest == secrets.digest(secret).hex()
    assert key.previous_digest == secrets.digest(old).hex()
    assert key.previous_until is not None
    assert timedelta(hours=23, minutes=58) < key.previous_until - before <= timedelta(hours=24, minutes=1)
    until = f"{key.previous_until:%Y-%m-%d %H:%M} UTC"
    pages = [page(client, KEYS), page(client, change(key))]
    assert f"{key.prefix}… (old secret works until {until})" in messages_in(pages[0])
    assert f"{old[:12]}… works until {until}" in messages_in(pages[1])
    pages.append(json.dumps([entry.changes for entry in LogEntry.objects.all()]))
    for hidden in (secret, old, key.digest, key.previous_digest):
        assert not [each for each in pages if hidden in each]


def test_it_ends_an_old_secret_at_once(client, tenant):
    key = make(tenant)
    response = rotate(client, key, at_once="on", until_0="", until_1="")
    assert "The old secret no longer works." in messages_in(response.content.decode())
    key.refresh_from_db()
    assert (key.previous_digest, key.previous_until) == (None, None)


def test_a_page_that_is_sent_twice_rotates_once(client, tenant):
    key = make(tenant)
    fields = opened(client, key)
    first = shown(client.post(f"{KEYS}{key.pk}/rotate/", fields))
    second = client.post(f"{KEYS}{key.pk}/rotate/", fields)
    assert "rotated since this page was opened" in second.content.decode()
    key.refresh_from_db()
    assert key.digest == secrets.digest(first).hex()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"until_0": "2001-01-01", "until_1": "00:00"}, "This is in the past."),
        ({"until_0": "", "until_1": ""}, "Say until when, or end the old secret at once."),
        ({"until_0": "soon", "until_1": "now"}, "Enter a valid date."),
    ],
)
def test_it_says_what_is_wrong_with_a_rotation(client, tenant, fields, message):
    key = make(tenant)
    digest = key.digest
    assert message in messages_in(rotate(client, key, **fields).content.decode())
    key.refresh_from_db()
    assert key.digest == digest


def test_a_leaked_secret_ends_with_its_rotation(client, tenant):
    why = "reported as leaked on 2027-01-01 00:00 UTC, by ::1"
    key = make(tenant, enabled=False, disabled_because=why)
    assert "reported as leaked on 2027-01-01 00:00 UTC" in messages_in(page(client, KEYS))
    assert why in messages_in(page(client, change(key)))
    assert list(opened(client, key)) == ["rotates"]
    rotate(client, key, until_0="2099-01-01", until_1="00:00")
    key.refresh_from_db()
    assert (key.previous_digest, key.enabled) == (None, False)


def test_it_lets_no_viewer_rotate_a_key(tenant):
    key = make(tenant)
    digest = key.digest
    signed_in("keys.view_apikey").post(f"{KEYS}{key.pk}/rotate/", {"at_once": "on"})
    key.refresh_from_db()
    assert key.digest == digest


# ---------------------------------------------------------------- a key's terms


def test_it_takes_the_terms_of_a_key_as_lines(client, tenant):
    create(
        client,
        tenant,
        denied_models="gpt-5*\n",
        allowed_networks="10.0.0.0/8\n203.0.113.7",
        tags="team=search\nnote = a=b",
        max_tokens="500",
        forced_route=" gpt-4o-mini ",
    )
    key = ApiKey.objects.get()
    assert (key.denied_models, key.allowed_networks) == (["gpt-5*"], ["10.0.0.0/8", "203.0.113.7"])
    assert (key.tags, key.max_tokens) == ({"team": "search", "note": "a=b"}, 500)
    assert key.forced_route == "gpt-4o-mini"
    assert "always gpt-4o-mini" in messages_in(page(client, KEYS))
    assert "team=search\nnote=a=b</textarea>" in page(client, change(key)).replace("\r", "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"allowed_networks": "ten"}, "neither an address nor a network"),
        ({"tags": "team"}, "Line 1 is not of the form name=text."),
        ({"max_tokens": "0"}, "greater than or equal to 1"),
    ],
)
def test_it_says_which_of_a_keys_terms_is_wrong(client, tenant, fields, message):
    response = client.post(f"{KEYS}add/", form(tenant, **fields))
    assert message in messages_in(response.content.decode())
    assert not ApiKey.objects.exists()


# ---------------------------------------------------------------- limits and budgets


def budget_form(**changes):
    return {
        "amount_nanousd": "10",
        "window": "day",
        "mode": "strict",
        "enabled": "on",
        "model": "",
        "raised_nanousd": "",
        "raised_until_0": "",
        "raised_until_1": "",
        "alert_percents": "80, 100",
        **changes,
    }


RAISE = {"raised_nanousd": "25", "raised_until_0": "2099-01-01", "raised_until_1": "00:00"}


def test_it_makes_a_limit_that_each_has_for_itself(client):
    fields = {"kind": "requests", "amount": "5", "per": "minute", "each": "ip", "enabled": "on"}
    assert client.post("/admin/keys/ratelimit/add/", fields).status_code == 302
    assert RateLimit.objects.get().each == "ip"
    assert "Each client address" in messages_in(page(client, "/admin/keys/ratelimit/"))


def test_it_proposes_a_minute_and_takes_no_window_for_requests_at_once(client):
    assert '<option value="minute" selected>' in page(client, "/admin/keys/ratelimit/add/")
    fields = {"kind": "concurrent", "amount": "5", "per": "minute", "each": "", "enabled": "on"}
    assert client.post("/admin/keys/ratelimit/add/", fields).status_code == 302
    assert RateLimit.objects.get().per == ""
    response = client.post("/admin/keys/ratelimit/add/", {**fields, "kind": "tokens", "per": ""})
    assert "Per what?" in messages_in(response.content.decode())


def test_it_says_what_would_be_in_an_empty_list(client):
    assert "No budgets yet So many dollars in a day" in messages_in(page(client, BUDGETS))
    Budget.objects.create(amount_nanousd=10**9, window="day")
    narrowed = messages_in(page(client, f"{BUDGETS}?q=nobody"))
    assert "Nothing matches" in narrowed
    assert "So many dollars in a day" not in narrowed


def test_a_new_tenant_has_no_webhook_to_forget(client, tenant):
    assert "clear_webhook" not in page(client, "/admin/keys/tenant/add/")
    assert "clear_webhook" in page(client, f"/admin/keys/tenant/{tenant.pk}/change/")


def test_it_makes_a_budget_with_a_raise_and_alerts(client):
    fields = budget_form(**RAISE, alert_percents="100, 50%,50", refuse_unpriced="on")
    response = client.post(f"{BUDGETS}add/", fields)
    assert response.status_code == 302, messages_in(response.content.decode())
    budget = Budget.objects.get()
    assert (budget.raised_nanousd, budget.alert_percents) == (25 * 10**9, [50, 100])
    assert budget.refuse_unpriced
    assert "$0.00 of $25.00 (raised)" in messages_in(page(client, BUDGETS))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raised_nanousd": "25"}, "Say until when it is raised."),
        ({**RAISE, "raised_nanousd": ""}, "Say to how much it is raised."),
        ({**RAISE, "raised_nanousd": "5"}, "A raise is to more than the amount."),
        ({"alert_percents": "eighty"}, "Write whole percentages with commas"),
        ({"alert_percents": "0, 100"}, "whole percentages from 1 to 1000"),
    ],
)
def test_it_says_what_is_wrong_with_a_budget(client, fields, message):
    response = client.post(f"{BUDGETS}add/", budget_form(**fields))
    assert message in messages_in(response.content.decode())
    assert not Budget.objects.exists()


def test_it_shows_what_is_spent_of_a_budget_in_this_window(client):
    berlin = Tenant.objects.create(name="berlin", timezone="Europe/Berlin")
    owners = (("day", {"key": make(berlin)}, 7), ("month", {"tenant": berlin}, 9), ("total", {}, 12))
    now = timezone.now()
    for window, owner, spent in owners:
        budget = Budget.objects.create(amount_nanousd=10 * 10**9, window=window, **owner)
        zone = zone_of("Europe/Berlin" if owner else "UTC")
        start, _ = bounds(window, now, zone)
        BudgetWindow.objects.create(budget=budget, starts_at=start, spent_nanousd=spent * 10**9)
        if window != "total":
            earlier, _ = bounds(window, start - timedelta(hours=1), zone)
            BudgetWindow.objects.create(budget=budget, starts_at=earlier, spent_nanousd=5 * 10**9)
    old = Budget.objects.create(amount_nanousd=3 * 10**9, window="day")
    BudgetWindow.objects.create(budget=old, starts_at=now - timedelta(days=3), spent_nanousd=10**9)
    text = messages_in(page(client, BUDGETS))
    for words in (
        "$7.00 of $10.00 $3.00 left",
        "$9.00 of $10.00 $1.00 left",
        "$12.00 of $10.00 $2.00 over",
        "$0.00 of $3.00 $3.00 left",
    ):
        assert words in text


# ---------------------------------------------------------------- a tenant's alerts


def tenant_form(**changes):
    return {
        "name": "acme",
        "timezone": "UTC",
        "queue_weight": "1",
        "payload_days": "0",
        "alert_emails": "",
        **inlines("ratelimits"),
        **inlines("budgets"),
        **inlines("keys"),
        **inlines("members"),
        **changes,
    }


def test_it_keeps_a_webhook_sealed_and_never_shows_it_again(client, tenant):
    url = reverse("admin:keys_tenant_change", args=[tenant.pk])
    secret = "https://hooks.example/T0/secret-part"
    response = client.post(url, tenant_form(new_webhook=secret, alert_emails="a@b.example\nc@d.example"))
    assert response.status_code == 302, messages_in(response.content.decode())
    tenant.refresh_from_db()
    assert "secret-part" not in tenant.alert_webhook
    assert Vault(settings.SECRET_KEYS).open(tenant.alert_webhook) == secret
    assert tenant.alert_emails == ["a@b.example", "c@d.example"]
    html = page(client, url)
    assert "stored, encrypted" in html
    kept = html + json.dumps([each.changes for each in LogEntry.objects.all()])
    assert "secret-part" not in kept
    assert tenant.alert_webhook not in kept
    client.post(url, tenant_form())
    assert Tenant.objects.get().alert_webhook == tenant.alert_webhook
    client.post(url, tenant_form(clear_webhook="on"))
    assert Tenant.objects.get().alert_webhook == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"new_webhook": "ftp://x.example/secret-part"}, "begins with http:// or https://"),
        (
            {"new_webhook": "https://x.example/secret-part", "clear_webhook": "on"},
            "Either write a new webhook",
        ),
        ({"alert_emails": "nobody"}, "is not an e-mail address"),
    ],
)
def test_it_says_what_is_wrong_with_alerts(client, tenant, fields, message):
    response = client.post(reverse("admin:keys_tenant_change", args=[tenant.pk]), tenant_form(**fields))
    assert message in messages_in(response.content.decode())
    assert "secret-part" not in response.content.decode()
    assert Tenant.objects.get().alert_webhook == ""
