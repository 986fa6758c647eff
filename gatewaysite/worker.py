"""One web process: uvicorn on a socket that the parent has bound.

SIGTERM ends it as draining.py tells. SIGINT is a person's: idle connections are closed at once.

Nothing here or in the application depends on ASGI lifespan: resources start on first use, and
end in `Worker.shutdown`, inside the running loop, after the last response went out.
"""

import asyncio
import gc
import os
import signal
import socket

import uvicorn

from gatewaysite.draining import IDLE_S, DrainState, take_waiting
from gatewaysite.http_protocol import PipelineClosingProtocol
from gatewaysite.serve import GATEWAY_APP
from proxy import lifecycle

WARM_UP_S = 10.0
# A request makes some hundred objects and no cycles: the default of 700 collects every few requests.
GC_THRESHOLDS = (50_000, 20, 50)
# libuv accepts one connection a turn for each socket that listens: a crowd that comes to a busy worker would
# wait for as many turns.
ACCEPTS_A_TURN = 8
KEEP_ALIVE_S = 75  # SDK connection pools keep 60 s and less: the client closes first, not we


class Worker(uvicorn.Server):
    """uvicorn's server that says when it serves and closes the data plane when it ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        grace_s: float,
        ready_fd: int | None = None,
        warm_up_s: float | None = WARM_UP_S,
    ) -> None:
        """Take the file descriptor that is told this process's id once connections are accepted.

        `warm_up_s`: how long to wait for the first configuration; None: as long as it takes.
        """
        super().__init__(config)
        self.server_state = self._state = DrainState()
        self._grace_s = grace_s
        self._ready_fd = ready_fd
        self._warm_up_s = warm_up_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the first configuration, accept connections, then tell the parent."""
        if self.config.app == GATEWAY_APP:
            # A configuration that does not come stops nothing: /ready says what is missing.
            await asyncio.to_thread(lifecycle.gateway().watcher.ready.wait, self._warm_up_s)
        await super().startup(sockets)
        # What is imported by now lives as long as the process: no collection needs to walk it.
        gc.collect()
        gc.freeze()
        if self._ready_fd is not None:
            os.write(self._ready_fd, b"%d\n" % os.getpid())
            os.close(self._ready_fd)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, drain within the grace period, then close spool and upstream sessions."""
        waiting = [listener.dup() for listener in sockets or ()]
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await take_waiting(waiting, self._protocol)
        hasty = signal.SIGINT in self._captured_signals
        await self._state.drain(
            idle_s=0.0 if hasty else min(IDLE_S, self._grace_s),
            grace_s=self._grace_s,
            break_off=lifecycle.break_off,
        )
        await lifecycle.close()

    def _protocol(self) -> asyncio.Protocol:
        return PipelineClosingProtocol(self.config, self._state, self.lifespan.state)


def run_worker(
    *,
    listener: socket.socket,
    app: str,
    grace_s: float,
    ready_fd: int | None = None,
    warm_up_s: float | None = WARM_UP_S,
) -> None:
    """Serve `app` on `listener` until SIGTERM or SIGINT, then drain for at most `grace_s`."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=PipelineClosingProtocol,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # TRUSTED_PROXIES decides, in the lane
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    gc.set_threshold(*GC_THRESHOLDS)  # before the first configuration: a hundred thousand keys are read
    # uvicorn raises the signal that ended it once more when it is done; it is handled already.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    worker = Worker(config, grace_s=grace_s, ready_fd=ready_fd, warm_up_s=warm_up_s)
    worker.run(sockets=listeners(listener))


def listeners(listener: socket.socket) -> list[socket.socket]:
    """Return the same socket as often as a turn of the event loop is to accept from it."""
    # Not by socket.dup(): it would have the socket block, in the processes that serve from it already too.
    return [listener, *(socket.socket(fileno=os.dup(listener.fileno())) for _ in range(ACCEPTS_A_TURN - 1))]
