"""A request read, routed and judged as `proxy.serving` does it, up to the first thing that refuses it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from keys.caller import Caller
from providers.call import Call
from providers.usage import tokens_in
from providers.wires import COUNT_TOKENS
from proxy import cache
from proxy.admission import require_allowed
from proxy.cache import BYPASS, Policy
from proxy.continuation import continuable
from proxy.counting import prompt_bytes
from proxy.endpoints import (
    ANTHROPIC_MESSAGES,
    CHAT_COMPLETIONS,
    COMPLETION,
    EMBEDDING,
    RESPONSE,
    TOKEN_COUNT,
    Endpoint,
)
from proxy.errors import GatewayError, Unauthenticated
from proxy.fleet.affinity import affinity
from proxy.key_terms import on_terms
from proxy.plain import canonical_form
from proxy.routing import Resolved, resolve
from proxy.snapshot import Snapshot

ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": CHAT_COMPLETIONS,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDING,
    "/v1/messages": ANTHROPIC_MESSAGES,
    "/v1/messages/count_tokens": TOKEN_COUNT,
    "/v1/responses": RESPONSE,
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request that nobody has sent. `headers` have lower-case names; `path` is one of ENDPOINTS."""

    path: str
    body: bytes
    caller: Caller
    headers: Mapping[str, str]

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that it would be sent to."""
        return ENDPOINTS[self.path]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a request as far as it got. `problem`: what it would be refused with.

    `tokens` is the guess of the prompt's; `call` is as vendors would be asked (canonical where the route
    continues broken streams).
    """

    question: Question
    problem: GatewayError | None = None
    call: Call | None = None
    resolved: Resolved | None = None
    policy: Policy = BYPASS
    affinity: bytes = b""
    tokens: int = 0

    @property
    def continues(self) -> bool:
        """Would a stream that breaks off be continued?"""
        call, resolved = self.call, self.resolved
        return bool(call and resolved and resolved.continues and call.stream and continuable(call))

    @property
    def sent(self) -> Call | None:
        """Return the call as vendors would be asked."""
        return canonical_form(self.call) if self.call is not None and self.continues else self.call


def read(question: Question, snapshot: Snapshot, *, env: Any, now: float, namespace: str = "") -> Reading:
    """Read, route and judge. What refuses the request is in the reading; nothing is raised.

    `namespace`: what the response middlewares add to the cache's.
    """
    reading = Reading(question)
    try:
        _check_key(question.caller, now)
        call = on_terms(_parsed(question), question.caller.terms)
        reading = replace(reading, call=call, tokens=_tokens(call))
        resolved = resolve(snapshot, call.model)
        wire = {name.encode("latin-1"): value.encode("latin-1") for name, value in question.headers.items()}
        kept_by = affinity(resolved.sticky, call, wire) if resolved.sticky else b""
        reading = replace(reading, resolved=resolved, affinity=kept_by)
        require_allowed(snapshot, question.caller, call, resolved)
    except GatewayError as problem:
        return replace(reading, problem=problem)
    if env.cache_mode == "none" or not question.endpoint.cacheable:
        return reading
    policy = cache.policy(
        snapshot,
        call=call,
        caller=question.caller,
        resolved=resolved,
        endpoint=question.endpoint.name,
        namespace=env.gateway_version + namespace,
        cache_control=question.headers.get("cache-control", ""),
    )
    return replace(reading, policy=policy)


def _tokens(call: Call) -> int:
    """Guess the prompt's tokens, as Exchange does: those of a count are never paid."""
    return 0 if call.wire == COUNT_TOKENS else tokens_in(prompt_bytes(call.raw))


def _check_key(caller: Caller, now: float) -> None:
    if not caller.enabled:
        raise Unauthenticated("The API key is disabled.", code="api_key_disabled")
    if caller.expired(now):
        raise Unauthenticated("The API key has expired.", code="api_key_expired")


def _parsed(question: Question) -> Call:
    endpoint = question.endpoint
    call = endpoint.parse(question.body)
    sent = {name: question.headers[name] for name in endpoint.headers if name in question.headers}
    return call._replace(headers=sent) if sent else call
