"""Hears of every finished request of this process, and tells viewers of some of them and the number of all.

The feed is called on the event loop before a request's last byte goes out: while nobody watches it looks at
a flag, else it counts and keeps a reference. All other work is the pump's, four times a second: a sample of
at most SAMPLE requests, taken from each tenant in turn and failures first, so that neither a flood nor a
neighbour hides what somebody looks for.

That somebody watches is told by their consumers (consumer.py), again and again: a process that has not heard
of it for WATCHED_FOR_S sends no more.
"""

import asyncio
from collections.abc import Iterator
from contextvars import Context
from itertools import chain, islice
from typing import Any

import orjson
import structlog
from channels.layers import get_channel_layer

from analytics.live.events import NOBODY, event_of
from proxy.completion import Completion

log = structlog.get_logger()

PROCESSES, VIEWERS = "live-processes", "live-viewers"  # groups of the channel layer
EVERY_S = 0.25
SAMPLE = 50
# So many are kept until the next round, of one tenant and of all; of failures as many again.
KEPT_OF_ONE, KEPT = 50, 1000
WATCHED_FOR_S = 8.0
SEND_WITHIN_S = 2.0
RETRY_S = 2.0
# The channel layer forgets members of a group after a day.
JOIN_AGAIN_S = 6 * 3600.0


class Lane:
    """What one tenant's requests have come to since the last round."""

    __slots__ = ("failures", "others", "seen")

    def __init__(self) -> None:
        """Have seen none."""
        self.seen = 0
        self.failures: list[Completion] = []
        self.others: list[Completion] = []


class Feed:
    """One process's."""

    def __init__(self) -> None:
        """Take it that somebody watches, until it is known: the first request is worth seeing too."""
        self.watched = True
        self.unsent = 0  # requests whose news the channel layer did not take
        self._watched_until = 0.0
        self._kept = 0
        self._lanes: dict[int, Lane] = {}
        self._failed: dict[int, int] = {}
        self._listening: asyncio.Task[None] | None = None
        self._pumping: asyncio.Task[None] | None = None

    def __call__(self, completion: Completion) -> None:
        """Take note of a finished request. Never waits, and raises nothing."""
        if self._listening is None or self._listening.done():
            self._listening = _spawn(self._listen())
        if not self.watched:
            return
        tenant = completion.tenant_id or NOBODY
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = Lane()
        lane.seen += 1
        if completion.outcome == "ok":
            kept = lane.others
        else:
            self._failed[tenant] = self._failed.get(tenant, 0) + 1
            kept = lane.failures
        if self._kept < KEPT and len(kept) < KEPT_OF_ONE:
            kept.append(completion)
            self._kept += 1

    def take(self) -> dict[str, Any] | None:
        """Return the news since the last time, and begin anew; None: there are none.

        `seen` and `failed` count the requests of each tenant (by its id as text), `events` are a sample.
        """
        if not self._lanes:
            return None
        lanes, failures = self._lanes, self._failed
        self._lanes, self._failed, self._kept = {}, {}, 0
        chosen = islice(_in_turn(list(lanes.values())), SAMPLE)
        return {
            "seen": {str(tenant): lane.seen for tenant, lane in lanes.items()},
            "failed": {str(tenant): count for tenant, count in failures.items()},
            "events": [event_of(each) for each in chosen],
        }

    def watch(self) -> None:
        """Somebody watches: see to it that they are told for a while."""
        self._watched_until = asyncio.get_running_loop().time() + WATCHED_FOR_S
        if self._pumping is None or self._pumping.done():
            self.watched = True
            self._pumping = _spawn(self._pump())

    async def _listen(self) -> None:
        """Hear that somebody watches."""
        layer = get_channel_layer()
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(PROCESSES, channel)
                self.watch()  # for those who came before us
                await self._hear(layer, channel)
            except Exception as problem:  # noqa: BLE001 - the layer's may be any; the feed comes back by itself
                log.debug("live_feed_deaf", error=str(problem))
                await asyncio.sleep(RETRY_S)

    async def _hear(self, layer: Any, channel: str) -> None:
        try:
            async with asyncio.timeout(JOIN_AGAIN_S):
                while True:
                    await layer.receive(channel)
                    self.watch()
        except TimeoutError:
            await layer.group_discard(PROCESSES, channel)

    async def _pump(self) -> None:
        layer, loop = get_channel_layer(), asyncio.get_running_loop()
        try:
            while loop.time() < self._watched_until:
                await asyncio.sleep(EVERY_S)
                await self._tell(layer)
        finally:
            self.watched = False
            self._lanes, self._failed, self._kept = {}, {}, 0

    async def _tell(self, layer: Any) -> None:
        news = self.take()
        if news is None:
            return
        news["unsent"] = self.unsent
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await layer.group_send(VIEWERS, {"type": "live.news", "body": orjson.dumps(news)})
        except Exception as problem:  # noqa: BLE001 - the layer's may be any; viewers are told later
            self.unsent += sum(news["seen"].values())
            log.debug("live_feed_unsent", error=str(problem))
        else:
            self.unsent = 0


def _in_turn(lanes: list[Lane]) -> Iterator[Completion]:
    """Yield the failures, then the others, each from one tenant after the other."""
    for kind in ([lane.failures for lane in lanes], [lane.others for lane in lanes]):
        longest = max(map(len, kind))
        yield from chain.from_iterable(
            (each[number] for each in kind if number < len(each)) for number in range(longest)
        )


def _spawn(work: Any) -> "asyncio.Task[None]":
    """Run it apart from the request that happens to be the first."""
    return asyncio.get_running_loop().create_task(work, context=Context())


# An observer of settings.COMPLETION_OBSERVERS.
FEED = Feed()
