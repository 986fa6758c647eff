"""In which order a route's targets are tried: indices into its upstreams, the best first, none left out.

An order is made in up to three steps:

    order = strategy(...)                        # one of those below, over the targets that are no canaries
    order = with_canary(order, percents, draw)   # where the route has canaries
    order = usable_first(order, usable)          # those that can answer now before those that cannot

`usable` says for each target that its breaker is closed and that nothing cools down. Those that are not go
last, in the order that they would have had: where all else fails the last resort is tried before giving up.
A strategy that would choose otherwise without them takes `usable` itself.
"""

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

# The half that keeps a share off 0 and 1 needs one more; floating point has 53.
_BITS = 52


def ordered(count: int) -> Sequence[int]:
    """Return the targets in the order of the route."""
    return range(count)


def usable_first(order: Sequence[int], usable: Sequence[bool]) -> Sequence[int]:
    """Return `order` with what is not usable at its end."""
    if all(usable):
        return order
    return [each for each in order if usable[each]] + [each for each in order if not usable[each]]


class SmoothWeighted:
    """Takes turns by weight, for one route, the turns of each target spread evenly: 5:1:1 is aabacaa.

    Each turn every usable target gains its weight, the richest has the turn and pays what all have gained.
    What is not usable gains nothing meanwhile, so that it does not come back to a row of turns. Weights that
    change start anew: old riches, counted in old weights, would be a row of turns as well.
    """

    __slots__ = ("_by_weight", "_riches", "_weights")

    def __init__(self) -> None:
        """Owe no target a turn."""
        self._weights: tuple[int, ...] = ()
        self._by_weight: list[int] = []
        self._riches: list[int] = []

    def next(self, weights: Sequence[int], usable: Sequence[bool]) -> list[int]:
        """Return whose turn it is, then the others by weight, the usable before those that are not.

        Weight 0 has no turn, unless there is nothing else; then those take turns evenly.
        """
        if weights is not self._weights and tuple(weights) != self._weights:
            self._start(tuple(weights))
        able = [each for each in self._by_weight if usable[each]] or self._by_weight.copy()
        unable = [each for each in self._by_weight if not usable[each]] if len(able) < len(weights) else []
        if len(able) > 1:
            first = self._turn(able)
            able.remove(first)
            able.insert(0, first)
        return able + unable

    def _start(self, weights: tuple[int, ...]) -> None:
        self._weights = weights
        self._by_weight = sorted(range(len(weights)), key=lambda each: -weights[each])
        self._riches = [0] * len(weights)

    def _turn(self, able: Sequence[int]) -> int:
        weights, riches = self._weights, self._riches
        even = not weights[able[0]]  # the heaviest has none
        richest, total = able[0], 0
        for each in able:
            weight = 1 if even else weights[each]
            if not weight:
                break  # by weight: only such follow
            riches[each] += weight
            total += weight
            if riches[each] > riches[richest]:
                richest = each
        riches[richest] -= total
        return richest


def least_latency(costs: Callable[[int], float], usable: Sequence[bool], rng: random.Random) -> list[int]:
    """Return the cheaper of two random usable targets, then the others by cost; see PeakEwma.cost.

    Of two, and not of all: each worker sees its own requests only, and all of them at once would choose the
    same target.
    """
    price = [costs(each) for each in range(len(usable))]
    order = sorted(range(len(usable)), key=price.__getitem__)
    able = [each for each in order if usable[each]] or order
    unable = [each for each in order if not usable[each]] if len(able) < len(order) else []
    if len(able) > 1:
        # Two different ones; of equals `one`, which is as good as any.
        one = int(rng.random() * len(able))
        other = int(rng.random() * (len(able) - 1))
        other += other >= one
        able.insert(0, able.pop(one if price[able[one]] <= price[able[other]] else other))
    return able + unable


def least_busy(busy: Callable[[int], int], usable: Sequence[bool], rng: random.Random) -> list[int]:
    """Return the usable targets by how many requests they have under way, equals in random order."""
    order = [each for *_, each in sorted((busy(each), rng.random(), each) for each in range(len(usable)))]
    return list(usable_first(order, usable))


def sticky(key: bytes, weights: Sequence[int], names: Sequence[str]) -> list[int]:
    """Return the order that belongs to `key`, by weighted rendezvous hashing; weight 0 comes last.

    The same key has the same order in every worker and after every restart. A target that goes takes only
    its own keys with it, each to the next in that key's order; one that comes, or weighs more, only gains.
    `names` say who is who: unique, and the same after a configuration change.
    https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash
    """
    hashed = blake2b(key, digest_size=8)
    scores: list[tuple[float, float, int]] = []
    for each, name in enumerate(names):
        named = hashed.copy()
        named.update(b"\0" + name.encode())
        share = _share(named.digest())
        # Without weight all have the score 0, and the hash alone decides among them.
        scores.append((weights[each] / math.log(share), -share, each))
    return [each for *_, each in sorted(scores)]


def with_canary(order: Sequence[int], percents: Sequence[float], draw: float) -> Sequence[int]:
    """Return `order` with the canary that `draw` falls to at its head, and all other canaries at its end.

    `percents`: each target's percentage of requests as a canary; 0: it is none. Several share the line from 0
    to 100 in the order of the targets; what lies beyond 100 is cut off. `draw` is in [0, 100): random, or
    `draw_of` a sticky key.
    The strategy before should give no turn to a canary, which would go to the next in line: give it weight 0,
    or where there are no weights, call it not usable.
    """
    canary, up_to = -1, 0.0
    for each, percent in enumerate(percents):
        up_to += percent
        if draw < up_to:
            canary = each
            break
    rest = [each for each in order if not percents[each]]
    others = [each for each in order if percents[each] and each != canary]
    return [*rest, *others] if canary < 0 else [canary, *rest, *others]


def draw_of(key: bytes) -> float:
    """Return a sticky key's place in [0, 100): a session stays on its side of a canary.

    It tells nothing of the key's order in `sticky`. With the route's name in the key, it is not the same
    sessions that try the canaries of all routes.
    """
    return 100 * _share(blake2b(key, digest_size=8, person=b"canary").digest())


def _share(digest: bytes) -> float:
    """Return a hash as a number between 0 and 1, neither included."""
    return ((int.from_bytes(digest, "big") >> (64 - _BITS)) + 0.5) / (1 << _BITS)
