"""How processes that count in memory, and serve at the same time, keep to one budget: by a file of each.

That is so while a process is replaced: its successor serves before it has drained. Whoever comes finds the
others in a directory, and is told by each how its sums stand and what it holds; from then on each writes
down what it takes and what that has cost. While there are others, budgets are asked one at a time, under a
lock, by a process that has read what the others wrote until then: so together they admit no more than fits.

A file is held by flock for as long as its process lives. Nothing is written while there is no other.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from keys.calendar import Span
from keys.limits import Ceiling, Purse
from proxy.store.base import Demand, Hold, Ledgered

log = structlog.get_logger()

SUFFIX = ".purses"
_ELSEWHERE = Ceiling(id=0, amount_nanousd=0, window="total")
_ALWAYS = Span(0, 2**53)


class Counters(Protocol):
    """The store of this process."""

    def state_of_purses(self) -> tuple[Mapping[str, Ledgered], Sequence[Hold]]:
        """Return the sums, and what this process itself holds."""

    def learn_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Raise sums."""

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Hold these too."""

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """End a hold with what it has cost."""

    def give_back(self, hold: Hold, *, now: float) -> None:
        """End a hold of which nothing was used."""


class Beside:
    """This process's place among those of one directory. Lives on the event loop."""

    def __init__(self, directory: Path, name: str) -> None:
        """Take the place. Raises OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._name = directory, name
        self._path = directory / (name + SUFFIX)
        self._turn = os.open(directory / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        scratch = directory / f"{name}.tmp"  # under its name it is locked from the first moment
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(scratch, flags, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        scratch.rename(self._path)
        self._others: dict[str, Other] = {}
        self._left = False
        self.met = threading.Event()  # has everyone who was there told how it stands?

    @property
    def alone(self) -> bool:
        """Is there no other process?"""
        return not self._others

    def look(self, counters: Counters) -> None:
        """Find out who has come and who has gone, and read what they wrote, if nobody has a turn."""
        newcomers = self._newcomers()
        if (newcomers or self._others) and self.take_turn():
            try:
                self.read(counters)
                for other in newcomers:
                    self._others[other.name] = other
                    self._tell_all(other.name, counters)
                newcomers = []
            finally:
                self.end_turn()
        for other in newcomers:
            other.close()
        if all(other.met for other in self._others.values()) and not newcomers:
            self.met.set()

    def take_turn(self) -> bool:
        """Have the others wait, if none of them has its turn. Whoever takes it ends it without waiting."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def end_turn(self) -> None:
        """Let the next one."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def read(self, counters: Counters) -> None:
        """Take over what the others have written since the last look."""
        for other in list(self._others.values()):
            gone = other.gone()  # asked first: afterwards it has written nothing more
            for line in other.lines():
                _follow(other, line, counters, self._name)
            if gone:
                del self._others[other.name]
                log.info("process_beside_gone", name=other.name, held=len(other.holds))
                for hold in other.holds.values():  # the ledger has what they were booked at
                    counters.give_back(hold, now=0.0)
                other.close()
                (self._directory / (other.name + SUFFIX)).unlink(missing_ok=True)

    def held(self, hold: Hold) -> None:
        """Write down all that a hold has by now."""
        self._write({"kind": "held", "hold": _form(hold)})

    def ended(self, hold: Hold, costs: Sequence[int] | None) -> None:
        """Write down that a hold has ended, and with what costs; None: as if it had never been."""
        self._write({"kind": "ended", "id": hold.demand.id, "costs": costs})

    def close(self) -> None:
        """Leave. Once is enough: the descriptors may be another's by then."""
        if self._left:
            return
        self._left = True
        self._path.unlink(missing_ok=True)
        for other in self._others.values():
            other.close()
        self._others.clear()
        for descriptor in (self._file, self._turn):
            os.close(descriptor)

    def _newcomers(self) -> list["Other"]:
        found = []
        for path in self._directory.iterdir():
            name = path.stem
            if path.suffix != SUFFIX or name == self._name or name in self._others:
                continue
            with contextlib.suppress(FileNotFoundError):  # it has just left
                other = Other(name, path)
                if other.gone():
                    other.close()
                    path.unlink(missing_ok=True)
                else:
                    found.append(other)
        return found

    def _tell_all(self, name: str, counters: Counters) -> None:
        sums, holds = counters.state_of_purses()
        told = {key: list(each) for key, each in sums.items()}
        self._write({"kind": "state", "for": name, "sums": told, "holds": [_form(each) for each in holds]})
        log.info("process_beside", name=name, holds=len(holds))

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            os.write(self._file, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as problem:
            log.error("process_beside_not_told", error=str(problem))


class Other:
    """Another process's file, as far as it was read, and what it holds. `met`: it has told how it stands."""

    def __init__(self, name: str, path: Path) -> None:
        """Open the file. Raises FileNotFoundError."""
        self.name = name
        self.met = False
        self.holds: dict[str, Hold] = {}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = 0

    def gone(self) -> bool:
        """Has the process ended?"""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def lines(self) -> Sequence[bytes]:
        """Return the whole lines that are new."""
        size = os.fstat(self._descriptor).st_size
        if size <= self._offset:
            return ()
        content = os.pread(self._descriptor, size - self._offset, self._offset)
        whole = content.rfind(b"\n") + 1
        self._offset += whole
        return content[:whole].splitlines()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def _follow(other: Other, line: bytes, counters: Counters, name: str) -> None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:  # its disk was full
        log.error("process_beside_unread", name=other.name)
        return
    kind = record["kind"]
    if kind == "state":
        if record["for"] == name:
            other.met = True
            sums = {key: Ledgered(*each) for key, each in record["sums"].items()}
            counters.learn_spent(sums)
            for form in record["holds"]:
                _hold(other, form, counters)
    elif not other.met:
        return  # what it tells us of itself has this in it
    elif kind == "held":
        _hold(other, record["hold"], counters)
    elif (hold := other.holds.pop(record["id"], None)) is not None:
        if record["costs"] is None:
            counters.give_back(hold, now=0.0)
        else:
            counters.settle(hold, tokens=0, costs=record["costs"], now=0.0)


def _hold(other: Other, form: Sequence[Any], counters: Counters) -> None:
    identity, keys, worst, expected = form
    before = other.holds.pop(identity, None)
    if before is not None:
        counters.give_back(before, now=0.0)
    purses = [Purse(_ELSEWHERE, key, 0, _ALWAYS) for key in keys]
    hold = other.holds[identity] = Hold(Demand(identity, purses=purses, worst=worst, expected=expected))
    counters.adopt([hold])


def _form(hold: Hold) -> Sequence[Any]:
    return [hold.demand.id, [purse.key for purse in hold.demand.purses], hold.worst, hold.expected]
