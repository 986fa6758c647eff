"""The built-in demo vendor: speaks the OpenAI dialect in-process, so a first request needs no key.

`echo` says the last message back; `lorem` writes as many words as the last message names ("40
words", "40 words 100ms" sets the gap between them; default 20 words, 20 ms). Pure: it yields pieces
of bytes and the pause before each, and says how they end; the transport does the waiting. So it is with
the faults that it plays on purpose (`providers.faults`).
"""

import base64
import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import cycle, islice
from typing import Any

import orjson

from providers.faults import RETRY_STATUSES, Faults
from providers.upstream import Quirks

# It has chat and embeddings alone: all else is translated to chat.
QUIRKS = Quirks(completions=False, responses=False)
MODELS = ("echo", "lorem", "embed")
MAX_WORDS = 20_000
_WORDS = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
    "incididunt",
    "ut",
    "labore",
    "et",
    "dolore",
    "magna",
    "aliqua",
    "ut",
    "enim",
    "ad",
    "minim",
    "veniam",
    "quis",
    "nostrud",
    "exercitation",
    "ullamco",
    "laboris",
]
# https://platform.openai.com/docs/guides/error-codes
_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_NUMBER = re.compile(r"\d+")
_GAP = re.compile(r"(\d+)\s*ms")
_TOKEN = re.compile(r"\S+\s*")
_DIMENSIONS = 16
CREATED = 1_760_000_000
NO_FAULTS = Faults()


class End(Enum):
    """What comes after the last piece of an answer."""

    WHOLE = "its end"
    CUT = "the loss of the connection"
    STALLED = "nothing, for ever"


@dataclass(frozen=True, slots=True)
class DemoReply:
    """A status, a content type and the body as (pause in seconds, bytes).

    `latency_s` passes before the head, which `headers` belong to; `end` follows the last piece.
    """

    status: int
    content_type: str
    pieces: Iterator[tuple[float, bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    end: End = End.WHOLE


def respond(path: str, body: bytes, faults: Faults = NO_FAULTS) -> DemoReply:
    """Answer one request as an OpenAI-compatible server would, and fail as `faults` say."""
    reply = _failure(faults) if faults.status is not None else _answer(path, body, faults)
    return replace(reply, latency_s=faults.latency_ms / 1000) if faults.latency_ms else reply


def _answer(path: str, body: bytes, faults: Faults) -> DemoReply:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _refuse(400, "the body is not JSON")
    model = str(request.get("model"))
    if model not in MODELS:
        return _refuse(
            404, f"The demo provider has no model {model!r}; it has {', '.join(MODELS)}.", "model_not_found"
        )
    if path == "/embeddings":
        return _json(_embeddings(request), end=_end(faults, 1))
    if path != "/chat/completions":
        return _refuse(404, f"The demo provider does not serve {path}.")
    return _chat(request, model, faults)


def _chat(request: Mapping[str, Any], model: str, faults: Faults) -> DemoReply:
    prompt = _last_text(request.get("messages"))
    words, gap_s = _script(prompt, model)
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    finish = "stop"
    if isinstance(limit, int) and 0 < limit < len(words):
        words, finish = words[:limit], "length"
    usage = {
        "prompt_tokens": _count_tokens(request.get("messages")),
        "completion_tokens": len(words),
    }
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    envelope = {"id": _id(orjson.dumps(request.get("messages"))), "created": CREATED, "model": model}
    end = _end(faults, len(words))
    if request.get("stream"):
        with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        pieces = _stream(envelope, words, gap_s, finish=finish, usage=usage if with_usage else None)
        return DemoReply(200, "text/event-stream", _spoiled(pieces, faults, end), end=end)
    message = {"role": "assistant", "content": "".join(words), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer = {**envelope, "object": "chat.completion", "choices": [choice], "usage": usage}
    return _json(answer, pause_s=gap_s * len(words), end=end)


def _stream(
    envelope: Mapping[str, Any],
    words: list[str],
    gap_s: float,
    *,
    finish: str,
    usage: Mapping[str, int] | None,
) -> Iterator[tuple[float, bytes]]:
    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _sse({**envelope, "object": "chat.completion.chunk", "choices": [choice]})

    yield 0.0, chunk({"role": "assistant", "content": ""})
    for word in words:
        yield gap_s, chunk({"content": word})
    yield 0.0, chunk({}, finish)
    if usage is not None:
        yield 0.0, _sse({**envelope, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield 0.0, b"data: [DONE]\n\n"


def _end(faults: Faults, count: int) -> End:
    """Return how an answer of `count` pieces of content ends."""
    if faults.cut_after is not None and faults.cut_after <= count:
        return End.CUT
    if faults.stall_after is not None and faults.stall_after <= count:
        return End.STALLED
    return End.WHOLE


def _spoiled(
    pieces: Iterator[tuple[float, bytes]], faults: Faults, end: End
) -> Iterator[tuple[float, bytes]]:
    """Yield a stream's pieces, the first content late, and no more of it than its end allows."""
    kept = {End.CUT: faults.cut_after, End.STALLED: faults.stall_after}.get(end)
    yield next(pieces)  # the role alone is not yet content
    pause_s = faults.ttft_ms / 1000
    for gap_s, piece in islice(pieces, kept):
        yield gap_s + pause_s, piece
        pause_s = 0.0


def _script(prompt: str, model: str) -> tuple[list[str], float]:
    if model != "lorem":
        return _TOKEN.findall(prompt) or ["(nothing)"], 0.0
    gap = _GAP.search(prompt)
    number = _NUMBER.search(_GAP.sub("", prompt))
    count = min(max(int(number[0]), 1), MAX_WORDS) if number and len(number[0]) < 9 else 20
    words = [f"{word} " for word in islice(cycle(_WORDS), count)]
    return words, min(int(gap[1]), 10_000) / 1000 if gap and len(gap[1]) < 9 else 0.02


def _last_text(messages: Any) -> str:
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return ""
    content = messages[-1].get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()
    return content if isinstance(content, str) else ""


def _count_tokens(messages: Any) -> int:
    if not isinstance(messages, list):
        return 0
    return sum(len(_last_text([message]).split()) for message in messages)


def _embeddings(request: Mapping[str, Any]) -> dict[str, Any]:
    given = request.get("input")
    texts: list[Any] = given if isinstance(given, list) else [given]
    if all(isinstance(text, int) for text in texts):  # one text, as tokens
        texts = [texts]
    dimensions = request.get("dimensions")
    size = dimensions if isinstance(dimensions, int) and 0 < dimensions <= 4096 else _DIMENSIONS
    as_base64 = request.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector}
        for index, vector in enumerate([_vector(str(text), size) for text in texts])
    ]
    tokens = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": request["model"], "usage": usage}


def _vector(text: str, size: int) -> list[float]:
    """Return a unit vector that depends on the text and the size alone."""
    noise = hashlib.shake_256(text.encode()).digest(size * 2)
    raw = [int.from_bytes(noise[i : i + 2], "big") - 32768 for i in range(0, size * 2, 2)]
    length = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / length for value in raw]


def _base64(vector: list[float]) -> str:
    """Return a vector as OpenAI encodes it: little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _refuse(status: int, message: str, code: str | None = None) -> DemoReply:
    return _error(status, message, kind="invalid_request_error", code=code)


def _failure(faults: Faults) -> DemoReply:
    """Return the error that was asked for, with the type and code that OpenAI gives its status."""
    status = faults.status or 500
    kind, code = _ERRORS.get(status, ("invalid_request_error" if status < 500 else "server_error", None))
    reply = _error(status, f"The demo provider fails on purpose, with status {status}.", kind=kind, code=code)
    if status not in RETRY_STATUSES or faults.retry_after_s is None:
        return reply
    return replace(reply, headers={"retry-after": str(faults.retry_after_s)})


def _error(status: int, message: str, *, kind: str, code: str | None) -> DemoReply:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return DemoReply(status, "application/json", iter([(0.0, orjson.dumps({"error": error}))]))


def _json(answer: Mapping[str, Any], *, pause_s: float = 0.0, end: End = End.WHOLE) -> DemoReply:
    body = orjson.dumps(answer)
    if end is not End.WHOLE:
        body = body[: len(body) // 2]
    return DemoReply(200, "application/json", iter([(pause_s, body)]), end=end)


def _sse(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _id(seed: bytes) -> str:
    return "chatcmpl-demo-" + hashlib.sha256(seed).hexdigest()[:24]
