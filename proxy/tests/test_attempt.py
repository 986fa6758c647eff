import asyncio

import orjson
import pytest

from providers.call import Untranslatable
from providers.dialects import DIALECTS
from providers.errors import Owner, UnsupportedParameter, UpstreamError
from providers.events import Kind
from providers.tests.samples import DONE, TEXT_STREAM, answer, chunk, make_call, make_upstream, sse
from providers.upstream import Quirks, Timeouts, UpstreamRequest
from providers.wires import RESPONSES
from proxy.attempt import Attempting
from proxy.deadline import Deadlines
from proxy.errors import BadRequest, Inexpressible
from proxy.exchange import Exchange
from proxy.tests.fakes import (
    FakeMeter,
    FakeResponse,
    FakeSpool,
    FakeTransport,
    FakeVisit,
    make_completion,
    refuses,
    says,
    silent,
    streams,
    until,
)

UPSTREAM = make_upstream()
ROLE = sse(chunk({"role": "assistant", "content": ""}))
HELLO = sse(chunk({"content": "Hello"}))


class Trying(Attempting):
    """One request's attempts at a scripted vendor."""

    def __init__(self, *script, call=None, within_s=100.0):
        spool = FakeSpool()
        exchange = Exchange(make_completion(), spool=spool, meter=FakeMeter(), log_request=silent)
        self.vendor = FakeTransport(*script)
        super().__init__(
            call=call or make_call(stream=True),
            exchange=exchange,
            transport=self.vendor,
            deadlines=Deadlines(),
            deadline=asyncio.get_running_loop().time() + within_s,
        )

    @property
    def outcomes(self):
        return [(each.status, each.outcome) for each in self.exchange.completion.attempts]


def never():
    return asyncio.get_running_loop().create_future()


def visit(**fields):
    return FakeVisit(make_upstream(timeouts=Timeouts(**fields)) if fields else UPSTREAM)


async def fails(awaitable):
    with pytest.raises(UpstreamError) as raised:
        await awaitable
    return raised.value


# ---------------------------------------------------------------- whole answers


async def test_it_returns_a_whole_answer():
    trying = Trying(says("Hi."), call=make_call())
    answered = await trying.answer(visit())
    assert answered.message["choices"][0]["message"]["content"] == "Hi."
    assert trying.outcomes == [(200, "ok")]
    ((upstream, request),) = trying.vendor.requests
    assert upstream is UPSTREAM
    assert request.body == make_call().raw


@pytest.mark.parametrize(
    ("response", "status", "outcome"),
    [
        (lambda: refuses(429, code="slow"), 429, "slow"),
        (lambda: refuses(503), 503, "health"),
        (lambda: FakeResponse(b"", status=302), 302, "health"),
        (lambda: FakeResponse(b"<html>"), None, "upstream_invalid_response"),
        (lambda: FakeResponse(b'{"error": {"message": "no", "code": 503}}'), 503, "503"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_raises_what_the_vendor_did_wrong(response, status, outcome, stream):
    trying = Trying(response(), call=make_call(stream=stream))
    error = await fails(trying.stream(visit()) if stream else trying.answer(visit()))
    assert isinstance(error.owner, Owner)
    assert trying.outcomes == [(status, outcome)]


@pytest.mark.parametrize("stream", [False, True])
async def test_it_raises_what_the_transport_met(stream):
    problem = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")
    trying = Trying(problem, call=make_call(stream=stream))
    assert await fails(trying.stream(visit()) if stream else trying.answer(visit())) is problem
    assert trying.outcomes == [(None, "upstream_reset")]


async def test_it_ends_a_whole_answer_at_its_total_time():
    trying = Trying(never, FakeResponse(never(), b"{}"), call=make_call())
    for _ in range(2):
        error = await fails(trying.answer(visit(total_json_s=0.01)))
        assert (error.timeout, error.code) == ("total", "upstream_timeout")
    assert trying.vendor.responses[0].closed


async def test_it_ends_a_whole_answer_at_the_requests_deadline():
    trying = Trying(FakeResponse(never()), call=make_call(), within_s=0.01)
    assert (await fails(trying.answer(visit()))).timeout == "total"


@pytest.mark.parametrize("stream", [False, True])
async def test_it_drops_the_connection_when_the_client_leaves(stream):
    response = FakeResponse(
        never(), headers={"content-type": "text/event-stream" if stream else "application/json"}
    )
    trying = Trying(response, call=make_call(stream=stream))
    task = asyncio.create_task(trying.stream(visit()) if stream else trying.answer(visit()))
    await until(lambda: trying.vendor.responses)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert response.closed
    assert trying.outcomes == [(None, "")]


# ---------------------------------------------------------------- streams


async def test_it_holds_a_stream_at_its_first_content():
    response = streams(ROLE, HELLO, sse(chunk({"content": " there"})))
    trying = Trying(response)
    opened = await trying.stream(visit())
    assert [event.kind for event in opened.first] == [Kind.META, Kind.CONTENT]
    assert opened.decoder is not None
    assert await opened.response.piece() == sse(chunk({"content": " there"}))
    assert not response.closed
    assert trying.outcomes == [(200, "ok")]
    # First for the first content, then for the whole stream.
    names = [(name, idle_s) for name, _, idle_s in response.watched]
    assert names == [("first content", None), ("total", 60.0)]


async def test_it_takes_a_stream_that_is_over_at_once():
    trying = Trying(streams(TEXT_STREAM.removesuffix(DONE).rstrip()))
    opened = await trying.stream(visit())
    assert opened.decoder is not None or opened.first[-1].kind is Kind.DONE
    empty = Trying(streams(sse(chunk(finish="stop")).rstrip()))
    (*_, last) = (await empty.stream(visit())).first
    assert last.kind is Kind.DONE


@pytest.mark.parametrize(
    "pieces",
    [
        (ROLE,),
        (b"",),
        (b": ping\n\n" * 5,),
        (ROLE, DONE),
        (ROLE, b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
        (ROLE + HELLO + b'data: {"error": {"message": "overloaded", "code": 503}}\n\n',),
        (ROLE, UpstreamError("gone", owner=Owner.HEALTH)),
    ],
)
async def test_it_fails_while_nothing_has_been_sent(pieces):
    response = streams(*pieces)
    trying = Trying(response)
    error = await fails(trying.stream(visit()))
    assert error.retryable
    assert response.closed
    assert trying.outcomes[0][1] != "ok"


async def test_it_waits_for_the_head_only_until_the_first_content_is_due():
    trying = Trying(never)
    error = await fails(trying.stream(visit(first_content_s=0.01)))
    assert (error.timeout, error.code) == ("first content", "upstream_timeout")


async def test_it_lets_the_transport_watch_for_the_first_content():
    response = streams(HELLO)
    trying = Trying(response, within_s=5.0)
    before = asyncio.get_running_loop().time()
    await trying.stream(visit(first_content_s=3.0, total_s=4.0, idle_s=2.0))
    (_, first_by, _), (_, total_by, idle_s) = response.watched
    assert before + 3.0 <= first_by <= before + 3.5
    assert before + 4.0 <= total_by <= before + 4.5
    assert idle_s == 2.0


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_it_takes_a_whole_answer_for_a_stream(content_type):
    """Some servers answer a streaming request with JSON."""
    response = FakeResponse(orjson.dumps(answer("Hi.")), headers={"content-type": content_type})
    opened = await Trying(response).stream(visit())
    assert [event.kind for event in opened.first] == [Kind.CONTENT, Kind.FINISH, Kind.USAGE, Kind.DONE]
    assert opened.decoder is None


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": "Hi."}]},
        {"choices": [{"message": {"tool_calls": ["x"]}}]},
        {"choices": [{"message": {"tool_calls": 7}}]},
        {"choices": [{"message": {}, "index": []}]},
        {"choices": [{"message": {}, "logprobs": "x"}]},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_takes_an_answer_of_another_shape_for_a_broken_one(body, stream):
    trying = Trying(FakeResponse(orjson.dumps(body)), call=make_call(stream=stream))
    error = await fails(trying.stream(visit()) if stream else trying.answer(visit()))
    assert error.code == "upstream_invalid_response"


@pytest.mark.parametrize("choices", [[{"delta": "x"}], ["x"], 7, [{"delta": {"tool_calls": "x"}}]])
async def test_it_takes_a_chunk_of_another_shape_for_a_broken_stream(choices):
    error = await fails(Trying(streams(sse({"choices": choices}))).stream(visit()))
    assert error.code == "upstream_invalid_response"


# ---------------------------------------------------------------- headers


async def test_it_passes_the_vendors_limits_on_under_their_own_name():
    limits = {"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-tokens": "1s", "x-other": "1"}
    for stream in (False, True):
        response = FakeResponse(
            orjson.dumps(answer()), headers={"content-type": "application/json", **limits}
        )
        trying = Trying(response, call=make_call(stream=stream))
        await (trying.stream(visit()) if stream else trying.answer(visit()))
        assert trying.headers == {
            "x-upstream-ratelimit-remaining-requests": "9",
            "x-upstream-ratelimit-reset-tokens": "1s",
        }


async def test_it_forgets_the_limits_of_a_vendor_that_failed():
    trying = Trying(refuses(429, headers={"x-ratelimit-limit": "1"}), says(), call=make_call())
    await fails(trying.answer(visit()))
    assert trying.headers == {"x-upstream-ratelimit-limit": "1"}
    await trying.answer(visit())
    assert trying.headers == {}


class Picky:
    """A dialect that cannot say everything."""

    def __init__(self, *, drops=()):
        self._drops = drops

    def encode(self, *_):
        if not self._drops:
            raise UnsupportedParameter("logit_bias", "acme has no logit_bias")
        return UpstreamRequest("/x", b"{}", {}, dropped_params=self._drops)

    def __getattr__(self, name):
        return getattr(DIALECTS["openai"], name)


@pytest.mark.parametrize(
    ("drops", "told"),
    [
        (("logit_bias", "n"), "logit_bias, n"),
        (("a\r\nset-cookie: x", "n", "\0", "é", "x" * 101), "n"),
        (tuple("x" * 100), ", ".join("x" * 50)),
    ],
)
async def test_it_says_what_was_dropped(monkeypatch, drops, told):
    monkeypatch.setattr("proxy.attempt.DIALECTS", {"openai": Picky(drops=drops)})
    trying = Trying(says(), call=make_call())
    await trying.answer(visit())
    assert trying.headers == {"x-gateway-dropped-params": told}


@pytest.mark.parametrize("stream", [False, True])
async def test_it_refuses_a_call_that_the_dialect_cannot_express(monkeypatch, stream):
    monkeypatch.setattr("proxy.attempt.DIALECTS", {"openai": Picky()})
    trying = Trying(says(), call=make_call(stream=stream))
    with pytest.raises(BadRequest, match="no logit_bias") as raised:
        await (trying.stream(visit()) if stream else trying.answer(visit()))
    assert (raised.value.param, raised.value.code) == ("logit_bias", "unsupported_parameter")
    assert trying.vendor.requests == []
    assert trying.outcomes == []


async def test_it_leaves_out_what_the_row_says_to_drop_and_tells():
    extras = ("tools[0].type", "truncation")
    call = make_call(wire=RESPONSES)._replace(only_native=Untranslatable("tools[0].type", "no", extras))
    quirks = Quirks(responses=False)
    trying = Trying(says("Hi."), call=call)
    await trying.answer(FakeVisit(make_upstream(quirks=quirks, drop_unsupported_params=True)))
    assert trying.headers["x-gateway-dropped-params"] == "tools[0].type, truncation"
    with pytest.raises(Inexpressible) as refused:
        await Trying(says("Hi."), call=call).answer(FakeVisit(make_upstream(quirks=quirks)))
    assert refused.value.param == "tools[0].type"
    needed = call._replace(only_native=Untranslatable("previous_response_id", "no"))
    with pytest.raises(Inexpressible):
        await Trying(says("Hi."), call=needed).answer(
            FakeVisit(make_upstream(quirks=quirks, drop_unsupported_params=True))
        )
