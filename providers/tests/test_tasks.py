from datetime import timedelta

import pytest
from django.utils import timezone

from config.models import ConfigChange, current_version
from providers import tasks
from providers.models import Provider, ProviderModel
from providers.probe import ProbeResult, probe
from providers.tasks import refresh_model_lists
from providers.tests.test_probe import vendor_server

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor():
    with vendor_server() as running:
        running.lists("small", "large")
        yield running


def make(name, url, **fields):
    return Provider.objects.create(name=name, dialect="openai", base_url=url, **fields)


def names(provider):
    return sorted(ProviderModel.objects.filter(provider=provider).values_list("name", flat=True))


def asked_before(age, *providers):
    """Pretend that the lists were fetched that long ago, after the last edit."""
    ConfigChange.objects.update(at=timezone.now() - age - timedelta(hours=1))
    Provider.objects.filter(pk__in=[each.pk for each in providers]).update(
        models_refreshed_at=timezone.now() - age
    )


def test_it_stores_what_the_vendor_lists(vendor):
    acme = make("acme", vendor.url)
    assert refresh_model_lists() == 1
    assert names(acme) == ["large", "small"]
    row = ProviderModel.objects.get(name="small")
    assert (row.created, row.owned_by) == (7, "acme")
    acme.refresh_from_db()
    assert acme.models_error == ""
    assert timezone.now() - acme.models_refreshed_at < timedelta(seconds=30)


def test_it_runs_as_a_task_by_its_name(vendor):
    acme = make("acme", vendor.url)
    assert refresh_model_lists.name == "providers.tasks.refresh_model_lists"
    refresh_model_lists.delay()
    assert names(acme) == ["large", "small"]


def test_it_bumps_the_version_only_when_the_list_differs(vendor):
    acme = make("acme", vendor.url)
    refresh_model_lists()
    version = current_version()
    asked_before(timedelta(minutes=11), acme)
    assert refresh_model_lists() == 1
    assert current_version() == version
    vendor.lists("small", "larger")
    asked_before(timedelta(minutes=11), acme)
    refresh_model_lists()
    assert names(acme) == ["larger", "small"]
    assert current_version() > version
    assert ConfigChange.objects.latest("version").part == "models"


def test_it_writes_changed_facts_of_a_known_model(vendor):
    acme = make("acme", vendor.url)
    ProviderModel.objects.create(provider=acme, name="small", created=1, owned_by="nobody")
    kept = ProviderModel.objects.get().pk
    refresh_model_lists()
    row = ProviderModel.objects.get(name="small")
    assert (row.pk, row.created, row.owned_by) == (kept, 7, "acme")


def test_it_asks_only_who_is_due(vendor):
    fresh, old = make("fresh", vendor.url), make("old", vendor.url)
    asked_before(timedelta(minutes=9), fresh)
    asked_before(timedelta(minutes=11), old)
    assert refresh_model_lists() == 1
    assert names(fresh) == []
    assert names(old) == ["large", "small"]


def test_it_asks_again_after_an_edit_of_a_provider(vendor):
    acme = make("acme", vendor.url)
    refresh_model_lists()
    assert refresh_model_lists() == 0
    acme.refresh_from_db()
    acme.auth_header = "api-key"
    acme.save(update_fields=["auth_header"])
    assert refresh_model_lists() == 1


def test_it_asks_a_failing_vendor_again_after_a_minute(vendor):
    acme = make("acme", vendor.url, models_error="down")
    asked_before(timedelta(seconds=50), acme)
    assert refresh_model_lists() == 0
    asked_before(timedelta(seconds=70), acme)
    assert refresh_model_lists() == 1
    acme.refresh_from_db()
    assert acme.models_error == ""


def test_it_leaves_disabled_providers_alone(vendor):
    make("off", vendor.url, enabled=False)
    assert refresh_model_lists() == 0
    assert vendor.seen == []


def test_it_keeps_the_last_list_of_a_vendor_that_fails(vendor):
    acme = make("acme", vendor.url)
    refresh_model_lists()
    asked_before(timedelta(minutes=11), acme)
    version = current_version()
    vendor.status, vendor.body = 503, b'{"error": {"message": "try later"}}'
    refresh_model_lists()
    acme.refresh_from_db()
    assert acme.models_error == "Status 503: try later"
    assert names(acme) == ["large", "small"]
    assert current_version() == version


def test_it_never_lets_one_provider_stop_the_others(vendor, monkeypatch):
    broken, good = make("broken", "http://127.0.0.1:1/v1"), make("good", vendor.url)
    surprising = make("surprising", vendor.url)
    real = probe

    def sometimes(provider):
        if provider.name == "surprising":
            raise RuntimeError("a bug")
        return real(provider)

    monkeypatch.setattr(tasks, "probe", sometimes)
    assert refresh_model_lists() == 3
    for row in (broken, surprising):
        row.refresh_from_db()
        assert row.models_error
    assert names(good) == ["large", "small"]


def test_it_survives_names_that_cannot_be_stored(vendor):
    acme = make("acme", vendor.url)
    vendor.lists("ok", "x" * 500, "nul\x00", "ok")
    refresh_model_lists()
    assert names(acme) == ["ok"]


def test_it_writes_nothing_of_a_provider_edited_or_deleted_meanwhile(vendor, monkeypatch):
    edited, deleted = make("edited", vendor.url), make("deleted", vendor.url)

    def edit_meanwhile(provider):
        if provider.name == "edited":
            return ProbeResult(ok=True, latency_ms=1, models=({"id": "stale", "created": 0, "owned_by": ""},))
        return ProbeResult(ok=False, latency_ms=1, error="gone")

    real_store = tasks._store

    def store(provider, result, *, asked_at):
        Provider.objects.filter(pk=edited.pk).update(base_url="http://elsewhere/v1", auth_header="api-key")
        Provider.objects.filter(pk=deleted.pk).delete()
        real_store(provider, result, asked_at=asked_at)

    monkeypatch.setattr(tasks, "probe", edit_meanwhile)
    monkeypatch.setattr(tasks, "_store", store)
    refresh_model_lists()
    edited.refresh_from_db()
    assert (edited.base_url, edited.auth_header) == ("http://elsewhere/v1", "api-key")
    assert edited.models_refreshed_at is None
    assert names(edited) == []


def test_it_overwrites_no_other_column(vendor, monkeypatch):
    acme = make("acme", vendor.url)
    real_store = tasks._store

    def store(provider, result, *, asked_at):
        Provider.objects.filter(pk=acme.pk).update(max_connections=7)
        real_store(provider, result, asked_at=asked_at)

    monkeypatch.setattr(tasks, "_store", store)
    refresh_model_lists()
    acme.refresh_from_db()
    assert acme.max_connections == 7
    assert names(acme) == ["large", "small"]
