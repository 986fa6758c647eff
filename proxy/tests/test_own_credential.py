"""Vendors' keys that clients bring, from the lane to the record, before a scripted vendor."""

from dataclasses import replace

import orjson
import pytest

from keys.caller import ANONYMOUS, Caller, KeyTerms
from keys.limits import Ceiling, RateRule, Rules
from keys.secret import digest
from providers.models import DEMO_URL
from proxy.asgi import at_once, lane
from proxy.destination import destination
from proxy.errors import BadRequest, Unauthenticated
from proxy.http import LaneRequest
from proxy.own_credential import STRANGER, OwnCredential, brought, destined, may_be_one, routed
from proxy.routing import resolve
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeTransport,
    chat_request,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    says,
    settings_row,
    spool_lines,
    streams,
    target_row,
)
from proxy.tests.reached import texts

OWN = "sk-own-0123456789-of-the-client"
OTHER = "sk-other-0123456789-of-the-client"
ISSUED = "sk-gw-0123456789-abcdefghijklmnopqrstuvwxyz"
HEADER = {"x-upstream-api-key": OWN}


def keyed(name, **fields):
    return provider_row(name, credential=f"configured-of-{name}", **fields)


PROVIDERS = (
    keyed("openai", credentials=[{"provider_id": 1, "name": "second", "credential": "second-of-openai"}]),
    keyed("vllm"),
    provider_row("local"),
)
ROUTES = [
    route_row("one", "openai/a", id=1),
    route_row("pair", "openai/a", "vllm/b", id=2),
    route_row("twins", "openai/a", "openai/b", id=3),
    route_row("mixed", "openai/a", "vllm/b", "openai/c", id=4),
    route_row("unkeyed", "local/a", "openai/b", id=5),
]
PRICES = [price_row(name, model) for name in ("openai", "vllm", "local") for model in "abc"]


def configuration(known, routes=ROUTES, providers=PROVIDERS):
    return make_snapshot(
        *providers,
        callers=known,
        routes=routes,
        prices=PRICES,
        settings=[settings_row(default_provider__name="openai")],
    )


@pytest.fixture
def served(serving):
    """Serve where clients may bring keys: `served(says("Hi."), max_retries=1)`."""

    def served(*script, **options):
        values = {"allow_client_api_keys": True, "cache_mode": "none", "snapshot": configuration, **options}
        return serving(*script, **values)

    return served


async def ask(model="one", *, key=SECRET, own=OWN, **fields):
    """Ask with a key of this gateway and an own one beside it; `own` None: only the former."""
    headers = {} if own is None else {"x-upstream-api-key": own}
    return await chat_request(key=key, model=model, headers=headers, **fields).run(lane)


async def ask_alone(model="one", **fields):
    """Ask with a vendor's key in the place of one of this gateway."""
    return await ask(model, key=OWN, own=None, **fields)


def shown(gateway):
    """Return who was asked, and the credential that each was shown."""
    return [
        (upstream.id, upstream.account.headers["authorization"].removeprefix("Bearer "))
        for upstream, _ in gateway.transport.requests
    ]


def record_of(gateway):
    (record,) = [each for each in spool_lines(gateway.env.data_dir / "spool") if each["kind"] == "done"]
    return record


def refused(status=401, message=f"Incorrect API key provided: {OWN}.", **error):
    return refuses(status, message, **{"code": "invalid_api_key", **error})


# ---------------------------------------------------------------- who may bring one


@pytest.mark.parametrize(
    ("secret", "one"),
    [
        (OWN, True),
        ("0123456789abcdef", True),
        ("eyJhbGciOi.J9.e30_-~+/=", True),
        ("id:secret-of-a-vendor", True),
        (ISSUED, False),
        ("not-needed", False),
        ("", False),
        ("with a blank in the middle", False),
        ('with-a-"quote"-inside', False),
        ("ümlauts-are-none-of-them", False),
        ("x" * 2049, False),
    ],
)
def test_it_tells_a_vendors_key_from_what_is_none(secret, one):
    assert may_be_one(secret) is one


def request_with(**headers):
    return LaneRequest(Client("POST", "/v1/x", **headers).scope, b"")


def test_it_takes_the_header_before_anything_else():
    caller = Caller(1, 2, "ci", "test")
    own = brought(request_with(x_upstream_api_key=f" {OWN} "), make_snapshot(), caller, secret=SECRET)
    assert (own.secret, own.alone) == (OWN, False)
    assert brought(request_with(), make_snapshot(), caller, secret=SECRET) is None


def test_it_takes_a_strangers_bearer():
    own = brought(request_with(), make_snapshot(), STRANGER, secret=OWN)
    assert (own.secret, own.alone) == (OWN, True)


def test_where_anybody_is_served_a_bearer_is_not_alone():
    own = brought(request_with(), make_snapshot(), ANONYMOUS, secret=OWN)
    assert (own.secret, own.alone) == (OWN, False)
    assert brought(request_with(), make_snapshot(), ANONYMOUS, secret="test") is None


@pytest.mark.parametrize("sent", [ISSUED, SECRET, "short", "with a blank in the middle"])
def test_it_sends_no_key_of_ours_to_a_vendor(sent):
    snapshot = make_snapshot(callers={digest(SECRET): Caller(1, 2, "ci", "test")})
    with pytest.raises(BadRequest) as raised:
        brought(request_with(x_upstream_api_key=sent), snapshot, Caller(1, 2, "ci", "test"), secret=SECRET)
    assert raised.value.code == "invalid_upstream_key"
    assert sent not in raised.value.message


def test_its_name_tells_it_from_others_and_nothing_of_it(settings):
    names = {OwnCredential(secret, alone).name for secret in (OWN, OTHER) for alone in (True, False)}
    assert len(names) == 2
    assert all(len(name) == 32 for name in names)
    own = OwnCredential(OWN, alone=True)
    assert OWN not in repr(own)
    settings.SECRET_KEYS = ("another-key-of-another-installation",)
    assert OwnCredential(OWN, alone=True).name != own.name


# ---------------------------------------------------------------- where it is shown


def targets(resolved):
    return [
        (each.id, each.account.headers.get("authorization", "").removeprefix("Bearer "))
        for each in resolved.upstreams
    ]


def resolved_with(model, *, alone=False, **route):
    routes = [route_row(model, *route.pop("to"), **route)] if route else ROUTES
    return routed(resolve(configuration({}, routes), model), OwnCredential(OWN, alone=alone))


@pytest.mark.parametrize("alone", [False, True])
def test_it_is_shown_to_all_targets_of_the_first_ones_provider(alone):
    resolved = resolved_with("twins", alone=alone)
    assert targets(resolved) == [("openai/a", OWN), ("openai/b", OWN)]
    assert all(each.spares == () == each.account.spares for each in resolved.upstreams)


def test_other_providers_come_after_it_and_see_the_configured_one():
    assert targets(resolved_with("mixed")) == [
        ("openai/a", OWN),
        ("openai/c", OWN),
        ("vllm/b", "configured-of-vllm"),
    ]


def test_who_comes_with_it_alone_goes_to_no_other_provider():
    assert targets(resolved_with("mixed", alone=True)) == [("openai/a", OWN), ("openai/c", OWN)]


def test_a_weighted_route_keeps_its_weights_where_all_are_of_one_provider():
    to = [target_row("openai/a", weight=3), target_row("openai/b", weight=1)]
    resolved = resolved_with("w", to=to, strategy="weighted")
    assert (resolved.strategy, resolved.weights, resolved.plain) == ("weighted", (3, 1), False)


def test_a_weighted_route_of_several_providers_begins_with_the_first_that_has_a_weight():
    to = [target_row("vllm/b", weight=0), target_row("openai/a", weight=1)]
    resolved = resolved_with("w", to=to, strategy="weighted")
    assert targets(resolved) == [("openai/a", OWN)]
    assert (resolved.strategy, resolved.weights, resolved.plain) == ("ordered", (1,), True)


def test_no_shadow_is_sent_and_a_canary_of_another_provider_is_left_out():
    to = [
        "openai/a",
        target_row("vllm/b", role="canary", percent=50.0),
        target_row("openai/c", role="shadow", percent=100.0),
        target_row("vllm/s", role="shadow", percent=100.0),
    ]
    resolved = resolved_with("c", to=to)
    assert targets(resolved) == [("openai/a", OWN)]
    assert (resolved.shadows, resolved.canaries) == ((), ())


CHAINS = [
    "openai/a",
    target_row("openai/large", role="on_context_overflow"),
    target_row("vllm/large", role="on_context_overflow"),
    target_row("openai/free", role="on_content_filter"),
    target_row("vllm/free", role="on_content_filter"),
]


def test_chains_follow_the_same_rule():
    alone = resolved_with("c", alone=True, to=CHAINS, hedge=True, continue_streams=True)
    assert [each.id for each in alone.all_upstreams] == ["openai/a", "openai/large", "openai/free"]
    assert all(each.account.own_credential == OWN for each in alone.all_upstreams)
    assert (alone.hedges, alone.continues) == (True, True)


def test_where_the_operator_may_come_to_pay_only_one_attempt_costs():
    """Both would pay a part of a hedged, filtered or continued answer."""
    resolved = resolved_with("c", to=CHAINS, hedge=True, continue_streams=True)
    assert [each.id for each in resolved.all_upstreams] == ["openai/a", "openai/large", "vllm/large"]
    assert not resolved.all_upstreams[-1].account.own_credential
    assert (resolved.hedges, resolved.continues) == (False, False)


def test_what_is_configured_keeps_nothing_of_it():
    snapshot = configuration({})
    configured = resolve(snapshot, "mixed")
    routed(configured, OwnCredential(OWN, alone=False))
    assert resolve(snapshot, "mixed") is configured
    assert OWN not in str([dict(each.account.headers) for each in configured.upstreams])


@pytest.mark.parametrize(
    "provider",
    [
        provider_row("openai"),
        keyed("openai", base_url="http://operator:password@openai.test/v1"),
        keyed("openai", base_url=DEMO_URL),
        keyed("openai", path_template="{path}?api-key=of-the-operator"),
    ],
    ids=["no credential", "password in the URL", "the demo", "key in the path"],
)
def test_a_provider_that_has_nothing_to_be_replaced_takes_none(provider):
    snapshot = make_snapshot(provider, settings=[settings_row(default_provider__name="openai")])
    resolved = resolve(snapshot, "m")
    assert routed(resolved, OwnCredential(OWN, alone=False)) is resolved
    with pytest.raises(Unauthenticated) as raised:
        routed(resolved, OwnCredential(OWN, alone=True))
    assert OWN not in raised.value.message


def test_a_path_with_an_api_version_takes_one():
    provider = keyed("openai", path_template="/deployments/{model}{path}?api-version=2024-10-21")
    snapshot = make_snapshot(provider, settings=[settings_row(default_provider__name="openai")])
    assert routed(resolve(snapshot, "m"), OwnCredential(OWN, alone=True)).own_credential


# ---------------------------------------------------------------- requests


async def test_it_is_shown_in_the_place_of_the_configured_one(served):
    gateway = served(says("Hi."))
    assert [(await ask()).status, (await ask(own=None)).status, (await ask_alone()).status] == [200] * 3
    assert shown(gateway) == [("openai/a", OWN), ("openai/a", "configured-of-openai"), ("openai/a", OWN)]


async def test_it_is_recorded_as_paid_by_the_client(served):
    gateway = served(says("Hi."))
    await ask()
    first, *_ = opened, done = spool_lines(gateway.env.data_dir / "spool")
    assert first is opened
    assert (opened["kind"], opened["own_credential"]) == ("open", True)
    assert (done["kind"], done["own_credential"], done["key_id"], done["tenant_id"]) == ("done", True, 1, 2)
    assert done["cost_nanousd"] > 0


async def test_nothing_is_recorded_of_who_comes_with_it_alone(served):
    gateway = served(says("Hi."))
    await ask_alone()
    done = record_of(gateway)
    assert (done["key_id"], done["tenant_id"], done["own_credential"]) == (None, None, True)


async def test_a_request_without_one_has_no_word_of_it_in_its_record(served):
    gateway = served(says("Hi."))
    await ask(own=None)
    assert all("own_credential" not in line for line in spool_lines(gateway.env.data_dir / "spool"))


async def test_it_means_nothing_where_it_is_not_allowed(served):
    gateway = served(says("Hi."), allow_client_api_keys=False)
    assert (await ask()).status == 200
    assert shown(gateway) == [("openai/a", "configured-of-openai")]
    alone = await ask_alone()
    assert (alone.status, alone.json["error"]["code"]) == (401, "invalid_api_key")
    assert "ALLOW_CLIENT_API_KEYS=true" in alone.json["error"]["message"]
    assert len(gateway.transport.requests) == 1


@pytest.mark.parametrize("key", [ISSUED, "short", ""])
async def test_what_is_no_vendors_key_is_refused_as_ever(served, key):
    gateway = served(says("Hi."))
    assert (await ask(key=key, own=None)).status == 401
    assert gateway.transport.requests == []


async def test_a_mistyped_key_beside_a_vendors_is_not_sent_to_anybody(served):
    gateway = served(says("Hi."))
    assert (await ask(key="a-mistyped-key-of-24-chars", own=OWN)).status == 401
    assert gateway.transport.requests == []


async def test_a_disabled_key_is_no_vendors(served):
    gateway = served(says("Hi."), caller=Caller(1, 2, "ci", "test", enabled=False))
    assert (await ask(own=None)).json["error"]["code"] == "api_key_disabled"
    assert gateway.transport.requests == []


async def test_a_key_may_use_its_models_only_whoever_pays(served):
    served(says("Hi."), caller=Caller(1, 2, "ci", "test", allowed=("twins",)))
    assert [(await ask(model)).status for model in ("twins", "one")] == [200, 403]


async def test_the_header_means_the_operators_where_the_provider_has_none(served):
    gateway = served(says("Hi."))
    assert (await ask("unkeyed")).status == 200
    ((upstream, _),) = gateway.transport.requests
    assert (upstream.id, dict(upstream.account.headers)) == ("local/a", {})
    assert "own_credential" not in record_of(gateway)


async def test_no_server_without_a_credential_is_open_to_strangers(served):
    gateway = served(says("Hi."))
    assert (await ask_alone("unkeyed")).status == 401
    assert gateway.transport.requests == []


# ---------------------------------------------------------------- failure


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, "Incorrect API key provided: {}."), (401, "authentication_error")),
        ((403, "The key {} is barred."), (403, "permission_error")),
        ((400, "API key not valid: {}; invalid api key"), (401, "authentication_error")),
        ((402, "No credits on {}."), (402, "insufficient_quota")),
    ],
)
async def test_its_refusal_is_told_and_paid_by_nobody_else(served, answer, told, *, alone, stream):
    gateway = served(refuses(answer[0], answer[1].format(OWN)), says("Hi."))
    reply = await (ask_alone if alone else ask)("pair", stream=stream)
    error = reply.json["error"]
    assert (reply.status, error["type"]) == told
    assert "***" in error["message"]
    assert OWN not in str(reply.messages)
    assert shown(gateway) == [("openai/a", OWN)]


async def test_a_refused_one_takes_nothing_from_the_configured_ones(served):
    """Neither the refusal nor the limit of a client's key is remembered against ours."""
    gateway = served(
        refused(), refuses(429, "slow down", headers={"retry-after": "60"}), says("Hi."), max_retries=1
    )
    assert [(await ask()).status, (await ask()).status, (await ask(own=None)).status] == [401, 429, 200]
    assert shown(gateway)[-1] == ("openai/a", "configured-of-openai")


async def test_what_speaks_against_the_configured_one_holds_up_no_other(served):
    """The client's key is asked while ours waits for the vendor's word."""
    limited = refuses(429, "slow down", headers={"retry-after": "60"})
    gateway = served(limited, limited, says("Hi."), max_retries=2)
    assert (await ask(own=None)).status == 429
    assert (await ask()).status == 200
    assert shown(gateway)[-1] == ("openai/a", OWN)


async def test_a_failing_vendor_counts_against_the_vendor(served):
    gateway = served(refuses(503, "down"), max_retries=1, cb_error_threshold=2)
    for _ in range(2):
        assert (await ask()).status == 503
    assert (await ask(own=None)).json["error"]["code"] == "circuit_open"
    assert len(gateway.transport.requests) == 2


async def test_it_is_not_shown_to_the_vendor_that_stands_in(served):
    gateway = served(refuses(503, "down"), says("Hi."))
    reply = await ask("pair")
    assert (reply.status, reply.headers["x-gateway-provider"]) == (200, "vllm")
    assert shown(gateway) == [("openai/a", OWN), ("vllm/b", "configured-of-vllm")]
    assert "own_credential" not in record_of(gateway)  # the operator has paid


async def test_who_comes_with_it_alone_has_nobody_standing_in(served):
    gateway = served(refuses(503, "down"), max_retries=2)
    assert (await ask_alone("pair")).status == 503
    assert shown(gateway) == [("openai/a", OWN)] * 2


async def test_a_failure_that_quotes_it_is_recorded_without_it(served):
    gateway = served(refuses(500, f"failed for {OWN}", code=OWN), max_retries=1)
    reply = await ask()
    assert "failed for ***" in reply.json["error"]["message"]
    assert record_of(gateway)["attempts"][0]["error"] == "failed for ***"
    assert OWN not in str(spool_lines(gateway.env.data_dir / "spool"))
    assert OWN not in gateway.fleet.found("openai/a").breaker.reason


async def test_a_stream_that_breaks_off_quoting_it_tells_it_without_it(served):
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "a"}
    content = {**chunk, "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    broken = {"error": {"message": f"{OWN} is out", "code": OWN}}
    gateway = served(streams(*(b"data: %b\n\n" % orjson.dumps(each) for each in (content, broken))))
    reply = await ask(stream=True)
    assert "*** is out" in reply.events[-1]["error"]["message"]
    assert OWN not in str(reply.messages)
    assert OWN not in str(spool_lines(gateway.env.data_dir / "spool"))
    assert OWN not in gateway.fleet.found("openai/a").breaker.reason


# ---------------------------------------------------------------- money and limits


def caller_with(*, rates=(), ceilings=()):
    return Caller(1, 2, "ci", "test", terms=KeyTerms(rules=Rules(rates=rates, ceilings=ceilings)))


def nothing_left():
    """Return a budget that no priced request fits."""
    return Ceiling(id=1, amount_nanousd=1, window="total", holds_for="key ci")


@pytest.mark.parametrize("model", ["one", "twins"])
async def test_it_needs_no_room_in_a_budget(served, model):
    served(says("Hi."), caller=caller_with(ceilings=(nothing_left(),)))
    assert (await ask(model, own=None)).status == 429
    assert (await ask(model)).status == 200
    assert (await ask(model, own=None)).status == 429  # what holds for one says nothing of the other


async def test_where_the_operator_may_come_to_pay_the_budget_holds(served):
    served(says("Hi."), caller=caller_with(ceilings=(nothing_left(),)))
    assert (await ask("pair")).status == 429


async def test_only_what_the_operator_has_paid_is_taken_from_a_budget(served, monkeypatch):
    ceiling = replace(nothing_left(), amount_nanousd=10**12)
    gateway = served(says("Hi."), refuses(503, "down"), says("Hi."), caller=caller_with(ceilings=(ceiling,)))
    settled, settle = [], gateway.store.settle

    def noted(hold, *, costs, **rest):
        settled.append(list(costs))
        settle(hold, costs=costs, **rest)

    monkeypatch.setattr(gateway.store, "settle", noted)
    assert [(await ask("pair")).headers["x-gateway-provider"] for _ in range(2)] == ["openai", "vllm"]
    ((own,), (configured,)) = settled
    assert own == 0
    assert configured > 0


async def test_it_counts_as_a_request_like_any_other(served):
    limit = RateRule("r", "requests", 2, per="minute", each="key", holds_for="key ci")
    served(says("Hi."), caller=caller_with(rates=(limit,)))
    assert [(await ask()).status for _ in range(3)] == [200, 200, 429]


async def test_a_stranger_is_held_to_the_limits_of_everyone(served):
    served(says("Hi."), rpm_limit=2)
    assert [(await ask_alone()).status for _ in range(3)] == [200, 200, 429]


# ---------------------------------------------------------------- what is kept


async def test_the_cache_tells_credentials_apart(served):
    gateway = served(says("Hi."), cache_mode="memory")
    answers = [await ask(own=own) for own in (OWN, OWN, OTHER, None, OTHER, None)]
    assert [each.headers["x-gateway-cache"] for each in answers] == [
        "miss",
        "hit",
        "miss",
        "miss",
        "hit",
        "hit",
    ]
    alone = [await ask_alone() for _ in range(2)]
    assert [each.headers["x-gateway-cache"] for each in alone] == ["miss", "hit"]
    assert len(gateway.transport.requests) == 4


async def test_what_is_remembered_of_repeated_requests_has_nothing_of_it(served):
    """Repeats and encores are kept whole, with the request's headers."""
    gateway = served(says("Hi."), cache_mode="memory")
    for _ in range(4):
        await ask()
        await ask_alone()
    assert not gateway.repeats._known
    client = chat_request(model="one", headers=HEADER)
    body = client._pieces[0]["body"]
    assert at_once(client.scope, body) is None
    assert not gateway.encores._known._known


async def test_the_header_is_not_remembered_where_it_means_nothing(served):
    gateway = served(says("Hi."), cache_mode="memory", allow_client_api_keys=False)
    for _ in range(4):
        assert (await ask()).status == 200
    assert OWN.encode() not in b"".join(texts(gateway.encores))


async def test_an_idempotency_key_belongs_to_the_credential_too(served):
    gateway = served(says("Hi."))
    again = {"idempotency-key": "the-same"}

    async def once(key, own=None, address="127.0.0.1"):
        headers = {**again, **({} if own is None else {"x-upstream-api-key": own})}
        client = chat_request(key=key, model="one", headers=headers)
        client.scope["client"] = (address, 1)
        return "idempotency-replayed" in (await client.run(lane)).headers

    assert [await once(SECRET, OWN) for _ in range(2)] == [False, True]
    assert [await once(SECRET, OTHER), await once(SECRET)] == [False, False]
    assert [await once(OWN), await once(OTHER), await once(OWN, address="10.0.0.9")] == [False, False, True]
    assert len(gateway.transport.requests) == 5


class Peeking:
    """A request middleware that keeps what it is shown."""

    def __init__(self):
        self.headers = []

    async def request(self, asked):
        self.headers.append(dict(asked.headers))
        return asked


@pytest.mark.parametrize("alone", [False, True])
async def test_middlewares_do_not_see_it(gated, alone):
    peeking = Peeking()
    gateway = gated(
        says("Hi."), request=[peeking], allow_client_api_keys=True, cache_mode="none", snapshot=configuration
    )
    assert (await (ask_alone if alone else ask)()).status == 200
    assert shown(gateway) == [("openai/a", OWN)]
    assert len(peeking.headers) == 1
    assert OWN not in str(peeking.headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [says("Hi."), refused(500), refused()], ids=["ok", "failed", "refused"])
async def test_nothing_that_outlives_the_request_holds_it(served, script, stream):
    gateway = served(streams() if stream and script.status == 200 else script, cache_mode="memory")
    for _ in range(2):
        await ask("pair", stream=stream)
        await ask_alone("pair", stream=stream)
        await chat_request(model="one", headers={**HEADER, "idempotency-key": "k"}, stream=stream).run(lane)
    gateway.transport = FakeTransport()  # the other one remembers all that it has sent
    reached = list(texts(gateway))
    assert b"configured-of-openai" in b" ".join(reached)  # it looks far enough
    assert not [each for each in reached if OWN.encode() in each]


# ---------------------------------------------------------------- what is passed on, and lists


async def passed(method, path, *, key=SECRET, own=OWN, query="", body=b""):
    headers = {"authorization": f"Bearer {key}"} | ({} if own is None else {"x-upstream-api-key": own})
    return await Client(method, path, body, query=query, **headers).run(lane)


async def test_it_is_shown_for_what_is_only_passed_on(served):
    gateway = served(says("Hi."))
    body = orjson.dumps({"model": "pair", "input": "x"})
    assert (await passed("POST", "/v1/moderations", body=body)).status == 200
    assert (await passed("POST", "/v1/moderations", body=body, key=OWN, own=None)).status == 200
    assert (await passed("GET", "/v1/files/file-1", key=OWN, own=None)).status == 200
    assert [account.headers["authorization"] for account, *_ in gateway.transport.forwarded] == [
        f"Bearer {OWN}"
    ] * 3
    assert all(OWN not in str(request) for _, request, _ in gateway.transport.forwarded)


async def test_a_refusal_of_what_is_passed_on_is_the_clients_to_hear(served):
    gateway = served(refused(), says("Hi."))
    reply = await passed("POST", "/v1/moderations", body=orjson.dumps({"model": "pair", "input": "x"}))
    assert (reply.status, reply.json["error"]["type"]) == (401, "authentication_error")
    assert OWN not in reply.json["error"]["message"]
    assert len(gateway.transport.forwarded) == 1


async def test_what_is_in_the_clients_account_may_be_listed(served):
    served(says("Hi."))
    assert (await passed("GET", "/v1/files", own=None)).json["error"]["code"] == "listing_not_allowed"
    assert (await passed("GET", "/v1/files")).status == 200
    assert (await passed("GET", "/v1/files", key=OWN, own=None)).status == 200


def test_who_comes_with_it_alone_is_passed_on_to_one_provider():
    snapshot = configuration({})
    to = destination(snapshot, model="mixed", provider="", path="/v1/rerank")
    alone, beside = (destined(to, OwnCredential(OWN, alone=alone)) for alone in (True, False))
    assert [each.id for each in alone.upstreams] == ["openai/a", "openai/c"]
    assert [each.id for each in beside.upstreams] == ["openai/a", "openai/c", "vllm/b"]


async def test_a_stranger_sees_the_models_that_a_vendors_key_is_for(served):
    def with_models(known):
        rows = [
            {"provider__name": name, "name": "m", "created": 0, "owned_by": name}
            for name in ("openai", "local")
        ]
        return make_snapshot(*PROVIDERS, callers=known, routes=ROUTES, models=rows)

    served(says("Hi."), snapshot=with_models)
    listed = {each["id"] for each in (await passed("GET", "/v1/models", key=OWN, own=None)).json["data"]}
    assert listed == {"one", "pair", "twins", "mixed", "openai/m"}
    everything = {each["id"] for each in (await passed("GET", "/v1/models", own=None)).json["data"]}
    assert everything - listed == {"unkeyed", "local/m"}
