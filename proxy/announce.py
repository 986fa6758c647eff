"""Carries "the configuration changed" to other processes through Redis, when there is one.

Polling alone meets the one-second promise; this makes it a few milliseconds. Losing Redis loses
nothing but that.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from proxy.store.redis import CONNECTION_ERRORS, sync_client

log = structlog.get_logger()

CHANNEL = "gateway:configuration"
RETRY_S = 5.0


def publish(url: str, version: int) -> None:
    """Tell all processes; failures are only logged. Called off the event loop, after a commit."""
    client = sync_client(url)
    try:
        client.publish(CHANNEL, str(version))
    except CONNECTION_ERRORS as problem:
        log.warning("announce_failed", error=str(problem))
    finally:
        client.close()


def listen(url: str, heard: Callable[[], None]) -> threading.Thread:
    """Call `heard` for every announcement, in a daemon thread, for ever."""
    thread = threading.Thread(target=_listen, args=(url, heard), name="announcements", daemon=True)
    thread.start()
    return thread


def _listen(url: str, heard: Callable[[], None]) -> None:
    while True:
        try:
            client: Any = sync_client(url)  # its pubsub has no types
            subscription = client.pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(CHANNEL)
            heard()  # something may have changed before we listened
            for _ in subscription.listen():
                heard()
        except CONNECTION_ERRORS:
            time.sleep(RETRY_S)
