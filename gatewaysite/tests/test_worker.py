"""How a web process ends; real ones are started in tests/test_serve.py and tests/test_shutdown.py."""

import asyncio
import contextlib
import signal
import socket
from types import SimpleNamespace

import pytest
import uvicorn
import uvloop

from gatewaysite.draining import IDLE_S
from gatewaysite.worker import Worker, listeners

CROWD = 40


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


async def turns_to_accept(sockets):
    """Return how often the loop turns until it has a crowd that waits."""
    accepted = []
    made = type(
        "Made", (asyncio.Protocol,), {"connection_made": lambda _, transport: accepted.append(transport)}
    )
    servers = [await asyncio.get_running_loop().create_server(made, sock=each) for each in sockets]
    turns = 0
    while len(accepted) < CROWD:
        await asyncio.sleep(0)
        turns += 1
    for each in (*accepted, *servers):
        each.close()
    return turns


def test_it_takes_in_a_crowd_within_a_few_turns_of_its_loop():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * CROWD))
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        assert runner.run(turns_to_accept(listeners(listener))) < CROWD / 2
