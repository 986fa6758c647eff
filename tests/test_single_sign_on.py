"""Sign-in by OpenID Connect, at a real provider's process, through a real served gateway."""

import contextlib
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.admin_session import _form
from tests.gateway import Gateway, running_gateway
from tests.servers import Child, eventually, free_port

pytestmark = pytest.mark.timeout(300)

PEOPLE = {
    "olga": {"email": "olga@acme.test", "email_verified": True, "groups": ["gateway-admins"]},
    "tom": {"email": "tom@acme.test", "email_verified": True, "groups": ["team-search", "other"]},
    "nobody": {"email": "nobody@acme.test", "email_verified": True, "preferred_username": "nobody"},
    "root": {"email": "root@acme.test", "email_verified": True, "groups": []},
    "thief": {"email": "root@acme.test", "email_verified": False, "groups": []},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    for name, claims in PEOPLE.items():
        command += ["--user-claims", json.dumps({"sub": name, **claims})]
    process = Child("oidc", command)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(url), what="the provider", within_s=60)
        yield url
    finally:
        process.stop()
        process.discard()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def gateway(issuer: str) -> Iterator[Gateway]:
    port = free_port()
    env = {
        "PORT": str(port),
        # Another name than the one that people come by: the issuer sends them to this one.
        "APP_BASE_URL": f"http://localhost:{port}",
        "OIDC_ISSUER": issuer,
        "OIDC_CLIENT_ID": "the-gateway",
        "OIDC_CLIENT_SECRET": "hush",
        "OIDC_NAME": "Acme",
        "OIDC_ROLES": '{"gateway-admins": "operator"}',
        "OIDC_TENANTS": '{"team-search": ["demo:member", "no-such-tenant:owner"]}',
    }
    with running_gateway(env) as served:
        served.url = env["APP_BASE_URL"]
        sql(served, "UPDATE auth_user SET email = 'root@acme.test' WHERE username = 'admin'")
        yield served


def sql(gateway: Gateway, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite3", timeout=20)) as database:
        found = database.execute(statement).fetchall()
        database.commit()
        return found


def sign_in(
    gateway: Gateway, sub: str, *, at: str = "/accounts/login/"
) -> tuple[httpx.Client, httpx.Response]:
    """Go through the pages as a browser does: ours, the issuer's, and back."""
    client = httpx.Client(base_url=gateway.url, follow_redirects=True, timeout=60)
    page = client.get(at)
    link = re.search(r'href="(/accounts/oidc/sso/login/[^"]*)"[^>]*>Sign in with Acme<', page.text)
    assert link, page.text
    theirs = client.get(link[1].replace("&amp;", "&"))
    asked = parse_qs(urlsplit(str(theirs.url)).query)
    assert asked["redirect_uri"] == [f"{gateway.url}/accounts/oidc/sso/login/callback/"]
    assert asked["code_challenge_method"] == ["S256"]
    return client, client.post(theirs.url, data={"sub": sub})


def test_a_group_gives_a_role_in_the_admin(gateway: Gateway) -> None:
    client, page = sign_in(gateway, "olga", at="/admin/keys/tenant/")
    assert (page.status_code, urlsplit(str(page.url)).path) == (200, "/admin/keys/tenant/")
    assert client.get("/admin/auth/group/").status_code == 403
    told = sql(
        gateway,
        "SELECT additional_data, changes FROM auditlog_logentry WHERE action = 3 AND object_repr = 'olga'",
    )
    assert "signed in" in told[0][0]
    assert "single sign-on" in told[0][1]


def test_a_group_makes_a_member_of_a_tenant(gateway: Gateway) -> None:
    client, page = sign_in(gateway, "tom")
    assert urlsplit(str(page.url)).path == "/dashboard/demo/"
    assert "The admin is for operators" in client.get("/admin/").text
    assert sql(
        gateway,
        "SELECT u.username, m.role, t.name FROM keys_member m "
        "JOIN auth_user u ON u.id = m.user_id JOIN keys_tenant t ON t.id = m.tenant_id",
    ) == [("tom", "member", "demo")]
    assert "sign_in.no_such_tenant" in gateway.log()


def test_who_has_neither_role_nor_tenant_is_told_what_to_do(gateway: Gateway) -> None:
    _, page = sign_in(gateway, "nobody")
    assert page.status_code == 403
    assert "You are signed in as nobody, but you have no role here" in page.text
    assert "Ask an operator" in page.text


def test_a_local_user_is_joined_only_if_the_issuer_vouches_for_the_address(gateway: Gateway) -> None:
    client, page = sign_in(gateway, "thief")
    assert page.status_code == 403
    assert "This address is taken" in page.text
    assert client.get("/accounts/2fa/", follow_redirects=False).status_code == 302
    _, page = sign_in(gateway, "root")
    assert urlsplit(str(page.url)).path == "/admin/"
    assert sql(
        gateway,
        "SELECT a.uid, u.username, u.is_superuser FROM socialaccount_socialaccount a "
        "JOIN auth_user u ON u.id = a.user_id WHERE a.uid IN ('root', 'thief')",
    ) == [("root", "admin", 1)]
    # The password still works: no sign-up could have put it there.
    with httpx.Client(base_url=gateway.url, follow_redirects=True, timeout=60) as plain:
        form = _form(plain.get("/accounts/login/").text) | {
            "username": "admin",
            "password": gateway.admin_password,
        }
        assert urlsplit(str(plain.post("/accounts/login/", data=form).url)).path == "/admin/"


def test_what_the_issuer_no_longer_gives_is_taken_at_the_next_sign_in(issuer: str, gateway: Gateway) -> None:
    sign_in(gateway, "olga")
    claims = {key: value for key, value in PEOPLE["olga"].items() if key != "groups"}
    assert httpx.put(f"{issuer}/users/olga", json=claims).status_code == 204
    try:
        _, page = sign_in(gateway, "olga")
        assert "you have no role here" in page.text
    finally:
        httpx.put(f"{issuer}/users/olga", json=PEOPLE["olga"])


def test_a_refusal_and_a_made_up_answer_of_the_issuer_are_pages(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, follow_redirects=True, timeout=60) as client:
        theirs = client.get("/accounts/oidc/sso/login/")
        refused = client.post(theirs.url, data={"action": "deny"})
        assert refused.status_code < 500
        made_up = client.get("/accounts/oidc/sso/login/callback/?code=x&state=y")
        assert "Single sign-on failed" in made_up.text
        assert made_up.status_code < 500


def test_the_secret_is_nowhere_in_the_log(gateway: Gateway) -> None:
    assert "hush" not in gateway.log()
