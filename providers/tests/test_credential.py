"""A provider's further credentials, and which one is shown first."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from config.models import ConfigChange, current_version
from config.vault import SecretUnreadable, Vault
from providers.models import Credential, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return Provider.objects.create(name="openai", dialect="openai", base_url="https://api.openai.com/v1")


def add(provider, name="b", secret="second-key", **fields):
    row = Credential(provider=provider, name=name, **fields)
    row.set_credential(secret)
    row.save()
    return row


def test_it_is_stored_as_a_providers_own_is(provider):
    row = add(provider)
    assert row.credential.startswith("enc:")
    assert (row.open_credential(), row.credential_kind) == ("second-key", "stored, encrypted")
    reference = add(provider, "c", "${NO_SUCH_VARIABLE_HERE}")
    assert reference.credential == "${NO_SUCH_VARIABLE_HERE}"
    assert (reference.open_credential(), reference.unset_variable) == ("", "NO_SUCH_VARIABLE_HERE")
    assert row.unset_variable == ""


def test_it_changes_the_providers_in_the_configuration(provider):
    for change in (
        lambda: add(provider),
        lambda: Credential.objects.update(enabled=False),
        lambda: Credential.objects.get().delete(),
    ):
        version = current_version()
        change()
        told = ConfigChange.objects.filter(version__gt=version).values_list("part", flat=True)
        assert list(told) == ["providers"]


def test_it_has_a_name_once_per_provider(provider):
    add(provider)
    other = Provider.objects.create(name="other", dialect="openai", base_url="http://other")
    add(other)
    with pytest.raises(IntegrityError), transaction.atomic():
        add(provider)
    with pytest.raises(ValidationError):
        Credential(provider=provider, name="b").full_clean()


def test_it_shows_first_what_is_there_first(provider, monkeypatch):
    add(provider, "last", "third-key", position=9)
    add(provider, "unset", "${NO_SUCH_VARIABLE_HERE}", position=1)
    add(provider, "off", "off-key", position=0, enabled=False)
    assert provider.first_credential() == "third-key"
    monkeypatch.setenv("NO_SUCH_VARIABLE_HERE", "set-now")
    assert provider.first_credential() == "set-now"
    provider.set_credential("own-key")
    assert provider.first_credential() == "own-key"


def test_it_shows_none_where_none_is(provider):
    assert provider.first_credential() == ""
    assert Provider(name="new").first_credential() == ""


def test_it_says_when_no_key_opens_the_first_one(provider):
    row = add(provider)
    Credential.objects.filter(pk=row.pk).update(credential=Vault(["another"]).seal("x"))
    with pytest.raises(SecretUnreadable):
        provider.first_credential()


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_queue": -1}, "max_queue"),
        ({"queue_timeout_s": 0}, "queue_timeout_s"),
    ],
)
def test_it_says_at_the_field_what_a_providers_line_cannot_be(fields, column):
    row = Provider(name="p", dialect="openai", base_url="http://p", **fields)
    with pytest.raises(ValidationError) as raised:
        row.full_clean()
    assert list(raised.value.message_dict) == [column]
