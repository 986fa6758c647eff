"""Whether a request may go on: its key may use the model, and it is within all limits and budgets."""

from keys.caller import Caller
from keys.limits import Counted
from providers.call import Call
from proxy import limit_records
from proxy.cache import BYPASS, Entry, Policy
from proxy.completion import Completion
from proxy.demand import NOTHING, Asking, Who, applicable, demanded, replayed
from proxy.errors import Forbidden
from proxy.exchange import Exchange
from proxy.holding import Holding
from proxy.learning import Learned
from proxy.limit_errors import limit_headers, refused, unpriced
from proxy.routing import Resolved
from proxy.snapshot import Snapshot
from proxy.store.base import Admission, Demand, Store


async def admitted(
    store: Store,
    policy: Policy,
    *,
    asking: Asking,
    exchange: Exchange,
    learned: Learned,
) -> Entry | None:
    """Take a request from all limits and hold what it may cost, and return its answer if the cache has it.

    Raises GatewayError where one of them refuses it; then nothing was taken.
    """
    completion, model = exchange.completion, asking.call.model
    held = applicable(asking.snapshot, asking.who.caller, model, asking.targets)
    if not held:
        admission = await asked(store, policy, NOTHING, now=completion.at)
        return _cached(admission, policy, completion)
    demand, costs = demanded(
        completion.id,
        held,
        asking,
        prompt_bytes=exchange.prompt_size(),
        learned=learned,
        now=completion.at,
    )
    if costs.unpriced and held.refuses_unpriced is not None:
        completion.limits = held.told_unpriced()
        raise unpriced(model, held.refuses_unpriced.holds_for)
    at_once = store.admit_now(demand, policy, now=completion.at)
    admission = at_once or await store.admit(demand, policy, now=completion.at)
    if admission.refusal is not None:
        completion.limits = held.told_refused(admission.refusal.by)
        raise refused(admission.refusal)
    completion.limits = held.told if admission.entry is None else held.told_on_hit
    completion.told = limit_headers(admission.requests, admission.tokens)
    if admission.hold is not None:
        exchange.holding = Holding(
            store, admission.hold, costs=costs, applicable=held, model=model, learned=learned
        )
    return _cached(admission, policy, completion)


async def asked(store: Store, policy: Policy, demand: Demand, *, now: float) -> Admission:
    """Return the store's answer, waiting for it only where it is not here."""
    admission = store.admit_now(demand, policy, now=now)
    return await store.admit(demand, policy, now=now) if admission is None else admission


async def admitted_again(store: Store, *, snapshot: Snapshot, who: Who, completion: Completion) -> None:
    """Take a request whose answer is there already from the limits of requests. Raises GatewayError."""
    demand = replayed(completion.id, snapshot, who)
    admission = await asked(store, BYPASS, demand, now=completion.at)
    refusal = admission.refusal
    by = refusal.by if refusal is not None and isinstance(refusal.by, Counted) else None
    completion.limits = limit_records.told([each.rule for each in demand.rates], by and by.rule)
    if refusal is not None:
        raise refused(refusal)
    if admission.hold is not None:
        store.settle(admission.hold, tokens=0, costs=(), now=completion.at)
    completion.told = limit_headers(admission.requests, admission.tokens)
    completion.cache = "bypass"


def _cached(admission: Admission, policy: Policy, completion: Completion) -> Entry | None:
    if admission.entry is not None:
        completion.cache = "hit"
    else:
        completion.cache = "miss" if policy.read else "bypass"
    return admission.entry


def require_allowed(snapshot: Snapshot, caller: Caller, call: Call, resolved: Resolved) -> None:
    """Raise Forbidden unless the key may use what the call asks for.

    By the name asked for, or because every target is allowed: one allowed target is not enough. One denied
    name is.
    """
    terms = caller.terms
    if not caller.allowed and not terms.denied:
        return
    key = ("allowed", caller.allowed, terms, call.model)
    allowed = snapshot.memo.get(key)
    if allowed is None:
        allowed = snapshot.remember(key, may_use(snapshot, caller, call.model, resolved))
    if not allowed:
        raise Forbidden(
            f"This key may not use model {call.model!r}. GET /v1/models lists what it may use.",
            code="model_not_allowed",
            param="model",
        )


def may_use(snapshot: Snapshot, caller: Caller, model: str, resolved: Resolved) -> bool:
    """May the key use what goes by this name and to those targets?"""
    names = [snapshot.names(each.account.name, each.model) for each in resolved.all_upstreams]
    if caller.must_not_use(model) or any(caller.must_not_use(*each) for each in names):
        return False
    return caller.may_use(model) or all(caller.may_use(*each) for each in names)
