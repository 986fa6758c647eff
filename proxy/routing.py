"""Which upstreams answer a requested model.

Order: an exact route; then prefix and regex routes by priority, then by length; then
`provider/model`; then the built-in prefixes; then the default provider; without one 404.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from providers.upstream import Upstream
from proxy.errors import NotFound, Unavailable
from proxy.snapshot import Role, RouteSpec, Snapshot, TargetSpec

BUILTIN_PREFIXES = (
    ("text-embedding-004", "gemini"),
    ("embedding-001", "gemini"),
    ("text-embedding-", "openai"),
    ("chatgpt-", "openai"),
    ("gpt-", "openai"),
    ("o1-", "openai"),
    ("o3-", "openai"),
    ("o4-", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("mistral-", "mistral"),
    ("mixtral-", "mistral"),
    ("codestral-", "mistral"),
    ("ministral-", "mistral"),
)
_ASKED = (Role.NORMAL, Role.CANARY)
_BUILTIN_EXACT = {"o1": "openai", "o3": "openai", "o4": "openai"}


@dataclass(frozen=True, slots=True)
class Shadow:
    """A target that a share of a route's requests is mirrored to; nobody gets its answers.

    `budget_nanousd`: what it may cost in a day (UTC) in this process, None: anything.
    """

    upstream: Upstream
    percent: float
    budget_nanousd: int | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a model goes. `route` names the rule, `fingerprint` its content, for the cache key.

    `why_not` says what is missing where there are no upstreams; `excluded`: never cached. `total_s`
    is the most time (seconds) that any of the upstreams allows, and the most that all of them have together.

    `canaries` is for each upstream the percentage of requests that go there first (0: it is no canary).
    `sticky` says by what requests are kept together: "" (nothing), "user" or the lower-case name of a
    header. `on_context_overflow` and `on_content_filter` are asked when the upstreams before them fail so.
    `hedges`: a second upstream is asked when the first is slow; `continues`: a stream that breaks off is
    continued by the next one. `plain`: the upstreams are tried in their order, always. `own_credential`: some
    of them by a credential of the client's own (proxy.own_credential), for one request.
    """

    route: str
    fingerprint: str
    strategy: str
    upstreams: tuple[Upstream, ...]
    weights: tuple[int, ...]
    why_not: str = ""
    excluded: bool = False
    total_s: float = 0.0
    canaries: tuple[float, ...] = ()
    sticky: str = ""
    on_context_overflow: tuple[Upstream, ...] = ()
    on_content_filter: tuple[Upstream, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    hedges: bool = False
    continues: bool = False
    plain: bool = True
    own_credential: bool = False

    @property
    def all_upstreams(self) -> tuple[Upstream, ...]:
        """Return everyone who may answer."""
        return (*self.upstreams, *self.on_context_overflow, *self.on_content_filter)


def resolve(snapshot: Snapshot, model: str) -> Resolved:
    """Return the upstreams for `model`, best first. Raises NotFound (404) or Unavailable (503)."""
    key = ("route", model)
    resolved: Resolved | None = snapshot.memo.get(key)
    if resolved is None:
        resolved = _resolve(snapshot, model)
        names = (model, *(upstream.model for upstream in resolved.all_upstreams))
        timeouts = [upstream.timeouts for upstream in resolved.all_upstreams]
        resolved = replace(
            resolved,
            excluded=snapshot.exclusions.match(*names),
            plain=resolved.strategy == "ordered" and not resolved.sticky and not any(resolved.canaries),
            total_s=max((each.total_s for each in timeouts), default=0.0),
        )
        snapshot.remember(key, resolved)
    if not resolved.upstreams:
        raise Unavailable(
            f"No usable provider serves model {model!r} at the moment: {resolved.why_not}.",
            code="no_usable_provider",
        )
    return resolved


def _resolve(snapshot: Snapshot, model: str) -> Resolved:
    route = snapshot.exact_routes.get(model) or _searched(snapshot, model)
    if route is not None:
        return _by_route(snapshot, route, model)
    prefix, slash, rest = model.partition("/")
    if slash and rest and prefix in snapshot.accounts:
        return _single(snapshot, f"provider:{prefix}", prefix, rest)
    builtin = builtin_provider(model)
    if builtin in snapshot.accounts:
        return _single(snapshot, f"builtin:{builtin}", builtin, model)
    if snapshot.default_provider in snapshot.accounts:
        return _single(snapshot, f"default:{snapshot.default_provider}", snapshot.default_provider, model)
    raise NotFound(
        f"The model {model!r} does not exist here: no route or provider matches it, and there is no default "
        "provider. GET /v1/models lists what you may use.",
        code="model_not_found",
        param="model",
    )


def _searched(snapshot: Snapshot, model: str) -> RouteSpec | None:
    for route in snapshot.searched_routes:
        if route.search(model) if route.search is not None else model.startswith(route.match):
            return route
    return None


def rules(snapshot: Snapshot, model: str) -> Sequence[str]:
    """Return the ids of all rules that match `model`, by precedence: the first one counts."""
    exact = snapshot.exact_routes.get(model)
    found = [] if exact is None else [exact.id]
    found += [
        route.id
        for route in snapshot.searched_routes
        if (route.search(model) if route.search is not None else model.startswith(route.match))
    ]
    prefix, slash, rest = model.partition("/")
    if slash and rest and prefix in snapshot.accounts:
        found.append(f"provider:{prefix}")
    if builtin_provider(model) in snapshot.accounts:
        found.append(f"builtin:{builtin_provider(model)}")
    if snapshot.default_provider in snapshot.accounts:
        found.append(f"default:{snapshot.default_provider}")
    return found


def builtin_provider(model: str) -> str:
    """Return the vendor whose models are called so, "" if there is none."""
    if model in _BUILTIN_EXACT:
        return _BUILTIN_EXACT[model]
    for prefix, provider in BUILTIN_PREFIXES:
        if model.startswith(prefix):
            return provider
    return ""


def _by_route(snapshot: Snapshot, route: RouteSpec, model: str) -> Resolved:
    usable = [
        (target, _upstream(snapshot, route, target, model))
        for target in route.targets
        if target.provider in snapshot.accounts and snapshot.accounts[target.provider].usable
    ]
    asked = [(target, upstream) for target, upstream in usable if target.role in _ASKED]
    percentages = tuple(target.percent if target.role is Role.CANARY else 0.0 for target, _ in asked)
    resolved = Resolved(
        route=route.id,
        fingerprint="",
        strategy=route.strategy,
        upstreams=tuple(upstream for _, upstream in asked),
        # A strategy gives a canary no turn besides its percentage.
        weights=tuple(0 if target.role is Role.CANARY else target.weight for target, _ in asked),
        why_not="" if asked else "its route has no target whose provider is enabled and usable",
        canaries=percentages if any(percentages) else (),
        sticky=route.sticky,
        on_context_overflow=_chain(usable, Role.ON_CONTEXT_OVERFLOW),
        on_content_filter=_chain(usable, Role.ON_CONTENT_FILTER),
        shadows=tuple(
            Shadow(upstream, target.percent, target.budget_nanousd)
            for target, upstream in usable
            if target.role is Role.SHADOW and target.percent
        ),
        hedges=route.hedges,
        continues=route.continues,
    )
    return replace(resolved, fingerprint=f"{route.fingerprint} {_places(resolved.all_upstreams)}")


def _upstream(snapshot: Snapshot, route: RouteSpec, target: TargetSpec, model: str) -> Upstream:
    return snapshot.upstream(
        target.provider, target.model or model, timeouts=route.timeouts, window=target.context_window
    )


def _chain(usable: Sequence[tuple[TargetSpec, Upstream]], role: Role) -> tuple[Upstream, ...]:
    return tuple(upstream for target, upstream in usable if target.role is role)


def _single(snapshot: Snapshot, route: str, provider: str, model: str) -> Resolved:
    account = snapshot.accounts[provider]
    upstreams = (snapshot.upstream(provider, model),) if account.usable else ()
    return Resolved(
        route=route,
        fingerprint=_places(upstreams),
        strategy="ordered",
        upstreams=upstreams,
        weights=(1,) * len(upstreams),
        why_not="" if upstreams else f"provider {provider!r}: {account.why_unusable}",
    )


def _places(upstreams: tuple[Upstream, ...]) -> str:
    """Return who answers: the same route to another server is another answer."""
    return " ".join(f"{each.account.dialect}:{each.account.base_url}/{each.model}" for each in upstreams)
