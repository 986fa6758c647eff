"""Anthropic's messages: a whole one, or the events that add up to it.

message_start, ping, then one block after the other (content_block_start, _delta ..., _stop; see
proxy.renderers.messages_blocks), message_delta with the stop reason and the final usage, message_stop.
The last two are held until the stream is known to be whole: vendors tell the usage after the finish reason.
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.call import Call
from providers.events import Answer, Event, Kind, TextEvent
from providers.usage import Usage
from providers.wires import COUNT_TOKENS, MESSAGES
from proxy.completion import Completion
from proxy.counting import tokens_of
from proxy.envelopes import anthropic_envelope
from proxy.errors import GatewayError
from proxy.renderers.messages_blocks import BlockWriter, event_of
from proxy.renderers.messages_whole import blocks_of, stop_reason_of, usage_of

_PING = event_of("ping", {})


class MessagesRenderer:
    """Writes Anthropic's format, from the canonical form; what came in that format goes out untouched."""

    def __init__(self, completion: Completion, call: Call) -> None:
        """Take the envelope's facts from the completion; `call` is what the prompt's size is told from."""
        self._completion = completion
        self._call = call
        self._blocks = BlockWriter(completion.id)
        self._started = self._passing = False
        self._reason = ""
        self._usage: Usage | None = None

    def answer(self, answer: Answer) -> bytes:
        """Write a whole message, or pass the vendor's own on."""
        if answer.wire in (MESSAGES, COUNT_TOKENS):
            return answer.body
        choices = answer.message.get("choices") or [{}]
        blocks = blocks_of(choices[0].get("message") or {}, self._completion.id)
        reason = str(choices[0].get("finish_reason") or "")
        uses_tools = any(block["type"] == "tool_use" for block in blocks)
        usage = answer.usage or self._completion.usage or Usage()
        return orjson.dumps(
            self._message(blocks, stop_reason_of(reason, uses_tools=uses_tools), usage_of(usage))
        )

    def events(self, events: Sequence[Event]) -> bytes:
        """Write what the events add to the message."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def error(self, error: GatewayError) -> bytes:
        """Write Anthropic's error event."""
        return event_of("error", anthropic_envelope(error, self._completion.request_id))

    def _event(self, event: Event) -> bytes:
        if event.__class__ is TextEvent and self._started:
            return self._blocks.text(event.text)
        if event.wire == MESSAGES:
            self._passing = True
            return event.raw
        if self._passing:
            return b""  # a vendor of this format says the end itself
        pieces = [] if self._started else [self._start()]
        if event.usage is not None:
            self._usage = event.usage
        for choice in event.choices:
            if choice.get("index"):
                continue
            pieces.append(self._blocks.delta(choice.get("delta") or {}))
            self._reason = choice.get("finish_reason") or self._reason
        if event.kind is Kind.DONE:
            pieces.append(self._end())
        return b"".join(pieces)

    def _start(self) -> bytes:
        self._started = True
        # Of a cached answer the usage is known; else the prompt's is guessed, and corrected at the end.
        usage = self._completion.usage or Usage(prompt=tokens_of(self._call.body))
        opening = usage_of(usage._replace(completion=0, reasoning=0))
        return event_of("message_start", {"message": self._message([], None, opening)}) + _PING

    def _end(self) -> bytes:
        blocks = self._blocks.finish()
        reason = stop_reason_of(self._reason, uses_tools=self._blocks.used_tools)
        usage = self._usage or self._completion.usage or Usage()
        closing = {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage_of(usage)}
        return blocks + event_of("message_delta", closing) + event_of("message_stop", {})

    def _message(
        self, blocks: Sequence[Mapping[str, Any]], reason: str | None, usage: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{self._completion.id}",
            "type": "message",
            "role": "assistant",
            "model": self._completion.model,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }
