"""Each of the four timeouts fires where it should, says so, and sends the request on to another target."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.resilience import (
    CALM,
    ask,
    attempts_of,
    client_of,
    configuration,
    error_of,
    provider,
    route,
    shown,
    told,
    treat,
)
from tests.upstream import FakeVendor, unique

LONG_S = 50
# Each is the only short one of its provider, or of its route before a provider whose own are all long.
SHORT: dict[str, dict[str, float]] = {
    "connect": {"connect": 0.4},
    "first-content": {"first_content": 0.4},
    "idle": {"idle": 0.4},
    "total": {"total": 0.6},
}
LONG = {"connect": 30, "first_content": LONG_S, "idle": LONG_S, "total": LONG_S}
BY = pytest.mark.parametrize("by", ["provider", "route"])
ROLE = {
    "id": "chatcmpl-role",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "synthetic",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
}


@pytest.fixture(scope="module")
def full_port() -> Iterator[int]:
    """Listen on a port whose backlog is full: connections to it are never made."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
            waiting.append(each)
        yield listening.getsockname()[1]
        for each in waiting:
            each.close()


@pytest.fixture(scope="module")
def served(vendor: FakeVendor, full_port: int) -> Iterator[Gateway]:
    providers = [provider(vendor, "spare", timeouts=LONG), provider(vendor, "patient", timeouts=LONG)]
    routes = []
    for name, short in SHORT.items():
        place = {"base_url": f"http://127.0.0.1:{full_port}/v1"} if name == "connect" else {}
        providers += [
            provider(vendor, f"{name}-provider", timeouts={**LONG, **short}, **place),
            provider(vendor, f"{name}-route", timeouts=LONG, **place),
        ]
        for by in ("provider", "route"):
            own = {"timeouts": short} if by == "route" else {}
            one = f"{name}-{by}"
            routes += [route(f"{one}-alone*", one, **own), route(f"{one}-pair*", one, "spare", **own)]
    with running_gateway(CALM, files=configuration(providers, routes)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


def timed_out(answer: httpx.Response, name: str) -> None:
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("timeout_error", "upstream_timeout")
    assert f"The {name} timeout fired" in error["message"]


@BY
@pytest.mark.parametrize("stream", [False, True])
def test_the_connect_timeout_ends_the_wait_for_a_connection(
    client: httpx.Client, served: Gateway, by: str, stream: bool
) -> None:
    answer = ask(client, unique(f"connect-{by}-alone"), stream=stream)
    assert told(answer) == (504, f"connect-{by}", "1")
    timed_out(answer, "connect")
    rescued = ask(client, unique(f"connect-{by}-pair"), stream=stream)
    assert told(rescued) == (200, "spare", "2")
    first, _ = attempts_of(served, rescued)
    assert (first["outcome"], first["error"]) == ("upstream_timeout", "The connect timeout fired.")


@BY
@pytest.mark.parametrize(
    "silence",
    [
        {"hang": "head"},
        {"ttfb": "90000"},  # the head alone
        {"hang": "body:220"},  # in the middle of the first chunk, which has the role alone
        {"comments": "1", "delay": "150", "tokens": "0", "hang": "body:20"},  # comments
    ],
    ids=["nothing", "head", "half-a-chunk", "comments"],
)
def test_the_first_content_timeout_fires_until_there_is_content(
    client: httpx.Client, vendor: FakeVendor, *, silence: dict[str, str], by: str
) -> None:
    alone, pair, name = (
        unique(f"first-content-{by}-alone"),
        unique(f"first-content-{by}-pair"),
        "first content",
    )
    for model in (alone, pair):
        treat(vendor, model, f"first-content-{by}", **silence)
    answer = ask(client, alone, stream=True)
    assert told(answer) == (504, f"first-content-{by}", "1")
    timed_out(answer, name)
    assert shown(vendor, alone) == [f"first-content-{by}"]  # who is silent is not asked twice
    assert told(ask(client, pair, stream=True)) == (200, "spare", "2")
    vendor.wait_for_outcome(alone, "client-gone")


@BY
def test_comments_and_roles_are_no_content(client: httpx.Client, vendor: FakeVendor, by: str) -> None:
    """They keep coming, each within the timeout, and it fires all the same."""
    model = unique(f"first-content-{by}-pair")
    vendor.learn(
        f"roles-{by}",
        provider="openai",
        status=200,
        body=f": still here\n\ndata: {json.dumps(ROLE)}\n\n" * 200,
        content_type="text/event-stream",
    )
    name = f"first-content-{by}"
    treat(vendor, model, name, case=f"roles-{by}~delay=50")
    assert told(ask(client, model, stream=True)) == (200, "spare", "2")
    assert shown(vendor, model) == [name, "spare"]


@BY
def test_the_idle_timeout_ends_a_stream_that_stalls(
    client: httpx.Client, vendor: FakeVendor, by: str
) -> None:
    model = unique(f"idle-{by}-pair~hang=body:1500")
    answer = ask(client, model, stream=True)
    assert told(answer) == (200, f"idle-{by}", "1")
    timed_out(answer, "idle")
    assert "[DONE]" not in answer.text
    assert shown(vendor, model) == [f"idle-{by}"]  # content has gone out: nobody else is asked
    vendor.wait_for_outcome(model, "client-gone")


@BY
def test_a_slow_stream_is_not_idle(client: httpx.Client, by: str) -> None:
    """It takes longer than the timeout altogether, and never so long between two pieces."""
    answer = ask(client, unique(f"idle-{by}-alone~tokens=20~delay=40"), stream=True)
    assert told(answer) == (200, f"idle-{by}", "1")
    assert answer.text.endswith("data: [DONE]\n\n")


@BY
@pytest.mark.parametrize("stream", [False, True])
def test_the_total_timeout_ends_whatever_goes_on(
    client: httpx.Client, vendor: FakeVendor, by: str, stream: bool
) -> None:
    model = unique(f"total-{by}-alone~tokens=2000~chunk=100~delay=50")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200 if stream else 504, f"total-{by}", "1")
    timed_out(answer, "total")
    vendor.wait_for_outcome(model, "client-gone")


def test_a_provider_that_times_out_in_all_leaves_time_for_the_next(
    client: httpx.Client, vendor: FakeVendor
) -> None:
    """The request has as long as the longest of its targets."""
    model = unique("total-provider-pair")
    treat(vendor, model, "total-provider", hang="head")
    assert told(ask(client, model)) == (200, "spare", "2")
    assert shown(vendor, model) == ["total-provider", "spare"]


def test_a_route_that_times_out_in_all_leaves_none(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("total-route-pair")
    treat(vendor, model, "total-route", hang="head")
    answer = ask(client, model)
    assert told(answer) == (504, "total-route", "1")
    timed_out(answer, "total")


def test_without_a_short_one_slowness_is_no_failure(client: httpx.Client) -> None:
    answer = ask(client, unique("patient/synthetic~ttfb=700~tokens=5"), stream=True)
    assert told(answer) == (200, "patient", "1")
