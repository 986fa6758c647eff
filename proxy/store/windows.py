"""A sliding window as a log of steps: what was let through in each, for as long as it counts.

A window of `w` has STEPS steps. A step counts until all of it is `w` old: so no window of that length,
wherever it begins, ever has more than the limit, and nothing counts for more than a step (w / 600) too long.
"""

from collections import OrderedDict

from keys.limits import STEPS


class SlidingWindow:
    """What was let through in the last window. Steps are numbered since the epoch."""

    __slots__ = ("_steps", "total")

    def __init__(self) -> None:
        """Have let nothing through."""
        self._steps: OrderedDict[int, int] = OrderedDict()
        self.total = 0

    def pass_to(self, step: int) -> int:
        """Forget what counts no more in `step`; return the step that it is: no clock goes back here."""
        steps = self._steps
        if not steps:
            return step
        newest = next(reversed(steps))
        if newest > step:
            return newest
        gone = step - STEPS
        while steps and (oldest := next(iter(steps))) < gone:
            self.total -= steps.pop(oldest)
        return step

    def take(self, step: int, weight: int) -> None:
        """Let `weight` through in `step`, the one that `pass_to` has returned."""
        steps = self._steps
        steps[step] = steps.get(step, 0) + weight
        self.total += weight

    def correct(self, step: int, difference: int, *, now_step: int) -> None:
        """Make what was let through in `step` more or less; more counts now if that step has gone."""
        now_step = self.pass_to(now_step)
        if step in self._steps:
            difference = max(difference, -self._steps[step])
            self._steps[step] += difference
            self.total += difference
        elif difference > 0:
            self.take(now_step, difference)

    def fits_after(self, weight: int, amount: int) -> int | None:
        """Return the step in which `weight` would fit again if nothing else came; None: it never will."""
        if weight > amount:
            return None
        over = self.total + weight - amount
        for step, passed in self._steps.items():
            over -= passed
            if over <= 0:
                return step + STEPS + 1
        return None

    def steps(self) -> dict[int, int]:
        """Return what was let through in each step. For any thread: it is copied in one go."""
        return dict(list(self._steps.items()))

    @property
    def newest(self) -> int | None:
        """Return the latest step that counts."""
        return next(reversed(self._steps), None)
