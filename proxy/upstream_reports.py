"""Writes what a worker sees of its upstreams into the rows that the admin shows.

Each worker writes what it has seen itself; the last one to see a change is the one that is shown. A row that
nobody has confirmed for a while is of a worker that is no more. All of it runs in the watcher's thread, once
a second at most, and a database that is down loses nothing: what differs from what was written is written
later.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
from django.db import DatabaseError, InterfaceError

from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition, Lookout
from proxy.fleet.registry import Fleet
from proxy.upstream_state import UpstreamState

log = structlog.get_logger()

PAUSE_S = 1.0
# An unchanged row is written again so often: the others see that somebody still says so.
CONFIRM_S = 60.0
MAX_ROWS = 200  # in one statement; the open ones go first
MAX_REPORTED = 2000
LIST_EVERY_S = 5.0
LIST_AGAIN_S = 3600.0
RETIRE_EVERY_S = 60.0
_STATES = {
    State.CLOSED: UpstreamState.State.CLOSED,
    State.HALF_OPEN: UpstreamState.State.HALF_OPEN,
    State.OPEN: UpstreamState.State.OPEN,
}
_DATABASE_DOWN = (DatabaseError, InterfaceError, OSError)


class Reporter:
    """One worker's. `worker` is the name that the admin shows."""

    def __init__(self, fleet: Fleet, lookout: Lookout, *, worker: str) -> None:
        """Have written nothing."""
        self._fleet, self._lookout, self._worker = fleet, lookout, worker
        self._written: dict[str, tuple[Condition, float]] = {}
        self._listed: dict[str, float] = {}  # when it was last listed, by the loop's time of its last answer
        self._next = self._list_next = self._retire_next = 0.0

    def poll(self, now: float) -> None:
        """Write what has changed, unless something was written within the last second. Never raises."""
        if now < self._next:
            return
        self._next = now + PAUSE_S
        try:
            self._report(now)
            self._list(now)
            self._retire(now)
        except _DATABASE_DOWN as problem:
            log.debug("upstreams_not_reported", error=str(problem))
        except Exception:  # the thread that calls must live
            log.exception("upstream_reports")

    def _report(self, now: float) -> None:
        seen = {each.upstream: each for each in self._lookout.conditions() if each.ails}
        well = {name: Condition(upstream=name) for name in self._written if name not in seen}
        fresh = [each for each in (*seen.values(), *well.values()) if self._is_new(each, now)]
        fresh.sort(key=lambda each: -each.state)
        # In one order, or two workers could wait for each other's rows.
        chosen = sorted(fresh[:MAX_ROWS], key=lambda each: each.upstream)
        if not chosen:
            return
        UpstreamState.report([self._row(each, now) for each in chosen])
        for each in chosen:
            if each.upstream in well:
                del self._written[each.upstream]
            else:
                self._written[each.upstream] = (each, now)

    def _is_new(self, condition: Condition, now: float) -> bool:
        known = self._written.get(condition.upstream)
        if known is None:
            return _fits(condition.upstream) and (
                len(self._written) < MAX_REPORTED or condition.state is not State.CLOSED
            )
        return known[0] != condition or now - known[1] >= CONFIRM_S

    def _row(self, condition: Condition, now: float) -> UpstreamState:
        return UpstreamState(
            upstream=condition.upstream,
            state=_STATES[condition.state_at(now)],
            failures=condition.failures,
            reason=condition.reason[:300],
            open_until=_moment(condition.open_until) if condition.open_until else None,
            cooling_until=_moment(condition.cooling_until) if condition.cooling_until else None,
            worker=self._worker,
            reported_at=_moment(now),
        )

    def _list(self, now: float) -> None:
        """List the upstreams that answer as well: an operator may want to hold one of them open."""
        if now < self._list_next:
            return
        self._list_next = now + LIST_EVERY_S
        used: Mapping[str, float] = {
            each.id: each.cost.observed_at for each in self._fleet.known() if each.cost.observed_at
        }
        self._listed = {name: at for name, at in self._listed.items() if name in used}
        new = [
            name
            for name, at in used.items()
            if at >= self._listed.get(name, -LIST_AGAIN_S) + LIST_AGAIN_S and _fits(name)
        ]
        if new:
            UpstreamState.confirm(sorted(new)[:MAX_ROWS], worker=self._worker, at=_moment(now))
            self._listed.update({name: used[name] for name in sorted(new)[:MAX_ROWS]})

    def _retire(self, now: float) -> None:
        if now >= self._retire_next:
            self._retire_next = now + RETIRE_EVERY_S
            UpstreamState.retire(_moment(now), unconfirmed_s=5 * CONFIRM_S)


def _fits(upstream: str) -> bool:
    """Can it be a row's name? Clients make up models."""
    return len(upstream) <= 300 and upstream.isprintable()


def _moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
