"""What a hedged request does with its two attempts: one race for whole answers, one for streams."""

from providers.events import Answer
from proxy.attempt import Attempting, OpenStream
from proxy.fleet.registry import Fleet
from proxy.fleet.visit import Visit

SLOW = 0.95  # the quantile of an upstream's own times


class AnswerRace:
    """For whole answers. See proxy.hedging.Race."""

    def __init__(self, attempting: Attempting, fleet: Fleet) -> None:
        """Know whose attempts they are."""
        self._attempting, self._fleet = attempting, fleet

    def delay_s(self, visit: Visit) -> float | None:
        """Return the time that the upstream needs for nearly all of its answers."""
        return self._fleet.standing(visit.target).total.p(SLOW)

    def won(self, visit: Visit) -> None:
        """Take its answer."""
        self._attempting.choose(visit)

    def lost(self, visit: Visit, result: Answer | None) -> None:
        """Charge it: its vendor has worked."""
        self._attempting.lose(visit, None if result is None else result.usage)

    def left(self, result: Answer) -> None:
        """Nothing of it is left open."""


class StreamRace:
    """For streams, up to their first content."""

    def __init__(self, attempting: Attempting, fleet: Fleet) -> None:
        """Know whose attempts they are."""
        self._attempting, self._fleet = attempting, fleet

    def delay_s(self, visit: Visit) -> float | None:
        """Return the time to first content of nearly all of the upstream's streams."""
        return self._fleet.standing(visit.target).ttft.p(SLOW)

    def won(self, visit: Visit) -> None:
        """Take its stream."""
        self._attempting.choose(visit)

    def lost(self, visit: Visit, result: OpenStream | None) -> None:
        """Hang up, and charge it."""
        if result is not None:
            result.response.close()
        self._attempting.lose(visit, None if result is None else result.counted())

    def left(self, result: OpenStream) -> None:
        """Hang up."""
        result.leave()
