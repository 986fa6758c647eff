from dataclasses import FrozenInstanceError

import pytest

from config.vault import Vault
from keys.caller import Caller
from providers.faults import Faults
from providers.pricing import cost_nanousd
from providers.usage import Usage
from proxy.callers import caller_row, compile_callers
from proxy.compiling import check, compile_parts
from proxy.snapshot import (
    MAX_MEMO,
    ConfigurationError,
    with_callers,
)
from proxy.tests.fakes import (
    environment,
    make_parts,
    make_snapshot,
    price_row,
    provider_row,
    route_row,
    settings_row,
)

DIGEST = bytes(range(32))
ROW = {
    "id": 7,
    "tenant_id": 3,
    "name": "ci",
    "prefix": "sk-gw-abcdef",
    "digest": DIGEST.hex(),
    "enabled": True,
    "expires_at": 5.0,
    "allowed_models": ["gpt-4o*"],
}


def refused(match, *providers, **parts):
    with pytest.raises(ConfigurationError, match=match):
        make_snapshot(*providers, **parts)


# ---------------------------------------------------------------- accounts


def test_it_compiles_an_account():
    row = provider_row(
        credential="plain", extra_headers={"x-team": "blue"}, base_url="https://api/v1/", max_connections=3
    )
    account = make_snapshot(row).accounts["openai"]
    assert account.base_url == "https://api/v1"
    assert account.headers == {"x-team": "blue", "authorization": "Bearer plain"}
    assert (account.max_connections, account.usable, account.why_unusable) == (3, True, "")
    assert account.timeouts.first_content_s == 30.0
    assert (account.timeouts.total_s, account.timeouts.total_json_s) == (600.0, 600.0)


def test_it_reads_provider_timeout_as_first_content_of_streams_and_total_of_the_rest(settings):
    settings.GATEWAY = environment(provider_timeout_s=12.0)
    timeouts = make_snapshot("openai").accounts["openai"].timeouts
    assert (timeouts.first_content_s, timeouts.total_json_s, timeouts.total_s) == (12.0, 12.0, 600.0)
    own = provider_row(first_content_timeout_s=3.0, total_timeout_s=40.0)
    timeouts = make_snapshot(own).accounts["openai"].timeouts
    assert (timeouts.first_content_s, timeouts.total_json_s, timeouts.total_s) == (3.0, 40.0, 40.0)


def test_it_leaves_disabled_providers_out():
    assert "openai" not in make_snapshot(provider_row(enabled=False)).accounts


def test_it_shows_the_credential_in_the_providers_own_header():
    row = provider_row(credential="plain", auth_header="Api-Key")
    assert make_snapshot(row).accounts["openai"].headers == {"api-key": "plain"}


def test_it_opens_a_sealed_credential(settings):
    row = provider_row(credential=Vault(settings.SECRET_KEYS).seal("secret"))
    assert make_snapshot(row).accounts["openai"].headers == {"authorization": "Bearer secret"}


def test_it_refuses_a_credential_that_no_key_opens():
    refused("provider openai: no key", provider_row(credential=Vault(["another"]).seal("secret")))


@pytest.mark.parametrize("value", [None, ""])
def test_it_says_which_variable_is_not_set(monkeypatch, value):
    """An empty variable is an unset one everywhere: compose passes those that nobody filled in."""
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("VENDOR_KEY", value)
    snapshot = make_snapshot(provider_row(credential="${VENDOR_KEY}"))
    account = snapshot.accounts["openai"]
    assert not account.usable
    assert account.why_unusable == "the environment variable VENDOR_KEY is not set"
    assert list(snapshot.warnings) == [f"provider openai: {account.why_unusable}"]
    monkeypatch.setenv("VENDOR_KEY", "secret")
    assert make_snapshot(provider_row(credential="${VENDOR_KEY}")).accounts["openai"].usable


def test_it_says_which_dialect_this_version_does_not_speak():
    snapshot = make_snapshot(provider_row("x", dialect="klingon"), "openai")
    assert snapshot.accounts["x"].why_unusable == "this version does not speak the klingon dialect"
    assert snapshot.accounts["openai"].usable


# ---------------------------------------------------------------- routes, exclusions


@pytest.mark.parametrize("part", ["routes", "exclusions"])
def test_it_refuses_a_bad_regex_and_says_which(part):
    rows = {
        "routes": [route_row("(gpt", "openai", kind="regex")],
        "exclusions": [{"kind": "regex", "pattern": "(gpt"}],
    }
    refused(r"'\(gpt': not a valid RE2 regex: missing \)", "openai", **{part: rows[part]})


def test_it_sorts_routes_by_priority_then_length():
    routes = [
        route_row("a*", "openai", kind="prefix"),
        route_row("abc*", "openai", kind="prefix"),
        route_row("^x", "openai", kind="regex", priority=5),
        route_row("b", "openai"),
    ]
    snapshot = make_snapshot("openai", routes=routes)
    assert [route.match for route in snapshot.searched_routes] == ["^x", "abc", "a"]
    assert list(snapshot.exact_routes) == ["b"]


def test_it_refuses_a_target_that_could_not_go_out_in_a_header():
    refused("control characters", "openai", routes=[route_row("a", "openai/b\nc")])


def test_it_excludes_by_name_and_regex_from_rows_and_environment(settings):
    settings.GATEWAY = environment(cache_exclude_exact=("a",), cache_exclude_patterns=("-x$", "-y$"))
    rows = [{"kind": "exact", "pattern": "b"}, {"kind": "regex", "pattern": "-y$"}]
    match = make_snapshot("openai", exclusions=rows).exclusions.match
    assert [match(name) for name in ("a", "b", "c", "m-x", "m-y", "m-x-z")] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert match("c", "a")
    assert not match()


# ---------------------------------------------------------------- models, settings


def test_it_lists_models_of_enabled_providers_by_their_prefixed_id():
    rows = [
        {"provider__name": name, "name": "m", "created": 3, "owned_by": owner}
        for name, owner in [("openai", "them"), ("vllm", ""), ("gone", "")]
    ]
    models = make_snapshot("openai", "vllm", models=rows).models
    assert [(each.id, each.name, each.created, each.owned_by) for each in models] == [
        ("openai/m", "m", 3, "them"),
        ("vllm/m", "m", 3, "vllm"),
    ]


def test_it_lists_the_demo_vendors_models_without_asking_it():
    rows = [{"provider__name": "demo", "name": "old", "created": 0, "owned_by": ""}]
    snapshot = make_snapshot(provider_row("demo", base_url="demo://"), models=rows)
    assert [each.id for each in snapshot.models] == ["demo/echo", "demo/lorem", "demo/embed"]
    assert snapshot.accounts["demo"].base_url == "demo://"


@pytest.mark.parametrize(
    ("row", "env", "expected"),
    [
        ({}, {}, ("", "demo/echo", 3600.0)),
        ({}, {"default_provider": "e", "default_model": "m"}, ("e", "m", 3600.0)),
        (
            {"default_provider__name": "r", "default_model": "n", "cache_ttl_s": 5},
            {"default_provider": "e", "default_model": "m", "cache_ttl_s": 7.0},
            ("r", "n", 5.0),
        ),
        ({}, {"cache_ttl_s": 7.0}, ("", "demo/echo", 7.0)),
    ],
)
def test_it_lets_a_row_win_over_the_environment(settings, row, env, expected):
    settings.GATEWAY = environment(**env)
    snapshot = make_snapshot("demo", settings=[settings_row(**row)])
    assert (snapshot.default_provider, snapshot.default_model, snapshot.cache_ttl_s) == expected


def test_it_has_no_default_model_where_there_is_no_demo():
    assert make_snapshot("openai").default_model == ""


def test_it_does_without_a_row_of_settings():
    assert make_snapshot("openai", settings=[]).cache_epoch == 0


# ---------------------------------------------------------------- prices


def price_of(rows, model, now=1000.0):
    rates = make_snapshot("openai", prices=rows).upstream("openai", model).prices.at(now)
    return rates and rates.price_id


@pytest.mark.parametrize(
    ("rows", "model", "price"),
    [
        ([("gpt-4o", {})], "gpt-4o", 0),
        ([("gpt-4o", {})], "gpt-4o-mini", None),
        ([("gpt-4o*", {})], "gpt-4o-mini", 0),
        ([("gpt-4o*", {}), ("gpt-4o-mini*", {})], "gpt-4o-mini-2", 1),
        ([("gpt-4o*", {}), ("gpt-4o", {})], "gpt-4o", 1),
        ([("*", {})], "anything", 0),
        # The latest in force.
        ([("m", {"effective_from": 10.0}), ("m", {"effective_from": 20.0})], "m", 1),
        ([("m", {"effective_from": 10.0}), ("m", {"effective_from": 2000.0})], "m", 0),
        ([("m", {"effective_from": 2000.0})], "m", None),
        # The operator's, even if older, or for more models.
        ([("m", {"source": "builtin", "effective_from": 20.0}), ("m", {"effective_from": 10.0})], "m", 1),
        ([("m", {"source": "builtin"}), ("m*", {})], "m", 1),
        # One not yet in force hides no other.
        ([("m", {"effective_from": 2000.0}), ("m*", {"source": "builtin"})], "m", 1),
    ],
)
def test_it_chooses_the_price(rows, model, price):
    numbered = [price_row("openai", name, id=place, **fields) for place, (name, fields) in enumerate(rows)]
    assert price_of(numbered, model) == price


def test_it_knows_no_price_of_another_providers_model():
    assert price_of([price_row("vllm", "gpt-4o")], "gpt-4o") is None


def test_it_knows_parts_tiers_and_the_longest_answer_of_an_upstream():
    tiers = [{"above_prompt_tokens": 100, "input": 9 * 10**9}]
    row = price_row("openai", "m", audio_output_nanousd_per_mtok=7, tiers=tiers, max_output_tokens=50)
    upstream = make_snapshot("openai", prices=[row]).upstream("openai", "m")
    rates = upstream.prices.at(0.0)
    assert (rates.audio_output, rates.dearest_input, upstream.max_output) == (7, 9 * 10**9, 50)
    assert cost_nanousd(Usage(prompt=101), rates) == 909_000
    assert (
        make_snapshot("openai", prices=[price_row("openai", "m")]).upstream("openai", "m").max_output is None
    )


def test_it_compiles_all_rates():
    row = price_row("openai", "m", cached_input_nanousd_per_mtok=3, cache_write_nanousd_per_mtok=4)
    rates = make_snapshot("openai", prices=[row]).upstream("openai", "m").prices.at(1.0)
    assert (rates.input, rates.output, rates.cached_input, rates.cache_write) == (10**9, 2 * 10**9, 3, 4)


# ---------------------------------------------------------------- callers


def test_it_compiles_a_caller_and_writes_it_back():
    ((digest, caller),) = compile_callers(ROW).items()
    assert digest == DIGEST
    assert caller == Caller(7, 3, "ci", "sk-gw-abcdef", expires_at=5.0, allowed=("gpt-4o*",))
    assert caller_row(digest, caller) == ROW


def test_it_swaps_callers_and_keeps_what_was_derived_from_the_rest():
    old = make_snapshot("openai")
    upstream = old.upstream("openai", "gpt-4o")
    new = with_callers(old, 2, compile_callers(ROW))
    assert new.callers[DIGEST].key_id == 7
    assert not old.callers
    assert (old.version, new.version) == (1, 2)
    assert new.upstream("openai", "gpt-4o") is upstream


def test_it_never_changes():
    with pytest.raises(FrozenInstanceError):
        make_snapshot("openai").version = 2  # type: ignore[misc]  # that it is refused is the test


def test_it_bounds_what_it_derives():
    snapshot = make_snapshot("openai")
    for number in range(MAX_MEMO + 5):
        snapshot.remember(number, number)
    assert len(snapshot.memo) == 5


@pytest.mark.django_db
def test_it_checks_the_rows_as_they_are():
    from providers.models import Provider
    from proxy.models import Route

    Provider.objects.create(name="openai", dialect="openai", base_url="http://x")
    assert check() == ""
    Route.objects.create(match="(", kind="regex")
    assert "not a valid RE2 regex" in check()


def test_it_compiles_no_parts_it_was_not_given():
    parts = make_parts("openai")
    del parts["prices"]
    with pytest.raises(KeyError):
        compile_parts(1, parts, {})


# ---------------------------------------------------------------- faults


def test_it_compiles_faults_of_the_demo_alone():
    rows = [
        provider_row("demo", base_url="demo://"),
        provider_row("demo-a", base_url="demo://", fault_status=503, fault_percent=30.0),
        provider_row("spared", base_url="demo://", fault_status=503, fault_percent=0.0),
        provider_row("real", fault_status=503),
    ]
    snapshot = make_snapshot(*rows)
    faults = {name: account.faults for name, account in snapshot.accounts.items()}
    assert faults == {"demo": None, "demo-a": Faults(percent=30.0, status=503), "spared": None, "real": None}


def test_it_warns_of_a_provider_that_fails_on_purpose():
    snapshot = make_snapshot(provider_row("demo-a", base_url="demo://", fault_stall_after=2))
    assert snapshot.warnings == ["provider demo-a fails on purpose: 100 % of requests: silent after 2 pieces"]
