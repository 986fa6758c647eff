"""`POST /api/v1/keys/report-leak`: what ends, what is answered, and what is kept of a secret."""

import json
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from config.models import current_version
from config.tests.admin_kit import operator
from keys.models import DISABLED_BY, ROTATED, ApiKey, Tenant
from proxy.api.leaks import LeakThrottle
from proxy.tests.fakes import environment

pytestmark = pytest.mark.django_db

URL = "/api/v1/keys/report-leak"


@pytest.fixture(autouse=True)
def unthrottled():
    cache.clear()


@pytest.fixture
def key():
    key, key.secret = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="acme-ci")
    key.save()
    return key


def report(body, *, client=None, **options):
    return (client or Client()).post(URL, json.dumps(body), content_type="application/json", **options)


def reported(*found, **options):
    response = report({"keys": list(found)}, **options)
    assert response.status_code == 200, response.content
    return [each["status"] for each in response.json()["reported"]]


def test_it_disables_a_key_at_once_and_says_so_without_its_name(key):
    version = current_version()
    response = report({"key": key.secret})
    assert (response.status_code, response.json()) == (
        200,
        {"reported": [{"prefix": key.prefix, "status": "disabled"}]},
    )
    assert "acme" not in response.content.decode()
    key.refresh_from_db()
    assert not key.enabled
    assert key.disabled_because.startswith("reported as leaked on ")
    assert key.disabled_because.endswith("by 127.0.0.1")
    assert current_version() == version + 1
    assert reported(key.secret) == ["already_disabled"]
    assert current_version() == version + 1


def test_it_takes_several_and_tells_of_each_in_their_order(key):
    other, secret = ApiKey.issue(tenant=key.tenant, name="off", enabled=False)
    other.save()
    assert reported("no-key-of-this-gateway", secret, key.secret, key.secret) == [
        "unknown",
        "already_disabled",
        "disabled",
        "already_disabled",
    ]


def test_of_a_secret_before_a_rotation_it_ends_that_alone(key):
    new = key.rotate(until=timezone.now() + timedelta(hours=1))
    key.save(update_fields=list(ROTATED))
    assert reported(key.secret) == ["disabled"]
    key.refresh_from_db()
    assert key.enabled
    assert (key.previous_digest, key.previous_prefix, key.previous_until) == (None, "", None)
    assert reported(key.secret, new) == ["unknown", "disabled"]
    key.refresh_from_db()
    assert not key.enabled


def test_a_secret_whose_time_is_over_was_disabled_already(key):
    key.rotate(until=timezone.now() - timedelta(seconds=1))
    key.save(update_fields=list(ROTATED))
    assert reported(key.secret) == ["already_disabled"]
    key.refresh_from_db()
    assert key.enabled


def test_a_leaked_secret_never_works_again_once_it_is_rotated(key):
    report({"key": key.secret})
    key.refresh_from_db()
    key.rotate(until=timezone.now() + timedelta(hours=24))
    assert (key.previous_digest, key.previous_until) == (None, None)


@pytest.mark.parametrize(("tags", "may"), [({}, False), ({DISABLED_BY: "olga"}, True)])
def test_a_disabled_keys_leak_is_remembered_until_it_is_rotated(key, tags, may):
    ApiKey.objects.filter(pk=key.pk).update(enabled=False, tags=tags)
    assert reported(key.secret) == ["already_disabled"]
    key.refresh_from_db()
    assert (key.disabled_because != "", key.own_people_may_enable) == (True, False)
    key.rotate(until=None)
    key.save(update_fields=list(ROTATED))
    key.refresh_from_db()
    assert (key.disabled_because, key.own_people_may_enable) == ("", may)


def test_an_enabled_key_has_no_reason_to_be_disabled(key):
    report({"key": key.secret})
    key.refresh_from_db()
    key.enabled = True
    key.save(update_fields=["enabled"])
    key.refresh_from_db()
    assert (key.enabled, key.disabled_because) == (True, "")


def test_it_leaves_no_copy_of_a_secret_and_audits_what_it_did(key, caplog, capfd):
    reported(key.secret, "unknown-secret-of-somebody-else")
    report({"key": ["not", key.secret]})
    entry = LogEntry.objects.filter(content_type__model="apikey").latest("timestamp")
    assert entry.action == LogEntry.Action.UPDATE
    assert entry.changes_dict["enabled"] == ["True", "False"]
    assert "reported as leaked" in entry.changes_dict["disabled_because"][1]
    entries = json.dumps([each.changes for each in LogEntry.objects.all()])
    kept = entries + caplog.text + "".join(capfd.readouterr())
    for secret in (key.secret, "unknown-secret-of-somebody-else", key.digest):
        assert secret not in kept


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid"),
        ([], 400, None),
        ({"key": "a", "keys": ["b"]}, 400, "invalid"),
        ({"keys": []}, 400, "invalid"),
        ({"keys": ["a"] * 101}, 400, "invalid"),
        ({"keys": "a"}, 400, "invalid"),
        ({"key": ""}, 400, "invalid"),
        ({"key": None}, 400, "invalid"),
        ({"key": "a" * 513}, 400, "invalid"),
        ({"keys": ["a" * 500] * 200}, 413, "body_too_large"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_the_envelope(body, status, code):
    response = report(body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert "aaaa" not in error["message"]


def test_it_takes_no_other_method():
    response = Client().get(URL)
    assert (response.status_code, response.json()["error"]["type"]) == (405, "invalid_request_error")


def test_it_counts_reports_by_address_behind_trusted_proxies(key, monkeypatch, settings):
    settings.GATEWAY = environment(trusted_proxies=("127.0.0.1",))
    monkeypatch.setattr(LeakThrottle, "rate", "2/min")
    here, there = ({"headers": {"x-forwarded-for": address}} for address in ("203.0.113.1", "203.0.113.2"))
    assert [report({"key": "x"}, **here).status_code for _ in range(3)] == [200, 200, 429]
    refused = report({"key": key.secret}, **here)
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "throttled")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    key.refresh_from_db()
    assert key.enabled
    assert reported(key.secret, **there) == ["disabled"]


def test_who_is_signed_in_needs_no_token(key):
    assert report({"key": key.secret}, client=operator()).status_code == 200
