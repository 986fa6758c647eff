"""OpenAI's Responses: passed on where the vendor speaks it, else made of the canonical form."""

import re
from collections.abc import Sequence

import orjson

from providers.call import Call
from providers.events import Answer, Event, Kind, TextEvent
from providers.usage import Usage
from providers.wires import RESPONSES
from proxy.assemble import disassemble
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.renderers.responses_events import EventWriter
from proxy.renderers.responses_object import response_object, status_of
from proxy.renderers.responses_output import Output

_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,12})')
_STOP = "stop"


class ResponsesRenderer:
    """Writes response objects and their typed, numbered events."""

    def __init__(self, completion: Completion, call: Call) -> None:
        """`call` is repeated in the answer, as OpenAI does."""
        self._completion = completion
        self._sent = call.sent
        self._writer = EventWriter()
        self._output = Output(self._writer, completion.id)
        self._begun = False
        self._finish_reason = _STOP
        self._usage: Usage | None = None
        self._passed = b""

    def answer(self, answer: Answer) -> bytes:
        """Return the vendor's own response, or one made of the canonical message."""
        if answer.body and answer.wire == RESPONSES:
            return answer.body
        output = Output(EventWriter(silent=True), self._completion.id)
        reason = _STOP
        for event in disassemble(answer.message, None):
            for choice in event.choices:
                if not choice.get("index"):
                    output.take(choice)
                    reason = choice.get("finish_reason") or reason
        output.end(status_of(reason))
        return orjson.dumps(
            response_object(
                self._completion,
                self._sent,
                output=output.to_json(),
                finish_reason=reason,
                usage=answer.usage or self._completion.usage,
            )
        )

    def events(self, events: Sequence[Event]) -> bytes:
        """Pass the vendor's own events on, or write those that OpenAI would send."""
        for event in events:
            if event.wire == RESPONSES:
                self._passed = event.raw or self._passed
                self._writer.add(event.raw)
            else:
                self._take(event)
        return self._writer.taken()

    def error(self, error: GatewayError) -> bytes:
        """Write the error event: with its fields where OpenAI has them, and as an object that SDKs raise."""
        fields = error.envelope()["error"]
        numbers = _NUMBER.findall(self._passed)
        self._writer.number = max(self._writer.number, int(numbers[-1]) + 1 if numbers else 0)
        said = {"code": error.code or error.type, "message": error.message, "param": error.param}
        self._writer.write("error", **said, error=fields)
        return self._writer.taken()

    def _take(self, event: Event) -> None:
        if not self._begun:
            self._begun = True
            begun = response_object(self._completion, self._sent)
            self._writer.write("response.created", response=begun)
            self._writer.write("response.in_progress", response=begun)
        if event.__class__ is TextEvent and self._output.message is not None:
            self._output.message.say(event.text)
            return
        for choice in event.choices:
            if not choice.get("index"):
                self._output.take(choice)
                if choice.get("finish_reason"):
                    self._finish_reason = choice["finish_reason"]
                    self._output.end(status_of(self._finish_reason))
        self._usage = event.usage or self._usage
        if event.kind is Kind.DONE:
            self._end()

    def _end(self) -> None:
        """Write the whole response: the usage may have come after the finish reason."""
        status = status_of(self._finish_reason)
        self._output.end(status)
        whole = response_object(
            self._completion,
            self._sent,
            output=self._output.to_json(),
            finish_reason=self._finish_reason,
            usage=self._usage or self._completion.usage,
        )
        self._writer.write(f"response.{status}", response=whole)
