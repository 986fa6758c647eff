"""Cool-downs: a credential that was limited or refused is left alone for a while.

One that the vendor has set (Retry-After) is a promise to be kept: nobody asks before. One that is our own
guess only puts the credential behind others: with nobody else to ask, it is asked.
"""

from collections.abc import Mapping
from typing import NamedTuple

# A vendor that refuses a credential or limits it without saying for how long.
GUESS_S = 60.0


class CoolDown(NamedTuple):
    """Until loop time `until`; `told`: the vendor has said so."""

    until: float
    told: bool


class Cooling:
    """Those of one upstream's credentials, or of an account's.

    `down`: by the credential's name; some may be over.
    """

    __slots__ = ("down",)

    def __init__(self) -> None:
        """Nobody cools."""
        self.down: dict[str, CoolDown] = {}

    def __bool__(self) -> bool:
        """Is there anything to look at?"""
        return bool(self.down)

    def cool(self, credential: str, *, now: float, told_s: float | None) -> None:
        """Leave a credential alone for as long as the vendor has told, or for a guess.

        No guess takes the place of a vendor's word, however long it would last.
        """
        down = CoolDown(now + (GUESS_S if told_s is None else told_s), told=told_s is not None)
        known = self.of(credential, now)
        if known is None or (down.told, down.until) >= (known.told, known.until):
            self.down[credential] = down

    def of(self, credential: str, now: float) -> CoolDown | None:
        """Return the cool-down that a credential is in."""
        down = self.down.get(credential)
        if down is None or down.until > now:
            return down
        del self.down[credential]
        return None

    def ends(self, now: float) -> Mapping[str, CoolDown]:
        """Return all of them, by credential."""
        found = ((name, self.of(name, now)) for name in list(self.down))
        return {name: down for name, down in found if down is not None}

    def until(self, now: float) -> float:
        """Return when the first of them will have ended; `now` if nobody cools."""
        return min((down.until for down in self.ends(now).values()), default=now)

    def clear(self) -> None:
        """Forget all."""
        self.down.clear()
