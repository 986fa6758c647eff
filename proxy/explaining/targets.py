"""Each target of the route, in the order of tries, with the reasons why it would be asked, or not."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from config.money import usd
from providers.call import Call
from providers.dialects import DIALECTS
from providers.errors import UnsupportedParameter
from providers.pricing import cost_nanousd
from providers.upstream import Upstream
from providers.usage import Usage
from providers.wires import COUNT_TOKENS, EMBEDDINGS
from proxy.attempt import dropped_by, refused
from proxy.explaining.facts import Facts, Prospect
from proxy.explaining.order import expected
from proxy.explaining.reading import Reading
from proxy.fleet.fitting import fitting
from proxy.routing import Resolved, Shadow
from proxy.snapshot import Role, RouteSpec, Snapshot

# What becomes of a target.
FIRST, NEXT, ASIDE, SHADOW, SKIPPED = "first", "next", "aside", "shadow", "skipped"
_LIMITS = ("max_completion_tokens", "max_tokens")
_AFTER = {
    Role.ON_CONTEXT_OVERFLOW: "asked only when the prompt is too long for the targets before it",
    Role.ON_CONTENT_FILTER: "asked only when a content filter withholds the answer of a target before it",
}


class Tells(NamedTuple):
    """What all targets of one request have in common."""

    reading: Reading
    resolved: Resolved
    facts: Facts
    max_attempts: int
    now: float


def targets_of(tells: Tells) -> list[dict[str, Any]]:
    """Return the targets in the order of tries, then those for some cases alone, then the shadows."""
    reading, resolved = tells.reading, tells.resolved
    plan = expected(resolved, tells.facts, reading.affinity)
    shares = dict(zip((id(each) for each in resolved.upstreams), plan.shares, strict=True))
    ordered = [resolved.upstreams[index] for index in plan.order]
    tried = fitting(ordered, reading.tokens, resolved.on_context_overflow)
    larger = {id(each) for each in tried} - {id(each) for each in ordered}
    listed = [_asked(tells, each, share=shares.get(id(each), 0.0)) for each in tried]
    _mark(listed, tells)
    kept = {id(each) for each in tried}
    listed += [_too_small(tells, each) for each in ordered if id(each) not in kept]
    for role, chain in (
        (Role.ON_CONTEXT_OVERFLOW, resolved.on_context_overflow),
        (Role.ON_CONTENT_FILTER, resolved.on_content_filter),
    ):
        listed += [_aside(tells, each, role) for each in chain if id(each) not in larger]
    listed += [_mirrored(tells, each) for each in resolved.shadows]
    return listed


def unusable(snapshot: Snapshot, route: RouteSpec, model: str) -> Iterator[dict[str, Any]]:
    """Yield the targets that the route names, and whose provider cannot be used."""
    for target in route.targets:
        account = snapshot.accounts.get(target.provider)
        if account is not None and account.usable:
            continue
        why = "its provider is disabled" if account is None else account.why_unusable
        yield {
            "state": SKIPPED,
            "provider": target.provider,
            "model": target.model or model,
            "role": target.role.value,
            "reasons": [why],
        }


def _asked(tells: Tells, upstream: Upstream, *, share: float | None) -> dict[str, Any]:
    resolved, prospect = tells.resolved, tells.facts.of(upstream)
    role = Role.NORMAL
    if any(upstream is each for each in resolved.on_context_overflow):
        role = Role.ON_CONTEXT_OVERFLOW
    elif _percent(resolved, upstream):
        role = Role.CANARY
    told = _told(tells, upstream, role)
    told["share_percent"] = None if share is None else round(share, 2)
    if role is Role.CANARY:
        told["reasons"].append(f"a canary: gets {_percent(resolved, upstream):g} % of the requests first")
    if not prospect.askable:
        told["state"] = SKIPPED
    told["reasons"] += _remarks(prospect)
    return told


def _mark(listed: Sequence[dict[str, Any]], tells: Tells) -> None:
    """Say who is first, and what the others wait for."""
    first, tries = True, 0
    for told in listed:
        if told["state"] == SKIPPED:
            continue
        told["state"] = FIRST if first else NEXT
        tries += 1
        if first:
            told["reasons"].insert(0, _why_first(tells, told))
        elif tries > tells.max_attempts:
            told["state"] = SKIPPED
            told["reasons"].insert(0, f"MAX_RETRIES allows {tells.max_attempts} attempts: it is not reached")
        else:
            told["reasons"].insert(0, "asked when those before it fail")
        first = False


def _why_first(tells: Tells, told: dict[str, Any]) -> str:
    resolved, share = tells.resolved, told["share_percent"]
    if tells.reading.affinity and len(resolved.upstreams) > 1:
        return "its session belongs to it"
    if share is not None and 0 < share < 100:
        return f"asked first for {share:g} % of the requests"
    if share is None and resolved.strategy == "least_latency":
        return "the soonest to answer by what was measured; of two drawn by lot the better is asked"
    if share is None and resolved.strategy == "least_busy":
        return "it has the fewest requests under way"
    if told["role"] == Role.ON_CONTEXT_OVERFLOW:
        return "the prompt is too long for the targets before it"
    return "asked first"


def _too_small(tells: Tells, upstream: Upstream) -> dict[str, Any]:
    told = _told(tells, upstream, Role.NORMAL)
    told["state"] = SKIPPED
    told["reasons"].append(
        f"its context window of {upstream.context_window} tokens is too small for a prompt of about "
        f"{tells.reading.tokens}"
    )
    return told


def _aside(tells: Tells, upstream: Upstream, role: Role) -> dict[str, Any]:
    told, prospect = _told(tells, upstream, role), tells.facts.of(upstream)
    told["reasons"].insert(0, _AFTER[role])
    told["reasons"] += _remarks(prospect)
    if told["state"] != SKIPPED:
        told["state"] = ASIDE if prospect.askable else SKIPPED
    return told


def _mirrored(tells: Tells, shadow: Shadow) -> dict[str, Any]:
    upstream, facts, spent = shadow.upstream, tells.facts, tells.facts.spent.get(shadow.upstream.id)
    told = _told(tells, upstream, Role.SHADOW)
    budget = shadow.budget_nanousd
    told["reasons"].insert(0, f"gets a copy of {shadow.percent:g} % of the requests, and nobody its answers")
    told["reasons"] += _remarks(facts.of(upstream))
    if told["state"] != SKIPPED:
        told["state"] = SHADOW if facts.of(upstream).askable else SKIPPED
    told["budget_usd_per_day"] = None if budget is None else usd(budget)
    told["spent_usd_today"] = None if spent is None else usd(spent)
    if budget is not None and not told["price"]["known"]:
        told["state"] = SKIPPED
        told["reasons"].append("it has a budget, and its model no known price")
    elif budget is not None and spent is not None and spent >= budget:
        told["state"] = SKIPPED
        told["reasons"].append("its budget of today is spent")
    return told


def _told(tells: Tells, upstream: Upstream, role: Role) -> dict[str, Any]:
    """Return what is to be said of any target: whether its vendor can say the request, timeouts, price."""
    call, prospect, timeouts = tells.reading.sent, tells.facts.of(upstream), upstream.timeouts
    assert call is not None, "a request that was routed was read"
    told: dict[str, Any] = {
        "state": "",
        "provider": upstream.account.name,
        "model": upstream.model,
        "role": role.value,
        "dialect": upstream.account.dialect,
        "credential": prospect.credential,
        "reasons": [],
        "dropped_params": [],
        "context_window": upstream.context_window,
        "timeouts": {
            "connect_s": timeouts.connect_s,
            "first_content_s": timeouts.first_content_s if call.stream else None,
            "idle_s": timeouts.idle_s if call.stream else None,
            "total_s": timeouts.total_s if call.stream else timeouts.total_json_s,
        },
        "price": _price(upstream, call, tokens=tells.reading.tokens, now=tells.now),
    }
    if call.wire == COUNT_TOKENS and not DIALECTS[upstream.account.dialect].counts_tokens:
        told["reasons"].append("its vendor counts no tokens: the gateway estimates them")
        return told
    try:
        request = DIALECTS[upstream.account.dialect].encode(call, upstream)
    except UnsupportedParameter as problem:
        refusal = refused(problem, tells.reading.call)
        told["state"], told["refused_param"] = SKIPPED, refusal.param
        told["reasons"].append(f"cannot express {refusal.param!r}: {refusal.message}")
        return told
    told["dropped_params"] = dropped_by(call, request)
    return told


def _remarks(prospect: Prospect) -> list[str]:
    remarks = [prospect.why] if prospect.why else []
    if prospect.askable and prospect.full:
        line = f" behind {prospect.waiting} others" if prospect.waiting else ""
        remarks.append(f"all its slots are taken: those that are free come first, else the call waits{line}")
    return remarks


def _percent(resolved: Resolved, upstream: Upstream) -> float:
    return next(
        (
            percent
            for each, percent in zip(resolved.upstreams, resolved.canaries, strict=False)
            if each is upstream
        ),
        0.0,
    )


def _price(upstream: Upstream, call: Call, *, tokens: int, now: float) -> dict[str, Any]:
    """Return what the request would cost at most: the guess of its prompt, and its cap on the answer."""
    rates = upstream.prices.at(now)
    free = call.wire == COUNT_TOKENS
    output = 0 if free or call.wire == EMBEDDINGS else _output_cap(call)
    told: dict[str, Any] = {
        "known": rates is not None or free,
        "prompt_tokens": 0 if free else tokens,
        "output_tokens": output,
        "input_usd_per_mtok": None if rates is None else usd(rates.input),
        "output_usd_per_mtok": None if rates is None else usd(rates.output),
        "prompt_usd": "0" if free else None,
        "at_most_usd": "0" if free else None,
    }
    if rates is not None and not free:
        told["prompt_usd"] = usd(cost_nanousd(Usage(prompt=tokens), rates))
        if output is not None:
            told["at_most_usd"] = usd(cost_nanousd(Usage(prompt=tokens, completion=output), rates))
    return told


def _output_cap(call: Call) -> int | None:
    """Return the most tokens that the request lets its answers have; None if it does not say."""
    for name in _LIMITS:
        cap = call.body.get(name)
        if isinstance(cap, int) and not isinstance(cap, bool) and cap >= 0:
            return cap * call.choices
    return None
