"""Limits, budgets and terms of a key as the real SDKs meet them: exceptions, headers, their own retries."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import eventually
from tests.upstream import QUIET, FakeVendor, unique, wired

# As a user writes it: a plain dict, not one of the SDK's types.
HELLO: Any = [{"role": "user", "content": "Hello there"}]
QUICK, HOURLY, METERED, SPENT, ALONE, SHORT, ELSEWHERE, TOKENS = (
    f"the-{name}-key-0123456789"
    for name in ("quick", "hourly", "metered", "spent", "alone", "short", "elsewhere", "tokens")
)
PER_SECOND = 2
TRIES = 50  # as many as any machine needs to meet the limit of a second
_ids = itertools.count(1)


def key(secret: str, **terms: Any) -> dict[str, Any]:
    name = secret.removeprefix("the-").removesuffix("-key-0123456789")
    return {"name": name, "tenant": "team", "secret": secret, **terms}


KEYS = [
    key(QUICK, rate_limits=[{"requests": PER_SECOND, "per": "second"}]),
    key(HOURLY, rate_limits=[{"requests": 1, "per": "hour"}]),
    key(METERED, rate_limits=[{"requests": 600, "per": "minute"}, {"tokens": 90_000, "per": "minute"}]),
    key(SPENT, budgets=[{"amount_usd": "0.0001", "window": "day"}]),
    key(ALONE, rate_limits=[{"concurrent": 1}]),
    key(SHORT, max_tokens=50),
    key(ELSEWHERE, allowed_networks=["203.0.113.0/24"]),
    key(TOKENS, rate_limits=[{"tokens": 30, "per": "minute"}]),
]
PRICES = [
    {"provider": "replay", "model": "*", "input_usd_per_mtok": "2.00", "output_usd_per_mtok": "8.00"},
]


@pytest.fixture(scope="module")
def limited(vendor: FakeVendor) -> Iterator[Gateway]:
    """A gateway before the fake vendor whose keys have a limit each."""
    with running_gateway(QUIET, files=wired(vendor, keys=KEYS, prices=PRICES)) as served:
        yield served


@dataclass
class Wire:
    """What an SDK has sent and got, in order, by the clock that its sleeps go by."""

    statuses: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # from an answer to what is sent next
    retry_after_s: list[float] = field(default_factory=list)  # of the same answers
    _answered: tuple[float, float] | None = None

    def sending(self, _: object) -> None:
        now = time.monotonic()
        if self._answered is not None:
            at, told = self._answered
            self.waits.append(now - at)
            self.retry_after_s.append(told)
            self._answered = None

    def got(self, response: Any) -> None:
        self.statuses.append(response.status_code)
        if response.status_code == 429:
            self._answered = (time.monotonic(), float(response.headers.get("retry-after", 0)))

    async def sending_async(self, request: object) -> None:
        self.sending(request)

    async def got_async(self, response: Any) -> None:
        self.got(response)


def sdk(gateway: Gateway, secret: str, wire: Wire | None = None, *, max_retries: int = 0) -> openai.OpenAI:
    wire = wire or Wire()
    hooks: Any = {"request": [wire.sending], "response": [wire.got]}
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=secret,
        max_retries=max_retries,
        timeout=30,
        http_client=openai.DefaultHttpxClient(event_hooks=hooks),
    )


def claude(gateway: Gateway, secret: str, wire: Wire | None = None, *, max_retries: int = 0) -> Any:
    wire = wire or Wire()
    hooks: Any = {"request": [wire.sending], "response": [wire.got]}
    return anthropic.Anthropic(
        base_url=gateway.url,
        api_key=secret,
        max_retries=max_retries,
        timeout=30,
        http_client=anthropic.DefaultHttpxClient(event_hooks=hooks),
    )


def say(client: Any, model: str = "replay/synthetic", **more: Any) -> Any:
    return client.chat.completions.create(**{"model": model, "messages": HELLO, "max_tokens": 20, **more})


def write(client: Any, model: str = "replay/synthetic", **more: Any) -> Any:
    return client.messages.create(**{"model": model, "messages": HELLO, "max_tokens": 20, **more})


def until_limited(wire: Wire, ask: Callable[[], object]) -> None:
    """Ask until the limit of a second has been met once: each call must succeed, by the SDK's retries."""
    for _ in range(TRIES):
        ask()
        if 429 in wire.statuses:
            break
    waited_as_told(wire)


def waited_as_told(wire: Wire) -> None:
    """Was the SDK refused, did it not ask before the time that it was told, and was it answered then?"""
    assert set(wire.statuses) == {200, 429}
    assert wire.statuses[-1] == 200
    assert min(wire.retry_after_s) >= 1
    assert all(waited >= told for waited, told in zip(wire.waits, wire.retry_after_s, strict=True))


def tries_at_the_gateway(gateway: Gateway, request_id: str) -> int:
    """Return how many requests with this id the gateway has logged, once the log has the first."""

    def found() -> list[dict[str, Any]]:
        lines = (line for line in gateway.log().splitlines() if f'"{request_id}"' in line)
        return [told for told in map(json.loads, lines) if told["event"] == "request"]

    return len(eventually(found, what=f"{request_id} in the log"))


def new_id() -> dict[str, str]:
    return {"x-request-id": f"sdk-limits-{next(_ids)}"}


def test_the_sdk_waits_as_it_is_told_and_succeeds(limited: Gateway) -> None:
    wire = Wire()
    with sdk(limited, QUICK, wire, max_retries=2) as client:
        until_limited(wire, lambda: say(client))


def test_a_stream_of_the_sdk_waits_as_it_is_told_and_succeeds(limited: Gateway) -> None:
    wire = Wire()

    def ask() -> None:
        with say(client, stream=True) as stream:
            assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "stop"

    with sdk(limited, QUICK, wire, max_retries=2) as client:
        until_limited(wire, ask)


def test_the_async_sdk_waits_as_it_is_told_and_succeeds(limited: Gateway) -> None:
    wire = Wire()
    hooks: Any = {"request": [wire.sending_async], "response": [wire.got_async]}

    async def run() -> None:
        http = openai.DefaultAsyncHttpxClient(event_hooks=hooks)
        async with openai.AsyncOpenAI(
            base_url=f"{limited.url}/v1", api_key=QUICK, max_retries=2, timeout=30, http_client=http
        ) as client:
            for _ in range(TRIES):
                await say(client)
                if 429 in wire.statuses:
                    break

    asyncio.run(run())
    waited_as_told(wire)


def test_the_anthropic_sdk_waits_as_it_is_told_and_succeeds(limited: Gateway) -> None:
    wire = Wire()
    with claude(limited, QUICK, wire, max_retries=2) as client:
        until_limited(wire, lambda: write(client))


def test_a_limit_is_named_by_its_error(limited: Gateway, vendor: FakeVendor) -> None:
    model = unique()
    with sdk(limited, HOURLY) as client:
        say(client, f"replay/{model}")
        with pytest.raises(openai.RateLimitError) as raised:
            say(client, f"replay/{model}")
        with pytest.raises(openai.RateLimitError), say(client, f"replay/{model}", stream=True):
            pass
    error = raised.value
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    body: Any = error.body
    assert set(body) == {"message", "type", "param", "code"}
    for part in ("Rate limit rate:", "1 requests per hour for key hourly", "0 left", "Try again in", "Z)"):
        assert part in body["message"]
    headers = error.response.headers
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < float(headers["retry-after"]) <= 3606
    assert len(vendor.asked(model)) == 1


def test_the_async_sdk_is_told_the_same(limited: Gateway) -> None:
    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(
            base_url=f"{limited.url}/v1", api_key=TOKENS, max_retries=0, timeout=30
        ) as client:
            asked = [say(client, max_tokens=1000), say(client, max_tokens=1000, stream=True)]
            return await asyncio.gather(*asked, return_exceptions=True)

    for error in asyncio.run(run()):
        assert isinstance(error, openai.RateLimitError)
        assert error.code == "rate_limit_exceeded"
        assert "more than the limit allows at all" in error.message
        assert error.response.headers["x-should-retry"] == "false"


def test_an_answer_says_how_much_is_left(limited: Gateway) -> None:
    with sdk(limited, METERED) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="replay/synthetic", messages=HELLO, max_tokens=20
        )
        assert raw.parse().choices[0].finish_reason == "stop"
        told = raw.headers
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-limit-tokens"]) == ("600", "90000")
    assert told["x-ratelimit-remaining-requests"] == "599"
    assert 89_000 < int(told["x-ratelimit-remaining-tokens"]) < 90_000
    assert told["x-ratelimit-reset-requests"] == told["x-ratelimit-reset-tokens"] == "1m0s"


@pytest.mark.parametrize("stream", [False, True])
def test_a_spent_budget_is_not_asked_again(limited: Gateway, vendor: FakeVendor, *, stream: bool) -> None:
    wire, marked, model = Wire(), new_id(), unique()
    with sdk(limited, SPENT, wire, max_retries=3) as client, pytest.raises(openai.RateLimitError) as raised:
        say(client, f"replay/{model}", max_tokens=500, stream=stream, extra_headers=marked)
    error = raised.value
    assert (error.status_code, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    for part in ("Budget budget:", "$0.0001 per day for key spent", "is left", "It resets at 20"):
        assert part in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert wire.statuses == [429]
    assert tries_at_the_gateway(limited, marked["x-request-id"]) == 1
    assert vendor.asked(model) == []


def test_one_at_a_time_is_one_at_a_time(limited: Gateway, vendor: FakeVendor) -> None:
    """The second of two is refused while the first streams, and answered once that has ended."""
    slow = unique("synthetic~tokens=2000~gap_ms=20")
    wire = Wire()
    with sdk(limited, ALONE) as client, sdk(limited, ALONE, wire, max_retries=10) as patient:
        with say(client, f"replay/{slow}", stream=True, max_tokens=3000) as stream:
            next(iter(stream))
            with pytest.raises(openai.RateLimitError) as raised:
                say(client)
        assert raised.value.code == "rate_limit_exceeded"
        assert "1 requests at once for key alone" in raised.value.message
        assert float(raised.value.response.headers["retry-after"]) >= 1
        vendor.wait_for_outcome(slow, "client-gone")
        assert say(patient).choices[0].finish_reason == "stop"


def test_more_tokens_than_the_key_allows_are_a_bad_request(limited: Gateway) -> None:
    with sdk(limited, SHORT) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            say(client, max_tokens=51)
        assert say(client, max_tokens=50).choices[0].finish_reason == "stop"
    error = raised.value
    assert (error.code, error.param) == ("max_tokens_exceeds_key_limit", "max_tokens")
    assert "50" in error.message


def test_a_key_of_another_network_is_denied(limited: Gateway) -> None:
    with sdk(limited, ELSEWHERE) as client, pytest.raises(openai.PermissionDeniedError) as raised:
        say(client)
    assert raised.value.code == "ip_not_allowed"
    with claude(limited, ELSEWHERE) as client, pytest.raises(anthropic.PermissionDeniedError) as denied:
        write(client)
    assert envelope(denied.value)["type"] == "permission_error"


def test_the_anthropic_sdk_is_told_in_its_own_form(limited: Gateway, vendor: FakeVendor) -> None:
    wire, marked, model = Wire(), new_id(), unique()
    with claude(limited, SPENT, wire, max_retries=3) as client:
        with pytest.raises(anthropic.RateLimitError) as raised:
            write(client, f"replay/{model}", max_tokens=500, extra_headers=marked)
        told = envelope(raised.value)
        assert told["type"] == "rate_limit_error"
        assert "$0.0001 per day for key spent" in told["message"]
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert wire.statuses == [429]
    assert tries_at_the_gateway(limited, marked["x-request-id"]) == 1
    assert vendor.asked(model) == []


def test_the_anthropic_sdk_is_told_which_limit_and_which_tokens(limited: Gateway) -> None:
    with claude(limited, TOKENS) as client:
        with pytest.raises(anthropic.RateLimitError) as limit:
            write(client, max_tokens=1000)
        assert "30 tokens per minute for key tokens" in envelope(limit.value)["message"]
    with claude(limited, SHORT) as client:
        with pytest.raises(anthropic.BadRequestError) as bad:
            write(client, max_tokens=51)
        assert envelope(bad.value)["type"] == "invalid_request_error"


def envelope(error: anthropic.APIStatusError) -> dict[str, str]:
    """Return the error of Anthropic's envelope, which must be whole."""
    body: Any = error.body
    assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
    assert body["request_id"] == error.request_id
    told: dict[str, str] = body["error"]
    return told


def test_the_headroom_can_be_read_with_the_sdks_own_client(limited: Gateway) -> None:
    with sdk(limited, SPENT) as client:
        told: Any = client.get("/limits", cast_to=object)
    (budget,) = told["budgets"]
    assert (budget["limit_usd"], budget["left_usd"], budget["held_usd"]) == ("0.0001", "0.0001", "0")
    assert httpx.get(f"{limited.url}/v1/limits").status_code == 401
