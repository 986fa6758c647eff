"""What answers usually cost: how many tokens they had lately, for each key and model.

A guess from history, for what only needs to be likely: token limits, and budgets that may be overspent a
little. The most that a call can cost is not learned (proxy.estimating).
"""

from collections import OrderedDict, deque
from collections.abc import Hashable

KEPT = 64  # answers, of each
ENOUGH = 20  # of them, before they say anything
MAX_KNOWN = 4096
_AT = 0.9  # of all, how many had no more


class Learned:
    """One process's. The ones that have not been asked for longest are forgotten."""

    def __init__(self) -> None:
        """Know nothing."""
        self._known: OrderedDict[Hashable, _Lately] = OrderedDict()

    def output(self, key: Hashable) -> int | None:
        """Return the tokens that nine of ten answers had at the most; None before there were enough."""
        lately = self._known.get(key)
        return None if lately is None else lately.usual

    def saw(self, key: Hashable, tokens: int) -> None:
        """Take an answer's tokens."""
        lately = self._known.get(key)
        if lately is None:
            lately = self._known[key] = _Lately()
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        lately.add(tokens)


class _Lately:
    """The last answers of one. Sorted once for every eight of them: it is a guess anyway."""

    __slots__ = ("_count", "_tokens", "usual")

    def __init__(self) -> None:
        self._tokens: deque[int] = deque(maxlen=KEPT)
        self._count = 0
        self.usual: int | None = None

    def add(self, tokens: int) -> None:
        self._tokens.append(tokens)
        self._count += 1
        if self._count == ENOUGH or (self._count > ENOUGH and not self._count % 8):
            ordered = sorted(self._tokens)
            self.usual = ordered[int(len(ordered) * _AT)]
