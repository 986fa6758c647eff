"""Budgets and limits under a crowd, on both stores: not a nano-dollar and not a request too much, or too few.

Answers have as many tokens as they may have at most, unless they fail; so a budget that fits exactly so many
of them lets exactly so many through.
"""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from config.money import nanousd
from tests.crowds import Crowd, Wish, ask_all, wishes
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually, redis
from tests.sizes import at_full_size, sized
from tests.traffic import clients_running
from tests.upstream import QUIET, FakeVendor, bearer, chat, unique, wired

CROWD = sized("requests of a crowd", 400, full=1000)
TURNS = sized("crowds with failures, departures and kills", 1, full=10)
TOKENS, PROMPT_RATE, ANSWER_RATE = 5, "1.00", "1000.00"  # dollars per million tokens
EACH = TOKENS * nanousd(ANSWER_RATE) // 10**6 + 7 * nanousd(PROMPT_RATE) // 10**6  # of an answer
LEASE_S = 40.0  # and the time until somebody looks

pytestmark = at_full_size(240)


@contextlib.contextmanager
def in_process() -> Iterator[dict[str, Any]]:
    yield {"env": {}, "workers": 1}


@contextlib.contextmanager
def on_redis() -> Iterator[dict[str, Any]]:
    with redis() as store:
        yield {"env": {"REDIS_URL": store.url()}, "workers": 2}


def kinds() -> dict[str, dict[str, Any]]:
    """Return what each test's own key is held to."""
    return {
        # What a hundred have cost leaves no room for what another one may cost.
        "hundred": {"budgets": [_usd(99 * EACH + worst(body()) + 5 * nanousd(PROMPT_RATE) // 10**6, "day")]},
        "roomy": {"budgets": [_usd(CROWD * (worst(body()) + 10 * nanousd(PROMPT_RATE) // 10**6), "month")]},
        **{f"mixed-{turn}": {"budgets": [_usd(mixed_budget(), "day")]} for turn in range(TURNS)},
        "requests": {"rate_limits": [{"requests": 100, "per": "hour"}]},
        "tokens": {"rate_limits": [{"tokens": 4000, "per": "hour"}]},
        "slots": {"rate_limits": [{"concurrent": 8}]},
    }


@dataclass(frozen=True)
class Held:
    """A key with some limits and budgets, before a gateway that other tests' keys share."""

    gateway: Gateway
    name: str

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def headers(self) -> dict[str, str]:
        return bearer(secret(self.name))


def secret(name: str) -> str:
    return f"the-key-of-the-team-for-{name}"


@pytest.fixture(
    scope="module", params=[in_process, on_redis], ids=["one worker, in process", "two workers, Redis"]
)
def served(request: pytest.FixtureRequest, vendor: FakeVendor) -> Iterator[Gateway]:
    """Run one gateway with a key for each test."""
    with request.param() as installation:
        files = wired(
            vendor,
            keys=[
                {"name": name, "tenant": "team", "secret": secret(name), **held}
                for name, held in kinds().items()
            ],
            prices=[
                {
                    "provider": "replay",
                    "model": "synthetic*",
                    "input_usd_per_mtok": PROMPT_RATE,
                    "output_usd_per_mtok": ANSWER_RATE,
                }
            ],
        )
        env = {**QUIET, "MAX_RETRIES": "1", **installation["env"]}
        with running_gateway(env, files=files, workers=installation["workers"]) as gateway:
            yield gateway


def body(options: str = "", **more: Any) -> dict[str, Any]:
    """Return a request whose answer has all the tokens that it may have."""
    model = f"replay/{unique(f'synthetic~prompt=7~tokens={TOKENS}{options}')}"
    return chat(model, max_tokens=TOKENS, **more)


def cost(answer: httpx.Response) -> int:
    """Return what an answer has cost by its own usage, in nano-dollars."""
    usage = answer.json()["usage"]
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    return int(prompt * nanousd(PROMPT_RATE) // 10**6 + completion * nanousd(ANSWER_RATE) // 10**6)


def worst(request: Mapping[str, Any]) -> int:
    """Return what a request holds: a token for each byte of it, and as many as its answer may have."""
    size = len(httpx.Request("POST", "http://gateway", json=dict(request)).content)
    return size * nanousd(PROMPT_RATE) // 10**6 + TOKENS * nanousd(ANSWER_RATE) // 10**6


def mixed_budget() -> int:
    """Return a budget that the third crowd comes to the end of."""
    return CROWD // 4 * worst(body("~ttfb=100"))


def budget(key: Held) -> dict[str, Any]:
    """Return how the key's one budget stands, in nano-dollars."""
    found = httpx.get(f"{key.url}/v1/limits", headers=key.headers, timeout=30).json()
    (told,) = found["budgets"]
    return {name: nanousd(Decimal(told[f"{name}_usd"])) for name in ("limit", "spent", "held", "left")}


def booked(key: Held) -> int:
    """Return what the ledger says was spent with the key."""
    (row,) = rows(
        key.gateway,
        "SELECT COALESCE(SUM(cost_nanousd), 0) AS spent FROM keys_ledgerentry WHERE key_ref = "
        f"(SELECT id FROM keys_apikey WHERE name = '{key.name}')",
    )
    return int(row["spent"])


def settled(key: Held, *, within_s: float = 30) -> int:
    """Wait until nothing is held and the ledger says what the counters say; return that."""

    def agreed() -> bool:
        now = budget(key)
        return bool(now["held"] == 0 and now["spent"] == booked(key))

    eventually(agreed, within_s=within_s, what="counters that agree with the ledger")
    return booked(key)


def test_a_budget_that_fits_a_hundred_lets_a_hundred_through(served):
    key = Held(served, "hundred")
    crowd = ask_all(key.url, key.headers, wishes(CROWD, lambda _: body(), name=key.name))
    answered = len(crowd.with_status(200))
    assert crowd.statuses == {200: answered, 429: CROWD - answered}
    assert crowd.codes(429) == {"insufficient_quota": CROWD - answered}
    # All of them held at once what they can cost at most; the rest was let through one by one since.
    for _ in range(100 - answered):
        assert _asked_alone(key).status_code == 200
    refused = _asked_alone(key)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert settled(key) == 100 * EACH <= budget(key)["limit"]


def test_a_budget_far_from_its_end_refuses_nobody(served):
    key = Held(served, "roomy")
    crowd = ask_all(key.url, key.headers, wishes(CROWD, lambda _: body(), name=key.name))
    assert crowd.statuses == {200: CROWD}
    assert settled(key) == sum(map(cost, crowd.with_status(200)))


@pytest.mark.parametrize("turn", range(TURNS))
def test_no_failure_departure_or_kill_overspends_a_budget(served, turn):
    rng = random.Random(turn)
    key = Held(served, f"mixed-{turn}")
    crowds = []
    for number in range(3):
        over = threading.Event()
        with clients_running(lambda: _kill_one(key, rng, over), over, min(number, 1)):  # noqa: B023
            crowds.append(ask_all(key.url, key.headers, _mixed(rng, f"{key.name}-{number}")))
    spent = settled(key, within_s=LEASE_S + 60)
    assert spent <= budget(key)["limit"]
    answered = [each for crowd in crowds for each in _whole(crowd)]
    assert sum(map(cost, answered)) <= spent
    assert set().union(*(crowd.statuses for crowd in crowds)) <= {200, 429, 500, 502, 503, 504}


def test_a_limit_of_requests_lets_exactly_so_many_through(served):
    key = Held(served, "requests")
    crowd = ask_all(key.url, key.headers, wishes(CROWD, lambda _: body(), name=key.name))
    assert crowd.statuses == {200: 100, 429: CROWD - 100}
    assert crowd.codes(429) == {"rate_limit_exceeded": CROWD - 100}
    remaining = sorted(int(each.headers["x-ratelimit-remaining-requests"]) for each in crowd.with_status(200))
    assert remaining == list(range(100))


def test_a_limit_of_tokens_lets_so_many_through_as_their_estimates_fit(served):
    key = Held(served, "tokens")
    answering, hanging = (_of_one_size(option) for option in ("~ttfb=0000", "~hang=head"))
    alone = wishes(1, lambda _: answering, name=f"{key.name}-alone")
    (first,) = ask_all(key.url, key.headers, alone).with_status(200)
    used = first.json()["usage"]["total_tokens"]
    estimate = 4000 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert estimate > used
    eventually(lambda: _limit(key)["used"] == used, what="the correction")
    # Nobody is answered before all others are refused: nothing else is corrected meanwhile.
    fit = (4000 - used) // estimate
    crowd = ask_all(key.url, key.headers, wishes(300, lambda _: hanging, name=key.name), until=300 - fit)
    assert crowd.statuses == {429: 300 - fit}
    assert len(crowd.left) == fit
    assert set(map(_needs, crowd.with_status(429))) == {estimate}


def test_a_limit_of_requests_at_once_holds_and_refuses_nobody_while_there_is_room(served):
    key = Held(served, "slots")
    # None of the eight is answered before all others are; then their clients leave.
    hanging = wishes(60, lambda _: body("~hang=head"), name=key.name)
    full = ask_all(key.url, key.headers, hanging, until=52)
    assert full.statuses == {429: 52}
    assert len(full.left) == 8
    eventually(lambda: _limit(key)["used"] == 0, what="free slots")
    # One after the other, eight at a time, with a moment for the word of an end to get around.
    for number in range(5):
        again = ask_all(
            key.url, key.headers, wishes(8, lambda _: body("~ttfb=50"), name=f"{key.name}-{number}")
        )
        assert again.statuses == {200: 8}
        eventually(lambda: _limit(key)["used"] == 0, what="free slots")


def _asked_alone(key: Held) -> httpx.Response:
    eventually(lambda: budget(key)["held"] == 0, what="no hold")
    return httpx.post(f"{key.url}/v1/chat/completions", json=body(), headers=key.headers, timeout=30)


def _kill_one(key: Held, rng: random.Random, over: threading.Event) -> None:
    """Kill a web process while requests run, if any does before they are over."""
    while not over.wait(0.02):
        with contextlib.suppress(httpx.TransportError):
            if budget(key)["held"] and (workers := key.gateway.children("web")):
                os.kill(rng.choice(workers), signal.SIGKILL)
                return


def _mixed(rng: random.Random, name: str) -> list[Wish]:
    """Return requests of all fates: slow, failing, broken off, left by their clients."""
    fates = ("", "~ttfb=200", "~ttfb=600", "~fail=99x500", "~reset=body:200", "~gap_ms=50", "~hang=head")
    made = []
    for number in range(CROWD // 4):
        fate = rng.choice(fates)
        leaves = rng.uniform(0.2, 1.5) if fate == "~hang=head" or rng.random() < 0.3 else None
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        made.append(
            Wish(
                body(fate, **streamed) if rng.random() < 0.5 else body(fate),
                f"{name}-{number}",
                leaves_after_s=leaves,
                begins_after_s=rng.uniform(0, 2),
            )
        )
    return made


def _whole(crowd: Crowd) -> list[httpx.Response]:
    """Return the answers that came whole, as JSON."""
    return [each for each in crowd.with_status(200) if each.headers["content-type"] == "application/json"]


def _needs(refused: httpx.Response) -> int:
    """Return the tokens that a refused request would have needed, as its error says."""
    message = refused.json()["error"]["message"]
    return int(message.partition("needs ")[2].partition(".")[0].replace(",", ""))


def _of_one_size(option: str) -> dict[str, Any]:
    """Return a request that is estimated like every other one with an option as long."""
    return chat(f"replay/synthetic~prompt=7~tokens={TOKENS}{option}", max_tokens=TOKENS)


def _limit(key: Held) -> dict[str, Any]:
    found = httpx.get(f"{key.url}/v1/limits", headers=key.headers, timeout=30).json()
    (told,) = found["limits"]
    return dict(told)


def _usd(amount: int, window: str) -> dict[str, Any]:
    return {"amount_usd": format(Decimal(amount).scaleb(-9), "f"), "window": window}
