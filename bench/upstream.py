"""A fake vendor that is faster than what is measured: `python -m bench.upstream --port N`.

A raw protocol on uvloop with the least of HTTP/1.1 that keep-alive clients need: Content-Length
bodies, pipelining, no header is looked at but the length. What is answered follows from the body:

  "stream":true absent        one JSON answer with usage, about 500 bytes
  "stream":true               SSE, `--chunks` chunks (50), one write each, `--gap-ms` apart (0)
  "model":"bench-paced"       the same with PACED_GAP_S between chunks
  "model":"bench-idle"        one chunk, then one every IDLE_GAP_S: a stream that stays open
  "model":"bench-slow"        the same with SLOW_GAP_S
  "model":"bench-claude"      Anthropic's stream of as many text deltas instead of OpenAI's
"""

import argparse
import asyncio
import contextlib
import os
import threading
from typing import Any, NamedTuple

import uvloop

PACED_GAP_S = 0.005
IDLE_GAP_S = 20.0
SLOW_GAP_S = 2.0
CHUNKS = 50
_IDLE_CHUNKS = 1000

ANSWER = (
    b'{"id":"chatcmpl-bench0000000000000000000001","object":"chat.completion","created":1760000000,'
    b'"model":"bench-fast","choices":[{"index":0,"message":{"role":"assistant","content":"Twelve angry '
    b"men sat in a small hot room and argued until each had changed his mind; that, in short, is how a "
    b'jury comes to a verdict.","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":58,"completion_tokens":34,"total_tokens":92,"prompt_tokens_details":'
    b'{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},'
    b'"system_fingerprint":"fp_bench"}'
)
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
JSON_RESPONSE = _JSON_HEAD % len(ANSWER) + ANSWER
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT = (
    b'data: {"id":"chatcmpl-bench0000000000000000000001","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"bench-fast","system_fingerprint":"fp_bench",'
    b'"choices":[%s]%s}\n\n'
)


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _delta(delta: bytes, finish: bytes = b"null") -> bytes:
    choice = b'{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}' % (delta, finish)
    return _framed(_EVENT % (choice, b""))


FIRST = _delta(b'"role":"assistant","content":"","refusal":null')
CONTENT = _delta(b'"content":" verdict"')
_USAGE = b',"usage":{"prompt_tokens":58,"completion_tokens":50,"total_tokens":108}'
# Finish reason, usage and end marker travel together, as vendors send them.
LAST = _delta(b"", b'"stop"') + _framed(_EVENT % (b"", _USAGE)) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _named(name: bytes, fields: bytes) -> bytes:
    return _framed(b'event: %s\ndata: {"type":"%s"%s}\n\n' % (name, name, fields))


CLAUDE_FIRST = (
    _named(
        b"message_start",
        b',"message":{"id":"msg_bench","type":"message","role":"assistant","model":"bench-claude",'
        b'"content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":58,"output_tokens":1}}',
    )
    + _named(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}')
    + _named(b"ping", b"")
)
CLAUDE_CONTENT = _named(b"content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":" verdict"}')
CLAUDE_LAST = (
    _named(b"content_block_stop", b',"index":0')
    + _named(
        b"message_delta",
        b',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":50}',
    )
    + _named(b"message_stop", b"")
    + b"0\r\n\r\n"
)


class Pieces(NamedTuple):
    """A stream: what begins it, what is repeated, what ends it."""

    first: bytes
    content: bytes
    last: bytes


OPENAI_STREAM = Pieces(FIRST, CONTENT, LAST)
CLAUDE_STREAM = Pieces(CLAUDE_FIRST, CLAUDE_CONTENT, CLAUDE_LAST)


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, chunks: int, gap_s: float) -> None:
        """Stream `chunks` chunks of content, `gap_s` apart."""
        self._loop = loop
        self._chunks = chunks
        self._gap_s = gap_s
        self._pending = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Streams that still run see it and stop."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in what has come."""
        if self._pending:
            data = self._pending + data
        while True:
            head_end = data.find(b"\r\n\r\n")
            if head_end < 0:
                break
            end = head_end + 4 + _content_length(data[:head_end])
            if len(data) < end:
                break
            self._answer(data[head_end + 4 : end])
            if len(data) == end:
                data = b""
                break
            data = data[end:]
        self._pending = data

    def _answer(self, body: bytes) -> None:
        if b'"stream":true' not in body:
            self._transport.write(JSON_RESPONSE)
        elif b"bench-idle" in body:
            self._stream(_IDLE_CHUNKS, IDLE_GAP_S)
        elif b"bench-slow" in body:
            self._stream(_IDLE_CHUNKS, SLOW_GAP_S)
        elif b"bench-paced" in body:
            self._stream(self._chunks, PACED_GAP_S)
        elif b"bench-claude" in body:
            self._stream(self._chunks, self._gap_s, CLAUDE_STREAM)
        else:
            self._stream(self._chunks, self._gap_s)

    def _stream(self, chunks: int, gap_s: float, pieces: Pieces = OPENAI_STREAM) -> None:
        self._transport.write(SSE_HEAD + pieces.first)
        self._content(chunks, gap_s, pieces)

    def _content(self, left: int, gap_s: float, pieces: Pieces) -> None:
        """Write one chunk a turn of the loop, so that each is a write of its own."""
        if self._transport is None:
            return
        if not left:
            self._transport.write(pieces.last)
            return
        self._transport.write(pieces.content)
        if gap_s:
            self._loop.call_later(gap_s, self._content, left - 1, gap_s, pieces)
        else:
            self._loop.call_soon(self._content, left - 1, gap_s, pieces)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    start = at + 17
    end = lowered.find(b"\r\n", start)
    return int(lowered[start : end if end > 0 else None])


async def serve(*, port: int, chunks: int = CHUNKS, gap_s: float = 0.0) -> None:
    """Serve until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Upstream(loop, chunks=chunks, gap_s=gap_s), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


def end_with_standard_input() -> None:
    """End this process when its starter does: the pipe to it closes then."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve on the port of the command line."""
    parser = argparse.ArgumentParser(description="A fake vendor.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    options = parser.parse_args()
    end_with_standard_input()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(port=options.port, chunks=options.chunks, gap_s=options.gap_ms / 1000))


if __name__ == "__main__":
    main()
