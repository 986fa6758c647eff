"""Decoded pieces of an answer, as all dialects give them and all renderers read them.

The canonical piece is an OpenAI chat chunk without its envelope: `choices` of index, delta and
finish_reason. When the upstream already speaks the client's format, `raw` holds the piece's bytes
as they came and nothing is parsed until somebody reads `choices`.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import orjson

from providers.errors import UpstreamError
from providers.usage import Usage


class Kind(IntEnum):
    """What a piece is for the relay."""

    META = 0  # role-only, keep-alive, nothing a reader of the answer would see
    CONTENT = 1  # text, reasoning, refusal, tool call: after this nothing is retried
    FINISH = 2  # a choice's finish reason (may carry content too)
    USAGE = 3  # the usage chunk, without choices
    ERROR = 4  # the vendor reported an error inside the stream
    DONE = 5  # the end: the vendor's [DONE], or ours when all choices had finished


class Event:
    """One piece. `raw` is complete wire bytes in format `wire`, `chunks` of the vendor's chunks, or empty."""

    __slots__ = ("_choices", "_parse", "chunks", "error", "finish_reasons", "kind", "raw", "usage", "wire")

    def __init__(
        self,
        kind: Kind,
        *,
        raw: bytes = b"",
        wire: str = "",
        choices: Sequence[Mapping[str, Any]] | None = None,
        parse: Callable[[bytes], Sequence[Mapping[str, Any]]] | None = None,
        usage: Usage | None = None,
        finish_reasons: Sequence[str] = (),
        error: UpstreamError | None = None,
    ) -> None:
        """Give `choices`, or `raw` with the `parse` that reads them from it."""
        self.kind = kind
        self.chunks = 1 if raw else 0
        self.raw = raw
        self.wire = wire
        self._choices = choices
        self._parse = parse
        self.usage = usage
        self.finish_reasons = finish_reasons
        self.error = error

    @property
    def choices(self) -> Sequence[Mapping[str, Any]]:
        """Return the canonical choices (index, delta, finish_reason), parsed on first use."""
        if self._choices is None:
            self._choices = self._parse(self.raw) if self._parse is not None else ()
        return self._choices

    def __repr__(self) -> str:
        """Show kind and bytes."""
        return f"Event({self.kind.name}, {self.raw[:80]!r})"


class PassedEvent(Event):
    """Content in the client's own format that nobody has looked into: most of a stream.

    `raw` may hold several of the vendor's chunks (`chunks`), as many as one read of the network brought.
    """

    __slots__ = ()

    kind = Kind.CONTENT
    usage = None
    finish_reasons = ()
    error = None

    def __init__(
        self, raw: bytes, wire: str, parse: Callable[[bytes], Sequence[Mapping[str, Any]]], chunks: int = 1
    ) -> None:
        """Keep the bytes, and how to read them should somebody want to."""
        self.chunks = chunks
        self.raw = raw
        self.wire = wire
        self._parse = parse
        self._choices = None


class TextEvent(Event):
    """A piece of the first choice's text: most of a translated stream, so it is cheap to make."""

    __slots__ = ("text",)

    kind = Kind.CONTENT
    chunks = 0
    raw = b""
    wire = ""
    usage = None
    finish_reasons = ()
    error = None

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text

    @property
    def choices(self) -> Sequence[Mapping[str, Any]]:
        """Return the one choice that says it."""
        return ({"index": 0, "delta": {"content": self.text}, "finish_reason": None},)


def delta_event(delta: Mapping[str, Any], *, index: int = 0, kind: Kind = Kind.CONTENT) -> Event:
    """Return the event of something else than plain text: a role, reasoning, a tool call's piece."""
    return Event(kind, choices=[{"index": index, "delta": delta, "finish_reason": None}])


def finish_event(reason: str, *, index: int = 0, usage: Usage | None = None) -> Event:
    """Return the event of a choice's end. `reason`: OpenAI's finish reason."""
    choice = {"index": index, "delta": {}, "finish_reason": reason}
    return Event(Kind.FINISH, choices=[choice], finish_reasons=[reason], usage=usage)


def usage_event(usage: Usage) -> Event:
    """Return the usage chunk: one for a stream, after all choices have finished."""
    return Event(Kind.USAGE, choices=(), usage=usage)


def done_event() -> Event:
    """Return the end of a whole stream."""
    return Event(Kind.DONE, choices=())


def failed_event(error: UpstreamError) -> Event:
    """Return the end of a stream that failed."""
    return Event(Kind.ERROR, choices=(), error=error)


class Answer:
    """A whole, not streamed answer.

    Either `body` is the vendor's JSON in format `wire`, or `message` is the canonical form that a dialect
    made (then `wire` is empty, and what the envelope lacks is filled in for the client).
    """

    __slots__ = ("_message", "_parse", "body", "finish_reasons", "usage", "wire")

    def __init__(
        self,
        *,
        usage: Usage | None,
        finish_reasons: Sequence[str],
        body: bytes = b"",
        wire: str = "",
        message: Mapping[str, Any] | None = None,
        parse: Callable[[bytes], Mapping[str, Any]] = orjson.loads,
    ) -> None:
        """`message` is what `body` says, if it is known already; else `parse` reads it on first use."""
        self.body = body
        self.wire = wire
        self.usage = usage
        self.finish_reasons = finish_reasons
        self._message = message
        self._parse = parse

    @property
    def message(self) -> Mapping[str, Any]:
        """Return the canonical form (an OpenAI completion or embeddings object), parsed on first use."""
        if self._message is None:
            self._message = self._parse(self.body)
        return self._message

    def saying(self, said: Mapping[str, Any]) -> "Answer":
        """Return the same answer with another body, or in the canonical form if it has none."""
        return Answer(
            usage=self.usage,
            finish_reasons=self.finish_reasons,
            body=orjson.dumps(said) if self.body else b"",
            wire=self.wire,
            message=None if self.body else said,
            parse=self._parse,
        )
