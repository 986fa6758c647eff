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
from providers.errors import Owner, UpstreamError
from providers.events import Event, Kind, TextEvent
from providers.upstream import Upstream
from providers.usage import BYTES_PER_TOKEN, Usage
from providers.wires import CHAT
from proxy.attempt import OpenStream
from proxy.echoes import NOTHING_KNOWN, Known
from proxy.errors import GatewayError, Inexpressible
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

    def __init__(
        self,
        call: Call,
        upstreams: Sequence[Upstream],
        *,
        open: Open,  # noqa: A002 - what it does
        exchange: Exchange,
        max_attempts: int,
        keep_alive_s: float,
    ) -> None:
        """`open` makes one attempt: it returns a stream at its first content or raises.

        `max_attempts` are those of the request, from its first one on. While somebody is asked to go on, the
        client gets a comment each `keep_alive_s`.
        """
        self.happened = False
        self.keep_alive_s = keep_alive_s
        self._call, self._upstreams, self._open, self._exchange = call, upstreams, open, exchange
        self._max_attempts = max_attempts
        self._text: list[str] = []
        self._possible = True
        self._finished = False
        self._broken: set[str] = set()  # by their ids: who has been the cause of a break
        self._known = NOTHING_KNOWN  # what the next words may repeat
        self._before: Usage | None = None  # of the streams that broke off

    def see(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take a stream's events, and return them as the client is to see them."""
        if self.happened:
            events = [seen for event in events if (seen := self._going_on(event)) is not None]
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
        exchange = self._exchange
        exchange.so_far(broken.counted())
        answering, used = exchange.answering(), exchange.break_off(error)
        broken.first, broken.decoder = (), None  # its counts have been taken
        self._before = used if self._before is None else self._before.plus(used)
        for upstream in self._in_turn(broken.visit.target, error):
            stream = await self._resumed_by(upstream, text)
            if stream is not None:
                self.happened = True
                return stream
        exchange.choose(*answering)  # what the client has is this one's
        return None

    def _in_turn(self, failed: Upstream, error: UpstreamError) -> Sequence[Upstream]:
        """Return who may go on, first those that have not broken off; who fell silent is not asked again."""
        self._broken.add(failed.id)
        others = [each for each in self._upstreams if each.id != failed.id]
        others.sort(key=lambda each: each.id in self._broken)
        return others if error.timeout else [*others, failed]

    async def _resumed_by(self, upstream: Upstream, text: str) -> OpenStream | None:
        """Ask one upstream, in each of its ways as long as it only refuses the way."""
        for call, known in self._ways(upstream, text):
            if len(self._exchange.completion.attempts) >= self._max_attempts:
                return None
            try:
                stream = await self._open(call, upstream)
            except (UpstreamError, GatewayError) as problem:
                if isinstance(problem, Inexpressible) or _is_refusal(problem):
                    continue
                return None
            self._known = known
            return stream
        return None

    def _ways(self, upstream: Upstream, text: str) -> Iterator[tuple[Call, Known]]:
        # A beginning that ends in blanks is refused, or continued with more of them.
        beginning, instruction = text.rstrip(), {"role": "user", "content": GO_ON}
        dialect = DIALECTS[upstream.account.dialect]
        if dialect.prefills:
            repeated = beginning if dialect.repeats_prefill else ""
            yield self._call_with([_said(beginning)], text), Known(repeated, blanks=text != beginning)
        yield self._call_with([_said(text), instruction], text), NOTHING_KNOWN

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

    def _going_on(self, event: Event) -> Event | None:
        """Return a later stream's event as it follows what the client has; None if it tells nothing new.

        Who speaks has been said, and the blanks that it might begin with have been too.
        """
        if event.kind not in (Kind.META, Kind.CONTENT) or (event.__class__ is TextEvent and not self._known):
            return event
        choices = [self._following(choice) for choice in event.choices]
        if event.usage is None and not any(choice["delta"] for choice in choices):
            return None
        return Event(event.kind, choices=choices, usage=event.usage, finish_reasons=event.finish_reasons)

    def _following(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        delta = {name: value for name, value in (choice.get("delta") or {}).items() if name != "role"}
        content = delta.get("content")
        if isinstance(content, str):
            if self._known:
                content, self._known = self._known.left_out_of(content)
            delta["content"] = content
            if not content:
                del delta["content"]
        return {**choice, "delta": delta}

    def _in_all(self, event: Event) -> Event:
        if event.usage is None or self._before is None:
            return event
        return Event(
            event.kind,
            choices=event.choices,
            usage=event.usage.plus(self._before),
            finish_reasons=event.finish_reasons,
        )


def _is_refusal(problem: UpstreamError | GatewayError) -> bool:
    return isinstance(problem, UpstreamError) and problem.owner is Owner.CALLER


def _said(text: str) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text}
