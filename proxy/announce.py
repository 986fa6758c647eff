"""Carries "the configuration changed" to other processes through Redis, when there is one.

Polling alone meets the one-second promise; this makes it a few milliseconds. Losing Redis loses
nothing but that: publishing happens in a thread, so that no save ever waits for it, and many changes
in a row become one announcement.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from proxy.store.redis import CONNECTION_ERRORS, sync_client

log = structlog.get_logger()

CHANNEL = "gateway:configuration"
GATHER_S = 0.02
RETRY_S = 5.0


class Announcer:
    """Publishes in its own thread, started with the first announcement."""

    def __init__(self, url: str) -> None:
        """Publish to the Redis at `url`."""
        self._url = url
        self._due = threading.Event()
        self._thread: threading.Thread | None = None

    def announce(self) -> None:
        """Tell all processes, soon. Never waits, never raises."""
        self._due.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._due.wait():
            time.sleep(GATHER_S)
            self._due.clear()
            try:
                client = sync_client(self._url)
                client.publish(CHANNEL, "changed")
                client.close()
            except CONNECTION_ERRORS as problem:
                log.warning("announce_failed", error=str(problem))


def listen(url: str, heard: Callable[[], None]) -> threading.Thread:
    """Call `heard` for every announcement, in a daemon thread, for ever."""
    thread = threading.Thread(target=_listen, args=(url, heard), name="announcements", daemon=True)
    thread.start()
    return thread


def _listen(url: str, heard: Callable[[], None]) -> None:
    while True:
        try:
            client: Any = sync_client(url, answers=False)  # its pubsub has no types
            subscription = client.pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(CHANNEL)
            heard()  # something may have changed before we listened
            for _ in subscription.listen():
                heard()
        except CONNECTION_ERRORS:
            time.sleep(RETRY_S)
