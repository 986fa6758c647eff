"""What translating costs by itself: the fake vendor's Anthropic stream, read and written in this process."""

import os
import time
from statistics import median

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

from bench.upstream import CHUNKS, CLAUDE_CONTENT, CLAUDE_FIRST, CLAUDE_LAST
from providers.call import Call
from providers.dialects import DIALECTS
from providers.wires import CHAT
from proxy.completion import Completion
from proxy.renderers import ChatRenderer

_ROUNDS = 200


def chunk_us() -> float:
    """Return the median time, in microseconds, from a chunk of one network read to the client's bytes."""
    return median(_stream_s() / CHUNKS for _ in range(_ROUNDS)) * 1e6


def _stream_s() -> float:
    call = Call(wire=CHAT, model="bench-claude", body={}, raw=b"", stream=True)
    completion = Completion(id="bench", request_id="bench", at=time.time(), endpoint="chat")
    decoder, renderer = DIALECTS["anthropic"].stream(call), ChatRenderer(completion, wants_usage=False)
    for piece in _unframed(CLAUDE_FIRST):
        renderer.events(decoder.feed(piece))
    (chunk,) = _unframed(CLAUDE_CONTENT)
    began = time.perf_counter()
    for _ in range(CHUNKS):
        renderer.events(decoder.feed(chunk))
    elapsed_s = time.perf_counter() - began
    for piece in _unframed(CLAUDE_LAST):
        renderer.events(decoder.feed(piece))
    return elapsed_s


def _unframed(framed: bytes) -> list[bytes]:
    """Return the pieces of a chunked body."""
    pieces = []
    while framed:
        size, _, framed = framed.partition(b"\r\n")
        length = int(size, 16)
        if length:
            pieces.append(framed[:length])
        framed = framed[length + 2 :]
    return pieces
