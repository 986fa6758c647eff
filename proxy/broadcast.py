"""Carries news of upstreams between workers through Redis, when there is one.

News goes out on a channel, and what still holds is kept in a hash for those that start later, until it has
passed by Redis's own clock. Publishing and listening happen in threads of their own: nobody waits for Redis.
While it is down each worker knows what it has seen itself; when it is back, all say once more what holds.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import structlog

from proxy.fleet.news import MAX_FOR_S, Kind, News, unpack
from proxy.store.redis import CONNECTION_ERRORS, sync_client

log = structlog.get_logger()

CHANNEL = "gateway:upstreams"
KEPT = "gw:upstreams"
MAX_KEPT = 1000
MAX_WAITING = 1000
GATHER_S = 0.02
RETRY_S = 2.0


class Broadcaster:
    """Publishes in its own thread."""

    def __init__(self, url: str) -> None:
        """Publish to the Redis at `url`."""
        self._url = url
        self._waiting: deque[tuple[News, float]] = deque(maxlen=MAX_WAITING)
        self._due = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="upstream-news", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def tell(self, news: News) -> None:
        """Tell all processes, soon. Never waits, never raises."""
        self._waiting.append((news, time.monotonic()))
        self._due.set()

    def close(self) -> None:
        """End the thread, soon. What waits is still told."""
        self._closing = True
        self._due.set()

    def _run(self) -> None:
        while not self._closing or self._waiting:
            self._due.wait()
            time.sleep(GATHER_S)
            self._due.clear()
            news = self._newest()
            if not news:
                continue
            try:
                with contextlib.closing(sync_client(self._url)) as client:
                    publish(client, news)
            except CONNECTION_ERRORS as problem:
                log.warning("upstream_news_lost", count=len(news), error=str(problem))

    def _newest(self) -> list[News]:
        """Take what waits: the newest of each subject, with what is left of its time."""
        newest: dict[str, News] = {}
        while self._waiting:
            news, at = self._waiting.popleft()
            newest.pop(news.subject, None)
            newest[news.subject] = news.after(time.monotonic() - at)
        return [each for each in newest.values() if each.for_s or each.kind is not Kind.OPEN]


def publish(client: Any, news: Iterable[News]) -> None:
    """Say and keep it, in one transaction: the order is the same for all. Blocking; for threads."""
    now_s = _clock(client)
    room = client.hlen(KEPT) < MAX_KEPT or len(_kept(client, now_s)) < MAX_KEPT
    with client.pipeline(transaction=True) as commands:
        for each in news:
            if not each.for_s:
                commands.hdel(KEPT, each.subject)
            elif room:
                value = orjson.dumps([now_s + each.for_s, each.pack().decode()])
                commands.hset(KEPT, each.subject, value)
            commands.publish(CHANNEL, each.pack())
        commands.expire(KEPT, int(MAX_FOR_S))
        commands.execute()


def kept(client: Any) -> list[News]:
    """Return what still holds. Blocking; for threads."""
    return list(_kept(client, _clock(client)).values())


def _kept(client: Any, now_s: float) -> Mapping[bytes, News]:
    found: dict[bytes, News] = {}
    over: list[bytes] = []
    for subject, value in client.hgetall(KEPT).items():
        until_s, news = _read(value)
        if news is not None and until_s > now_s:
            found[subject] = news.after(max(news.for_s - (until_s - now_s), 0.0))
        elif until_s < now_s - 1:  # not just now: somebody may be renewing it
            over.append(subject)
    if over:
        client.hdel(KEPT, *over)
    return found


def _read(value: bytes) -> tuple[float, News | None]:
    try:
        until_s, packed = orjson.loads(value)
        return float(until_s), unpack(packed.encode())
    except (ValueError, TypeError, AttributeError):
        return 0.0, None


def _clock(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def follow(url: str, *, heard: Callable[[News], None], joined: Callable[[], None]) -> threading.Thread:
    """Call `heard` for what holds and for all that follows, in a daemon thread, for ever.

    `joined` is called each time that listening has begun, after what holds.
    """
    thread = threading.Thread(target=_follow, args=(url, heard, joined), name="upstream-ear", daemon=True)
    thread.start()
    return thread


def _follow(url: str, heard: Callable[[News], None], joined: Callable[[], None]) -> None:
    while True:
        try:
            client: Any = sync_client(url, answers=False)  # its pubsub has no types
            subscription = client.pubsub()
            subscription.subscribe(CHANNEL)
            for message in subscription.listen():
                if message["type"] == "subscribe":  # from here on nothing is missed: now what was before
                    with contextlib.closing(sync_client(url)) as reader:
                        for before in kept(reader):
                            heard(before)
                    joined()
                elif (news := unpack(message["data"])) is not None:
                    heard(news)
        except CONNECTION_ERRORS:
            time.sleep(RETRY_S)
