"""The watcher on a real database, polled by the test; one test lets its thread run."""

import gc
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.utils import timezone

from config.models import ConfigChange, ConfigVersion
from config.vault import Vault
from keys.caller import USUAL
from keys.models import ApiKey, Budget, RateLimit, Tenant
from keys.secret import digest
from providers.models import Price, Provider
from proxy import kept, key_rows, rows, watcher
from proxy.callers import caller_row
from proxy.models import CacheExclusion, Route, Target
from proxy.tests.fakes import Log, make_parts, provider_row
from proxy.watcher import Watcher
from tests.servers import eventually

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(watcher, "log", recorder)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    return recorder


class Following:
    """A watcher, what it has published, and a database that can be taken away."""

    def __init__(self, tmp_path, monkeypatch, vault=None):
        self.published = []
        self.vault = vault or Vault(["a key"])
        self.kept_at = tmp_path / "snapshot-0.kept"
        self.watcher = Watcher(self.published.append, kept_at=self.kept_at, vault=self.vault)
        self._monkeypatch = monkeypatch

    def poll(self):
        self.watcher._poll_guarded()
        return self.published[-1] if self.published else None

    def down(self):
        def fail():
            raise OperationalError("the database is gone")

        self._monkeypatch.setattr(rows, "version", fail)
        # The test's own transaction must survive.
        self._monkeypatch.setattr(watcher, "connection", SimpleNamespace(close=lambda: None))

    def up(self):
        self._monkeypatch.undo()
        self._monkeypatch.setattr(gc, "freeze", lambda: None)


@pytest.fixture
def following(tmp_path, monkeypatch):
    return Following(tmp_path, monkeypatch)


@pytest.fixture
def openai():
    return Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test/v1")


@pytest.fixture
def tenant():
    return Tenant.objects.create(name="acme")


def add_key(tenant, name, **fields):
    key, secret = ApiKey.issue(tenant=tenant, name=name, **fields)
    key.save()
    return key, digest(secret)


def add_route(match, provider, **fields):
    route = Route.objects.create(match=match, **fields)
    Target.objects.create(route=route, provider=provider)
    return route


def never(*_):
    raise AssertionError("it reads more than it must")


def refused(pattern="("):
    """Save a row that no form would let through."""
    return CacheExclusion.objects.create(kind="regex", pattern=pattern)


# ---------------------------------------------------------------- following


def test_it_reads_everything_at_first(following, openai, tenant):
    _, known = add_key(tenant, "ci")
    add_route("fast", openai)
    snapshot = following.poll()
    assert list(snapshot.accounts) == ["openai"]
    assert list(snapshot.callers) == [known]
    assert list(snapshot.exact_routes) == ["fast"]
    assert following.watcher.ready.is_set()
    assert following.watcher.polled_at > 0


def test_it_starts_on_an_empty_database(following):
    snapshot = following.poll()
    assert (snapshot.version, snapshot.callers, snapshot.accounts) == (0, {}, {})


def test_it_does_nothing_while_nothing_changes(following, openai, django_assert_num_queries):
    following.poll()
    with django_assert_num_queries(1):
        following.poll()
    assert len(following.published) == 1


def test_it_patches_one_caller_for_one_changed_key(following, openai, tenant, monkeypatch):
    first, first_digest = add_key(tenant, "first")
    _, second_digest = add_key(tenant, "second")
    before = following.poll()

    monkeypatch.setattr(key_rows, "read_all", never)
    monkeypatch.setattr(rows, "read_part", never)
    first.enabled = False
    first.save()
    snapshot = following.poll()
    assert not snapshot.callers[first_digest].enabled
    assert snapshot.callers[second_digest] is before.callers[second_digest]
    assert before.callers[first_digest].enabled
    assert snapshot.accounts is before.accounts


def test_it_follows_a_new_a_changed_and_a_deleted_key(following, tenant):
    following.poll()
    key, old = add_key(tenant, "ci")
    assert list(following.poll().callers) == [old]
    new = digest("another-secret-of-24-characters")
    key.set_secret("another-secret-of-24-characters")
    key.save()
    assert list(following.poll().callers) == [new]
    key.delete()
    assert following.poll().callers == {}


def test_it_follows_a_key_made_and_deleted_between_two_looks(following, tenant):
    following.poll()
    key, _ = add_key(tenant, "ci")
    key.delete()
    assert following.poll().callers == {}


def test_it_reads_all_keys_again_after_a_bulk_update(following, tenant):
    digests = [add_key(tenant, f"key-{number}")[1] for number in range(3)]
    following.poll()
    ApiKey.objects.update(enabled=False)
    snapshot = following.poll()
    assert [snapshot.callers[known].enabled for known in digests] == [False] * 3
    # And goes on patching from there.
    ApiKey.objects.get(name="key-1").delete()
    assert set(following.poll().callers) == {digests[0], digests[2]}


def test_it_follows_keys_that_go_with_their_tenant(following, tenant):
    add_key(tenant, "ci")
    following.poll()
    tenant.delete()
    assert following.poll().callers == {}


def test_it_reads_everything_again_when_too_much_has_changed(following, tenant, monkeypatch):
    following.poll()
    monkeypatch.setattr("proxy.reading.MAX_CHANGES", 2)
    digests = {add_key(tenant, f"key-{number}")[1] for number in range(4)}
    assert set(following.poll().callers) == digests


def test_it_reads_everything_again_when_the_database_was_put_back(following, tenant):
    for number in range(3):
        add_key(tenant, f"key-{number}")
    following.poll()
    ConfigVersion.objects.update(version=1)
    ConfigChange.objects.filter(version__gt=1).delete()
    ApiKey.objects.all()._raw_delete("default")
    assert following.poll().callers == {}


@pytest.mark.parametrize("part", ["routes", "prices", "exclusions", "providers"])
def test_it_reads_only_the_part_that_changed(following, openai, monkeypatch, part):
    following.poll()
    read = []

    def reading(each):
        read.append(each)
        return rows._READERS[each]()

    monkeypatch.setattr(rows, "read_part", reading)
    {
        "routes": lambda: add_route("fast", openai),
        "prices": lambda: Price.objects.create(
            provider=openai, model="m", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1
        ),
        "exclusions": lambda: CacheExclusion.objects.create(pattern="m"),
        "providers": lambda: Provider.objects.update(max_connections=7),
    }[part]()
    following.poll()
    # A provider's name is in every other part.
    assert set(read) == (set(rows.SMALL_PARTS) if part == "providers" else {part})


def test_it_follows_a_providers_new_name_everywhere(following, openai):
    add_route("fast", openai)
    Price.objects.create(provider=openai, model="m", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1)
    following.poll()
    openai.name = "azure"
    openai.save()
    snapshot = following.poll()
    assert list(snapshot.accounts) == ["azure"]
    assert snapshot.exact_routes["fast"].targets[0].provider == "azure"
    assert snapshot.upstream("azure", "m").prices.rates


def test_it_follows_a_provider_that_is_deleted(following, openai):
    add_route("fast", openai)
    following.poll()
    openai.delete()
    snapshot = following.poll()
    assert snapshot.accounts == {}
    assert snapshot.exact_routes["fast"].targets == ()


def test_it_warns_of_what_cannot_serve(following, log):
    Provider.objects.create(
        name="openai", dialect="openai", base_url="http://x", credential="${NO_SUCH_VARIABLE_HERE}"
    )
    following.poll()
    assert "NO_SUCH_VARIABLE_HERE" in log.of("configuration")[0]["warning"]


# ---------------------------------------------------------------- limits


def rates_of(caller):
    return [(rule.id, rule.amount) for rule in caller.terms.rules.rates]


def test_it_patches_one_caller_for_a_changed_limit_of_its_key(following, tenant, monkeypatch):
    first, first_digest = add_key(tenant, "first")
    _, second_digest = add_key(tenant, "second")
    before = following.poll()
    monkeypatch.setattr(key_rows, "read_all", never)
    monkeypatch.setattr(rows, "read_part", never)
    limit = RateLimit.objects.create(key=first, amount=5, per="minute")
    snapshot = following.poll()
    assert rates_of(snapshot.callers[first_digest]) == [(f"rate:{limit.pk}", 5)]
    assert snapshot.callers[second_digest] is before.callers[second_digest]
    limit.amount = 6
    limit.save()
    assert rates_of(following.poll().callers[first_digest]) == [(f"rate:{limit.pk}", 6)]
    limit.enabled = False
    limit.save()
    assert following.poll().callers[first_digest].terms is USUAL
    budget = Budget.objects.create(key=first, amount_nanousd=5)
    assert [each.id for each in following.poll().callers[first_digest].terms.rules.ceilings] == [budget.pk]
    budget.delete()
    assert following.poll().callers[first_digest].terms is USUAL


def test_it_follows_a_limit_that_moves_from_one_key_to_another_and_to_a_tenant(following, tenant):
    first, first_digest = add_key(tenant, "first")
    second, second_digest = add_key(tenant, "second")
    limit = RateLimit.objects.create(key=first, amount=5, per="minute")
    assert rates_of(following.poll().callers[first_digest])
    limit.key = second
    limit.save()
    snapshot = following.poll()
    assert not rates_of(snapshot.callers[first_digest])
    assert rates_of(snapshot.callers[second_digest])
    limit.key, limit.tenant = None, tenant
    limit.save()
    snapshot = following.poll()
    assert not rates_of(snapshot.callers[second_digest])
    assert [each.amount for each in snapshot.tenant_rules[tenant.pk].rates] == [5]
    limit.delete()
    assert not following.poll().tenant_rules


def test_it_follows_bulk_updates_of_limits(following, tenant):
    key, known = add_key(tenant, "ci")
    RateLimit.objects.bulk_create(
        [RateLimit(key=key, amount=5, per="minute"), RateLimit(amount=6, per="minute")]
    )
    snapshot = following.poll()
    assert [each.amount for each in snapshot.rules.rates] == [6]
    RateLimit.objects.update(amount=7)
    snapshot = following.poll()
    assert [amount for _, amount in rates_of(snapshot.callers[known])] == [7]
    assert [each.amount for each in snapshot.rules.rates] == [7]
    RateLimit.objects.all().delete()
    snapshot = following.poll()
    assert not rates_of(snapshot.callers[known])
    assert not snapshot.rules


def test_budgets_follow_their_tenants_time_zone_and_those_of_its_keys_too(following, tenant, monkeypatch):
    key, known = add_key(tenant, "ci")
    _, other = add_key(tenant, "plain")
    Budget.objects.create(key=key, amount_nanousd=5)
    Budget.objects.create(tenant=tenant, amount_nanousd=6)
    before = following.poll()
    monkeypatch.setattr(key_rows, "read_all", never)

    def zones(snapshot):
        owned = (snapshot.tenant_rules[tenant.pk], snapshot.callers[known].terms.rules)
        return {each.zone.key for rules in owned for each in rules.ceilings}

    for zone in ("Asia/Tokyo", "Europe/Berlin", "UTC"):
        Tenant.objects.update(timezone=zone)
        snapshot = following.poll()
        assert zones(snapshot) == {zone}
        assert snapshot.callers[other] is before.callers[other]


def test_a_tenants_limits_bear_its_new_name(following, tenant):
    RateLimit.objects.create(tenant=tenant, amount=5, per="minute")
    following.poll()
    tenant.name = "renamed"
    tenant.save()
    assert following.poll().tenant_rules[tenant.pk].rates[0].holds_for == "tenant renamed"


def test_it_knows_both_secrets_of_a_rotated_key_and_forgets_both(following, tenant):
    key, old = add_key(tenant, "ci")
    following.poll()
    new = digest(key.rotate(until=timezone.now() + timedelta(days=1)))
    key.save()
    assert set(following.poll().callers) == {old, new}
    newest = digest(key.rotate(until=None))
    key.save()
    assert set(following.poll().callers) == {newest}
    key.delete()
    assert following.poll().callers == {}


def test_a_key_whose_row_cannot_be_is_told_of_and_unknown_and_all_else_goes_on(
    following, openai, tenant, log
):
    """An allow-list that cannot be read must never let everyone in."""
    key, known = add_key(tenant, "ci")
    following.poll()
    ApiKey.objects.filter(pk=key.pk).update(allowed_networks=["10.0.0.0/99"])
    _, other = add_key(tenant, "other")
    assert set(following.poll().callers) == {other}
    assert "key ci: allowed networks: '10.0.0.0/99'" in following.watcher.problem
    add_route("fast", openai)
    assert "fast" in following.poll().exact_routes
    assert "key ci" in following.watcher.problem
    assert len(log.of("configuration_refused")) == 1
    assert log.problems == ["configuration_refused"]
    ApiKey.objects.get(name="ci").save()  # read alone
    following.poll()
    assert "key ci" in following.watcher.problem
    key.save()
    assert set(following.poll().callers) == {known, other}
    assert following.watcher.problem == ""


def test_a_limit_that_cannot_be_leaves_the_last_good_ones_in_force(following, tenant):
    limit = RateLimit.objects.create(amount=5, per="minute")
    following.poll()
    RateLimit.objects.update(per="eon")
    assert [each.amount for each in following.poll().rules.rates] == [5]
    assert f"rate limit {limit.pk} of everyone" in following.watcher.problem
    RateLimit.objects.update(per="day")
    assert [each.per for each in following.poll().rules.rates] == ["day"]
    assert following.watcher.problem == ""


def test_what_is_kept_holds_all_limits_and_terms(tmp_path, monkeypatch, openai, tenant):
    key, old = add_key(tenant, "ci", denied_models=["a"], allowed_networks=["10.0.0.0/8"], tags={"b": "c"})
    new = digest(key.rotate(until=timezone.now() + timedelta(days=1)))
    key.save()
    RateLimit.objects.create(key=key, amount=5, per="minute")
    Budget.objects.create(tenant=tenant, amount_nanousd=6)
    good = Following(tmp_path, monkeypatch).poll()
    second = Following(tmp_path, monkeypatch)
    second.down()
    recalled = second.poll()
    assert set(recalled.callers) == {old, new}
    for known, caller in good.callers.items():
        assert caller_row(known, recalled.callers[known]) == caller_row(known, caller)
        assert rates_of(recalled.callers[known]) == rates_of(caller)
    assert recalled.callers[new].terms.denied == ("a",)
    assert recalled.tenant_rules[tenant.pk].ceilings[0].amount_nanousd == 6


def test_what_an_older_version_has_kept_is_served(following):
    """It knew no limits, no terms of keys, and no time zones of tenants."""
    parts = {**make_parts("openai"), "tenants": [{"id": 3, "queue_weight": 5}]}
    del parts["limits"]
    key = {
        "id": 1,
        "tenant_id": 3,
        "name": "ci",
        "prefix": "x",
        "digest": "ab" * 32,
        "enabled": True,
        "expires_at": None,
        "allowed_models": [],
    }
    kept.keep(following.kept_at, following.vault, version=1, parts=parts, keys=iter([key]))
    following.down()
    snapshot = following.poll()
    assert snapshot.callers[bytes.fromhex("ab" * 32)].terms is USUAL
    assert snapshot.tenant_weights == {3: 5}
    assert not snapshot.rules


# ---------------------------------------------------------------- a bad configuration


def test_it_goes_on_with_the_last_good_one_and_says_why(following, openai, log):
    good = following.poll()
    refused()
    for _ in range(3):
        assert following.poll().accounts == good.accounts
    assert "not a valid RE2 regex" in following.watcher.problem
    assert len(log.of("configuration_refused")) == 1


def test_it_takes_the_next_good_one(following, openai):
    following.poll()
    bad = refused()
    following.poll()
    bad.delete()
    following.poll()
    assert following.watcher.problem == ""


def test_it_takes_a_key_back_even_while_the_rest_is_bad(following, openai, tenant):
    """In the same look as the bad rows, and in a later one."""
    first, first_digest = add_key(tenant, "first")
    second, second_digest = add_key(tenant, "second")
    third, third_digest = add_key(tenant, "third")
    following.poll()
    first.enabled = False
    first.save()
    third.delete()
    refused()
    snapshot = following.poll()
    assert not snapshot.callers[first_digest].enabled
    assert third_digest not in snapshot.callers
    second.enabled = False
    second.save()
    snapshot = following.poll()
    assert not snapshot.callers[second_digest].enabled
    assert following.watcher.problem


def test_it_says_that_the_rows_are_bad_until_they_are_good(following, openai, tenant):
    following.poll()
    refused()
    following.poll()
    add_key(tenant, "ci")
    following.poll()
    assert following.watcher.problem
    Price.objects.create(provider=openai, model="m", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1)
    following.poll()
    assert following.watcher.problem


def test_it_loses_no_change_that_came_together_with_a_bad_one(following, openai):
    following.poll()
    add_route("fast", openai)
    bad = refused()
    assert "fast" not in following.poll().exact_routes
    bad.delete()
    assert "fast" in following.poll().exact_routes


def test_it_loses_no_change_that_came_while_the_rows_were_bad(following, openai):
    following.poll()
    bad = refused()
    following.poll()
    add_route("fast", openai)
    assert "fast" not in following.poll().exact_routes
    bad.delete()
    assert "fast" in following.poll().exact_routes


def test_it_lives_on_after_a_fault_of_ours(following, openai, monkeypatch, log):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(rows, "version", broken)
    assert following.poll() is None
    assert log.problems == ["snapshot_watcher"]
    monkeypatch.undo()
    assert following.poll() is not None


# ---------------------------------------------------------------- the database is down


def test_it_goes_on_without_a_database_and_says_so_once(following, openai, tenant, log):
    good = following.poll()
    following.down()
    for _ in range(3):
        following.poll()
    assert following.published == [good]
    assert not following.watcher.database_up
    add_key(tenant, "ci")
    following.up()
    following.poll()
    assert following.watcher.database_up
    assert len(following.published) == 2
    assert [line["up"] for line in log.of("database")] == [False]


def test_it_serves_the_kept_one_when_it_starts_without_a_database(tmp_path, monkeypatch, openai, tenant):
    _, known = add_key(tenant, "ci", allowed_models=["gpt-4o*"])
    add_route("fast", openai)
    first = Following(tmp_path, monkeypatch)
    good = first.poll()
    second = Following(tmp_path, monkeypatch)
    second.down()
    recalled = second.poll()
    assert recalled.callers == good.callers
    assert recalled.callers[known].allowed == ("gpt-4o*",)
    assert list(recalled.exact_routes) == ["fast"]
    assert recalled.version == good.version
    assert second.watcher.ready.is_set()
    # Once the database is back, everything is read anew.
    add_route("later", openai)
    second.up()
    assert set(second.poll().exact_routes) == {"fast", "later"}


def test_it_waits_when_there_is_nothing_kept(following):
    following.down()
    assert following.poll() is None
    assert not following.watcher.ready.is_set()
    following.up()
    assert following.poll() is not None


@pytest.mark.parametrize(
    "parts",
    [
        {"providers": []},  # an older version's, without the rest
        make_parts(provider_row(), routes=[{"match": "("}]),
        make_parts(provider_row(credential=Vault(["lost key"]).seal("secret"))),
        {**make_parts("openai"), "keys": [{"id": 1}]},
    ],
)
def test_it_lives_on_when_what_is_kept_is_of_no_use(following, parts):
    keys = iter(parts.pop("keys", []))
    kept.keep(following.kept_at, following.vault, version=1, parts=parts, keys=keys)
    following.down()
    assert following.poll() is None
    following.up()
    assert following.poll() is not None


def test_it_serves_the_kept_one_when_it_starts_on_bad_rows_with_the_keys_of_now(
    tmp_path, monkeypatch, openai, tenant
):
    """A worker that starts anew must not fail where one that runs goes on."""
    key, known = add_key(tenant, "ci")
    add_route("fast", openai)
    Following(tmp_path, monkeypatch).poll()
    refused()
    key.enabled = False
    key.save()
    second = Following(tmp_path, monkeypatch)
    snapshot = second.poll()
    assert list(snapshot.exact_routes) == ["fast"]
    assert not snapshot.callers[known].enabled
    assert second.watcher.problem


def test_it_does_not_read_everything_again_and_again_while_the_rows_are_bad(
    following, openai, django_assert_num_queries
):
    refused()
    assert following.poll() is None
    with django_assert_num_queries(1):
        following.poll()


def test_it_has_nothing_to_patch_while_nothing_is_in_force(following, openai, tenant):
    bad = refused()
    following.poll()
    _, known = add_key(tenant, "ci")
    assert following.poll() is None
    bad.delete()
    assert list(following.poll().callers) == [known]


def test_it_knows_that_the_database_is_up_though_the_rows_are_bad(following, openai):
    following.down()
    following.poll()
    following.up()
    refused()
    following.poll()
    assert following.watcher.problem
    assert following.watcher.database_up


# ---------------------------------------------------------------- keeping


def test_it_keeps_what_is_in_force(following, openai, tenant):
    _, known = add_key(tenant, "ci")
    following.poll()
    recalled = kept.recall(following.kept_at, following.vault)
    assert recalled is not None
    version, parts = recalled
    assert version == following.published[-1].version
    assert parts["keys"][0]["digest"] == known.hex()
    assert parts["providers"][0]["name"] == "openai"


def test_it_keeps_at_most_every_ten_seconds(following, openai, tenant, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(watcher.time, "monotonic", lambda: now)
    written = []
    monkeypatch.setattr(kept, "keep", lambda *_, version, **__: written.append(version))
    following.poll()
    for later in (1.0, 5.0, 9.9):
        add_key(tenant, f"key-{later}")
        now = 1000.0 + later
        following.poll()
    assert len(written) == 1
    now = 1010.0
    following.poll()
    now = 1030.0
    following.poll()
    assert written[1:] == [following.published[-1].version]


def test_it_keeps_no_configuration_that_is_bad(following, openai, monkeypatch):
    following.poll()
    good = kept.recall(following.kept_at, following.vault)
    refused()
    following.poll()
    following.watcher._keep()
    assert kept.recall(following.kept_at, following.vault) == good


def test_it_keeps_what_is_not_yet_kept_when_it_ends(following, openai, tenant, monkeypatch):
    following.poll()
    _, known = add_key(tenant, "ci")
    following.poll()
    monkeypatch.setattr(watcher, "connection", SimpleNamespace(close=lambda: None))
    following.watcher._closing = True
    following.watcher._run()
    recalled = kept.recall(following.kept_at, following.vault)
    assert recalled is not None
    assert [row["digest"] for row in recalled[1]["keys"]] == [known.hex()]


def test_it_tries_again_to_keep_what_it_could_not(following, openai, monkeypatch, log):
    def full(*_, **__):
        raise OSError("no space")

    now = watcher.time.monotonic() - 1000.0
    monkeypatch.setattr(watcher.time, "monotonic", lambda: now)
    monkeypatch.setattr(kept, "keep", full)
    following.poll()
    assert log.problems == ["snapshot_not_kept"]
    monkeypatch.undo()
    following.poll()
    assert kept.recall(following.kept_at, following.vault) is not None


# ---------------------------------------------------------------- the thread


@pytest.mark.django_db(transaction=True)
def test_it_follows_by_itself_and_ends_when_told(following, openai, tenant):
    following.watcher.start()
    try:
        eventually(following.watcher.ready.is_set, what="the first snapshot")
        _, known = add_key(tenant, "ci")
        following.watcher.poke()
        eventually(lambda: known in following.published[-1].callers, what="the new key")
    finally:
        following.watcher.close()
    assert not following.watcher._thread.is_alive()
    assert kept.recall(following.kept_at, following.vault) is not None


def test_it_can_be_closed_without_having_been_started(following):
    following.watcher.close()
