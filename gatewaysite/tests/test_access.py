"""Signing in: password, throttle, second factor, roles, and where people end up."""

import dataclasses
import re
import time
from pathlib import Path

import pytest
import unfold
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from auditlog.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client

from config.tests.admin_kit import inlines, messages_in, operator, page, signed_in, statements
from config.vault import sealed
from gatewaysite.accounts.second_factor import MfaAdapter
from gatewaysite.control_cache import ControlCache
from gatewaysite.roles import BILLING, OPERATOR, READ_ONLY, make_roles
from keys.models import Member, Tenant

pytestmark = pytest.mark.django_db

LOGIN = "/accounts/login/"
PASSWORD = "pass-for-tests"


@pytest.fixture(autouse=True)
def _nobody_was_here(settings):
    cache.clear()
    # The real one takes its time.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def eve():
    return User.objects.create_user("eve", email="eve@acme.test", password=PASSWORD)


def sign_in(name="eve", password=PASSWORD, *, client=None, headers=None, **fields):
    client = client or Client()
    return client, client.post(
        LOGIN, {"username": name, "password": password, **fields}, headers=headers or {}
    )


def require(settings, who):
    settings.GATEWAY = dataclasses.replace(settings.GATEWAY, require_mfa=who)


# ---------------------------------------------------------------- where people end up


def test_staff_go_to_the_admin_members_to_the_dashboard_others_are_told(eve):
    client, answer = sign_in()
    assert answer.url == "/accounts/no-access/"
    assert "you have no role here and belong to no tenant" in client.get(answer.url).content.decode()
    Member.objects.create(tenant=Tenant.objects.create(name="acme"), user=eve)
    assert sign_in()[1].url == "/dashboard/"
    eve.is_staff = True
    eve.save()
    assert sign_in()[1].url == "/admin/"


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/admin/keys/tenant/", "/admin/keys/tenant/"),
        ("https://evil.test/", "/admin/"),
        ("//evil.test/", "/admin/"),
        ("http://testserver/x", "/admin/"),  # the Host header is not ours to believe
        ("javascript:alert(1)", "/admin/"),
    ],
)
def test_next_leads_only_to_pages_of_ours(eve, target, goes_to):
    eve.is_staff = True
    eve.save()
    assert sign_in(next=target)[1].url == goes_to


def test_the_admin_has_no_sign_in_page_of_its_own():
    answer = Client().get("/admin/keys/tenant/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/login/?next=%2Fadmin%2Fkeys%2Ftenant%2F"
    assert "<h1>Sign in</h1>" in answer.content.decode()
    told = signed_in_without_role().get("/admin/", follow=True)
    assert told.status_code == 403
    assert "has no role in the admin" in told.content.decode()


def signed_in_without_role():
    client = Client()
    client.force_login(User.objects.create_user("visitor"))
    return client


def test_nobody_signs_up():
    answer = Client().post("/accounts/signup/", {"username": "x", "password1": PASSWORD})
    assert answer.status_code == 403
    assert not User.objects.exists()


def test_a_wrong_password_is_told_in_the_form(eve):
    html = sign_in(password="wrong")[1].content.decode()
    assert "are not correct" in html


# ---------------------------------------------------------------- the throttle


def test_one_name_is_throttled_whatever_the_host_header_says(eve):
    for number in range(5):
        assert sign_in(password="wrong", headers={"host": f"h{number}.test"})[1].status_code == 200
    for password in ("wrong", PASSWORD):
        refused = sign_in(password=password)[1]
        assert refused.status_code == 429
        assert "Too many attempts" in refused.content.decode()
        assert int(refused.headers["Retry-After"]) > 0
    assert sign_in("adam", "wrong")[1].status_code == 200


def test_one_address_is_throttled_and_the_proxy_is_not_it(settings):
    settings.GATEWAY = dataclasses.replace(settings.GATEWAY, trusted_proxies=("127.0.0.1",))
    for number in range(10):
        _, answer = sign_in(f"name-{number}", "x", headers={"x-forwarded-for": "203.0.113.1"})
        assert answer.status_code == 200
    assert sign_in("name-10", "x", headers={"x-forwarded-for": "203.0.113.1"})[1].status_code == 429
    assert sign_in("name-11", "x", headers={"x-forwarded-for": "203.0.113.2"})[1].status_code == 200


def test_an_outage_of_redis_locks_nobody_out():
    options = {"OPTIONS": {"IGNORE_EXCEPTIONS": True, "SOCKET_CONNECT_TIMEOUT": 1}}
    down = ControlCache("redis://127.0.0.1:1/0", options)
    assert down.add("lock", 1) is True
    assert down.get("history", []) == []


# ---------------------------------------------------------------- the second factor


def code_of(secret, step=0):
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step))


def activated(client):
    """Set up an authenticator app, as a person does; return its secret."""
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    html = client.get("/accounts/2fa/totp/activate/").content.decode()
    (secret,) = re.findall(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', html)
    answer = client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)})
    assert answer.status_code == 302, messages_in(answer.content.decode())
    return secret


def test_a_second_factor_is_asked_for_and_kept_encrypted(eve):
    secret = activated(sign_in()[0])
    stored = Authenticator.objects.get(user=eve, type="totp").data["secret"]
    assert sealed(stored)
    assert MfaAdapter().decrypt(stored) == secret
    client, answer = sign_in()
    assert answer.url == "/accounts/2fa/authenticate/"
    assert client.get("/accounts/2fa/", follow=True).redirect_chain  # not signed in yet
    assert "Incorrect code" in client.post(answer.url, {"code": "000000"}).content.decode()
    assert client.post(answer.url, {"code": code_of(secret, 1)}).url == "/accounts/no-access/"
    events = LogEntry.objects.filter(action=LogEntry.Action.ACCESS).order_by("-pk")
    assert [(each.additional_data["event"], each.changes["by"][1]) for each in events[:2]] == [
        ("signed in", "password, second factor"),
        ("failed to sign in", "second factor"),
    ]
    assert LogEntry.objects.filter(content_type__model="authenticator", actor=eve).exists()
    assert not LogEntry.objects.filter(changes__icontains=secret).exists()


def test_a_recovery_code_serves_once_instead_of_the_app(eve):
    client = sign_in()[0]
    activated(client)
    html = client.get("/accounts/2fa/recovery-codes/").content.decode()
    codes = re.findall(r"<textarea[^>]*>([^<]+)</textarea>", html)[0].split()
    assert len(codes) == 10
    for expected in (302, 200):
        client, answer = sign_in()
        assert client.post(answer.url, {"code": codes[0]}).status_code == expected


def test_guessed_codes_are_throttled(eve):
    activated(sign_in()[0])
    client, answer = sign_in()
    statuses = [client.post(answer.url, {"code": "000000"}).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("who", "is_staff", "sent"),
    [("none", True, False), ("staff", False, False), ("staff", True, True), ("all", False, True)],
)
def test_those_who_must_are_sent_to_set_one_up(settings, eve, *, who, is_staff, sent):
    require(settings, who)
    eve.is_staff = eve.is_superuser = is_staff
    eve.save()
    client = sign_in()[0]
    answer = client.get("/admin/keys/tenant/")
    assert (answer.status_code == 302 and answer.url == "/accounts/2fa/totp/activate/") is sent
    api = client.get("/api/v1/explain")
    assert ("mfa_required" in api.content.decode()) is sent
    if sent:
        activated(client)
        assert "/2fa/" not in client.get("/admin/keys/tenant/").headers.get("location", "")


def test_an_administrator_removes_a_lost_second_factor(eve):
    activated(sign_in()[0])
    client = operator()
    listed = messages_in(page(client, "/admin/auth/user/"))
    assert "Second factor" in listed
    fields = {"action": "remove_second_factor", "_selected_action": eve.pk}
    assert "removed from 1 of 1" in client.post("/admin/auth/user/", fields, follow=True).content.decode()
    assert not Authenticator.objects.exists()


# ---------------------------------------------------------------- roles


def test_roles_are_made_once_and_the_administrators_from_then_on():
    make_roles()
    assert set(Group.objects.values_list("name", flat=True)) >= {OPERATOR, BILLING, READ_ONLY}
    role = Group.objects.get(name=OPERATOR)
    taken = role.permissions.get(codename="delete_tenant")
    role.permissions.remove(taken)
    role.permissions.add(Permission.objects.get(codename="view_group"))
    Group.objects.get(name=BILLING).delete()
    make_roles()
    assert taken not in role.permissions.all()
    assert role.permissions.filter(codename="view_group").exists()
    assert not Group.objects.filter(name=BILLING).exists()


def test_no_role_reaches_users_roles_or_what_people_wrote():
    make_roles()
    given = {
        role: set(Group.objects.get(name=role).permissions.values_list("content_type__app_label", "codename"))
        for role in (OPERATOR, BILLING, READ_ONLY)
    }
    for role, permissions in given.items():
        people = {each for each in permissions if each[0] in {"auth", "mfa", "socialaccount", "account"}}
        assert people <= ({("auth", "view_user")} if role == OPERATOR else set()), role
        assert not [codename for _, codename in permissions if codename.endswith("apitoken")]
    assert all(codename.startswith("view_") for _, codename in given[READ_ONLY])
    assert ("analytics", "view_storedpayload") not in given[READ_ONLY] | given[BILLING]
    assert ("keys", "change_budget") in given[BILLING]
    assert ("keys", "add_member") in given[OPERATOR]


def test_who_has_a_role_is_staff(eve):
    group = Group.objects.create(name="some role")
    eve.groups.add(group)
    eve.refresh_from_db()
    assert eve.is_staff
    group.user_set.remove(eve)
    eve.refresh_from_db()
    assert not eve.is_staff


def test_an_operator_makes_members_in_the_tenants_form(eve):
    make_roles()
    tenant = Tenant.objects.create(name="acme")
    client = Client()
    user = User.objects.create_user("olga")
    user.groups.add(Group.objects.get(name=OPERATOR))
    client.force_login(user)
    fields = {
        "name": "acme",
        "timezone": "UTC",
        "queue_weight": "1",
        "payload_days": "0",
        "alert_emails": "",
        **inlines("members", [{"tenant": tenant.pk, "user": eve.pk, "role": "owner"}]),
        **inlines("ratelimits"),
        **inlines("budgets"),
        **inlines("keys"),
    }
    assert client.post(f"/admin/keys/tenant/{tenant.pk}/change/", fields).status_code == 302
    assert str(Member.objects.get()) == "eve, Owner of acme"


def test_the_list_of_users_asks_no_question_per_user():
    for number in range(3):
        User.objects.create_user(f"a{number}").groups.add(Group.objects.get_or_create(name="r")[0])
    client = signed_in("auth.view_user")
    few = statements(client, "/admin/auth/user/")
    for number in range(20):
        User.objects.create_user(f"b{number}").groups.add(Group.objects.get(name="r"))
    assert len(statements(client, "/admin/auth/user/")) == len(few)


# ---------------------------------------------------------------- what browsers are told


def test_every_page_forbids_scripts_inside_it():
    for url in ("/", LOGIN, "/accounts/signup/", "/no-such-page"):
        policy = dict(
            part.strip().split(" ", 1)
            for part in Client().get(url).headers["Content-Security-Policy"].split(";")
        )
        assert policy["script-src"] == "'self' 'unsafe-eval'"
        assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == "'none'"


def test_our_copy_of_unfolds_page_differs_by_the_policy_alone():
    ours = Path("templates/unfold/layouts/skeleton.html").read_text()
    theirs = (Path(unfold.__file__).parent / "templates/unfold/layouts/skeleton.html").read_text()
    meta = '        <meta name="htmx-config" content=\'{"includeIndicatorStyles": false}\'>\n'
    assert meta in ours
    assert ours.replace(meta, "").replace(' nonce="{{ request.csp_nonce }}"', "") == theirs


@pytest.mark.parametrize(
    "name",
    ["header_title", "navigation_header", "navigation_user", "theme_switch", "userlinks", "welcomemsg"],
)
def test_our_copies_of_unfolds_parts_leave_nothing_of_theirs_out(name):
    part = Path(f"templates/unfold/helpers/{name}.html")
    ours, theirs = part.read_text(), (Path(unfold.__file__).parent / part).read_text()
    tags = re.findall(r"{% (?:include|if|for|block|url|header_title|action_list).*?%}", theirs)
    assert [tag for tag in tags if tag not in ours] == []
