"""What a worker lets through while Redis is away: its share of what was left, counted here.

Half of what was left is shared out among the workers that lived then, so that what all of them let through is
within every limit, whatever the others do meanwhile. A window of a rate limit slides here as well.
"""

from collections.abc import Mapping, Sequence

from keys.limits import Counted, Purse, RateRule
from proxy.cache import Entry
from proxy.store.base import Admission, Demand, Hold, Left, Refusal
from proxy.store.counts import Counts

SHARE, REFUSE, ALLOW = "share", "refuse", "allow"
RETRY_S = 1.0
_UNLIMITED = 2**53


class Share:
    """One worker's, for one outage."""

    def __init__(self, left: Mapping[str, int], *, workers: int, outage: str) -> None:
        """`left` of each limit and budget when that was last known, and how many `workers` there were."""
        self._left, self._parts, self._outage = left, 2 * max(workers, 1), outage
        self._counts = Counts()
        self._rules: dict[str, RateRule] = {}
        self._rates: dict[str, Counted] = {}
        self._shadows: dict[str, list[Hold]] = {}

    def admit(self, demand: Demand, now: float, entry: Entry | None) -> Admission:
        """Take from the share, or refuse. With an entry nothing is held."""
        if self._outage == REFUSE:
            by = next(each for part in (demand.rates, demand.slots, demand.purses) for each in part)
            return Admission(refusal=Refusal(by, 0, 1, RETRY_S, outage=True))
        answer = self._counts.take(self._shared(demand), now=now)
        if answer.refusal is not None:
            return Admission(refusal=_told(answer.refusal, demand))
        self._rates |= {each.key: each for each in demand.rates}
        if entry is not None:
            return Admission(entry, None, None, *_lefts(answer, demand))
        if answer.hold is not None:
            self._shadows.setdefault(demand.id, []).append(answer.hold)
        return Admission(None, Hold(demand, local=True), None, *_lefts(answer, demand))

    def raise_hold(self, hold: Hold, worst: int, expected: int, *, now: float) -> Refusal | None:
        """Take more money for a hold."""
        more = Demand(hold.demand.id, purses=hold.demand.purses, tokens=0, worst=worst, expected=expected)
        refusal = self.admit(more, now, None).refusal
        if refusal is None:
            hold.worst += worst
            hold.expected += expected
        return refusal

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Put what was used in the place of what was held, if it was held here."""
        first = True
        for shadow in self._shadows.pop(hold.demand.id, ()):
            if first:
                self._counts.settle(shadow, tokens=tokens, costs=costs, now=now)
            else:
                self._counts.settle(shadow, tokens=0, costs=[0] * len(costs), now=now)
            first = False

    def give_back(self, hold: Hold, *, now: float) -> None:
        """End it as if it had never been."""
        for shadow in self._shadows.pop(hold.demand.id, ()):
            self._counts.give_back(shadow, now=now)

    def counted(self, now: float) -> Sequence[tuple[Counted, int]]:
        """Return what the windows of rate limits have let through here."""
        totals = [(each, self._counts.used_of(each, now=now).used) for each in self._rates.values()]
        return [(each, total) for each, total in totals if total]

    def _shared(self, demand: Demand) -> Demand:
        return demand._replace(
            rates=[self._part_of(each) for each in demand.rates],
            slots=[self._part_of(each) for each in demand.slots],
            purses=[each._replace(limit=self._of(each.key)) for each in demand.purses],
            on_hit=(),
        )

    def _part_of(self, counted: Counted) -> Counted:
        rule = self._rules.get(counted.key)
        if rule is None:
            of_whole = counted.rule
            rule = RateRule(of_whole.id, of_whole.kind, self._of(counted.key), of_whole.per)
            self._rules[counted.key] = rule
        return counted._replace(rule=rule)

    def _of(self, key: str) -> int:
        """Return this worker's part; of what was never seen there is none."""
        return _UNLIMITED if self._outage == ALLOW else max(self._left.get(key, 0), 0) // self._parts


def _told(refusal: Refusal, demand: Demand) -> Refusal:
    """Return the refusal by what is whole."""
    whole: dict[str, Counted | Purse] = {each.key: each for each in (*demand.rates, *demand.slots)}
    whole |= {each.key: each for each in demand.purses}
    return refusal._replace(by=whole[refusal.by.key], retry_after_s=RETRY_S, outage=True)


def _lefts(answer: Admission, demand: Demand) -> tuple[Left | None, Left | None]:
    rules = {each.rule.id: each.rule for each in demand.rates}
    return (_whole(answer.requests, rules), _whole(answer.tokens, rules))


def _whole(left: Left | None, rules: Mapping[str, RateRule]) -> Left | None:
    return (
        None if left is None else Left(rules[left.rule.id], min(left.remaining, rules[left.rule.id].amount))
    )
