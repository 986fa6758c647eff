"""A reply as it is kept under a key and given again: to the byte, but for what is each request's own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from django.http import HttpResponseBase

from providers.usage import Usage
from proxy.completion import Completion
from proxy.exchange import Exchange
from proxy.http import ANTHROPIC_REQUEST_ID, JsonReply, PassedReply, StreamReply, WireHeader
from proxy.relay import replayed
from proxy.reply_headers import wire_headers

REPLAYED: WireHeader = (b"idempotency-replayed", b"true")
# Told anew with each reply, or true of one moment alone.
_OF_ITS_OWN = frozenset(
    {
        b"x-request-id",
        ANTHROPIC_REQUEST_ID.encode(),
        b"x-gateway-provider",
        b"x-gateway-model",
        b"x-gateway-cache",
        b"x-gateway-attempts",
        b"age",
        b"openai-processing-ms",
    }
)
_OF_THE_MOMENT = (b"x-upstream-ratelimit-", b"x-ratelimit-")


class Stored(NamedTuple):
    """Status, headers and body as they went out; `facts` are those of the Completion that it answered."""

    status: int
    headers: Sequence[WireHeader]
    body: bytes
    events: bool
    facts: dict[str, Any]
    usage: Usage | None

    @classmethod
    def of(cls, reply: JsonReply | StreamReply, body: bytes, completion: Completion) -> "Stored":
        """Return what is to be kept of a reply."""
        headers = [
            header
            for header in reply.wire_headers
            if header[0] not in _OF_ITS_OWN and not header[0].startswith(_OF_THE_MOMENT)
        ]
        facts = {
            "provider": completion.provider,
            "model": completion.model,
            "requested_model": completion.requested_model,
            "route": completion.route,
            "stream": completion.stream,
        }
        return cls(reply.status_code, headers, body, isinstance(reply, StreamReply), facts, completion.usage)

    def pack(self) -> bytes:
        """Return it as one byte string: a JSON line, then the body."""
        head = {
            "status": self.status,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "events": self.events,
            "facts": self.facts,
            "usage": None if self.usage is None else self.usage.to_json(),
        }
        return orjson.dumps(head) + b"\n" + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> "Stored":
        """Read what `pack` wrote. Raises ValueError for anything else."""
        head, _, body = packed.partition(b"\n")
        try:
            fields = orjson.loads(head)
            usage = fields.pop("usage")
            headers = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.pop("headers")
            ]
            return cls(body=body, headers=headers, usage=None if usage is None else Usage(**usage), **fields)
        except (AttributeError, KeyError, TypeError) as problem:
            raise ValueError("not an answer of this version") from problem

    def replay(self, exchange: Exchange) -> HttpResponseBase:
        """Give it again, as the answer to another request: it costs nothing."""
        completion = exchange.completion
        for name, value in self.facts.items():
            setattr(completion, name, value)
        completion.cache = "hit"
        exchange.usage = self.usage
        if exchange.payload is not None:
            exchange.payload.passed(self.body, "text/event-stream" if self.events else "application/json")
        headers = [*self.headers, *(header for header in wire_headers(completion) if header[1]), REPLAYED]
        exchange.end_ok()
        if self.events:
            return PassedReply(replayed(self.body), headers, status=self.status, abandon=_nothing)
        reply = JsonReply(self.body)
        reply.wire_headers, reply.status_code = headers, self.status
        return reply


def _nothing() -> None:
    """Let a client go that has left before its answer."""
