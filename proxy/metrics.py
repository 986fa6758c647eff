"""Prometheus metrics of the data plane, with bounded labels and no lookups on the hot path.

Children (metric + label values) are bound once and kept; at most MAX_MODELS provider/model pairs
get labels of their own, the rest share "other". With several workers prometheus_client's
multiprocess mode adds them up (PROMETHEUS_MULTIPROC_DIR is set by `serve`).
"""

import os
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from proxy.completion import Completion

MAX_MODELS = 500
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


class Meter:
    """Counts Completions; one per process."""

    def __init__(self) -> None:
        """Start with no bound children."""
        self._models: dict[tuple[str, str], tuple[str, str]] = {}
        self._children: dict[tuple[Any, ...], Any] = {}

    def began(self) -> None:
        """A request is being served."""
        IN_FLIGHT.inc()

    def left(self) -> None:
        """It no longer is."""
        IN_FLIGHT.dec()

    def finished(self, completion: Completion) -> None:
        """Count one finished exchange."""
        pair = self._pair(completion.provider, completion.model)
        endpoint, cache = completion.endpoint, completion.cache
        self._child(REQUESTS, endpoint, *pair, str(completion.status), completion.outcome, cache).inc()
        self._child(LATENCY, endpoint, *pair).observe(completion.latency_ms / 1000)
        if completion.overhead_ms is not None:
            self._child(OVERHEAD, endpoint).observe(completion.overhead_ms / 1000)
        if completion.ttft_ms is not None:
            self._child(TTFT, *pair).observe(completion.ttft_ms / 1000)
        if cache:
            self._child(CACHE, cache).inc()
        if completion.error_code:
            self._child(ERRORS, endpoint, pair[0], completion.error_code[:40]).inc()
        for attempt in completion.attempts:
            self._child(ATTEMPTS, *self._pair(attempt.provider, attempt.model), attempt.outcome[:40]).inc()
        usage = completion.usage
        if usage is not None and cache != "hit":
            self._child(TOKENS, *pair, "prompt").inc(usage.prompt)
            self._child(TOKENS, *pair, "completion").inc(usage.completion)
            if usage.cached:
                self._child(TOKENS, *pair, "cached").inc(usage.cached)
            if usage.reasoning:
                self._child(TOKENS, *pair, "reasoning").inc(usage.reasoning)

    def _pair(self, provider: str, model: str) -> tuple[str, str]:
        pair = (provider, model)
        known = self._models.get(pair)
        if known is None:
            known = pair if len(self._models) < MAX_MODELS else OTHER
            if known is pair:
                self._models[pair] = pair
        return known

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


def exposition() -> bytes:
    """Return all metrics of all workers in Prometheus's text format. Blocking: call it in a thread."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the library
    return generate_latest(registry)
