"""Keeps requests from an upstream that fails, and finds out when it works again.

Closed: attempts go through. `threshold` failures within `window_s` open it: none do. `half_open_after_s`
later it is half-open: one attempt, the probe, goes through. Its success closes the breaker, its failure
opens it again.

Whose verdict counts: 50 attempts may be under way when it opens, and a few of them succeed a minute later.
That tells nothing of now. So `start` gives each attempt a ticket, and a verdict counts only while the
breaker has neither opened nor closed since: late ones neither close it, nor open it again once a probe has
closed it. Nor does the verdict of an attempt that started although `allows` had said no.

A probe holds its place for `half_open_after_s` at most: an attempt that is never heard of again blocks
nothing. Vendors may well take longer than that to answer, so the slow probe keeps its say, beside the one
that has taken its place; else no probe of a slow upstream would ever count.

A success does not undo failures: they are counted over time, not in a row.
Time is the event loop's, in seconds. Nothing happens by itself: half-open is what `state` answers once the
time has come, and `changed` hears of it when the probe starts.
"""

import math
from collections import deque
from collections.abc import Callable
from enum import IntEnum

NO_SAY = 0  # the ticket of an attempt whose verdict does not count


class State(IntEnum):
    """What a breaker does with attempts; the numbers are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """That of one upstream. `threshold` 0: it never opens, unless an operator holds it open.

    `changed` is called after each transition and each change of the hold, but not by `open_for` and `close`:
    what was learned from others is no news to them. `reason` is the code of the last failure that counted,
    or "".
    """

    __slots__ = (
        "_changed",
        "_closed",
        "_failed_at",
        "_half_open_after_s",
        "_has_say_from",
        "_last_ticket",
        "_opened_at",
        "_probe",
        "_retry_at",
        "_threshold",
        "_window_s",
        "held",
        "reason",
    )

    def __init__(
        self,
        *,
        threshold: int,
        window_s: float,
        half_open_after_s: float,
        changed: "Callable[[Breaker], None] | None" = None,
    ) -> None:
        """Start closed."""
        self._threshold = threshold
        self._window_s = window_s
        self._half_open_after_s = half_open_after_s
        self._changed = changed
        self.held = False
        self.reason = ""
        self._closed = True
        self._opened_at = 0.0
        # When the next probe may start: never before, not even after one that is still under way.
        self._retry_at = -math.inf
        self._probe = NO_SAY  # who has the probe's place; it may have lost it to time, and not know
        self._last_ticket = self._has_say_from = 1
        # No more than these can matter.
        self._failed_at: deque[float] = deque(maxlen=threshold)

    # ---------------------------------------------------------------- attempts

    def allows(self, now: float) -> bool:
        """Say whether an attempt may start now."""
        return self._retry_at <= now and not self.held

    def start(self, now: float) -> int:
        """Return the ticket of an attempt that starts now, to be given back with its verdict.

        In half-open it takes the probe's place. One that starts although it may not has no say.
        """
        if self._closed and not self.held:
            return self._last_ticket
        if not self.allows(now):
            return NO_SAY
        first = self._probe == NO_SAY
        self._last_ticket += 1
        self._probe = self._last_ticket
        self._retry_at = now + self._half_open_after_s
        if first:
            self._tell()
        return self._probe

    def succeeded(self, ticket: int) -> None:
        """Take an attempt's success: the probe's closes the breaker."""
        if not self._closed and ticket >= self._has_say_from:
            self._close()
            self._tell()

    def failed(self, ticket: int, now: float, *, reason: str) -> None:
        """Take an attempt's failure of the kind that counts; `reason` is its code."""
        if ticket < self._has_say_from:
            return
        self.reason = reason
        self._failed_at.append(now)
        if not self._closed or self.failures(now) == self._threshold > 0:
            self._open(now, until=now + self._half_open_after_s)
            self._tell()

    def released(self, ticket: int) -> None:
        """Take the end of an attempt that tells nothing of the upstream's health.

        The client left, the request was wrong, the vendor limited us. The next attempt may be the probe.
        """
        if ticket == self._probe != NO_SAY:
            self._retry_at = -math.inf

    # ---------------------------------------------------------------- other workers and operators

    def open_for(self, seconds: float, now: float, *, reason: str = "") -> None:
        """Open for `seconds`, as another worker has, unless it is open for longer.

        A probe that is under way here started before that worker's last failure: it has no say any more.
        """
        until = now + seconds
        longer = self.state(now) == State.OPEN and self._retry_at >= until
        if self._threshold and seconds > 0 and not longer:
            self.reason = reason or self.reason
            self._open(now, until=until)

    def close(self) -> None:
        """Close, as another worker has: its probe succeeded. A hold stays."""
        if not self._closed:
            self._close()

    def hold_open(self) -> None:
        """Let nothing through, no probe either, until the hold is released."""
        if not self.held:
            self.held = True
            if self._probe != NO_SAY:
                self._retry_at = -math.inf
            self._silence_attempts()
            self._tell()

    def release_hold(self) -> None:
        """Go on from where it was held: closed, or open for what is left of its time."""
        if self.held:
            self.held = False
            self._tell()

    def reset(self) -> None:
        """Close it, release the hold, forget all failures, those of attempts under way too."""
        changes = self.held or not self._closed
        self.held = False
        self.reason = ""
        self._close()
        if changes:
            self._tell()

    # ---------------------------------------------------------------- what it shows

    def state(self, now: float) -> State:
        """Return what it does with attempts now."""
        if self.held:
            return State.OPEN
        if self._closed:
            return State.CLOSED
        return State.HALF_OPEN if self._probe != NO_SAY or self._retry_at <= now else State.OPEN

    def retry_at(self, now: float) -> float:
        """Return when the next attempt may start: `now` if it may, infinity while it is held."""
        return math.inf if self.held else max(now, self._retry_at)

    def opens_for_s(self, now: float) -> float:
        """Return for how long its failures keep it open yet, whether it is held or not."""
        return 0.0 if self._closed or self._probe != NO_SAY else max(self._retry_at - now, 0.0)

    def failures(self, now: float) -> int:
        """Return how many failures of the last `window_s` it remembers, at most `threshold`."""
        since = now - self._window_s
        return sum(at > since for at in self._failed_at)

    def opened_for_s(self, now: float) -> float:
        """Return for how long it has not been closed, failed probes included; 0 if it is, held or not."""
        return 0.0 if self._closed else now - self._opened_at

    # ---------------------------------------------------------------- transitions

    def _open(self, now: float, *, until: float) -> None:
        if self._closed:
            self._closed = False
            self._opened_at = now
        self._retry_at = until
        self._silence_attempts()

    def _close(self) -> None:
        self._closed = True
        self._retry_at = -math.inf
        self._failed_at.clear()
        self._silence_attempts()

    def _silence_attempts(self) -> None:
        self._probe = NO_SAY
        self._last_ticket += 1
        self._has_say_from = self._last_ticket

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed(self)
