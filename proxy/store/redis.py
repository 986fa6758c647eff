"""The Redis store: one script per admission, so limits are exact across workers and replicas.

Redis down is no error: the cache is off, limits of this file let through (the design's section 8
says what budgets do), one log line says so, and Redis is tried again after a pause.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import redis as redis_sync
import redis.asyncio as redis_async
import structlog
from redis.exceptions import NoScriptError, RedisError

from proxy.cache import Entry
from proxy.store.base import ADMITTED, Admission, Limit
from proxy.store.batch import Batcher, Command
from proxy.store.claims import Claims, LocalClaims
from proxy.store.memory import MemoryStore
from proxy.store.redis_claims import RedisClaims, Script

log = structlog.get_logger()

CONNECTION_ERRORS = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 1.0
RETRY_S = 2.0
MAX_CONNECTIONS = 100
# KEYS: one bucket per limit; ARGV: amount and window (microseconds) of each. The same arithmetic as
# gcra.py, by Redis's own clock, so replicas may differ in theirs. Exact
# while amount times window stays below 2^53: a minute's limits of any size, not 104,000 a day.
_TAKE = Script.of("""
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local taken = {}
for i, key in ipairs(KEYS) do
  local amount, window = tonumber(ARGV[i * 2 - 1]), tonumber(ARGV[i * 2])
  local bucket = redis.call('HMGET', key, 'held', 'at')
  local held, at = tonumber(bucket[1] or '0'), tonumber(bucket[2] or '0')
  held = math.max(held - math.max(now - at, 0) * amount, 0)
  local over = held - window * (amount - 1)
  if over > 0 then return {i, math.ceil(over / amount)} end
  taken[i] = {held + window, math.max(now, at), math.ceil(window / 1000) + 1}
end
for i, key in ipairs(KEYS) do
  local held, at = string.format('%.0f', taken[i][1]), string.format('%.0f', taken[i][2])
  redis.call('HSET', key, 'held', held, 'at', at)
  redis.call('PEXPIRE', key, taken[i][3])
end
return {0, 0}
""")


class RedisStore:
    """Counters and cache in Redis."""

    name = "redis"

    def __init__(self, url: str, *, local: MemoryStore | None = None, max_claim_bytes: int = 0) -> None:
        """Use the server at `url`; with `local` the cache is there and only counters and claims are shared.

        `max_claim_bytes` is kept of answers under keys while the server is away.
        """
        # Waits for a free connection: a burst of requests is no outage.
        pool = redis_async.BlockingConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_S,
            # Telling Redis our version reads it from disk, for each connection, on the event loop.
            driver_info=None,
        )
        self._client = redis_async.Redis.from_pool(pool)
        self._local = local
        self.claims: Claims = RedisClaims(self, local=LocalClaims(max_bytes=max_claim_bytes))
        self._batch = Batcher(self._round_trip)
        self._down_until = 0.0
        self._problem = ""
        self._looking = False  # one look at a time: each would say that Redis is up again
        self._tasks: set[asyncio.Task[Any]] = set()

    def admit_now(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission | None:  # noqa: ARG002 - the contract
        """Nothing is here."""
        return None

    def peek(self, cache_key: bytes, now: float) -> Entry | None:  # noqa: ARG002 - the contract
        """Nothing is here."""
        return None

    async def admit(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Take from all limits or none and look up."""
        wants_entry = bool(cache_key) and self._local is None
        if not (limits or wants_entry) or not self._usable():
            return await self._looked_up_here(cache_key, now)
        try:
            if limits:
                refusal = await self._refusal(limits)
                if refusal is not None:
                    return refusal
            packed = await self._batch.send("GET", _entry_key(cache_key)) if wants_entry else None
        except CONNECTION_ERRORS as problem:
            self._went_down(problem)
            return await self._looked_up_here(cache_key, now)
        if not isinstance(packed, bytes):
            return await self._looked_up_here(cache_key, now)
        try:
            return Admission(entry=Entry.unpack(packed))
        except ValueError:
            return ADMITTED  # written by another version, or damaged: a miss

    async def _looked_up_here(self, cache_key: bytes, now: float) -> Admission:
        if self._local is None:
            return ADMITTED
        return await self._local.admit(cache_key=cache_key, limits=(), now=now)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry, soon."""
        if self._local is not None:
            self._local.put(cache_key, entry, ttl_s=ttl_s)
        elif self._usable():
            ttl_s -= time.time() - entry.stored_at  # an entry that is written again lives no longer
            ttl_ms = max(int(ttl_s * 1000), 1)
            stored = self._batch.send("SET", _entry_key(cache_key), entry.pack(), "PX", ttl_ms)
            stored.add_done_callback(self._stored)

    def _stored(self, answer: "asyncio.Future[Any]") -> None:
        problem = None if answer.cancelled() else answer.exception()
        if isinstance(problem, CONNECTION_ERRORS):
            self._went_down(problem)

    async def settle(self, completion_id: str) -> bool:  # noqa: ARG002 - nothing is held here yet
        """Nothing is held yet."""
        return False

    async def look(self) -> None:
        """Ask Redis for a sign of life."""
        await self.ask(("PING",))

    def state(self) -> str:
        """Return "up", or why Redis is not used."""
        return self._problem or "up"

    async def close(self) -> None:
        """Close the connections."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TIMEOUT_S)
        await self._batch.finish(within_s=TIMEOUT_S)
        await self._client.aclose()

    async def _refusal(self, limits: Sequence[Limit]) -> Admission | None:
        arguments = [part for limit in limits for part in (limit.amount, limit.window_us)]
        keys = [f"gw:limit:{limit.state_key}" for limit in limits]
        index, wait_us = await self._evaluated(_TAKE, keys, arguments)
        if not index:
            return None
        return Admission(refused_by=limits[index - 1], retry_after_s=float(wait_us) / 1e6)

    async def ask(self, *commands: Command) -> Sequence[Any] | None:
        """Return the answers to commands that go out together. None: Redis is away."""
        if not self._usable():
            return None
        try:
            return await asyncio.gather(*[self._batch.send(*command) for command in commands])
        except CONNECTION_ERRORS as problem:
            self._went_down(problem)
            return None

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Return a script's answer. None: Redis is away."""
        if not self._usable():
            return None
        try:
            return await self._evaluated(script, keys, arguments)
        except CONNECTION_ERRORS as problem:
            self._went_down(problem)
            return None

    async def _evaluated(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        try:
            return await self._batch.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Redis was restarted: EVAL makes it known again
            return await self._batch.send("EVAL", script.text, len(keys), *keys, *arguments)

    async def _round_trip(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
            return answers

    def _usable(self) -> bool:
        if not self._problem:
            return True
        if self._looking or time.monotonic() < self._down_until:
            return False
        self._looking = True
        self._down_until = time.monotonic() + RETRY_S  # this request tries; the others go on without
        self.spawn(self._look_again())
        return False

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something soon, and before the store is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _look_again(self) -> None:
        try:
            # The pool's other connections died with the one that told us: each would tell it again.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            await self._client.ping()
        except CONNECTION_ERRORS:
            return
        finally:
            self._looking = False
        self._problem = ""
        log.warning("redis", up=True)

    def _went_down(self, problem: BaseException) -> None:
        if not self._problem:
            log.warning("redis", up=False, error=str(problem) or type(problem).__name__)
        self._problem = f"down: {type(problem).__name__}"
        self._down_until = time.monotonic() + RETRY_S


def sync_client(url: str, *, answers: bool = True) -> "redis_sync.Redis":
    """Return a blocking client, for threads; its errors are CONNECTION_ERRORS.

    `answers`: every command is answered at once, so silence is an error (not so for a subscription).
    """
    return redis_sync.Redis.from_url(
        url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S if answers else None
    )


def _entry_key(cache_key: bytes) -> bytes:
    return b"gw:cache:" + cache_key
