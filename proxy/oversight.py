"""What stands around a process's fleet: who sees its breakers, who is told of them, who may change them.

attempts -> Fleet -> Lookout   -> health, metrics
              ^         '------> Reporter   -> rows -> the admin
              |------ Neighbours <-> Redis <-> other workers
              '------ Controls   <- snapshot <- rows <- the admin
"""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from proxy import broadcast
from proxy.breaker_metrics import BreakerMeter, worst_states
from proxy.fleet.breaker import State
from proxy.fleet.controls import Controls
from proxy.fleet.lookout import Lookout
from proxy.fleet.neighbours import Neighbours
from proxy.fleet.news import News
from proxy.fleet.registry import Fleet
from proxy.fleet.standing import Standing
from proxy.snapshot import Snapshot
from proxy.upstream_reports import Reporter


class Oversight:
    """One process's. Made inside its event loop."""

    def __init__(self, fleet: Fleet, *, name: str, worker: int, meter: BreakerMeter, redis_url: str) -> None:
        """Watch `fleet`. `name` is this process's among all; `redis_url` "": it has no neighbours."""
        self.lookout = Lookout(fleet)
        self._loop = fleet.loop
        self._meter = meter
        self._redis_url = redis_url
        self._snapshot: Snapshot | None = None
        self._controls = Controls(fleet, since=time.time(), reset=self._reset)
        self._applied: Mapping[str, Any] | None = None
        self._reporter = Reporter(fleet, self.lookout, worker=f"{socket.gethostname()}/{worker}"[:100])
        self._broadcaster = broadcast.Broadcaster(redis_url) if redis_url else None
        self._neighbours: Neighbours | None = None
        if self._broadcaster is not None:
            tell = self._broadcaster.tell
            self._neighbours = Neighbours(fleet, by=name, tell=tell, looked=self.lookout.look)
        meter.states = self._states
        fleet.changed, fleet.failed = self._turned, self._failed

    def start(self) -> None:
        """Start to tell and to listen."""
        if self._broadcaster is not None:
            self._broadcaster.start()
            broadcast.follow(
                self._redis_url,
                heard=lambda news: self._on_loop(self._heard, news),
                joined=lambda: self._on_loop(self._joined),
            )

    def follow(self, snapshot: Snapshot) -> None:
        """Do what a new configuration asks. For any thread."""
        self._snapshot = snapshot
        if snapshot.controls is not self._applied:
            self._applied = snapshot.controls
            self._on_loop(self._controls.apply, snapshot.controls)

    def poll(self) -> None:
        """Write what has changed into the rows. For the watcher's thread."""
        self._reporter.poll(time.time())

    def close(self) -> None:
        """Look and tell no more."""
        self.lookout.close()
        if self._broadcaster is not None:
            self._broadcaster.close()

    # ---------------------------------------------------------------- on the event loop

    def _turned(self, standing: Standing) -> None:
        before = self.lookout.of(standing.id)
        now = self.lookout.look(standing)
        if now.state is State.OPEN and not now.held and (before is None or before.state is not State.OPEN):
            self._meter.opened(now.provider)
        if self._neighbours is not None:
            self._neighbours.turned(standing)

    def _failed(self, standing: Standing) -> None:
        self.lookout.look(standing)
        if self._neighbours is not None:
            self._neighbours.failed(standing)

    def _reset(self, standing: Standing) -> None:
        if self._neighbours is not None:
            self._neighbours.forgets(standing)
        standing.reset()
        self.lookout.look(standing)

    def _heard(self, news: News) -> None:
        if self._neighbours is not None:
            self._neighbours.heard(news)

    def _joined(self) -> None:
        if self._neighbours is not None:
            self._neighbours.repeat(self.lookout.ailing())

    # ---------------------------------------------------------------- from other threads

    def _states(self) -> Mapping[str, int]:
        providers = () if self._snapshot is None else self._snapshot.accounts
        return worst_states(providers, self.lookout.conditions(), time.time())

    def _on_loop(self, act: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(act, *arguments)
