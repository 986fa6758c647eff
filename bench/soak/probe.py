"""Light traffic at a fixed rate, whatever the answers take: no delay hides behind a slow answer.

Every request has its time on a schedule; its delay counts from there. Times are time.monotonic(),
which is the same clock in every process of the machine.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.processes import CannotMeasure

_BODY = (
    b'{"model":"bench-fast","messages":[{"role":"user","content":"In one sentence, how does a jury reach '
    b'a verdict? (%012d)"}]}'
)
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it was due, when it was sent, when its answer was whole, which status."""

    due: float
    sent: float
    done: float
    status: int

    @property
    def delay_ms(self) -> float:
        """Return the milliseconds from when it was due."""
        return (self.done - self.due) * 1000


class Probe:
    """Sends one request with each of `secrets` in turn, `per_s` requests a second in all."""

    def __init__(self, port: int, secrets: Sequence[str], *, per_s: float) -> None:
        """`seen` has one list per secret."""
        self.seen: list[list[Seen]] = [[] for _ in secrets]
        self._port = port
        self._secrets = secrets
        self._pause_s = 1 / per_s
        self._idle: list[_Connection] = []
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        due = time.monotonic()
        while True:
            for index in range(len(self._secrets)):
                task = asyncio.create_task(self._ask(index, due))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                due += self._pause_s
                await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _ask(self, index: int, due: float) -> None:
        self._count += 1
        body = _BODY % self._count
        request = _HEAD % (self._secrets[index].encode(), len(body)) + body
        connection = self._idle.pop() if self._idle else await self._connect()
        sent = time.monotonic()
        status = await connection.ask(request)
        self.seen[index].append(Seen(due, sent, time.monotonic(), status))
        self._idle.append(connection)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One keep-alive connection: status and length are all that is read of an answer."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)  # type: ignore[union-attr]  # connected, and TCP transports write
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) >= int(length or b"0"):
            self._received = b""
            if not self._answer.done():
                self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(CannotMeasure(f"a connection broke: {exc}"))


def between(seen: Sequence[Seen], begin: float, end: float) -> list[Seen]:
    """Return the requests that were under way at any time between `begin` and `end`."""
    return [each for each in seen if each.done >= begin and each.due <= end]


def middle_ms(seen: Sequence[Seen]) -> float:
    """Return the median delay."""
    return median(each.delay_ms for each in seen)


def largest_ms(seen: Sequence[Seen]) -> float:
    """Return the largest delay."""
    return max(each.delay_ms for each in seen)


async def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait until `condition` holds. Raises CannotMeasure."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what} did not happen within {within_s:g} s")
        await asyncio.sleep(0.005)
