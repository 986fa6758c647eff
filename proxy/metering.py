"""Reads what an answer that is only passed on says about its tokens, if it says anything."""

from collections.abc import Mapping
from typing import Any

import orjson

from providers.sse import EventSplitter, data_of
from providers.usage import Usage, count, from_openai, with_parts

# An event without this cannot tell the usage; only those with it are parsed.
_MENTION = b'"usage"'


def usage_in(body: bytes) -> Usage | None:
    """Return the usage of a JSON answer or event; None where it has none, or none in tokens."""
    if _MENTION not in body:
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _usage_of(answer.get("usage")) if isinstance(answer, dict) else None


class StreamMeter:
    """Finds the usage in a stream of server-sent events: the last one told, never a sum."""

    __slots__ = ("_splitter", "usage")

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.usage: Usage | None = None
        self._splitter = EventSplitter()

    def see(self, piece: bytes) -> None:
        """Look at the next bytes of the stream."""
        for event in self._splitter.feed(piece):
            if _MENTION in event:
                self.usage = usage_in(data_of(event) or b"") or self.usage

    def close(self) -> None:
        """Look at what is left: some servers end without the last empty line."""
        rest = self._splitter.rest()
        if _MENTION in rest:
            self.see(b"\n\n")


def _usage_of(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    told = from_openai(usage)
    if told is not None and "completion_tokens" in usage:
        return told
    if "input_tokens" in usage or "output_tokens" in usage:
        return _of_input_and_output(usage)
    if told is None and "total_tokens" in usage:
        # Rerankers count one thing: https://jina.ai/reranker, https://docs.vllm.ai (score and rerank)
        return Usage(prompt=count(usage.get("total_tokens")))
    return told


def _of_input_and_output(usage: Mapping[str, Any]) -> Usage:
    """Read the usage of images, speech and responses.

    https://platform.openai.com/docs/api-reference/images/object; transcriptions say `input_token_details`.
    """
    into = _mapping(usage.get("input_tokens_details") or usage.get("input_token_details"))
    out = _mapping(usage.get("output_tokens_details") or usage.get("output_token_details"))
    completion = count(usage.get("output_tokens"))
    if "image_tokens" in into and not out:
        out = {"image_tokens": completion}  # gpt-image-1 draws, and says nothing else
    told = Usage(
        prompt=count(usage.get("input_tokens")),
        completion=completion,
        cached=count(into.get("cached_tokens")),
        cache_write=count(into.get("cache_write_tokens")),
        reasoning=count(out.get("reasoning_tokens")),
    )
    return with_parts(told, into, out)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
