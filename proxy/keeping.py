"""When counters in memory are kept on disk, and what a process makes of them that has no database at start.

What is kept of budgets holds all that its process had written to the spool up to a position; what it wrote
beyond is added. What other processes have on disk may be in it already: that is held, not spent, until the
ledger can be asked, so that it is rather counted twice than not at all, and comes off again.
"""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import structlog

from keys.calendar import Span
from keys.limits import Ceiling, Purse
from proxy.charges import Budgets
from proxy.kept_counts import KeptFile, KeptSums, keep_rates, keep_sums, recall_rates, recall_sums
from proxy.spool import Spool
from proxy.store.base import Demand, Hold, Ledgered
from proxy.store.side_by_side import SideBySideStore
from proxy.unshipped import NOWHERE, unshipped

log = structlog.get_logger()

RATES_EVERY_S = 5.0
MEET_S = 5.0  # how long the processes beside us may take to tell how they stand
_DOUBTED = Ceiling(id=0, amount_nanousd=0, window="total")
_ALWAYS = Span(0, 2**53)


class Keeping:
    """One process's. `close` is for the event loop, the rest for the watcher's thread."""

    def __init__(
        self,
        store: SideBySideStore,
        spool: Spool,
        *,
        sums: Path,
        rates: Path,
        on_loop: Callable[[Callable[[], Any]], Any],
    ) -> None:
        """`sums` and `rates` are the files."""
        self._store, self._spool, self._on_loop = store, spool, on_loop
        self._sums, self._rates = KeptFile(sums), KeptFile(rates)
        self._before: KeptSums | None = None
        self._kept: Mapping[str, Ledgered] = {}
        self._rates_at = 0.0

    def begin(self) -> None:
        """Go on with what was kept, before anything is admitted."""
        if not self._store.beside.met.wait(MEET_S):
            log.error("process_beside_silent", waited_s=MEET_S)
        self._before = recall_sums(self._sums)
        rates = recall_rates(self._rates)
        self._on_loop(lambda: self._store.restore(rates, now=time.time()))

    def recall(
        self, budgets: Budgets, keys: Collection[str], directory: Path
    ) -> tuple[dict[str, Ledgered], list[Hold]]:
        """Return the sums to go by without a database, and what may be spent beyond them."""
        before = self._before
        if before is None:
            log.error("budgets_unknown", hint="the database is down, and no sums were kept")
        else:
            log.warning("budgets_by_kept_sums", kept_s_ago=round(time.time() - before.at, 1))
        known = {} if before is None else before.sums
        beyond = NOWHERE if before is None else {before.writer: before.position}
        spent = {key: known.get(key, Ledgered(0)) for key in keys}
        doubted: dict[str, int] = {}
        for name, added in unshipped(directory, budgets, beyond=beyond).items():
            certain = before is None or name.rpartition("-")[0] == before.writer
            for key in added.keys() & spent.keys():
                if certain:
                    spent[key] = spent[key]._replace(spent=spent[key].spent + added[key])
                else:
                    doubted[key] = doubted.get(key, 0) + added[key]
        return spent, [_doubt(key, amount) for key, amount in doubted.items()]

    def keep(self, now: float) -> None:
        """Write what has changed."""
        self._on_disk(lambda: self._keep_sums(self._on_loop(self._taken)))
        if abs(now - self._rates_at) >= RATES_EVERY_S:
            self._rates_at = now
            self._on_disk(self._keep_rates)

    def close(self) -> None:
        """Write the last ones."""
        self._on_disk(lambda: self._keep_sums(self._taken()))
        self._on_disk(self._keep_rates)

    def _taken(self) -> KeptSums:
        """Return the sums, and up to where they hold all: on the event loop, which changes both."""
        return KeptSums(time.time(), self._spool.name, self._spool.position, self._store.sums())

    def _keep_sums(self, taken: KeptSums | None) -> None:
        if taken is not None and taken.sums != self._kept:
            keep_sums(self._sums, taken)
            self._kept = taken.sums

    def _keep_rates(self) -> None:
        keep_rates(self._rates, self._store.lasting(), at=time.time())

    def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as problem:
            log.error("counts_not_kept", error=str(problem))


def _doubt(key: str, amount: int) -> Hold:
    purse = Purse(_DOUBTED, key, 0, _ALWAYS)
    return Hold(Demand(f"doubt-{key}", purses=(purse,), worst=amount, expected=amount))
