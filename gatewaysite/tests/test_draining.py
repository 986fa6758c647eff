"""What a web process does with its connections when it ends; over the wire: test_http_protocol.py."""

import asyncio
import contextlib
import socket

import pytest

from gatewaysite.draining import DrainState, take_waiting


class Connection:
    """One that ends when it is told to, if it is willing."""

    def __init__(self, state, *, willing):
        self.told = []
        self._state = state
        self._willing = willing
        state.connections.add(self)

    def shutdown(self):
        self.told.append("shutdown")
        if self._willing:
            self._state.connections.discard(self)

    def cut_off(self):
        self.told.append("cut off")
        self._state.connections.discard(self)


class Socket:
    """A WebSocket's connection, as uvicorn's own."""

    def __init__(self, state):
        self.told = []
        state.connections.add(self)

    def shutdown(self):
        self.told.append("shutdown")


def running(state, work):
    task = asyncio.get_running_loop().create_task(work)
    state.tasks.add(task)
    task.add_done_callback(state.tasks.discard)
    return task


async def test_it_waits_for_connections_and_requests():
    state = DrainState()
    connection = Connection(state, willing=True)
    answered = asyncio.Event()
    request = running(state, answered.wait())
    draining = asyncio.ensure_future(state.drain(idle_s=3.0, grace_s=60.0))
    await asyncio.sleep(0)
    assert connection.told == ["shutdown"]
    assert state.idle_s == 3.0
    assert not draining.done()
    answered.set()
    await draining
    assert request.result() is True


async def test_it_cuts_off_what_outlasts_the_grace_period():
    state = DrainState()
    idle, busy, live = Connection(state, willing=True), Connection(state, willing=False), Socket(state)
    await state.drain(idle_s=0.0, grace_s=0.0)
    assert (idle.told, busy.told) == (["shutdown"], ["shutdown", "cut off"])
    assert live.told == ["shutdown", "shutdown"]


async def test_it_cancels_a_request_that_heeds_no_departure(monkeypatch):
    monkeypatch.setattr("gatewaysite.draining.CUT_OFF_S", 0.01)
    state = DrainState()
    request = running(state, asyncio.Event().wait())
    await state.drain(idle_s=0.0, grace_s=0.0)
    assert request.cancelled()


async def test_it_takes_what_waits_in_the_queue_and_nothing_after_that():
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(socket.create_connection(address)) for _ in range(3)]
        await take_waiting([listener], Protocol)
        accepted = sorted(transport.get_extra_info("peername") for transport in made)
        assert accepted == sorted(client.getsockname() for client in waiting)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for transport in made:
            transport.close()
        await asyncio.sleep(0)
