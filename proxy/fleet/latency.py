"""How fast an upstream answers: a cost by which to choose among several, and quantiles of its latency.

All in seconds; `now` is the event loop's time.
"""

import math
from bisect import bisect_left, insort

DECAY_S = 10.0
FORGET_S = 300.0
# Of an upstream that has been asked, and never answered yet: more than any latency.
UNKNOWN_COST = 1e6
SAMPLES = 200
LEAST_SAMPLES = 20


class PeakEwma:
    """A moving average of latency that believes bad news at once and good news slowly.

    A sample above the average becomes it. Below, the average has moved by 63 % of the way after `decay_s`
    of such samples: it weighs by time, so that it means the same at any rate of requests.
    Without samples it sinks towards zero, by 63 % in `forget_s`: an upstream that is avoided for one slow
    answer is tried again some time. Not at the pace of `decay_s`: at a request a minute everything would be
    forgotten between two requests, and the upstream asked last would always look like the slowest.

    `average_s` is the average as of the last sample, None before the first.
    """

    __slots__ = ("_at", "_decay_s", "_forget_s", "average_s")

    def __init__(self, *, decay_s: float = DECAY_S, forget_s: float = FORGET_S) -> None:
        """Know nothing yet. Both times are above 0."""
        self._decay_s = decay_s
        self._forget_s = forget_s
        self.average_s: float | None = None
        self._at = 0.0

    def observe(self, sample_s: float, now: float) -> None:
        """Take one latency."""
        average_s = self.average_s
        if average_s is None or sample_s >= average_s:
            self.average_s = sample_s
        else:
            self.average_s = sample_s + (average_s - sample_s) * math.exp((self._at - now) / self._decay_s)
        self._at = now

    @property
    def observed_at(self) -> float:
        """When the last sample was taken, 0 before the first."""
        return self._at

    def cost(self, now: float, in_flight: int) -> float:
        """Return what one more request would cost, beside the `in_flight` that are under way.

        That is the average, once for each of them and the new one. An upstream that was never tried costs
        nothing, so that it is; but only once at a time, until it has answered.
        """
        if self.average_s is None:
            return UNKNOWN_COST + in_flight if in_flight else 0.0
        return self.average_s * math.exp((self._at - now) / self._forget_s) * (in_flight + 1)


class Quantiles:
    """Of the last 200 samples, however old.

    They are kept in order from the first question on, so that to ask for each request costs an index,
    and where nobody asks nothing is sorted.
    """

    __slots__ = ("_oldest", "_ordered", "_ring")

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ring: list[float] = []
        self._oldest = 0  # its place in the ring, once that is full
        self._ordered: list[float] | None = None

    def __len__(self) -> int:
        return len(self._ring)

    def observe(self, sample: float) -> None:
        """Take one sample; the oldest of 200 makes room for it."""
        gone = None
        if len(self._ring) < SAMPLES:
            self._ring.append(sample)
        else:
            gone = self._ring[self._oldest]
            self._ring[self._oldest] = sample
            self._oldest = (self._oldest + 1) % SAMPLES
        ordered = self._ordered
        if ordered is not None:
            if gone is not None:
                del ordered[bisect_left(ordered, gone)]
            insort(ordered, sample)

    def p(self, share: float) -> float | None:
        """Return the least sample that `share` (above 0, at most 1) of all do not exceed.

        None while there are fewer than 20: a guess would be worse than no answer.
        """
        size = len(self._ring)
        if size < LEAST_SAMPLES:
            return None
        if self._ordered is None:
            self._ordered = sorted(self._ring)
        return self._ordered[math.ceil(share * size) - 1]
