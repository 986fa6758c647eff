import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from config.models import ConfigChange, current_version
from providers.models import Provider
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

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
