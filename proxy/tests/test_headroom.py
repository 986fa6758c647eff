"""`GET /v1/limits`: what a caller is told of its limits and budgets."""

from dataclasses import replace

import pytest

from keys.calendar import zone_of
from keys.caller import Caller, KeyTerms
from keys.limits import CONCURRENT, NO_RULES, REQUESTS, TOKENS, Ceiling, RateRule, Rules
from keys.secret import digest
from proxy.asgi import lane
from proxy.cache import BYPASS
from proxy.demand import Who, counted_by, purse_of
from proxy.headroom import headroom
from proxy.store.base import Demand, Ledgered
from proxy.tests.fakes import SECRET, Client, make_snapshot

KEY = {"authorization": f"Bearer {SECRET}"}
USD = 10**9
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z, a Friday
PER_KEY = RateRule("rate:1", REQUESTS, 10, per="minute", each="key")
TENANTS = RateRule("rate:2", TOKENS, 1000, per="hour", holds_for="tenant acme")
AT_ONCE = RateRule("rate:3", CONCURRENT, 4, holds_for="key ci")
PER_IP = RateRule("rate:4", REQUESTS, 20, per="minute", each="ip", holds_for="key ci")
PER_MODEL = RateRule("rate:5", REQUESTS, 30, per="minute", each="model", holds_for="key ci")
OF_MINI = RateRule("rate:6", REQUESTS, 5, per="second", model="gpt-4o-mini*", holds_for="key ci")
EVERYONES = Ceiling(1, 1000 * USD, "month")
ACMES = Ceiling(2, 50 * USD, "week", zone=zone_of("Asia/Kathmandu"), holds_for="tenant acme")
OWN = Ceiling(3, 10 * USD, "total", strict=False, model="openai/*", holds_for="key ci")
OTHERS = Rules((RateRule("rate:9", REQUESTS, 1, per="minute"),), (Ceiling(9, USD, "day"),))


@pytest.fixture
def held(serving):
    """Make a gateway whose key is held to rules of everyone, of its tenant and of its own."""

    def make(everyone=NO_RULES, tenant=NO_RULES, own=NO_RULES, **fields):
        terms = KeyTerms(rules=own, **fields.pop("terms", {}))
        caller = Caller(1, 2, "ci", "sk-gw-test", terms=terms, **fields)

        def snapshot(known):
            return replace(
                make_snapshot("openai", callers={digest(SECRET): caller}),
                rules=everyone,
                tenant_rules={2: tenant, 7: OTHERS},
            )

        gateway = serving(snapshot=snapshot, caller=caller)
        return gateway, caller

    return make


async def asked(query="", **headers):
    return await Client("GET", "/v1/limits", query=query, **(headers or KEY)).run(lane)


async def told(held_to, *, now=NOW, model="", address="192.0.2.1"):
    gateway, caller = held_to
    return await headroom(gateway.store, gateway.snapshot, Who(caller, lambda: address), model=model, now=now)


def spent(gateway, ceiling, nanousd, now=NOW):
    gateway.store.raise_spent({purse_of(ceiling, now).key: Ledgered(nanousd)})


async def test_a_key_without_limits_is_told_that_there_are_none(held):
    held(expires_at=4_000_000_000.0)
    client = await asked()
    assert client.status == 200
    assert client.headers["cache-control"] == "no-store"
    body = client.json
    assert body.pop("at").endswith("Z")
    assert body == {
        "object": "limits",
        "key": {"name": "ci", "prefix": "sk-gw-test", "expires_at": "2096-10-02T07:06:40Z"},
        "store": "up",
        "limits": [],
        "budgets": [],
        "bites_first": None,
    }


async def test_it_tells_all_that_holds_for_the_key_and_nothing_of_others(held):
    held_to = held(Rules((PER_KEY,), (EVERYONES,)), Rules((TENANTS,), (ACMES,)), Rules((AT_ONCE,), (OWN,)))
    body = await told(held_to)
    assert [each["id"] for each in body["limits"]] == ["rate:1", "rate:2", "rate:3"]
    assert [each["id"] for each in body["budgets"]] == ["budget:1", "budget:2", "budget:3"]
    assert body["limits"][0] == {
        "id": "rate:1",
        "kind": "requests",
        "amount": 10,
        "per": "minute",
        "model": None,
        "each": "key",
        "holds_for": "everyone",
        "used": 0,
        "left": 10,
        "frees_after_s": None,
        "resets_at": None,
    }
    assert body["budgets"][1] == {
        "id": "budget:2",
        "limit_usd": "50",
        "amount_usd": "50",
        "raised_until": None,
        "window": "week",
        "starts_at": "2027-01-10T18:15:00Z",
        "resets_at": "2027-01-17T18:15:00Z",
        "time_zone": "Asia/Kathmandu",
        "mode": "strict",
        "model": None,
        "holds_for": "tenant acme",
        "spent_usd": "0",
        "held_usd": "0",
        "left_usd": "50",
    }
    own = body["budgets"][2]
    assert (own["starts_at"], own["resets_at"], own["mode"], own["model"]) == (None, None, "soft", "openai/*")


async def test_the_numbers_are_the_stores(held):
    gateway, caller = held_to = held(Rules((PER_KEY,)), Rules((TENANTS,), (ACMES,)), Rules((AT_ONCE,)))
    gateway_held = await told(held_to)
    assert gateway_held["limits"][0]["used"] == 0
    counted = {rule.id: counted_by(rule, caller, "gpt-4o") for rule in (PER_KEY, TENANTS, AT_ONCE)}
    demand = Demand(
        "a",
        rates=(counted["rate:1"], counted["rate:2"]),
        slots=(counted["rate:3"],),
        purses=(purse_of(ACMES, NOW),),
        tokens=300,
        worst=2 * USD,
        expected=USD,
    )
    admission = await gateway.store.admit(demand, BYPASS, now=NOW)
    spent(gateway, ACMES, 30 * USD + 1)
    body = await told(held_to, now=NOW + 1)
    assert [(each["used"], each["left"]) for each in body["limits"]] == [(1, 9), (300, 700), (1, 3)]
    assert body["limits"][0]["frees_after_s"] == pytest.approx(59.1, abs=0.2)
    assert body["limits"][0]["resets_at"] == "2027-01-15T08:01:01Z"
    assert (body["limits"][2]["frees_after_s"], body["limits"][2]["resets_at"]) == (None, None)
    (budget,) = body["budgets"]
    assert (budget["spent_usd"], budget["held_usd"], budget["left_usd"]) == (
        "30.000000001",
        "2",
        "17.999999999",
    )
    gateway.store.settle(admission.hold, tokens=250, costs=[USD], now=NOW + 2)
    body = await told(held_to, now=NOW + 2)
    assert [each["used"] for each in body["limits"]] == [1, 250, 0]
    (budget,) = body["budgets"]
    assert (budget["spent_usd"], budget["held_usd"], budget["left_usd"]) == (
        "31.000000001",
        "0",
        "18.999999999",
    )


async def test_the_smallest_share_bites_first(held):
    gateway, _ = held_to = held(Rules((PER_KEY,)), Rules((), (ACMES,)), Rules((), (OWN,)))
    assert (await told(held_to))["bites_first"]["left_share"] == 1
    spent(gateway, ACMES, 20 * USD)
    assert (await told(held_to))["bites_first"] == {
        "id": "budget:2",
        "kind": "budget",
        "left_usd": "30",
        "left_share": 0.6,
    }
    spent(gateway, OWN, 11 * USD)
    body = await told(held_to)
    assert body["bites_first"] == {"id": "budget:3", "kind": "budget", "left_usd": "0", "left_share": 0}
    assert body["budgets"][1]["left_usd"] == "0"


async def test_a_budget_of_nothing_bites_at_once(held):
    held_to = held(Rules((PER_KEY,), ()), own=Rules((), (Ceiling(4, 0, "day", holds_for="key ci"),)))
    assert (await told(held_to))["bites_first"]["id"] == "budget:4"


async def test_of_a_budget_of_everyone_it_tells_what_is_left_and_not_what_others_spent(held):
    gateway, _ = held_to = held(Rules((), (EVERYONES,)))
    spent(gateway, EVERYONES, 400 * USD)
    body = await told(held_to)
    (budget,) = body["budgets"]
    assert budget["left_usd"] == "600"
    hidden = ("limit_usd", "amount_usd", "raised_until", "spent_usd", "held_usd")
    assert [budget[name] for name in hidden] == [None] * 5
    assert body["bites_first"] == {
        "id": "budget:1",
        "kind": "budget",
        "left_usd": "600",
        "left_share": None,
    }


async def test_a_raise_is_told_while_it_holds(held):
    raised = replace(ACMES, raised_nanousd=80 * USD, raised_until=NOW + 60)
    held_to = held(tenant=Rules((), (raised,)))
    (budget,) = (await told(held_to))["budgets"]
    assert (budget["limit_usd"], budget["amount_usd"], budget["raised_until"], budget["left_usd"]) == (
        "80",
        "50",
        "2027-01-15T08:01:00Z",
        "80",
    )
    (budget,) = (await told(held_to, now=NOW + 60))["budgets"]
    assert (budget["limit_usd"], budget["raised_until"]) == ("50", None)


async def test_each_address_has_a_count_of_its_own(held):
    gateway, caller = held_to = held(own=Rules((PER_IP,)))
    here = counted_by(PER_IP, caller, "gpt-4o", "192.0.2.1")
    await gateway.store.admit(Demand("a", rates=(here,)), BYPASS, now=NOW)
    assert (await told(held_to))["limits"][0]["used"] == 1
    assert (await told(held_to, address="192.0.2.2"))["limits"][0]["used"] == 0


async def test_what_each_model_has_for_itself_needs_a_model(held):
    gateway, caller = held_to = held(own=Rules((PER_MODEL, OF_MINI, AT_ONCE, PER_IP), (OWN,)))
    counted = counted_by(PER_MODEL, caller, "gpt-4o")
    await gateway.store.admit(Demand("a", rates=(counted,)), BYPASS, now=NOW)
    body = await told(held_to)
    assert [each["id"] for each in body["limits"]] == ["rate:6", "rate:3", "rate:4"]
    body = await told(held_to, model="gpt-4o")
    assert {each["id"]: each["used"] for each in body["limits"]} == {"rate:5": 1, "rate:3": 0, "rate:4": 0}
    assert [each["id"] for each in body["budgets"]] == ["budget:3"]
    body = await told(held_to, model="gpt-4o-mini")
    assert {each["id"]: each["used"] for each in body["limits"]} == {
        "rate:5": 0,
        "rate:6": 0,
        "rate:3": 0,
        "rate:4": 0,
    }


async def test_a_forced_model_is_the_one_that_counts(held):
    held_to = held(own=Rules((OF_MINI,)), terms={"forced_route": "gpt-4o-mini"})
    assert [each["id"] for each in (await told(held_to, model="gpt-4o"))["limits"]] == ["rate:6"]


@pytest.mark.parametrize(
    ("query", "headers", "refusal"),
    [
        ("", {"x_request_id": "none"}, (401, "missing_api_key")),
        ("", {"authorization": "Bearer no-key-of-this-gateway"}, (401, "invalid_api_key")),
        ("model=no-such", KEY, (404, "model_not_found")),
        ("model=gpt-4o", KEY, (403, "model_not_allowed")),
    ],
)
async def test_it_refuses_as_a_request_would(held, query, headers, refusal):
    held(allowed=("gpt-4o-mini",))
    client = await asked(query, **headers)
    assert (client.status, client.json["error"]["code"]) == refusal


async def test_it_counts_against_nothing(held):
    held(Rules((RateRule("RPM_LIMIT", REQUESTS, 1, per="minute"),)))
    for _ in range(3):
        client = await asked()
        assert (client.status, client.json["limits"][0]["used"]) == (200, 0)


async def test_nobody_has_no_key(serving):
    serving(snapshot=lambda known: make_snapshot("openai", callers=known), allow_anonymous=True)
    client = await asked(x_request_id="none")
    assert (client.status, client.json["key"]) == (200, None)


async def test_a_store_that_is_away_is_told(held, monkeypatch):
    gateway, _ = held(own=Rules((AT_ONCE,)))
    monkeypatch.setattr(gateway.store, "state", lambda: "down: ConnectionError")
    client = await asked()
    assert (client.status, client.json["store"], len(client.json["limits"])) == (
        200,
        "down: ConnectionError",
        1,
    )


async def test_a_key_with_a_limit_of_tokens_and_no_budget_is_served(held):
    held(own=Rules((TENANTS,)))
    body = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}'
    client = await Client("POST", "/v1/chat/completions", body, **KEY).run(lane)
    assert client.status == 200
    assert (await asked()).json["limits"][0]["used"] == client.json["usage"]["total_tokens"]
