"""Ollama's answers and streams to the canonical form.

A stream is NDJSON: lines with a piece of `message` (/api/chat) or of `response` (/api/generate), the last
one with `done`, why it ended, and the counts. Tool calls come whole, several of them over several lines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers import usage as usages
from providers.canonical import LENGTH, STOP, TOOL_CALLS
from providers.dialects.call_ids import made_id
from providers.dialects.ollama.errors import error_in_line
from providers.dialects.shapes import broken
from providers.dialects.toolcalls import arguments_text
from providers.dialects.translated import Splitter, TranslatedStream
from providers.events import Answer, Event, Kind, TextEvent, delta_event, finish_event, usage_event
from providers.ndjson import LineSplitter
from providers.usage import Usage


def whole_answer(body: Mapping[str, Any], *, one_call: bool) -> Answer:
    """Return a whole answer, with one tool call at most if `one_call`.

    Raises UpstreamError, or what a misshapen body makes of reading it.
    """
    _raise_error(body)
    if body.get("done") is not True:
        raise broken("it is not done")
    text, thought, calls = _said(body)
    calls = calls[:1] if one_call else calls
    message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = [_call(call, body, number) for number, call in enumerate(calls)]
    choice: dict[str, Any] = {"index": 0, "message": message}
    logprobs = _logprobs(body)
    if logprobs is not None:
        choice["logprobs"] = logprobs
    reason = _reason(body, called=bool(calls))
    return Answer(
        message={"choices": [{**choice, "finish_reason": reason}]},
        usage=_usage(body),
        finish_reasons=[reason],
    )


class OllamaStream(TranslatedStream):
    """The lines of /api/chat and of /api/generate."""

    def __init__(self, *, one_call: bool) -> None:
        """Start before the first byte; `one_call`: of its tool calls, pass one on at most."""
        super().__init__()
        self._one_call = one_call
        self._calls = 0
        self._done = False
        self._usage: Usage | None = None

    def splitter(self) -> Splitter:
        """Cut into lines."""
        return LineSplitter()

    def payload_of(self, record: bytes) -> bytes | None:
        """Return the line; one that a proxy put in as a comment is none."""
        return None if record.startswith(b":") else record

    def read(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        """Append what one line says. Raises UpstreamError."""
        _raise_error(payload)
        text, thought, calls = _said(payload)
        logprobs = _logprobs(payload)
        if thought:
            events.append(delta_event({"reasoning_content": thought}))
        if logprobs is not None:
            choice = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}
            events.append(Event(Kind.CONTENT, choices=[choice]))
        elif text:
            events.append(TextEvent(text))
        for call in calls:
            if self._one_call and self._calls:
                break
            whole = {"index": self._calls, **_call(call, payload, self._calls)}
            events.append(delta_event({"tool_calls": [whole]}))
            self._calls += 1
        if payload.get("done") is True:
            self._done, self._usage = True, _usage(payload)
            events.append(finish_event(_reason(payload, called=self._calls > 0)))
            self.end(events)

    def finished(self) -> bool:
        """Has the last line come?"""
        return self._done

    def last(self) -> Sequence[Event]:
        """Return the usage."""
        return [] if self._usage is None else [usage_event(self._usage)]


def _raise_error(payload: Mapping[str, Any]) -> None:
    if payload.get("error"):
        raise error_in_line(payload["error"])


def _said(payload: Mapping[str, Any]) -> tuple[str, str, Sequence[Any]]:
    """Return text, thought and tool calls of an answer or a line."""
    if "response" in payload:
        said, text = payload, payload["response"]
    else:
        said = payload["message"]
        text = said.get("content")
    thought, calls = said.get("thinking"), said.get("tool_calls")
    if not (isinstance(text or "", str) and isinstance(thought or "", str) and isinstance(calls or [], list)):
        raise broken("its message has the wrong shape")
    return text or "", thought or "", calls or ()


def _call(call: Mapping[str, Any], payload: Mapping[str, Any], number: int) -> dict[str, Any]:
    function, identity = call["function"], call.get("id")
    name = function["name"]
    if not isinstance(name, str):
        raise broken("a tool call has no name")
    arguments = arguments_text(function.get("arguments"))
    if not isinstance(identity, str) or not identity:  # servers before 0.12 give none
        identity = made_id(payload.get("model"), payload.get("created_at"), number, name, arguments)
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(payload: Mapping[str, Any], *, called: bool) -> str:
    """Return why it ended: `stop` also after tool calls, `load` and `unload` where nothing was asked."""
    if payload.get("done_reason") == "length":
        return LENGTH
    return TOOL_CALLS if called else STOP


def _usage(payload: Mapping[str, Any]) -> Usage | None:
    """Return the counts, of which Ollama leaves out those that are 0; None where both are not there."""
    prompt, completion = payload.get("prompt_eval_count"), payload.get("eval_count")
    if prompt is None and completion is None:
        return None
    return Usage(prompt=usages.count(prompt), completion=usages.count(completion))


def _logprobs(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the tokens' log probabilities as OpenAI has them; theirs are the same but for what is empty."""
    tokens = payload.get("logprobs")
    if not tokens:
        return None
    content = [
        {
            **_token(token),
            "top_logprobs": [_token(other) for other in token.get("top_logprobs") or ()],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token.get("bytes")}
