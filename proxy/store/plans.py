"""What a script needs to know of a request's limits and budgets, written once for all that share them.

A plan is JSON, flat, so that reading it costs Redis little (proxy/store/lua/admit.lua): the key of the
worker's records, the tail of a record, how many rates, slots, purses and rates of a hit there are, and then
those.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from keys.limits import STEPS, Counted, Purse
from proxy.store.base import Demand
from proxy.store.scripts import ADMIT, RAISE, SETTLE, Script

MAX_PLANS = 5000
_NO_END_S = 32_503_680_000  # the year 3000: budgets in total end long after it
_KEEP_AFTER_END_S = 7 * 86_400.0  # what began in a window may be settled long after its end
NO_ARGUMENT = b"$0\r\n\r\n"


class Plan:
    """One, and what Redis last answered to it: the how many-th answer that was tells whose is newer."""

    __slots__ = ("admit", "answer", "answered", "demand", "raising", "settle", "tail")

    def __init__(self, demand: Demand, records: str, *, expires: bool) -> None:
        """Write it. `records`: the key of the worker's holds; `expires`: by Redis's clock."""
        purses = [_written_purse(purse, expires=expires) for purse in demand.purses]
        self.tail = orjson.dumps(
            {
                "s": [slot_key(each) for each in demand.slots],
                "p": [[key, ends_ms] for key, _, _, ends_ms in purses],
            }
        ).decode()
        plan: list[Any] = [records, self.tail, len(demand.rates), len(demand.slots)]
        plan += (len(demand.purses), len(demand.on_hit))
        for counted in demand.rates:
            plan += _written_rate(counted, expires=expires)
        for slot in demand.slots:
            plan += (slot_key(slot), slot.rule.amount)
        for purse in purses:
            plan += purse
        for counted in demand.on_hit:
            plan += _written_rate(counted, expires=expires)
        written = orjson.dumps(plan)
        self.admit = called(ADMIT, written, arguments=3)
        self.settle = called(SETTLE, written, arguments=2)
        self.raising = called(RAISE, written, arguments=3)
        self.demand = demand
        self.answer: Sequence[int] = ()
        self.answered = 0

    @property
    def left(self) -> Mapping[str, int]:
        """Return how much was left of each limit and budget then, by its key."""
        demand = self.demand
        if not self.answer:
            return {}
        end = 2 * len(demand.rates)
        keys = [each.key for each in (*demand.rates, *demand.slots)] + [each.key for each in demand.purses]
        left = (*self.answer[2 : end + 1 : 2], *self.answer[end + 1 :])
        return dict(zip(keys, left, strict=True))


class Plans:
    """Those of one worker."""

    def __init__(self, records: str, *, expires: bool) -> None:
        """Know none."""
        self._records, self._expires = records, expires
        self._known: dict[Any, Plan] = {}

    def of(self, demand: Demand) -> Plan:
        """Return the plan of a demand."""
        _, rates, slots, purses, _, _, _, on_hit = demand
        key: Any = (rates, slots, purses, on_hit)
        try:
            plan = self._known.get(key)
        except TypeError:  # they came in lists
            key = tuple(tuple(each) for each in key)
            plan = self._known.get(key)
        return self._new(key, demand) if plan is None else plan

    def last_left(self) -> Mapping[str, int]:
        """Return how much was left of each limit and budget when Redis last said so, by its key."""
        left: dict[str, int] = {}
        for plan in sorted(self._known.values(), key=lambda each: each.answered):
            left |= plan.left
        return left

    def last_used(self) -> Mapping[str, int]:
        """Return how much of each rate limit was used when Redis last said so. For any thread."""
        used: dict[str, int] = {}
        plans = list(self._known.values())  # in one go: the event loop adds to them meanwhile
        for plan in sorted(plans, key=lambda each: each.answered):
            left = plan.left
            limits = (*plan.demand.rates, *plan.demand.slots)
            used |= {each.key: each.rule.amount - left[each.key] for each in limits if each.key in left}
        return used

    def _new(self, key: Any, demand: Demand) -> Plan:
        if len(self._known) >= MAX_PLANS:
            self._known = dict(list(self._known.items())[MAX_PLANS // 2 :])
        plan = self._known[key] = Plan(demand, self._records, expires=self._expires)
        return plan


def called(script: Script, written: bytes, *, arguments: int) -> bytes:
    """Return the beginning of a script's call, in Redis's protocol, up to its first argument."""
    head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n0\r\n" % (3 + arguments, script.sha.encode())
    return head + argument(written)


def argument(value: bytes) -> bytes:
    """Return one more argument of it."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def rate_key(counted: Counted) -> str:
    """Return where Redis has a rate limit's window."""
    return "gw:limit:" + counted.key


def slot_key(counted: Counted) -> str:
    """Return where Redis counts requests at a time."""
    return "gw:slots:" + counted.key


def idle_ms(counted: Counted) -> int:
    """Return how long anything of a window may count."""
    return counted.rule.step_us * (STEPS + 2) // 1000 + 1


def _written_rate(counted: Counted, *, expires: bool) -> Sequence[Any]:
    rule, _, by_tokens = counted
    return (rate_key(counted), rule.amount, rule.step_us, int(by_tokens), idle_ms(counted) if expires else 0)


def _written_purse(purse: Purse, *, expires: bool) -> tuple[str, int, int, int]:
    end = purse.span.end
    ends_ms = int((end + _KEEP_AFTER_END_S) * 1000) if expires and end < _NO_END_S else 0
    return (purse_name(purse.key), purse.limit, int(purse.ceiling.strict), ends_ms)


def purse_name(key: str) -> str:
    """Return where Redis has the sums of a budget's window."""
    return "gw:purse:" + key
