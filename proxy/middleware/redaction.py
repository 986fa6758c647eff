"""Takes personal data and secrets out of prompts and answers: streams, whole answers, tool calls.

REDACT_KINDS says what (email, phone, card, iban, secret), REDACT_DIRECTIONS where (prompts, answers). It
belongs in REQUEST_MIDDLEWARE for prompts and in RESPONSE_MIDDLEWARE for answers. What was found is replaced
by its kind in brackets, `[EMAIL]`. It fails closed: what cannot be looked through is not passed on.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings

from providers.events import Answer, Event, Kind, TextEvent
from providers.wires import EMBEDDINGS, UNREAD
from proxy.middleware.base import Asked, Context, Watch
from proxy.middleware.deltas import ChoiceTexts
from proxy.middleware.patterns import Kinds
from proxy.middleware.walking import Walk

PROMPTS, ANSWERS = "prompts", "answers"
# A body above this is looked through in a thread: it would hold up everybody else.
LARGE_BYTES = 64 << 10


class Redaction:
    """A request and a response middleware."""

    changes_events = True
    wants_whole = False

    def __init__(self) -> None:
        """Take kinds and directions from the environment."""
        env = settings.GATEWAY
        self._directions = frozenset(env.redact_directions)
        self._kinds = _compiled(tuple(env.redact_kinds))
        self._prompts = Walk(self._kinds, keep_signed=True)
        self._answers = Walk(self._kinds, keep_signed=False)

    async def request(self, asked: Asked) -> Asked:
        """Redact the body. Raises BadRequest if it is nested too deeply."""
        if PROMPTS not in self._directions or asked.body is None:
            return asked
        if _size(asked.headers) > LARGE_BYTES:
            body = await asyncio.to_thread(self._prompts.body, asked.body)
        else:
            body = self._prompts.body(asked.body)
        return asked if body is asked.body else replace(asked, body=body)

    def begin(self, context: Context) -> Watch | None:
        """Watch every answer, if answers are redacted. Vectors say nothing, what is passed on is not read."""
        if ANSWERS not in self._directions or context.call.wire in (EMBEDDINGS, UNREAD):
            return None
        return AnswerRedaction(self._kinds, self._answers)


class AnswerRedaction(Watch):
    """One answer."""

    def __init__(self, kinds: Kinds, walk: Walk) -> None:
        """Begin before its first piece."""
        self._kinds, self._walk = kinds, walk
        self._choices: dict[int, ChoiceTexts] = {}

    def answer(self, answer: Answer) -> Answer:
        """Redact a whole answer, in whatever format it is; token probabilities would tell it after all."""
        said = orjson.loads(answer.body) if answer.body else answer.message
        if "data" in said and "choices" not in said:
            return answer
        redacted = self._walk.body(said)
        return answer if redacted is said else answer.saying(_without_logprobs(redacted))

    def events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return what may go out by now; at the end of a choice, all of it."""
        return [made for event in events for made in self._redacted(event)]

    def _redacted(self, event: Event) -> Iterator[Event]:
        if event.__class__ is TextEvent:
            texts = self._texts(0)
            if texts.saying:
                said = texts.words(event.text)
                if said:
                    yield TextEvent(said)
                return
        if event.kind in (Kind.DONE, Kind.ERROR):
            yield from self._rests()
            yield event
        elif event.choices:
            yield from self._of_choices(event)
        else:
            yield event

    def _of_choices(self, event: Event) -> Iterator[Event]:
        """Yield what the choices of an event say, then their ends, with what else the event tells."""
        ended: list[Mapping[str, Any]] = []
        for choice in event.choices:
            index = choice.get("index") or 0
            texts = self._texts(index)
            deltas = texts.deltas(choice.get("delta") or {})
            if choice.get("finish_reason"):
                deltas += texts.rest()
                ended.append({**choice, "delta": {}, "logprobs": None})
            for delta in deltas:
                yield _said(index, delta, kind=Kind.META if event.kind is Kind.META else Kind.CONTENT)
        if ended or event.usage is not None:
            yield Event(
                event.kind if ended else Kind.USAGE,
                choices=ended,
                usage=event.usage,
                finish_reasons=event.finish_reasons,
                error=event.error,
            )

    def _rests(self) -> Iterator[Event]:
        for index, texts in self._choices.items():
            for delta in texts.rest():
                yield _said(index, delta)

    def _texts(self, index: int) -> ChoiceTexts:
        texts = self._choices.get(index)
        if texts is None:
            texts = self._choices[index] = ChoiceTexts(self._kinds, self._walk)
        return texts


@lru_cache(maxsize=8)
def _compiled(kinds: tuple[str, ...]) -> Kinds:
    return Kinds(kinds)


def _said(index: int, delta: Mapping[str, Any], *, kind: Kind = Kind.CONTENT) -> Event:
    return Event(kind, choices=[{"index": index, "delta": delta, "finish_reason": None}])


def _size(headers: Mapping[str, str]) -> int:
    """Return how large the body is, as far as its sender says; a body in chunks may be any size."""
    told = headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdecimal() else LARGE_BYTES + 1


def _without_logprobs(said: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = said.get("choices")
    if not isinstance(choices, list):
        return said
    bare = [{**choice, "logprobs": None} if "logprobs" in choice else choice for choice in choices]
    return {**said, "choices": bare}
