"""The finished exchange and its attempts, and the one form they take in the spool.

The spool has two kinds of line, each one JSON object:
  open      an upstream call has started (id, key, upstream, estimate); if its process dies before
            `done`, the shipper books it as interrupted
  done      a Completion: everything the log and the ledger need
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from providers.errors import Owner, UpstreamError
from providers.pricing import Rates, cost_nanousd
from providers.usage import Usage

# Begins the route of a completion that is no request's own: what it cost is in no budget of a key or tenant.
SHADOW_ROUTE = "shadow:"
_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Attempt:
    """One try at one upstream. `outcome` is "ok", the failure's code, or why it was given up.

    `usage` and `cost_nanousd` are there where several attempts have cost something: what this one has.
    """

    provider: str
    model: str
    started_ms: float
    latency_ms: float = 0.0
    status: int | None = None
    outcome: str = ""
    error: str = ""
    usage: Usage | None = None
    price_id: int | None = None
    cost_nanousd: int | None = None

    def fail(self, error: UpstreamError) -> None:
        """Note how it failed. What a vendor says of a refused credential may quote it: not kept."""
        self.outcome = error.code or error.owner.value
        self.error = "" if error.owner is Owner.CREDENTIAL else error.message

    @property
    def may_have_cost(self) -> bool:
        """Has its vendor perhaps begun to answer? One that answers with an error asks for no money.

        Of an answer that a content filter stopped the vendor has told what it costs, though it counts as
        failed.
        """
        return self.usage is not None or self.status is None or self.status < 300

    def to_json(self) -> dict[str, Any]:
        """Return the spool's form."""
        form = {
            "provider": self.provider,
            "model": self.model,
            "started_ms": round(self.started_ms, 3),
            "latency_ms": round(self.latency_ms, 3),
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
        }
        if self.usage is not None:
            form["usage"] = self.usage.to_json()
            form["price_id"], form["cost_nanousd"] = self.price_id, self.cost_nanousd
        return form

    def charge(self, usage: Usage, rates: Rates | None) -> None:
        """Note what it has cost; without `rates` nobody knows."""
        self.usage = usage
        if rates is not None:
            self.price_id, self.cost_nanousd = rates.price_id, cost_nanousd(usage, rates)


@dataclass(slots=True)
class Completion:
    """What is known of an exchange; filled while it runs, written once when it ends.

    Times are milliseconds since the request arrived (`at`, epoch seconds). `overhead_ms` is the
    gateway's own share: latency without waiting for upstreams, nor in line for them (`queue_ms`).
    """

    id: str
    request_id: str
    at: float
    endpoint: str
    key_id: int | None = None
    key_prefix: str = ""
    tenant_id: int | None = None
    requested_model: str = ""
    forced_model: str = ""  # what the key has made of it; "": nothing else
    route: str = ""
    provider: str = ""
    model: str = ""
    status: int = 0
    outcome: str = ""
    error_code: str = ""
    stream: bool = False
    cache: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    price_id: int | None = None
    cost_nanousd: int | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    overhead_ms: float | None = None
    tags: Mapping[str, str] | None = None  # the key's; None: it has none
    queue_ms: float | None = None  # in line for busy providers
    limits: bytes = b""  # which ones measured it, and which refused it: JSON (proxy.limit_records)
    own_credential: bool = False  # the client pays its vendor itself: the cost is in no budget
    told: Sequence[tuple[bytes, bytes]] = ()  # what its answer says of limits, in headers; not recorded

    @property
    def named_model(self) -> str:
        """Return the model name that it was routed by, and that limits and budgets know it by."""
        return self.forced_model or self.requested_model

    def again(self, identity: str, *, request_id: str, at: float, latency_ms: float) -> "Completion":
        """Return what another has come to that differs from this one in ids and times alone."""
        other = object.__new__(Completion)  # copy.copy takes seven times as long
        for name in _FIELDS:
            setattr(other, name, getattr(self, name))
        other.id, other.request_id, other.at = identity, request_id, at
        other.latency_ms = other.overhead_ms = latency_ms
        other.ttft_ms = None
        return other

    def record(self) -> bytes:
        """Return the JSON object of everything but the attempts: rendered once, for spool and log."""
        usage = self.usage
        return orjson.dumps(
            {
                "id": self.id,
                "request_id": self.request_id,
                "at": self.at,
                "endpoint": self.endpoint,
                "key": self.key_prefix,
                "key_id": self.key_id,
                "tenant_id": self.tenant_id,
                "requested_model": self.requested_model,
                "route": self.route,
                "provider": self.provider,
                "model": self.model,
                "status": self.status,
                "outcome": self.outcome,
                "error_code": self.error_code,
                "stream": self.stream,
                "cache": self.cache,
                "usage": None if usage is None else usage.to_json(),
                "price_id": self.price_id,
                "cost_nanousd": self.cost_nanousd,
                **self._rarely(),
                "latency_ms": round(self.latency_ms, 3),
                "ttft_ms": None if self.ttft_ms is None else round(self.ttft_ms, 3),
                "overhead_ms": None if self.overhead_ms is None else round(self.overhead_ms, 3),
            }
        )

    def done_line(self, record: bytes | None = None) -> bytes:
        """Return the spool line of the finished exchange, with its newline. `record`: if rendered already."""
        record = record or self.record()
        if not self.attempts:
            return done_line(record, limits=self.limits)
        attempts = orjson.dumps([attempt.to_json() for attempt in self.attempts])
        return done_line(record, attempts, limits=self.limits)

    def open_line(self, *, provider: str, model: str, prompt_estimate: int) -> bytes:
        """Return the spool line that says an upstream call has started. `prompt_estimate`: tokens."""
        return orjson.dumps(
            {
                "kind": "open",
                "id": self.id,
                "request_id": self.request_id,
                "at": self.at,
                "endpoint": self.endpoint,
                "key_id": self.key_id,
                "tenant_id": self.tenant_id,
                "requested_model": self.requested_model,
                "route": self.route,
                "provider": provider,
                "model": model,
                "stream": self.stream,
                **self._rarely(),
                "estimate": {
                    "prompt": prompt_estimate,
                    "completion": 0,
                    "cached": 0,
                    "cache_write": 0,
                    "reasoning": 0,
                    "estimated": True,
                },
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    def _rarely(self) -> Mapping[str, Any]:
        """Return what few records have. Who pays a vendor itself spends nothing of a budget."""
        if not (self.tags or self.forced_model or self.own_credential or self.queue_ms):
            return _NOTHING
        rare = {
            "tags": self.tags,
            "forced_model": self.forced_model,
            "own_credential": self.own_credential,
            "queue_ms": round(self.queue_ms, 3) if self.queue_ms else None,
        }
        return {name: value for name, value in rare.items() if value}


_FIELDS = tuple(each.name for each in fields(Completion))


class RecordForm:
    """The records of Completions that differ in ids and times alone, and have waited for nobody."""

    __slots__ = ("_alike",)

    def __init__(self, completion: Completion) -> None:
        """Take one of them."""
        record = completion.record()
        self._alike = record[record.index(b',"endpoint":') : record.rindex(b',"latency_ms":') + 1]

    def of(self, identity: str, *, request_id: str, at: float, latency_ms: float) -> bytes:
        """Return the record of another."""
        ids = orjson.dumps({"id": identity, "request_id": request_id, "at": at})
        own_ms = round(latency_ms, 3)
        times = orjson.dumps({"latency_ms": own_ms, "ttft_ms": None, "overhead_ms": own_ms})
        return b"%b%b%b" % (ids[:-1], self._alike, times[1:])


def done_line(record: bytes, attempts: bytes = b"[]", *, limits: bytes = b"") -> bytes:
    """Return the spool line of a record, its attempts and its limits, which are JSON all of them."""
    if not limits:
        return b'{"kind":"done",%b,"attempts":%b}\n' % (record[1:-1], attempts)
    return b'{"kind":"done",%b,"attempts":%b,"limits":%b}\n' % (record[1:-1], attempts, limits)
