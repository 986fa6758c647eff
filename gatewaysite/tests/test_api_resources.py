"""Resources of the management API: created, replaced, changed and deleted by name, exactly and safely."""

import json

import pytest
from auditlog.models import LogEntry
from django.core.cache import cache

from config.models import current_version
from gatewaysite.tests.api_client import Api, api_of, operator_api, person
from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.models import Credential, Price, Provider
from proxy.models import CacheExclusion, GatewaySettings, Route

pytestmark = pytest.mark.django_db

OPENAI = {"dialect": "openai", "base_url": "https://api.openai.com/v1", "api_key": "sk-vendor-secret"}


@pytest.fixture(autouse=True)
def unthrottled():
    cache.clear()


@pytest.fixture
def api() -> Api:
    return operator_api()


@pytest.fixture
def provider(api):
    assert api("PUT", "providers/openai", OPENAI).status_code == 201


@pytest.fixture
def tenant(api):
    assert api("PUT", "tenants/acme", {"timezone": "Europe/Berlin"}).status_code == 201


def error_of(response, status=400):
    assert response.status_code == status, response.content
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_put_creates_then_replaces_and_the_same_again_changes_nothing(api):
    made = api("PUT", "providers/openai", {**OPENAI, "max_queue": 7, "timeouts": {"connect": 2.5}})
    assert made.status_code == 201
    shown = made.json()
    assert (shown["name"], shown["max_queue"], shown["credential"]) == ("openai", 7, "stored, encrypted")
    assert shown["timeouts"] == {"connect": 2.5, "first_content": None, "idle": 60, "total": None}
    assert "sk-vendor-secret" not in made.content.decode() + api.get("providers/openai").content.decode()
    assert Provider.objects.get().open_credential() == "sk-vendor-secret"
    version = current_version()
    again = api("PUT", "providers/openai", {**OPENAI, "max_queue": 7, "timeouts": {"connect": 2.5}})
    assert (again.status_code, again["ETag"], current_version()) == (200, made["ETag"], version)
    replaced = api("PUT", "providers/openai", {name: OPENAI[name] for name in ("dialect", "base_url")})
    assert (replaced.json()["max_queue"], replaced.json()["timeouts"]["connect"]) == (100, 5)
    assert Provider.objects.get().open_credential() == "sk-vendor-secret", "left out: unchanged"
    assert current_version() > version


def test_what_was_read_can_be_put_again(api, provider):
    keys = [{"name": "team-b", "api_key": "sk-b"}, {"name": "team-c", "api_key": "${TEAM_C}"}]
    api("PATCH", "providers/openai", {"api_keys": keys})
    read = api.get("providers/openai")
    assert [each["credential"] for each in read.json()["api_keys"]] == ["stored, encrypted", "from ${TEAM_C}"]
    version = current_version()
    put = api("PUT", "providers/openai", read.json())
    assert (put.status_code, put.json(), current_version()) == (200, read.json(), version)
    assert Credential.objects.get(name="team-b").open_credential() == "sk-b"


def test_a_patch_changes_the_given_fields_alone(api, provider):
    shown = api("PATCH", "providers/openai", {"enabled": False}).json()
    assert (shown["enabled"], shown["base_url"]) == (False, OPENAI["base_url"])


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("providers/x", {"dialect": "openai"}, ("base_url", "required")),
        ("providers/x", {**OPENAI, "dialect": "cobol"}, ("dialect", "must be one of")),
        ("providers/x", {**OPENAI, "max_queue": "7"}, ("max_queue", "whole number")),
        ("providers/x", {**OPENAI, "enabledd": True}, ("enabledd", "did you mean enabled?")),
        ("providers/x", {**OPENAI, "timeouts": {"idl": 3}}, ("timeouts.idl", "did you mean idle?")),
        ("providers/x", {**OPENAI, "name": "y"}, ("name", "must be x, as in the address")),
        ("providers/UPPER", OPENAI, ("name", "use a-z")),
        ("routes/regex/(", {"targets": []}, ("match", "RE2")),
        ("routes/exact/m", {}, ("targets", "required")),
        ("routes/exact/m", {"targets": [{"provider": "nobody"}]}, ("targets[0].provider", "no provider")),
        ("tenants/x", {"timezone": "Mars/Base"}, ("timezone", "not a known time zone")),
        ("keys/x", {"tenant": "nobody"}, ("tenant", "no tenant is named nobody")),
        ("keys/x", {"tenant": "acme", "secret": "short"}, ("secret", "at least 20 characters")),
        ("prices/nobody/2026-01-01/m", {"input_usd_per_mtok": "1"}, ("output_usd_per_mtok", "required")),
        ("cache/exclusions/regex/(", {}, ("pattern", "RE2")),
        ("settings", {"default_provider": "nobody"}, ("default_provider", "no provider")),
    ],
)
@pytest.mark.usefixtures("tenant")
def test_an_error_names_field_and_rule(api, path, body, told):
    error = error_of(api("PUT", path, body))
    assert error["param"] == told[0]
    assert told[1] in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"a": 1, "a": 2}', "given twice"),
        ('{"note": "\\u0000"}', "NUL"),
        ('{"note": "\\ud800"}', "surrogates"),
        ("[" * 5000, "nested too deeply"),
        ('{"note": NaN}', "NaN is no number"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(api, body, told):
    assert told in error_of(api("PUT", "providers/x", body))["message"]


@pytest.mark.parametrize(
    ("path", "missing"),
    [("providers/openai", "base_url"), ("routes/exact/m", "targets"), ("keys/k", "tenant")],
)
@pytest.mark.usefixtures("provider", "tenant")
def test_a_put_is_whole_of_what_exists_too(api, path, missing):
    bodies = {
        "providers/openai": OPENAI,
        "routes/exact/m": {"targets": [{"provider": "openai"}]},
        "keys/k": {"tenant": "acme"},
    }
    body = bodies[path]
    assert api("PUT", path, body).status_code in {200, 201}
    rest = {name: value for name, value in body.items() if name != missing}
    error = error_of(api("PUT", path, rest))
    assert (error["param"], error["message"]) == (missing, f"'{missing}': required.")
    assert api("PATCH", path, rest).status_code == 200


@pytest.mark.parametrize("query", ["tenant=", "enabled=", "limit=", "tenant=a&tenant=b"])
def test_a_parameter_that_would_be_ignored_is_refused(api, query):
    assert error_of(api.get(f"keys?{query}"))["param"] == query.partition("=")[0]
    assert api.get("keys?cursor=").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("path", ["tenants/acme", "settings"])
@pytest.mark.usefixtures("tenant")
def test_a_forgotten_body_resets_nothing(api, method, path):
    assert error_of(api(method, path))["code"] == "missing_body"
    assert error_of(api(method, path, "null"))["code"] == "not_an_object"
    assert Tenant.objects.get().timezone == "Europe/Berlin"


@pytest.mark.parametrize("path", ["cache/purge", "keys/k/disable", "keys/k/enable", "keys/k/rotate"])
def test_what_takes_no_body_names_a_field_that_is_given(api, tenant, path):
    api("PUT", "keys/k", {"tenant": "acme"})
    assert error_of(api("POST", path, {"dry": True}))["param"] == "dry"
    assert api("POST", path).status_code == 200


def test_money_is_exact_to_the_nano_dollar(api, provider):
    path = "prices/openai/2026-01-01/gpt-4o-mini"
    rates = {"input_usd_per_mtok": "0.150000001", "output_usd_per_mtok": "0.60"}
    tiers = [{"above_prompt_tokens": 200000, "input_usd_per_mtok": "0.3"}]
    shown = api("PUT", path, {**rates, "tiers": tiers})
    assert shown.status_code == 201, shown.content
    assert shown.json()["input_usd_per_mtok"] == "0.150000001"
    assert shown.json()["tiers"] == tiers
    assert Price.objects.get(source="operator").input_nanousd_per_mtok == 150_000_001
    assert (
        "nine decimal"
        in error_of(api("PUT", path, {**rates, "input_usd_per_mtok": "0.0000000001"}))["message"]
    )
    exact = api("POST", "budgets", '{"amount_usd": 12.000000001, "window": "day"}')
    assert exact.json()["amount_usd"] == "12.000000001"
    assert Budget.objects.get().amount_nanousd == 12_000_000_001


def test_it_adds_by_post_once(api, provider):
    body = {
        "match": "gpt-4o*",
        "targets": [{"provider": "openai"}, {"provider": "openai", "model": "m", "weight": 3}],
    }
    made = api("POST", "routes", body)
    assert (made.status_code, made.json()["kind"]) == (201, "prefix")
    assert [target["weight"] for target in made.json()["targets"]] == [1, 3]
    assert error_of(api("POST", "routes", body), 409)["code"] == "already_exists"
    assert api.read("routes/prefix/gpt-4o*") == made.json()
    assert api("DELETE", "routes/prefix/gpt-4o*").status_code == 204
    assert not Route.objects.exists()
    assert error_of(api.get("routes/prefix/gpt-4o*"), 404)["code"] == "not_found"


def test_an_etag_keeps_from_lost_updates(api, tenant):
    seen = api.get("tenants/acme")
    assert api.get("tenants/acme", if_none_match=seen["ETag"]).status_code == 304
    assert api("PATCH", "tenants/acme", {"queue_weight": 2}, if_match=seen["ETag"]).status_code == 200
    late = api("PUT", "tenants/acme", {"queue_weight": 3}, if_match=seen["ETag"])
    assert error_of(late, 412)["code"] == "precondition_failed"
    assert error_of(api("DELETE", "tenants/acme", if_match=seen["ETag"]), 412)
    assert Tenant.objects.get(name="acme").queue_weight == 2
    assert error_of(api("PUT", "tenants/acme", {}, if_none_match="*"), 412)
    assert error_of(api("PUT", "tenants/other", {}, if_match="*"), 412)
    assert api("PUT", "tenants/other", {}, if_none_match="*").status_code == 201


def test_a_changed_secret_changes_the_etag_and_shows_nothing(api, provider):
    seen = api.get("providers/openai")
    changed = api("PATCH", "providers/openai", {"api_key": "sk-another"})
    assert changed.json() == seen.json()
    assert changed["ETag"] != seen["ETag"]


def test_a_keys_secret_is_shown_once(api, tenant):
    made = api("PUT", "keys/acme-ci", {"tenant": "acme", "tags": {"team": "search"}})
    secret = made.json()["secret"]
    assert made.status_code == 201
    assert secret.startswith("sk-gw-")
    assert "secret" not in api("PUT", "keys/acme-ci", {"tenant": "acme"}).json()
    assert "secret" not in api.read("keys/acme-ci")
    other = {"tenant": "acme", "secret": "another-secret-of-ours"}
    assert error_of(api("PUT", "keys/acme-ci", other))["param"] == "secret"
    rotated = api("POST", "keys/acme-ci/rotate", {"overlap": "1h"}).json()
    assert rotated["secret"] not in ("", secret)
    assert rotated["previous_until"]
    assert api("POST", "keys/acme-ci/rotate", {"overlap": "0m"}).json()["previous_until"] is None
    assert error_of(api("POST", "keys/acme-ci/rotate", {"overlap": "400d"}))["param"] == "overlap"
    assert api("POST", "keys/acme-ci/disable").json()["enabled"] is False
    assert api.read("keys/acme-ci/state") == {"state": "disabled", "last_used_at": None}
    assert api("POST", "keys/acme-ci/enable", {}).json()["enabled"] is True
    assert api("DELETE", "keys/acme-ci").status_code == 204
    assert not ApiKey.objects.exists()


def test_limits_and_budgets_are_of_a_key_a_tenant_or_everyone(api, tenant):
    api("PUT", "keys/k", {"tenant": "acme"})
    limit = api("POST", "rate-limits", {"key": "k", "kind": "requests", "amount": 60, "per": "minute"}).json()
    assert (limit["key"], limit["tenant"], limit["each"]) == ("k", None, "")
    path = f"rate-limits/{limit['id']}"
    assert api("PUT", path, {"tenant": "acme", "kind": "concurrent", "amount": 8}).json()["key"] is None
    assert RateLimit.objects.get().kind == "concurrent"
    both = {"tenant": "acme", "key": "k", "kind": "tokens", "amount": 1, "per": "day"}
    assert "not both" in error_of(api("POST", "rate-limits", both))["message"]
    assert error_of(api("POST", "rate-limits", {"kind": "tokens", "amount": 1}))
    budget = api("POST", "budgets", {"tenant": "acme", "amount_usd": "25.00", "window": "month"}).json()
    raised = api(
        "POST", f"budgets/{budget['id']}/raise", {"raised_usd": "50", "raised_until": "2100-01-01T00:00:00Z"}
    )
    assert raised.json()["raised_usd"] == "50"
    (window,) = api.read("budget-windows?tenant=acme")["items"]
    assert (window["limit_usd"], window["spent_usd"], window["left_usd"], window["raised"]) == (
        "50",
        "0",
        "50",
        True,
    )
    assert window["starts_at"].endswith(("T22:00:00Z", "T23:00:00Z")), "Berlin's midnight"
    api("DELETE", f"budgets/{budget['id']}/raise")
    assert api.read("budget-windows")["items"][0]["limit_usd"] == "25"
    assert error_of(api("PUT", "budgets/999999", {"amount_usd": 1, "window": "day"}), 404)
    assert api("DELETE", f"budgets/{budget['id']}").status_code == 204


def test_members_are_a_tenants(api, tenant):
    person(name="ada", staff=False)
    assert api("PUT", "tenants/acme/members/ada", {"role": "viewer"}).status_code == 201
    assert api("PUT", "tenants/acme/members/ada", {"role": "owner"}).status_code == 200
    assert api.read("tenants/acme/members")["items"] == [
        {"tenant": "acme", "username": "ada", "role": "owner"}
    ]
    assert error_of(api("PUT", "tenants/acme/members/ada", {"role": "king"}))["param"] == "role"
    assert error_of(api("PUT", "tenants/acme/members/nobody", {"role": "owner"}), 404)
    assert error_of(api.get("tenants/nobody/members"), 404)
    assert api("DELETE", "tenants/acme/members/ada").status_code == 204


def test_settings_exclusions_and_the_cache(api, provider):
    assert api.read("settings")["cache_ttl_seconds"] is None
    assert api("PUT", "settings", {"default_provider": "openai", "cache_ttl_seconds": 60}).status_code == 200
    assert api("PATCH", "settings", {"cache_ttl_seconds": 90}).json() == {
        "default_provider": "openai",
        "default_model": "",
        "cache_ttl_seconds": 90,
    }
    assert api("PUT", "settings", {}).json()["default_provider"] is None
    assert api("PUT", "cache/exclusions/regex/.*-preview$", {"note": "why"}).status_code == 201
    assert CacheExclusion.objects.get().note == "why"
    assert api("POST", "cache/purge").json() == {"epoch": 1}
    assert GatewaySettings.load().cache_epoch == 1


def test_lists_go_by_cursor_and_narrow_by_filters(api):
    for number in range(7):
        Tenant.objects.create(name=f"tenant-{number}")
    names, cursor = [], ""
    while True:
        told = api.read(f"tenants?limit=3{cursor}")
        names += [each["name"] for each in told["items"]]
        if told["next_cursor"] is None:
            break
        Tenant.objects.get_or_create(name="a-late-one")
        cursor = f"&cursor={told['next_cursor']}"
    assert names == [f"tenant-{number}" for number in range(7)]
    assert [each["name"] for each in api.read("tenants?name_begins=tenant-6")["items"]] == ["tenant-6"]
    assert error_of(api.get("tenants?nam=x"))["code"] == "unknown_parameter"
    assert error_of(api.get("tenants?limit=1000"))["param"] == "limit"
    assert error_of(api.get("tenants?cursor=bananas"))["param"] == "cursor"
    assert error_of(api.get("keys?enabled=banana"))["param"] == "enabled"
    assert error_of(api.get("prices?source=banana"))["param"] == "source"


def test_a_change_is_audited_as_the_tokens_user(api):
    user = person("keys.add_tenant", "keys.view_tenant", name="grace")
    api_of(user)("PUT", "tenants/by-grace", {})
    entry = LogEntry.objects.get(object_repr="by-grace")
    assert (entry.actor, entry.remote_addr) == (user, "127.0.0.1")
    (told,) = api.read("audit?actor=grace&kind=tenant")["items"]
    assert (told["action"], told["name"], told["changes"]["name"]["after"]) == (
        "create",
        "by-grace",
        "by-grace",
    )


def test_the_file_is_exported_and_applied(api, tenant):
    exported = api.get("config/export")
    assert exported["Content-Type"] == "application/yaml"
    assert b"name: acme" in exported.content
    change = "version: 1\ntenants: [{name: acme, timezone: UTC}, {name: new}]\nkeys: [{name: k, tenant: new}]"

    def apply(path, body, form):
        return api.client.generic(
            "POST",
            f"/api/v1/config/apply{path}",
            body,
            content_type=form,
            headers={"authorization": f"Bearer {api.secret}"},
        )

    told = apply("?dry_run=true", change, "application/yaml").json()
    assert "~ tenant acme\n    timezone: Europe/Berlin -> UTC" in told["diff"]
    assert (told["dry_run"], told["secrets"], Tenant.objects.count()) == (True, {}, 1)
    done = apply("", change, "application/yaml").json()
    assert done["secrets"]["k"].startswith("sk-gw-")
    assert Tenant.objects.count() == 2
    again = apply("", json.dumps({"version": 1, "tenants": [{"name": "new"}]}), "application/json").json()
    assert (again["changes"], again["unchanged"]) == ([], ["tenant new"])
    bad = apply("", '{"version": 1, "keys": [{"name": "x", "tenat": "y"}]}', "application/json")
    assert error_of(bad)["param"] == "keys[0].tenat"
    assert error_of(apply("?dry_run=perhaps", "{}", "application/json"))["param"] == "dry_run"
