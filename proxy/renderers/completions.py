"""OpenAI text completions: `text` stands where a chat has a message.

https://platform.openai.com/docs/api-reference/completions/object
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.call import Call
from providers.canonical import text_in
from providers.dialects.openai.stream import DONE
from providers.events import Answer, Event, Kind, TextEvent
from providers.usage import Usage
from providers.wires import COMPLETIONS
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.renderers.base import KEEP_ALIVE, sse

# Facts of a chat's envelope that a completion's has, too.
_KEPT = ("model", "system_fingerprint", "service_tier")


class CompletionsRenderer:
    """Passes completions on as they came, and writes them out of the canonical form.

    `echo` puts the prompt before each choice's text where a chat answered; a vendor of completions has done
    so itself. Of a chat's answer only text has a place here: thought is left out, a refusal is text.
    """

    def __init__(self, completion: Completion, call: Call) -> None:
        """The call says whether usage and the prompt are wanted."""
        self._completion = completion
        self._wants_usage = call.wants_usage
        self._echoed = _prompt_of(call) if call.sent.get("echo") else ""
        self._usage: Usage | None = None
        self._opened: set[int] = set()
        self._finished: set[int] = set()
        self._around_text: tuple[bytes, bytes] | None = None

    def answer(self, answer: Answer) -> bytes:
        """Return the vendor's completion, or one made of a chat's answer."""
        if answer.wire == COMPLETIONS:
            return answer.body
        message = answer.message
        body = {
            **self._envelope(),
            **{name: message[name] for name in _KEPT if message.get(name) is not None},
            "choices": [self._whole(choice) for choice in message.get("choices") or ()],
        }
        usage = message.get("usage")
        if usage is None and answer.usage is not None:
            usage = answer.usage.to_openai()
        if usage is not None:
            body["usage"] = usage
        return orjson.dumps(body)

    def events(self, events: Sequence[Event]) -> bytes:
        """Join what the client may see."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def error(self, error: GatewayError) -> bytes:
        """Write OpenAI's error event."""
        return sse(error.envelope())

    def _event(self, event: Event) -> bytes:
        if event.__class__ is TextEvent and (0 in self._opened or not self._echoed):
            before, after = self._around_text or self._text_frame()
            return before + orjson.dumps(event.text) + after
        if event.raw and event.wire == COMPLETIONS:
            return event.raw if event.kind is not Kind.USAGE or self._wants_usage else b""
        self._usage = event.usage or self._usage
        if event.kind is Kind.DONE:
            return self._usage_chunk() + DONE
        return self._chunk(event)

    def _usage_chunk(self) -> bytes:
        """Return the usage, once for a stream: some vendors tell it with each chunk, some with the last."""
        if self._usage is None or not self._wants_usage:
            return b""
        return sse({**self._envelope(), "choices": [], "usage": self._usage.to_openai()})

    def _text_frame(self) -> tuple[bytes, bytes]:
        """Return what stands around the text in each chunk of it, which is written once."""
        chunk = {**self._envelope(), "choices": [_choice(0, "\0", None)]}
        before, after = sse(chunk).split(orjson.dumps("\0"))
        self._around_text = (before, after)
        return before, after

    def _chunk(self, event: Event) -> bytes:
        choices = [choice for each in event.choices if (choice := self._piece(each)) is not None]
        if choices:
            return sse({**self._envelope(), "choices": choices})
        # Thought takes its time: whatever stands between must not take the connection for dead.
        return KEEP_ALIVE if event.kind is Kind.CONTENT else b""

    def _piece(self, choice: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what a chat's chunk adds to a choice; None where it adds nothing."""
        index = choice.get("index") or 0
        text, reason = _text_of(choice.get("delta") or {}), choice.get("finish_reason")
        if index in self._finished:  # OpenRouter says the reason again with the usage
            reason = None
        if not text and not reason:
            return None
        if reason:
            self._finished.add(index)
        return _choice(index, self._with_echo(index, text), reason)

    def _whole(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        index = choice.get("index") or 0
        text = _text_of(choice.get("message") or {})
        return _choice(index, self._with_echo(index, text), choice.get("finish_reason"))

    def _with_echo(self, index: int, text: str) -> str:
        """Put the prompt before a choice's first text."""
        if index in self._opened:
            return text
        self._opened.add(index)
        return self._echoed + text

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self._completion.id}",
            "object": "text_completion",
            "created": int(self._completion.at),
            "model": self._completion.model,
        }


def _prompt_of(call: Call) -> str:
    return text_in(call.body["messages"][0]["content"])


def _text_of(said: Mapping[str, Any]) -> str:
    """Return the text of a message or delta; what is said instead of an answer is text, too."""
    refusal = said.get("refusal")
    return text_in(said.get("content")) + (refusal if isinstance(refusal, str) else "")


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
