"""Where an explanation gets configuration and facts from in this process. For threads, not for the loop.

A process that serves is asked on its event loop, in a step of microseconds: all else happens in the
thread of whoever asks. One that serves nothing (the control plane) reads the rows and the workers' reports.
"""

import asyncio
import os
from typing import Any

from django.conf import settings

from proxy import lifecycle, rows
from proxy.compiling import compile_parts
from proxy.errors import Unavailable
from proxy.explaining import facts as known
from proxy.explaining.explanation import explained
from proxy.explaining.reading import Question, read
from proxy.gateway import Gateway
from proxy.middleware.chain import configured
from proxy.snapshot import ConfigurationError, Snapshot

LOOP_WAIT_S = 5.0


def explain(question: Question, *, now: float) -> dict[str, Any]:
    """Return the explanation of a request, for an operator. `now`: epoch seconds. Raises Unavailable."""
    gateway = serving_here()
    env = settings.GATEWAY
    snapshot = compiled() if gateway is None else gateway.snapshot
    assert snapshot is not None
    namespace = configured().response.namespace
    reading = read(question, snapshot, env=env, now=now, namespace=namespace)
    if gateway is None:
        facts = known.reported(reading, now=now)
    else:
        looking = known.live(gateway, reading, now=now)
        asked = asyncio.run_coroutine_threadsafe(looking, gateway.fleet.loop)
        try:
            facts = asked.result(LOOP_WAIT_S)
        except TimeoutError:
            asked.cancel()
            raise Unavailable("The gateway is too busy to be asked.", retry_after_s=1) from None
    return explained(reading, snapshot, facts, env=env, now=now)


def serving_here() -> Gateway | None:
    """Return this process's gateway if it serves requests by now."""
    gateway = lifecycle.running()
    if gateway is None or gateway.snapshot is None or os.environ.get("GATEWAY_PLANE") == "control":
        return None
    return gateway if gateway.fleet.loop.is_running() else None


def compiled() -> Snapshot:
    """Return the configuration as the rows are now. Raises Unavailable where they make none."""
    parts = {part: rows.read_part(part) for part in rows.SMALL_PARTS}
    try:
        return compile_parts(rows.version(), parts, {})
    except ConfigurationError as problem:
        raise Unavailable(f"The rows do not make a configuration: {problem}.") from None
