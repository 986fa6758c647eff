"""Gemini's streamed pieces as canonical events.

Each piece is an answer of its own form with some more parts. The reasons of the end and the usage of the
last piece that says them count, so both are told at the end of the stream.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.canonical import CONTENT_FILTER
from providers.dialects.gemini.answer import CallIds, Candidate, logprobs_of
from providers.dialects.gemini.errors import error_in_body
from providers.dialects.gemini.usage import usage_of
from providers.dialects.shapes import broken
from providers.dialects.translated import TranslatedStream
from providers.events import Event, Kind, TextEvent, delta_event, finish_event, usage_event
from providers.usage import Usage, count


class GeminiStream(TranslatedStream):
    """The events of `streamGenerateContent?alt=sse`."""

    def __init__(self, *, one_call: bool) -> None:
        """Start before the first piece; `one_call`: of a candidate's tool calls, pass one on at most."""
        super().__init__()
        self._one_call = one_call
        self._ids = CallIds()
        self._candidates: dict[int, Candidate] = {}
        self._usage: Usage | None = None
        self._blocked = False  # the prompt, told instead of candidates
        self._cut_off = False  # the same, told by its reason: even after some text

    def read(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        """Append what one piece says. Raises UpstreamError."""
        if payload.get("error"):
            raise error_in_body(payload["error"])
        self._usage = usage_of(payload.get("usageMetadata")) or self._usage
        feedback = payload.get("promptFeedback")
        if isinstance(feedback, dict):
            self._blocked = True
            self._cut_off = self._cut_off or bool(feedback.get("blockReason"))
        candidates = payload.get("candidates") or ()
        if not isinstance(candidates, (list, tuple)):
            raise broken("its candidates have the wrong shape")
        for candidate in candidates:
            self._read_candidate(candidate, payload.get("responseId"), events)

    def finished(self) -> bool:
        """Has every candidate said why it ended, or was the prompt blocked?"""
        if not self._candidates:
            return self._blocked
        return self._cut_off or all(candidate.reason for candidate in self._candidates.values())

    def so_far(self) -> Usage | None:
        """Return the counts of the last piece."""
        return self._usage

    def last(self) -> Sequence[Event]:
        """Return the finish of every choice, then the usage."""
        reasons = {
            index: candidate.finish_reason() if candidate.reason else CONTENT_FILTER
            for index, candidate in sorted(self._candidates.items())
        } or {0: CONTENT_FILTER}
        events = [finish_event(reason, index=index) for index, reason in reasons.items()]
        return events if self._usage is None else [*events, usage_event(self._usage)]

    def _read_candidate(self, candidate: Mapping[str, Any], response_id: Any, events: list[Event]) -> None:
        index = count(candidate.get("index"))
        reader = self._candidates.get(index)
        if reader is None:
            reader = self._candidates[index] = Candidate(self._ids, one_call=self._one_call)
        for delta in reader.read(candidate, response_id):
            text = delta.get("content")
            events.append(TextEvent(text) if text and not index else delta_event(delta, index=index))
        logprobs = logprobs_of(candidate)
        if logprobs is not None:
            choice = {"index": index, "delta": {}, "logprobs": logprobs, "finish_reason": None}
            events.append(Event(Kind.CONTENT, choices=[choice]))
