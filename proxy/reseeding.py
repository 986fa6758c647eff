"""Has the counters of budgets be right after anything: by the ledger, and by what the spool knows beyond it.

Before a configuration is published, in the watcher's thread, the windows of its new budgets are counted: what
the ledger says, and every segment on disk that the ledger does not have. At start those are all of them.
Later on the counters follow the ledger, so that what others have booked is seen. While the database is down
at start, budgets go by the sums that the process before has kept (proxy.keeping).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connection

from proxy.charges import Budgets, Owned
from proxy.keeping import Keeping
from proxy.ledger_sums import Changes, Consistent, Receipts, consistent, sums_of
from proxy.snapshot import Snapshot
from proxy.store.base import Hold, Ledgered, Store
from proxy.unshipped import unshipped

log = structlog.get_logger()

POLL_S = 1.0
ALL_AGAIN_S = 300.0
# So long after its line in the spool a call is settled in a store that is shared. Were a sum that has it
# lifted before, it would be added once more.
SETTLED_S = 0.25
DATABASE_DOWN = (DatabaseError, InterfaceError, OSError)

# Runs something on the event loop, and waits for it, from another thread.
OnLoop = Callable[[Callable[[], Any]], Any]


class Reseeding:
    """One process's. `prepare` and `poll` are for the watcher's thread, the rest for the event loop."""

    def __init__(
        self, store: Store, *, spool: Path, receipts: Receipts, on_loop: OnLoop, keeping: Keeping | None
    ) -> None:
        """`receipts`: which segments are in the database. `keeping`: where counters are in memory alone."""
        self._store, self._spool, self._receipts, self._on_loop = store, spool, receipts, on_loop
        self._keeping = keeping
        self._settled_s = SETTLED_S if keeping is None else 0.0
        self._budgets: Budgets | None = None
        self._windows: Mapping[str, Owned] = {}
        self._windows_until = 0.0
        self._counted: set[str] = set()  # windows whose sums are what ledger and spool say
        self._ledger: dict[str, Ledgered] = {}  # as it was when we asked last
        self._doubts: list[Hold] = []
        self._began = time.time()
        self._changes = Changes(datetime.fromtimestamp(self._began, UTC))
        self._polled_at = 0.0
        self._all_at = 0.0

    def prepare(self, snapshot: Snapshot, *, database_up: bool) -> None:
        """Count the budgets that are new in a configuration that is about to be published."""
        first = self._budgets is None
        budgets = Budgets(snapshot)
        if first and self._keeping is not None:
            self._keeping.begin()
        self._budgets, self._windows_until = budgets, 0.0
        self._look_at_windows(budgets, time.time())
        counted = database_up and self._try(self._count_new)
        if first and not counted and self._keeping is not None:
            self._go_by_kept(self._keeping, budgets)

    def poll(self, *, database_up: bool) -> None:
        """Follow the ledger, about once a second."""
        now = time.time()
        if self._budgets is None or abs(now - self._polled_at) < POLL_S:
            return
        self._polled_at = now
        self._look_at_windows(self._budgets, now)
        if database_up and self._try(self._count_new):
            self._try(self._follow)
        if self._keeping is not None:
            self._keeping.keep(now)

    def close(self) -> None:
        """Keep the last counters. On the event loop."""
        if self._keeping is not None:
            self._keeping.close()

    async def before_dropping(self, keys: Collection[str]) -> bool:
        """Raise the sums of these windows to what is spent by now; False: the database is down."""
        sums = await asyncio.to_thread(self._fresh, keys)
        if sums is not None:
            await asyncio.sleep(self._settled_s)
            self._store.raise_spent(sums)
        return sums is not None

    async def reseed(self) -> Mapping[str, Ledgered]:
        """Return what is spent of all windows by now; while the database is down, by what it said last."""
        windows = self._windows
        sums = await asyncio.to_thread(self._fresh, windows)
        return await asyncio.to_thread(self._by_last_ledger) if sums is None else sums

    def _fresh(self, keys: Collection[str]) -> dict[str, Ledgered] | None:
        windows = self._windows
        try:
            return self._sums({key: windows[key] for key in keys if key in windows})
        except DATABASE_DOWN as problem:
            log.warning("ledger_unread", error=str(problem))
            return None
        finally:
            connection.close()  # the thread's own

    def _by_last_ledger(self) -> dict[str, Ledgered]:
        if self._budgets is None:
            return {}
        return Consistent(dict(self._ledger), ()).with_unshipped(unshipped(self._spool, self._budgets))

    def _look_at_windows(self, budgets: Budgets, now: float) -> None:
        if now < self._windows_until:
            return
        windows = budgets.at(now)
        self._windows = windows
        self._windows_until = min((each.purse.span.end for each in windows.values()), default=float("inf"))
        self._counted &= windows.keys()
        self._ledger = {key: sums for key, sums in self._ledger.items() if key in windows}

    def _count_new(self) -> None:
        new = {key: each for key, each in self._windows.items() if key not in self._counted}
        # One that has begun since we count has had nothing before.
        old = {key: each for key, each in new.items() if each.purse.span.start <= self._began}
        if old or self._doubts:
            sums = self._sums(old)
            time.sleep(self._settled_s)
            self._on_loop(lambda: self._raise(sums))
            log.info("budgets_counted", windows=len(sums))
        self._counted |= new.keys()

    def _raise(self, sums: Mapping[str, Ledgered]) -> None:
        self._store.raise_spent(sums)
        doubts, self._doubts = self._doubts, []
        for hold in doubts:
            self._store.give_back(hold, now=time.time())

    def _raise_doubtful(self, sums: Mapping[str, Ledgered]) -> None:
        self._store.raise_spent(sums)
        self._store.adopt(self._doubts)

    def _sums(self, windows: Mapping[str, Owned]) -> dict[str, Ledgered]:
        """Return what is spent: by the ledger, and by the segments that it does not have."""
        assert self._budgets is not None
        segments = unshipped(self._spool, self._budgets)
        found = consistent(list(windows.values()), segments.keys(), self._receipts)
        self._ledger.update(found.sums)
        return found.with_unshipped(segments)

    def _follow(self) -> None:
        now = time.time()
        if now - self._all_at > ALL_AGAIN_S:
            self._all_at = now
            found = sums_of(self._windows.values())
        else:
            found = self._changes.since_last(self._windows.keys(), datetime.fromtimestamp(now, UTC))
        if found:
            self._ledger.update(found)
            self._on_loop(lambda: self._store.raise_spent(found))

    def _go_by_kept(self, keeping: Keeping, budgets: Budgets) -> None:
        sums, self._doubts = keeping.recall(budgets, self._windows.keys(), self._spool)
        self._on_loop(lambda: self._raise_doubtful(sums))

    def _try(self, work: Callable[[], None]) -> bool:
        """Do something with the database; False: it is down."""
        try:
            work()
        except DATABASE_DOWN as problem:
            log.warning("ledger_unread", error=str(problem))
            return False
        return True
