"""Idempotency-Key as clients use it: SDKs, many at once, workers that share Redis or are killed."""

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml
from anthropic import Anthropic
from openai import AsyncOpenAI, OpenAI

from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import RedisServer, eventually, redis
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, raw_vendor, unique, wired

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello there"}]
MANY = 50
PRICED = unique("synthetic~first=500~prompt=1000~tokens=100")


@pytest.fixture(scope="module")
def alone(vendor: FakeVendor) -> Iterator[Gateway]:
    """One worker with a store of its own."""
    price = {
        "provider": "replay",
        "model": PRICED,
        "input_usd_per_mtok": "1",
        "output_usd_per_mtok": "2",
    }
    with running_gateway(QUIET, files=wired(vendor, prices=[price])) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis() as server:
        yield server


@pytest.fixture(scope="module")
def two(vendor: FakeVendor, store: RedisServer) -> Iterator[Gateway]:
    """Two workers that share Redis."""
    with running_gateway({**QUIET, "REDIS_URL": store.url()}, workers=2, files=wired(vendor)) as gateway:
        yield gateway


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def ask(gateway: Gateway, model: str, key: dict[str, str], **fields: Any) -> httpx.Response:
    # A new connection each time, so that either worker may get it.
    return httpx.post(
        f"{gateway.url}{CHAT}",
        json=chat(f"replay/{model}", **fields),
        headers={**bearer(TEAM_KEY), **key},
        timeout=60,
    )


def is_replay(response: httpx.Response) -> bool:
    return "idempotency-replayed" in response.headers


# ---------------------------------------------------------------- SDKs


async def test_it_answers_fifty_of_openais_sdk_with_one_call_and_one_charge(
    alone: Gateway, vendor: FakeVendor
) -> None:
    key = new_key()
    async with AsyncOpenAI(base_url=f"{alone.url}/v1", api_key=TEAM_KEY, max_retries=0, timeout=60) as client:

        async def say() -> Any:
            return await client.chat.completions.with_raw_response.create(
                model=f"replay/{PRICED}", messages=HELLO, extra_headers=key
            )

        answers = await asyncio.gather(*[say() for _ in range(MANY)])
        answers.append(await say())
    assert len({each.content for each in answers}) == 1
    assert len({each.headers["x-request-id"] for each in answers}) == MANY + 1
    assert sum(each.headers.get("idempotency-replayed") == "true" for each in answers) == MANY
    assert answers[0].parse().usage.prompt_tokens == 1000
    assert len(vendor.asked(PRICED)) == 1
    log = eventually(lambda: _whole_log(alone, PRICED), what="the records")
    assert sorted({(each["cache"], each["cost_nanousd"]) for each in log}) == [
        ("bypass", 1_200_000),
        ("hit", 0),
    ]
    spent = rows(alone, "SELECT * FROM keys_ledgerentry WHERE model = ?", PRICED)
    assert [each["cost_nanousd"] for each in spent if each["cost_nanousd"]] == [1_200_000]


def _whole_log(gateway: Gateway, model: str) -> list[dict[str, Any]]:
    found = rows(gateway, "SELECT * FROM analytics_requestlog WHERE model = ?", model)
    return found if len(found) == MANY + 1 else []


def test_it_replays_streams_to_openais_sdk(alone: Gateway, vendor: FakeVendor) -> None:
    model, key = unique("synthetic~tokens=20"), new_key()
    with OpenAI(base_url=f"{alone.url}/v1", api_key=TEAM_KEY, max_retries=0, timeout=60) as client:

        def said() -> list[Any]:
            stream = client.chat.completions.create(
                model=f"replay/{model}", messages=HELLO, stream=True, extra_headers=key
            )
            return [chunk.to_dict() for chunk in stream]

        first, again = said(), said()
    assert first == again
    assert len(first) > 5
    assert len(vendor.asked(model)) == 1


def test_it_tells_openais_sdk_of_a_key_that_is_used_again(alone: Gateway, vendor: FakeVendor) -> None:
    """It would try again after a 409, were it not told that it should not."""
    model, key = unique(), new_key()
    with OpenAI(base_url=f"{alone.url}/v1", api_key=TEAM_KEY, max_retries=2, timeout=60) as client:
        client.chat.completions.create(model=f"replay/{model}", messages=HELLO, extra_headers=key)
        with pytest.raises(openai.ConflictError) as caught:
            client.chat.completions.create(
                model=f"replay/{model}", messages=HELLO, temperature=0.5, extra_headers=key
            )
    assert caught.value.code == "idempotency_key_reused"
    assert caught.value.param == "Idempotency-Key"
    refused = eventually(
        lambda: rows(alone, "SELECT * FROM analytics_requestlog WHERE status = 409"), what="its record"
    )
    assert [each["error_code"] for each in refused] == ["idempotency_key_reused"]
    assert len(vendor.asked(model)) == 1


def test_it_serves_anthropics_sdk(alone: Gateway, vendor: FakeVendor) -> None:
    model, key, other = unique(), new_key(), new_key()
    fields: Any = {"model": f"replay/{model}", "max_tokens": 50, "messages": HELLO}
    with Anthropic(base_url=alone.url, api_key=TEAM_KEY, max_retries=2, timeout=60) as client:
        messages = [client.messages.create(**fields, extra_headers=key) for _ in range(2)]
        texts = []
        for _ in range(2):
            with client.messages.stream(**fields, extra_headers=other) as stream:
                texts.append("".join(stream.text_stream))
        with pytest.raises(anthropic.ConflictError) as caught:
            client.messages.create(**{**fields, "max_tokens": 51}, extra_headers=key)
    assert messages[0] == messages[1]
    assert messages[0]._request_id != messages[1]._request_id
    assert texts[0] == texts[1] != ""
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert body["request_id"] == caught.value.request_id
    assert len(vendor.asked(model)) == 2


def test_it_knows_an_sdks_form_again() -> None:
    """Each try of a form has a boundary of its own."""
    key = new_key()
    with (
        raw_vendor() as vendor,
        running_gateway(QUIET, files=_ears(vendor.url)) as gateway,
        OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=60) as client,
    ):
        transcriptions = client.audio.transcriptions.with_raw_response

        def heard(sound: bytes) -> Any:
            return transcriptions.create(model="ears/m", file=("a.mp3", sound), extra_headers=key)

        first, again = heard(b"one"), heard(b"one")
        with pytest.raises(openai.ConflictError):
            heard(b"another")
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert len(vendor.bodies) == 1


def _ears(url: str) -> dict[str, str]:
    provider = {"name": "ears", "dialect": "openai", "base_url": url, "api_key": "unused"}
    return {"config.yaml": yaml.safe_dump({"version": 1, "providers": [provider]})}


# ---------------------------------------------------------------- clients and workers that leave


@pytest.mark.parametrize("stream", [False, True])
def test_it_finishes_for_a_client_that_comes_back(
    alone: Gateway, vendor: FakeVendor, *, stream: bool
) -> None:
    model, key = unique("synthetic~tokens=20~ttfb=3000"), new_key()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{alone.url}{CHAT}",
            json=chat(f"replay/{model}", stream=stream),
            headers={**bearer(TEAM_KEY), **key},
            timeout=2,  # by then it has been asked
        )
    back = ask(alone, model, key, stream=stream)
    assert (back.status_code, is_replay(back)) == (200, True)
    assert not stream or back.text.rstrip().endswith("data: [DONE]")
    assert len(vendor.asked(model)) == 1


def test_it_frees_the_key_of_a_killed_worker(vendor: FakeVendor) -> None:
    model, key = unique("synthetic~first=1500"), new_key()
    with running_gateway(QUIET, files=wired(vendor)) as gateway:
        lost: list[Exception] = []
        asking = threading.Thread(target=_lost, args=(gateway, model, key, lost))
        asking.start()
        eventually(lambda: vendor.asked(model), what="the first call")
        (worker,) = gateway.children("web")
        os.kill(worker, signal.SIGKILL)
        asking.join(20)
        assert lost
        answer = eventually(lambda: _answer(gateway, model, key), what="a new worker")
        assert (answer.status_code, is_replay(answer)) == (200, False)
        assert is_replay(ask(gateway, model, key))
    assert len(vendor.asked(model)) == 2


def _lost(gateway: Gateway, model: str, key: dict[str, str], lost: list[Exception]) -> None:
    try:
        ask(gateway, model, key)
    except httpx.TransportError as problem:
        lost.append(problem)


def _answer(gateway: Gateway, model: str, key: dict[str, str]) -> httpx.Response | None:
    try:
        return ask(gateway, model, key)
    except httpx.TransportError:
        return None


# ---------------------------------------------------------------- Redis


@pytest.mark.broker
@pytest.mark.parametrize("stream", [False, True])
def test_two_workers_make_one_call(two: Gateway, vendor: FakeVendor, *, stream: bool) -> None:
    model, key = unique("synthetic~first=1000~tokens=20"), new_key()
    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(lambda _: ask(two, model, key, stream=stream), range(MANY)))
    answers += [ask(two, model, key, stream=stream) for _ in range(10)]
    assert {each.status_code for each in answers} == {200}
    assert len({each.content for each in answers}) == 1
    assert sum(not is_replay(each) for each in answers) == 1
    assert len(vendor.asked(model)) == 1
    others = [ask(two, model, key, stream=stream, temperature=0.5) for _ in range(10)]
    assert {each.status_code for each in others} == {409}


@pytest.mark.broker
def test_it_frees_the_key_of_one_of_two_workers_within_its_lease(
    two: Gateway, vendor: FakeVendor, store: RedisServer
) -> None:
    model, key = unique("synthetic~first=3000"), new_key()
    lost: list[Exception] = []
    asking = threading.Thread(target=_lost, args=(two, model, key, lost))
    asking.start()
    eventually(lambda: vendor.asked(model), what="the first call")
    for worker in two.children("web"):
        os.kill(worker, signal.SIGKILL)
    asking.join(20)
    assert lost
    with store.client() as client:
        kept: Any = {each: client.get(each) for each in client.keys("gw:once:*")}
        (name,) = [each for each, value in kept.items() if value[:1] == b"r"]
        assert 0 < client.pttl(name) <= 30_000
        client.pexpire(name, 500)  # the rest of half a minute
    answer = eventually(lambda: _answer(two, model, key), what="a new worker")
    assert (answer.status_code, is_replay(answer)) == (200, False)
    assert len(vendor.asked(model)) == 2


@pytest.mark.broker
def test_it_goes_on_without_redis(two: Gateway, vendor: FakeVendor, store: RedisServer) -> None:
    model, key = unique(), new_key()
    store.stop()
    try:
        with httpx.Client(base_url=two.url, timeout=60, headers={**bearer(TEAM_KEY), **key}) as client:
            answers = [client.post(CHAT, json=chat(f"replay/{model}")) for _ in range(3)]
    finally:
        store.start()
    assert [each.status_code for each in answers] == [200] * 3
    assert [is_replay(each) for each in answers] == [False, True, True]
