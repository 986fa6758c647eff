"""rotate_key: a new secret at once, the old one for as long as it is told to."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from config.models import current_version
from keys import secret as secrets
from keys.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def old():
    key, secret = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="ci")
    key.save()
    return secret


def rotate(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("rotate_key", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


def hexed(secret):
    return secrets.digest(secret).hex()


def test_it_prints_the_new_secret_alone_and_lets_the_old_one_work_for_a_day(old):
    version, before = current_version(), timezone.now()
    secret, told = rotate("ci")
    key = ApiKey.objects.get()
    assert (key.digest, key.prefix) == (hexed(secret), secret[:12])
    assert (key.previous_digest, key.previous_prefix) == (hexed(old), old[:12])
    assert key.previous_until is not None
    assert before + timedelta(hours=24) <= key.previous_until <= timezone.now() + timedelta(hours=24)
    assert told.startswith("Key ci: the old secret works until ")
    assert old not in told
    assert current_version() == version + 1


@pytest.mark.parametrize(
    ("overlap", "until"), [("0m", None), ("2099-12-31", datetime(2099, 12, 31, tzinfo=UTC))]
)
def test_it_takes_an_end_of_the_old_secret(overlap, until):
    rotate("ci", "--overlap", overlap)
    key = ApiKey.objects.get()
    assert key.previous_until == until
    assert bool(key.previous_digest) is (until is not None)


def test_a_second_rotation_ends_the_first_secret(old):
    first, _ = rotate("ci")
    second, _ = rotate("ci", "--overlap", "7d")
    key = ApiKey.objects.get()
    assert (key.digest, key.previous_digest) == (hexed(second), hexed(first))


def test_it_takes_an_own_secret_and_prints_json():
    out, _ = rotate("ci", "--secret", "o" * 24, "--overlap", "2099-12-31", "--json")
    assert json.loads(out) == {
        "name": "ci",
        "secret": "o" * 24,
        "prefix": "oooo",
        "old_secret_until": "2099-12-31",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "No key is named nobody."),
        (("ci", "--overlap", "soon"), "--overlap must be a date or time such as 2027-01-31"),
        (("ci", "--overlap", "2001-01-01"), "--overlap 2001-01-01 is in the past"),
        (("ci", "--secret", "short"), "--secret must have at least 20 characters"),
    ],
)
def test_it_says_what_is_wrong_and_changes_nothing(arguments, message, old):
    with pytest.raises(CommandError) as told:
        rotate(*arguments)
    assert message in str(told.value)
    assert ApiKey.objects.get().digest == hexed(old)


def test_it_refuses_a_secret_that_another_key_has_or_had():
    other, _ = ApiKey.issue(tenant=Tenant.objects.get(), name="other", secret="a" * 24)
    other.save()
    call_command("rotate_key", "other", "--secret", "b" * 24, stdout=io.StringIO(), stderr=io.StringIO())
    for taken in ("a" * 24, "b" * 24):
        with pytest.raises(CommandError, match="another key has this secret"):
            rotate("ci", "--secret", taken)
        with pytest.raises(CommandError, match="another key has this secret"):
            call_command("create_key", "--tenant", "acme", "--name", "third", "--secret", taken)
