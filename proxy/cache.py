"""The exact cache: what may be answered from it, under which key, and in which form it is kept.

The key is the SHA-256 of everything that shapes an answer: namespace and epoch, tenant, endpoint,
route with its content, and the whole body but for what does not shape it (a deny-list: an unknown
parameter splits the cache, it never merges two different requests). Streams and JSON share
entries: a finished stream's events are kept and assembled at the first JSON hit.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from keys.caller import Caller
from providers.call import Call
from providers.usage import Usage
from providers.wires import CHAT, RESPONSES
from proxy.routing import Resolved
from proxy.snapshot import Snapshot

NOT_SHAPING = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
    }
)
# A response repeats most of its request, and what it stores is asked for again: all of it belongs to the key.
_NOT_SHAPING_RESPONSES = frozenset({"stream", "stream_options"})
# It goes on with what is kept at the vendor, or adds to it: its answer is no other's.
_STATE = ("previous_response_id", "conversation", "background")
CLEAN_FINISHES = frozenset({"stop", "length", "tool_calls", "function_call"})
_MAX_AGE = re.compile(r"max-age\s*=\s*(\d+)")
JSON, EVENTS = "json", "events"


class BrokenEntry(Exception):
    """A cached entry cannot be read; it counts as a miss."""


class Entry(NamedTuple):
    """A cached answer: a JSON body, or the wire bytes of all stream events, in format `wire`.

    That is the canonical form, or the client's own where the vendor spoke it. `stored_at` is epoch seconds.
    `usage` is what the answer cost when it was made.
    """

    form: str
    body: bytes
    provider: str
    model: str
    stored_at: float
    usage: Usage | None
    wire: str = CHAT

    @property
    def size(self) -> int:
        """Bytes this entry counts for in a store."""
        return len(self.body) + 256

    def pack(self) -> bytes:
        """Return the entry as one byte string: a JSON line, then the body."""
        head = {
            "form": self.form,
            "wire": self.wire,
            "provider": self.provider,
            "model": self.model,
            "stored_at": self.stored_at,
            "usage": None if self.usage is None else self.usage.to_json(),
        }
        return orjson.dumps(head) + b"\n" + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> "Entry":
        """Read what `pack` wrote. Raises ValueError for anything else."""
        head, _, body = packed.partition(b"\n")
        try:
            fields = orjson.loads(head)
            usage = fields.pop("usage")
            return cls(body=body, usage=None if usage is None else Usage(**usage), **fields)
        except (AttributeError, KeyError, TypeError) as problem:
            raise ValueError("not a cache entry of this version") from problem


class Policy(NamedTuple):
    """What this request may do with the cache. `key` is empty when it may do nothing."""

    key: bytes = b""
    read: bool = False
    write: bool = False
    max_age_s: float = 0.0

    def accepts(self, entry: Entry, now: float) -> bool:
        """Is `entry` young enough?"""
        return now - entry.stored_at < self.max_age_s


BYPASS = Policy()


def policy(
    snapshot: Snapshot,
    *,
    call: Call,
    caller: Caller,
    resolved: Resolved,
    endpoint: str,
    namespace: str,
    cache_control: str,
) -> Policy:
    """Decide from the exclusions and the client's Cache-Control.

    no-store: neither read nor write; no-cache: write only; max-age=N: read what is younger.
    """
    directives = cache_control.lower() if cache_control else ""
    if "no-store" in directives:
        return BYPASS
    if resolved.excluded:
        return BYPASS
    if call.wire == RESPONSES and any(call.sent.get(name) for name in _STATE):
        return BYPASS
    max_age_s = snapshot.cache_ttl_s
    asked = _MAX_AGE.search(directives) if directives else None
    if asked:
        max_age_s = min(max_age_s, float(asked[1]))
    return Policy(
        key=_key(snapshot, call, resolved, scope=f"{namespace}\0{caller.tenant_id}\0{endpoint}"),
        read="no-cache" not in directives and max_age_s > 0,
        write=True,
        max_age_s=max_age_s,
    )


def storable(finish_reasons: Sequence[str]) -> bool:
    """May an answer with these finish reasons be stored? Only when each is a clean one."""
    return bool(finish_reasons) and CLEAN_FINISHES.issuperset(finish_reasons)


def _key(snapshot: Snapshot, call: Call, resolved: Resolved, *, scope: str) -> bytes:
    rule = f"{scope}\0{snapshot.cache_epoch}\0{resolved.route}\0{resolved.fingerprint}\0"
    asked = orjson.dumps(_shaping(call), option=orjson.OPT_SORT_KEYS)
    headers = orjson.dumps(call.headers, option=orjson.OPT_SORT_KEYS) if call.headers else b""
    return hashlib.sha256(b"%b%b%b" % (rule.encode(), asked, headers)).digest()


def _shaping(call: Call) -> Mapping[str, Any]:
    # As the client sent it: the canonical form may say less.
    body: Mapping[str, Any] = call.sent or call.body
    without = _NOT_SHAPING_RESPONSES if call.wire == RESPONSES else NOT_SHAPING
    if without.isdisjoint(body):
        return body
    return {name: value for name, value in body.items() if name not in without}
