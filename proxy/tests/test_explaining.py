"""What an explanation says, of every reason there is; it is made by the hot path's own functions."""

import time

import orjson
import pytest

from keys.caller import Caller
from providers.errors import Owner, UpstreamError
from proxy.asgi import lane
from proxy.explaining.disclosure import for_caller
from proxy.explaining.explanation import explained
from proxy.explaining.facts import Facts, Prospect, live
from proxy.explaining.order import expected
from proxy.explaining.reading import Question, read
from proxy.routing import resolve, rules
from proxy.tests.fakes import (
    chat_request,
    environment,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    says,
    target_row,
)

NOW = 1_800_000_000.0
CALLER = Caller(1, 2, "ci", "sk-gw-abc")
KNOWN = Facts("live", cache_known=True)


def body_of(model="gpt-4o", **fields):
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields})


def explain(snapshot, facts=KNOWN, *, path="/v1/chat/completions", body=None, caller=CALLER, **options):
    env = environment(cache_mode="memory", **options.pop("env", {}))
    headers = options.pop("headers", {})
    question = Question(path, body or body_of(**options), caller, headers)
    reading = read(question, snapshot, env=env, now=NOW)
    return explained(reading, snapshot, facts, env=env, now=NOW)


def states(explanation):
    return [(f"{each['provider']}/{each['model']}", each["state"]) for each in explanation["targets"]]


def reasons(explanation, place=0):
    return "; ".join(explanation["targets"][place]["reasons"])


def routed(*targets, providers=("openai", "vllm"), **fields):
    return make_snapshot(*providers, routes=[route_row("gpt-4o", *targets, **fields)])


# ---------------------------------------------------------------- the rule


def test_it_says_which_rule_counts_and_which_would_match_too():
    snapshot = make_snapshot(
        "openai",
        routes=[
            route_row("gpt-4o", "openai"),
            route_row("gpt-4*", "openai", kind="prefix", priority=5),
            route_row("4o$", "openai", kind="regex", priority=9),
            route_row("claude", "openai", kind="prefix"),
        ],
    )
    route = explain(snapshot)["route"]
    assert route["id"] == "exact:gpt-4o"
    assert route["why"] == "a route for exactly this name comes before all others"
    assert route["also_match"] == [
        {"id": "regex:4o$", "priority": 9},
        {"id": "prefix:gpt-4*", "priority": 5},
        {"id": "builtin:openai", "priority": None},
    ]
    assert route["rules"] == 4


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4x", "vllm/any", "gpt-x", "whatever", "text-4o"])
def test_the_first_rule_is_the_one_that_routes(model):
    snapshot = make_snapshot(
        "openai",
        "vllm",
        routes=[
            route_row("gpt-4o", "vllm"),
            route_row("gpt-4*", "vllm", kind="prefix"),
            route_row("4o$", "openai", kind="regex", priority=9),
        ],
        settings=[{"default_provider__name": "vllm", "default_model": "", "cache_ttl_s": None}],
    )
    assert rules(snapshot, model)[0] == resolve(snapshot, model).route


def test_it_says_when_no_rule_matches():
    told = explain(make_snapshot("openai"), model="nothing")
    assert told["route"] is None
    assert (told["verdict"]["kind"], told["verdict"]["status"]) == ("refused", 404)
    assert (told["verdict"]["code"], told["verdict"]["param"]) == ("model_not_found", "model")
    assert told["targets"] == []


# ---------------------------------------------------------------- refusals


def test_it_tells_what_the_endpoint_would_refuse():
    told = explain(make_snapshot("openai"), body=b'{"model": "gpt-4o", "messages": []}')
    assert told["verdict"]["status"] == 400
    assert told["verdict"]["param"] == "messages"
    assert (told["model"], told["route"], told["settings"]) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "code"), [({"enabled": False}, "api_key_disabled"), ({"expires_at": NOW}, "api_key_expired")]
)
def test_it_tells_of_a_key_that_is_not_accepted(fields, code):
    told = explain(make_snapshot("openai"), caller=CALLER._replace(**fields))
    assert (told["verdict"]["status"], told["verdict"]["code"]) == (401, code)


def test_it_says_by_which_pattern_a_key_may_use_the_model():
    snapshot = routed("openai/big", "vllm/big")
    for allowed, by in (
        ((), "the key may use every model"),
        (("x", "gpt-*"), "pattern gpt-*"),
        (("openai/*", "big"), "each of its targets is allowed: openai/big by openai/*, vllm/big by big"),
    ):
        told = explain(snapshot, caller=CALLER._replace(allowed=allowed))
        patterns = {"patterns": [*allowed], "denied": []}
        assert told["allowed"] == {"allowed": True, "by": by, **patterns}


def test_it_tells_what_a_key_may_not_use_and_where_it_would_have_gone():
    told = explain(routed("openai", "vllm"), caller=CALLER._replace(allowed=("openai/*",)))
    assert told["allowed"]["allowed"] is False
    assert (told["verdict"]["status"], told["verdict"]["code"]) == (403, "model_not_allowed")
    assert [provider for provider, _ in states(told)] == ["openai/gpt-4o", "vllm/gpt-4o"]


# ---------------------------------------------------------------- the targets


def test_it_lists_all_targets_in_the_order_of_tries():
    snapshot = routed(
        "openai",
        "vllm/small",
        target_row("openai/large", role="on_context_overflow"),
        target_row("vllm/free", role="on_content_filter"),
        target_row("vllm/copy", role="shadow", percent=5.0),
        "gone/x",
    )
    told = explain(snapshot)
    assert states(told) == [
        ("openai/gpt-4o", "first"),
        ("vllm/small", "next"),
        ("openai/large", "aside"),
        ("vllm/free", "aside"),
        ("vllm/copy", "shadow"),
        ("gone/x", "skipped"),
    ]
    assert [each["reasons"][0] for each in told["targets"]] == [
        "asked first",
        "asked when those before it fail",
        "asked only when the prompt is too long for the targets before it",
        "asked only when a content filter withholds the answer of a target before it",
        "gets a copy of 5 % of the requests, and nobody its answers",
        "its provider is disabled",
    ]
    assert told["verdict"] == {
        "kind": "asked",
        "provider": "openai",
        "model": "gpt-4o",
        "message": "openai/gpt-4o is asked first.",
    }


def test_it_says_when_no_provider_of_the_route_can_be_used(monkeypatch):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    snapshot = routed("openai", providers=(provider_row("openai", credential="${NOT_SET_HERE}"),))
    told = explain(snapshot)
    assert states(told) == [("openai/gpt-4o", "skipped")]
    assert reasons(told) == "the environment variable NOT_SET_HERE is not set"
    assert (told["verdict"]["status"], told["verdict"]["code"]) == (503, "no_usable_provider")
    mine = for_caller(told)
    assert "NOT_SET_HERE" not in str(mine)


def test_it_passes_over_those_that_may_not_be_asked():
    why = "its circuit breaker is open for 12 s more"
    facts = Facts("live", {"openai/gpt-4o": Prospect(askable=False, usable=False, why=why)})
    told = explain(routed("openai", "vllm"), facts)
    assert states(told) == [("openai/gpt-4o", "skipped"), ("vllm/gpt-4o", "first")]
    assert reasons(told) == why
    assert told["verdict"]["provider"] == "vllm"


def test_it_says_when_nobody_can_be_asked():
    facts = Facts("live", {"openai/gpt-4o": Prospect(askable=False, usable=False, why="down")})
    told = explain(routed("openai"), facts)
    assert (told["verdict"]["kind"], told["verdict"]["status"]) == ("refused", 503)


def test_it_leaves_out_windows_that_are_too_small():
    snapshot = routed(
        target_row("openai/small", context_window=100),
        "vllm/large",
        target_row("vllm/larger", role="on_context_overflow"),
    )
    told = explain(snapshot, max_tokens=5, user="x" * 4000)
    assert states(told) == [
        ("vllm/large", "first"),
        ("openai/small", "skipped"),
        ("vllm/larger", "aside"),
    ]
    assert "its context window of 100 tokens is too small for a prompt of about 1" in reasons(told, 1)


def test_it_takes_the_larger_ones_where_no_window_is_large_enough():
    snapshot = routed(
        target_row("openai/small", context_window=100), target_row("vllm/larger", role="on_context_overflow")
    )
    told = explain(snapshot, user="x" * 4000)
    assert states(told) == [("vllm/larger", "first"), ("openai/small", "skipped")]
    assert reasons(told) == "the prompt is too long for the targets before it"


def test_it_finds_what_a_vendor_cannot_express():
    unsaying = provider_row("openai", quirks={"unsupported_params": ["seed"]})
    dropping = provider_row("vllm", quirks={"unsupported_params": ["seed"]}, drop_unsupported_params=True)
    told = explain(routed("openai", "vllm", providers=(unsaying, dropping)), seed=1)
    assert states(told) == [("openai/gpt-4o", "skipped"), ("vllm/gpt-4o", "first")]
    assert reasons(told).startswith("cannot express 'seed'")
    assert told["targets"][1]["dropped_params"] == ["seed"]
    alone = explain(routed("openai", providers=(unsaying,)), seed=1)
    assert (alone["verdict"]["status"], alone["verdict"]["param"]) == (400, "seed")


def test_it_stops_after_as_many_attempts_as_there_are():
    told = explain(routed("openai", "vllm", "openai/third"), env={"max_retries": 2})
    assert [state for _, state in states(told)] == ["first", "next", "skipped"]
    assert reasons(told, 2) == "MAX_RETRIES allows 2 attempts: it is not reached"


def test_it_shows_shares_instead_of_drawing_lots():
    targets = (target_row("openai"), target_row("vllm", weight=3), target_row("vllm/none", weight=0))
    told = explain(routed(*targets, strategy="weighted"))
    assert [(each["provider"], each["share_percent"]) for each in told["targets"]] == [
        ("vllm", 75.0),
        ("openai", 25.0),
        ("vllm", 0.0),
    ]
    assert told["verdict"]["message"] == "Most likely vllm/gpt-4o is asked first."


def test_it_shows_a_canarys_percentage():
    told = explain(routed("openai", target_row("vllm", role="canary", percent=10.0)))
    assert [(each["role"], each["share_percent"]) for each in told["targets"]] == [
        ("normal", 90.0),
        ("canary", 10.0),
    ]
    assert "a canary: gets 10 % of the requests first" in reasons(told, 1)


@pytest.mark.parametrize("session", ["alice", "bob", "carol", "dave", "erin"])
@pytest.mark.parametrize("canary", [False, True])
async def test_it_knows_where_a_session_belongs(serving, session, canary):
    targets = ["openai", "vllm", target_row("vllm/new", role="canary", percent=50.0)]
    snapshot = routed(*targets[: 3 if canary else 2], sticky="user")
    gateway = serving()
    told = explain(snapshot, user=session)
    asked = gateway.fleet.order(resolve(snapshot, "gpt-4o"), session.encode())
    assert [name for name, _ in states(told)] == [each.id for each in asked]
    assert told["settings"]["session"] == session
    assert told["targets"][0]["share_percent"] == 100.0


@pytest.mark.parametrize("strategy", ["least_latency", "least_busy"])
def test_it_orders_by_what_is_measured(strategy):
    facts = Facts("live", {"openai/gpt-4o": Prospect(cost=2.0, busy=2), "vllm/gpt-4o": Prospect(cost=1.0)})
    told = explain(routed("openai", "vllm", strategy=strategy), facts)
    assert [each["provider"] for each in told["targets"]] == ["vllm", "openai"]
    assert [each["share_percent"] for each in told["targets"]] == [None, None]


@pytest.mark.parametrize("strategy", ["ordered", "weighted", "least_latency", "least_busy"])
@pytest.mark.parametrize("canary", [False, True])
@pytest.mark.parametrize("down", [(), ("openai/gpt-4o",), ("openai/gpt-4o", "vllm/gpt-4o")])
def test_all_shares_are_all_requests(strategy, canary, down):
    targets = ["openai", "vllm", target_row("vllm/new", role="canary", percent=30.0)]
    resolved = resolve(routed(*targets[: 3 if canary else 2], strategy=strategy), "gpt-4o")
    facts = Facts("live", {name: Prospect(askable=False, usable=False, why="down") for name in down})
    order, shares = expected(resolved, facts, b"")
    assert sorted(order) == list(range(len(resolved.upstreams)))
    known = sum(share for share in shares if share is not None)
    assert known == pytest.approx(100) if None not in shares else known <= 100


# ---------------------------------------------------------------- cache, price, bounds


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"headers": {"cache-control": "no-store"}}, "the request says Cache-Control: no-store"),
        ({"headers": {"cache-control": "no-cache"}}, "the request says Cache-Control: no-cache"),
        ({"headers": {"cache-control": "max-age=0"}}, "its max-age is 0"),
        ({"path": "/v1/messages/count_tokens"}, "answers of this endpoint are not cached"),
        ({"env": {"gateway_version": "v2"}}, None),
    ],
)
def test_it_says_why_the_cache_is_not_read(options, why):
    told = explain(routed("openai"), max_tokens=5, **options)["cache"]
    assert told["bypassed_because"] == why
    assert told["read"] is (why is None)


def test_it_names_the_exclusion():
    excluded = make_snapshot("openai", exclusions=[{"kind": "regex", "pattern": ".*-4o$"}])
    assert "by the pattern .*-4o$" in explain(excluded)["cache"]["bypassed_because"]
    assert explain(excluded)["cache"]["key"] is None
    mine = for_caller(explain(excluded))
    assert mine["cache"]["bypassed_because"] == "its model is excluded"
    exact = make_snapshot("openai", exclusions=[{"kind": "exact", "pattern": "gpt-4o"}])
    assert explain(exact)["cache"]["bypassed_because"] == "excluded: model gpt-4o"


def test_it_says_what_is_stored_and_whether_it_is_young_enough():
    old = Facts("live", cache_known=True, stored_at=NOW - 100)
    told = explain(routed("openai"), old)
    assert (told["cache"]["stored"], told["cache"]["age_s"], told["cache"]["hit"]) == (True, 100.0, True)
    assert told["verdict"]["kind"] == "cached"
    told = explain(routed("openai"), old, headers={"cache-control": "max-age=50"})
    assert (told["cache"]["stored"], told["cache"]["hit"]) == (True, False)
    assert explain(routed("openai"), Facts("reported"))["cache"]["stored"] is None


def test_it_joins_the_same_request_under_way():
    assert explain(routed("openai"), Facts("live", in_flight=True))["verdict"]["kind"] == "joined"


def test_it_says_what_it_would_cost_at_most():
    snapshot = make_snapshot("openai", "vllm", routes=[route_row("gpt-4o", "openai", "vllm")])
    priced = make_snapshot(
        "openai",
        "vllm",
        routes=[route_row("gpt-4o", "openai", "vllm")],
        prices=[price_row("openai", "gpt-4o")],
    )
    price, unknown = (each["price"] for each in explain(priced, max_tokens=100, n=2)["targets"])
    assert price["output_tokens"] == 200
    assert price["prompt_usd"] == f"0.{price['prompt_tokens']:06d}".rstrip("0")
    assert price["at_most_usd"] == f"0.{price['prompt_tokens'] + 400:06d}".rstrip("0")
    assert (unknown["known"], unknown["at_most_usd"]) == (False, None)
    assert explain(priced)["targets"][0]["price"]["at_most_usd"] is None
    counted = explain(snapshot, path="/v1/messages/count_tokens", max_tokens=5)["targets"][0]["price"]
    assert (counted["known"], counted["at_most_usd"]) == (True, "0")


def test_it_tells_limits_timeouts_and_settings(settings):
    settings.GATEWAY = environment(rpm_limit=60)
    snapshot = routed("openai", hedge=True, continue_streams=True, idle_timeout_s=7.0)
    facts = Facts("live", {"openai/gpt-4o": Prospect(ttft_s=0.25, total_s=3.0)})
    told = explain(snapshot, facts, stream=True)
    assert told["limits"] == [
        {
            "name": "RPM_LIMIT",
            "amount": 60,
            "unit": "requests",
            "per_s": 60.0,
            "holds_for": "everyone",
            "each": None,
        }
    ]
    assert told["targets"][0]["timeouts"]["idle_s"] == 7.0
    settings = told["settings"]
    assert (settings["hedges"], settings["hedge_after_s"]) == (True, 0.25)
    assert (settings["continues_streams"], settings["would_continue"]) == (True, True)
    whole = explain(snapshot, facts)
    assert whole["targets"][0]["timeouts"]["idle_s"] is None
    assert (whole["settings"]["hedge_after_s"], whole["settings"]["would_continue"]) == (3.0, False)


def test_it_notes_what_it_cannot_know():
    told = explain(routed("openai"), Facts("reported"), env={"request_middleware": ("a.B",)})
    assert len(told["notes"]) == 2
    assert len(explain(routed("openai"), env={"workers": 2})["notes"]) == 1


def test_a_shadow_says_what_is_left_of_its_budget():
    shadow = target_row("vllm/copy", role="shadow", shadow_budget_nanousd_per_day=10**9)
    snapshot = make_snapshot(
        "openai",
        "vllm",
        routes=[route_row("gpt-4o", "openai", shadow)],
        prices=[price_row("vllm", "copy")],
    )
    spent = Facts("live", spent={"vllm/copy": 10**9})
    told = explain(snapshot, spent)["targets"][1]
    assert (told["state"], told["budget_usd_per_day"], told["spent_usd_today"]) == ("skipped", "1", "1")
    assert told["reasons"][-1] == "its budget of today is spent"
    unpriced = make_snapshot("openai", "vllm", routes=[route_row("gpt-4o", "openai", shadow)])
    assert explain(unpriced)["targets"][1]["reasons"][-1] == "it has a budget, and its model no known price"


def test_a_caller_sees_what_concerns_it():
    snapshot = make_snapshot(
        provider_row("openai", base_url="http://hidden.test/v1"),
        "vllm",
        routes=[
            route_row("gpt-4o", "openai", target_row("vllm/copy", role="shadow")),
            route_row("gpt", "vllm", kind="prefix"),
        ],
    )
    told = explain(snapshot, Facts("live", {"openai/gpt-4o": Prospect(credential="spare-one", full=True)}))
    assert "spare-one" in str(told)
    mine = str(for_caller(told))
    assert "hidden.test" not in str(told)
    for hidden in ("spare-one", "copy", "prefix:gpt", "slots are taken", "also_match"):
        assert hidden not in mine
    assert "openai" in mine


# ---------------------------------------------------------------- a process that serves


async def test_it_looks_at_the_fleet_without_changing_it(serving):
    gateway = serving(refuses(503), says(), cache_mode="memory", cb_error_threshold=1)
    known = gateway.snapshot.callers
    gateway.snapshot = make_snapshot(
        "openai",
        "vllm",
        callers=known,
        routes=[route_row("gpt-4o", target_row("openai", weight=2), "vllm", strategy="weighted")],
    )
    turns = gateway.fleet._rotations
    assert (await chat_request().run(lane)).headers["x-gateway-provider"] == "vllm"
    riches = {name: list(each._riches) for name, each in turns.items()}
    standings, now = [each.id for each in gateway.fleet.known()], time.time()
    for stored in (True, False):
        content = "hello" if stored else "another"
        body = body_of(messages=[{"role": "user", "content": content}])
        question = Question("/v1/chat/completions", body, Caller(1, 2, "ci", "test"), {})
        env = gateway.env
        reading = read(question, gateway.snapshot, env=env, now=now)
        facts = await live(gateway, reading, now=now)
        told = explained(reading, gateway.snapshot, facts, env=env, now=now)
        assert told["cache"]["stored"] is stored
        assert told["verdict"]["kind"] == ("cached" if stored else "asked")
        (first, second) = told["targets"]
        assert (first["provider"], first["state"]) == ("vllm", "first")
        assert second["state"] == "skipped"
        assert second["reasons"][0].startswith("its circuit breaker is open for 30 s more")
    assert {name: list(each._riches) for name, each in turns.items()} == riches
    assert [each.id for each in gateway.fleet.known()] == standings
    assert len(gateway.transport.asked) == 2


async def test_it_tells_of_cool_downs_holds_and_lines(serving):
    gateway = serving(cache_mode="none")
    limited = provider_row("vllm", max_concurrency=1)
    gateway.snapshot = snapshot = routed("openai", "vllm", providers=("openai", limited))
    upstreams = resolve(snapshot, "gpt-4o").upstreams
    visit = gateway.fleet.begin(upstreams[0], upstreams[0])
    visit.failed(UpstreamError("wait", owner=Owner.CAPACITY, status=429, retry_after_s=30.0))
    assert gateway.fleet.gate(upstreams[1].account).enter_now()
    reading = read(
        Question("/v1/chat/completions", body_of(), CALLER, {}), snapshot, env=gateway.env, now=NOW
    )
    facts = await live(gateway, reading, now=NOW)
    assert facts.of(upstreams[0]).why == "the vendor asked us to wait: 30 s more"
    assert facts.of(upstreams[1]).full
    gateway.fleet.standing(upstreams[0]).breaker.hold_open()
    facts = await live(gateway, reading, now=NOW)
    assert facts.of(upstreams[0]).why == "an operator holds its circuit breaker open"
    told = explained(reading, snapshot, facts, env=gateway.env, now=NOW)
    assert "all its slots are taken" in reasons(told, 1)
