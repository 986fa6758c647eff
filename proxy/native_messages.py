"""Between a stream of Anthropic's own and the whole message it adds up to, both ways. Pure.

What the canonical form does not say (server tools and their results, citations, signatures) survives.
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from providers.sse import EventSplitter, data_of
from proxy.cache import BrokenEntry

# What reading an event of an unexpected shape ends in.
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)
# The fields of a block that come in pieces, by the type of their deltas, which have the same field.
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
# Fields of a message that are known at its end.
_AT_END = ("stop_reason", "stop_sequence", "stop_details", "container")


class NativeMessages:
    """Anthropic's messages, as proxy.replay.NativeForm says."""

    def assemble(self, stream: bytes) -> bytes:
        """Return the message that the bytes of a finished stream add up to. Raises BrokenEntry."""
        try:
            return orjson.dumps(_assembled(stream))
        except _MISSHAPEN:
            raise BrokenEntry from None

    def disassemble(self, body: bytes) -> bytes:
        """Return the bytes of a stream that would have said the message. Raises BrokenEntry."""
        try:
            return b"".join([_written(event) for event in _events_of(orjson.loads(body))])
        except _MISSHAPEN:
            raise BrokenEntry from None


def _assembled(stream: bytes) -> dict[str, Any]:
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    ended = False
    for event in _read(stream):
        kind = event["type"]
        if kind == "message_start":
            message = {**event["message"], "content": message.get("content", [])}
        elif kind == "content_block_start":
            message["content"].append(dict(event["content_block"]))
        elif kind == "content_block_delta":
            _add(message["content"][event["index"]], event["delta"], event["index"], inputs)
        elif kind == "message_delta":
            _add_end(message, event)
        elif kind == "message_stop":
            ended = True
        elif kind == "error":
            raise BrokenEntry
    if not ended:
        raise BrokenEntry
    for index, text in inputs.items():
        message["content"][index]["input"] = orjson.loads(text)
    return message


def _read(stream: bytes) -> Iterator[dict[str, Any]]:
    splitter = EventSplitter()
    for event in [*splitter.feed(stream), splitter.rest()]:
        payload = data_of(event)
        if payload and payload.strip():
            yield orjson.loads(payload)


def _add(block: dict[str, Any], delta: Mapping[str, Any], index: int, inputs: dict[int, str]) -> None:
    kind = delta["type"]
    if kind == "input_json_delta":
        if delta["partial_json"]:
            inputs[index] = inputs.get(index, "") + delta["partial_json"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    elif kind in _PIECES:
        name = _PIECES[kind]
        block[name] = (block.get(name) or "") + delta[name]
    else:
        raise BrokenEntry  # it would be lost


def _add_end(message: dict[str, Any], event: Mapping[str, Any]) -> None:
    message |= event["delta"]
    usage = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
    message["usage"] = {**(message.get("usage") or {}), **usage}
    # What later versions tell at the end beside these (context_management) belongs to the message, too.
    message |= {name: event[name] for name in event if name not in ("type", "delta", "usage")}


def _events_of(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    usage = message["usage"]
    opening = {**message, "content": [], "usage": {**usage, "output_tokens": 0}}
    closing = {name: message[name] for name in _AT_END if name in message}
    opening |= dict.fromkeys(closing)
    yield {"type": "message_start", "message": opening}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        deltas: list[dict[str, Any]] = []
        start = _opened(block, deltas)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": closing, "usage": usage}
    yield {"type": "message_stop"}


def _opened(block: Mapping[str, Any], deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a block as it begins; `deltas` gets what makes it whole. A tool's result begins whole."""
    start = dict(block)
    if block["type"] == "text":
        citations = block.get("citations") or []
        deltas += [{"type": "citations_delta", "citation": citation} for citation in citations]
        if citations:
            start["citations"] = []
    for kind, name in _PIECES.items():
        if isinstance(block.get(name), str):
            start[name] = ""
            if block[name]:
                deltas.append({"type": kind, name: block[name]})
    if isinstance(block.get("input"), dict):
        start["input"] = {}
        text = orjson.dumps(block["input"]).decode()
        deltas.append({"type": "input_json_delta", "partial_json": text})
    return start


def _written(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
