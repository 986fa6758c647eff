"""Sends finished completions to other systems: a webhook, or an index of Elasticsearch and its like.

A completion is queued when it has ended and sent in batches by the thread of the queue, with retries and
growing waits. When the other side is away longer than that, or slower than the traffic, records are dropped
and counted (`gateway_background_total`): they are copies, the truth is in the database. What was said is
sent with COMPLETION_SINK_CONTENT only.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx
import orjson
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from proxy.completion import Completion
from proxy.middleware.background import GATHER_S, Background
from proxy.middleware.base import Context, Watch

BATCH = 200
TIMEOUT_S = 10.0
TRIES = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
Record = dict[str, Any]


class Unsent(Exception):
    """The other side did not take a batch. `lasting`: it would not take it a second time either."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        """Say why, without an address or a credential."""
        super().__init__(message)
        self.lasting = lasting


class Target(Protocol):
    """Where batches go."""

    name: str

    def send(self, client: httpx.Client, records: Sequence[Record]) -> Sequence[Record]:
        """Send a batch; return those that should come again. Raises Unsent, httpx.HTTPError."""


class Sink:
    """What both sinks are: a response middleware that looks at the end of every answer."""

    changes_events = False

    def __init__(
        self, target: Target, *, gather_s: float = GATHER_S, first_wait_s: float = FIRST_WAIT_S
    ) -> None:
        """Queue for `target`."""
        self.wants_whole = bool(settings.GATEWAY.completion_sink_content)
        self._target = target
        self._first_wait_s = first_wait_s
        self._client: httpx.Client | None = None
        self._rng = random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self.queue: Background[Record] = Background(target.name, self._send, batch=BATCH, gather_s=gather_s)

    def begin(self, context: Context) -> Watch:
        """Watch every answer."""
        return _End(self, context)

    def take(self, record: Record) -> None:
        """Queue a record."""
        self.queue.put(record)

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for a moment. Blocks."""
        self.queue.close(timeout_s)

    def _send(self, records: Sequence[Record]) -> None:
        """Send a batch, in the queue's own thread. Raises Unsent or HTTPError when it is given up."""
        if self._client is None:
            # Neither proxies from the environment nor redirects: the records go where the operator said.
            self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        left, tried = records, 0
        while left:
            tried += 1
            last = tried == TRIES or self.queue.closing.is_set()
            try:
                left = self._target.send(self._client, left)
            except httpx.HTTPError:
                if last:
                    raise
            except Unsent as problem:
                if last or problem.lasting:
                    raise
            else:
                if left and last:
                    raise Unsent(f"{len(left)} records found no room", lasting=False)
            if left:
                self.queue.closing.wait(self._wait_s(tried))

    def _wait_s(self, tried: int) -> float:
        longest = min(self._first_wait_s * 2 ** (tried - 1), LONGEST_WAIT_S)
        return self._rng.uniform(longest / 2, longest)


class _End(Watch):
    """Waits for the end of one answer."""

    def __init__(self, sink: Sink, context: Context) -> None:
        self._sink, self._context = sink, context

    def finished(self, completion: Completion, whole: Mapping[str, Any] | None) -> None:
        """Queue what the completion says."""
        self._sink.take(record_of(completion, self._context, whole if self._sink.wants_whole else None))


def record_of(completion: Completion, context: Context, whole: Mapping[str, Any] | None) -> Record:
    """Return a completion's record, with its attempts; with what was said if `whole` is given."""
    record: Record = orjson.loads(completion.record())
    record["attempts"] = [attempt.to_json() for attempt in completion.attempts]
    if whole is not None:
        record["prompt"] = {
            name: context.call.body[name]
            for name in ("messages", "prompt", "input")
            if name in context.call.body
        }
        record["answer"] = whole.get("choices", whole)
    return record


def usable(url: str, variable: str) -> str:
    """Return the URL of a target. Raises ImproperlyConfigured; a URL may hold a secret, and is not told."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        said = "is no URL that starts with http:// or https://" if url else "is not set"
        raise ImproperlyConfigured(f"{variable} {said}; a middleware of RESPONSE_MIDDLEWARE needs it.")
    return url


def require_taken(reply: httpx.Response) -> None:
    """Pass any 2xx. Raises Unsent; what may be another time is not lasting."""
    if not reply.is_success:
        later = reply.status_code in (408, 425, 429) or reply.status_code >= 500
        raise Unsent(f"status {reply.status_code}", lasting=not later)
