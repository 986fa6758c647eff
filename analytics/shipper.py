"""Carries spool segments into the database: the loop of the shipper process.

A segment's life:   on disk -> published -> receipt read back from the database -> deleted

The spool is the source of truth until the receipt is read back, so all that is kept in memory may be
lost: a shipper that is killed anywhere starts again from the directory, and what it publishes twice
is written once. A broker that forgets, a worker killed in its task and a task that failed are one
case: no receipt in time, so publish again.

Trouble has one answer: pause, longer each time, and try the next segment that is due. One segment
that always fails comes back ever more rarely and holds up no other.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from analytics.segments import Segment, Shipment, discard, final_segments, keep_rejected, load

POLL_S = 0.2
RECEIPT_TIMEOUT_S = 60.0
# A worker that is down for long must not find the same segment a hundred times.
LONGEST_RECEIPT_TIMEOUT_S = 900.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 15.0
IN_FLIGHT = 8  # published and still in time for their receipt
OUTSTANDING = 64  # published without a receipt, in time or not

log = structlog.get_logger()


@dataclass(slots=True)
class Parcel:
    """What is remembered of a segment that was tried: when it is due again."""

    due_at: float = 0.0
    published: int = 0
    failed: int = 0


@dataclass(slots=True)
class Trouble:
    """An outage of one kind: paused for longer with each failure, told when it begins and when it ends."""

    doing: str
    failures: int = 0
    since: float = 0.0
    until: float = 0.0

    def begin_or_go_on(self, problem: Exception, now: float) -> None:
        """Pause."""
        self.failures += 1
        self.until = now + _doubled(SHORTEST_PAUSE_S, self.failures, LONGEST_PAUSE_S)
        if self.failures == 1:
            self.since = now
            log.error(
                "shipping_paused", doing=self.doing, error=f"{type(problem).__name__}: {problem}".strip()
            )

    def end(self, now: float) -> None:
        """Go on as usual."""
        if self.failures:
            log.info("shipping_resumed", doing=self.doing, after_s=round(now - self.since, 1))
        self.failures, self.until = 0, 0.0


class Shipper:
    """Ships one spool directory. `publish` hands a shipment over; `receipts` tells which arrived."""

    def __init__(
        self,
        directory: Path,
        *,
        publish: Callable[[Shipment], None],
        receipts: Callable[[Collection[str]], Collection[str]],
        receipt_timeout_s: float = RECEIPT_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing in memory: the directory says what is to do."""
        self._directory = directory
        self._publish = publish
        self._receipts = receipts
        self._receipt_timeout_s = receipt_timeout_s
        self._clock = clock
        self._waiting: list[Segment] = []
        self._scan_again_at = 0.0
        self._parcels: dict[str, Parcel] = {}
        self._reading = Trouble("reading receipts")
        self._publishing = Trouble("publishing segments")
        self._overdue = False

    def run(self, stop: threading.Event, *, last_pass_s: float = 20.0, idle_s: float = 3.0) -> None:
        """Ship until `stop`, then once more: until all is shipped, nothing moves, or time is up."""
        while not stop.is_set():
            moved = self.step()
            stop.wait(0 if moved else POLL_S)
        self._last_pass(last_pass_s, idle_s)
        if self._waiting:
            log.warning("shipper_left_segments", waiting=len(self._waiting))

    def step(self) -> bool:
        """Delete what has arrived and publish what is due. Returns whether anything moved."""
        if self._clock() < self._reading.until:
            return False
        try:
            self._scan()
            arrived = self._collect_receipts()
        except Exception as problem:  # noqa: BLE001 - a background loop: it pauses, and says why
            self._reading.begin_or_go_on(problem, self._clock())
            return False
        self._reading.end(self._clock())
        if self._clock() < self._publishing.until:
            return arrived
        try:
            published = self._publish_due()
        except Exception as problem:  # noqa: BLE001 - the same
            self._publishing.begin_or_go_on(problem, self._clock())
            return arrived
        if published:
            self._publishing.end(self._clock())
        return arrived or published

    def _last_pass(self, last_pass_s: float, idle_s: float) -> None:
        now = self._clock()
        ends_at, idle_at = now + last_pass_s, now + idle_s
        self._scan_again_at = self._reading.until = self._publishing.until = 0.0
        while self._clock() < min(ends_at, idle_at):
            if self.step():
                idle_at = self._clock() + idle_s
            elif self._reading.failures or self._publishing.failures:
                return
            elif self._waiting:
                time.sleep(POLL_S / 4)
            else:
                return

    def _scan(self) -> None:
        """Look into the directory, at most a tenth of the time: an outage may fill it."""
        now = self._clock()
        if now < self._scan_again_at and self._waiting:
            return
        self._waiting = final_segments(self._directory)
        self._scan_again_at = self._clock() + max(POLL_S / 2, 10 * (self._clock() - now))
        names = {segment.name for segment in self._waiting}
        self._parcels = {name: parcel for name, parcel in self._parcels.items() if name in names}

    def _collect_receipts(self) -> bool:
        # Also asked for the next ones to publish: a predecessor may have died before deleting them.
        names = {name for name, parcel in self._parcels.items() if parcel.published}
        names.update(segment.name for segment in self._due())
        arrived = self._receipts(names) if names else ()
        for name in arrived:
            discard(self._directory, name)
            self._parcels.pop(name, None)
        if arrived:
            gone = set(arrived)
            self._waiting = [segment for segment in self._waiting if segment.name not in gone]
            self._overdue = False
        return bool(arrived)

    def _publish_due(self) -> bool:
        moved = False
        for segment in self._due():
            shipment = load(segment)
            if shipment is None:
                continue
            parcel = self._parcels.setdefault(segment.name, Parcel())
            try:
                self._tell_oddities(shipment, parcel)
                self._publish(shipment)
            except Exception:
                parcel.failed += 1
                parcel.due_at = self._clock() + _doubled(1.0, parcel.failed, LONGEST_RECEIPT_TIMEOUT_S)
                raise
            parcel.published += 1
            parcel.due_at = self._clock() + _doubled(
                self._receipt_timeout_s, parcel.published, LONGEST_RECEIPT_TIMEOUT_S
            )
            moved = True
        return moved

    def _due(self) -> list[Segment]:
        """Return what to publish now, oldest first, as far as there is room in flight."""
        now = self._clock()
        published = [parcel for parcel in self._parcels.values() if parcel.published]
        room = IN_FLIGHT - sum(now < parcel.due_at for parcel in published)
        new = OUTSTANDING - len(published)
        due: list[Segment] = []
        for segment in self._waiting:
            if len(due) >= room:
                break
            parcel = self._parcels.get(segment.name)
            if parcel is None or not parcel.published:
                if new <= 0 or (parcel is not None and now < parcel.due_at):
                    continue
                new -= 1
            elif now < parcel.due_at:
                continue
            due.append(segment)
        return due

    def _tell_oddities(self, shipment: Shipment, parcel: Parcel) -> None:
        """Keep what cannot be shipped, each time; tell it once."""
        kept = keep_rejected(self._directory, shipment) if shipment.rejected else None
        if parcel.published and not self._overdue:
            self._overdue = True
            hint = "published again; is a Celery worker running?"
            log.error("no_receipt", segment=shipment.segment, waiting=len(self._waiting), hint=hint)
        if parcel.published or parcel.failed:
            return
        if kept:
            lines = len(shipment.rejected)
            log.error("spool_lines_rejected", segment=shipment.segment, lines=lines, kept=str(kept))
        if shipment.torn:
            log.warning("spool_line_torn", segment=shipment.segment)
        if shipment.interrupted:
            calls = shipment.interrupted.count("\n") + 1
            log.warning("calls_interrupted", segment=shipment.segment, calls=calls)


@contextmanager
def alone(directory: Path, stop: threading.Event) -> Iterator[bool]:
    """Hold the directory's shipper lock for the block. A second shipper waits; False: stopped waiting."""
    descriptor = os.open(directory / "shipper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    told = False
    try:
        while not stop.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    log.info("shipper_waits", directory=str(directory), reason="another shipper is at work")
                    told = True
                stop.wait(POLL_S)
            else:
                yield True
                return
        yield False
    finally:
        os.close(descriptor)


def _doubled(first: float, times: int, most: float) -> float:
    """Return `first`, doubled with each of `times` after the first, at most `most` (or `first`)."""
    return max(first, min(most, first * 2.0 ** min(times - 1, 30)))
