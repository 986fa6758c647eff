"""How a web process ends; real ones are started in tests/test_serve.py and tests/test_shutdown.py."""

import signal
from types import SimpleNamespace

import pytest
import uvicorn

from gatewaysite.draining import IDLE_S
from gatewaysite.worker import Worker


@pytest.mark.parametrize(
    ("signals", "grace_s", "idle_s"),
    [
        ([signal.SIGTERM], 30.0, IDLE_S),
        ([signal.SIGTERM], 1.0, 1.0),
        ([], 30.0, IDLE_S),
        ([signal.SIGINT, signal.SIGTERM], 30.0, 0.0),
    ],
)
async def test_it_keeps_idle_connections_unless_a_person_waits(signals, grace_s, idle_s):
    worker = Worker(uvicorn.Config("nobody:asked"), grace_s=grace_s)
    worker.servers = []
    worker.lifespan = SimpleNamespace(state={})
    worker._captured_signals = signals
    await worker.shutdown()
    assert worker.server_state.idle_s == idle_s
