import dataclasses

import pytest
from auditlog.models import LogEntry
from django.urls import reverse

from config.models import current_version
from config.tests.admin_kit import inlines, messages_in, operator, page, signed_in, statements
from providers.models import Provider
from proxy import admin_status
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

pytestmark = pytest.mark.django_db

ROUTES = "/admin/proxy/route/"


@pytest.fixture(autouse=True)
def unjudged(monkeypatch):
    """Each test's database starts its versions anew."""
    monkeypatch.setattr(admin_status, "_judged", (-1, ""))


@pytest.fixture
def client():
    return operator()


@pytest.fixture
def provider():
    return Provider.objects.create(name="openai", dialect="openai", base_url="https://vendor.example/v1")


def form(*targets, **changes):
    rows = [
        {"provider": each.pk, "model": "", "role": "normal", "weight": "1", "position": str(place)}
        for place, each in enumerate(targets)
    ]
    return {
        "match": "gpt-4o*",
        "kind": "prefix",
        "priority": "0",
        "strategy": "ordered",
        "sticky": "",
        "sticky_header": "x-session-id",
        "enabled": "on",
        "note": "",
        **inlines("targets", rows),
        **changes,
    }


def change(route):
    return reverse("admin:proxy_route_change", args=[route.pk])


def purge(client, url, **headers):
    return client.post(f"{url}purge_cache/", {"_form_submitted": "True"}, headers=headers)


# ---------------------------------------------------------------- routes


def test_it_creates_a_route_with_its_targets_in_order(client, provider):
    other = Provider.objects.create(name="local", dialect="openai", base_url="http://llama.example/v1")
    version = current_version()
    assert client.post(f"{ROUTES}add/", form(other, provider)).status_code == 302
    route = Route.objects.get()
    assert [str(target) for target in route.targets.all()] == ["local/(as asked)", "openai/(as asked)"]
    assert current_version() > version
    assert "local/(as asked) → openai/(as asked)" in messages_in(page(client, ROUTES))


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [("(oops", "missing )"), ("a{2000}", "repetition"), ("(?<=look)behind", "invalid perl")],
)
def test_it_refuses_a_regex_with_the_error_of_re2(client, provider, pattern, problem):
    version = current_version()
    response = client.post(f"{ROUTES}add/", form(provider, kind="regex", match=pattern))
    assert response.status_code == 200
    text = messages_in(response.content.decode())
    assert "not a valid RE2 regex" in text
    assert problem in text
    assert not Route.objects.exists()
    assert current_version() == version


def test_it_refuses_a_second_route_for_the_same_pattern(client, provider):
    Route.objects.create(match="gpt-4o*", kind="prefix")
    response = client.post(f"{ROUTES}add/", form(provider))
    assert "already exists" in response.content.decode()


def test_it_bumps_the_version_when_only_a_target_changes(client, provider):
    route = Route.objects.create(match="gpt-4o*", kind="prefix")
    target = Target.objects.create(route=route, provider=provider)
    version = current_version()
    row = {
        "id": target.pk,
        "route": route.pk,
        "provider": provider.pk,
        "model": "other",
        "role": "normal",
        "weight": "1",
        "position": "0",
    }
    response = client.post(change(route), {**form(), **inlines("targets", [row], initial=1)})
    assert response.status_code == 302, messages_in(response.content.decode())
    assert Target.objects.get().model == "other"
    assert current_version() == version + 1
    assert LogEntry.objects.filter(content_type__model="target", action=LogEntry.Action.UPDATE).count() == 1


def test_it_opens_forms_and_lists_of_many_rows_with_as_many_queries_as_few(client, provider):
    route = Route.objects.create(match="many", kind="exact")

    def fill(numbers):
        for number in numbers:
            Target.objects.create(route=route, provider=provider, position=number)
            other = Route.objects.create(match=f"m{number}", kind="exact")
            Target.objects.create(route=other, provider=provider)
            CacheExclusion.objects.create(pattern=f"m{number}")

    urls = [ROUTES, change(route), "/admin/proxy/cacheexclusion/"]
    fill(range(2))
    few = [len(statements(client, url)) for url in urls]
    fill(range(2, 30))
    assert [len(statements(client, url)) for url in urls] == few


def test_it_finds_routes_by_pattern_target_and_note_once_each(client, provider):
    route = Route.objects.create(match="gpt-4o*", kind="prefix", note="why")
    for _ in range(2):
        Target.objects.create(route=route, provider=provider, model="gpt-4o-2024")
    Route.objects.create(match="claude", kind="exact")
    for term in ("4o*", "2024", "openai", "why"):
        html = page(client, ROUTES, q=term)
        assert html.count(f'href="{change(route)}') == 1, term
        assert ">claude<" not in html


def test_it_switches_routes_off(client):
    route = Route.objects.create(match="x", kind="exact")
    client.post(ROUTES, {"action": "disable_selected", "_selected_action": [route.pk]})
    route.refresh_from_db()
    assert not route.enabled


def test_it_says_that_a_route_goes_nowhere(client):
    Route.objects.create(match="x", kind="exact")
    assert "nowhere: it has no target" in messages_in(page(client, ROUTES))


# ---------------------------------------------------------------- cache exclusions


def test_it_refuses_an_exclusion_that_is_no_regex(client):
    response = client.post("/admin/proxy/cacheexclusion/add/", {"kind": "regex", "pattern": "*x", "note": ""})
    text = messages_in(response.content.decode())
    assert "not a valid RE2 regex" in text
    assert "no argument for repetition operator" in text
    assert not CacheExclusion.objects.exists()


# ---------------------------------------------------------------- settings and purge


def test_it_opens_the_one_row_of_settings_and_makes_it(client):
    response = client.get("/admin/proxy/gatewaysettings/", follow=True)
    assert response.status_code == 200
    assert GatewaySettings.objects.count() == 1
    assert "Cache TTL" in messages_in(response.content.decode())
    assert client.get("/admin/proxy/gatewaysettings/add/").status_code == 403
    assert client.post("/admin/proxy/gatewaysettings/1/delete/", {"post": "yes"}).status_code == 403


def test_it_shows_what_the_environment_says_where_a_setting_is_empty(client, settings):
    settings.GATEWAY = dataclasses.replace(
        settings.GATEWAY, default_provider="from-env", default_model="env-model", cache_ttl_s=90.0
    )
    html = page(client, "/admin/proxy/gatewaysettings/1/change/")
    assert "Now: from-env." in html
    assert 'placeholder="env-model"' in html
    assert 'placeholder="90"' in html


def test_it_saves_settings(client, provider):
    url = "/admin/proxy/gatewaysettings/1/change/"
    fields = {"default_provider": provider.pk, "default_model": "", "cache_ttl_s": "60"}
    assert client.post(url, fields).status_code == 302
    row = GatewaySettings.objects.get()
    assert (row.default_provider, row.cache_ttl_s) == (provider, 60)


@pytest.mark.parametrize("url", ["/admin/proxy/gatewaysettings/1/", "/admin/proxy/cacheexclusion/"])
def test_it_purges_the_cache_after_a_confirmation(client, url):
    epoch, version = GatewaySettings.load().cache_epoch, current_version()
    asked = client.get(f"{url}purge_cache/")
    assert "Purge the cache?" in messages_in(asked.content.decode())
    assert GatewaySettings.load().cache_epoch == epoch
    response = purge(client, url, **{"HX-Request": "true"})
    assert GatewaySettings.load().cache_epoch == epoch + 1
    assert current_version() == version + 1
    shown = client.get(response["HX-Redirect"], follow=True)
    assert "Cache purged" in messages_in(shown.content.decode())
    entry = LogEntry.objects.get(content_type__model="gatewaysettings", action=LogEntry.Action.UPDATE)
    assert entry.actor is not None


def test_it_purges_without_a_dialog_too(client):
    response = purge(client, "/admin/proxy/cacheexclusion/")
    assert response.status_code == 302
    assert GatewaySettings.load().cache_epoch == 1


@pytest.mark.parametrize("url", ["/admin/proxy/gatewaysettings/1/", "/admin/proxy/cacheexclusion/"])
def test_it_purges_nothing_for_those_who_may_not_change_settings(url):
    GatewaySettings.load()
    client = signed_in(
        "proxy.view_gatewaysettings", "proxy.change_cacheexclusion", "proxy.view_cacheexclusion"
    )
    assert purge(client, url).status_code == 403
    assert GatewaySettings.load().cache_epoch == 0
    assert "Purge cache" not in page(client, "/admin/proxy/cacheexclusion/")


# ---------------------------------------------------------------- the badge


def test_it_says_that_the_configuration_is_in_force(client):
    assert "Configuration in force" in messages_in(page(client, ROUTES))


def test_it_says_why_a_configuration_is_refused(client):
    # Written past the forms, as by another program.
    Route.objects.bulk_create([Route(match="(oops", kind="regex")])
    text = messages_in(page(client, ROUTES))
    assert "Configuration refused" in text
    assert "(oops" in text
    Route.objects.all().delete()
    assert "Configuration in force" in messages_in(page(client, ROUTES))


def test_it_opens_pages_even_when_the_check_itself_breaks(client, monkeypatch):
    def broken():
        raise KeyError("surprise")

    monkeypatch.setattr("proxy.compiling.check", broken)
    assert "Configuration refused" in messages_in(page(client, ROUTES))


def test_it_tells_visitors_nothing(db):
    from django.test import Client

    assert "Configuration" not in Client().get("/accounts/login/").content.decode()


# ---------------------------------------------------------------- how a route treats its targets


def errors_of(response):
    (formset,) = [each.formset for each in response.context["inline_admin_formsets"]]
    return formset.errors


def test_it_saves_how_a_route_treats_its_targets(client, provider):
    fields = {
        "strategy": "least_latency",
        "sticky": "header",
        "sticky_header": "X-Session",
        "connect_timeout_s": "1.5",
        "total_timeout_s": "90",
        "hedge": "on",
        "continue_streams": "on",
    }
    assert client.post(f"{ROUTES}add/", form(provider, **fields)).status_code == 302
    route = Route.objects.get()
    assert (route.strategy, route.sticky, route.sticky_header) == ("least_latency", "header", "X-Session")
    assert (route.connect_timeout_s, route.idle_timeout_s, route.total_timeout_s) == (1.5, None, 90)
    assert (route.hedge, route.continue_streams) == (True, True)


def test_it_saves_targets_of_every_role(client, provider):
    roles = [
        {"role": "normal", "context_window": "8000"},
        {"role": "canary", "percent": "2.5"},
        {"role": "on_context_overflow"},
        {"role": "on_content_filter"},
        {"role": "shadow", "shadow_budget_nanousd_per_day": "1.25"},
    ]
    rows = [
        {"provider": provider.pk, "model": f"m{place}", "weight": "1", "position": str(place), **fields}
        for place, fields in enumerate(roles)
    ]
    response = client.post(f"{ROUTES}add/", form(**inlines("targets", rows)))
    assert response.status_code == 302, messages_in(response.content.decode())
    assert list(
        Target.objects.values_list("role", "percent", "shadow_budget_nanousd_per_day", "context_window")
    ) == [
        ("normal", None, None, 8000),
        ("canary", 2.5, None, None),
        ("on_context_overflow", None, None, None),
        ("on_content_filter", None, None, None),
        ("shadow", None, 1_250_000_000, None),
    ]
    text = messages_in(page(client, ROUTES))
    assert "openai/m0 → openai/m1 (canary, 2.5 %); on context overflow: openai/m2;" in text
    assert "on content filter: openai/m3; shadow: openai/m4" in text
    assert 'value="1.25"' in page(client, change(Route.objects.get()))


def test_it_says_at_the_targets_field_what_is_wrong(client, provider):
    row = {"provider": provider.pk, "role": "canary", "weight": "1", "position": "0"}
    response = client.post(f"{ROUTES}add/", form(**inlines("targets", [row])))
    assert errors_of(response) == [{"percent": ["a canary needs a percentage of requests above 0"]}]
    assert not Route.objects.exists()


def test_it_says_that_a_route_with_a_shadow_alone_goes_nowhere(client, provider):
    Target.objects.create(route=Route.objects.create(match="x"), provider=provider, role="shadow")
    text = messages_in(page(client, ROUTES))
    assert "nowhere: it has no target; shadow: openai/(as asked)" in text
    assert "Route x: it has no target, so its requests fail." in messages_in(page(client, "/admin/"))
