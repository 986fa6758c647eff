"""What reaches the vendor: what the gateway judged, as it came where it may, and nothing of the client."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bad_requests import CHAT
from tests.gateway import Gateway, running_gateway
from tests.rawhttp import Reply, connection
from tests.upstream import RawVendor, bearer, chat, raw_vendor


@pytest.fixture(scope="module")
def transparent() -> Iterator[tuple[Gateway, RawVendor]]:
    """A gateway before a vendor that keeps what it was sent, byte for byte."""
    with (
        raw_vendor() as kept,
        running_gateway(
            {"CACHE_MODE": "none", "LLM_BASE_URL": kept.url, "LLM_API_KEY": "x", "DEFAULT_PROVIDER": "llm"}
        ) as served,
    ):
        yield served, kept


def sent_on(transparent: tuple[Gateway, RawVendor], body: bytes) -> tuple[Reply, bytes]:
    served, kept = transparent
    with connection(served) as opened:
        reply = opened.ask("POST", CHAT, bearer(served.key), body)
    return reply, kept.bodies.pop() if kept.bodies else b""


TWICE = {
    "model": b'{"model": "llm/secret", "messages": [{"role":"user","content":"x"}], "model": "raw"}',
    "model, escaped": rb'{"mod\u0065l": "secret", "messages": [{"role":"user"}], "model": "raw"}',
    "messages": b'{"model": "raw", "messages": [{"role":"user","content":"first"}], '
    b'"messages": [{"role":"user","content":"x"}]}',
    "stream": b'{"model": "raw", "stream": true, "messages": [{"role":"user"}], "stream": false}',
    "max_tokens": b'{"model": "raw", "max_tokens": 9999, "messages": [{"role":"user","content":"x"}], '
    b'"max_tokens": 1}',
    "a key inside": b'{"model": "raw", "messages": [{"role":"system","content":"x","role":"user"}]}',
}


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE.keys())
def test_it_sends_the_vendor_what_it_judged(transparent: tuple[Gateway, RawVendor], body: bytes) -> None:
    """Of a key that stands twice, another reader may take the other value."""
    reply, arrived = sent_on(transparent, body)
    if reply.status == 400:
        assert not arrived
        return
    assert reply.status == 200
    seen: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen.extend(name for name, _ in pairs if [key for key, _ in pairs].count(name) > 1)
        return dict(pairs)

    assert json.loads(arrived, object_pairs_hook=note) == json.loads(body)
    assert seen == []


def test_it_sends_an_unambiguous_body_as_it_came(transparent: tuple[Gateway, RawVendor]) -> None:
    body = b'{ "messages":[{"content":"caf\xc3\xa9 \\u2028 \\/","role":"user"}],  "model":"raw", "seed":1e2 }'
    reply, arrived = sent_on(transparent, body)
    assert reply.status == 200
    assert arrived == body


def test_it_sends_the_vendor_nothing_of_the_clients_own(transparent: tuple[Gateway, RawVendor]) -> None:
    served, kept = transparent
    headers = {
        **bearer(served.key),
        "Cookie": "session=1",
        "X-Api-Key": "another",
        "X-Forwarded-For": "10.0.0.1",
        "Host": "evil.example.com",
    }
    with connection(served) as opened:
        assert opened.ask("POST", CHAT, headers, json.dumps(chat("raw")).encode()).status == 200
    arrived = kept.headers[-1]
    assert arrived["authorization"] == "Bearer x"
    assert arrived["accept-encoding"] == "identity"
    assert not {"cookie", "x-api-key", "x-forwarded-for"} & set(arrived)
    assert served.key not in str(arrived)
