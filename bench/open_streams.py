"""Holds many streams of a slow vendor open at once and tells what they cost, and whether all get their share.

The clients are raw protocols on uvloop in this process, which does nothing else meanwhile; the figures show
how little of a processor they take. A stream's chunks are counted in one window for all of them.
"""

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import uvloop

from bench.processes import CannotMeasure, Server
from bench.streams import request

MODEL, QUICK_MODEL = "bench-slow", "bench-fast"
OPENED_AT_ONCE = 100
CONTENT = b"verdict"
SETTLE_S = 2.0
PROBE_PAUSE_S = 0.05
PROBES = 30
WITHIN_S = 60.0
_IN_FLIGHT = re.compile(r"^gateway_in_flight (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One time of opening `opened` streams, holding them for `held_s`, and leaving.

    `chunks` is how many each stream had in that time. `longest_pause_s` is the longest that any of them
    waited for a chunk. `first_byte_ms` are the waits of new requests meanwhile. `worker` and `clients` are
    the shares of a processor that the gateway and this process took.
    """

    opened: int
    held_s: float
    before_mb: float
    open_mb: float
    after_mb: float
    in_flight_after: float
    chunks: Sequence[int]
    longest_pause_s: float
    first_byte_ms: Sequence[float]
    worker: float
    clients: float

    @property
    def kb_per_stream(self) -> float:
        """Return what one stream costs."""
        return (self.open_mb - self.before_mb) * 1024 / max(self.opened, 1)

    @property
    def fairness(self) -> float:
        """Return Jain's index of the chunks: 1 where all streams had as many, 1/n where one had all."""
        squares = len(self.chunks) * sum(count * count for count in self.chunks)
        return sum(self.chunks) ** 2 / squares if squares else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the saved form."""
        figures = {name: value for name, value in asdict(self).items() if name != "chunks"}
        spread = {"min": min(self.chunks), "median": median(self.chunks), "max": max(self.chunks)}
        return {**figures, "chunks": spread, "fairness": self.fairness, "kb_per_stream": self.kb_per_stream}


def first_bytes_ms(server: Server) -> list[float]:
    """Return how long new requests wait for their first byte, one after the other. Raises CannotMeasure."""
    return uvloop.run(_probed(server.port))


def hold_open(server: Server, count: int, *, held_s: float) -> Round:
    """Open `count` streams, hold them, ask beside them, and leave. Raises CannotMeasure."""
    return uvloop.run(_hold_open(server, count, held_s))


async def _hold_open(server: Server, count: int, held_s: float) -> Round:
    before_mb = server.rss_mb()
    streams: list[_Stream] = []
    try:
        while len(streams) < count:
            some = min(OPENED_AT_ONCE, count - len(streams))
            streams += await asyncio.gather(*(_opened(server.port, MODEL) for _ in range(some)))
        await asyncio.sleep(SETTLE_S)
        for stream in streams:
            stream.start_counting()
        worker, clients, began = server.cpu(), time.process_time(), time.monotonic()
        probing = asyncio.create_task(_probed(server.port))
        await asyncio.sleep(held_s)
        elapsed_s = time.monotonic() - began
        used_s, own_s = (server.cpu() - worker).used_s, time.process_time() - clients
        chunks, pause_s = [stream.chunks for stream in streams], max(each.longest_s() for each in streams)
        open_mb, waits_ms = server.rss_mb(), await probing
    finally:
        for stream in streams:
            stream.leave()
    in_flight = await _until_none_in_flight(server)
    return Round(
        opened=len(streams),
        held_s=elapsed_s,
        before_mb=before_mb,
        open_mb=open_mb,
        after_mb=server.rss_mb(),
        in_flight_after=in_flight,
        chunks=chunks,
        longest_pause_s=pause_s,
        first_byte_ms=waits_ms,
        worker=used_s / elapsed_s,
        clients=own_s / elapsed_s,
    )


class _Stream(asyncio.Protocol):
    """One client: sends its request, and counts what comes."""

    def __init__(self, request: bytes) -> None:
        self.opened: asyncio.Future[float] = (
            asyncio.get_running_loop().create_future()
        )  # loop time, of content
        self.first_byte_at = 0.0
        self.chunks = 0
        self._request = request
        self._transport: Any = None
        self._head = b""
        self._last_at = self._longest_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.first_byte_at = self.first_byte_at or now
        count = data.count(CONTENT)
        if not count:
            self._head += data[:300]
            return
        self.chunks += count
        self._longest_s = max(self._longest_s, now - self._last_at)
        self._last_at = now
        if not self.opened.done():
            self.opened.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            answer = self._head.decode("latin-1")
            self.opened.set_exception(CannotMeasure(f"a stream did not open: {exc} {answer}"))

    def start_counting(self) -> None:
        self.chunks, self._longest_s, self._last_at = 0, 0.0, time.monotonic()

    def longest_s(self) -> float:
        """Return the longest pause since the counting began; the one that lasts is one too."""
        return max(self._longest_s, time.monotonic() - self._last_at)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _opened(port: int, model: str) -> _Stream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: _Stream(request(model)), "127.0.0.1", port)
    try:
        async with asyncio.timeout(WITHIN_S):
            await stream.opened
    except TimeoutError:
        raise CannotMeasure(f"a stream had no content within {WITHIN_S:.0f} s") from None
    return stream


async def _probed(port: int) -> list[float]:
    """Ask on new connections, one after the other; return the milliseconds until each one's first byte."""
    waits_ms = []
    for _ in range(PROBES):
        began = time.monotonic()
        stream = await _opened(port, QUICK_MODEL)
        waits_ms.append((stream.first_byte_at - began) * 1000)
        stream.leave()
        await asyncio.sleep(PROBE_PAUSE_S)
    return waits_ms


async def _until_none_in_flight(server: Server) -> float:
    """Return the requests in flight once there are none, or those that there are after all that time."""
    for _ in range(int(WITHIN_S / SETTLE_S)):
        await asyncio.sleep(SETTLE_S)
        if not await asyncio.to_thread(_in_flight, server.url):
            return 0.0
    return await asyncio.to_thread(_in_flight, server.url)


def _in_flight(url: str) -> float:
    with contextlib.closing(urllib.request.urlopen(f"{url}/metrics", timeout=30)) as answer:
        found = _IN_FLIGHT.search(answer.read().decode())
    if found is None:
        raise CannotMeasure("the gateway does not tell how many requests are in flight")
    return float(found[1])
