"""What this process tells other workers of its upstreams, and what it makes of what they tell.

All hear the same news in the same order, their own too: so those that opened and closed a breaker at
the same moment end up in the same state.
"""

from collections.abc import Callable, Iterable

from proxy.fleet.breaker import State
from proxy.fleet.lookout import provider_of
from proxy.fleet.news import MAX_FOR_S, MAX_LENGTH, MAX_UPSTREAM_LENGTH, Kind, News
from proxy.fleet.registry import Fleet
from proxy.fleet.standing import Standing


class Neighbours:
    """Those of one process. All of it is for the event loop; `tell` must not wait."""

    def __init__(
        self, fleet: Fleet, *, by: str, tell: Callable[[News], None], looked: Callable[[Standing], object]
    ) -> None:
        """`by` names this process; `looked` is called with each upstream that news has changed."""
        self._fleet = fleet
        self._by = by
        self._send = tell
        self._looked = looked
        self._open: set[str] = set()  # that all know to be open

    def turned(self, standing: Standing) -> None:
        """Tell of a breaker's turn. Of a hold every worker learns from its configuration."""
        breaker, now = standing.breaker, self._fleet.loop.time()
        if breaker.held:
            return
        for_s = breaker.opens_for_s(now)
        if for_s:
            self._open.add(standing.id)
            self._tell(standing, Kind.OPEN, for_s=for_s, reason=breaker.reason[:MAX_LENGTH])
        elif breaker.state(now) is State.CLOSED and standing.id in self._open:
            self._open.discard(standing.id)
            self._tell(standing, Kind.CLOSED)

    def failed(self, standing: Standing) -> None:
        """Tell of what a vendor has told us: to leave a credential alone."""
        if not standing.cooling:
            return
        now = self._fleet.loop.time()
        for credential, down in standing.cooling.ends(now).items():
            if down.told:
                self._tell(standing, Kind.COOL, for_s=down.until - now, credential=credential)

    def forgets(self, standing: Standing) -> None:
        """Tell that an upstream is about to be reset: who starts later must not hear of its cool-downs."""
        for credential in standing.cooling.ends(self._fleet.loop.time()):
            self._tell(standing, Kind.COOL, credential=credential)

    def repeat(self, standings: Iterable[Standing]) -> None:
        """Tell all once more: it may have been said while nobody could hear it."""
        for standing in standings:
            self.turned(standing)
            self.failed(standing)

    def heard(self, news: News) -> None:
        """Do as another worker has done."""
        known = self._fleet.found(news.upstream)
        if news.kind is Kind.CLOSED:
            self._open.discard(news.upstream)
            if known is None:
                return
            known.breaker.close()
        elif not news.for_s:
            return
        else:
            known = known or self._fleet.named(news.upstream, provider_of(news.upstream))
            self._take(known, news)
        self._looked(known)

    def _take(self, standing: Standing, news: News) -> None:
        now, own = self._fleet.loop.time(), news.by == self._by
        if news.kind is Kind.COOL:
            if not own:
                standing.cooling.cool(news.credential, now=now, told_s=news.for_s)
        elif not own or standing.breaker.state(now) is State.CLOSED:
            standing.breaker.open_for(news.for_s, now, reason=news.reason)
            self._open.add(news.upstream)

    def _tell(
        self, standing: Standing, kind: Kind, *, for_s: float = 0.0, reason: str = "", credential: str = ""
    ) -> None:
        if len(standing.id) <= MAX_UPSTREAM_LENGTH:
            self._send(News(kind, standing.id, self._by, min(for_s, MAX_FOR_S), reason, credential))
