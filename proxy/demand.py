"""What a request would take: the limits and budgets that hold for it, and how much of each it needs.

Which ones hold follows from the key, the model and the configuration, and is kept with that; how much, from
the request itself.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from keys.caller import Caller, matches
from keys.limits import CONCURRENT, REQUESTS, TOKENS, Ceiling, Counted, Purse, RateRule, Rules, purse_key
from providers.call import Call
from providers.upstream import Upstream
from proxy import estimating, limit_records
from proxy.estimating import Costs, Dearest
from proxy.learning import Learned
from proxy.snapshot import Snapshot
from proxy.store.base import Demand

NOTHING = Demand("")


class Who(NamedTuple):
    """A request's caller, and how to find out where it comes from: only few limits ask."""

    caller: Caller
    address: Callable[[], str]


class Targets(Protocol):
    """Who may answer."""

    @property
    def all_upstreams(self) -> tuple[Upstream, ...]:
        """Return everyone who may."""
        ...

    @property
    def route(self) -> str:
        """Return by what they were found, of the model's name alone or with a provider's."""
        ...

    @property
    def own_credential(self) -> bool:
        """Does the client pay some of them itself?"""
        ...


class Asking(NamedTuple):
    """A request that has been read and routed. `free`: it costs no tokens, whoever answers."""

    snapshot: Snapshot
    who: Who
    call: Call
    targets: Targets
    free: bool = False


class Untargeted:
    """Nobody: the answer is there already."""

    all_upstreams: tuple[Upstream, ...] = ()
    route = ""
    own_credential = False


class Applicable:
    """The limits and budgets that hold for one key and model."""

    __slots__ = (
        "_ceilings",
        "_dearest",
        "_purses",
        "_purses_from",
        "_purses_until",
        "_rules",
        "_targets",
        "by_address",
        "learns",
        "needs_tokens",
        "on_hit",
        "rates",
        "refuses_unpriced",
        "slots",
        "thinks_beyond",
        "told",
        "told_on_hit",
    )

    def __init__(self, caller: Caller, model: str, targets: Targets, rules: Sequence[Rules]) -> None:
        """Choose from `rules` what holds for the caller's request for `model`."""
        names = (model, *(f"{each.account.name}/{each.model}" for each in targets.all_upstreams))
        rates = [rule for owned in rules for rule in owned.rates if covers(rule.model, names)]
        counted = [counted_by(rule, caller, model) for rule in rates if rule.each != "ip"]
        self.by_address = [rule for rule in rates if rule.each == "ip"]
        self.slots = tuple(each for each in counted if each.rule.kind == CONCURRENT)
        self.rates = tuple(each for each in counted if each.rule.kind != CONCURRENT)
        self.on_hit = tuple(each for each in self.rates if each.rule.kind == REQUESTS)
        self.needs_tokens = any(rule.kind == TOKENS for rule in rates)
        # Budgets are for what the operator pays. Nothing here keeps a target by a client's credential.
        paid = tuple(each for each in targets.all_upstreams if not each.account.own_credential)
        own = targets.own_credential and not paid
        self._ceilings = [
            ceiling
            for owned in rules
            for ceiling in owned.ceilings
            if not own and covers(ceiling.model, names)
        ]
        self.refuses_unpriced = next((each for each in self._ceilings if each.refuse_unpriced), None)
        self.learns = self.needs_tokens or any(not each.strict for each in self._ceilings)
        self.thinks_beyond = estimating.thinks_beyond(targets.all_upstreams)
        # For records: what all of it is in words, and what a cached answer is measured by.
        self.told = limit_records.told((*rates, *self._ceilings))
        self.told_on_hit = limit_records.told([rule for rule in rates if rule.kind == REQUESTS])
        self._rules: Sequence[RateRule | Ceiling] = (*rates, *self._ceilings)
        self._targets = paid
        self._dearest: Dearest | None = None
        self._purses: Sequence[Purse] = ()
        self._purses_from = self._purses_until = 0.0

    def __bool__(self) -> bool:
        """Does anything hold?"""
        return bool(self.rates or self.slots or self.by_address or self._ceilings)

    @property
    def weighs(self) -> bool:
        """Does it matter how large a request is?"""
        return self.needs_tokens or bool(self._ceilings)

    def told_refused(self, by: Counted | Purse) -> bytes:
        """Return what a record says where one of them refuses the request."""
        return limit_records.told(self._rules, by.ceiling if isinstance(by, Purse) else by.rule)

    def told_unpriced(self) -> bytes:
        """Return what a record says where a budget refuses a model whose price nobody knows."""
        return limit_records.told(self._rules, self.refuses_unpriced)

    def purses_at(self, now: float) -> Sequence[Purse]:
        """Return the budgets' windows around epoch second `now`."""
        if not self._purses_from <= now < self._purses_until:
            purses = [purse_of(ceiling, now) for ceiling in self._ceilings]
            raises = [each.raised_until or 0.0 for each in self._ceilings]
            self._purses = tuple(purses)
            self._purses_until = min(
                [*(each.span.end for each in purses), *(end for end in raises if end > now)],
                default=float("inf"),
            )
            self._purses_from = max(
                [*(each.span.start for each in purses), *(end for end in raises if end <= now)], default=0.0
            )
        return self._purses

    def dearest(self, now: float) -> Dearest:
        """Return what the targets cost at most around `now`."""
        known = self._dearest
        if known is None or now >= known.until:
            known = self._dearest = estimating.dearest(self._targets, now)
        return known


def applicable(snapshot: Snapshot, caller: Caller, model: str, targets: Targets) -> Applicable:
    """Return the limits and budgets of a request; they are found once for each key, model and way there.

    What is passed on goes elsewhere than a chat for the same model, and to whatever provider it names.
    """
    terms, way = caller.terms, (targets.__class__, targets.route, targets.own_credential)
    key = ("limits", terms, caller.key_id, caller.tenant_id, model, way)
    found: Applicable | None = snapshot.memo.get(key)
    if found is None:
        rules = (snapshot.rules, snapshot.tenant_rules.get(caller.tenant_id), terms.rules)
        chosen = Applicable(caller, model, targets, [each for each in rules if each is not None])
        found = snapshot.remember(key, chosen)
    return found


def demanded(
    identity: str, held: Applicable, asking: Asking, *, prompt_bytes: int, learned: Learned, now: float
) -> tuple[Demand, Costs]:
    """Return what a request takes, and what one attempt of it may cost."""
    who, call = asking.who, asking.call
    rates, slots, on_hit = held.rates, held.slots, held.on_hit
    if held.by_address:
        address = who.address()
        own = [counted_by(rule, who.caller, call.model, address) for rule in held.by_address]
        rates = (*rates, *(each for each in own if each.rule.kind != CONCURRENT))
        slots = (*slots, *(each for each in own if each.rule.kind == CONCURRENT))
        on_hit = (*on_hit, *(each for each in own if each.rule.kind == REQUESTS))
    if not held.weighs or asking.free:
        return Demand(identity, rates, slots, on_hit=on_hit), _FREE
    dearest = held.dearest(now)
    size = estimating.size_of(
        call,
        prompt_bytes=prompt_bytes,
        output_limit=dearest.output_limit,
        learned=learned.output((who.caller.key_id, call.model)) if held.learns else None,
        thinks_beyond=held.thinks_beyond,
    )
    costs = dearest.costs(size)
    purses = held.purses_at(now)
    demand = Demand(identity, rates, slots, purses, size.likely, costs.worst, costs.expected, on_hit)
    return demand, costs


def replayed(identity: str, snapshot: Snapshot, who: Who) -> Demand:
    """Return what an answer that is given once more takes: a request, of the limits for all models."""
    held = applicable(snapshot, who.caller, "", Untargeted())
    own = [
        counted_by(rule, who.caller, "", who.address()) for rule in held.by_address if rule.kind == REQUESTS
    ]
    return Demand(identity, rates=(*held.on_hit, *own))


def counted_by(rule: RateRule, caller: Caller, model: str, address: str = "") -> Counted:
    """Return what counts a request for a rule."""
    scope = {
        "": "",
        "tenant": str(caller.tenant_id),
        "key": str(caller.key_id),
        "model": model,
        "ip": address,
    }[rule.each]
    return Counted(rule, f"{rule.id}/{scope}/{rule.step_us}", rule.kind == TOKENS)


def purse_of(ceiling: Ceiling, now: float) -> Purse:
    """Return a budget's window around epoch second `now`."""
    span = ceiling.span_at(now)
    return Purse(ceiling, purse_key(ceiling.id, span.start), ceiling.limit_at(now), span)


def covers(pattern: str, names: Iterable[str]) -> bool:
    """Does a limit's model pattern take in one of `names`?"""
    return not pattern or any(matches(pattern, name) for name in names)


_FREE = Costs(0, 0, unpriced=False)
