"""Between a stream and a whole answer in OpenAI's completions format, for answers kept as they came.

The canonical form would lose what a chat does not have: log probabilities by token, a text that already
echoes the prompt, the servers' own fields.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from providers.dialects.openai.shapes import text_choices
from providers.dialects.openai.stream import DONE
from providers.dialects.shapes import parsed_object
from providers.errors import UpstreamError
from providers.sse import EventSplitter, data_of
from proxy.cache import BrokenEntry
from proxy.renderers.base import sse


class CompletionsForm:
    """Text completions."""

    def assemble(self, stream: bytes) -> bytes:
        """Return the whole answer that the bytes of a finished stream add up to. Raises BrokenEntry."""
        envelope: dict[str, Any] = {}
        choices: dict[int, dict[str, Any]] = {}
        for chunk in _chunks_of(stream):
            envelope |= {
                name: value for name, value in chunk.items() if name != "choices" and value is not None
            }
            for choice in chunk.get("choices") or ():
                index = choice.get("index") or 0
                _add(choices.setdefault(index, {"text": "", "index": index, "logprobs": None}), choice)
        if not choices or not all(choice.get("finish_reason") for choice in choices.values()):
            raise BrokenEntry
        return orjson.dumps({**envelope, "choices": [choices[index] for index in sorted(choices)]})

    def disassemble(self, body: bytes) -> bytes:
        """Return the bytes of a stream that would have said the whole answer. Raises BrokenEntry."""
        answer = _checked(body, "message")
        usage = answer.get("usage")
        envelope = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
        chunks = [
            {**envelope, "choices": [{**choice, "finish_reason": choice.get("finish_reason") or "stop"}]}
            for choice in answer.get("choices") or ()
        ]
        if usage is not None:
            chunks.append({**envelope, "choices": [], "usage": usage})
        return b"".join([*map(sse, chunks), DONE])


def _chunks_of(stream: bytes) -> Iterator[Mapping[str, Any]]:
    splitter = EventSplitter()
    for event in [*splitter.feed(stream), splitter.rest() + b"\n\n"]:
        payload = (data_of(event) or b"").strip()
        if payload and payload != b"[DONE]":
            yield _checked(payload, "delta")


def _checked(body: bytes, part: str) -> Mapping[str, Any]:
    try:
        value = parsed_object(body)
        text_choices(value, part)
    except UpstreamError:
        raise BrokenEntry from None
    return value


def _add(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    for name, value in piece.items():
        if name == "text":
            whole["text"] += value or ""
        elif name == "logprobs" and value:
            merged = whole["logprobs"] or {}
            whole["logprobs"] = {
                field: [*(merged.get(field) or []), *each] if isinstance(each, list) else each
                for field, each in {**merged, **value}.items()
            }
        elif value is not None:
            whole[name] = value
