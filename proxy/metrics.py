"""Prometheus metrics of the data plane, with bounded labels and no lookups on the hot path.

A finished request is counted in plain numbers (`Meter.finished`); four times a second, and before they are
read, what has come since is handed to Prometheus (`Meter.publish`): its own counters take a lock for
each of the dozen that a request counts in, or write into a mapped file.

At most MAX_MODELS provider/model pairs get labels of their own, the rest share "other". With several
workers prometheus_client's multiprocess mode adds them up (PROMETHEUS_MULTIPROC_DIR is set by `serve`).
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from providers.usage import Usage
from proxy.breaker_metrics import BreakerMeter
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
BACKGROUND = Counter(
    "gateway_background",
    "What was handed to a queue beside the hot path, by what became of it.",
    ["queue", "outcome"],
)
QUEUE_DEPTH = Gauge(
    "gateway_queue_depth", "Calls that wait for a provider's slot.", ["provider"], multiprocess_mode="livesum"
)
QUEUE_WAIT = Histogram(
    "gateway_queue_wait_seconds",
    "How long calls waited for a provider's slot.",
    ["provider"],
    buckets=_SECONDS,
)
QUEUE_REFUSED = Counter(
    "gateway_queue_refused",
    "Calls that found no place in a provider's queue, or no turn in time.",
    ["provider"],
)
TRUNCATED = Counter(
    "gateway_streams_truncated", "Streams that a provider broke off after their first content.", ["provider"]
)
SHADOWS = Counter(
    "gateway_shadow",
    "Requests mirrored to a shadow target, by how they ended, or why they were not.",
    ["provider", "outcome"],
)
UNAUTHENTICATED = Counter("gateway_unauthenticated", "Requests refused for want of a valid key.")
BACKLOG_SEGMENTS = Gauge(
    "gateway_spool_backlog_segments", "Spool segments waiting.", multiprocess_mode="livemostrecent"
)
BACKLOG_BYTES = Gauge(
    "gateway_spool_backlog_bytes", "Spool bytes waiting.", multiprocess_mode="livemostrecent"
)


class _Count:
    """A counter of one set of labels: counted in `n` on the event loop, told to Prometheus in `publish`."""

    __slots__ = ("_child", "_told", "n")

    def __init__(self, child: Any) -> None:
        self.n = self._told = 0
        self._child = child

    @property
    def waits(self) -> bool:
        return self.n != self._told

    def publish(self) -> None:
        n = self.n
        if n != self._told:
            self._child.inc(n - self._told)
            self._told = n


class _Spread:
    """A histogram of one set of labels, in the same way. `bounds` are upper limits in seconds."""

    __slots__ = ("_bounds", "_child", "_told", "_told_total_s", "counts", "total_s")

    def __init__(self, child: Any, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = self._told_total_s = 0.0
        self._told = list(self.counts)
        self._bounds = bounds
        self._child = child

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total_s += seconds

    def publish(self) -> None:
        for place, count in enumerate(self.counts):
            if count != self._told[place]:
                # The library can only observe one value at a time (0.26).
                self._child._buckets[place].inc(count - self._told[place])  # noqa: SLF001 - see above
                self._told[place] = count
        total_s = self.total_s
        self._child._sum.inc(total_s - self._told_total_s)  # noqa: SLF001 - see above
        self._told_total_s = total_s


class Counts:
    """Where one kind of Completion counts. `publish` is for any thread, the rest for the event loop."""

    __slots__ = (
        "cache",
        "cache_write",
        "cached",
        "completion",
        "latency",
        "overhead",
        "prompt",
        "reasoning",
        "requests",
        "ttft",
    )

    def __init__(  # noqa: PLR0917 - the labels, in the order of a Completion's key
        self, endpoint: str, pair: tuple[str, str], status: int, outcome: str, cache: str
    ) -> None:
        self.requests = _Count(REQUESTS.labels(endpoint, *pair, str(status), outcome, cache))
        self.latency = _Spread(LATENCY.labels(endpoint, *pair), _SECONDS)
        self.overhead = _Spread(OVERHEAD.labels(endpoint), _OVERHEAD_SECONDS)
        self.ttft = _Spread(TTFT.labels(*pair), _SECONDS)
        self.cache = _Count(CACHE.labels(cache)) if cache else None
        self.prompt = _Count(TOKENS.labels(*pair, "prompt"))
        self.completion = _Count(TOKENS.labels(*pair, "completion"))
        self.cached = _Count(TOKENS.labels(*pair, "cached"))
        self.cache_write = _Count(TOKENS.labels(*pair, "cache_write"))
        self.reasoning = _Count(TOKENS.labels(*pair, "reasoning"))

    def add(self, latency_ms: float, *, overhead_ms: float | None) -> None:
        """Count a finished exchange. Call it last: see `publish`."""
        self.latency.add(latency_ms / 1000)
        if overhead_ms is not None:
            self.overhead.add(overhead_ms / 1000)
        if self.cache is not None:
            self.cache.n += 1
        self.requests.n += 1

    def count_tokens(self, usage: Usage) -> None:
        """Count what an answer cost."""
        self.prompt.n += usage.prompt
        self.completion.n += usage.completion
        if usage.cached:
            self.cached.n += usage.cached
        if usage.cache_write:
            self.cache_write.n += usage.cache_write
        if usage.reasoning:
            self.reasoning.n += usage.reasoning

    def publish(self) -> None:
        """Tell the requests first: what is counted meanwhile makes them wait for the next time."""
        if not self.requests.waits:
            return
        self.requests.publish()
        for name in Counts.__slots__:
            counted: Any = getattr(self, name)
            if counted is not None and counted is not self.requests:
                counted.publish()


class Meter:
    """Counts Completions; one per process. All but `publish` is for the event loop alone."""

    def __init__(self) -> None:
        """Start with no bound children."""
        self.in_flight = 0
        self.breakers = BreakerMeter()
        self._pairs: set[tuple[str, str]] = set()
        self._codes: set[str] = set()
        self._bound: dict[tuple[Any, ...], Counts] = {}
        self._attempts: dict[tuple[str, str, str], _Count] = {}
        # How many calls wait, by provider. Asked while publishing, in any thread: it returns a new mapping.
        self.depths: Callable[[], Mapping[str, int]] = dict
        self._told_depths: set[str] = set()
        self._waits: dict[str, _Spread] = {}
        self._refused: dict[str, _Count] = {}
        self._truncated: dict[str, _Count] = {}
        self._shadows: dict[tuple[str, str], _Count] = {}
        self._publishing = threading.Lock()

    def publish(self) -> None:
        """Tell Prometheus what has been counted since the last time. For any thread."""
        with self._publishing:
            IN_FLIGHT.set(self.in_flight)
            for bound in list(self._bound.values()):
                bound.publish()
            for counted in (self._attempts, self._refused, self._truncated, self._shadows):
                for count in list(counted.values()):
                    count.publish()
            for wait in list(self._waits.values()):
                wait.publish()
            self._publish_depths()
            self.breakers.publish()

    def _publish_depths(self) -> None:
        depths = self.depths()
        self._told_depths.update(depths)
        for provider in self._told_depths:
            QUEUE_DEPTH.labels(provider).set(depths.get(provider, 0))

    def finished(self, completion: Completion) -> None:
        """Count one finished exchange."""
        provider, cache, usage = completion.provider, completion.cache, completion.usage
        bound = self.counts(completion)
        if completion.ttft_ms is not None:
            bound.ttft.add(completion.ttft_ms / 1000)
        self.attempted(completion.attempts)
        if completion.error_code:
            pair = self._pair(provider, completion.model)
            ERRORS.labels(completion.endpoint, pair[0], self._code(completion.error_code)).inc()
        if usage is not None and cache != "hit":
            bound.count_tokens(usage)
        bound.add(completion.latency_ms, overhead_ms=completion.overhead_ms)

    def attempted(self, attempts: Sequence[Attempt]) -> None:
        """Count attempts."""
        for attempt in attempts:
            counted = self._attempts.get((attempt.provider, attempt.model, attempt.outcome))
            if counted is None:
                counted = self._attempt(attempt)
            counted.n += 1

    def shadow(self, provider: str, outcome: str) -> None:
        """Count a shadow that has ended, or that was not asked, and why."""
        count = self._shadows.get((provider, outcome))
        if count is None:
            count = self._shadows[provider, outcome] = _Count(SHADOWS.labels(provider, outcome))
        count.n += 1

    def queued(self, provider: str, wait_s: float) -> None:
        """Count a call that waited in a provider's queue, however its wait ended."""
        wait = self._waits.get(provider)
        if wait is None:
            wait = self._waits[provider] = _Spread(QUEUE_WAIT.labels(provider), _SECONDS)
        wait.add(wait_s)

    def queue_refused(self, provider: str) -> None:
        """Count a call that a provider's queue did not take."""
        _count_one(self._refused, QUEUE_REFUSED, provider)

    def truncated(self, provider: str) -> None:
        """Count a stream that a provider broke off."""
        _count_one(self._truncated, TRUNCATED, provider)

    def counts(self, completion: Completion) -> Counts:
        """Return where a Completion of this kind counts."""
        key = (
            completion.endpoint,
            completion.provider,
            completion.model,
            completion.status,
            completion.outcome,
            completion.cache,
        )
        return self._bound.get(key) or self._bind(key)

    def _bind(self, key: tuple[Any, ...]) -> Counts:
        endpoint, provider, model, *rest = key
        pair = self._pair(provider, model)
        key = (endpoint, *pair, *rest)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = Counts(endpoint, pair, *rest)
        return bound

    def _attempt(self, attempt: Attempt) -> _Count:
        key = (*self._pair(attempt.provider, attempt.model), self._code(attempt.outcome))
        counted = self._attempts.get(key)
        if counted is None:
            counted = self._attempts[key] = _Count(ATTEMPTS.labels(*key))
        return counted

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


def _count_one(counted: dict[str, _Count], counter: Counter, provider: str) -> None:
    """Count by provider alone: they are rows that operators make, so there are few."""
    count = counted.get(provider)
    if count is None:
        count = counted[provider] = _Count(counter.labels(provider))
    count.n += 1


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
