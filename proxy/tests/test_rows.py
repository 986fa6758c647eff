from datetime import UTC, datetime

import orjson
import pytest

from config.models import ConfigChange, bump, current_version
from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.faults import Faults
from providers.models import Credential, Price, Provider, ProviderModel
from proxy import key_rows, rows
from proxy.callers import compile_callers
from proxy.compiling import compile_parts
from proxy.models import CacheExclusion, GatewaySettings, Route, Target, UpstreamState
from proxy.snapshot import Control

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
    with django_assert_num_queries(
        len(rows.SMALL_PARTS) + 3
    ):  # targets, credentials and budgets are read apart
        parts()


def test_it_reads_every_key(monkeypatch):
    pauses = []
    monkeypatch.setattr(key_rows, "CHUNK", 10)
    monkeypatch.setattr(key_rows.time, "sleep", pauses.append)
    made = add_keys(25)
    read = list(key_rows.read_all())
    assert [row["id"] for row in read] == [key.pk for key in made]
    assert orjson.loads(orjson.dumps(read)) == read
    assert pauses == [key_rows.PAUSE_S] * 2


def test_it_reads_some_keys_as_it_reads_all():
    made = add_keys(3)
    ApiKey.objects.filter(pk=made[0].pk).update(expires_at=MOMENT, enabled=False, allowed_models=["gpt-4o*"])
    (row,) = key_rows.read_some([str(made[0].pk), "999999"])
    assert row == next(iter(key_rows.read_all()))
    ((digest, caller),) = compile_callers(row).items()
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


# ---------------------------------------------------------------- limits, and what few keys have


def add_terms(key):
    """Give a key everything that few have; return the digest of its secret from before a rotation."""
    former = key.digest
    key.rotate(until=MOMENT)
    key.denied_models, key.allowed_networks, key.tags = ["gpt-4o"], ["10.0.0.0/8"], {"team": "a"}
    key.max_tokens, key.forced_route = 9, "fast"
    key.save()
    RateLimit.objects.create(key=key, amount=5, per="minute", model="gpt*", each="ip")
    RateLimit.objects.create(key=key, amount=6, per="day", enabled=False)
    Budget.objects.create(
        key=key, amount_nanousd=7, window="day", mode="soft", raised_nanousd=8, raised_until=MOMENT
    )
    Budget.objects.create(key=key, amount_nanousd=9, enabled=False)
    return former


def test_it_reads_all_that_few_keys_have_in_one_sweep_and_alone(monkeypatch):
    monkeypatch.setattr(key_rows, "CHUNK", 2)
    monkeypatch.setattr(key_rows, "MORE_CHUNK", 3)
    made = add_keys(9)
    Tenant.objects.update(timezone="Asia/Tokyo")
    former = add_terms(made[4])
    RateLimit.objects.create(key=made[8], amount=1, kind="concurrent")
    swept = list(key_rows.read_all())
    assert orjson.loads(orjson.dumps(swept)) == swept
    assert swept == key_rows.read_some([str(key.pk) for key in made])
    assert [place for place, row in enumerate(swept) if row.keys() & {"terms", "limits", "previous"}] == [
        4,
        8,
    ]
    assert swept[4]["previous"]["until"] == MOMENT.timestamp()
    callers = compile_callers(swept[4])
    assert [digest.hex() for digest in callers] == [made[4].digest, former]
    (caller, _) = callers.values()
    terms = caller.terms
    assert (terms.denied, terms.max_tokens, terms.forced_route) == (("gpt-4o",), 9, "fast")
    assert (terms.tags, [str(each) for each in terms.networks]) == ({"team": "a"}, ["10.0.0.0/8"])
    assert [(each.amount, each.per, each.model, each.each) for each in terms.rules.rates] == [
        (5, "minute", "gpt*", "ip")
    ]
    (ceiling,) = terms.rules.ceilings
    assert (ceiling.amount_nanousd, ceiling.raised_nanousd, ceiling.raised_until) == (
        7,
        8,
        MOMENT.timestamp(),
    )
    assert (ceiling.strict, ceiling.zone.key, ceiling.refuse_unpriced) == (False, "Asia/Tokyo", False)


def test_it_reads_the_limits_of_everyone_and_of_tenants():
    acme = Tenant.objects.create(name="acme", timezone="Asia/Tokyo")
    RateLimit.objects.create(amount=1, per="day")
    RateLimit.objects.create(amount=2, per="day", enabled=False)
    RateLimit.objects.create(key=add_keys(1)[0], amount=3, per="day")
    RateLimit.objects.create(tenant=acme, amount=4, per="day")
    Budget.objects.create(amount_nanousd=5)
    Budget.objects.create(tenant=acme, amount_nanousd=6, refuse_unpriced=True, raised_until=MOMENT)
    read = parts()
    assert orjson.loads(orjson.dumps(read)) == read
    snapshot = compile_parts(1, read, {})
    tenant = snapshot.tenant_rules[acme.pk]
    assert [each.amount for each in snapshot.rules.rates] == [1]
    assert [(each.amount_nanousd, each.zone.key) for each in snapshot.rules.ceilings] == [(5, "UTC")]
    assert [(each.amount, each.holds_for) for each in tenant.rates] == [(4, "tenant acme")]
    (ceiling,) = tenant.ceilings
    assert (ceiling.amount_nanousd, ceiling.zone.key, ceiling.refuse_unpriced) == (6, "Asia/Tokyo", True)


def test_a_sweep_asks_for_what_few_keys_have_with_few_queries(django_assert_num_queries):
    add_terms(add_keys(50)[20])
    with django_assert_num_queries(4):
        assert len(list(key_rows.read_all())) == 50
    with django_assert_num_queries(4):
        key_rows.read_some(["1", "2"])


def test_it_reads_no_keys_where_none_are_asked_for():
    assert key_rows.read_some([]) == []
