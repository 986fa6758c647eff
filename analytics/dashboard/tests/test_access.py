"""Who may open what: every address of the dashboard for every role, and for strangers with others' ids."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from analytics.dashboard.access import RIGHTS
from analytics.dashboard.tests.kit import browser, key_of, logged, operator, person
from analytics.dashboard.urls import urlpatterns
from keys.models import ApiKey, Member, Tenant

pytestmark = pytest.mark.django_db

POSTED = {"switch-key", "change-member", "remove-member", "playground-key"}
# What the view itself asks for beyond its right: these keys are operators', which members may not change.
OWNERS_ALONE = {"rotate-key", "switch-key"}
NOBODY = {"delete-key"}


def addresses(tenant: Tenant) -> Iterator[tuple[str, str, str]]:
    """Yield each address of a tenant's dashboard with its name and right, by ids of this tenant."""
    refs: dict[str, Any] = {
        "request": logged(tenant).pk,
        "key": tenant.keys.first().pk,
        "member": tenant.members.get(user__username="founder").pk,
    }
    for pattern in urlpatterns:
        if pattern.name == "entrance":
            continue
        kind = (
            "member"
            if "members/" in str(pattern.pattern)
            else "key"
            if "keys/" in str(pattern.pattern)
            else "request"
        )
        arguments = {"tenant": tenant.name}
        arguments |= {"ref": refs[kind]} if "<int:ref>" in str(pattern.pattern) else {}
        arguments |= {"by": "day"} if "<slug:by>" in str(pattern.pattern) else {}
        yield (
            str(pattern.name),
            reverse(f"dashboard:{pattern.name}", kwargs=arguments),
            pattern.callback.right,
        )


def opened(client: Client, name: str, url: str) -> int:
    response = client.post(url) if name in POSTED else client.get(url)
    if getattr(response, "streaming", False):
        b"".join(response.streaming_content)
    return response.status_code


@pytest.fixture
def acme() -> Tenant:
    tenant = Tenant.objects.create(name="acme")
    key_of(tenant, "acme-web")
    person("founder", tenant)
    return tenant


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_opens_what_its_rights_say_and_nothing_else(acme, role):
    user = operator() if role == "operator" else person("anna", acme, role)
    client = browser(user)
    found = {}
    for name, url, right in addresses(acme):
        allowed = right in RIGHTS[role]
        if name in NOBODY or (name in OWNERS_ALONE and role != "owner"):
            allowed = False
        status = opened(client, name, url)
        found[name] = status
        assert (status in {200, 302}) if allowed else status == 403, (role, name, status)
    assert len(found) == len(urlpatterns) - 1


def test_strangers_find_nothing_of_a_tenant_by_any_address(acme):
    other = Tenant.objects.create(name="other")
    key_of(other, "other-web")
    strangers = [
        browser(person("stranger", other)),
        browser(person("nobody")),
        browser(User.objects.create_user("staff", is_staff=True)),
    ]
    before = list(ApiKey.objects.order_by("pk").values()), list(Member.objects.order_by("pk").values())
    for name, url, _ in addresses(acme):
        for client in strangers:
            assert opened(client, name, url) == 404, (name, url)
        signing_in = Client().get(url) if name not in POSTED else Client().post(url)
        assert signing_in.status_code == 302, name
        assert signing_in["Location"].startswith("/accounts/login/?next="), name
    after = list(ApiKey.objects.order_by("pk").values()), list(Member.objects.order_by("pk").values())
    assert before == after


def test_a_member_finds_no_row_of_another_tenant_at_the_own_one(acme):
    """Another tenant's ids under the own tenant's address, by somebody who may do everything there."""
    other = Tenant.objects.create(name="other")
    client = browser(person("anna", other))
    for name, url, _ in addresses(acme):
        if "<int:ref>" not in str(next(each.pattern for each in urlpatterns if each.name == name)):
            continue
        own = url.replace("/acme/", "/other/")
        assert client.get(own).status_code in {404, 405}, own
        assert client.post(own).status_code in {404, 405}, own
    assert acme.keys.get().enabled
    assert acme.members.count() == 1


def test_it_narrows_by_no_key_of_another_tenant(acme):
    other = Tenant.objects.create(name="other")
    client = browser(person("anna", other))
    for name in ("overview", "models"):
        html = client.get(reverse(f"dashboard:{name}", args=["other"]), {"key": acme.keys.get().pk}).content
        assert b"acme-web" not in html


def test_a_disabled_person_is_out_at_once(acme):
    user = person("anna", acme)
    client = browser(user)
    assert client.get("/dashboard/acme/").status_code == 200
    Member.objects.filter(user=user).delete()
    assert client.get("/dashboard/acme/").status_code == 404


def test_the_entrance_leads_to_the_only_tenant_or_the_last_one(acme):
    user = person("anna", acme)
    client = browser(user)
    assert client.get("/dashboard/")["Location"] == "/dashboard/acme/"
    Member.objects.create(tenant=Tenant.objects.create(name="zeta"), user=user)
    client = browser(user)
    assert b"Choose a tenant" in client.get("/dashboard/").content
    client.get("/dashboard/zeta/")
    assert client.get("/dashboard/")["Location"] == "/dashboard/zeta/"
    html = client.get("/dashboard/acme/").content.decode()
    assert 'href="/dashboard/zeta/"' in html


def test_who_belongs_to_no_tenant_is_told_what_to_do():
    html = browser(person("anna")).get("/dashboard/").content.decode()
    assert "You belong to no tenant yet" in html
    assert "anna" in html
    assert "<h1>Tenants</h1>" in browser(operator()).get("/dashboard/").content.decode()


def test_an_operator_is_told_that_nothing_can_be_changed(acme):
    html = browser(operator()).get("/dashboard/acme/keys/").content.decode()
    assert "as an operator" in html
    assert "New key" not in html


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a~1b", "ä ö", "100%", "a?b#c", "~", "\\"])
def test_a_tenant_may_be_called_anything(name):
    tenant = Tenant.objects.create(name=name)
    url = reverse("dashboard:overview", kwargs={"tenant": name})
    assert url.count("/") == 3
    response = browser(person("anna", tenant)).get(url)
    assert response.status_code == 200
    assert response.context["tenant"] == tenant
