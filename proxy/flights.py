"""Single flight: a cacheable call that is made again while it is being answered shares the upstream call.

The first is the leader, and is served like any other request. Those who come while it is in the air follow:
a stream gets the part that there is and then what comes; whoever wants a whole answer waits for its end. A
leader whose client leaves flies on for as long as somebody follows. Its failure is its own: followers that
have sent nothing yet go their own way, one of them as the next leader.
"""

import asyncio
from collections.abc import Callable, Sequence

from providers.errors import UpstreamError
from providers.events import Event, Kind
from proxy.cache import Entry

# A stream that has said more takes nobody on: what has passed is not kept for latecomers.
MAX_KEPT_EVENTS = 50_000


class Flight:
    """One call in the air. `entry`: its whole answer, once it has landed."""

    __slots__ = (
        "_followers",
        "_give_up",
        "_key",
        "_of",
        "_waiting",
        "batches",
        "entry",
        "error",
        "over",
        "provider",
        "size",
    )

    def __init__(self, key: bytes, of: "Flights") -> None:
        """Take off."""
        self.batches: list[Sequence[Event]] = []  # of a stream, from its first content on
        self.entry: Entry | None = None
        self.error: UpstreamError | None = None  # of a stream that has broken off
        self.over = False
        self.provider = ("", "")
        self.size = 0
        self._key, self._of = key, of
        self._followers = 0
        self._give_up: Callable[[], object] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------ the leader's side

    @property
    def followed(self) -> bool:
        """Does somebody follow?"""
        return self._followers > 0

    @property
    def whole(self) -> bool:
        """Has all of a stream passed?"""
        return bool(self.batches) and self.batches[-1][-1].kind is Kind.DONE

    def add(self, events: Sequence[Event]) -> None:
        """Some events of the stream have passed."""
        self.size += len(events)
        if self.size > MAX_KEPT_EVENTS:
            self._of.close_to_others(self._key, self)
            if not self._followers:
                self.batches.clear()
                return
        self.batches.append(events)
        if self._waiting:
            self._wake()

    def land(self, entry: Entry | None) -> None:
        """The answer is whole."""
        self.entry = entry
        self.end()

    def end(self) -> None:
        """It is over, one way or the other."""
        if not self.over:
            self.over = True
            self._of.close_to_others(self._key, self)
            if self._waiting:
                self._wake()

    def detain(self, give_up: Callable[[], object]) -> bool:
        """The leader's client has gone: must the leader fly on? `give_up` is called when nobody follows."""
        if self.over or not self._followers:
            return False
        self._give_up = give_up
        return True

    # ------------------------------------------------------------ the followers' side

    def join(self) -> None:
        """Follow; `leave` ends it."""
        self._followers += 1

    def leave(self) -> None:
        """Follow no more."""
        self._followers -= 1
        if not self._followers and self._give_up is not None and not self.over:
            self._of.close_to_others(self._key, self)  # who came now would see it end
            self._give_up()

    async def more(self) -> None:
        """Wait until something has happened."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


class Flights:
    """Those of one process, by the keys of their answers in the cache."""

    def __init__(self) -> None:
        """Nobody flies."""
        self._flying: dict[bytes, Flight] = {}

    def find(self, key: bytes) -> Flight | None:
        """Return the flight that a call with this key may join."""
        return self._flying.get(key)

    def start(self, key: bytes) -> Flight:
        """Lead."""
        flight = self._flying[key] = Flight(key, self)
        return flight

    def close_to_others(self, key: bytes, flight: Flight) -> None:
        """Nobody can join a flight any more."""
        if self._flying.get(key) is flight:
            del self._flying[key]
