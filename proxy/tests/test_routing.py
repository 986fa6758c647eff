import pytest

from proxy.errors import NotFound, Unavailable
from proxy.routing import resolve
from proxy.tests.fakes import make_snapshot, provider_row, route_row, settings_row

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
