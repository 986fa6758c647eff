"""Which rate limits have least left, as a process tells it of itself with its heartbeat (proxy.worker_state).

The hot path knows nothing of it: whatever the store last said is looked through in the watcher's thread, and
the store is asked once more for the few that seem to be near.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from keys.limits import TOKENS, Counted, RateRule, Rules
from proxy.limit_errors import in_words
from proxy.snapshot import Snapshot
from proxy.store.base import Store, Used

NEAR = 0.5  # of a limit
LOOKED_AT, TOLD = 24, 8
# With as many keys as have limits of their own, the rules are gathered at most so often.
GATHERED_EVERY_S = 10.0
# Between chunks this thread steps aside, so that requests wait for no long GIL hold.
CHUNK, PAUSE_S = 2_000, 0.001

Item = TypeVar("Item")
Json = dict[str, Any]
Ask = Callable[[Sequence[Counted], float], Sequence[Used] | None]


class NearLimits:
    """Those of one process. For one thread that is not the event loop's."""

    def __init__(self, store: Store, ask: Ask, *, own: Rules) -> None:
        """`ask` returns how limits stand, None: nobody answers. `own` are of no row and in no snapshot."""
        self._store = store
        self._ask = ask
        self._own = own
        self._rules: Mapping[str, RateRule] = {}
        self._gathered_of: Snapshot | None = None
        self._gathered_at = float("-inf")

    def found(self, snapshot: Snapshot | None, now: float) -> list[Json]:
        """Return the limits that are at least half used at epoch second `now`, the fullest first."""
        used = self._store.last_used()
        if snapshot is None or not used:
            return []
        self._gather(snapshot, now)
        seeming = sorted(_seeming(used, self._rules), key=lambda each: -each[0])[:LOOKED_AT]
        asked = [counted for _, counted in seeming]
        stand = self._ask(asked, now) if asked else None
        near = [pair for pair in zip(asked, stand or (), strict=False) if _is_near(*pair)]
        near.sort(key=lambda pair: -pair[1].used / pair[0].rule.amount)
        return [_told(counted, use, now) for counted, use in near[:TOLD]]

    def _gather(self, snapshot: Snapshot, now: float) -> None:
        """Find all rate limits by their ids. An amount that has changed since is the row's on the screen."""
        if snapshot is self._gathered_of or now - self._gathered_at < GATHERED_EVERY_S:
            return
        self._gathered_of, self._gathered_at = snapshot, now
        self._rules = {rule.id: rule for owned in _owned(snapshot, self._own) for rule in owned.rates}


def _owned(snapshot: Snapshot, own: Rules) -> Iterable[Rules]:
    yield own
    yield snapshot.rules
    yield from snapshot.tenant_rules.values()
    for caller in _in_turns(snapshot.callers.values()):
        if caller.terms.rules:
            yield caller.terms.rules


def _seeming(used: Mapping[str, int], rules: Mapping[str, RateRule]) -> Iterable[tuple[float, Counted]]:
    """Yield what was near when it was last counted, with its share. Of limits that are gone, nothing."""
    for key, count in _in_turns(used.items()):
        rule = rules.get(key.partition("/")[0])
        # A count of another window is from before the limit was changed.
        if rule is not None and count >= NEAR * rule.amount and key.endswith(f"/{rule.step_us}"):
            yield count / rule.amount, Counted(rule, key, rule.kind == TOKENS)


def _in_turns(items: Iterable[Item]) -> Iterator[Item]:
    for number, item in enumerate(items, 1):
        if not number % CHUNK:
            time.sleep(PAUSE_S)
        yield item


def _is_near(counted: Counted, use: Used) -> bool:
    return use.used > 0 and use.used >= NEAR * counted.rule.amount


def _told(counted: Counted, use: Used, now: float) -> Json:
    rule = counted.rule
    who = counted.key.removeprefix(f"{rule.id}/").rpartition("/")[0]
    return {
        "key": counted.key,
        "limit": rule.id,
        "words": in_words(rule),
        "each": rule.each,
        "who": who,
        "amount": rule.amount,
        "used": use.used,
        "frees_at": None if use.frees_after_s is None else round(now + use.frees_after_s, 3),
        # When all of it is free at the latest, if nothing else comes. Requests at once have no such time.
        "resets_at": round(now + rule.window_s, 3) if rule.window_s else None,
    }
