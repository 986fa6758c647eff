"""Opens many streams at once and keeps them open: a raw protocol on uvloop, one process."""

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass

import uvloop

from bench.processes import HEADERS, CannotMeasure, Server

OPENED_AT_ONCE = 100
SETTLE_S = 2.0
_numbers = itertools.count(time.time_ns())


@dataclass(frozen=True, slots=True)
class Held:
    """Resident memory in MB before, with `opened` idle streams, and after all clients left."""

    opened: int
    before_mb: float
    with_streams_mb: float
    after_mb: float

    @property
    def kb_per_stream(self) -> float:
        """Return what one stream costs."""
        return (self.with_streams_mb - self.before_mb) * 1024 / max(self.opened, 1)


def hold(server: Server, count: int) -> Held:
    """Open `count` streams, wait until all are idle, and close them. Raises CannotMeasure."""
    return uvloop.run(_hold(server, count))


class _Client(asyncio.Protocol):
    """Sends one request and notes when the first content has come."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.content: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.BaseTransport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]  # TCP transports write

    def data_received(self, data: bytes) -> None:
        if self.content.done():
            return
        self._received += data
        if b"verdict" in self._received:
            self.content.set_result(None)
            self._received = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.content.done():
            answer = self._received[:300].decode("latin-1")
            self.content.set_exception(CannotMeasure(f"a stream did not open: {exc} {answer}"))


async def _hold(server: Server, count: int) -> Held:
    before_mb = server.rss_mb()
    clients: list[_Client] = []
    try:
        while len(clients) < count:
            clients += await _open(server.port, min(OPENED_AT_ONCE, count - len(clients)))
        await asyncio.sleep(SETTLE_S)
        with_streams_mb = server.rss_mb()
    finally:
        for client in clients:
            if client.transport is not None:
                client.transport.close()
    await asyncio.sleep(SETTLE_S)
    return Held(len(clients), before_mb, with_streams_mb, server.rss_mb())


async def _open(port: int, count: int) -> list[_Client]:
    loop = asyncio.get_running_loop()
    opening = [
        loop.create_connection(lambda: _Client(request("bench-idle")), "127.0.0.1", port)
        for _ in range(count)
    ]
    clients = [protocol for _, protocol in await asyncio.gather(*opening)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.content for client in clients))
        return clients
    raise CannotMeasure("a stream had no content within 60 s")


def request(model: str) -> bytes:
    """Return a streaming request with a body of its own: those of one body would share one call."""
    body = b'{"model":"%b","stream":true,"messages":[{"role":"user","content":"Stay with me (%d)."}]}' % (
        model.encode(),
        next(_numbers),
    )
    headers = {**HEADERS, "host": "bench", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + b"\r\n" + body
