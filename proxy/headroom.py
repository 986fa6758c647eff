"""`GET /v1/limits`: how every limit and budget of a caller stands, and which of them will bite first.

A caller sees counts that it shares: with the other keys of its tenant, and the limits of everyone, of which
the headers of each answer tell the same. Of a budget of everyone it sees what is left, and neither the amount
nor what was spent: that is other tenants' money.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from config.money import usd
from keys.caller import Caller
from keys.limits import Counted, Purse, Rules
from providers.call import Call
from providers.wires import CHAT
from proxy.admission import require_allowed
from proxy.demand import Who, applicable, counted_by, purse_of
from proxy.routing import resolve
from proxy.snapshot import Snapshot
from proxy.store.base import Store, Used

Json = dict[str, Any]


class Held(NamedTuple):
    """What a caller is held to."""

    counted: Sequence[Counted]
    purses: Sequence[Purse]


class Standing(NamedTuple):
    """How one limit or budget stands, and what share of it is left, from 0 to 1."""

    told: Json
    left_share: float
    bites: Json


async def headroom(store: Store, snapshot: Snapshot, who: Who, *, model: str, now: float) -> Json:
    """Return what `GET /v1/limits` answers; with `model`, of what holds for a request for it.

    Raises NotFound and Forbidden as such a request would. While the store is away, the numbers are those
    that this worker knows, and `store` says so.
    """
    held = _held_for(snapshot, who, model, now=now) if model else _held(snapshot, who, now=now)
    used = await store.used(held.counted, held.purses, now=now)
    shared = {ceiling.id for ceiling in snapshot.rules.ceilings}
    count = len(held.counted)
    limits = [_limit(each, use, now) for each, use in zip(held.counted, used[:count], strict=True)]
    budgets = [
        _budget(each, use, now=now, shared=each.ceiling.id in shared)
        for each, use in zip(held.purses, used[count:], strict=True)
    ]
    first = min([*limits, *budgets], key=lambda each: each.left_share, default=None)
    return {
        "object": "limits",
        "at": _iso(now),
        "key": _key(who.caller),
        "store": store.state(),
        "limits": [each.told for each in limits],
        "budgets": [each.told for each in budgets],
        "bites_first": None if first is None else first.bites,
    }


def _held(snapshot: Snapshot, who: Who, *, now: float) -> Held:
    """Return all that may hold a request of the caller; what each model has for itself needs a model."""
    caller = who.caller
    rules = list(_rules(snapshot, caller))
    rates = [rule for owned in rules for rule in owned.rates if rule.each != "model"]
    address = who.address() if any(rule.each == "ip" for rule in rates) else ""
    return Held(
        [counted_by(rule, caller, "", address) for rule in rates],
        [purse_of(ceiling, now) for owned in rules for ceiling in owned.ceilings],
    )


def _held_for(snapshot: Snapshot, who: Who, model: str, *, now: float) -> Held:
    caller = who.caller
    model = caller.terms.forced_route or model
    resolved = resolve(snapshot, model)
    require_allowed(snapshot, caller, Call(CHAT, model, {}, b""), resolved)
    held = applicable(snapshot, caller, model, resolved)
    address = who.address() if held.by_address else ""
    own = [counted_by(rule, caller, model, address) for rule in held.by_address]
    return Held([*held.rates, *held.slots, *own], held.purses_at(now))


def _rules(snapshot: Snapshot, caller: Caller) -> Iterable[Rules]:
    yield snapshot.rules
    if caller.tenant_id in snapshot.tenant_rules:
        yield snapshot.tenant_rules[caller.tenant_id]
    yield caller.terms.rules


def _limit(counted: Counted, use: Used, now: float) -> Standing:
    rule = counted.rule
    left = max(rule.amount - use.used, 0)
    share = left / rule.amount
    told = {
        "id": rule.id,
        "kind": rule.kind,
        "amount": rule.amount,
        "per": rule.per or None,
        "model": rule.model or None,
        "each": rule.each or None,
        "holds_for": rule.holds_for,
        "used": use.used,
        "left": left,
        "frees_after_s": None if use.frees_after_s is None else round(use.frees_after_s, 3),
        # When all of it is free at the latest, if nothing else comes.
        "resets_at": _iso(now + rule.window_s) if use.used and rule.window_s else None,
    }
    bites = {"id": rule.id, "kind": rule.kind, "left": left, "left_share": round(share, 4)}
    return Standing(told, share, bites)


def _budget(purse: Purse, use: Used, *, now: float, shared: bool) -> Standing:
    ceiling, span = purse.ceiling, purse.span
    left = max(purse.limit - use.used - use.held, 0)
    share = left / purse.limit if purse.limit else 0.0
    raised_until = ceiling.raised_until or 0.0
    raised = not shared and ceiling.raised_nanousd is not None and now < raised_until
    total = ceiling.window == "total"
    told = {
        "id": f"budget:{ceiling.id}",
        "limit_usd": None if shared else usd(purse.limit),
        "amount_usd": None if shared else usd(ceiling.amount_nanousd),
        "raised_until": _iso(raised_until) if raised else None,
        "window": ceiling.window,
        "starts_at": None if total else _iso(span.start),
        "resets_at": None if total else _iso(span.end),
        "time_zone": ceiling.zone.key,
        "mode": "strict" if ceiling.strict else "soft",
        "model": ceiling.model or None,
        "holds_for": ceiling.holds_for,
        "spent_usd": None if shared else usd(use.used),
        "held_usd": None if shared else usd(use.held),
        "left_usd": usd(left),
    }
    bites = {
        "id": told["id"],
        "kind": "budget",
        "left_usd": told["left_usd"],
        "left_share": None if shared else round(share, 4),
    }
    return Standing(told, share, bites)


def _key(caller: Caller) -> Json | None:
    if caller.key_id is None:
        return None
    expires_at = None if caller.expires_at is None else _iso(caller.expires_at)
    return {"name": caller.name, "prefix": caller.prefix, "expires_at": expires_at}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
