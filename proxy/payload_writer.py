"""Writes payloads (proxy.payload) to the spool: blacked out and encrypted, from a thread of its own.

The thread begins with the first payload. What waits for it has a bound: beyond that payloads are dropped, and
the log says how many; the records of requests never are. Where the process dies, what waits is lost.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import structlog

from config.vault import Vault
from providers.errors import UpstreamError
from providers.events import Event
from proxy.assemble import Assembly
from proxy.completion import Completion
from proxy.http import LaneRequest
from proxy.payload import Payload, unstored
from proxy.payload_text import Censor, Kept
from proxy.spool import Spool

log = structlog.get_logger()

MOST_WAITING = 2_000
MOST_WAITING_BYTES = 64 << 20
CLOSE_WAIT_S = 5.0
_TOLD_EVERY_S = 10.0


class _Waiting(NamedTuple):
    completion: Completion
    payload: Payload
    secrets: Sequence[str]
    size: int


class PayloadWriter:
    """One process's. `begin` and `put` are for the event loop."""

    def __init__(self, spool: Spool, *, vault: Vault, limit: int, patterns: Sequence[str]) -> None:
        """`limit` and `patterns` are the Censor's."""
        self._spool, self._vault = spool, vault
        self._limit, self._patterns = limit, patterns
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._there = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._dropped, self._told_at = 0, float("-inf")

    def begin(self, request: LaneRequest, *, days: int) -> Payload:
        """Return what takes a request's payload down, which is stored for so many days."""
        return Payload(request, days=days, written=self.put)

    def put(self, completion: Completion, payload: Payload, secrets: Sequence[str]) -> None:
        """Have it written soon. `secrets`: what the client has shown as keys."""
        if self._spool.full:
            return  # what is left of the disk is for records
        size = len(payload.request._body) + len(payload.answer)  # noqa: SLF001 - what has been read, if anything
        with self._there:
            if len(self._waiting) >= MOST_WAITING or self._size + size > MOST_WAITING_BYTES:
                self._dropped += 1
                return
            self._waiting.append(_Waiting(completion, payload, secrets, size))
            self._size += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="payloads", daemon=True)
                self._thread.start()
            self._there.notify()

    def close(self) -> None:
        """Write what waits, as far as that takes no longer than CLOSE_WAIT_S."""
        with self._there:
            self._closing = True
            self._there.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        censor = Censor(limit=self._limit, patterns=self._patterns)
        while True:
            with self._there:
                while not self._waiting:
                    if self._closing:
                        return
                    self._there.wait()
                waiting = self._waiting.popleft()
                self._size -= waiting.size
            try:
                self._spool.append(self._line(waiting, censor))
            except Exception as problem:  # noqa: BLE001 - a background loop; what was said stays out of the log
                log.error("payload_not_stored", id=waiting.completion.id, error=type(problem).__name__)
            self._tell_dropped()

    def _line(self, waiting: _Waiting, censor: Censor) -> bytes:
        completion, payload = waiting.completion, waiting.payload
        asked = censor.kept(payload.asked(), secrets=waiting.secrets)
        answered = censor.kept(_answer(payload, completion), secrets=waiting.secrets)
        line = {
            "kind": "payload",
            "id": completion.id,
            "at": completion.at,
            "days": payload.days,
            "tenant_id": completion.tenant_id,
            "key_id": completion.key_id,
            "request": self._sealed(asked),
            "answer": self._sealed(answered),
            "request_bytes": asked.size,
            "answer_bytes": answered.size,
            "redactions": asked.redactions + answered.redactions,
        }
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _sealed(self, kept: Kept) -> str:
        return self._vault.seal_bytes(kept.text.encode("utf-8", "replace")).decode() if kept.text else ""

    def _tell_dropped(self) -> None:
        now = time.monotonic()
        if self._dropped and now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            dropped, self._dropped = self._dropped, 0
            log.warning("payloads_dropped", dropped=dropped)


def _answer(payload: Payload, completion: Completion) -> bytes:
    """Return what the client got: as it went out, or what a stream's pieces add up to."""
    if payload.answer:
        return payload.answer
    if payload.events:
        return _assembled(payload.events, completion, whole=payload.whole)
    if payload.kind and not payload.pieces:
        return unstored(payload.kind, "")
    body = b"".join(payload.pieces)
    return _joined(body) if payload.kind.startswith("text/event-stream") else body


def _assembled(events: Sequence[Event], completion: Completion, *, whole: bool) -> bytes:
    assembly = Assembly()
    for event in events:
        try:
            assembly.add((event,))
        except UpstreamError:  # nobody has read it before
            whole = False
    said = assembly.answer(id=f"chatcmpl-{completion.id}", created=int(completion.at), model=completion.model)
    return orjson.dumps(said if whole else {**said, "incomplete": True})


def _joined(stream: bytes) -> bytes:
    """Return the events of a stream that was passed on, its deltas as the one text that they are."""
    deltas, others = list[str](), list[Any]()
    for line in stream.split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        try:
            event = orjson.loads(line[5:])
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict) and isinstance(event.get("delta"), str):
            deltas.append(event["delta"])
        else:
            others.append(event)
    return orjson.dumps({"text": "".join(deltas), "events": others})
