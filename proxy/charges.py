"""What a completion has cost, attempt by attempt, and which budgets count it: as in keys.spending."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keys.limits import Ceiling, Purse
from providers.pricing import cost_nanousd
from providers.usage import Usage
from proxy.completion import SHADOW_ROUTE
from proxy.demand import covers, purse_of
from proxy.snapshot import Snapshot

Record = Mapping[str, Any]


class Charge(NamedTuple):
    """Nano-dollars, and the names of the model that they were spent on: as asked for, and provider/model."""

    cost: int
    names: Sequence[str]


def charged_to(pattern: str, charges: Iterable[Charge]) -> int:
    """Return how much of some charges a budget for the models of `pattern` counts."""
    return sum(charge.cost for charge in charges if covers(pattern, charge.names))


def charges_of(record: Record) -> Sequence[Charge]:
    """Return what a `done` line has cost: nothing if it is a shadow's, cached, or not ours to pay."""
    if _is_shadow(record) or record.get("cache") == "hit" or not isinstance(record.get("usage"), dict):
        return ()
    attempts = record.get("attempts")
    own: list[Record] = (
        [each for each in attempts if isinstance(each, dict)] if isinstance(attempts, list) else []
    )
    charged = [each for each in own if isinstance(each.get("usage"), dict)] or [record]
    # Of one attempt the caller's own key may have paid, of the next one ours.
    paid = [each for each in charged if each.get("own_credential", record.get("own_credential")) is not True]
    return [_charge(record, each, each.get("cost_nanousd")) for each in paid]


def estimated_charges(record: Record, snapshot: Snapshot) -> Sequence[Charge]:
    """Return what an `open` line will be booked at if its call never ends: its prompt at today's price."""
    estimate, provider, model = (record.get(name) for name in ("estimate", "provider", "model"))
    if _is_shadow(record) or record.get("own_credential") is True or not isinstance(estimate, dict):
        return ()
    if not isinstance(model, str) or not isinstance(provider, str) or provider not in snapshot.accounts:
        return ()
    rates = snapshot.upstream(provider, model).prices.at(record["at"])
    prompt = estimate.get("prompt")
    if rates is None or type(prompt) is not int:
        return ()
    cost = cost_nanousd(Usage(prompt=prompt, estimated=True), rates)
    return (_charge(record, record, cost),)


class Owned(NamedTuple):
    """A budget's window around a moment, and whose it is: a key's, a tenant's, or (neither) everyone's."""

    purse: Purse
    key_id: int | None = None
    tenant_id: int | None = None


class Budgets:
    """The budgets of one configuration by their owners."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Find them: those of everyone, of tenants, and of the few keys that have their own."""
        self._snapshot = snapshot
        self._everyone = snapshot.rules.ceilings
        self._tenants = {owner: rules.ceilings for owner, rules in snapshot.tenant_rules.items()}
        self._keys = {
            caller.key_id: caller.terms.rules.ceilings
            for caller in snapshot.callers.values()
            if caller.terms.rules.ceilings
        }

    def at(self, now: float) -> dict[str, Owned]:
        """Return their windows around epoch second `now`, by key."""
        found = [Owned(purse_of(ceiling, now)) for ceiling in self._everyone]
        for tenant_id, ceilings in self._tenants.items():
            found += [Owned(purse_of(ceiling, now), tenant_id=tenant_id) for ceiling in ceilings]
        for key_id, ceilings in self._keys.items():
            found += [Owned(purse_of(ceiling, now), key_id=key_id) for ceiling in ceilings]
        return {each.purse.key: each for each in found}

    def counted(self, record: Record) -> Iterable[tuple[str, int]]:
        """Yield what a line of the spool adds to each window: the key of its sums, and nano-dollars.

        Of an `open` line: what it will be booked at if its call never ends.
        """
        ended = record["kind"] == "done"
        charges = charges_of(record) if ended else estimated_charges(record, self._snapshot)
        for ceiling in self._counting(record) if charges else ():
            cost = charged_to(ceiling.model, charges)
            if cost:
                yield purse_of(ceiling, record["at"]).key, cost

    def _counting(self, record: Record) -> Iterable[Ceiling]:
        yield from self._everyone
        yield from self._tenants.get(record.get("tenant_id"), ())
        yield from self._keys.get(record.get("key_id"), ())


def _is_shadow(record: Record) -> bool:
    route = record.get("route")
    return isinstance(route, str) and route.startswith(SHADOW_ROUTE)


def _charge(record: Record, tried: Record, cost: object) -> Charge:
    model = tried.get("model")
    asked = record.get("forced_model") or record.get("requested_model") or model
    names = (str(asked), f"{tried.get('provider')}/{model}")
    return Charge(cost if type(cost) is int and cost > 0 else 0, names)
