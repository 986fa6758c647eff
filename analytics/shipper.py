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
        self._failures = 0
        self._failing_since = 0.0
        self._overdue = False

    def run(self, stop: threading.Event, *, last_pass_s: float = 20.0, idle_s: float = 3.0) -> None:
        """Ship until `stop`, then once more: until all is shipped, nothing moves, or time is up."""
        while not stop.is_set():
            moved = self.step()
            stop.wait(0 if moved else self._pause_s())
        self._last_pass(last_pass_s, idle_s)

    def step(self) -> bool:
        """Delete what has arrived and publish what is due. Returns whether anything moved."""
        try:
            self._scan()
            arrived = self._collect_receipts()
            published = self._publish_due()
        except Exception as problem:  # noqa: BLE001 - a background loop: it pauses, and says why
            self._note_failure(problem)
            return False
        if arrived or published:
            self._note_success()
        return arrived or published

    def _last_pass(self, last_pass_s: float, idle_s: float) -> None:
        now = self._clock()
        ends_at, idle_at = now + last_pass_s, now + idle_s
        self._scan_again_at = 0.0
        while self._clock() < min(ends_at, idle_at):
            moved = self.step()
            if not self._waiting or self._failures:
                break
            if moved:
                idle_at = self._clock() + idle_s
            else:
                time.sleep(POLL_S / 4)
        if self._waiting:
            log.warning("shipper_left_segments", waiting=len(self._waiting))

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
            self._tell_oddities(shipment, parcel)
            try:
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
        if parcel.published and not self._overdue:
            self._overdue = True
            log.error(
                "no_receipt",
                segment=shipment.segment,
                waiting=len(self._waiting),
                hint="published again; is a Celery worker running?",
            )
        if parcel.published or parcel.failed:
            return
        if shipment.rejected:
            path = keep_rejected(self._directory, shipment)
            log.error(
                "spool_lines_rejected", segment=shipment.segment, lines=len(shipment.rejected), kept=str(path)
            )
        if shipment.torn:
            log.warning("spool_line_torn", segment=shipment.segment)
        if shipment.interrupted:
            calls = shipment.interrupted.count("\n") + 1
            log.warning("calls_interrupted", segment=shipment.segment, calls=calls)

    def _pause_s(self) -> float:
        if not self._failures:
            return POLL_S
        return _doubled(SHORTEST_PAUSE_S, self._failures, LONGEST_PAUSE_S)

    def _note_failure(self, problem: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            self._failing_since = self._clock()
            log.error("shipping_paused", error=f"{type(problem).__name__}: {problem}".strip())

    def _note_success(self) -> None:
        if self._failures:
            after_s = round(self._clock() - self._failing_since, 1)
            log.info("shipping_resumed", after_s=after_s, waiting=len(self._waiting))
        self._failures = 0


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
