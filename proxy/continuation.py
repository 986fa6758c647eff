"""Continues a stream that has broken off: another upstream goes on from the text that the client has.

For routes that ask for it (Resolved.continues). The text so far is put before the next model as the
beginning of its own answer, where its vendor takes that, or else with the instruction to go on. Never across
a tool call: nobody could tell where its arguments broke off. What goes wrong here is not the client's
business: it hears of the failure that there was to be continued.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from providers.call import Call
from providers.dialects import DIALECTS
from providers.errors import UpstreamError
from providers.events import Event, Kind, TextEvent
from providers.upstream import Upstream
from providers.usage import BYTES_PER_TOKEN, Usage
from providers.wires import CHAT
from proxy.attempt import OpenStream
from proxy.errors import GatewayError
from proxy.exchange import Exchange

GO_ON = (
    "Your answer above was cut off. Go on with it exactly where it stops, in the middle of a word if need "
    "be. Do not repeat any of it and do not comment on this."
)
_LIMITS = ("max_completion_tokens", "max_tokens")
# Deltas that a continuation can neither repeat nor leave out.
_UNCONTINUABLE = ("tool_calls", "function_call", "refusal", "audio")

Open = Callable[[Call, Upstream], Awaitable[OpenStream]]


def continuable(call: Call) -> bool:
    """May an answer to this call be continued? One with several choices, or tied to a vendor, may not."""
    return call.choices == 1 and call.only_native is None


class Continuation:
    """What one stream has said, and who may go on. Its events are canonical, without raw bytes."""

    def __init__(self, call: Call, upstreams: Sequence[Upstream], *, open: Open, exchange: Exchange) -> None:  # noqa: A002 - what it does
        """`open` makes one attempt: it returns a stream at its first content or raises."""
        self.happened = False
        self._call, self._upstreams, self._open, self._exchange = call, upstreams, open, exchange
        self._text: list[str] = []
        self._possible = True
        self._finished = False
        self._trims = False  # the next word begins after blanks that the client has already
        self._before: Usage | None = None  # of the streams that broke off

    def see(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take a stream's events, and return them as the client is to see them."""
        if self._trims:
            events = [self._trimmed(event) for event in events]
        for event in events:
            if event.__class__ is TextEvent:
                self._text.append(event.text)
            elif event.kind in (Kind.CONTENT, Kind.FINISH):
                self._look_into(event)
        if self._before is not None:
            return [self._in_all(event) for event in events]
        return events

    async def resume(self, broken: OpenStream, error: UpstreamError) -> OpenStream | None:
        """Return the stream of an upstream that goes on; None if there is none."""
        text = "".join(self._text)
        if not self._possible or self._finished or not text.strip():
            return None
        self._exchange.so_far(broken.counted())
        self._exchange.break_off(error)
        self._before = self._exchange.set_aside()
        for upstream, call, trims in self._ways(broken.visit.target, text):
            try:
                stream = await self._open(call, upstream)
            except (UpstreamError, GatewayError):
                continue
            self.happened, self._trims = True, trims
            return stream
        return None

    def _ways(self, failed: Upstream, text: str) -> Iterator[tuple[Upstream, Call, bool]]:
        # A beginning that ends in blanks is refused, or continued with more of them.
        beginning, instruction = _said(text.rstrip()), {"role": "user", "content": GO_ON}
        trims = text != text.rstrip()
        others = [each for each in self._upstreams if each.id != failed.id]
        for upstream in [*others, failed]:
            if DIALECTS[upstream.account.dialect].prefills:
                yield upstream, self._call_with([beginning], text), trims
            yield upstream, self._call_with([_said(text), instruction], text), False

    def _call_with(self, turns: Sequence[Mapping[str, Any]], text: str) -> Call:
        body = {**self._call.body, "messages": [*self._call.body.get("messages", ()), *turns]}
        for name in _LIMITS:
            limit = body.get(name)
            if isinstance(limit, int):
                body[name] = max(limit - len(text.encode()) // BYTES_PER_TOKEN, 1)
        return self._call._replace(wire=CHAT, body=body, sent=body, raw=b"", verbatim=False)

    def _look_into(self, event: Event) -> None:
        self._finished = self._finished or event.kind is Kind.FINISH
        for choice in event.choices:
            delta = choice.get("delta") or {}
            if any(delta.get(name) for name in _UNCONTINUABLE):
                self._possible = False
            content = delta.get("content")
            if isinstance(content, str):
                self._text.append(content)

    def _trimmed(self, event: Event) -> Event:
        """Return the event without blanks at its beginning, until there has been something else."""
        if not self._trims or event.kind is not Kind.CONTENT:
            return event
        choices = []
        for choice in event.choices:
            delta = choice.get("delta") or {}
            content = delta.get("content")
            if isinstance(content, str) and content and self._trims:
                content = content.lstrip()
                self._trims = not content
                choice = {**choice, "delta": {**delta, "content": content}}  # noqa: PLW2901 - as the client sees it
            choices.append(choice)
        return Event(event.kind, choices=choices, usage=event.usage, finish_reasons=event.finish_reasons)

    def _in_all(self, event: Event) -> Event:
        if event.usage is None or self._before is None:
            return event
        return Event(
            event.kind,
            choices=event.choices,
            usage=event.usage.plus(self._before),
            finish_reasons=event.finish_reasons,
        )


def _said(text: str) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text}
