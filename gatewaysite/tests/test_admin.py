import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from auditlog.models import LogEntry
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.urls import reverse
from django.utils import timezone

from analytics.models import RequestLog
from config.tests.admin_kit import inlines, messages_in, operator, page, signed_in, statements
from keys.models import Budget, BudgetAlert, BudgetWindow, Tenant
from providers.models import Provider
from proxy.models import Route

pytestmark = pytest.mark.django_db

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # of a window "in total"
TOMORROW = timezone.now() + timedelta(days=1)
AUDIT = "/admin/auditlog/logentry/"


@pytest.fixture
def client():
    return operator()


def screens():
    return [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in site._registry]


def test_it_opens_every_list_and_every_form(client):
    for url in screens():
        assert client.get(url, follow=True).status_code == 200, url
        assert client.get(f"{url}add/").status_code in {200, 403}, url
        assert client.get(url, {"q": "a b 'c\""}, follow=True).status_code == 200, url
    assert client.get("/admin/").status_code == 200


def test_it_opens_no_screen_to_staff_without_permissions():
    client = signed_in()
    for url in screens():
        assert client.get(url).status_code == 403, url


def test_it_shows_everything_to_those_who_may_only_look():
    models = [f"{model._meta.app_label}.view_{model._meta.model_name}" for model in site._registry]
    client = signed_in(*models)
    for url in screens():
        assert client.get(url, follow=True).status_code == 200, url
        assert client.get(f"{url}add/").status_code == 403, url


def test_it_shows_who_changed_what_from_what_to_what(client):
    user = User.objects.get()
    route = Route.objects.create(match="gpt-4o*", kind="prefix")
    url = reverse("admin:proxy_route_change", args=[route.pk])
    fields = {"match": "gpt-4o*", "kind": "prefix", "priority": "7", "strategy": "ordered", "enabled": "on"}
    formset = {"targets-TOTAL_FORMS": 0, "targets-INITIAL_FORMS": 0}
    assert client.post(url, {**fields, **formset}).status_code == 302
    text = messages_in(page(client, AUDIT))
    assert user.username in text
    assert "route gpt-4o*" in text
    assert "priority: 0 → 7" in text
    entry = LogEntry.objects.get(action=LogEntry.Action.UPDATE, object_pk=str(route.pk))
    assert "priority 0 7" in messages_in(
        page(client, reverse("admin:auditlog_logentry_change", args=[entry.pk]))
    )


def test_it_shows_money_in_the_audit_log_as_dollars(client):
    budget = Budget.objects.create(tenant=Tenant.objects.create(name="acme"), amount_nanousd=2 * 10**9)
    budget.amount_nanousd = 2_500_000_000
    budget.save()
    assert "amount: $2 → $2.5" in messages_in(page(client, AUDIT))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "recorded"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        ((), "no address at all", "127.0.0.1"),
        (("127.0.0.0/8",), "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8",), "no address at all", None),
    ],
)
def test_it_records_where_a_change_came_from(settings, proxies, forwarded, recorded):
    settings.GATEWAY = dataclasses.replace(settings.GATEWAY, trusted_proxies=proxies)
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Port": "x", "X-Correlation-ID": "c" * 1000}
    operator().post("/admin/proxy/cacheexclusion/add/", {"kind": "exact", "pattern": "m"}, headers=headers)
    entry = LogEntry.objects.get(content_type__model="cacheexclusion")
    assert (entry.remote_addr, entry.remote_port, entry.cid) == (recorded, None, None)


def test_it_names_related_rows_in_the_audit_log(client):
    tenant = Tenant.objects.create(name="acme")
    Budget.objects.create(tenant=tenant, amount_nanousd=10**9)
    entry = LogEntry.objects.get(content_type__model="budget")
    assert entry.changes_dict["tenant"] == ["None", "acme"]


def test_it_names_deleted_rows_without_a_link(client):
    route = Route.objects.create(match="gone", kind="exact")
    pk = route.pk
    route.delete()
    html = page(client, AUDIT, action__exact=str(LogEntry.Action.DELETE))
    assert "route gone" in messages_in(html)
    assert reverse("admin:proxy_route_change", args=[pk]) not in html


def test_it_lists_a_long_audit_log_without_counting_it(client):
    Tenant.objects.create(name="t")
    few = statements(client, AUDIT)
    for number in range(60):
        Tenant.objects.create(name=f"t{number}")
    many = statements(client, AUDIT)
    assert len(many) == len(few)
    assert not [each for each in many if "COUNT(" in each.upper()]


def test_it_lets_nobody_write_the_audit_log(client):
    Tenant.objects.create(name="t")
    entry = LogEntry.objects.latest("id")
    assert client.get(f"{AUDIT}add/").status_code == 403
    assert (
        client.post(reverse("admin:auditlog_logentry_delete", args=[entry.pk]), {"post": "yes"}).status_code
        == 403
    )
    assert client.post(reverse("admin:auditlog_logentry_change", args=[entry.pk]), {}).status_code == 403


def test_it_creates_a_user_and_audits_it_without_the_password(client):
    fields = {
        "username": "eve",
        "usable_password": "true",
        "password1": "long-Enough-pass-1",
        "password2": "long-Enough-pass-1",
    }
    response = client.post("/admin/auth/user/add/", fields)
    assert response.status_code == 302, messages_in(response.content.decode())
    created = User.objects.get(username="eve")
    entry = LogEntry.objects.get(
        object_pk=str(created.pk), content_type__model="user", action=LogEntry.Action.CREATE
    )
    assert entry.changes_dict["password"] == ["(none)", "(hidden)"]
    assert created.password not in str(entry.changes)


def test_it_audits_who_is_given_which_role(client):
    group = Group.objects.create(name="operators")
    User.objects.create(username="eve").groups.add(group)
    assert "operators" in messages_in(page(client, AUDIT))


# ---------------------------------------------------------------- overview and sidebar


def test_it_names_what_needs_attention(client, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    Provider.objects.create(
        name="mute", dialect="openai", base_url="http://a/v1", credential="${NO_SUCH_KEY}"
    )
    Provider.objects.create(
        name="down", dialect="openai", base_url="http://b/v1", models_error="Status 500: oh"
    )
    Provider.objects.create(
        name="off", dialect="openai", base_url="http://c/v1", models_error="never shown", enabled=False
    )
    Route.objects.create(match="lost", kind="exact")
    for amount, raised in ((1, None), (2, 30 * 10**9)):
        budget = Budget.objects.create(
            amount_nanousd=amount * 10**9,
            window="total",
            raised_nanousd=raised,
            raised_until=TOMORROW if raised else None,
        )
        window = BudgetWindow.objects.create(budget=budget, starts_at=BEGINNING, spent_nanousd=2 * 10**9)
        BudgetAlert.objects.create(
            window=window, percent=100, spent_nanousd=2 * 10**9, limit_nanousd=amount * 10**9
        )
    text = messages_in(page(client, "/admin/"))
    for words in (
        "Provider mute: the environment variable NO_SUCH_KEY is not set.",
        "Provider down: Status 500: oh",
        "Route lost: it has no target",
        "Budget $1 in total for everyone: nothing is left.",
    ):
        assert words in text
    assert "never shown" not in text
    assert "Budget $2" not in text


def test_it_shows_the_latest_requests_and_counts_only_what_is_small(client):
    for number in range(30):
        RequestLog.objects.create(
            completion_id=f"c{number}",
            request_id=f"r{number}",
            at=timezone.now(),
            endpoint="/v1/chat/completions",
            requested_model=f"model-{number:02d}",
            status=200,
            outcome="ok",
            cost_nanousd=1_500_000,
        )
    sql = statements(client, "/admin/")
    assert not [each for each in sql if "COUNT(" in each.upper() and "requestlog" in each]
    text = messages_in(page(client, "/admin/"))
    assert "model-29" in text
    assert "model-21" not in text
    assert "$0.0015" in text


def test_it_shows_each_person_only_what_they_may_open():
    Provider.objects.create(
        name="down", dialect="openai", base_url="http://b/v1", models_error="Status 500: oh"
    )
    html = page(signed_in("keys.view_apikey"), "/admin/")
    assert "Active API keys" in html
    assert "Status 500" not in html
    assert "Providers in use" not in html
    assert 'href="/admin/keys/apikey/"' in html
    assert 'href="/admin/proxy/route/"' not in html


def test_it_links_every_screen_in_the_sidebar(client):
    html = page(client, "/admin/")
    for url in screens():
        assert f'href="{url}"' in html, url


def test_it_saves_roles_and_permissions_of_a_user(client):
    group = Group.objects.create(name="operators")
    eve = User.objects.create_user("eve", password="long-Enough-pass-1")
    fields = {
        "username": "eve",
        "is_active": "on",
        "is_staff": "on",
        "groups": [group.pk],
        **inlines("memberships"),
    }
    url = reverse("admin:auth_user_change", args=[eve.pk])
    response = client.post(url, fields)
    assert response.status_code == 302, messages_in(response.content.decode())
    eve.refresh_from_db()
    assert eve.is_staff
    assert list(eve.groups.all()) == [group]
    assert eve.check_password("long-Enough-pass-1")
    passwords = {"usable_password": "true", "password1": "another-Pass-22", "password2": "another-Pass-22"}
    assert (
        client.post(reverse("admin:auth_user_password_change", args=[eve.pk]), passwords).status_code == 302
    )
    eve.refresh_from_db()
    assert eve.check_password("another-Pass-22")
