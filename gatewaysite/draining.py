"""How a web process takes leave of its clients: announced, and no faster than they can follow.

uvicorn closes idle connections at once, and resets the request that is on its way on one of them. Here
they stay open for as long as the clients' pools would use them; whatever is asked until then is answered with
`Connection: close`. A connection whose response had begun without saying so is idle afterwards, and ends
in the same way.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

import structlog
from uvicorn.server import ServerState

# httpx, and with it the SDKs of OpenAI and Anthropic, reuses no connection that was idle for five seconds.
IDLE_S = 5.5
LAST_WORDS_S = 0.5
CUT_OFF_S = 2.0  # how long the application may take to write down what was cut off
_TICK_S = 0.05

log = structlog.get_logger("gatewaysite.draining")


class DrainState(ServerState):
    """What the connections of one server share: uvicorn's, and whether they are to end.

    `idle_s`: how long a connection may still wait for its last request; None while nothing ends.
    """

    idle_s: float | None = None

    async def drain(
        self, *, idle_s: float, grace_s: float, break_off: Callable[[], None] = lambda: None
    ) -> None:
        """Tell every connection, and wait until all have ended; cut off what outlasts `grace_s`.

        `break_off` has the application end what it can end in words.
        """
        log.info("web.draining", connections=len(self.connections), requests=len(self.tasks))
        self.idle_s = idle_s
        for connection in list(self.connections):
            connection.shutdown()
        try:
            await asyncio.wait_for(self._quiet(), grace_s)
        except TimeoutError:
            break_off()
            if self.tasks:
                await asyncio.wait(list(self.tasks), timeout=LAST_WORDS_S)
            await self._cut_off()

    async def _quiet(self) -> None:
        while self.connections or self.tasks:  # noqa: ASYNC110 - nothing tells when a set is empty
            await asyncio.sleep(_TICK_S)

    async def _cut_off(self) -> None:
        if self.tasks:
            log.warning("web.cut_off", requests=len(self.tasks))
        for connection in list(self.connections):
            # A WebSocket knows but one way to end.
            getattr(connection, "cut_off", connection.shutdown)()
        for patience_s in (CUT_OFF_S, _TICK_S):
            if self.tasks:
                _, running = await asyncio.wait(list(self.tasks), timeout=patience_s)
                for task in running:
                    task.cancel()


async def take_waiting(listeners: Sequence[socket.socket], protocol: Callable[[], asyncio.Protocol]) -> None:
    """Accept what waits in the listeners' queues, and close them.

    A connection that nobody has accepted is reset when the last process closes the listener.
    """
    accepted: list[socket.socket] = []
    for listener in listeners:
        listener.settimeout(0)
        try:
            while True:
                accepted.append(listener.accept()[0])
        except OSError:  # nothing waits any more, or no descriptor is left
            listener.close()
    loop = asyncio.get_running_loop()
    for connection in accepted:
        await loop.connect_accepted_socket(protocol, connection)
