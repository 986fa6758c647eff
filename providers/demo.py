"""The built-in demo vendor: speaks the OpenAI dialect in-process, so a first request needs no key.

`echo` says the last message back; `lorem` writes as many words as the last message names ("40
words", "40 words 100ms" sets the gap between them; default 20 words, 20 ms). Pure: it yields pieces
of bytes and the pause before each; the transport does the waiting.
"""

import base64
import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import orjson

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
_NUMBER = re.compile(r"\d+")
_GAP = re.compile(r"(\d+)\s*ms")
_TOKEN = re.compile(r"\S+\s*")
_DIMENSIONS = 16
CREATED = 1_760_000_000


@dataclass(frozen=True, slots=True)
class DemoReply:
    """A status, a content type and the body as (pause in seconds, bytes)."""

    status: int
    content_type: str
    pieces: Iterator[tuple[float, bytes]]


def respond(path: str, body: bytes) -> DemoReply:
    """Answer one request as an OpenAI-compatible server would."""
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
        return _json(_embeddings(request))
    if path != "/chat/completions":
        return _refuse(404, f"The demo provider does not serve {path}.")
    return _chat(request, model)


def _chat(request: Mapping[str, Any], model: str) -> DemoReply:
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
    if request.get("stream"):
        with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        pieces = _stream(envelope, words, gap_s, finish=finish, usage=usage if with_usage else None)
        return DemoReply(200, "text/event-stream", pieces)
    message = {"role": "assistant", "content": "".join(words), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer = {**envelope, "object": "chat.completion", "choices": [choice], "usage": usage}
    return _json(answer, pause_s=gap_s * len(words))


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
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return DemoReply(status, "application/json", iter([(0.0, orjson.dumps({"error": error}))]))


def _json(answer: Mapping[str, Any], *, pause_s: float = 0.0) -> DemoReply:
    return DemoReply(200, "application/json", iter([(pause_s, orjson.dumps(answer))]))


def _sse(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _id(seed: bytes) -> str:
    return "chatcmpl-demo-" + hashlib.sha256(seed).hexdigest()[:24]
