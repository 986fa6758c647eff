"""Identical calls in the air share one upstream call; a slow call of a hedged route gets a rival."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.resilience import (
    CALM,
    CHAT,
    anthropic_of,
    ask,
    attempts_of,
    client_of,
    configuration,
    openai_of,
    provider,
    route,
    shown,
    text_of,
    told,
    treat,
)
from tests.servers import eventually
from tests.upstream import FakeVendor, chat, unique

STREAMED = pytest.mark.parametrize("stream", [False, True])
MANY = 30
# Long enough for all of them to come while the first is in the air.
WAITS = {"json": "synthetic~first=1500", "stream": "synthetic~tokens=8~first=700~delay=150"}
HELLO: Any = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    providers = [provider(vendor, name) for name in ("shared", "first", "second")]
    routes = [route("hedged*", "first", "second", hedge=True), route("plain*", "first", "second")]
    prices = [
        {"provider": each["name"], "model": "hedged*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}
        for each in providers
    ]
    env = {**CALM, "CACHE_MODE": "memory"}
    with running_gateway(env, files=configuration(providers, routes, prices=prices)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=served.url,
        headers=client_of(served).headers,
        timeout=60,
        limits=httpx.Limits(max_connections=MANY),
    ) as made:
        yield made


def together(client: httpx.Client, model: str, streams: list[bool]) -> list[httpx.Response]:
    """Ask the same thing so many times at once."""
    with ThreadPoolExecutor(len(streams)) as pool:
        return list(pool.map(lambda stream: ask(client, f"shared/{model}", stream=stream), streams))


@pytest.mark.parametrize(
    ("wait", "streams"),
    [
        ("json", [False] * MANY),
        ("stream", [True] * MANY),
        ("json", [False, True] * (MANY // 2)),
        ("stream", [True, False] * (MANY // 2)),
    ],
    ids=["json", "stream", "mixed-json", "mixed-stream"],
)
def test_identical_calls_share_one_upstream_call(
    client: httpx.Client, vendor: FakeVendor, wait: str, streams: list[bool]
) -> None:
    model = unique(WAITS[wait])
    answers = together(client, model, streams)
    assert {answer.status_code for answer in answers} == {200}
    assert len({text_of(answer) for answer in answers}) == 1
    assert len(vendor.asked(model)) == 1
    assert Counter(answer.headers["x-gateway-cache"] for answer in answers) == {"miss": 1, "hit": MANY - 1}


def test_both_sdks_may_share_a_stream(served: Gateway, vendor: FakeVendor, client: httpx.Client) -> None:
    """Who comes late gets what there is so far, and then what comes."""
    model = unique("synthetic~tokens=10~delay=150")

    def leads() -> str:
        with openai_of(served) as sdk:
            chunks = sdk.chat.completions.create(model=f"shared/{model}", messages=HELLO, stream=True)
            return "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)

    def follows() -> list[str]:
        with openai_of(served) as sdk:
            chunks = sdk.chat.completions.create(model=f"shared/{model}", messages=HELLO, stream=True)
            return [each.choices[0].delta.content or "" for each in chunks if each.choices]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(leads)
        eventually(lambda: any(each["sent"] > 1000 for each in vendor.asked(model)), what="some content")
        second = pool.submit(follows)
        assert "".join(second.result()) == first.result() != ""
        assert len(second.result()) > 3  # it was no replay in one piece
    assert len(vendor.asked(model)) == 1


def test_anthropics_clients_share_too(served: Gateway, vendor: FakeVendor) -> None:
    model = unique(WAITS["stream"])

    def text(_: int) -> str:
        with (
            anthropic_of(served) as sdk,
            sdk.messages.stream(model=f"shared/{model}", max_tokens=100, messages=HELLO) as stream,
        ):
            return "".join(stream.text_stream)

    with ThreadPoolExecutor(5) as pool:
        texts = set(pool.map(text, range(5)))
    assert len(texts) == 1
    assert len(texts.pop().split()) == 8
    assert len(vendor.asked(model)) == 1


@STREAMED
def test_it_flies_on_when_the_first_client_leaves(
    served: Gateway, client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("synthetic~tokens=12~delay=150" if stream else "synthetic~first=1500")
    with ThreadPoolExecutor(3) as pool:
        with httpx.Client(base_url=served.url, headers=client.headers, timeout=0.7) as leaver:
            body = chat(f"shared/{model}", stream=stream)
            leading = pool.submit(leave, leaver, body, f"left-{model}")
            eventually(lambda: vendor.asked(model), what="the first call")
            followers = [pool.submit(ask, client, f"shared/{model}", stream=stream) for _ in range(2)]
            leading.result()
        texts = {text_of(each.result()) for each in followers}
    assert len(texts) == 1
    assert texts.pop()
    (asked,) = vendor.asked(model)
    assert asked["outcome"] == "done"
    row = logged(served, f"left-{model}")
    assert (row["status"], row["outcome"]) == (499, "cancelled")


def leave(client: httpx.Client, body: dict[str, Any], request_id: str) -> None:
    """Ask, and go after a while: once there is content, or when the client's patience ends."""
    headers = {"x-request-id": request_id}
    try:
        with client.stream("POST", CHAT, json=body, headers=headers) as response:
            seen = 0
            for line in response.iter_lines():
                seen += '"content":"' in line
                if seen > 4:
                    return
    except httpx.TimeoutException:
        return


@STREAMED
def test_a_failure_is_its_own(client: httpx.Client, vendor: FakeVendor, stream: bool) -> None:
    """One has the refusal; the others ask again, and share that."""
    model = unique("synthetic~fail=1x400~first=700")
    answers = together(client, model, [stream] * 10)
    assert Counter(answer.status_code for answer in answers) == {200: 9, 400: 1}
    assert len(vendor.asked(model)) == 2


# ---------------------------------------------------------------- hedging


def warm_up(client: httpx.Client, model: str, *, stream: bool) -> None:
    """Let the gateway learn how long the first target usually takes: each is another question."""
    for number in range(25):
        assert ask(client, model, f"Question {number}", stream=stream).status_code == 200


@STREAMED
def test_a_slow_target_is_beaten_by_the_next(
    client: httpx.Client, vendor: FakeVendor, served: Gateway, stream: bool
) -> None:
    model = unique("hedged")
    warm_up(client, model, stream=stream)
    treat(vendor, model, "first", **{"ttfb" if stream else "first": 30_000})
    answer = ask(client, model, "The slow question", stream=stream)
    assert told(answer) == (200, "second", "2")
    assert len(text_of(answer).split()) == 20
    slow, fast = [each for each in vendor.asked(model) if "slow question" in str(each["body"])]
    eventually(lambda: slow.get("outcome") == "client-gone", what="the end of the slow one")
    assert fast["outcome"] == "done"
    lost, won = attempts_of(served, answer)
    assert (lost["provider"], lost["outcome"]) == ("first", "hedged")
    assert (won["provider"], won["outcome"]) == ("second", "ok")
    assert lost["usage"]["estimated"]
    row = logged(served, answer.headers["x-request-id"])
    assert row["cost_nanousd"] == lost["cost_nanousd"] + won["cost_nanousd"]
    assert min(lost["cost_nanousd"], won["cost_nanousd"]) > 0
    assert row["prompt_tokens"] == lost["usage"]["prompt"] + won["usage"]["prompt"]


@STREAMED
def test_a_rival_that_fails_changes_nothing(client: httpx.Client, vendor: FakeVendor, stream: bool) -> None:
    model = unique("hedged")
    warm_up(client, model, stream=stream)
    treat(vendor, model, "first", first=1500)
    treat(vendor, model, "second", fail="99x503")
    answer = ask(client, model, "The slow question", stream=stream)
    assert told(answer) == (200, "first", "2")
    assert len(text_of(answer).split()) == 20


def test_without_the_routes_word_nobody_is_hedged(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("plain")
    warm_up(client, model, stream=False)
    treat(vendor, model, "first", first=1500)
    assert told(ask(client, model, "The slow question")) == (200, "first", "1")
    assert set(shown(vendor, model)) == {"first"}
