import asyncio
import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import forwarded_body
from proxy.errors import BadRequest, GatewayError
from proxy.forwarded_body import PEEK_BYTES, ArrivingForm, WholeBody
from proxy.incoming import Incoming
from proxy.multipart import FormScanner
from proxy.tests.fakes import Client
from proxy.tests.test_multipart import BOUNDARY, END, FORM, part

# ---------------------------------------------------------------- whole


def whole(body, **options):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return WholeBody(raw, "", **{"names_model": True, **options})


def test_it_sends_a_body_as_it_came_when_the_model_keeps_its_name():
    body = whole(b'{ "model": "m", "n": 1.0 }')
    assert body.content("m") == b'{ "model": "m", "n": 1.0 }'
    assert body.length("m") == 26


def test_it_writes_the_vendors_name_into_it():
    body = whole({"input": "x", "model": "main/m"})
    assert body.model == "main/m"
    assert body.content("m") == b'{"input":"x","model":"m"}'
    assert body.length("m") == 25


def test_it_writes_a_body_anew_that_could_be_read_in_two_ways():
    body = whole(b'{"model": "forbidden", "model": "m"}')
    assert (body.model, body.content("m")) == ("m", b'{"model":"m"}')


def test_it_adds_no_model_where_there_is_none():
    assert (whole({"input": "x"}).model, whole({"input": "x"}).content("")) == ("", b'{"input":"x"}')
    assert whole(b'{"input": 1, "input": 2}').content("") == b'{"input":2}'
    assert whole({"model": None}).content("") == b'{"model":null}'


@pytest.mark.parametrize("body", [b"", b"[]", b"{", {"model": 1}, {"model": " "}, {"model": "x" * 300}])
def test_it_refuses_what_names_no_model_properly(body):
    with pytest.raises(BadRequest):
        whole(body)


@pytest.mark.parametrize("raw", [b"", b"anything at all"])
def test_it_does_not_read_what_is_not_routed_by_its_body(raw):
    body = whole(raw, names_model=False)
    assert (body.model, body.content("")) == ("", raw or None)


# ---------------------------------------------------------------- arriving


def arriving(pieces, *, scan=True, declared=None, limit=0):
    incoming = Incoming(Client("POST", "/", pieces).receive)
    scanner = FormScanner(BOUNDARY) if scan else None
    return ArrivingForm(incoming, "multipart/form-data", scanner=scanner, declared=declared, limit=limit)


async def sent(form, model):
    content = form.content(model)
    return content if isinstance(content, bytes) else b"".join([piece async for piece in content])


def large(name=b"main/whisper-1"):
    return part(b"model", name) + part(b"file", b"s" * (2 * PEEK_BYTES)) + END


def cut(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


@given(st.lists(st.integers(0, len(FORM)), max_size=5))
async def test_it_writes_the_vendors_name_into_a_form_however_it_is_cut(cuts):
    bounds = [0, *sorted(cuts), len(FORM)]
    pieces = [FORM[start:stop] for start, stop in itertools.pairwise(bounds)]
    form = arriving(pieces, declared=len(FORM))
    assert await form.peek()
    assert form.model == "main/whisper-1"
    expected = FORM.replace(b"main/whisper-1", b"whisper-1")
    length = form.length("whisper-1")
    assert await sent(form, "whisper-1") == expected
    assert length == len(expected)


@pytest.mark.parametrize("at", range(len(FORM)))
async def test_it_does_so_at_every_byte(at):
    form = arriving([FORM[:at], FORM[at:]])
    await form.peek()
    assert await sent(form, "a-much-longer-name") == FORM.replace(b"main/whisper-1", b"a-much-longer-name")


async def test_it_reads_no_further_than_the_model():
    body = large()
    form = arriving(cut(body, 1000), declared=len(body))
    await form.peek()
    assert form._taken == 1000
    assert form.repeatable
    assert form.length("whisper-1") == len(body) - 5
    assert await sent(form, "whisper-1") == body.replace(b"main/", b"")
    assert not form.repeatable


async def test_it_can_be_sent_again_while_all_of_it_is_kept():
    form = arriving([FORM])
    await form.peek()
    assert await sent(form, "a") == FORM.replace(b"main/whisper-1", b"a")
    assert await sent(form, "main/whisper-1") == FORM
    assert form.repeatable
    assert form.length("a") == len(FORM) - 13


async def test_it_does_not_know_the_size_of_what_is_not_declared():
    form = arriving(cut(large(), 1000))
    await form.peek()
    assert form.length("whisper-1") is None


async def test_it_looks_for_a_model_no_further_than_it_may():
    late = part(b"file", b"s" * (2 * PEEK_BYTES)) + part(b"model", b"m") + END
    form = arriving(cut(late, 1000))
    assert not await form.peek()
    assert form._taken < PEEK_BYTES + 1000
    assert await sent(form, "") == late
    none = arriving([part(b"file", b"s") + END])
    assert await none.peek()
    assert none.model == ""


async def test_it_stops_at_a_second_model_wherever_it_stands():
    form = arriving(cut(large()[: -len(END)] + part(b"model", b"other") + END, 1000))
    await form.peek()
    with pytest.raises(BadRequest, match="twice"):
        await sent(form, "whisper-1")


async def test_it_sends_a_form_on_unread_where_no_model_matters():
    form = arriving([b"no form ", b"at all" * PEEK_BYTES], scan=False, declared=8 + 6 * PEEK_BYTES)
    assert await form.peek()
    assert (form._taken, form.length("")) == (0, 8 + 6 * PEEK_BYTES)
    assert await sent(form, "") == b"no form " + b"at all" * PEEK_BYTES
    assert not form.repeatable


@pytest.mark.parametrize("declared", [len(FORM), None])
async def test_it_can_send_a_small_form_again_though_it_comes_in_pieces(declared):
    form = arriving(cut(FORM, 100), declared=declared)
    assert await form.peek()
    assert isinstance(form.content(""), bytes) is (declared is not None)
    for name in (b"a", b"another"):
        assert await sent(form, name.decode()) == FORM.replace(b"main/whisper-1", name)
        assert form.repeatable
    assert form.length("a") == len(FORM) - 13


async def test_it_refuses_more_than_the_limit_at_once_or_as_soon_as_it_comes():
    with pytest.raises(GatewayError, match="MAX_UPLOAD_BYTES") as refused:
        arriving([b""], declared=11, limit=10)
    assert refused.value.status == 413
    assert await sent(arriving([b"x" * 5] * 2, scan=False, limit=10), "") == b"x" * 10
    with pytest.raises(GatewayError, match="MAX_UPLOAD_BYTES"):
        await sent(arriving([b"x" * 6] * 2, scan=False, limit=10), "")


@pytest.mark.parametrize("scan", [True, False])
async def test_it_does_not_wait_for_a_client_that_sends_nothing_more(monkeypatch, scan):
    """Its upload holds a connection to the vendor that others may be waiting for."""
    monkeypatch.setattr(forwarded_body, "STALL_S", 0.01)
    client = Client("POST", "/")
    client._pieces = [{"type": "http.request", "body": b"--", "more_body": True}]
    incoming = Incoming(client.receive)
    scanner = FormScanner(BOUNDARY) if scan else None
    form = ArrivingForm(incoming, "multipart/form-data", scanner=scanner, declared=None, limit=0)
    with pytest.raises(GatewayError, match="nothing of the form") as refused:
        await (form.peek() if scan else sent(form, ""))
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")
    departure = asyncio.ensure_future(incoming.departure())
    client.left.set()
    assert (await departure)["type"] == "http.disconnect"
