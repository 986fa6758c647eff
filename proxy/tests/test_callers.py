"""A key's row to its Callers and back, and its limits with it."""

from ipaddress import ip_network

import orjson
import pytest

from keys.caller import USUAL
from proxy.callers import caller_row, compile_callers
from proxy.snapshot import ConfigurationError

NOW, OLD = bytes(range(32)), bytes(range(1, 33))
ROW = {
    "id": 7,
    "tenant_id": 3,
    "name": "ci",
    "prefix": "sk-gw-abcdef",
    "digest": NOW.hex(),
    "enabled": True,
    "expires_at": 500.0,
    "allowed_models": ["gpt-4o*"],
}
TERMS = {
    "denied_models": ["gpt-4o-mini"],
    "allowed_networks": ["10.0.0.0/8", "2001:db8::1/128"],
    "tags": {"team": "search"},
    "max_tokens": 100,
    "forced_route": "fast",
    "payload_days": None,
}
RATE = {"type": "rate", "id": 5, "kind": "tokens", "amount": 9, "per": "day", "model": "gpt*", "each": "ip"}
BUDGET = {
    "type": "budget",
    "id": 6,
    "amount_nanousd": 10,
    "window": "week",
    "timezone": "Asia/Tokyo",
    "mode": "soft",
    "model": "",
    "raised_nanousd": 20,
    "raised_until": 100.5,
    "refuse_unpriced": True,
}


def test_keys_without_terms_share_theirs():
    (caller,) = compile_callers(ROW).values()
    assert caller.terms is USUAL


def test_it_compiles_a_keys_terms():
    (caller,) = compile_callers({**ROW, "terms": TERMS, "limits": [RATE, BUDGET]}).values()
    terms = caller.terms
    assert (terms.denied, terms.tags) == (("gpt-4o-mini",), {"team": "search"})
    assert terms.networks == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128"))
    assert (terms.max_tokens, terms.forced_route) == (100, "fast")
    (rate,), (ceiling,) = terms.rules.rates, terms.rules.ceilings
    assert (rate.id, rate.kind, rate.amount, rate.per) == ("rate:5", "tokens", 9, "day")
    assert (rate.model, rate.each, rate.holds_for) == ("gpt*", "ip", "key ci")
    assert (ceiling.id, ceiling.window, ceiling.zone.key, ceiling.strict) == (6, "week", "Asia/Tokyo", False)
    assert (ceiling.limit_at(100.4), ceiling.limit_at(100.5)) == (20, 10)
    assert (ceiling.refuse_unpriced, ceiling.holds_for) == (True, "key ci")


def test_it_takes_a_network_with_host_bits():
    (caller,) = compile_callers({**ROW, "terms": {**TERMS, "allowed_networks": ["10.1.2.3/8"]}}).values()
    assert caller.terms.networks == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    "more", [{}, {"terms": TERMS}, {"limits": [RATE, BUDGET]}, {"terms": TERMS, "limits": [BUDGET]}]
)
def test_it_writes_a_caller_back_as_a_row_of_json(more):
    ((digest, caller),) = compile_callers({**ROW, **more}).items()
    row = caller_row(digest, caller)
    assert orjson.loads(orjson.dumps(row)) == row
    assert {name: row[name] for name in (*ROW, *more)} == {**ROW, **more}
    ((again_digest, again),) = compile_callers(row).items()
    assert again_digest == digest
    assert again._replace(terms=USUAL) == caller._replace(terms=USUAL)
    assert caller_row(again_digest, again) == row


@pytest.mark.parametrize(
    ("until", "expires_at", "ends"), [(400.0, 500.0, 400.0), (600.0, 500.0, 500.0), (1.0, None, 1.0)]
)
def test_the_secret_from_before_a_rotation_works_until_its_end_or_the_keys(until, expires_at, ends):
    previous = {"digest": OLD.hex(), "prefix": "sk-gw-old", "until": until}
    callers = compile_callers({**ROW, "expires_at": expires_at, "terms": TERMS, "previous": previous})
    assert list(callers) == [NOW, OLD]
    assert (callers[NOW].expires_at, callers[NOW].prefix) == (expires_at, "sk-gw-abcdef")
    assert (callers[OLD].expires_at, callers[OLD].prefix) == (ends, "sk-gw-old")
    assert callers[OLD].terms is callers[NOW].terms
    # Kept on disk, each is a row of its own.
    for digest, caller in callers.items():
        ((known, again),) = compile_callers(caller_row(digest, caller)).items()
        assert (known, again.expires_at, again.key_id) == (digest, caller.expires_at, 7)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"allowed_models": None}, "allowed models are not a list"),
        ({"allowed_models": [1]}, "allowed models are not a list"),
        ({"digest": "xy"}, "not hexadecimal"),
        ({"terms": {**TERMS, "denied_models": "gpt"}}, "denied models are not a list"),
        ({"terms": {**TERMS, "allowed_networks": ["10.0.0.0/99"]}}, "10.0.0.0/99"),
        ({"terms": {**TERMS, "allowed_networks": "10.0.0.0/8"}}, "networks are not a list"),
        ({"terms": {**TERMS, "allowed_networks": [5]}}, "networks are not a list"),
        ({"terms": {**TERMS, "tags": ["a"]}}, "tags are not"),
        ({"terms": {**TERMS, "max_tokens": 0}}, "max_tokens is 0"),
        ({"limits": [{**RATE, "per": "year"}]}, "rate limit 5 of key ci"),
        ({"limits": [{**BUDGET, "window": "year"}]}, "budget 6 of key ci"),
    ],
)
def test_it_says_what_cannot_be(wrong, problem):
    with pytest.raises(ConfigurationError, match=problem) as raised:
        compile_callers({**ROW, **wrong})
    assert "ci" in str(raised.value)
