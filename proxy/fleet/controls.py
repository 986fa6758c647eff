"""Does what operators ask of upstreams: hold one open, let it go, forget what speaks against it."""

from collections.abc import Callable, Mapping

from proxy.fleet.lookout import provider_of
from proxy.fleet.registry import Fleet
from proxy.fleet.standing import Standing
from proxy.snapshot import Control


class Controls:
    """Those of one process. `since`: when it started (epoch s); what is older was asked of others."""

    def __init__(self, fleet: Fleet, *, since: float, reset: Callable[[Standing], None]) -> None:
        """`reset` is called for each upstream that is to be reset."""
        self._fleet = fleet
        self._since = since
        self._reset = reset
        self._held: frozenset[str] = frozenset()
        self._resets: Mapping[str, float] | None = None

    def apply(self, controls: Mapping[str, Control]) -> None:
        """Do what is new in `controls`, by upstream id."""
        self._apply_holds(frozenset(name for name, each in controls.items() if each.held_open))
        self._apply_resets({name: each.reset_at for name, each in controls.items() if each.reset_at})

    def _apply_holds(self, held: frozenset[str]) -> None:
        for name in held - self._held:
            self._standing(name).breaker.hold_open()
        for name in self._held - held:
            self._standing(name).breaker.release_hold()
        self._held = held

    def _apply_resets(self, resets: Mapping[str, float]) -> None:
        """Reset where the last reset is another than it was: of whoever saved it, the clock may differ."""
        known = self._resets
        self._resets = resets
        for name, at in resets.items():
            new = at > self._since if known is None else at > known.get(name, 0.0)
            standing = self._fleet.found(name) if new else None
            if standing is not None:
                held = name in self._held
                self._reset(standing)
                if held:  # since then: a reset lets go, a later hold is a hold
                    standing.breaker.hold_open()

    def _standing(self, name: str) -> Standing:
        return self._fleet.named(name, provider_of(name))
