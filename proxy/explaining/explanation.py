"""What would become of a request: the verdict, and all that leads to it, as one JSON object."""

from collections.abc import Mapping, Sequence
from typing import Any

from keys.caller import Caller, matches
from providers.wires import RESPONSES
from proxy.cache import Policy
from proxy.demand import applicable
from proxy.explaining.facts import Facts
from proxy.explaining.reading import Reading
from proxy.explaining.targets import FIRST, Tells, targets_of, unusable
from proxy.routing import Resolved, rules
from proxy.snapshot import RouteSpec, Snapshot

_ASKED = ("normal", "canary")
_WHY = {
    "exact": "a route for exactly this name comes before all others",
    "prefix": "the first of the prefix and regex routes that match, by priority, then by length",
    "regex": "the first of the prefix and regex routes that match, by priority, then by length",
    "provider": "no route matches, and the model names its provider",
    "builtin": "no route matches, and this provider's models are called so",
    "default": "nothing else matches: this is the default provider",
}


def explained(reading: Reading, snapshot: Snapshot, facts: Facts, *, env: Any, now: float) -> dict[str, Any]:
    """Return the whole explanation, for an operator."""
    resolved, model = reading.resolved, "" if reading.call is None else reading.call.model
    targets: list[dict[str, Any]] = []
    if resolved is not None:
        targets = targets_of(Tells(reading, resolved, facts, env.max_retries, now))
    route = _spec(snapshot, model) if reading.call is not None else None
    if route is not None:
        targets += unusable(snapshot, route, model)
    cache = _cache(reading, snapshot, facts, env=env, now=now)
    return {
        "object": "gateway.explanation",
        "endpoint": reading.question.path,
        "model": (reading.call.asked_model or model) if reading.call is not None else None,
        "stream": None if reading.call is None else reading.call.stream,
        "health": facts.source,
        "verdict": _verdict(reading, targets, cache),
        "caller": _caller(reading.question.caller),
        "allowed": _allowed(reading, snapshot),
        "route": _route(reading, snapshot, route),
        "targets": targets,
        "cache": cache,
        "limits": _limits(reading, snapshot),
        "settings": _settings(reading, facts, targets, env=env),
        "notes": _notes(facts, env),
    }


def _limits(reading: Reading, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the rate limits that hold for the request; how they stand is told by GET /v1/limits."""
    if reading.resolved is None or reading.call is None:
        return []
    held = applicable(snapshot, reading.question.caller, reading.call.model, reading.resolved)
    counted = [*(each.rule for each in (*held.rates, *held.slots)), *held.by_address]
    return [
        {
            "name": rule.id,
            "amount": rule.amount,
            "unit": rule.kind,
            "per_s": rule.window_s or None,
            "holds_for": rule.holds_for,
            "each": rule.each or None,
        }
        for rule in counted
    ]


def _verdict(
    reading: Reading, targets: Sequence[Mapping[str, Any]], cache: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how it would end as far as the gateway decides that: `kind` refused, cached, joined or asked."""
    problem = reading.problem
    if problem is not None:
        return {"kind": "refused", "status": problem.status, **problem.envelope()["error"]}
    if cache["hit"]:
        return {"kind": "cached", "status": 200, "message": "Answered from the cache; nobody is asked."}
    if cache["in_flight"]:
        return {"kind": "joined", "message": "The same request is being answered: this one gets that answer."}
    first = next((each for each in targets if each["state"] == FIRST), None)
    if first is not None:
        name = f"{first['provider']}/{first['model']}"
        shared = first.get("share_percent") not in (None, 100.0)
        message = f"Most likely {name} is asked first." if shared else f"{name} is asked first."
        return {
            "kind": "asked",
            "provider": first["provider"],
            "model": first["model"],
            "message": message,
        }
    why = next((each for each in targets if "refused_param" in each and each["role"] in _ASKED), None)
    if why is not None:
        return {
            "kind": "refused",
            "status": 400,
            "code": "unsupported_parameter",
            "param": why["refused_param"],
            "message": why["reasons"][0],
        }
    return {"kind": "refused", "status": 503, "message": "None of its targets can be asked at the moment."}


def _caller(caller: Caller) -> dict[str, Any]:
    terms = caller.terms
    return {
        "key": caller.name,
        "prefix": caller.prefix,
        "forced_route": terms.forced_route or None,
        "max_tokens": terms.max_tokens,
    }


def _allowed(reading: Reading, snapshot: Snapshot) -> dict[str, Any]:
    """Return whether the key may use the model, and by which of its patterns."""
    caller, resolved, call = reading.question.caller, reading.resolved, reading.call
    patterns = {"patterns": list(caller.allowed), "denied": list(caller.terms.denied)}
    if call is None or resolved is None:
        return {"allowed": None, "by": None, **patterns}
    refused = reading.problem is not None and reading.problem.status == 403
    by = None
    if not caller.allowed and not refused:
        by = "the key may use every model" + (" but those denied to it" if caller.terms.denied else "")
    elif not refused:
        by = next((f"pattern {each}" for each in caller.allowed if matches(each, call.model)), None)
        by = by or f"each of its targets is allowed: {', '.join(_by_target(caller, resolved, snapshot))}"
    return {"allowed": not refused, "by": by, **patterns}


def _by_target(caller: Caller, resolved: Resolved, snapshot: Snapshot) -> list[str]:
    found = []
    for each in resolved.all_upstreams:
        names = snapshot.names(each.account.name, each.model)
        pattern = next(one for one in caller.allowed if any(matches(one, name) for name in names))
        found.append(f"{each.id} by {pattern}")
    return found


def _route(reading: Reading, snapshot: Snapshot, spec: RouteSpec | None) -> dict[str, Any] | None:
    if reading.call is None:
        return None
    matching = rules(snapshot, reading.call.model)
    if not matching:
        return None
    rule, *others = matching
    kind, _, match = rule.partition(":")
    return {
        "id": rule,
        "kind": kind,
        "match": match,
        "priority": None if spec is None else spec.priority,
        "strategy": "ordered" if spec is None else spec.strategy,
        "why": _WHY[kind],
        "also_match": [_considered(snapshot, each) for each in others],
        "rules": len(snapshot.exact_routes) + len(snapshot.searched_routes),
    }


def _considered(snapshot: Snapshot, rule: str) -> dict[str, Any]:
    priorities = {route.id: route.priority for route in snapshot.searched_routes}
    return {"id": rule, "priority": priorities.get(rule)}


def _spec(snapshot: Snapshot, model: str) -> RouteSpec | None:
    """Return the route that answers for a model; None where it is a provider's."""
    rule = next(iter(rules(snapshot, model)), "")
    routes = (*snapshot.exact_routes.values(), *snapshot.searched_routes)
    return next((route for route in routes if route.id == rule), None)


def _cache(reading: Reading, snapshot: Snapshot, facts: Facts, *, env: Any, now: float) -> dict[str, Any]:
    policy, stored_at = reading.policy, facts.stored_at
    age_s = None if stored_at is None else max(now - stored_at, 0.0)
    fresh = age_s is not None and age_s < policy.max_age_s
    return {
        "key": policy.key.hex() or None,
        "read": policy.read,
        "write": policy.write,
        "bypassed_because": _bypass(reading, snapshot, policy, env=env),
        "stored": stored_at is not None if facts.cache_known and policy.key else None,
        "age_s": None if age_s is None else round(age_s, 1),
        "max_age_s": policy.max_age_s or None,
        "hit": policy.read and fresh,
        "in_flight": facts.in_flight,
    }


def _bypass(reading: Reading, snapshot: Snapshot, policy: Policy, *, env: Any) -> str | None:
    """Say why the cache is not read."""
    call, resolved = reading.call, reading.resolved
    if policy.read or call is None or resolved is None or reading.problem is not None:
        return None
    if env.cache_mode == "none":
        return "the cache is off (CACHE_MODE)"
    if not reading.question.endpoint.cacheable:
        return "answers of this endpoint are not cached"
    directives = reading.question.headers.get("cache-control", "").lower()
    if "no-store" in directives:
        return "the request says Cache-Control: no-store"
    if resolved.excluded:
        return f"excluded: {_exclusion(snapshot, call.model, resolved)}"
    if call.wire == RESPONSES and not policy.key:
        return "it goes on with what the vendor has stored"
    return "the request says Cache-Control: no-cache" if "no-cache" in directives else "its max-age is 0"


def _exclusion(snapshot: Snapshot, model: str, resolved: Resolved) -> str:
    names = (model, *(upstream.model for upstream in resolved.all_upstreams))
    for name in names:
        if name in snapshot.exclusions.exact:
            return f"model {name}"
        for search in snapshot.exclusions.searches:
            if search(name):
                pattern = getattr(getattr(search, "__self__", None), "pattern", "")
                return f"model {name} by the pattern {pattern}".removesuffix(" by the pattern ")
    return f"model {model}"


def _settings(
    reading: Reading, facts: Facts, targets: Sequence[Mapping[str, Any]], *, env: Any
) -> dict[str, Any] | None:
    resolved, call = reading.resolved, reading.call
    if resolved is None or call is None:
        return None
    hedge_after_s = None
    if resolved.hedges:
        first = next((each for each in targets if each["state"] == FIRST), None)
        upstreams = {each.id: each for each in resolved.all_upstreams}
        found = None if first is None else upstreams.get(f"{first['provider']}/{first['model']}")
        prospect = None if found is None else facts.of(found)
        if prospect is not None:
            hedge_after_s = prospect.ttft_s if call.stream else prospect.total_s
    return {
        "max_attempts": env.max_retries,
        "total_s": resolved.total_s,
        "hedges": resolved.hedges,
        "hedge_after_s": None if hedge_after_s is None else round(hedge_after_s, 3),
        "continues_streams": resolved.continues,
        "would_continue": reading.continues,
        "sticky_by": resolved.sticky or None,
        "session": reading.affinity.decode("utf-8", "replace")[:100] or None,
    }


def _notes(facts: Facts, env: Any) -> list[str]:
    notes = []
    if facts.source != "live":
        notes.append(
            "This process serves nothing: upstreams' health is as last reported, what is cached is not known."
        )
    elif env.workers > 1:
        notes.append("Health, balance and shadows' budgets are those of the one process that answered this.")
    if env.request_middleware:
        notes.append("REQUEST_MIDDLEWARE is not run here; it may change or refuse the request.")
    return notes
