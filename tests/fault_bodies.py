"""Answers with status 200 that are failures: an error first, after the role, or after half the text.

The conformance kit's fake vendor cannot make these up; each is taught to it as a case of its own.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPES: Mapping[bool, str] = {False: "application/json", True: "text/event-stream"}
WORDS = "The vendor lost its thread."
_HALF = ["This ", "much ", "was ", "said"]
_ERROR: Mapping[str, Mapping[str, Any]] = {
    "openai": {"error": {"message": WORDS, "type": "server_error", "param": None, "code": None}},
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": WORDS}},
}


def bodies() -> Iterator[tuple[str, str, bool, str]]:
    """Yield (case, dialect, stream, body)."""
    for dialect, error in _ERROR.items():
        yield "error-first", dialect, False, json.dumps(error)
        yield "error-late", dialect, False, json.dumps({**_JSON[dialect], **error})
        events = _STREAM[dialect]
        # OpenAI's role is the first event; Anthropic's message and its block begin with the first two.
        early = 1 if dialect == "openai" else 2
        yield "error-first", dialect, True, _sse([error])
        yield "error-early", dialect, True, _sse([*events[:early], error])
        yield "error-late", dialect, True, _sse([*events, error])


def _sse(events: list[Mapping[str, Any]]) -> str:
    return "".join(
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    )


def _chunk(delta: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "id": "chatcmpl-half",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "half",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


_MESSAGE = {
    "id": "msg_half",
    "type": "message",
    "role": "assistant",
    "model": "half",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
_STREAM: Mapping[str, list[Mapping[str, Any]]] = {
    "openai": [_chunk({"role": "assistant", "content": ""}), *(_chunk({"content": word}) for word in _HALF)],
    "anthropic": [
        {"type": "message_start", "message": _MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in _HALF
        ),
    ],
}
_JSON: Mapping[str, Mapping[str, Any]] = {
    "openai": {
        "id": "chatcmpl-half",
        "object": "chat.completion",
        "created": 1,
        "model": "half",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(_HALF)},
                "finish_reason": "error",
            }
        ],
    },
    "anthropic": {**_MESSAGE, "content": [{"type": "text", "text": "".join(_HALF)}]},
}
