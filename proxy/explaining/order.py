"""In which order a route's targets would be tried, without taking anybody's turn or drawing a lot.

What chance decides is told as chances: the targets are then in the most likely order.
"""

from collections.abc import Sequence
from typing import NamedTuple

from proxy.explaining.facts import Facts
from proxy.fleet import strategies
from proxy.routing import Resolved


class Expected(NamedTuple):
    """`order`: indices into the route's upstreams. `shares`: the percentage of requests that each gets first.

    None where it follows from measurements that change with each answer.
    """

    order: Sequence[int]
    shares: Sequence[float | None]


def expected(resolved: Resolved, facts: Facts, affinity: bytes) -> Expected:
    """Return what Fleet.order would do."""
    prospects = [facts.of(each) for each in resolved.upstreams]
    usable = [each.usable for each in prospects]
    count = len(prospects)
    canaries = resolved.canaries or (0.0,) * count
    if affinity:
        names = [each.id for each in resolved.upstreams]
        order: Sequence[int] = strategies.sticky(affinity, resolved.weights, names)
    elif resolved.strategy == "least_latency":
        order = sorted(range(count), key=lambda each: prospects[each].cost)
    elif resolved.strategy == "least_busy":
        order = sorted(range(count), key=lambda each: prospects[each].busy)
    elif resolved.strategy == "weighted":
        order = sorted(range(count), key=lambda each: -resolved.weights[each])
    else:
        order = strategies.ordered(count)
    if any(canaries):
        # Beyond the line's end lies no canary: without a session nobody knows where the lot falls.
        draw = strategies.draw_of(affinity) if affinity else 100.0
        order = strategies.with_canary(order, canaries, draw)
    if not resolved.plain and count > 1:
        order = strategies.usable_first(order, usable)
    if affinity or (resolved.strategy == "ordered" and not any(canaries)):
        return Expected(order, [100.0 if each == order[0] else 0.0 for each in range(count)])
    return Expected(order, _shares(resolved, canaries, order=order, usable=usable))


def _shares(
    resolved: Resolved, canaries: Sequence[float], *, order: Sequence[int], usable: Sequence[bool]
) -> list[float | None]:
    of_canaries, left = [], 100.0
    for percent in canaries:
        share = min(percent, left)
        left -= share
        of_canaries.append(share)
    rest = [each for each in order if not canaries[each]]
    able = [each for each in rest if usable[each]] or rest
    if resolved.strategy in ("least_latency", "least_busy") and len(able) > 1:
        return [canary or (None if each in able else 0.0) for each, canary in enumerate(of_canaries)]
    weights = dict.fromkeys(rest, 0)
    if resolved.strategy == "weighted":
        weights |= {each: resolved.weights[each] for each in able}
        if not any(weights.values()):
            weights |= dict.fromkeys(able, 1)
    elif able:
        weights[able[0]] = 1
    total = sum(weights.values()) or 1
    return [canary or left * weights.get(each, 0) / total for each, canary in enumerate(of_canaries)]
