from datetime import UTC, datetime

import orjson
import pytest

from config.models import ConfigChange, bump, current_version
from keys.models import ApiKey, Tenant
from providers.faults import Faults
from providers.models import Credential, Price, Provider, ProviderModel
from proxy import rows
from proxy.compiling import compile_parts
from proxy.models import CacheExclusion, GatewaySettings, Route, Target, UpstreamState
from proxy.snapshot import Control, compile_caller

pytestmark = pytest.mark.django_db
MOMENT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def filled():
    """Return a configuration with a row of everything."""
    openai = Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test/v1")
    vllm = Provider.objects.create(name="vllm", dialect="openai", base_url="http://vllm.test/v1")
    route = Route.objects.create(match="fast")
    Target.objects.create(route=route, provider=vllm, model="b", position=2)
    Target.objects.create(route=route, provider=openai, model="a", position=1, weight=3)
    Route.objects.create(match="off", enabled=False)
    ProviderModel.objects.create(provider=openai, name="gpt-4o", created=7, owned_by="them")
    Price.objects.create(
        provider=openai,
        model="gpt-4o",
        input_nanousd_per_mtok=1,
        output_nanousd_per_mtok=2,
        effective_from=MOMENT,
    )
    CacheExclusion.objects.create(pattern="gpt-4o")
    GatewaySettings.objects.create(default_provider=openai, default_model="gpt-4o", cache_ttl_s=5)
    for place, name in enumerate(("last", "middle", "off")):
        Credential.objects.create(
            provider=openai, name=name, credential=f"key-{name}", position=2 - place, enabled=name != "off"
        )
    Tenant.objects.create(name="plain")
    Tenant.objects.create(name="heavy", queue_weight=5)
    UpstreamState.objects.create(upstream="openai/held", held_open=True)
    UpstreamState.objects.create(upstream="openai/reset", reset_at=MOMENT)
    UpstreamState.objects.create(upstream="openai/seen", state="open")
    return openai


def parts():
    return {part: rows.read_part(part) for part in rows.SMALL_PARTS}


def add_keys(count):
    tenant, _ = Tenant.objects.get_or_create(name="acme")
    made = [ApiKey.issue(tenant=tenant, name=f"key-{number}")[0] for number in range(count)]
    return ApiKey.objects.bulk_create(made)


def test_it_reads_rows_that_can_be_kept_as_json_and_compiled(filled):
    read = parts()
    assert orjson.loads(orjson.dumps(read)) == read
    snapshot = compile_parts(1, read, {})
    assert [target.provider for target in snapshot.exact_routes["fast"].targets] == ["openai", "vllm"]
    assert list(snapshot.exact_routes) == ["fast"]
    assert snapshot.default_provider == "openai"
    assert (snapshot.default_model, snapshot.cache_ttl_s) == ("gpt-4o", 5.0)
    assert snapshot.exclusions.match("gpt-4o")
    assert [each.id for each in snapshot.models] == ["openai/gpt-4o"]
    rates = snapshot.upstream("openai", "gpt-4o").prices.at(MOMENT.timestamp())
    assert rates is not None
    assert (rates.input, rates.output) == (1, 2)
    assert snapshot.tenant_weights == {Tenant.objects.get(name="heavy").pk: 5}
    assert snapshot.controls == {
        "openai/held": Control(held_open=True, reset_at=None),
        "openai/reset": Control(held_open=False, reset_at=MOMENT.timestamp()),
    }


def test_it_reads_the_credentials_that_are_enabled_in_their_order(filled):
    (row, _) = sorted(rows.read_part("providers"), key=lambda row: row["name"])
    assert [each["name"] for each in row["credentials"]] == ["middle", "last"]
    account = compile_parts(1, parts(), {}).accounts["openai"]
    # It has none of its own.
    assert [account.credential, *(each.credential for each in account.spares)] == ["middle", "last"]


def test_it_reads_what_a_route_says(filled):
    Route.objects.filter(match="fast").update(sticky="user", hedge=True, idle_timeout_s=3)
    Target.objects.filter(model="b").update(role="shadow", percent=1, context_window=9)
    route = compile_parts(1, parts(), {}).exact_routes["fast"]
    assert (route.sticky, route.hedges, route.timeouts) == ("user", True, (("idle_s", 3.0),))
    assert [(each.role, each.percent, each.context_window) for each in route.targets] == [
        ("normal", 0.0, None),
        ("shadow", 1.0, 9),
    ]


def test_it_reads_an_empty_configuration():
    assert compile_parts(0, parts(), {}).accounts == {}


def test_it_leaves_secrets_sealed(filled):
    filled.set_credential("sk-vendor-secret")
    filled.save()
    further = Credential(provider=filled, name="b")
    further.set_credential("sk-vendor-secret")
    further.save()
    assert b"sk-vendor-secret" not in orjson.dumps(rows.read_part("providers"))


def test_it_reads_each_part_in_a_fixed_number_of_queries(filled, django_assert_num_queries):
    with django_assert_num_queries(len(rows.SMALL_PARTS) + 2):  # targets and credentials are read apart
        parts()


def test_it_reads_every_key(monkeypatch):
    pauses = []
    monkeypatch.setattr(rows, "KEY_CHUNK", 10)
    monkeypatch.setattr(rows.time, "sleep", pauses.append)
    made = add_keys(25)
    read = list(rows.read_all_keys())
    assert [row["id"] for row in read] == [key.pk for key in made]
    assert orjson.loads(orjson.dumps(read)) == read
    assert pauses == [rows.PAUSE_S] * 2


def test_it_reads_some_keys_as_it_reads_all():
    made = add_keys(3)
    ApiKey.objects.filter(pk=made[0].pk).update(expires_at=MOMENT, enabled=False, allowed_models=["gpt-4o*"])
    (row,) = rows.read_keys([str(made[0].pk), "999999"])
    assert row == next(iter(rows.read_all_keys()))
    digest, caller = compile_caller(row)
    assert digest.hex() == made[0].digest
    assert (caller.expires_at, caller.enabled, caller.allowed) == (MOMENT.timestamp(), False, ("gpt-4o*",))


def test_it_tells_what_changed_since():
    start = current_version()
    for ref in "12":
        bump("keys", ref)
    bump("routes")
    assert rows.version() == start + 3
    assert rows.changes_since(start, 10) == [
        (start + 1, "keys", "1"),
        (start + 2, "keys", "2"),
        (start + 3, "routes", ""),
    ]
    assert rows.changes_since(start + 2, 1) == [(start + 3, "routes", "")]


def test_it_says_when_it_cannot_tell():
    start = current_version()
    for ref in "123":
        bump("keys", ref)
    assert rows.changes_since(start, 2) is None  # too many
    ConfigChange.objects.filter(version=start + 1).delete()
    assert rows.changes_since(start, 10) is None  # lost
    assert rows.changes_since(start + 3, 10) is None  # none
    assert rows.changes_since(start + 99, 10) is None  # a database restored from a backup


def test_it_reads_how_a_demo_fails_on_purpose():
    Provider.objects.create(name="demo-a", dialect="openai", base_url="demo://", fault_status=503)
    read = parts()
    assert orjson.loads(orjson.dumps(read)) == read
    assert compile_parts(1, read, {}).accounts["demo-a"].faults == Faults(status=503)
