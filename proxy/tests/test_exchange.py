from typing import Any, cast

import orjson
import pytest

from providers.errors import Owner, UpstreamError
from providers.events import Answer, Event, Kind
from providers.tests.samples import make_call, make_upstream, sse
from providers.usage import Usage
from providers.wires import CHAT, COUNT_TOKENS
from proxy import exchange as module
from proxy.errors import BadRequest, RateLimited
from proxy.exchange import Exchange
from proxy.flights import Flights
from proxy.tests.fakes import FakeMeter, FakeSpool, Log, make_completion

# One and two dollars per million tokens.
UPSTREAM = make_upstream()
UNPRICED = make_upstream(rates=None)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(module, "log", recorder)
    return recorder


class Running(Exchange):
    """An exchange with what it writes to."""

    def __init__(self, *observers, **fields):
        self.spool, self.meter = FakeSpool(), FakeMeter()
        self.logged = []
        super().__init__(
            make_completion(**fields),
            spool=self.spool,
            meter=self.meter,
            observers=observers,
            log_request=self._logged,
        )
        self.recorded = True

    def _logged(self, record, attempts, prompt):
        self.logged.append({**orjson.loads(record), "attempts": attempts, "prompt": prompt})


def content(text="x"):
    return Event(Kind.CONTENT, raw=sse({"x": text}), wire=CHAT, choices=[])


def answered(running, upstream=UPSTREAM, *, error=None, status=200):
    attempt = running.open_attempt(upstream)
    running.close_attempt(attempt, status=status, error=error)
    return attempt


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda each: each.end_ok(), (200, "ok", "")),
        (lambda each: each.end_error(BadRequest("no", code="bad_n")), (400, "error", "bad_n")),
        (lambda each: each.end_error(BadRequest("no")), (400, "error", "invalid_request_error")),
        (lambda each: each.end_error(RateLimited("no")), (429, "error", "rate_limit_exceeded")),
        (lambda each: each.end_cancelled(), (499, "cancelled", "client_left")),
    ],
)
def test_it_ends_once_whatever_follows(end, told):
    seen = []
    running = Running(seen.append)
    end(running)
    for further in (running.end_cancelled, running.end_ok, lambda: running.end_error(BadRequest("late"))):
        further()
    completion = running.completion
    assert (completion.status, completion.outcome, completion.error_code) == told
    assert running.ended
    assert running.spool.kinds == ["done"]
    assert running.meter.in_flight == 0
    assert running.meter.completions == seen == [completion]
    assert len(running.logged) == 1


def test_it_writes_its_line_before_anybody_else_hears_of_the_end():
    order = []
    running = Running(lambda _: order.append(list(running.spool.kinds)))
    running.end_ok()
    assert order == [["done"]]


def test_it_records_nothing_of_who_is_not_known():
    running = Running()
    running.recorded = False
    running.end_error(BadRequest("no"))
    assert running.spool.lines == []
    assert running.meter.completions


def test_it_lets_no_observer_break_an_answer(log):
    seen = []

    def broken(_):
        raise ZeroDivisionError

    Running(broken, seen.append).end_ok()
    assert len(seen) == 1
    assert log.problems == ["completion_observer"]


def test_it_logs_one_line():
    running = Running(key_prefix="sk-gw-abcdef")
    running.take(make_call(model="fast"))
    running.end_error(BadRequest("no", code="bad"))
    (line,) = running.logged
    assert (line["request_id"], line["id"], line["key"]) == ("req-1", "boot-0-1", "sk-gw-abcdef")
    assert (line["requested_model"], line["status"], line["error_code"]) == ("fast", 400, "bad")
    assert (line["attempts"], line["prompt"]) == (0, "")
    shown = Running()
    shown.prompt = "hello"
    shown.end_ok()
    assert shown.logged[0]["prompt"] == "hello"


def test_it_says_the_same_in_log_and_spool():
    running = Running(key_prefix="sk-gw-abcdef", key_id=1)
    answered(running)
    running.end_ok()
    (logged,), done = running.logged, running.spool.done
    assert {name: value for name, value in logged.items() if name not in {"attempts", "prompt"}} == {
        name: value for name, value in done.items() if name not in {"attempts", "kind"}
    }


# ---------------------------------------------------------------- attempts


def test_it_books_nothing_for_a_count_that_a_crash_interrupts():
    """What the vendor counts is free."""
    running = Running()
    running.take(make_call()._replace(wire=COUNT_TOKENS, raw=b"x" * 1000))
    running.open_attempt(UPSTREAM)
    assert running.spool.lines[0]["estimate"]["prompt"] == 0


def test_it_spools_that_a_call_has_started_before_it_is_made():
    running = Running(key_id=3)
    running.take(make_call(stream=True))
    running.open_attempt(UPSTREAM)
    (line,) = running.spool.lines
    assert (line["kind"], line["id"], line["key_id"], line["provider"]) == ("open", "boot-0-1", 3, "openai")
    assert line["estimate"]["prompt"] > 0
    assert line["estimate"]["estimated"] is True
    assert (running.completion.provider, running.completion.model) == ("openai", "gpt-4o")
    assert running.completion.stream


def test_it_tells_each_attempts_story():
    running = Running()
    answered(running, make_upstream("a"), error=UpstreamError("their words", owner=Owner.HEALTH, status=503))
    answered(
        running, make_upstream("b"), error=UpstreamError("no", owner=Owner.HEALTH, code="upstream_reset")
    )
    answered(running, make_upstream("c"))
    running.end_ok()
    attempts = running.spool.done["attempts"]
    assert [(each["provider"], each["status"], each["outcome"], each["error"]) for each in attempts] == [
        ("a", 503, "health", "their words"),
        ("b", None, "upstream_reset", "no"),
        ("c", 200, "ok", ""),
    ]
    assert running.spool.done["provider"] == "c"


def test_it_keeps_a_vendors_words_on_our_credential_to_itself():
    running = Running()
    answered(running, error=UpstreamError("Incorrect key: sk-secret", owner=Owner.CREDENTIAL, status=401))
    running.end_error(BadRequest("no"))
    assert b"sk-secret" not in orjson.dumps(running.spool.lines)


def test_it_ends_an_attempt_that_was_still_waiting():
    running = Running()
    running.open_attempt(UPSTREAM)
    running.end_cancelled()
    (attempt,) = running.spool.done["attempts"]
    assert (attempt["outcome"], attempt["status"]) == ("cancelled", None)


def test_it_counts_what_is_the_gateways_own_share():
    running = Running()
    attempt = running.open_attempt(UPSTREAM)
    running.close_attempt(attempt, status=200)
    running.end_ok()
    completion = running.completion
    assert completion.overhead_ms is not None
    assert 0 <= completion.overhead_ms <= completion.latency_ms
    assert completion.overhead_ms == pytest.approx(completion.latency_ms - attempt.latency_ms, abs=1e-6)
    # Of a stream only until its first content: what follows is the vendor's pace.
    streamed = Running()
    streamed.completion.ttft_ms = 0.0
    streamed.end_ok()
    assert streamed.completion.overhead_ms == 0.0


# ---------------------------------------------------------------- usage and cost


def test_it_bills_what_the_vendor_counted():
    running = Running()
    answered(running)
    running.see([content(), Event(Kind.FINISH, usage=Usage(10, 5), finish_reasons=["stop"])])
    running.end_ok()
    done = running.spool.done
    assert (done["usage"]["prompt"], done["usage"]["completion"], done["usage"]["estimated"]) == (
        10,
        5,
        False,
    )
    assert (done["cost_nanousd"], done["price_id"]) == (20_000, 7)
    assert running.finish_reasons == ["stop"]


def test_it_takes_the_last_of_running_counts_and_never_their_sum():
    running = Running()
    answered(running)
    for count in (1, 2, 3):
        running.see([Event(Kind.CONTENT, raw=b"x", usage=Usage(10, count))])
    running.end_ok()
    assert running.completion.usage == Usage(10, 3)


def test_it_keeps_an_explicit_zero():
    running = Running()
    answered(running)
    running.see([content(), Event(Kind.USAGE, usage=Usage(0, 0))])
    running.end_ok()
    assert running.completion.usage == Usage(0, 0)
    assert running.completion.cost_nanousd == 0


def test_it_estimates_and_says_so_when_the_vendor_counted_nothing():
    running = Running()
    running.take(make_call())
    answered(running)
    running.see([content(), content(), content()])
    running.end_ok()
    usage = running.completion.usage
    assert usage is not None
    assert usage.estimated
    assert usage.completion == 3
    assert usage.prompt == -(-len(make_call().raw) // 4)
    assert running.completion.cost_nanousd == usage.prompt * 1000 + usage.completion * 2000


def test_it_estimates_a_whole_answer_by_its_size():
    running = Running()
    answered(running)
    running.take_answer(Answer(body=b"x" * 400, wire=CHAT, usage=None, finish_reasons=["stop"]))
    running.end_ok()
    usage = running.completion.usage
    assert usage is not None
    assert (usage.completion, usage.estimated) == (100, True)
    assert running.finish_reasons == ["stop"]


def test_it_estimates_text_that_came_in_one_piece_by_its_size():
    running = Running()
    answered(running)
    text = "word " * 200
    running.see([Event(Kind.CONTENT, choices=[{"index": 0, "delta": {"content": text}}])])
    running.end_ok()
    usage = running.completion.usage
    assert usage is not None
    assert usage.completion >= len(text) // 4


@pytest.mark.parametrize(
    "end", [Exchange.end_cancelled, lambda each: each.end_error(BadRequest("broke off"))]
)
def test_it_bills_what_was_produced_before_it_broke_off(end):
    running = Running()
    running.take(make_call())
    answered(running)
    running.see([content()])
    end(running)
    usage = running.completion.usage
    assert usage is not None
    assert (usage.completion, usage.estimated) == (1, True)
    assert running.completion.cost_nanousd


@pytest.mark.parametrize(
    ("early", "begun", "expected"),
    [
        (Usage(0, 0), None, (True, 2, 0)),  # some servers count each chunk, with zeros until the end
        (Usage(90, 1), None, (90, 2, 0)),
        (Usage(90, 7), None, (90, 7, 0)),
        (None, Usage(900, 1, cached=800), (900, 2, 800)),
        (Usage(90, 1), Usage(900, 1), (90, 2, 0)),
    ],
)
def test_it_does_not_take_an_early_count_for_the_whole(early, begun, expected):
    running = Running()
    running.take(make_call())
    answered(running)
    running.see([content(), Event(Kind.CONTENT, raw=b"x", usage=early)])
    running.so_far(begun)
    running.end_cancelled()
    usage = running.completion.usage
    prompt, completion, cached = expected
    if prompt is True:
        prompt = -(-len(make_call().raw) // 4)
    assert usage == Usage(prompt, completion, cached=cached, estimated=True)


def test_it_keeps_the_whole_count_when_the_client_leaves_at_the_end():
    running = Running()
    answered(running)
    running.see([content(), Event(Kind.FINISH, usage=Usage(10, 5), finish_reasons=["stop"])])
    running.end_cancelled()
    assert running.completion.usage == Usage(10, 5)


def test_it_records_the_departure_of_a_client_whose_answer_was_made_for_others():
    running = Running()
    running.flight = Flights().start(b"key")
    running.flight.join()
    answered(running)
    running.take_answer(Answer(usage=Usage(prompt=10, completion=3), finish_reasons=["stop"], message={}))
    assert running.detain(lambda: None)
    running.end_ok()
    assert (running.completion.status, running.completion.outcome) == (499, "cancelled")
    assert running.completion.usage == Usage(prompt=10, completion=3)


def test_it_bills_the_prompt_of_a_call_whose_client_left_while_the_vendor_thought():
    running = Running()
    running.take(make_call())
    running.open_attempt(UPSTREAM)
    running.end_cancelled()
    usage = running.completion.usage
    assert usage is not None
    assert usage.prompt > 0
    assert usage.completion == 0


def test_it_bills_nothing_for_what_no_vendor_did():
    failed = Running()
    failed.take(make_call())
    answered(failed, error=UpstreamError("no", owner=Owner.HEALTH, status=503))
    failed.end_error(BadRequest("no"))
    refused = Running()
    refused.end_error(BadRequest("no"))
    for running in (failed, refused):
        assert running.completion.usage is None
        assert running.completion.cost_nanousd is None


def test_it_says_unknown_and_never_zero_without_a_price():
    running = Running()
    answered(running, UNPRICED)
    running.see([content(), Event(Kind.USAGE, usage=Usage(10, 5))])
    running.end_ok()
    assert running.completion.usage == Usage(10, 5)
    assert (running.completion.cost_nanousd, running.completion.price_id) == (None, None)


def test_it_uses_the_price_of_when_the_request_arrived():
    running = Running(at=-1.0)
    answered(running)
    running.see([Event(Kind.USAGE, usage=Usage(10, 5))])
    running.end_ok()
    assert running.completion.cost_nanousd is None


@pytest.mark.parametrize("usage", [None, Usage(10, 5)])
def test_it_costs_nothing_to_answer_from_the_cache(usage):
    running = Running(cache="hit")
    running.usage = usage
    running.end_ok()
    assert (running.completion.usage, running.completion.cost_nanousd) == (usage, 0)


# ---------------------------------------------------------------- holds


class Holdings:
    """Counts what is held for further attempts."""

    def __init__(self):
        self.raised = 0

    async def raise_again(self, _completion):
        self.raised += 1

    def settle(self, completion):
        """Give it back."""


@pytest.mark.parametrize(("status", "charged", "raised"), [(503, False, 0), (None, False, 1), (400, True, 1)])
async def test_it_holds_more_for_another_attempt_if_one_before_it_may_have_cost_something(
    status, charged, raised
):
    """The last one is an answer that the vendor's content filter has stopped."""
    running = Running()
    running.holding = cast("Any", Holdings())
    error = UpstreamError("no", owner=Owner.HEALTH, status=status)
    attempt = running.open_attempt(UPSTREAM)
    if charged:
        running.spend(attempt, UPSTREAM, Usage(prompt=5, completion=2))
    running.close_attempt(attempt, status=None, error=error)
    await running.hold_for_another()
    assert running.holding.raised == raised
