"""Prometheus metrics of the data plane, with bounded labels and no lookups on the hot path.

Children (metric + label values) are bound once and kept; at most MAX_MODELS provider/model pairs
get labels of their own, the rest share "other". With several workers prometheus_client's
multiprocess mode adds them up (PROMETHEUS_MULTIPROC_DIR is set by `serve`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from providers.usage import Usage
from proxy.completion import Attempt, Completion
from proxy.spool import backlog

MAX_MODELS = 500
MAX_CODES = 100
MAX_CODE_LENGTH = 60
TOKEN_KINDS = ("prompt", "completion", "cached", "cache_write", "reasoning")
OTHER = ("other", "other")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

REQUESTS = Counter(
    "gateway_requests", "Finished requests.", ["endpoint", "provider", "model", "status", "outcome", "cache"]
)
ERRORS = Counter(
    "gateway_errors", "Requests that ended in an error, by its code.", ["endpoint", "provider", "code"]
)
LATENCY = Histogram(
    "gateway_request_seconds",
    "From request to last byte.",
    ["endpoint", "provider", "model"],
    buckets=_SECONDS,
)
TTFT = Histogram(
    "gateway_ttft_seconds",
    "From request to first content of a stream.",
    ["provider", "model"],
    buckets=_SECONDS,
)
OVERHEAD = Histogram(
    "gateway_overhead_seconds",
    "The gateway's own share of a request.",
    ["endpoint"],
    buckets=_OVERHEAD_SECONDS,
)
ATTEMPTS = Counter("gateway_attempts", "Upstream attempts.", ["provider", "model", "outcome"])
TOKENS = Counter("gateway_tokens", "Tokens by kind.", ["provider", "model", "kind"])
CACHE = Counter("gateway_cache", "Cache results.", ["result"])
IN_FLIGHT = Gauge("gateway_in_flight", "Requests being served.", multiprocess_mode="livesum")
BREAKER = Gauge(
    "gateway_breaker_state", "0 closed, 1 half-open, 2 open.", ["provider"], multiprocess_mode="livemax"
)
UNAUTHENTICATED = Counter("gateway_unauthenticated", "Requests refused for want of a valid key.")
BACKLOG_SEGMENTS = Gauge(
    "gateway_spool_backlog_segments", "Spool segments waiting.", multiprocess_mode="livemostrecent"
)
BACKLOG_BYTES = Gauge(
    "gateway_spool_backlog_bytes", "Spool bytes waiting.", multiprocess_mode="livemostrecent"
)


@dataclass(frozen=True, slots=True)
class _Bound:
    """The children that one kind of Completion counts in, bound once."""

    requests: Any
    latency: Any
    overhead: Any
    ttft: Any
    cache: Any
    tokens: Mapping[str, Any]


class Meter:
    """Counts Completions; one per process."""

    def __init__(self) -> None:
        """Start with no bound children."""
        self.in_flight = 0
        self._pairs: set[tuple[str, str]] = set()
        self._codes: set[str] = set()
        self._bound: dict[tuple[Any, ...], _Bound] = {}
        self._attempts: dict[tuple[str, str, str], Any] = {}

    def tell_in_flight(self) -> None:
        """Publish how many requests are being served: now and then, not with each request."""
        IN_FLIGHT.set(self.in_flight)

    def finished(self, completion: Completion) -> None:
        """Count one finished exchange."""
        pair = self._pair(completion.provider, completion.model)
        key = (completion.endpoint, pair, completion.status, completion.outcome, completion.cache)
        bound = self._bound.get(key) or self._bind(key)
        bound.requests.inc()
        bound.latency.observe(completion.latency_ms / 1000)
        if completion.overhead_ms is not None:
            bound.overhead.observe(completion.overhead_ms / 1000)
        if completion.ttft_ms is not None:
            bound.ttft.observe(completion.ttft_ms / 1000)
        if bound.cache is not None:
            bound.cache.inc()
        for attempt in completion.attempts:
            self._attempt(attempt).inc()
        if completion.error_code:
            ERRORS.labels(completion.endpoint, pair[0], self._code(completion.error_code)).inc()
        if completion.usage is not None and completion.cache != "hit":
            _count_tokens(bound.tokens, completion.usage)

    def _bind(self, key: tuple[Any, ...]) -> _Bound:
        endpoint, pair, status, outcome, cache = key
        bound = self._bound[key] = _Bound(
            requests=REQUESTS.labels(endpoint, *pair, str(status), outcome, cache),
            latency=LATENCY.labels(endpoint, *pair),
            overhead=OVERHEAD.labels(endpoint),
            ttft=TTFT.labels(*pair),
            cache=CACHE.labels(cache) if cache else None,
            tokens={kind: TOKENS.labels(*pair, kind) for kind in TOKEN_KINDS},
        )
        return bound

    def _attempt(self, attempt: Attempt) -> Any:
        key = (*self._pair(attempt.provider, attempt.model), self._code(attempt.outcome))
        child = self._attempts.get(key)
        if child is None:
            child = self._attempts[key] = ATTEMPTS.labels(*key)
        return child

    def _pair(self, provider: str, model: str) -> tuple[str, str]:
        pair = (provider, model)
        if pair not in self._pairs:
            if len(self._pairs) >= MAX_MODELS:
                return OTHER
            self._pairs.add(pair)
        return pair

    def _code(self, code: str) -> str:
        """Return `code` as a label; vendors make up codes, so only the first ones get their own."""
        if code not in self._codes:
            if len(self._codes) >= MAX_CODES or len(code) > MAX_CODE_LENGTH:
                return "other"
            self._codes.add(code)
        return code


def _count_tokens(tokens: Mapping[str, Any], usage: Usage) -> None:
    tokens["prompt"].inc(usage.prompt)
    tokens["completion"].inc(usage.completion)
    if usage.cached:
        tokens["cached"].inc(usage.cached)
    if usage.cache_write:
        tokens["cache_write"].inc(usage.cache_write)
    if usage.reasoning:
        tokens["reasoning"].inc(usage.reasoning)


def exposition(spool: Path) -> bytes:
    """Return all metrics of all workers in Prometheus's text format. Blocking: call it in a thread."""
    waiting = backlog(spool)
    BACKLOG_SEGMENTS.set(waiting["segments"])
    BACKLOG_BYTES.set(waiting["bytes"])
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the library
    return generate_latest(registry)
