"""What tests of the Redis store share: stores of one server, and requests that count against limits."""

import asyncio
import time
from itertools import count
from typing import Any

import pytest

from keys.calendar import Span
from keys.limits import CONCURRENT, REQUESTS, TOKENS, Ceiling, Counted, Purse, RateRule
from proxy.cache import BYPASS
from proxy.store import line
from proxy.store import redis as redis_store
from proxy.store.base import Admission, Demand
from proxy.store.redis import RedisStore
from proxy.tests.fakes import Log
from tests.servers import redis

ENDS = 4_000_000_000
_ids = count(1)


def counted(amount: int, *, kind: str = REQUESTS, per: str = "hour", key: str = "a") -> Counted:
    rule = RateRule(f"rate:{key}", kind, amount, per=per)
    return Counted(rule, f"rate:{key}//{rule.step_us}", kind == TOKENS)


def slot(amount: int, key: str = "a") -> Counted:
    return Counted(RateRule(f"rate:{key}", CONCURRENT, amount), f"rate:{key}//0", by_tokens=False)


def purse(limit: int, *, strict: bool = True, key: str = "7@0") -> Purse:
    return Purse(Ceiling(7, limit, "day", strict=strict), key, limit, Span(0, ENDS))


def demand(*rates: Counted, **fields: Any) -> Demand:
    return Demand(fields.pop("id", f"boot-0-{next(_ids):x}"), rates=rates, **fields)


async def take(store: RedisStore, *rates: Counted, **fields: Any) -> Admission:
    return await store.admit(demand(*rates, **fields), BYPASS, now=time.time())


async def refused(store: RedisStore, *rates: Counted, **fields: Any) -> Counted | Purse | None:
    refusal = (await take(store, *rates, **fields)).refusal
    return None if refusal is None else refusal.by


async def settled(store: RedisStore) -> None:
    """Wait until Redis has done all that the store has sent."""
    while store._tasks or store._batch._under_way or store.counts.holdings.ended:
        await asyncio.sleep(0)
        await store._batch.finish(within_s=5)
        for task in [*store._tasks]:
            await task


async def spent(store: RedisStore, *purses: Purse) -> list[tuple[int, int]]:
    """Return what is spent and held of each."""
    await settled(store)
    return [(each.used, each.held) for each in await store.used((), purses, now=time.time())]


async def taken(store: RedisStore, *limits: Counted) -> list[int]:
    """Return what is used of each."""
    await settled(store)
    return [each.used for each in await store.used(limits, (), now=time.time())]


@pytest.fixture(scope="module")
def server():
    with redis() as running:
        yield running


@pytest.fixture
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(redis_store, "log", recorder)
    return recorder


@pytest.fixture
async def stores(server, log, monkeypatch):
    """Make stores of one server, as several workers would."""
    monkeypatch.setattr(line, "TIMEOUT_S", 30.0)  # a busy machine is no outage
    server.forget()
    made = []

    def make(**options):
        made.append(RedisStore(server.url(), **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
