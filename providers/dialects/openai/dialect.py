"""The OpenAI dialect: the canonical form itself, and every OpenAI-compatible server.

A request body is sent on as it came unless the model's name or the forced usage chunk changes it.
A stream's events go through untouched: they are only searched for what the relay must know (finish
reason, usage, error), and parsed only where that search hits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from providers import usage as usages
from providers.call import Call
from providers.carried import without_carried
from providers.dialects.base import StreamDecoder
from providers.dialects.openai.errors import error_in_body, read_error
from providers.dialects.openai.plain import plain, unsaid, without_effort
from providers.dialects.openai.quirks import fitted, path_for
from providers.dialects.openai.responses import ResponsesStream, responses_answer
from providers.dialects.openai.shapes import answer_choices, chunk_choices, text_choices
from providers.dialects.params import canonical, written
from providers.dialects.shapes import broken, parsed_object
from providers.errors import UpstreamError
from providers.events import Answer, Event, Kind, PassedEvent
from providers.sse import EventSplitter, data_of
from providers.upstream import NO_QUIRKS, Quirks, Upstream, UpstreamRequest
from providers.usage import Usage
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

DONE = b"data: [DONE]\n\n"
_PATHS = {
    CHAT: "/chat/completions",
    COMPLETIONS: "/completions",
    EMBEDDINGS: "/embeddings",
    RESPONSES: "/responses",
}
_WITH_USAGE_OPTION = frozenset({CHAT, COMPLETIONS})
_JSON = {"content-type": "application/json"}
# An escaped quote precedes these words inside a string, so they match keys only.
_NOTABLE = re.compile(rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{|"error"\s*:')


class OpenAI:
    """OpenAI and compatible servers."""

    name = "openai"
    label = "OpenAI and compatible"
    counts_tokens = False

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return a Bearer token, or the bare key in the provider's own header (Azure: api-key)."""
        if not credential:
            return {}
        if header and header.lower() != "authorization":
            return {header.lower(): credential}
        return {"authorization": f"Bearer {credential}"}

    def models_path(self) -> str:
        """Return OpenAI's list."""
        return "/models"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"data": [{"id", "created", "owned_by"}]}`."""
        listed = parsed_object(body).get("data")
        if not isinstance(listed, list):
            raise broken("it has no model list")
        return [
            {
                "id": model["id"],
                "created": usages.count(model.get("created")),
                "owned_by": str(model.get("owned_by") or ""),
            }
            for model in listed
            if isinstance(model, dict) and isinstance(model.get("id"), str)
        ]

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Send the body as it came but for the vendor's model name, the forced usage chunk and its quirks."""
        quirks = upstream.account.quirks
        wire = call.wire if _speaks(call.wire, quirks) else CHAT
        native = wire == call.wire
        source, left_out = call.sent or call.body, tuple[str, ...]()
        if not native:
            translated = plain(canonical(call, upstream), thoughts=quirks.reasoning_content)
            source, left_out = without_effort(translated, upstream.model)
            left_out = (*unsaid(call.body), *left_out)
        body = without_carried(source, call.raw) if wire == RESPONSES else source
        body, dropped = fitted(body, upstream) if quirks is not NO_QUIRKS else (body, ())
        changes: dict[str, Any] = {}
        if body.get("model") != upstream.model:
            changes["model"] = upstream.model
        asks_usage = wire in _WITH_USAGE_OPTION and quirks.stream_usage
        if call.stream and not call.wants_usage and asks_usage:
            changes["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        verbatim = native and call.verbatim and body is source and not changes
        return UpstreamRequest(
            path=path_for(_PATHS[wire], upstream),
            body=call.raw if verbatim else written({**body, **changes}),
            headers=_JSON,
            dropped_params=(*left_out, *dropped),
            wire=wire,
        )

    def decode(self, body: bytes, call: Call) -> Answer:
        """Check that it is an answer and find usage and finish reasons."""
        # OpenRouter keeps connections alive with blank lines before the JSON.
        body = body.strip()
        message = parsed_object(body)
        if message.get("error"):
            raise error_in_body(message["error"])
        return _DECODERS.get(call.wire, _chat)(body, message)

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return _STREAMS.get(call.wire, OpenAIStream)(choices=call.choices)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status, code and, where servers say it in words only, by their words."""
        return read_error(status, headers, body)


class OpenAIStream:
    """Server-sent chunks to events, raw bytes kept."""

    wire = CHAT

    def __init__(self, *, choices: int) -> None:
        """Expect `choices` parallel answers."""
        self._splitter = EventSplitter()
        # With several choices every chunk is parsed: each choice must finish.
        self._searchable = choices == 1
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._passing = False  # content has been seen, so that content may pass unparsed
        self._ended = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`; nothing after the end."""
        block = self._splitter.feed_block(chunk) if self._searchable and not self._ended else None
        if block is not None:
            return self._events_in(block)
        events: list[Event] = []
        for raw in self._splitter.feed(chunk):
            if self._ended:
                break
            events.append(self._one(raw))
        return events

    def _one(self, raw: bytes) -> Event:
        """Return the one event in `raw`."""
        if self._passing and b"\r" not in raw and _plain_from(raw, 0)[0]:
            return PassedEvent(raw, self.wire, self._choices_of)
        return self._guarded(raw)

    def _events_in(self, block: bytes) -> list[Event]:
        """Return the events of `block`; what may pass unparsed is one event, however many chunks it holds."""
        events: list[Event] = []
        start, end, simple = 0, len(block), True
        while start < end and not self._ended:
            chunks, stop = _plain_from(block, start) if self._passing and simple else (0, start)
            if chunks:
                events.append(PassedEvent(block[start:stop], self.wire, self._choices_of, chunks))
            else:
                simple = simple and stop < end
                stop = block.index(b"\n\n", start) + 2
                events.append(self._one(block[start:stop]))
            start = stop
        return events

    def close(self) -> Sequence[Event]:
        """Add the [DONE] a vendor forgot, or the error of a stream that ended early."""
        events = []
        rest = b"" if self._ended else self._splitter.rest().strip()
        if rest:  # some servers end without the last blank line
            events.append(self._guarded(rest + b"\n\n"))
        if not self._ended:
            events.append(self._end(DONE))
        return events

    def so_far(self) -> Usage | None:
        """Return nothing: each count is told in its event."""
        return None

    def _guarded(self, raw: bytes) -> Event:
        try:
            return self._event(raw)
        except UpstreamError as error:
            return self._failed(error)

    def _event(self, raw: bytes) -> Event:
        payload = data_of(raw)
        if payload is None or not payload.strip():
            return Event(Kind.META, raw=raw, wire=self.wire, choices=())
        if payload.strip() == b"[DONE]":
            return self._end(raw)
        chunk = parsed_object(payload)
        if chunk.get("error"):
            return self._failed(error_in_body(chunk["error"]))
        return self._parsed(raw, chunk)

    def _end(self, raw: bytes) -> Event:
        if not self._finished or self._seen - self._finished:
            return self._failed(broken("the stream ended without a finish reason"))
        self._ended, self._passing = True, False
        return Event(Kind.DONE, raw=raw, wire=self.wire, choices=())

    def _failed(self, error: UpstreamError) -> Event:
        self._ended, self._passing = True, False
        return Event(Kind.ERROR, choices=(), error=error)

    def _parsed(self, raw: bytes, chunk: Mapping[str, Any]) -> Event:
        choices = self.choices_in(chunk)
        usage = usages.from_openai(chunk.get("usage"))
        reasons = []
        for choice in choices:
            index = usages.count(choice.get("index"))
            self._seen.add(index)
            if choice.get("finish_reason"):
                reasons.append(choice["finish_reason"])
                self._finished.add(index)
        has_content = any(_has_content(choice.get("delta")) for choice in choices)
        self._passing = self._searchable and (self._passing or has_content)
        kind = (
            Kind.FINISH
            if reasons
            else Kind.CONTENT
            if has_content
            else Kind.USAGE
            if usage is not None and not choices
            else Kind.META
        )
        return Event(kind, raw=raw, wire=self.wire, choices=choices, usage=usage, finish_reasons=reasons)

    def choices_in(self, chunk: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the canonical choices of one chunk. Raises UpstreamError."""
        return chunk_choices(chunk)

    def _choices_of(self, raw: bytes) -> Sequence[Mapping[str, Any]]:
        """Return the choices of all the events in `raw`."""
        return [
            choice
            for event in raw.split(b"\n\n")
            if event
            for choice in self.choices_in(parsed_object(data_of(event + b"\n\n") or b"{}"))
        ]


class CompletionsStream(OpenAIStream):
    """The chunks of `/completions`: `text` stands where chat has a delta."""

    wire = COMPLETIONS

    def choices_in(self, chunk: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the canonical choices of one chunk. Raises UpstreamError."""
        return text_choices(chunk, "delta")


def _has_content(delta: Any) -> bool:
    return isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role")


def _plain_from(block: bytes, start: int) -> tuple[int, int]:
    """Return how many plain events stand at `start`, and where they end.

    Plain is one line of a JSON object without anything notable. `block` holds whole events, its lines end
    in LF. No event, ending at `start`: the first one is not plain. No event, ending at the end: something
    among them is framed in another way, and looking again at each of them would cost too much.
    """
    if not block.startswith(b"data: {", start):
        return 0, start
    found = _NOTABLE.search(block, start)
    stop = len(block) if found is None else block.rfind(b"\n\n", start, found.start()) + 2
    if stop <= start + 1:
        return 0, start
    chunks = block.count(b"}\n\ndata: {", start, stop) + 1
    if block.count(b"\n", start, stop) != 2 * chunks or not block.endswith(b"}\n\n", start, stop):
        return 0, len(block)
    return chunks, stop


def _chat(body: bytes, message: Mapping[str, Any]) -> Answer:
    choices = answer_choices(message)
    return Answer(
        body=body,
        wire=CHAT,
        message=message,
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=[choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
    )


def _embeddings(body: bytes, message: Mapping[str, Any]) -> Answer:
    if not isinstance(message.get("data"), list):
        raise broken("it has no embeddings")
    return Answer(
        body=body,
        wire=EMBEDDINGS,
        message=message,
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=("stop",),
    )


def _completions(body: bytes, message: Mapping[str, Any]) -> Answer:
    choices = text_choices(message, "message")
    if not choices:
        raise broken("it has no choices")
    return Answer(
        body=body,
        wire=COMPLETIONS,
        message={**message, "object": "chat.completion", "choices": choices},
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=[choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
    )


def _speaks(wire: str, quirks: Quirks) -> bool:
    """Does the server have the endpoint that takes this format?"""
    if wire == COMPLETIONS:
        return quirks.completions
    if wire == RESPONSES:
        return quirks.responses
    return wire in _PATHS


_DECODERS: Mapping[str, Callable[[bytes, Mapping[str, Any]], Answer]] = {
    CHAT: _chat,
    COMPLETIONS: _completions,
    EMBEDDINGS: _embeddings,
    RESPONSES: responses_answer,
}
_STREAMS: Mapping[str, Callable[..., StreamDecoder]] = {
    CHAT: OpenAIStream,
    COMPLETIONS: CompletionsStream,
    RESPONSES: ResponsesStream,
}
