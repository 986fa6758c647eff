"""Encores: a request that has hit the cache comes again, the same to the byte, and hits it again.

Who sends it, what it asks for, whether it may, and what its answer, its record and its log line say
follow from its bytes, the client's address and the configuration. All that is kept from the first hit
on. What depends on the moment is asked each time: has the key run out, is there room for a record, is
that answer still in the cache, is the request within the limits. Where one of them says no, nothing has
happened yet: the request goes its usual way (gateway.py), which knows what to answer.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keys.caller import Caller
from proxy.cache import Entry, Policy
from proxy.completion import Completion, RecordForm, done_line
from proxy.demand import Applicable
from proxy.exchange import Exchange, Observer, RequestLog, observe_safely
from proxy.http import ANTHROPIC_REQUEST_ID, MAX_REQUEST_ID, LaneRequest, WireHeader, echoed
from proxy.metrics import Counts, Meter
from proxy.own_credential import HEADER
from proxy.prepared import Repeats
from proxy.snapshot import Snapshot
from proxy.spool import Spool
from proxy.store.base import Admission, Demand, Store

MAX_BYTES = 8192
_CONTROLS = re.compile(rb"[\0-\2\r\n]")
# What proxies and tracers put into each request: no answer depends on it, and the id is read anew.
_OF_EACH_REQUEST = frozenset({b"x-request-id", b"traceparent", b"tracestate"})
_REMAINING = b"x-ratelimit-remaining-requests"
_ID, _AGE, _LEFT = b"\0", b"\1", b"\2"  # stand for what each response has of its own; no header may hold them
_OF_EACH_RESPONSE = {
    b"x-request-id": _ID,
    ANTHROPIC_REQUEST_ID.encode(): _ID,
    b"age": _AGE,
    _REMAINING: _LEFT,
}


class WireReply(NamedTuple):
    """A response with status 200: its header lines, and its body."""

    head: bytes
    body: bytes


class Terms(NamedTuple):
    """On what a hit may be given again."""

    caller: Caller
    policy: Policy
    applicable: Applicable


class Encore(NamedTuple):
    """What is known of one such request. `head`: the header lines, with places for the id and the age.

    The answer itself stays where it is, in the cache, which knows when to let go of it.
    """

    terms: Terms
    stored_at: float
    length: int
    record: RecordForm
    prompt: str
    counts: Counts
    head: bytes
    completion: Completion

    def is_of(self, entry: Entry) -> bool:
        """Is this the answer that was given? No key is stored twice at one moment."""
        return entry.stored_at == self.stored_at and len(entry.body) == self.length

    def reply(self, entry: Entry, request_id: str, now: float, *, left: int | None) -> WireReply:
        """Return the response. `left`: of the limit of requests that bites first."""
        age_s = max(int(now - self.stored_at), 0)
        head = self.head.replace(_ID, request_id.encode()).replace(_AGE, b"%d" % age_s)
        if left is not None:
            head = head.replace(_LEFT, b"%d" % left)
        return WireReply(head, entry.body)


class Encores:
    """Those of one gateway."""

    def __init__(
        self,
        *,
        store: Store,
        spool: Spool,
        meter: Meter,
        log_request: RequestLog,
        next_id: Callable[[], str],
        observers: Sequence[Observer] = (),
    ) -> None:
        """Know none."""
        self._known: Repeats[Encore] = Repeats()
        self._store, self._spool, self._meter = store, spool, meter
        self._log_request, self._next_id, self._observers = log_request, next_id, observers

    def remember(
        self,
        snapshot: Snapshot,
        request: LaneRequest,
        headers: Sequence[WireHeader],
        sent: bytes,
        *,
        terms: Terms,
        entry: Entry,
        exchange: Exchange,
    ) -> None:
        """Remember a hit that has just been answered with `headers` and, as `sent`, its entry's very bytes.

        Not where the store must be waited for, nor of a large request, nor where what is said is stored, nor
        without a key: whoever has none may be limited by address. Nor with a credential of the client's own,
        which would be remembered with the rest of the request.
        """
        completion = exchange.completion
        if sent is not entry.body or self._store.peek(terms.policy.key, completion.at) is not entry:
            return
        scope, body = request.scope, request.body
        size = len(body) + sum(len(name) + len(value) for name, value in scope["headers"])
        if (
            size > MAX_BYTES
            or exchange.payload is not None
            or terms.caller.key_id is None
            or HEADER in request.wire
            or terms.applicable.by_address
        ):
            return
        head = _head(headers)
        if not head:
            return
        encore = Encore(
            terms,
            entry.stored_at,
            len(entry.body),
            RecordForm(completion),
            exchange.prompt,
            self._meter.counts(completion),
            head,
            completion,
        )
        self._known.remember(snapshot, _key(scope, body), encore)

    def answer(self, snapshot: Snapshot | None, scope: Mapping[str, Any], body: bytes) -> WireReply | None:
        """Answer, and record it. None: nothing has happened yet."""
        if len(body) > MAX_BYTES or not self._known.may_know(snapshot, body):
            return None
        began = time.perf_counter()
        encore = self._known.get(snapshot, _key(scope, body))
        if encore is None or self._spool.full:
            return None
        now = time.time()
        admission = self._granted(encore, now)
        if admission is None or admission.entry is None:
            return None
        identity = self._next_id()
        request_id = _request_id(scope["headers"]) or identity
        latency_ms = (time.perf_counter() - began) * 1000
        record = encore.record.of(identity, request_id=request_id, at=now, latency_ms=latency_ms)
        self._spool.append_done(identity, done_line(record, limits=encore.terms.applicable.told_on_hit))
        encore.counts.add(latency_ms, overhead_ms=latency_ms)
        self._log_request(record, 0, encore.prompt)
        for observe in self._observers:
            if getattr(observe, "watched", True):
                heard = encore.completion.again(
                    identity, request_id=request_id, at=now, latency_ms=latency_ms
                )
                observe_safely(observe, heard)
        left = None if admission.requests is None else admission.requests.remaining
        return encore.reply(admission.entry, request_id, now, left=left)

    def _granted(self, encore: Encore, now: float) -> Admission | None:
        caller, policy, applicable = encore.terms
        if caller.expired(now):
            return None
        entry = self._store.peek(policy.key, now)
        if entry is None or not encore.is_of(entry) or not policy.accepts(entry, now):
            return None
        return self._store.admit_now(Demand("", on_hit=applicable.on_hit), policy, now=now)


def _key(scope: Mapping[str, Any], body: bytes) -> tuple[Any, ...]:
    """Return all that a request comes with but for what each has of its own."""
    headers = [
        header
        for header in scope["headers"]
        if header[0] not in _OF_EACH_REQUEST or len(header[1]) > MAX_REQUEST_ID
    ]
    address = scope["client"]
    return (body, *headers, scope["path"], scope["method"], scope["query_string"], address and address[0])


def _request_id(headers: Sequence[WireHeader]) -> str:
    for name, value in reversed(headers):
        if name == b"x-request-id":
            return echoed(value)
    return ""


def _head(headers: Sequence[WireHeader]) -> bytes:
    """Return the header lines, with places. Empty where a value holds a line end: no server may send it."""
    if any(_CONTROLS.search(value) for _, value in headers):
        return b""
    return b"".join([b"%b: %b\r\n" % (name, _OF_EACH_RESPONSE.get(name, value)) for name, value in headers])
