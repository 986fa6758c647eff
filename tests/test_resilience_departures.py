"""A client that leaves makes room at once: its vendor is left, its slot is free, what it used is recorded."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.resilience import CALM, CHAT, KEY, ask, client_of, configuration, metric, provider, told
from tests.servers import eventually
from tests.upstream import FakeVendor, bearer, chat, unique


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    providers = [provider(vendor, "single", max_concurrency=1, max_queue=5, queue_timeout=50)]
    with running_gateway(CALM, files=configuration(providers, [])) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


async def leave(gateway: Gateway, vendor: FakeVendor, model: str, *, stream: bool, reads: bool) -> None:
    """Ask, wait until the vendor is at it or some of its content is here, and go."""
    headers = {**bearer(KEY), "x-request-id": f"left-{model}"}
    body = chat(f"single/{model}", stream=stream)
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:

        async def read() -> None:
            async with client.stream("POST", CHAT, json=body) as response:
                async for line in response.aiter_lines():
                    if '"content":"' in line and '"content":""' not in line:
                        return

        reading = asyncio.create_task(read())
        if reads:
            await reading
        else:
            await happens(lambda: bool(vendor.asked(model)), "the vendor's request")
            reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def happens(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(eventually, condition, what=what)


@pytest.mark.parametrize(
    ("fault", "stream", "reads"),
    [
        ("hang=head", False, False),
        ("hang=body:100", False, False),
        ("hang=head", True, False),
        ("tokens=2000~delay=200", True, True),
    ],
)
def test_the_slot_of_a_client_that_leaves_is_free_at_once(
    served: Gateway, vendor: FakeVendor, client: httpx.Client, *, fault: str, stream: bool, reads: bool
) -> None:
    """The one slot of its provider: whoever comes next would wait for as long as the vendor takes."""
    model = unique(f"synthetic~{fault}")
    asyncio.run(leave(served, vendor, model, stream=stream, reads=reads))
    assert told(ask(client, f"single/{unique()}")) == (200, "single", "1")
    vendor.wait_for_outcome(model, "client-gone")
    row = logged(served, f"left-{model}")
    assert (row["status"], row["outcome"], row["error_code"]) == (499, "cancelled", "client_left")
    assert row["usage_estimated"]
    assert row["prompt_tokens"] > 0
    assert (row["completion_tokens"] > 0) == reads


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_the_line_is_never_asked_for(
    served: Gateway, vendor: FakeVendor, client: httpx.Client, stream: bool
) -> None:
    """The vendor hears nothing of a call whose client has left while it waited."""
    slow, waiting = unique("synthetic~hang=head"), unique()

    async def story() -> None:
        async with httpx.AsyncClient(base_url=served.url, headers=bearer(KEY), timeout=60) as other:
            first = asyncio.create_task(other.post(CHAT, json=chat(f"single/{slow}")))
            await happens(lambda: bool(vendor.asked(slow)), "the first call")
            headers = {"x-request-id": f"left-{waiting}"}
            second = asyncio.create_task(
                other.post(CHAT, json=chat(f"single/{waiting}", stream=stream), headers=headers)
            )
            depth = 'gateway_queue_depth{provider="single"}'
            await happens(lambda: metric(served, depth) == 1, "the call in the line")
            second.cancel()
            await happens(lambda: metric(served, depth) == 0, "its end")
            first.cancel()
            await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(story())
    assert told(ask(client, f"single/{unique()}")) == (200, "single", "1")
    assert not vendor.asked(waiting)
    row = logged(served, f"left-{waiting}")
    assert (row["status"], row["prompt_tokens"], row["cost_nanousd"]) == (499, None, None)
