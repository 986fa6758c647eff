"""Who may do what by the management API: tokens, scopes, permissions, members, throttling, sessions."""

import io
import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from config.tests.admin_kit import operator, signed_in
from gatewaysite.api import throttles, tokens
from gatewaysite.api.schema import METHODS, schema
from gatewaysite.models import ApiToken
from gatewaysite.tests.api_client import Api, api_of, member_of, operator_api, person
from keys.models import ApiKey, Budget, Member, RateLimit, Tenant
from providers.models import Provider
from proxy.tests.fakes import environment

pytestmark = pytest.mark.django_db

LISTS = (
    *("providers", "prices", "routes", "cache/exclusions", "settings", "tenants", "keys", "rate-limits"),
    *("budgets", "budget-windows", "usage", "logs", "ledger", "audit", "jobs", "config/export"),
)
OF_TENANTS = ("tenants", "keys", "rate-limits", "budgets", "budget-windows", "usage", "logs", "ledger")


@pytest.fixture(autouse=True)
def unthrottled():
    cache.clear()


@pytest.fixture
def two_tenants():
    acme, other = Tenant.objects.create(name="acme"), Tenant.objects.create(name="other")
    for tenant in (acme, other):
        key, _ = ApiKey.issue(tenant=tenant, name=f"{tenant}-key")
        key.save()
        RateLimit.objects.create(key=key, amount=1, per="minute")
        Budget.objects.create(tenant=tenant, amount_nanousd=1)
    return acme, other


def code_of(response, status):
    assert response.status_code == status, response.content
    return response.json()["error"]["code"]


def test_without_a_token_it_says_how_to_get_one():
    response = Api().get("providers")
    assert code_of(response, 401) == "missing_api_token"
    assert "create_api_token" in response.json()["error"]["message"]
    assert response["WWW-Authenticate"] == "Bearer"
    assert code_of(Api("sk-mgmt-wrong").get("providers"), 401) == "invalid_api_token"
    assert code_of(Api("sk-gw-a-callers-key").get("providers"), 401) == "invalid_api_token"


def test_a_token_is_stored_as_a_digest_and_ends():
    user = person(superuser=True)
    secret = tokens.issue(name="ci", user=user, scopes=["config:read"])
    token = ApiToken.objects.get()
    assert secret.startswith("sk-mgmt-")
    assert secret not in str(vars(token))
    assert token.prefix == secret[:14]
    api = Api(secret)
    assert api.get("providers").status_code == 200
    token.refresh_from_db()
    assert token.last_used_at
    ApiToken.objects.update(expires_at=timezone.now())
    assert code_of(api.get("providers"), 401) == "api_token_expired"
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1), enabled=False)
    assert code_of(api.get("providers"), 401) == "api_token_disabled"
    ApiToken.objects.update(enabled=True)
    user.is_active = False
    user.save()
    assert code_of(api.get("providers"), 401) == "api_token_disabled"


@pytest.mark.parametrize("path", LISTS)
def test_each_list_takes_its_scope_and_its_permission(path):
    assert operator_api().get(path).status_code == 200
    for user, scopes, code in (
        (person(superuser=True), ("keys:write",), "missing_scope"),
        (person("auth.view_user"), (), "permission_denied"),
    ):
        assert code_of(api_of(user, *scopes).get(path), 403) == code


def test_writing_takes_the_permission_to_do_just_that():
    looks = api_of(person("keys.view_tenant"))
    adds = api_of(person("keys.view_tenant", "keys.add_tenant"))
    changes = api_of(person("keys.view_tenant", "keys.change_tenant"))
    reads = api_of(person(superuser=True), "keys:read")
    assert code_of(looks("PUT", "tenants/x", {}), 403) == "permission_denied"
    assert code_of(changes("PUT", "tenants/x", {}), 403) == "permission_denied"
    assert code_of(reads("PUT", "tenants/x", {}), 403) == "missing_scope"
    assert adds("PUT", "tenants/x", {}).status_code == 201
    assert code_of(adds("PUT", "tenants/x", {}), 403) == "permission_denied"
    assert changes("PATCH", "tenants/x", {"queue_weight": 2}).status_code == 200
    assert code_of(changes("DELETE", "tenants/x"), 403) == "permission_denied"
    no_targets = api_of(person("proxy.add_route", "proxy.view_route"))
    assert code_of(no_targets("PUT", "routes/exact/m", {"targets": []}), 403) == "permission_denied"
    assert code_of(looks("POST", "config/apply", {"version": 1}), 403) == "permission_denied"


@pytest.mark.parametrize("role", Member.Role.values)
def test_a_member_sees_the_own_tenant_and_nothing_of_another(two_tenants, role):
    acme, _ = two_tenants
    api = api_of(member_of(acme, role))
    other_limit = RateLimit.objects.get(key__name="other-key").pk
    other_budget = Budget.objects.get(tenant__name="other").pk
    for path in OF_TENANTS:
        told = api.get(path)
        assert told.status_code == 200, (path, told.content)
        assert "other" not in told.content.decode()
    for path in ("tenants/other", "keys/other-key", "keys/other-key/state", "tenants/other/members"):
        assert code_of(api.get(path), 404)
    for path in (f"rate-limits/{other_limit}", f"budgets/{other_budget}", "logs/nothing"):
        assert code_of(api.get(path), 404)
    assert api.read("usage?tenant=other")["totals"]["requests"] == 0
    assert api.read("usage?key=other-key")["totals"]["requests"] == 0
    for path in ("providers", "routes", "settings", "audit", "jobs", "config/export"):
        assert code_of(api.get(path), 403) == "permission_denied"
    for verb in ("rotate", "disable", "enable"):
        assert code_of(api("POST", f"keys/other-key/{verb}", {}), 404)
    assert code_of(api("DELETE", "keys/other-key"), 404)
    assert code_of(api("PUT", "tenants/acme", {}), 403)
    assert code_of(api("PUT", "keys/acme-key", {}), 403)
    assert code_of(api("PATCH", f"budgets/{Budget.objects.get(tenant=acme).pk}", {"amount_usd": "9"}), 403)
    assert code_of(api("POST", "budgets", {"amount_usd": "9", "window": "day"}), 403)


def test_members_make_keys_and_manage_their_own_and_owners_manage_all(two_tenants):
    acme, _ = two_tenants
    viewer, member, owner = (api_of(member_of(acme, role)) for role in ("viewer", "member", "owner"))
    body = {"name": "mine", "tenant": "acme"}
    assert code_of(viewer("POST", "keys", body), 403)
    made = member("POST", "keys", {**body, "tags": {"made_by": "another", "disabled_by": "me"}})
    assert made.status_code == 201
    assert "disabled_by" not in made.json()["tags"]
    assert made.json()["tags"]["made_by"].startswith("user-")
    assert code_of(member("POST", "keys", {"name": "x", "tenant": "other"}), 400)
    assert code_of(member("POST", "keys", {"name": "x", "tenant": "acme", "forced_route": "m"}), 400)
    assert code_of(viewer("POST", "keys/mine/rotate", {}), 403)
    assert member("POST", "keys/mine/rotate", {}).json()["secret"]
    assert code_of(member("POST", "keys/acme-key/rotate", {}), 403)
    assert owner("POST", "keys/acme-key/disable", {}).json()["enabled"] is False
    assert code_of(owner("DELETE", "keys/acme-key"), 403)
    assert owner("DELETE", "keys/mine").status_code == 204


def test_a_members_key_uses_no_model_that_the_tenant_may_not(two_tenants):
    acme, _ = two_tenants
    ApiKey.objects.filter(tenant=acme).update(allowed_models=["gpt-4o*"], denied_models=["gpt-4o-audio"])
    member = api_of(member_of(acme, "member"))
    refused = member("POST", "keys", {"name": "k", "tenant": "acme", "allowed_models": ["claude-*"]})
    assert code_of(refused, 400) == "invalid"
    assert refused.json()["error"]["param"] == "allowed_models"
    assert code_of(member("POST", "keys", {"name": "k", "tenant": "acme", "denied_models": "x"}), 400)
    made = member("POST", "keys", {"name": "k", "tenant": "acme"}).json()
    assert (made["allowed_models"], made["denied_models"]) == (["gpt-4o*"], ["gpt-4o-audio"])


def test_the_tenants_people_enable_only_what_they_have_disabled(two_tenants):
    owner = api_of(member_of(two_tenants[0], "owner"))
    for who, status in ((owner, 200), (operator_api(), 403)):
        assert who("POST", "keys/acme-key/disable", {}).json()["enabled"] is False
        assert owner("POST", "keys/acme-key/disable", {}).status_code == 200  # takes nothing over
        assert owner("POST", "keys/acme-key/enable", {}).status_code == status
    assert not ApiKey.objects.get(name="acme-key").enabled
    shown = operator_api()("POST", "keys/acme-key/enable", {}).json()
    assert (shown["enabled"], shown["tags"]) == (True, {})


def test_what_operators_disable_is_theirs_to_enable_whoever_disabled_it_before(two_tenants):
    owner, operators = api_of(member_of(two_tenants[0], "owner")), operator_api()
    admin, key = operator(), ApiKey.objects.get(name="acme-key")
    for disable in (
        lambda: operators("POST", "keys/acme-key/disable", {}),
        lambda: operators("PATCH", "keys/acme-key", {"enabled": False}),
        lambda: admin.post(
            "/admin/keys/apikey/", {"action": "disable_selected", "_selected_action": [key.pk]}
        ),
    ):
        owner("POST", "keys/acme-key/disable", {})
        assert "disabled_by" in owner.read("keys/acme-key")["tags"]
        disable()
        assert code_of(owner("POST", "keys/acme-key/enable", {}), 403) == "permission_denied"
        operators("PATCH", "keys/acme-key", {"enabled": True})


def test_an_enabled_key_is_nobodys_to_enable_again(two_tenants):
    owner, operators = api_of(member_of(two_tenants[0], "owner")), operator_api()
    owner("POST", "keys/acme-key/disable", {})
    tags = operators("PATCH", "keys/acme-key", {"enabled": True}).json()["tags"]
    assert "disabled_by" not in tags
    body = {"tenant": "acme", "tags": {"disabled_by": "somebody"}}
    put = operators("PUT", "keys/acme-key", body)
    assert put.json()["tags"] == {}
    assert operators("PUT", "keys/acme-key", body)["ETag"] == put["ETag"]
    operators("PATCH", "keys/acme-key", {"tags": {"disabled_by": "somebody"}})
    ApiKey.objects.get(name="acme-key").save()
    assert operators("POST", "keys/acme-key/disable", {}).json()["tags"] == {}


@pytest.mark.parametrize("role", Member.Role.values)
def test_owners_alone_see_who_is_told_of_budgets(two_tenants, role):
    Tenant.objects.filter(name="acme").update(alert_emails=["ada@acme.test"])
    api = api_of(member_of(two_tenants[0], role))
    item, (listed,) = api.get("tenants/acme"), api.read("tenants")["items"]
    assert item.json() == listed
    assert ("alert_emails" in listed) == (role == "owner")
    assert item["ETag"] == operator_api().get("tenants/acme")["ETag"]


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("member", 403), ("owner", 200)])
def test_owners_alone_of_a_tenants_people_see_its_members(two_tenants, role, status):
    acme, other = two_tenants
    api = api_of(member_of(acme, role, name="ada"))
    member_of(other, "owner", name="bob")
    for path in ("tenants/acme/members", "tenants/acme/members/ada"):
        assert api.get(path).status_code == status
    for path in ("tenants/other/members", "tenants/other/members/bob"):
        assert api.get(path).status_code == 404


def test_health_takes_the_permission_to_see_upstreams():
    Provider.objects.create(name="p", dialect="openai", base_url="http://127.0.0.1:9")
    provider = person("providers.view_provider")
    assert code_of(api_of(provider).get("providers/p/health"), 403) == "permission_denied"
    both = person("providers.view_provider", "proxy.view_upstreamstate")
    assert api_of(both).get("providers/p/health").status_code == 200


def test_a_session_needs_the_csrf_token_to_write():
    client = operator()
    assert client.get("/api/v1/tenants").status_code == 200
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    refused = strict.put("/api/v1/tenants/x", "{}", content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    assert Api(client=client)("PUT", "tenants/x", {}).status_code == 201


def test_it_throttles_each_token_by_itself(settings):
    settings.GATEWAY = environment(api_rpm=2)
    one, two = operator_api(), operator_api()
    assert [one.get("whoami").status_code for _ in range(3)] == [200, 200, 429]
    refused = one.get("whoami")
    assert 0 < int(refused["Retry-After"]) <= 60
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert two.get("whoami").status_code == 200
    settings.GATEWAY = environment(api_rpm=0)
    assert throttles.ApiThrottle().get_rate() is None


def test_no_address_is_without_a_throttle(settings):
    settings.GATEWAY = environment(api_rpm=1)
    api = operator_api()
    assert api.get("whoami").status_code == 200
    asked = 0
    for path, operations in schema()["paths"].items():
        for method in METHODS:
            if method in operations and not path.endswith("/report-leak"):  # that has its own
                address = re.sub(r"{\w*id}", "7", path.removeprefix("/api/v1/"))
                refused = api(method.upper(), re.sub(r"{\w+}", "x", address), {})
                assert code_of(refused, 429) == "throttled", (method, path)
                assert 0 < int(refused["Retry-After"]) <= 60
                asked += 1
    assert asked > 60


def test_what_is_refused_counts_as_well(settings, two_tenants):
    settings.GATEWAY = environment(api_rpm=2)
    member = api_of(member_of(two_tenants[0], "viewer"))
    assert [member.get("providers").status_code for _ in range(3)] == [403, 403, 429]
    strangers = [Api(f"sk-mgmt-{number}") for number in range(2)] + [Api(), Api("sk-gw-x")]
    assert [each("POST", "explain", {}).status_code for each in strangers] == [401, 401, 429, 429]
    assert operator_api().get("whoami").status_code == 200, "from the same address"


def test_it_says_who_asks_and_keeps_answers_out_of_caches(two_tenants):
    api = api_of(member_of(two_tenants[0], "owner", name="ada"), "usage:read")
    told = api.get("whoami")
    assert told["Cache-Control"] == "no-store"
    assert told.json() == {
        "username": "ada",
        "staff": False,
        "token": ApiToken.objects.get().name,
        "scopes": ["usage:read"],
        "tenants": [{"name": "acme", "role": "owner"}],
        "requests_per_minute": 600,
    }


def test_explain_takes_a_token_of_an_operator():
    body = {"body": {"model": "demo/echo", "messages": []}}
    assert operator_api()("POST", "explain", body).status_code == 200
    assert (
        code_of(api_of(person(superuser=True), "usage:read")("POST", "explain", body), 403) == "missing_scope"
    )
    assert code_of(api_of(person())("POST", "explain", body), 403)


def test_unknown_paths_and_methods_answer_in_the_envelope():
    api = operator_api()
    assert code_of(api.get("nothing/here"), 404) == "unknown_path"
    wrong = api("POST", "providers/x", {})
    assert (wrong.status_code, "PUT" in wrong["Allow"]) == (405, True)
    assert api("OPTIONS", "providers").status_code == 405


def test_the_command_makes_a_token_and_prints_its_secret_alone():
    person(superuser=True, name="root")
    out = io.StringIO()
    call_command(
        "create_api_token", user="root", name="ci", scope=["keys:read"], stdout=out, stderr=io.StringIO()
    )
    assert Api(out.getvalue().strip()).get("keys").status_code == 200
    for options, told in (
        ({"user": "nobody"}, "nobody is called"),
        ({"scope": ["keys:reed"]}, "is no scope"),
        ({"scope": []}, "name one of"),
        ({"expires": "yesterday"}, "--expires"),
        ({"name": "ci"}, "--name"),
    ):
        given = {"user": "root", "name": "other", "scope": ["keys:read"], **options}
        with pytest.raises(CommandError, match=told):
            call_command("create_api_token", **given)


def test_the_admin_makes_a_token_and_shows_its_secret_once():
    client = operator()
    url = "/admin/gatewaysite/apitoken/add/"
    assert client.get(url).status_code == 200
    user = person(superuser=True)
    form = {"name": "by-hand", "user": user.pk, "scopes": ["config:read", "usage:read"]}
    page = client.post(url, form)
    secret = page.content.decode().partition("data-secret>")[2].partition("<")[0]
    assert "no-store" in page["Cache-Control"]
    assert Api(secret).get("providers").status_code == 200
    token = ApiToken.objects.get()
    assert token.scopes == ["config:read", "usage:read"]
    assert secret not in client.get(f"/admin/gatewaysite/apitoken/{token.pk}/change/").content.decode()
    assert "by-hand" in client.get("/admin/gatewaysite/apitoken/").content.decode()
    lesser = signed_in("gatewaysite.add_apitoken", "gatewaysite.view_apitoken")
    assert "by-hand" not in lesser.get("/admin/gatewaysite/apitoken/").content.decode()
    lesser.post(url, {**form, "name": "too-much"})
    assert not ApiToken.objects.filter(name="too-much").exists()
