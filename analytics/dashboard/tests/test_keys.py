"""A tenant's keys: what each role may do with them, and what never gets out."""

import re
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.contrib.sessions.models import Session
from django.utils import timezone

from analytics.dashboard.key_forms import RotateForm
from analytics.dashboard.reach import Reach
from analytics.dashboard.tests.kit import browser, key_of, person
from keys import secret as secrets
from keys.admin_key_forms import mark_of
from keys.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db
KEYS = "/dashboard/acme/keys/"


@pytest.fixture
def acme() -> Tenant:
    return Tenant.objects.create(name="acme", timezone="Europe/Berlin")


def made(client, **fields) -> tuple[ApiKey, str]:
    response = client.post(f"{KEYS}new/", {"name": "acme-new", **fields})
    html = response.content.decode()
    found = re.search(r"data-secret>([^<]+)<", html)
    assert found, re.findall(r'role="alert">([^<]+)<', html)
    assert "no-store" in response["Cache-Control"]
    return ApiKey.objects.get(name=fields.get("name", "acme-new")), found[1]


def found_in(response, pattern: str) -> str:
    found = re.search(pattern, response.content.decode())
    assert found, pattern
    return found[1]


def problems(response) -> list[str]:
    return re.findall(r'role="alert">([^<]+)<', response.content.decode())


def test_a_member_makes_a_key_whose_secret_is_shown_once(acme):
    user = person("max", acme, "member")
    client = browser(user)
    key, secret = made(client)
    assert key.tenant == acme
    assert key.digest == secrets.digest(secret).hex()
    assert key.tags == {"made_by": "max"}
    for url in (KEYS, f"{KEYS}{key.pk}/", "/dashboard/acme/playground/"):
        html = client.get(url).content.decode()
        assert secret not in html
        assert key.digest not in html
    assert all(secret not in str(each.get_decoded()) for each in Session.objects.all())
    entry = LogEntry.objects.get_for_object(key).get(action=LogEntry.Action.CREATE)
    assert entry.actor == user
    assert secret not in str(entry.changes)
    assert key.digest not in str(entry.changes)


def test_a_member_changes_own_keys_and_no_other(acme):
    client, other = browser(person("max", acme, "member")), browser(person("mia", acme, "member"))
    key, _ = made(client)
    for path in ("rotate/", "switch/", "delete/", ""):
        assert other.post(f"{KEYS}{key.pk}/{path}", {"name": "mine"}).status_code == 403
    assert client.post(f"{KEYS}{key.pk}/", {"name": "renamed"}).status_code == 302
    key.refresh_from_db()
    assert key.name == "renamed"
    assert key.tags == {"made_by": "max"}
    assert client.post(f"{KEYS}{key.pk}/delete/").status_code == 302
    assert not ApiKey.objects.exists()


def test_an_owner_rotates_with_an_overlap_once_for_each_page(acme):
    client = browser(person("olga", acme))
    key = key_of(acme, "acme-web")
    mark, old = mark_of(key), key.digest
    response = client.post(f"{KEYS}{key.pk}/rotate/", {"overlap": "1", "rotates": mark})
    secret = found_in(response, r"data-secret>([^<]+)<")
    key.refresh_from_db()
    assert key.digest == secrets.digest(secret).hex()
    assert key.previous_digest == old
    assert key.previous_until is not None
    assert timedelta(minutes=59) < key.previous_until - timezone.now() <= timedelta(hours=1)
    again = client.post(f"{KEYS}{key.pk}/rotate/", {"overlap": "1", "rotates": mark})
    assert "has been rotated since" in problems(again)[0]
    key.refresh_from_db()
    assert key.digest == secrets.digest(secret).hex()
    client.post(f"{KEYS}{key.pk}/rotate/", {"overlap": "0", "rotates": mark_of(key)})
    key.refresh_from_db()
    assert key.previous_digest is None


def test_a_leaked_secret_ends_with_its_rotation(acme):
    key = key_of(acme, "acme-web")
    key.report_leak("reported as leaked, 2026-11-01")
    key.save()
    assert "overlap" not in RotateForm(key).fields
    client = browser(person("olga", acme))
    assert client.post(f"{KEYS}{key.pk}/switch/").status_code == 403
    client.post(f"{KEYS}{key.pk}/rotate/", {"overlap": "24", "rotates": mark_of(key)})
    key.refresh_from_db()
    assert key.previous_digest is None
    client.post(f"{KEYS}{key.pk}/switch/")
    key.refresh_from_db()
    assert key.enabled


def test_what_operators_have_disabled_stays_disabled(acme):
    client = browser(person("olga", acme))
    key = key_of(acme, "acme-web")
    client.post(f"{KEYS}{key.pk}/switch/")
    assert not ApiKey.objects.get().enabled
    client.post(f"{KEYS}{key.pk}/switch/")
    assert ApiKey.objects.get().enabled
    assert ApiKey.objects.get().tags == {}
    ApiKey.objects.filter(pk=key.pk).update(enabled=False)
    assert client.post(f"{KEYS}{key.pk}/switch/").status_code == 403
    assert "disabled by operators" in client.get(f"{KEYS}{key.pk}/").content.decode()


def test_a_key_may_use_no_more_than_operators_gave_the_tenant(acme):
    key_of(acme, "one", allowed_models=["gpt-4o*", "demo/*"], denied_models=["gpt-4o-audio", "o1"])
    key_of(acme, "two", allowed_models=["claude-haiku"], denied_models=["o1"])
    client = browser(person("max", acme, "member"))
    usual, _ = made(client, name="usual")
    assert usual.allowed_models == ["claude-haiku", "demo/*", "gpt-4o*"]
    assert usual.denied_models == ["o1"]
    narrow, _ = made(client, name="narrow", allowed_models="gpt-4o-mini\ndemo/echo*", denied_models="x")
    assert narrow.allowed_models == ["gpt-4o-mini", "demo/echo*"]
    assert narrow.denied_models == ["x", "o1"]
    refused = client.post(
        f"{KEYS}new/", {"name": "wide", "allowed_models": "gpt-*\nclaude-haiku*\ndemo/echo"}
    )
    assert problems(refused) == ["Not among what the tenant may use: gpt-*, claude-haiku*."]
    assert Reach.of(acme) == Reach(("claude-haiku", "demo/*", "gpt-4o*"), ("o1",))
    owner = browser(person("olga", acme))
    one = ApiKey.objects.get(name="one")
    assert owner.post(f"{KEYS}{one.pk}/delete/").status_code == 403


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "taken"}, "API key with this Name already exists."),
        ({"name": "x" * 81}, "at most 80 characters"),
        ({"allowed_models": "a*b"}, "a * stands at the end"),
        ({"expires": "2020-01-01T12:00"}, "This is in the past."),
        ({"expires": "soon"}, "Write a day and a time"),
    ],
)
def test_it_says_what_is_wrong_with_a_key(acme, fields, problem):
    key_of(acme, "taken")
    response = browser(person("max", acme, "member")).post(f"{KEYS}new/", {"name": "good", **fields})
    assert response.status_code == 200
    assert problem in " ".join(problems(response))
    assert ApiKey.objects.count() == 1


def test_it_keeps_a_moment_that_a_page_shows_only_to_the_minute(acme):
    at = timezone.now() + timedelta(days=3, seconds=7)
    key = key_of(acme, "acme-web", expires_at=at)
    client = browser(person("olga", acme))
    shown = found_in(client.get(f"{KEYS}{key.pk}/"), r'name="expires" value="([^"]+)"')
    client.post(f"{KEYS}{key.pk}/", {"name": "renamed", "expires": shown})
    key.refresh_from_db()
    assert key.expires_at == at
    client.post(f"{KEYS}{key.pk}/", {"name": "renamed", "expires": "2030-07-01T12:00"})
    key.refresh_from_db()
    assert key.expires_at.isoformat() == "2030-07-01T10:00:00+00:00"


def test_a_playground_key_is_one_for_each_person_and_lasts_an_hour(acme):
    key_of(acme, "acme-web", allowed_models=["demo/*"])
    client = browser(person("max", acme, "member"))
    first = client.post("/dashboard/acme/playground/key/")
    second = client.post("/dashboard/acme/playground/key/")
    key = ApiKey.objects.get(tags__playground="yes")
    assert key.digest == secrets.digest(second.json()["secret"]).hex()
    assert first.json()["secret"] != second.json()["secret"]
    assert key.previous_digest is None
    assert key.expires_at is not None
    assert timedelta(minutes=59) < key.expires_at - timezone.now() <= timedelta(hours=1)
    assert key.allowed_models == ["demo/*"]
    browser(person("mia", acme, "member")).post("/dashboard/acme/playground/key/")
    assert ApiKey.objects.filter(tags__playground="yes").count() == 2
    ApiKey.objects.filter(pk=key.pk).update(enabled=False)
    assert client.post("/dashboard/acme/playground/key/").status_code == 409
