"""One request while it runs: its Completion being filled, and the one place where it ends.

`Exchange.end` runs exactly once, on every exit. It is synchronous: it writes the spool line before
the last byte goes out and hands the Completion to metrics, log and observers.
"""

import time
from collections.abc import Callable, Sequence
from functools import reduce

import structlog

from providers import pricing
from providers import usage as usages
from providers.call import Call
from providers.errors import UpstreamError
from providers.events import Answer, Event, Kind, PassedEvent, TextEvent
from providers.own_credential import take_for_own
from providers.upstream import Upstream
from providers.usage import BYTES_PER_TOKEN, Usage, tokens_in
from providers.wires import COUNT_TOKENS
from proxy.assemble import answer_bytes, text_bytes
from proxy.completion import Attempt, Completion
from proxy.counting import prompt_bytes
from proxy.errors import GatewayError
from proxy.flights import Flight
from proxy.holding import Holding
from proxy.metrics import Meter
from proxy.middleware.chain import Watching
from proxy.own_credential import OwnCredential
from proxy.payload import Payload
from proxy.spool import Spool

log = structlog.get_logger()

CLIENT_LEFT = 499
HEDGED = "hedged"  # of an attempt: another one was faster
_BROKEN = frozenset({"error", "cancelled"})  # outcomes
Observer = Callable[[Completion], None]
# Takes the record and the number of attempts, and the prompt where prompts are logged.
RequestLog = Callable[[bytes, int, str], None]


class Exchange:
    """Times are milliseconds since the request arrived."""

    __slots__ = (
        "_attempt",
        "_began",
        "_begun",
        "_content_bytes",
        "_log_request",
        "_meter",
        "_observers",
        "_prompt_bytes",
        "_raw",
        "_rivals",
        "_segments",
        "_settled",
        "_spool",
        "abandoned",
        "completion",
        "ended",
        "finish_reasons",
        "flight",
        "holding",
        "own",
        "payload",
        "prompt",
        "recorded",
        "upstream",
        "usage",
        "waited_ms",
        "watching",
    )

    def __init__(
        self,
        completion: Completion,
        *,
        spool: Spool,
        meter: Meter,
        observers: Sequence[Observer] = (),
        log_request: RequestLog,
    ) -> None:
        """Start the clock."""
        self.completion = completion
        self.ended = self._settled = False
        self.recorded = False  # is there a caller to record it for?
        self.abandoned = False  # has the client gone, though the answer is still made for others?
        self.flight: Flight | None = None  # of those that others may follow
        self.holding: Holding | None = None  # of limits and budgets
        self.own: OwnCredential | None = None  # a vendor's key that the client brings
        self.watching: Watching | None = None  # response middlewares
        self.payload: Payload | None = None  # of callers who have what is said stored
        self.prompt = ""
        self.upstream: Upstream | None = None
        self._attempt: Attempt | None = None  # the one whose answer it is, as far as one knows
        self._segments: list[Attempt] = []  # others that have cost something
        self._rivals: list[tuple[Attempt, Upstream]] = []  # were under way when another was started
        self.usage: Usage | None = None
        self.finish_reasons: list[str] = []
        self.waited_ms = 0.0
        self._content_bytes = 0
        self._raw = b""
        self._prompt_bytes: int | None = None
        self._begun: Usage | None = None
        self._spool, self._meter, self._observers = spool, meter, observers
        self._log_request = log_request
        self._began = time.perf_counter()
        meter.in_flight += 1

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request arrived."""
        return (time.perf_counter() - self._began) * 1000

    def take(self, call: Call) -> None:
        """Note what the client asks for."""
        completion = self.completion
        completion.requested_model, completion.forced_model = call.model, ""
        if call.asked_model:
            completion.requested_model, completion.forced_model = call.asked_model, call.model
        completion.stream = call.stream
        if call.wire == COUNT_TOKENS:
            self.usage = Usage()  # https://platform.claude.com/docs/en/build-with-claude/token-counting: free
        else:
            self._raw = call.raw

    def target(self, upstream: Upstream) -> None:
        """Note whose answer it will be."""
        self.completion.provider, self.completion.model = upstream.account.name, upstream.model

    def open_attempt(self, upstream: Upstream) -> Attempt:
        """An upstream call starts: spool it, so that a crash does not lose it."""
        completion = self.completion
        self.target(upstream)
        if self._attempt is not None and self.upstream is not None and not self._attempt.outcome:
            self._rivals.append((self._attempt, self.upstream))
        self.upstream = upstream
        attempt = self._attempt = Attempt(
            provider=upstream.account.name, model=upstream.model, started_ms=self.elapsed_ms()
        )
        completion.attempts.append(attempt)
        if self.own is not None:
            completion.own_credential = bool(upstream.account.own_credential)
        line = completion.open_line(
            provider=upstream.account.name,
            model=upstream.model,
            prompt_estimate=tokens_in(self.prompt_size()),
        )
        self._spool.append_open(completion.id, line)
        return attempt

    def queued(self, seconds: float) -> None:
        """It has stood in line for a busy provider for so long."""
        self.completion.queue_ms = (self.completion.queue_ms or 0.0) + seconds * 1000

    def close_attempt(
        self, attempt: Attempt, *, status: int | None, error: UpstreamError | None = None
    ) -> None:
        """The attempt has its answer, its first content, or its failure."""
        attempt.latency_ms = self.elapsed_ms() - attempt.started_ms
        self.waited_ms += attempt.latency_ms
        attempt.status = status if error is None else error.status
        if error is None:
            attempt.outcome = "ok"
        else:
            if self.upstream is not None:
                take_for_own(error, self.upstream.account)
            attempt.fail(error)

    def answering(self) -> tuple[Attempt, Upstream]:
        """Return the attempt whose answer it is, as `choose` takes it."""
        assert self._attempt is not None
        assert self.upstream is not None
        return self._attempt, self.upstream

    def choose(self, attempt: Attempt, upstream: Upstream) -> None:
        """Of several attempts at a time, this one answers."""
        self.target(upstream)
        self.upstream, self._attempt = upstream, attempt

    def lose(self, attempt: Attempt, upstream: Upstream, usage: Usage | None) -> None:
        """Another attempt was faster. This one has cost its prompt at least: `usage`, or a guess."""
        if not attempt.latency_ms:
            attempt.latency_ms = self.elapsed_ms() - attempt.started_ms
        attempt.outcome = HEDGED
        self.spend(attempt, upstream, usage)

    def spend(self, attempt: Attempt, upstream: Upstream, usage: Usage | None) -> None:
        """An attempt that does not answer has cost `usage`, or its prompt at least."""
        usage = usage or Usage(prompt=tokens_in(self.prompt_size()), estimated=True)
        attempt.charge(usage, upstream.prices.at(self.completion.at))
        self._segments.append(attempt)

    def break_off(self, error: UpstreamError) -> Usage:
        """The stream has ended early, and another attempt may go on from there. Returns what it has used."""
        attempt, upstream = self.answering()
        attempt.fail(error)
        usage = self._estimated(self.usage or self._begun)
        self.spend(attempt, upstream, usage)
        self._meter.truncated(upstream.account.name)
        self._prompt_bytes = self.prompt_size() + self._content_bytes  # whoever goes on reads it too
        self.usage = self._begun = None
        self._content_bytes = 0
        self.finish_reasons = []
        return usage

    def broke_off(self, error: UpstreamError) -> None:
        """The stream has ended early, and with it the answer."""
        if not self._charged():  # nobody has tried to go on
            self._meter.truncated(self.completion.provider)
        if self.flight is not None:
            self.flight.error = error
        if self._attempt is not None:
            self._attempt.fail(error)

    def prompt_tokens(self) -> int:
        """Guess the tokens of the prompt."""
        return tokens_in(self.prompt_size())

    def weigh(self, size: int) -> None:
        """Take the prompt to be `size` bytes of text."""
        self._prompt_bytes = size

    def prompt_size(self) -> int:
        """Return the bytes of the prompt, with an inline image as so many as its tokens might have."""
        if self._prompt_bytes is None:
            self._prompt_bytes = prompt_bytes(self._raw)
        return self._prompt_bytes

    async def hold_for_another(self) -> None:
        """Hold what one more attempt may cost, if one before it may have cost that. Raises GatewayError."""
        if self.holding is not None and any(each.may_have_cost for each in self.completion.attempts):
            await self.holding.raise_again(self.completion)

    def take_answer(self, answer: Answer) -> None:
        """Take a whole answer's usage and finish reasons."""
        self.usage = answer.usage or self.usage
        self.finish_reasons = list(answer.finish_reasons)
        if answer.usage is None:
            self._content_bytes += answer_bytes(answer)

    def see(self, events: Sequence[Event]) -> None:
        """Take usage and finish reasons from stream events; usage is cumulative, never summed."""
        for event in events:
            if event.__class__ is PassedEvent:
                self._content_bytes += event.chunks * BYTES_PER_TOKEN
                continue
            if event.__class__ is TextEvent:
                self._content_bytes += len(event.text)
                continue
            if event.kind is Kind.CONTENT:
                # A chunk as the vendor sent it is about one token; one that we made may be all the text.
                self._content_bytes += BYTES_PER_TOKEN if event.raw else text_bytes(event.choices)
            if event.usage is not None:
                self.usage = event.usage
            if event.finish_reasons:
                self.finish_reasons += event.finish_reasons

    def so_far(self, usage: Usage | None) -> None:
        """Take the counts that the vendor has told of a stream which breaks off."""
        self._begun = usage

    def detain(self, give_up: Callable[[], object]) -> bool:
        """The client has gone: is the answer to be made all the same, for those who follow the flight?"""
        detained = self.flight is not None and self.flight.detain(give_up)
        self.abandoned = self.abandoned or detained
        return detained

    def end_ok(self) -> None:
        """The whole answer is in hand."""
        if self.abandoned:
            self.end_cancelled()
        else:
            self._end(200, "ok")

    def end_error(self, error: GatewayError) -> None:
        """The client gets `error` (as a status, or as an event in a stream that began with 200)."""
        if self.abandoned:
            self.end_cancelled()
        else:
            if self.payload is not None and not self.ended:
                self.payload.failed(error)
            self._end(error.status, "error", error.code or error.type)

    def end_cancelled(self) -> None:
        """The client left."""
        self._end(CLIENT_LEFT, "cancelled", "client_left")

    def _end(self, status: int, outcome: str, error_code: str = "") -> None:
        if self.ended:
            return
        self.ended = True
        if self.flight is not None:
            self.flight.end()
        completion = self.completion
        completion.status, completion.outcome, completion.error_code = status, outcome, error_code
        completion.latency_ms = self.elapsed_ms()
        self._close_open(outcome)
        until_ms = completion.latency_ms if completion.ttft_ms is None else completion.ttft_ms
        completion.overhead_ms = max(until_ms - self.waited_ms - (completion.queue_ms or 0.0), 0.0)
        if not self._settled:
            self.settle()
        record = completion.record()
        if self.recorded:
            self._spool.append_done(completion.id, completion.done_line(record))
            if self.payload is not None:
                self.payload.ended(completion, "" if self.own is None else self.own.secret)
        if self.holding is not None:
            self.holding.settle(completion)
        self._meter.in_flight -= 1
        self._meter.finished(completion)
        self._log_request(record, len(completion.attempts), self.prompt)
        for observe in self._observers:
            observe_safely(observe, completion)
        if self.watching is not None:
            self.watching.finished(completion)

    def _close_open(self, outcome: str) -> None:
        """End the attempts that were waiting when the client left, or we failed."""
        for attempt, upstream in self._rivals:
            if not attempt.outcome:
                self.spend(attempt, upstream, None)
        completion = self.completion
        for attempt in completion.attempts:
            if not attempt.outcome:
                attempt.latency_ms = completion.latency_ms - attempt.started_ms
                attempt.outcome = outcome
                self.waited_ms += attempt.latency_ms

    def settle(self) -> None:
        """Set usage and cost from what was seen. What the vendor did not count is estimated."""
        completion = self.completion
        self._settled = True
        if completion.cache == "hit":
            completion.usage, completion.cost_nanousd = self.usage, 0
            return
        usage, charged = self.usage, self._charged()
        broke_off = completion.outcome in _BROKEN and not (usage is not None and self.finish_reasons)
        if not charged and self._produced() and (usage is None or (broke_off and self._content_bytes)):
            usage = self._estimated(usage or self._begun)
        completion.usage = usage
        if usage is not None and self.upstream is not None:
            rates = self.upstream.prices.at(completion.at)
            if rates is not None:
                completion.price_id = rates.price_id
                completion.cost_nanousd = pricing.cost_nanousd(usage, rates)
        if self._segments:
            self._add_up()

    def _add_up(self) -> None:
        """Make usage and cost those of all attempts, and say in each what it has cost."""
        completion, attempt = self.completion, self._attempt
        if completion.usage is not None and attempt is not None:
            attempt.usage, attempt.price_id = completion.usage, completion.price_id
            attempt.cost_nanousd = completion.cost_nanousd
            self._segments.append(attempt)
        segments = self._segments
        completion.usage = reduce(Usage.plus, [each.usage for each in segments if each.usage is not None])
        # One whose price nobody knows makes the whole unknown; no one price makes up a sum of several.
        costs, prices = [each.cost_nanousd for each in segments], {each.price_id for each in segments}
        completion.cost_nanousd = None if None in costs else sum(cost for cost in costs if cost is not None)
        completion.price_id = prices.pop() if len(prices) == 1 else None

    def _charged(self) -> bool:
        """Has the attempt that answers been charged already? Then it did not answer to the end."""
        return bool(self._segments) and any(each is self._attempt for each in self._segments)

    def _estimated(self, told: Usage | None) -> Usage:
        """Return a guess; what was `told` is true of the prompt, and the least of what was said since."""
        guess = usages.estimate(prompt_bytes=self.prompt_size(), completion_bytes=self._content_bytes)
        if told is None:
            return guess
        return told._replace(
            prompt=told.prompt or guess.prompt,
            completion=max(told.completion, guess.completion),
            estimated=True,
        )

    def _produced(self) -> bool:
        attempt = self._attempt
        return attempt is not None and (self._content_bytes > 0 or attempt.outcome in ("ok", "cancelled"))


def observe_safely(observe: Observer, completion: Completion) -> None:
    """Tell an observer. It is a guest: it never breaks an answer."""
    try:
        observe(completion)
    except Exception:
        log.exception("completion_observer")
