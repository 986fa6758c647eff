import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from config.models import ConfigChange, current_version
from providers.models import Provider
from proxy.models import CacheExclusion, GatewaySettings, Route, Target, UpstreamState

pytestmark = pytest.mark.django_db


@pytest.fixture
def openai():
    return Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test/v1")


def changed_parts(after):
    return list(ConfigChange.objects.filter(version__gt=after).values_list("part", flat=True))


@pytest.mark.parametrize(("model", "field"), [(Route, "match"), (CacheExclusion, "pattern")])
@pytest.mark.parametrize("pattern", ["(", "[a", "(?=x)"])
def test_it_refuses_a_regex_with_re2s_words(model, field, pattern):
    with pytest.raises(ValidationError) as raised:
        model(kind="regex", **{field: pattern}).full_clean()
    assert "not a valid RE2 regex" in raised.value.message_dict[field][0]


@pytest.mark.parametrize(("model", "field"), [(Route, "match"), (CacheExclusion, "pattern")])
def test_it_takes_brackets_in_a_name_and_a_good_regex(model, field):
    model(kind="exact", **{field: "("}).full_clean()
    model(kind="regex", **{field: "^gpt-(4|5)"}).full_clean()


def test_it_has_a_route_once_per_kind_and_match():
    Route.objects.create(match="fast")
    Route.objects.create(match="fast", kind="prefix")
    with pytest.raises(IntegrityError), transaction.atomic():
        Route.objects.create(match="fast")


def test_it_excludes_once():
    CacheExclusion.objects.create(pattern="m")
    with pytest.raises(IntegrityError), transaction.atomic():
        CacheExclusion.objects.create(pattern="m")


def test_it_reads_well(openai):
    route = Route(match="gpt-4o*", kind="prefix")
    assert str(route) == "gpt-4o*"
    assert str(Target(route=route, provider=openai, model="gpt-4o")) == "openai/gpt-4o"
    assert str(Target(route=route, provider=openai)) == "openai/(as asked)"
    assert str(CacheExclusion(pattern="-preview$")) == "-preview$"
    assert str(GatewaySettings()) == "Gateway settings"


def test_it_announces_what_it_changes(openai):
    before = current_version()
    route = Route.objects.create(match="fast")
    target = Target.objects.create(route=route, provider=openai)
    target.delete()
    CacheExclusion.objects.create(pattern="m")
    assert changed_parts(before) == ["routes", "routes", "routes", "exclusions"]


def test_it_has_one_row_of_settings(openai):
    first = GatewaySettings.load()
    GatewaySettings(default_provider=openai).save()
    assert GatewaySettings.objects.count() == 1
    assert GatewaySettings.load() == first
    assert GatewaySettings.load().default_provider == openai


def test_it_purges_the_cache_by_a_new_epoch():
    before = current_version()
    assert [GatewaySettings.purge_cache() for _ in range(3)] == [1, 2, 3]
    assert set(changed_parts(before)) == {"settings"}


def test_it_forgets_a_default_provider_that_is_deleted_and_says_so(openai):
    settings = GatewaySettings.load()
    settings.default_provider = openai
    settings.save()
    before = current_version()
    openai.delete()
    assert GatewaySettings.load().default_provider is None
    assert {"providers", "settings"} <= set(changed_parts(before))


# ---------------------------------------------------------------- resilience


def refused(row):
    with pytest.raises(ValidationError) as raised:
        row.full_clean()
    return raised.value.message_dict


@pytest.mark.parametrize(
    ("fields", "column", "words"),
    [
        ({"role": "canary"}, "percent", "a canary needs a percentage of requests above 0"),
        ({"role": "canary", "percent": 0}, "percent", "a canary needs a percentage of requests above 0"),
        ({"percent": 5}, "percent", "only a canary or a shadow has one"),
        ({"role": "on_content_filter", "percent": 5}, "percent", "only a canary or a shadow has one"),
        ({"role": "shadow", "percent": 101}, "percent", "less than or equal to 100"),
        ({"role": "shadow", "percent": -1}, "percent", "greater than or equal to 0"),
        ({"shadow_budget_nanousd_per_day": 1}, "shadow_budget_nanousd_per_day", "only a shadow has one"),
        (
            {"role": "shadow", "shadow_budget_nanousd_per_day": -1},
            "shadow_budget_nanousd_per_day",
            "greater than or equal to 0",
        ),
        ({"context_window": 0}, "context_window", "greater than or equal to 1"),
        ({"role": "understudy"}, "role", "not a valid choice"),
    ],
)
def test_it_says_at_the_field_what_a_target_cannot_be(openai, fields, column, words):
    found = refused(Target(route=Route.objects.create(match="a"), provider=openai, **fields))
    assert list(found) == [column]
    assert words in " ".join(found[column])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"role": "canary", "percent": 0.5},
        {"role": "shadow"},
        {"role": "shadow", "percent": 0, "shadow_budget_nanousd_per_day": 0},
        {"role": "on_context_overflow", "context_window": 1},
    ],
)
def test_it_takes_a_target_of_each_role(openai, fields):
    Target(route=Route.objects.create(match="a"), provider=openai, **fields).full_clean()


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"sticky": "cookie"}, "sticky"),
        ({"sticky_header": "two words"}, "sticky_header"),
        ({"sticky_header": "colon:"}, "sticky_header"),
        ({"sticky_header": "line\n"}, "sticky_header"),
        ({"sticky": "header", "sticky_header": "User"}, "sticky_header"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"first_content_timeout_s": 0}, "first_content_timeout_s"),
        ({"idle_timeout_s": -1}, "idle_timeout_s"),
        ({"total_timeout_s": 0}, "total_timeout_s"),
    ],
)
def test_it_says_at_the_field_what_a_route_cannot_be(fields, column):
    assert list(refused(Route(match="a", **fields))) == [column]


def test_it_takes_the_usual_header_for_an_empty_one():
    route = Route(match="a", sticky="header", sticky_header="")
    route.full_clean()
    assert route.sticky_header == "x-session-id"


def test_it_bumps_nothing_for_a_workers_report():
    version = current_version()
    UpstreamState.report([UpstreamState(upstream="openai/a", state="open", failures=3, worker="w1")])
    UpstreamState.objects.filter(upstream="openai/a").update(state="half_open", reason="502")
    assert current_version() == version
    assert UpstreamState.objects.values_list("state", "failures", "reason").get() == ("half_open", 3, "502")


def test_it_leaves_to_operators_what_is_theirs_when_a_worker_reports():
    UpstreamState.report([UpstreamState(upstream="openai/a", state="open")])
    row = UpstreamState.objects.get()
    version = current_version()
    row.held_open = True
    row.save(update_fields=["held_open"])
    assert changed_parts(version) == ["upstreams"]
    version = current_version()
    UpstreamState.report([UpstreamState(upstream=name, reason="x") for name in ("openai/a", "openai/b")])
    assert current_version() == version
    assert list(UpstreamState.objects.values_list("upstream", "state", "held_open", "reason")) == [
        ("openai/a", "closed", True, "x"),
        ("openai/b", "closed", False, "x"),
    ]


@pytest.mark.parametrize("columns", [{"held_open": True}, {"held_open": True, "state": "open"}])
def test_it_bumps_the_version_with_what_operators_ask(columns):
    UpstreamState.report([UpstreamState(upstream="openai/a")])
    version = current_version()
    UpstreamState.objects.update(**columns)
    assert changed_parts(version) == ["upstreams"]
