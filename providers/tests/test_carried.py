import base64
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.carried import carried, carry, without_carried
from providers.dialects import DIALECTS
from providers.tests.samples import make_call, make_upstream
from providers.wires import RESPONSES

SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "xyz"}
MINE = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": carry([SIGNED])}
THEIRS = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
SIGNATURE = {"google": {"thought_signature": "abc"}}


def test_it_gives_back_what_the_client_carried():
    assert carried(carry([SIGNED, REDACTED])) == [SIGNED, REDACTED]
    assert carried(carry([])) == []
    assert carried(carry([{**SIGNED, "more": {}}, {"type": "text"}, None])) == [SIGNED]


@pytest.mark.parametrize("content", [None, 5, "", "gAAAA", "gw2.e30="])
def test_it_leaves_what_is_anothers(content):
    assert carried(content) is None


@pytest.mark.parametrize(
    "inside",
    [
        "no",
        base64.b64encode(b"no").decode(),
        *(base64.b64encode(orjson.dumps(each)).decode() for each in ({}, [], {"thinking_blocks": 5})),
    ],
)
def test_it_refuses_what_it_never_gave(inside):
    with pytest.raises(ValueError, match="given to the client"):
        carried("gw1." + inside)


@given(st.text())
def test_it_survives_any_content(text):
    with suppress(ValueError):
        assert carried("gw1." + text) is not None


def test_it_shows_openai_nothing_of_it():
    plain = {"model": "gpt-5", "input": [{"role": "user", "content": "hi"}, THEIRS, CALL, "words"]}
    sent = {
        **plain,
        "input": [plain["input"][0], MINE, THEIRS, {**CALL, "extra_content": SIGNATURE}, "words"],
    }
    assert without_carried(sent, orjson.dumps(sent)) == plain
    assert without_carried(plain, orjson.dumps(plain)) is plain
    text = {"model": "gpt-5", "input": "gw1. extra_content"}
    assert without_carried(text, orjson.dumps(text)) is text
    call = make_call(wire=RESPONSES)._replace(sent=sent, raw=orjson.dumps(sent))
    request = DIALECTS["openai"].encode(call, make_upstream(model="gpt-5"))
    assert orjson.loads(request.body) == plain
    assert call.sent["input"][1] == MINE
