"""Whatever is sent: the right status in OpenAI's envelope, no error in the log, the connection lives on."""

import json

import pytest

from tests.bad_formats import FORMATS
from tests.bad_requests import CALLERS, CASES, CHAT, GOOD, MISTYPED, MODEL, Bad
from tests.gateway import Gateway
from tests.rawhttp import RawConnection, assert_usable, errors_in
from tests.upstream import DISABLED_KEY, EXPIRED_KEY, TEAM_KEY, FakeVendor, bearer, chat, unique

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("bad", CASES.values(), ids=CASES.keys())
def test_it_refuses(bad: Bad, kept_alive: RawConnection, wired_gateway: Gateway) -> None:
    before = len(wired_gateway.log())
    reply = kept_alive.ask(bad.method, bad.path, {**JSON, **bad.headers}, bad.body)
    assert reply.status == bad.status, reply.body
    error = reply.error
    assert error["type"] == bad.type
    assert error["param"] == bad.param
    assert bad.code is None or error["code"] == bad.code
    assert reply.headers.get("connection") != "close"
    assert_usable(kept_alive)
    assert errors_in(wired_gateway.log()[before:]) == []


@pytest.mark.parametrize("bad", FORMATS.values(), ids=FORMATS.keys())
def test_it_refuses_in_every_format(bad: Bad, kept_alive: RawConnection, wired_gateway: Gateway) -> None:
    before = len(wired_gateway.log())
    reply = kept_alive.ask(bad.method, bad.path, {**JSON, **bad.headers}, bad.body)
    assert reply.status == bad.status, reply.body
    if bad.path.startswith("/v1/messages") or "Anthropic-Version" in bad.headers:
        assert reply.anthropic_error["type"] == bad.type
    else:
        error = reply.error
        assert (error["type"], error["param"]) == (bad.type, bad.param)
        assert bad.code is None or error["code"] == bad.code
    assert reply.headers.get("connection") != "close"
    assert_usable(kept_alive)
    assert errors_in(wired_gateway.log()[before:]) == []


@pytest.mark.parametrize("bad", CALLERS.values(), ids=CALLERS.keys())
def test_it_tells_a_stranger_how_to_get_in_and_never_repeats_a_key(
    bad: Bad, kept_alive: RawConnection, wired_gateway: Gateway
) -> None:
    before = len(wired_gateway.log())
    reply = kept_alive.ask("POST", CHAT, bad.headers, GOOD)
    assert reply.headers["www-authenticate"] == "Bearer"
    if reply.error["code"] in {"missing_api_key", "invalid_api_key"}:
        assert "ALLOW_ANONYMOUS" in reply.error["message"]
    for key in (TEAM_KEY, DISABLED_KEY, EXPIRED_KEY, "this-is-the-key-of-nobody", MISTYPED[:-4]):
        assert key not in reply.body.decode()
        assert key not in wired_gateway.log()[before:]


NESTED = {f"{depth} deep": depth for depth in (100, 300, 900)}


@pytest.mark.parametrize("depth", NESTED.values(), ids=NESTED.keys())
@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_what_is_deep_but_readable(
    kept_alive: RawConnection, wired_gateway: Gateway, depth: int, stream: bool
) -> None:
    """What can be parsed must also be writable: a depth between two limits is no fault of ours."""
    before = len(wired_gateway.log())
    body = json.dumps(chat(MODEL, stream=stream))[:-1] + ', "metadata": ' + "[" * depth + "]" * depth + "}"
    reply = kept_alive.ask("POST", CHAT, bearer(TEAM_KEY), body.encode())
    assert reply.status in {200, 400}, reply.body
    assert errors_in(wired_gateway.log()[before:]) == []
    assert_usable(kept_alive)


def test_it_keeps_huge_numbers(kept_alive: RawConnection, vendor: FakeVendor) -> None:
    model = unique()
    for stream in (False, True):
        body = json.dumps(chat(f"replay/{model}", stream=stream, seed=2**63 - 1)).encode()
        assert kept_alive.ask("POST", CHAT, bearer(TEAM_KEY), body).status == 200
    assert [asked["body"]["seed"] for asked in vendor.asked(model)] == [2**63 - 1] * 2
