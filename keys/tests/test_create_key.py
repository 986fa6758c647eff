"""create_key: the secret once, clear words when something is wrong."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from keys import secret as secrets
from keys.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def tenant() -> Tenant:
    return Tenant.objects.create(name="acme")


def create(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("create_key", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_it_prints_the_secret_alone_and_keeps_only_its_digest(tenant):
    out, err = create("--tenant", "acme", "--name", "ci")
    secret = out.strip()
    assert secrets.well_formed(secret)
    assert out == f"{secret}\n"
    assert err == "Key ci of tenant acme; its secret is shown only now:\n"
    key = ApiKey.objects.get()
    assert (key.name, key.tenant, key.allowed_models, key.expires_at) == ("ci", tenant, [], None)
    assert key.digest == secrets.digest(secret).hex()
    assert key.prefix == secret[:12]


def test_it_takes_models_an_expiry_and_a_secret_of_ones_own():
    own = "o" * 20
    out, _ = create(
        "--tenant", "acme", "--name", "ci", "--secret", own, "--expires", "2099-12-31",
        "--allow", "gpt-4o*", "anthropic/*", "--allow", "m", "--json",
    )  # fmt: skip
    assert json.loads(out) == {
        "name": "ci",
        "tenant": "acme",
        "secret": own,
        "prefix": "oooo",
        "expires_at": "2099-12-31",
        "allowed_models": ["gpt-4o*", "anthropic/*", "m"],
        "denied_models": [],
        "allowed_networks": [],
        "tags": {},
        "max_tokens": None,
        "forced_route": "",
    }
    key = ApiKey.objects.get()
    assert key.expires_at == datetime(2099, 12, 31, tzinfo=UTC)
    assert key.allowed_models == ["gpt-4o*", "anthropic/*", "m"]


def test_it_takes_every_term_of_a_key():
    create(
        "--tenant", "acme", "--name", "ci", "--allowed-model", "gpt-4o*", "--denied-model", "gpt-4o-audio*",
        "--network", "10.0.0.0/8", "203.0.113.7", "--tag", "team=search", "--tag", "note=a=b",
        "--max-tokens", "500", "--forced-route", "gpt-4o-mini",
    )  # fmt: skip
    key = ApiKey.objects.get()
    assert (key.allowed_models, key.denied_models) == (["gpt-4o*"], ["gpt-4o-audio*"])
    assert key.allowed_networks == ["10.0.0.0/8", "203.0.113.7"]
    assert key.tags == {"team": "search", "note": "a=b"}
    assert (key.max_tokens, key.forced_route) == (500, "gpt-4o-mini")


@pytest.mark.parametrize(
    ("span", "expected"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30))],
)
def test_it_takes_a_time_from_now(span, expected):
    create("--tenant", "acme", "--name", "ci", "--expires", span)
    expires = ApiKey.objects.get().expires_at
    assert expires is not None
    left = expires - timezone.now()
    assert expected - timedelta(minutes=5) < left <= expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tenant", "acm", "--name", "ci"), "No tenant is named acm. There are: acme."),
        (("--tenant", "acme", "--name", ""), "--name: This field cannot be blank."),
        (("--tenant", "acme", "--name", "x" * 81), "--name: Ensure this value has at most 80 characters"),
        (
            ("--tenant", "acme", "--name", "ci", "--secret", "short"),
            "--secret must have at least 20 characters",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--secret", "sk-gw-" + "a" * 49),
            "--secret its checksum does not hold",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--expires", "soon"),
            "--expires must be a date or time such as 2027-01-31",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--expires", "2001-01-01"),
            "--expires 2001-01-01 is in the past",
        ),
        (("--tenant", "acme", "--name", "ci", "--expires", "0d"), "--expires 0d is in the past"),
        (
            ("--tenant", "acme", "--name", "ci", "--allow", ""),
            "--allowed-model: must be a list of model patterns",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--denied-model", " "),
            "--denied-model: must be a list of model",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--network", "10.0.0.0/8", "ten"),
            "--network: 'ten' is neither an address nor a network",
        ),
        (
            ("--tenant", "acme", "--name", "ci", "--tag", "team"),
            "--tag 'team' is not of the form NAME=TEXT, such as team=search",
        ),
        (("--tenant", "acme", "--name", "ci", "--tag", "t=" + "x" * 101), "--tag: at most 20 tags"),
        (("--tenant", "acme", "--name", "ci", "--tag", "7=x"), "--tag: a name cannot be a whole number: 7"),
        (("--tenant", "acme", "--name", "ci", "--max-tokens", "0"), "--max-tokens: Ensure this value is"),
        (("--tenant", "acme", "--name", "ci", "--forced-route", "m" * 201), "--forced-route: Ensure this"),
        (("--name", "ci"), "the following arguments are required: --tenant"),
    ],
)
def test_it_says_what_is_wrong_and_makes_nothing(arguments, message):
    with pytest.raises(CommandError) as told:
        create(*arguments)
    assert message in str(told.value)
    assert told.value.returncode == 1
    assert not ApiKey.objects.exists()


def test_it_refuses_a_name_or_a_secret_that_is_taken():
    create("--tenant", "acme", "--name", "ci", "--secret", "s" * 24)
    with pytest.raises(CommandError, match="--name: API key with this Name already exists"):
        create("--tenant", "acme", "--name", "ci")
    with pytest.raises(CommandError, match="--secret: another key has this secret"):
        create("--tenant", "acme", "--name", "other", "--secret", "s" * 24)


def test_it_says_that_there_is_no_tenant_yet():
    Tenant.objects.all().delete()
    with pytest.raises(CommandError, match="there is none yet"):
        create("--tenant", "acme", "--name", "ci")
