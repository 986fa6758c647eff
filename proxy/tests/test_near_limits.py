"""Which rate limits a process tells of with its heartbeat, whichever store counts them."""

import asyncio
import time
from dataclasses import replace

import pytest

from keys.caller import Caller, KeyTerms
from keys.limits import CONCURRENT, REQUESTS, TOKENS, RateRule, Rules
from proxy.cache import BYPASS
from proxy.demand import counted_by
from proxy.near_limits import GATHERED_EVERY_S, NearLimits
from proxy.store.memory import MemoryStore
from proxy.tests.fakes import make_snapshot
from proxy.tests.redis_stores import demand, log, server, settled, stores

__all__ = ["log", "server", "stores"]  # fixtures

EACH_KEY = RateRule("rate:1", REQUESTS, 10, per="hour", each="key")
TENANTS = RateRule("rate:2", TOKENS, 1000, per="day", holds_for="tenant acme")
AT_ONCE = RateRule("rate:3", CONCURRENT, 4, holds_for="key ci")
ROOMY = RateRule("rate:4", REQUESTS, 1000, per="hour")
NOBODYS = RateRule("ANON_IP_RPM", REQUESTS, 2, per="minute", each="ip")
CI = Caller(7, 2, "ci", "", terms=KeyTerms(rules=Rules((AT_ONCE,))))
NOW = 1_800_000_000.0
OTHER = Caller(8, 2, "other", "")


async def test_it_tells_of_what_is_half_used_and_of_nothing_else():
    store = MemoryStore(max_bytes=1000)
    assert await told(store) == []
    await use(store)
    assert await told(store) == EXPECTED


async def test_a_limit_that_was_changed_begins_anew():
    store = MemoryStore(max_bytes=1000)
    near = NearLimits(store, asking(store), own=Rules())
    before, after = (RateRule("rate:1", REQUESTS, 1, per=per) for per in ("minute", "hour"))
    await store.admit(demand(counted_by(before, CI, "m")), BYPASS, now=NOW)
    for rule, count in ((before, 1), (after, 0)):
        snapshot = replace(make_snapshot("openai"), rules=Rules((rule,)))
        later = NOW + GATHERED_EVERY_S * (1 - count)
        assert len(await asyncio.to_thread(near.found, snapshot, later)) == count


@pytest.mark.broker
async def test_it_tells_the_same_of_counts_in_redis(stores):
    one, idle = stores(), stores()
    await use(one)
    await settled(one)
    assert await told(one) == EXPECTED
    # A worker tells of what it has asked about itself.
    assert await told(idle) == []


EXPECTED = [
    ("rate:2", "", 1120, 1000),
    ("ANON_IP_RPM", "192.0.2.1", 2, 2),
    ("rate:1", "7", 7, 10),
    ("rate:3", "", 2, 4),
]


async def use(store):
    """Take seven requests, of which two still run, and refuse two: their tenant has no tokens left."""
    now = time.time()
    rates = [counted_by(rule, CI, "m") for rule in (EACH_KEY, ROOMY, TENANTS)]
    refused = []
    for number in range(9):
        taken = demand(*rates, slots=[counted_by(AT_ONCE, CI, "m")], tokens=60)
        admission = await store.admit(taken, BYPASS, now=now)
        refused.append(admission.refusal is not None)
        if number >= 2 and admission.hold is not None:
            store.settle(admission.hold, tokens=200, costs=[], now=now)
    assert refused == [False] * 7 + [True] * 2
    await store.admit(demand(counted_by(EACH_KEY, OTHER, "m")), BYPASS, now=now)
    for _ in range(2):
        await store.admit(demand(counted_by(NOBODYS, OTHER, "m", "192.0.2.1")), BYPASS, now=now)


async def told(store):
    snapshot = replace(
        make_snapshot("openai", callers={b"ci": CI, b"other": OTHER}),
        rules=Rules((EACH_KEY, ROOMY)),
        tenant_rules={2: Rules((TENANTS,))},
    )
    near = NearLimits(store, asking(store), own=Rules((NOBODYS,)))
    found = await asyncio.to_thread(near.found, snapshot, time.time())
    return [(each["limit"], each["who"], each["used"], each["amount"]) for each in found]


def asking(store):
    """Ask on the event loop, as the watcher's thread does."""
    loop = asyncio.get_running_loop()

    def ask(counted, now):
        return asyncio.run_coroutine_threadsafe(store.used(counted, (), now=now), loop).result(timeout=30)

    return ask
