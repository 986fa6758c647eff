import random

import orjson
import pytest

from providers import demo
from providers.demo import End
from providers.dialects import DIALECTS
from providers.errors import Owner
from providers.faults import COLUMNS, OFF, Faults, faults_of

WORDS = "one two three"


def ask(faults, path="/chat/completions", **fields):
    body = {"model": "echo", "messages": [{"role": "user", "content": WORDS}], **fields}
    reply = demo.respond(path, orjson.dumps(body), faults)
    return reply, list(reply.pieces)


def contents(pieces):
    """Return the texts of a stream's chunks: "" for one that has none, None for the end marker."""
    chunks = [piece.removeprefix(b"data: ").strip() for _, piece in pieces]
    return [
        None if chunk == b"[DONE]" else orjson.loads(chunk)["choices"][0]["delta"].get("content", "")
        for chunk in chunks
    ]


def refusal(faults, **fields):
    """Return what the OpenAI dialect makes of the demo's answer."""
    reply, pieces = ask(faults, **fields)
    body = b"".join(piece for _, piece in pieces)
    return reply, DIALECTS["openai"].error(reply.status, reply.headers, body)


# ---------------------------------------------------------------- the values


def test_its_columns_are_its_fields():
    assert set(COLUMNS) == {
        "fault_percent",
        "fault_status",
        "fault_retry_after_s",
        "fault_latency_ms",
        "fault_ttft_ms",
        "fault_cut_after",
        "fault_stall_after",
    }
    row = {"name": "demo", "fault_percent": 30.0, "fault_status": 503}
    assert faults_of(row) == Faults(percent=30.0, status=503)
    assert faults_of({}) == faults_of(OFF) == Faults()


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (Faults(), "none"),
        (Faults(percent=0, status=503), "none"),
        (Faults(retry_after_s=5), "none"),
        (
            Faults(percent=12.5, status=429, retry_after_s=5),
            "12.5 % of requests: status 429, Retry-After 5 s",
        ),
        (
            Faults(status=500, retry_after_s=5, latency_ms=20),
            "100 % of requests: 20 ms before the head, status 500",
        ),
        (
            Faults(ttft_ms=9, cut_after=0),
            "100 % of requests: 9 ms before the first content, cut after 0 pieces",
        ),
        (Faults(stall_after=4), "100 % of requests: silent after 4 pieces"),
    ],
)
def test_it_says_what_it_does_and_whether_it_does_anything(faults, told):
    assert str(faults) == told
    assert faults.on is (told != "none")


def test_it_strikes_the_share_that_was_asked_for():
    draws = random.Random(7)
    struck = sum(Faults(percent=30).strike(draws.random()) for _ in range(10_000))
    assert 2_800 < struck < 3_200
    assert not Faults(percent=0).strike(0.0)
    assert Faults(percent=100).strike(0.999_999)


# ---------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("status", "owner"),
    [
        (400, Owner.CALLER),
        (401, Owner.CREDENTIAL),
        (403, Owner.CREDENTIAL),
        (404, Owner.CALLER),
        (408, Owner.HEALTH),
        (422, Owner.CALLER),
        (429, Owner.CAPACITY),
        (500, Owner.HEALTH),
        (529, Owner.HEALTH),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_with_an_error_that_reads_as_the_vendors(status, owner, stream):
    reply, error = refusal(Faults(status=status), stream=stream)
    assert (reply.status, reply.content_type, reply.end) == (status, "application/json", End.WHOLE)
    assert (error.status, error.owner) == (status, owner)
    assert error.message == f"The demo provider fails on purpose, with status {status}."


@pytest.mark.parametrize(
    ("status", "told", "read"), [(429, 7, 7.0), (503, 0, 0.0), (503, None, None), (500, 7, None)]
)
def test_it_says_when_to_come_again_where_a_vendor_would(status, told, read):
    reply, error = refusal(Faults(status=status, retry_after_s=told))
    assert error.retry_after_s == read
    assert ("retry-after" in reply.headers) is (read is not None)


def test_it_fails_whatever_is_asked():
    assert demo.respond("/embeddings", b"no json", Faults(status=503)).status == 503
    assert ask(Faults(cut_after=0), model="gpt-4o")[0].end is End.WHOLE  # a 404 of its own


# ---------------------------------------------------------------- pauses and ends


def test_it_is_late_with_the_head_or_with_the_first_content():
    reply, pieces = ask(Faults(latency_ms=250, ttft_ms=1500), stream=True)
    assert reply.latency_s == 0.25
    assert [pause for pause, _ in pieces] == [0.0, 1.5, 0.0, 0.0, 0.0, 0.0]
    assert contents(pieces) == ["", "one ", "two ", "three", "", None]
    assert refusal(Faults(latency_ms=250, status=503))[0].latency_s == 0.25


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize(("field", "end"), [("cut_after", End.CUT), ("stall_after", End.STALLED)])
def test_it_ends_a_stream_after_as_many_pieces_of_content(field, end, after):
    reply, pieces = ask(Faults(**{field: after}), stream=True)
    assert reply.end is end
    assert contents(pieces) == ["", "one ", "two ", "three"][: after + 1]


@pytest.mark.parametrize("faults", [Faults(cut_after=4), Faults(stall_after=4)])
def test_it_leaves_shorter_answers_whole(faults):
    reply, pieces = ask(faults, stream=True)
    assert reply.end is End.WHOLE
    assert contents(pieces)[-1] is None
    reply, ((_, body),) = ask(faults)
    assert reply.end is End.WHOLE
    assert orjson.loads(body)["choices"][0]["message"]["content"] == WORDS


@pytest.mark.parametrize(
    ("faults", "end"), [(Faults(cut_after=2), End.CUT), (Faults(stall_after=2), End.STALLED)]
)
def test_it_breaks_a_json_answer_off_in_its_middle(faults, end):
    reply, ((_, part),) = ask(faults)
    _, ((_, whole),) = ask(Faults())
    assert (reply.status, reply.end) == (200, end)
    assert whole.startswith(part)
    assert len(part) == len(whole) // 2
    embedded = {"path": "/embeddings", "model": "embed", "input": "hi"}
    assert ask(Faults(cut_after=1), **embedded)[0].end is End.CUT


def test_it_is_cut_where_it_should_be_silent_too():
    assert ask(Faults(cut_after=1, stall_after=1))[0].end is End.CUT
