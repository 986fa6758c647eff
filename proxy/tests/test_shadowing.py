"""Shadows: who is asked beside the one that answers, what becomes of it, and who never notices."""

import asyncio

import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import TEXT_STREAM, chunk, sse
from proxy.asgi import lane
from proxy.metrics import Meter
from proxy.tests.fakes import (
    FakeTransport,
    chat_request,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    says,
    spool_lines,
    streams,
    target_row,
    until,
)

SHADOW = {"role": "shadow", "percent": 100.0}


class Vendors(FakeTransport):
    """A script for each provider."""

    def __init__(self, **scripts):
        super().__init__()
        self.of = {name: FakeTransport(*script) for name, script in scripts.items()}

    async def open(self, upstream, request):
        self.requests.append((upstream, request))
        return await self.of[upstream.account.name].open(upstream, request)


def routed(*shadows, provider=None, **fields):
    """Return a maker of snapshots: "gpt-4o" goes to openai, its shadows to vllm."""
    targets = ["openai", *(target_row("vllm/small", **{**SHADOW, **each}) for each in shadows or ({},))]

    def made(callers):
        return make_snapshot(
            "openai",
            provider_row("vllm", **(provider or {})),
            callers=callers,
            routes=[route_row("gpt-4o", *targets, **fields)],
            prices=[price_row("openai", "*"), price_row("vllm", "small")],
        )

    return made


@pytest.fixture
def mirroring(serving):
    def serve(*, openai=(), vllm=(), snapshot=None, **env):
        gateway = serving(snapshot=snapshot or routed(), cache_mode="none", **env)
        gateway.transport = Vendors(openai=openai or (says(),), vllm=vllm or (says("I, too."),))
        return gateway

    return serve


async def ended(gateway):
    """Wait for all tasks, and return the records by route."""
    await asyncio.sleep(0)  # where the vendor has answered at once, the shadow has still to go out
    await until(lambda: not gateway._tasks)
    lines = spool_lines(gateway.env.data_dir / "spool")
    return {line["route"]: line for line in lines if line["kind"] == "done"}


def shadows_of(gateway):
    return {outcome: count.n for (_, outcome), count in gateway.meter._shadows.items()}


@pytest.mark.parametrize("stream", [False, True])
async def test_it_asks_a_shadow_beside_and_throws_its_answer_away(mirroring, stream):
    answers = (streams(), streams()) if stream else (says("Hello."), says("I, too."))
    gateway = mirroring(openai=answers[:1], vllm=answers[1:])
    client = await chat_request(stream=stream).run(lane)
    assert client.status == 200
    assert client.headers["x-gateway-provider"] == "openai"
    assert client.headers["x-gateway-attempts"] == "1"
    assert b"I, too." not in client.body
    records = await ended(gateway)
    primary, shadow = records["exact:gpt-4o"], records["shadow:exact:gpt-4o"]
    assert gateway.transport.asked == ["openai/gpt-4o", "vllm/small"]
    assert shadow["id"] != primary["id"]
    assert shadow["request_id"] == primary["request_id"]
    assert (shadow["key_id"], shadow["tenant_id"], shadow["endpoint"]) == (None, None, "chat")
    assert (shadow["provider"], shadow["model"], shadow["outcome"]) == ("vllm", "small", "ok")
    assert (shadow["stream"], shadow["cache"]) == (stream, "bypass")
    assert shadow["cost_nanousd"] > 0
    assert [each["outcome"] for each in shadow["attempts"]] == ["ok"]
    assert shadows_of(gateway) == {"ok": 1}
    assert gateway.fleet.named("vllm/small", "vllm").busy == 0


async def test_it_counts_the_attempt_and_no_request(mirroring):
    gateway = mirroring()
    await chat_request().run(lane)
    await ended(gateway)
    assert {key[0] for key in gateway.meter._attempts} == {"openai", "vllm"}
    assert {key[1] for key in gateway.meter._bound} == {"openai"}
    assert gateway.meter.in_flight == 0


async def test_it_goes_out_after_the_request_itself_and_delays_nothing(mirroring):
    never = asyncio.get_running_loop().create_future
    gateway = mirroring(vllm=(never,))
    client = await chat_request().run(lane)
    assert client.status == 200
    await until(lambda: "vllm/small" in gateway.transport.asked)
    assert gateway.transport.asked[0] == "openai/gpt-4o"


async def test_it_goes_on_when_the_client_leaves(mirroring):
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    async def later():
        return await answer

    gateway = mirroring(openai=(loop.create_future,), vllm=(later,))
    client = chat_request()
    task = asyncio.create_task(client.run(lane))
    await until(lambda: len(gateway.transport.asked) == 2)
    client.left.set()
    await task
    answer.set_result(says())
    records = await ended(gateway)
    assert records["exact:gpt-4o"]["outcome"] == "cancelled"
    assert records["shadow:exact:gpt-4o"]["outcome"] == "ok"


@pytest.mark.parametrize("stream", [False, True])
async def test_its_failure_is_its_own(mirroring, stream):
    broken = streams(sse(chunk({"content": "a"})), UpstreamError("gone", owner=Owner.HEALTH, code="gone"))
    gateway = mirroring(
        openai=(streams() if stream else says(),), vllm=(broken if stream else refuses(503, "down"),)
    )
    client = await chat_request(stream=stream).run(lane)
    assert client.status == 200
    assert client.body == client.body.replace(b"error", b"")
    record = (await ended(gateway))["shadow:exact:gpt-4o"]
    assert (record["outcome"], len(record["attempts"])) == ("error", 1)
    assert shadows_of(gateway) == {"error": 1}
    standing = gateway.fleet.named("vllm/small", "vllm")
    assert (standing.busy, standing.breaker.failures(gateway.fleet.loop.time())) == (0, 1)


async def test_a_fault_of_ours_is_recorded_too(mirroring, monkeypatch):
    async def faulty():
        raise ZeroDivisionError

    gateway = mirroring(vllm=(faulty,))
    assert (await chat_request().run(lane)).status == 200
    record = (await ended(gateway))["shadow:exact:gpt-4o"]
    assert (record["status"], record["error_code"]) == (500, "internal_error")


async def test_what_its_vendor_cannot_say_is_recorded_and_nobody_asked(mirroring):
    gateway = mirroring(snapshot=routed({}, provider={"quirks": {"unsupported_params": ["seed"]}}))
    assert (await chat_request(seed=1).run(lane)).status == 200
    record = (await ended(gateway))["shadow:exact:gpt-4o"]
    assert (record["status"], record["provider"], record["attempts"]) == (400, "vllm", [])
    assert gateway.transport.asked == ["openai/gpt-4o"]


async def test_no_shadow_is_asked_where_nobody_is(mirroring):
    def unsaying(callers):
        return make_snapshot(
            provider_row("openai", quirks={"unsupported_params": ["seed"]}),
            "vllm",
            callers=callers,
            routes=[route_row("gpt-4o", "openai", target_row("vllm/small", **SHADOW))],
        )

    gateway = mirroring(snapshot=unsaying)
    client = await chat_request(seed=1).run(lane)
    assert client.status == 400
    await ended(gateway)
    assert gateway.transport.asked == []


async def test_a_cache_hit_has_no_shadow(serving):
    gateway = serving(snapshot=routed())
    gateway.transport = Vendors(openai=(says(),), vllm=(says(),))
    for cache in ("miss", "hit"):
        client = await chat_request().run(lane)
        assert client.headers["x-gateway-cache"] == cache
        await ended(gateway)
    assert gateway.transport.asked == ["openai/gpt-4o", "vllm/small"]


async def test_its_percentage_is_of_requests(mirroring):
    gateway = mirroring(snapshot=routed({"percent": 25.0}))
    draws = iter([24.9, 25.0, 99.0, 0.0])
    gateway.shadows.rng.uniform = lambda *_: next(draws)
    for _ in range(4):
        assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    assert gateway.transport.asked.count("vllm/small") == 2


async def test_a_spent_budget_ends_it_for_the_day(mirroring):
    gateway = mirroring(snapshot=routed({"shadow_budget_nanousd_per_day": 25_000}))
    for _ in range(3):
        assert (await chat_request().run(lane)).status == 200
        assert (await ended(gateway))["shadow:exact:gpt-4o"]["cost_nanousd"] == 9000
    assert shadows_of(gateway) == {"ok": 1, "over_budget": 2}


async def test_a_capped_shadow_without_price_is_not_asked(mirroring):
    gateway = mirroring(snapshot=routed({"model": "unpriced", "shadow_budget_nanousd_per_day": 10**9}))
    assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    assert shadows_of(gateway) == {"unpriced": 1}


async def test_an_open_breaker_or_a_full_provider_skips_it(mirroring):
    gateway = mirroring(snapshot=routed({}, provider={"max_concurrency": 1}))
    breaker = gateway.fleet.named("vllm/small", "vllm").breaker
    breaker.hold_open()
    assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    breaker.release_hold()
    gate = gateway.fleet.gate(gateway.snapshot.accounts["vllm"])
    assert gate.enter_now()
    assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    gate.leave()
    assert shadows_of(gateway) == {"open": 1, "full": 1}
    assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    assert gate.free == 1


async def test_one_whose_record_has_no_room_is_not_asked(mirroring):
    gateway = mirroring()

    def filled(*_):
        gateway.spool.full = True
        return 0

    gateway.shadows.rng.uniform = filled
    assert (await chat_request().run(lane)).status == 200
    await ended(gateway)
    assert shadows_of(gateway) == {"spool_full": 1}


async def test_the_end_of_the_process_is_recorded(mirroring):
    loop = asyncio.get_running_loop()
    stalled = streams(sse(chunk({"content": "a"})), loop.create_future())
    gateway = mirroring(openai=(streams(),), vllm=(stalled,))
    assert (await chat_request(stream=True).run(lane)).status == 200
    await until(lambda: gateway.fleet.named("vllm/small", "vllm").ttft.p(0.5) is not None or stalled.watched)
    await gateway.close()
    record = (await ended(gateway))["shadow:exact:gpt-4o"]
    assert (record["outcome"], record["error_code"]) == ("cancelled", "shutdown")
    assert record["usage"]["estimated"] is True
    assert stalled.closed
    assert gateway.fleet.named("vllm/small", "vllm").busy == 0
    assert gateway.shadows.running == set()


async def test_a_shadow_beside_a_continued_stream_is_weighed_as_the_request_was(mirroring):
    gateway = mirroring(
        openai=(streams(TEXT_STREAM),), vllm=(streams(TEXT_STREAM),), snapshot=routed(continue_streams=True)
    )
    assert (await chat_request(stream=True).run(lane)).status == 200
    lines = await ended(gateway)
    assert lines["shadow:exact:gpt-4o"]["outcome"] == "ok"
    opened = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "open"]
    sizes = {line["estimate"]["prompt"] for line in opened}
    assert len(opened) == 2
    assert len(sizes) == 1


def test_the_meter_tells_prometheus_of_shadows():
    meter = Meter()
    meter.shadow("vllm", "over_budget")
    meter.publish()
    (count,) = meter._shadows.values()
    assert not count.waits
