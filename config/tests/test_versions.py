"""Every way of changing a row of the configuration raises the version, inside its transaction."""

import pytest
from django.core import serializers
from django.db import transaction

from analytics.models import SpoolReceipt
from config.models import ConfigChange, ConfigVersion, bump, changed, current_version
from keys.models import ApiKey, RateLimit, Tenant
from providers.models import Price, Provider, ProviderModel
from proxy.models import GatewaySettings, Route, Target


def provider(name: str = "p", **fields) -> Provider:
    return Provider.objects.create(name=name, dialect="openai", base_url="http://p", **fields)


def key(name: str = "k") -> ApiKey:
    tenant, _ = Tenant.objects.get_or_create(name="t")
    made, _secret = ApiKey.issue(tenant=tenant, name=name)
    made.save()
    return made


class Changes:
    """The changes since it was made."""

    def __init__(self) -> None:
        self.start = current_version()

    @property
    def seen(self) -> list[tuple[str, str]]:
        rows = ConfigChange.objects.filter(version__gt=self.start).order_by("version")
        assert [row.version for row in rows] == list(range(self.start + 1, current_version() + 1))
        return [(row.part, row.ref) for row in rows]


@pytest.mark.django_db
class TestRows:
    def test_it_starts_at_nothing(self):
        assert current_version() == 0

    def test_saving_tells_the_part(self):
        seen = Changes()
        row = provider()
        row.enabled = False
        row.save()
        row.save(update_fields=["enabled"])
        assert seen.seen == [("providers", "")] * 3

    def test_saving_a_key_tells_which_one(self):
        row = key()
        seen = Changes()
        row.save()
        assert seen.seen == [("keys", str(row.pk))]

    def test_columns_that_no_snapshot_holds_tell_nothing(self):
        row, used = provider(), key()
        seen = Changes()
        row.save(update_fields=["models_error", "models_refreshed_at"])
        used.save(update_fields=["last_used_at"])
        Provider.objects.update(models_error="x")
        row.save(update_fields=[])
        assert seen.seen == []

    def test_a_mixed_write_tells(self):
        row = provider()
        seen = Changes()
        row.save(update_fields=["models_error", "enabled"])
        Provider.objects.update(models_error="x", enabled=False)
        assert seen.seen == [("providers", "")] * 2

    def test_bulk_writes_tell_once_each(self):
        row = provider()
        seen = Changes()
        made = ProviderModel.objects.bulk_create([ProviderModel(provider=row, name=name) for name in "abc"])
        for model in made:
            model.owned_by = "x"
        ProviderModel.objects.bulk_update(made, ["owned_by"])
        ProviderModel.objects.filter(name="a").update(owned_by="y")
        ProviderModel.objects.update_or_create(provider=row, name="a", defaults={"owned_by": "z"})
        assert seen.seen == [("models", "")] * 4

    def test_bulk_writes_of_nothing_tell_nothing(self):
        seen = Changes()
        ProviderModel.objects.bulk_create([])
        ProviderModel.objects.bulk_update([], ["owned_by"])
        ProviderModel.objects.filter(name="nobody").update(owned_by="y")
        ProviderModel.objects.filter(name="nobody").delete()
        assert seen.seen == []

    def test_related_managers_tell(self):
        row = provider()
        seen = Changes()
        row.served_models.create(name="a")
        row.served_models.update(owned_by="x")
        row.served_models.all().delete()
        assert seen.seen == [("models", "")] * 3

    def test_a_fixture_tells(self):
        row = provider()
        fixture = serializers.serialize("json", [row])
        seen = Changes()
        for loaded in serializers.deserialize("json", fixture):
            loaded.save()
        assert seen.seen == [("providers", "")]

    def test_other_tables_tell_nothing_and_keep_their_fast_deletes(self, django_assert_num_queries):
        SpoolReceipt.objects.bulk_create([SpoolReceipt(segment=str(n), lines=1) for n in range(9)])
        seen = Changes()
        with django_assert_num_queries(1):  # one DELETE, no row is loaded
            SpoolReceipt.objects.all().delete()
        assert seen.seen == []


@pytest.mark.django_db
class TestDeletes:
    def test_a_cascade_tells_each_part_once(self):
        row = provider()
        Price.objects.bulk_create(
            [
                Price(provider=row, model=f"m{n}", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1)
                for n in range(50)
            ]
        )
        ProviderModel.objects.bulk_create([ProviderModel(provider=row, name=f"m{n}") for n in range(50)])
        Target.objects.create(route=Route.objects.create(match="m"), provider=row)
        seen = Changes()
        row.delete()
        assert sorted(seen.seen) == [
            ("models", ""),
            ("prices", ""),
            ("providers", ""),
            ("routes", ""),
            ("settings", ""),
        ]

    def test_a_tenant_tells_of_each_of_its_keys(self):
        one, two = key("one"), key("two")
        RateLimit.objects.create(key=one, kind="concurrent", amount=1)
        refs = {("keys", str(one.pk)), ("keys", str(two.pk))}
        seen = Changes()
        Tenant.objects.all().delete()
        assert set(seen.seen) == refs | {("tenants", "")}
        assert len(seen.seen) == 3

    def test_a_default_provider_that_goes_is_told_as_a_change_of_settings(self):
        row = provider()
        settings = GatewaySettings.load()
        settings.default_provider = row
        settings.save()
        seen = Changes()
        row.delete()
        assert GatewaySettings.load().default_provider is None
        assert ("settings", "") in seen.seen

    def test_deleting_again_tells_again(self):
        row = provider()
        row.delete()
        row.save()
        seen = Changes()
        row.delete()
        assert ("providers", "") in seen.seen


@pytest.mark.django_db
class TestLog:
    def test_it_forgets_changes_that_are_long_past(self, monkeypatch):
        monkeypatch.setattr("config.models.KEPT_CHANGES", 10)
        ConfigVersion.objects.create(pk=1, version=999)
        ConfigChange.objects.bulk_create([ConfigChange(version=v, part="x") for v in range(980, 1000)])
        bump("providers")
        assert list(ConfigChange.objects.order_by("version").values_list("version", flat=True)) == list(
            range(990, 1001)
        )


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    def test_it_announces_after_the_commit_and_not_before(self):
        heard = []

        def hear(version: int, **_) -> None:
            heard.append((version, current_version()))

        changed.connect(hear)
        try:
            with transaction.atomic():
                provider()
                assert heard == []
        finally:
            changed.disconnect(hear)
        assert heard == [(1, 1)]

    def test_what_is_rolled_back_never_happened(self):
        with transaction.atomic():
            provider()
            transaction.set_rollback(True)
        assert current_version() == 0
        assert not ConfigChange.objects.exists()

    def test_a_listener_that_fails_does_not_fail_the_save(self):
        def fail(**_) -> None:
            raise ConnectionError("Redis is down")

        changed.connect(fail)
        try:
            provider()
        finally:
            changed.disconnect(fail)
        assert current_version() == 1
