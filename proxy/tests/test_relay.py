import asyncio

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, TEXT_STREAM, chunk, make_call, make_upstream, sse, usage_chunk
from providers.wires import MESSAGES
from proxy import relay as module
from proxy.attempt import OpenStream
from proxy.exchange import Exchange
from proxy.relay import relay, replayed
from proxy.renderers import ChatRenderer, SimpleRenderer
from proxy.tests.fakes import FakeMeter, FakeSpool, FakeVisit, Log, make_completion, silent, streams

HELLO = sse(chunk({"content": "Hello"}))
THERE = sse(chunk({"content": " there"}))
END = sse(chunk(finish="stop")) + DONE
GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")


class Relaying:
    """A stream at its first content, and what becomes of it."""

    def __init__(self, first, *rest, renderer=ChatRenderer, wants_usage=True):
        self.spool, self.kept, self.wholes = FakeSpool(), [], []
        self.exchange = Exchange(make_completion(), spool=self.spool, meter=FakeMeter(), log_request=silent)
        self.exchange.recorded = True
        self.attempt = self.exchange.open_attempt(make_upstream())
        self.exchange.close_attempt(self.attempt, status=200)
        self.response = streams(*rest) if rest else streams(b"")
        decoder = DIALECTS["openai"].stream(make_call(stream=True))
        self.visit = FakeVisit(make_upstream())
        stream = self.stream = OpenStream(decoder.feed(first), self.response, decoder, self.visit)
        options = {"wants_usage": wants_usage} if renderer is ChatRenderer else {}
        self.pieces = relay(
            stream,
            renderer=renderer(self.exchange.completion, **options),
            exchange=self.exchange,
            whole=lambda _: self.wholes.append(list(self.spool.kinds)),
            keep=self.kept.extend,
        )

    async def all(self):
        return [piece async for piece in self.pieces]

    @property
    def outcome(self):
        done = self.spool.done
        return done["status"], done["outcome"], done["error_code"]


async def test_it_relays_piece_by_piece():
    relaying = Relaying(HELLO, THERE, END)
    assert await relaying.all() == [HELLO, THERE, END]
    assert relaying.outcome == (200, "ok", "")
    assert b"".join(event.raw for event in relaying.kept) == HELLO + THERE + END


async def test_it_spools_before_the_last_bytes_go_out():
    relaying = Relaying(HELLO, END)
    assert await anext(relaying.pieces) == HELLO
    assert relaying.spool.kinds == ["open"]
    assert await anext(relaying.pieces) == END
    assert relaying.spool.kinds == ["open", "done"]
    assert relaying.wholes == [["open"]]
    with pytest.raises(StopAsyncIteration):
        await anext(relaying.pieces)
    assert len(relaying.wholes) == 1
    assert not relaying.response.closed


async def test_it_relays_a_stream_that_is_whole_at_once():
    relaying = Relaying(TEXT_STREAM)
    assert await relaying.all() == [TEXT_STREAM]
    assert relaying.outcome == (200, "ok", "")


async def test_it_adds_the_end_that_the_vendor_forgot():
    relaying = Relaying(HELLO, sse(chunk(finish="stop")))
    assert b"".join(await relaying.all()) == HELLO + sse(chunk(finish="stop")) + DONE
    assert relaying.outcome == (200, "ok", "")


async def test_it_reads_nothing_after_the_end():
    relaying = Relaying(HELLO, END + HELLO, GONE)
    assert await relaying.all() == [HELLO, END]
    assert relaying.outcome == (200, "ok", "")


async def test_it_sends_nothing_for_what_the_client_did_not_ask_for():
    relaying = Relaying(HELLO, sse(chunk(finish="stop")), sse(usage_chunk()), DONE, wants_usage=False)
    assert await relaying.all() == [HELLO, sse(chunk(finish="stop")), DONE]
    usage = relaying.exchange.completion.usage
    assert usage is not None
    assert usage.total == 7


@pytest.mark.parametrize(
    ("rest", "code", "status"),
    [
        ((THERE, GONE), "upstream_reset", 502),
        ((GONE,), "upstream_reset", 502),
        ((THERE,), "upstream_invalid_response", 502),
        ((DONE,), "upstream_invalid_response", 502),
        ((THERE + b'data: {"error": {"message": "overloaded", "code": 503}}\n\n',), "503", 503),
        ((b'data: {"error": {"message": "slow", "code": 429}}\n\n',), "429", 429),
        (
            (UpstreamError("silent", owner=Owner.HEALTH, code="upstream_timeout", timeout="idle"),),
            "upstream_timeout",
            504,
        ),
    ],
)
async def test_it_tells_the_truth_about_a_stream_that_broke_off(rest, code, status):
    relaying = Relaying(HELLO, *rest)
    *sent, last = await relaying.all()
    assert b"".join(sent).startswith(HELLO)
    assert DONE not in b"".join([*sent, last])
    assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == code
    assert relaying.outcome == (status, "error", code)
    assert relaying.response.closed
    assert relaying.wholes == []
    assert (relaying.attempt.outcome, bool(relaying.attempt.error)) == (code, True)
    # What was produced is billed.
    assert relaying.spool.done["usage"]["estimated"] is True
    assert relaying.spool.done["cost_nanousd"] > 0


async def test_it_sends_what_came_before_the_error_in_the_same_bytes():
    relaying = Relaying(HELLO, THERE + b'data: {"error": {"message": "overloaded"}}\n\n')
    first, second, _ = await relaying.all()
    assert (first, second) == (HELLO, THERE)


async def test_it_says_nothing_of_our_credential_when_a_stream_breaks_off():
    quoting = UpstreamError("bad key sk-secret", owner=Owner.CREDENTIAL, code="upstream_auth_failed")
    relaying = Relaying(HELLO, quoting)
    assert b"sk-secret" not in b"".join(await relaying.all())
    assert b"sk-secret" not in orjson.dumps(relaying.spool.lines)


async def test_it_drops_the_vendor_when_the_client_leaves_between_two_pieces():
    relaying = Relaying(HELLO, THERE, END)
    await anext(relaying.pieces)
    await relaying.pieces.aclose()
    assert relaying.response.closed
    assert relaying.outcome == (499, "cancelled", "client_left")
    assert relaying.spool.done["usage"]["completion"] == 1


async def test_it_drops_the_vendor_when_the_client_leaves_while_waiting():
    relaying = Relaying(HELLO, asyncio.get_running_loop().create_future(), END)
    await anext(relaying.pieces)
    waiting = asyncio.ensure_future(anext(relaying.pieces))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert relaying.response.closed
    assert relaying.outcome == (499, "cancelled", "client_left")


async def test_it_has_ended_well_when_the_client_leaves_with_the_last_piece():
    relaying = Relaying(HELLO, END)
    await anext(relaying.pieces)
    await anext(relaying.pieces)
    await relaying.pieces.aclose()
    assert relaying.outcome == (200, "ok", "")
    assert not relaying.response.closed


async def test_it_tells_the_truth_about_a_fault_of_ours(monkeypatch):
    log = Log()
    monkeypatch.setattr(module, "log", log)
    relaying = Relaying(HELLO, ZeroDivisionError())
    *_, last = await relaying.all()
    assert b"internal_error" in last
    assert relaying.outcome == (500, "error", "internal_error")
    assert relaying.response.closed
    assert log.problems == ["relay"]


async def test_it_records_the_error_that_a_broken_chunk_is_to_the_simple_chat():
    """The chunk is only parsed when its text is needed: that is before the stream is called whole."""
    relaying = Relaying(HELLO, b"data: {broken}\n\n" + END, renderer=SimpleRenderer)
    *_, last = await relaying.all()
    assert b'"error"' in last
    assert relaying.outcome == (502, "error", "upstream_invalid_response")
    assert relaying.wholes == []


async def test_it_keeps_nothing_where_nothing_is_to_be_kept():
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    exchange = Exchange(make_completion(), spool=FakeSpool(), meter=FakeMeter(), log_request=silent)
    stream = OpenStream(decoder.feed(TEXT_STREAM), streams(), None, FakeVisit(make_upstream()))
    renderer = ChatRenderer(exchange.completion, wants_usage=True)
    pieces = relay(stream, renderer=renderer, exchange=exchange, whole=lambda _: None)
    assert [piece async for piece in pieces] == [TEXT_STREAM]


async def test_it_replays_in_one_piece():
    assert [piece async for piece in replayed(TEXT_STREAM)] == [TEXT_STREAM]


async def test_it_bills_the_prompt_as_the_vendor_counted_it_when_the_client_leaves():
    events: list[dict[str, object]] = [
        {
            "type": "message_start",
            "message": {"usage": {"input_tokens": 40, "cache_read_input_tokens": 900, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}},
    ]
    said = b"".join(b"event: %b\n" % str(each["type"]).encode() + sse(each) for each in events)
    for call in (make_call(stream=True), make_call(stream=True, wire=MESSAGES)):
        decoder = DIALECTS["anthropic"].stream(call)
        relaying = Relaying(HELLO, END)
        decoder.feed(said)
        relaying.stream.decoder = decoder
        await anext(relaying.pieces)
        await relaying.pieces.aclose()
        usage = relaying.spool.done["usage"]
        assert (usage["prompt"], usage["cached"], usage["estimated"]) == (940, 900, True)
