"""Whether a request may go on: its model is one that its key may use, and it is within all limits."""

from collections.abc import Sequence

from keys.caller import Caller
from providers.call import Call
from proxy.cache import Entry, Policy
from proxy.completion import Completion
from proxy.errors import Forbidden, RateLimited
from proxy.routing import Resolved
from proxy.snapshot import Snapshot
from proxy.store.base import Limit, Store


async def admitted(
    store: Store, policy: Policy, *, limits: Sequence[Limit], completion: Completion
) -> Entry | None:
    """Take a request from all limits, and return its answer if the cache has it. Raises RateLimited."""
    cache_key = policy.key if policy.read else b""
    admission = store.admit_now(cache_key=cache_key, limits=limits, now=completion.at)
    if admission is None:
        admission = await store.admit(cache_key=cache_key, limits=limits, now=completion.at)
    refused_by = admission.refused_by
    if refused_by is not None:
        raise RateLimited(
            f"Rate limit {refused_by.name} reached: {refused_by.amount} requests per "
            f"{refused_by.window_s:g} seconds. Try again in {admission.retry_after_s:.1f} seconds.",
            retry_after_s=admission.retry_after_s,
        )
    entry = admission.entry
    if entry is not None and policy.accepts(entry, completion.at):
        completion.cache = "hit"
        return entry
    completion.cache = "miss" if policy.read else "bypass"
    return None


def require_allowed(snapshot: Snapshot, caller: Caller, call: Call, resolved: Resolved) -> None:
    """Raise Forbidden unless the key may use what the call asks for.

    By the name asked for, or because every target is allowed: one allowed target is not enough.
    """
    if not caller.allowed:
        return
    key = ("allowed", caller.allowed, call.model)
    allowed = snapshot.memo.get(key)
    if allowed is None:
        targets = all(
            caller.may_use(*snapshot.names(each.account.name, each.model)) for each in resolved.all_upstreams
        )
        allowed = snapshot.remember(key, caller.may_use(call.model) or targets)
    if not allowed:
        raise Forbidden(
            f"This key may not use model {call.model!r}. GET /v1/models lists what it may use.",
            code="model_not_allowed",
            param="model",
        )
