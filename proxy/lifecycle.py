"""The process's one Gateway: made on first use inside the event loop, closed by whoever serves.

Nothing depends on ASGI lifespan, which Daphne and Channels do not have.
"""

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

from config.models import changed

# Every process that saves rows has this module, and few of them serve: they do without the data plane.
if TYPE_CHECKING:
    from proxy.announce import Announcer
    from proxy.gateway import Gateway

_gateway: "Gateway | None" = None


def gateway() -> "Gateway":
    """Return this process's gateway, starting it on first use."""
    global _gateway  # noqa: PLW0603 - one per process is the point
    if _gateway is None:
        from proxy.gateway import Gateway  # noqa: PLC0415

        _gateway = Gateway(worker=int(os.environ.get("GATEWAY_WORKER", "0")))
        _gateway.start()
    return _gateway


def running() -> "Gateway | None":
    """Return the gateway if it has been started."""
    return _gateway


def break_off() -> None:
    """End what is still running, as an error that says so."""
    if _gateway is not None:
        _gateway.break_off()


async def close() -> None:
    """Close the gateway if it was ever started."""
    global _gateway
    if _gateway is not None:
        current, _gateway = _gateway, None
        await current.close()


def on_configuration_changed(**_: Any) -> None:
    """Follow a change made in this very process at once, and tell the others."""
    if _gateway is not None:
        _gateway.watcher.poke()
    if (announcer := _announcer()) is not None:
        announcer.announce()


@cache
def _announcer() -> "Announcer | None":
    if not settings.GATEWAY.redis_url:
        return None
    from proxy.announce import Announcer  # noqa: PLC0415

    return Announcer(settings.GATEWAY.redis_url)


changed.connect(on_configuration_changed, dispatch_uid="proxy.lifecycle")
