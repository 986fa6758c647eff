import pytest

from proxy.errors import NotFound, Unavailable
from proxy.routing import resolve
from proxy.tests.fakes import (
    make_snapshot,
    price_row,
    provider_row,
    route_row,
    settings_row,
    target_row,
)

VENDORS = ("openai", "anthropic", "gemini", "mistral")
REFERENCE = provider_row("unset", credential="${NO_SUCH_VARIABLE_HERE}")


def ids(snapshot, model):
    return [upstream.id for upstream in resolve(snapshot, model).upstreams]


ROUTES = [
    route_row("fast", "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"),
    route_row("gpt-4o", "mistral"),
    route_row("gpt-*", "gemini", kind="prefix"),
    route_row("gpt-4*", "anthropic", kind="prefix"),
    route_row("^llama-[0-9]+$", "openai/llama", kind="regex"),
    route_row("vip-*", "openai", kind="prefix"),
    route_row("vip", "gemini", kind="regex", priority=10),
    route_row("^gpt-5", "mistral", kind="regex", priority=-10),
    route_row("gemini/*", "mistral", kind="prefix"),
]


@pytest.mark.parametrize(
    ("model", "route", "upstreams"),
    [
        # An exact route before everything else.
        ("fast", "exact:fast", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]),
        ("gpt-4o", "exact:gpt-4o", ["mistral/gpt-4o"]),
        # The longest prefix.
        ("gpt-4o-mini", "prefix:gpt-4*", ["anthropic/gpt-4o-mini"]),
        ("gpt-3.5-turbo", "prefix:gpt-*", ["gemini/gpt-3.5-turbo"]),
        ("gpt-", "prefix:gpt-*", ["gemini/gpt-"]),
        ("gpt-5", "prefix:gpt-*", ["gemini/gpt-5"]),
        # A regex is searched anywhere unless it is anchored.
        ("llama-3", "regex:^llama-[0-9]+$", ["openai/llama"]),
        ("my-vip-model", "regex:vip", ["gemini/my-vip-model"]),
        # Priority before length.
        ("vip-model", "regex:vip", ["gemini/vip-model"]),
        # A route before provider/model.
        ("gemini/gemini-2.5-pro", "prefix:gemini/*", ["mistral/gemini/gemini-2.5-pro"]),
        # provider/model before the built-in prefixes; the rest of the name goes to the vendor.
        ("openai/claude-haiku-4-5", "provider:openai", ["openai/claude-haiku-4-5"]),
        ("openai/meta/llama", "provider:openai", ["openai/meta/llama"]),
        # The built-in prefixes.
        ("o1", "builtin:openai", ["openai/o1"]),
        ("o3-mini", "builtin:openai", ["openai/o3-mini"]),
        ("o4-mini", "builtin:openai", ["openai/o4-mini"]),
        ("chatgpt-4o-latest", "builtin:openai", ["openai/chatgpt-4o-latest"]),
        ("text-embedding-3-small", "builtin:openai", ["openai/text-embedding-3-small"]),
        ("text-embedding-004", "builtin:gemini", ["gemini/text-embedding-004"]),
        ("embedding-001", "builtin:gemini", ["gemini/embedding-001"]),
        ("claude-haiku-4-5", "builtin:anthropic", ["anthropic/claude-haiku-4-5"]),
        ("gemini-2.5-pro", "builtin:gemini", ["gemini/gemini-2.5-pro"]),
        ("mistral-large", "builtin:mistral", ["mistral/mistral-large"]),
        ("mixtral-8x7b", "builtin:mistral", ["mistral/mixtral-8x7b"]),
        ("codestral-latest", "builtin:mistral", ["mistral/codestral-latest"]),
        ("ministral-8b", "builtin:mistral", ["mistral/ministral-8b"]),
    ],
)
def test_it_follows_the_order_of_the_rules(model, route, upstreams):
    snapshot = make_snapshot(*VENDORS, routes=ROUTES)
    assert resolve(snapshot, model).route == route
    assert ids(snapshot, model) == upstreams


@pytest.mark.parametrize("model", ["unknown", "nobody/gpt", "openai/", "/gpt", "o1x", "GPT-4o", "xgpt-4"])
def test_it_knows_no_model_without_a_rule(model):
    with pytest.raises(NotFound) as raised:
        resolve(make_snapshot("openai"), model)
    assert (raised.value.status, raised.value.code, raised.value.param) == (404, "model_not_found", "model")


def test_it_asks_the_default_provider_last():
    snapshot = make_snapshot("openai", "vllm", settings=[settings_row(default_provider__name="vllm")])
    assert ids(snapshot, "some-model") == ["vllm/some-model"]
    assert ids(snapshot, "gpt-4o") == ["openai/gpt-4o"]
    assert ids(snapshot, "nobody/some-model") == ["vllm/nobody/some-model"]
    # A built-in vendor that this installation has not.
    assert ids(snapshot, "claude-haiku-4-5") == ["vllm/claude-haiku-4-5"]


def test_it_has_no_default_that_does_not_exist():
    with pytest.raises(NotFound):
        resolve(make_snapshot("openai", settings=[settings_row(default_provider__name="gone")]), "x")


def test_it_skips_targets_that_cannot_serve():
    disabled = provider_row("off", enabled=False)
    routes = [route_row("fast", "off", "unset", "openai/gpt-4o", "deleted")]
    snapshot = make_snapshot("openai", disabled, REFERENCE, routes=routes)
    assert ids(snapshot, "fast") == ["openai/gpt-4o"]
    assert resolve(snapshot, "fast").weights == (1,)


@pytest.mark.parametrize(
    ("model", "why"), [("fast", "route"), ("unset/gpt-4o", "NO_SUCH_VARIABLE_HERE"), ("empty", "route")]
)
def test_it_says_what_is_missing_when_nobody_can_serve(model, why):
    snapshot = make_snapshot(REFERENCE, routes=[route_row("fast", "unset"), route_row("empty")])
    with pytest.raises(Unavailable, match=why) as raised:
        resolve(snapshot, model)
    assert (raised.value.status, raised.value.code) == (503, "no_usable_provider")


def test_it_resolves_a_model_once_per_snapshot():
    snapshot = make_snapshot("openai")
    first = resolve(snapshot, "gpt-4o")
    assert resolve(snapshot, "gpt-4o") is first
    assert resolve(make_snapshot("openai"), "gpt-4o") is not first
    # The same upstream, whichever way leads to it.
    assert resolve(snapshot, "openai/gpt-4o").upstreams[0] is first.upstreams[0]


def test_it_forgets_rather_than_grows_when_clients_make_up_names():
    snapshot = make_snapshot("openai")
    for number in range(6000):
        resolve(snapshot, f"gpt-{number}")
    assert len(snapshot.memo) <= 10_000


def test_it_tells_answers_apart_that_come_from_elsewhere():
    """The fingerprint is part of the cache key."""

    def fingerprint(model, *providers, routes=()):
        return resolve(make_snapshot(*providers, routes=list(routes)), model).fingerprint

    here, there = provider_row("a", base_url="http://here"), provider_row("a", base_url="http://there")
    for model, routes in [("fast", [route_row("fast", "a/x")]), ("a/x", [])]:
        assert fingerprint(model, here, routes=routes) == fingerprint(model, here, routes=routes)
        assert fingerprint(model, here, routes=routes) != fingerprint(model, there, routes=routes)
    assert fingerprint("fast", here, routes=[route_row("fast", "a/x")]) != fingerprint(
        "fast", here, routes=[route_row("fast", "a/y")]
    )


# ---------------------------------------------------------------- roles, timeouts, windows


def resolved(*targets, providers=("openai", "anthropic"), **fields):
    return resolve(make_snapshot(*providers, routes=[route_row("fast", *targets, **fields)]), "fast")


def names(upstreams):
    return [each.id for each in upstreams]


def test_it_tells_a_routes_targets_apart_by_their_roles():
    found = resolved(
        target_row("openai/shadow", role="shadow", percent=10.0, shadow_budget_nanousd_per_day=5),
        target_row("openai/canary", role="canary", percent=2.5, weight=9),
        "openai/a",
        target_row("anthropic/large", role="on_context_overflow"),
        target_row("anthropic/free", role="on_content_filter"),
        target_row("anthropic/b", weight=3),
    )
    assert names(found.upstreams) == ["openai/canary", "openai/a", "anthropic/b"]
    assert (found.canaries, found.weights) == ((2.5, 0.0, 0.0), (0, 1, 3))
    assert names(found.on_context_overflow) == ["anthropic/large"]
    assert names(found.on_content_filter) == ["anthropic/free"]
    (shadow,) = found.shadows
    assert (shadow.upstream.id, shadow.percent, shadow.budget_nanousd) == ("openai/shadow", 10.0, 5)


def test_it_mirrors_nothing_to_a_shadow_of_no_requests():
    assert resolved("openai/a", target_row("openai/b", role="shadow", percent=0.0)).shadows == ()


def test_it_costs_nothing_where_nothing_is_configured():
    found = resolved("openai/a")
    assert (found.canaries, found.sticky, found.shadows) == ((), "", ())
    assert (found.on_context_overflow, found.on_content_filter) == ((), ())
    assert (found.hedges, found.continues) == (False, False)


def test_it_hands_on_how_a_route_treats_its_targets():
    found = resolved(
        "openai/a",
        strategy="least_busy",
        sticky="header",
        sticky_header="X-S",
        hedge=True,
        continue_streams=True,
    )
    assert (found.strategy, found.sticky, found.hedges, found.continues) == ("least_busy", "x-s", True, True)


@pytest.mark.parametrize("role", ["on_context_overflow", "on_content_filter", "shadow"])
def test_it_uses_only_usable_providers_in_chains_and_shadows(role):
    off = provider_row("off", enabled=False)
    others = [target_row(name, role=role) for name in ("off/a", "unset/b", "deleted/c")]
    found = resolved("openai/a", *others, providers=("openai", off, REFERENCE))
    assert (found.on_context_overflow, found.on_content_filter, found.shadows) == ((), (), ())


@pytest.mark.parametrize("role", ["on_context_overflow", "on_content_filter", "shadow"])
def test_it_serves_nothing_by_chains_and_shadows_alone(role):
    with pytest.raises(Unavailable, match="its route has no target"):
        resolved(target_row("openai/a", role=role))


def test_it_merges_a_routes_timeouts_over_the_providers():
    own = provider_row(idle_timeout_s=7.0, connect_timeout_s=4.0, total_timeout_s=100.0)
    snapshot = make_snapshot(
        own,
        routes=[
            route_row("fast", "openai/m", connect_timeout_s=1.0, first_content_timeout_s=2.0),
            route_row("slow", "openai/m", total_timeout_s=900.0, idle_timeout_s=90.0),
        ],
    )
    plain, fast, slow = (resolve(snapshot, name).upstreams[0] for name in ("openai/m", "fast", "slow"))
    assert plain.id == fast.id == slow.id == "openai/m"
    assert plain.timeouts == plain.account.timeouts
    assert (fast.timeouts.connect_s, fast.timeouts.first_content_s) == (1.0, 2.0)
    assert (fast.timeouts.idle_s, fast.timeouts.total_s, fast.timeouts.total_json_s) == (7.0, 100.0, 100.0)
    assert (slow.timeouts.connect_s, slow.timeouts.idle_s) == (4.0, 90.0)
    assert (slow.timeouts.total_s, slow.timeouts.total_json_s) == (900.0, 900.0)
    assert fast.account is slow.account is plain.account


def test_it_has_the_same_upstream_by_every_credential():
    row = provider_row(credential="a", credentials=[{"name": "b", "credential": "second"}])
    snapshot = make_snapshot(
        row,
        prices=[price_row("openai", "m", context_window=8000)],
        routes=[route_row("fast", "openai/m", idle_timeout_s=3.0)],
    )
    first = resolve(snapshot, "fast").upstreams[0]
    (spare,) = first.spares
    assert (spare.id, spare.model, spare.prices) == (first.id, first.model, first.prices)
    assert (spare.timeouts, spare.context_window) == (first.timeouts, 8000)
    assert (spare.account, spare.spares) == (first.account.spares[0], ())
    assert "second" in spare.account.headers["authorization"]


@pytest.mark.parametrize(
    ("own", "rows", "expected"),
    [
        (None, [], None),
        (5, [("m", {"context_window": 6})], 5),
        (None, [("m", {"context_window": 6})], 6),
        (None, [("m", {"context_window": 6, "source": "builtin"}), ("m*", {"context_window": 7})], 7),
        # An operator's price that does not say it leaves it to the built-in one.
        (None, [("m", {}), ("m", {"context_window": 6, "source": "builtin"})], 6),
        (None, [("m*", {"context_window": 8}), ("m", {"context_window": 6})], 6),
        (None, [("other", {"context_window": 6})], None),
    ],
)
def test_it_knows_a_models_context_window_by_target_then_operator_then_package(own, rows, expected):
    prices = [price_row("openai", name, id=place, **fields) for place, (name, fields) in enumerate(rows)]
    target = target_row("openai/m", context_window=own)
    snapshot = make_snapshot("openai", prices=prices, routes=[route_row("fast", target)])
    assert resolve(snapshot, "fast").upstreams[0].context_window == expected
    if own is None:
        assert resolve(snapshot, "openai/m").upstreams[0].context_window == expected


def test_it_tells_answers_of_another_chain_apart():
    """A chain's targets answer too, and where they are is part of the fingerprint."""

    def fingerprint(place):
        chained = target_row("large/x", role="on_context_overflow")
        providers = ("openai", provider_row("large", base_url=place))
        return resolved("openai/a", chained, providers=providers).fingerprint

    assert fingerprint("http://here") == fingerprint("http://here")
    assert fingerprint("http://here") != fingerprint("http://there")
