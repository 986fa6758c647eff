"""Streams through a served gateway: relayed as they come, true to their end, cancelled with their client."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway
from tests.records import logged
from tests.upstream import FakeVendor, chat, data_lines, unique

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client(wired_gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=wired_gateway.url, headers=wired_gateway.headers, timeout=60) as made:
        yield made


@dataclass(frozen=True)
class Streamed:
    """A stream, read to its end."""

    status: int
    headers: httpx.Headers
    lines: list[str]

    @property
    def data(self) -> list[str]:
        return data_lines(self.lines)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data if line != "[DONE]"]

    @property
    def text(self) -> str:
        return "".join(
            choice["delta"].get("content") or "" for each in self.chunks for choice in each["choices"]
        )


def streamed(client: httpx.Client, model: str, **more: Any) -> Streamed:
    with client.stream("POST", CHAT, json=chat(model, stream=True, **more)) as response:
        return Streamed(response.status_code, response.headers, list(response.iter_lines()))


def test_it_relays_a_stream_as_it_comes(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("synthetic~tokens=6~delay=150")
    with client.stream("POST", CHAT, json=chat(f"replay/{model}", stream=True)) as response:
        lines = response.iter_lines()
        next(line for line in lines if '"content"' in line)
        # The vendor is still at it: nobody waited for the rest.
        assert vendor.asked(model)[-1].get("outcome") is None
        assert data_lines(list(lines))[-1] == "[DONE]"
    vendor.wait_for_outcome(model, "done")


def test_it_relays_each_chunk_by_itself(client: httpx.Client) -> None:
    with client.stream("POST", CHAT, json=chat("demo/lorem", "5 words 60ms", stream=True)) as response:
        pieces = [piece for piece in response.iter_raw() if piece.strip()]
    assert len(pieces) >= 5


def test_it_never_waits_for_a_slow_stream_to_end(client: httpx.Client) -> None:
    # Two hundred seconds long: its first words would never come if they were held back.
    with client.stream("POST", CHAT, json=chat("demo/lorem", "2000 words 100ms", stream=True)) as response:
        next(line for line in response.iter_lines() if "lorem" in line)


def test_it_passes_an_untouched_stream_on(client: httpx.Client) -> None:
    stream = streamed(client, "replay/synthetic~text=one%20two%20three")
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.text == "one two three"
    assert stream.data[-1] == "[DONE]"
    assert stream.data.count("[DONE]") == 1


def test_it_hides_the_usage_chunk_unless_asked_for(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("synthetic~tokens=3")
    hidden = streamed(client, f"replay/{model}")
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in hidden.chunks)
    shown = streamed(client, f"replay/{model}", stream_options={"include_usage": True})
    assert shown.chunks[-1]["choices"] == []
    assert shown.chunks[-1]["usage"]["completion_tokens"] == 3
    # For the books it is always asked for.
    assert [asked["body"]["stream_options"] for asked in vendor.asked(model)] == [{"include_usage": True}] * 2


def test_it_adds_the_end_that_a_vendor_forgot(client: httpx.Client) -> None:
    stream = streamed(client, "replay/synthetic~text=whole~nodone=1")
    assert stream.text == "whole"
    assert stream.data[-1] == "[DONE]"


BROKEN = {
    "reset": "~reset=body:1500",
    "cut": "~eof=1500",
    "ended early": "~end=1500",
    "no finish reason": "~end=3000",
    "not JSON": "~json=invalid",
    "an array": "~json=array",
    "null": "~json=null",
    "half of it": "~json=trunc",
    "falsely compressed": "~gzip=lie",
    "compressed and cut": "~gzip=trunc",
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
def test_it_never_makes_a_broken_stream_look_whole(
    client: httpx.Client, wired_gateway: Gateway, vendor: FakeVendor, fault: str
) -> None:
    model = unique(f"synthetic~tokens=30{fault}")
    stream = streamed(client, f"replay/{model}")
    assert "[DONE]" not in stream.data
    if stream.status == 200:
        error = stream.chunks[-1]["error"]
        assert stream.chunks[0]["choices"], "nothing was sent: that deserves a status"
        # Nothing is retried once the client has content.
        assert len(vendor.asked(model)) == 1
    else:
        assert stream.status == 502
        error = json.loads("".join(stream.lines))["error"]
        assert len(vendor.asked(model)) == 2
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "api_error"
    row = logged(wired_gateway, stream.headers["x-request-id"])
    assert (row["outcome"], row["status"]) == ("error", 502)


@pytest.mark.parametrize(
    "fault", ["~reset=body:20", "~eof=20", "~json=invalid", "~json=trunc", "~gzip=trunc"]
)
def test_it_never_makes_a_broken_answer_look_whole(
    client: httpx.Client, vendor: FakeVendor, fault: str
) -> None:
    model = unique(f"synthetic{fault}")
    response = client.post(CHAT, json=chat(f"replay/{model}"))
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "api_error"
    assert len(vendor.asked(model)) == 2


def test_it_ends_a_stream_that_stalls(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("synthetic~tokens=30~hang=body:1500")
    stream = streamed(client, f"brief/{model}")  # its idle timeout is one second
    assert stream.status == 200
    assert stream.chunks[-1]["error"]["type"] == "timeout_error"
    assert "[DONE]" not in stream.data
    vendor.wait_for_outcome(model, "client-gone")


def test_it_books_what_a_broken_stream_had_produced(client: httpx.Client, wired_gateway: Gateway) -> None:
    stream = streamed(client, f"replay/{unique('synthetic~tokens=30~reset=body:3000')}")
    row = logged(wired_gateway, stream.headers["x-request-id"])
    assert row["usage_estimated"]
    assert row["completion_tokens"] >= len(stream.chunks) - 3


def test_it_cancels_the_vendor_when_the_client_leaves_a_stream(
    client: httpx.Client, wired_gateway: Gateway, vendor: FakeVendor
) -> None:
    model = unique("synthetic~tokens=500~delay=50")
    with client.stream("POST", CHAT, json=chat(f"replay/{model}", stream=True)) as response:
        next(line for line in response.iter_lines() if '"content":"' in line)
        request_id = response.headers["x-request-id"]
    vendor.wait_for_outcome(model, "client-gone")
    row = logged(wired_gateway, request_id)
    assert (row["outcome"], row["status"]) == ("cancelled", 499)
    assert row["usage_estimated"]
    assert row["completion_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_it_cancels_the_vendor_when_the_client_leaves_before_the_answer(
    wired_gateway: Gateway, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("synthetic~hang=head")
    asked = {**wired_gateway.headers, "x-request-id": f"left-{model}"[-100:]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{wired_gateway.url}{CHAT}",
            json=chat(f"replay/{model}", stream=stream),
            headers=asked,
            timeout=0.3,
        )
    vendor.wait_for_outcome(model, "client-gone")
    row = logged(wired_gateway, asked["x-request-id"])
    assert (row["outcome"], row["status"]) == ("cancelled", 499)


def providers_asked(vendor: FakeVendor, model: str) -> list[str]:
    return [each["provider"] for each in vendor.asked(model)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["503", "500", "529", "429", "429~retry_after=60"])
def test_it_fails_over_along_the_targets_of_a_route(
    client: httpx.Client, vendor: FakeVendor, fault: str, stream: bool
) -> None:
    model = unique(f"pair~fail=1x{fault}")
    response = client.post(CHAT, json=chat(model, stream=stream))
    assert response.status_code == 200
    assert response.headers["x-gateway-attempts"] == "2"
    assert response.headers["x-gateway-provider"] == "spare"
    assert providers_asked(vendor, model) == ["openai", "compat"]


def test_it_fails_over_from_a_vendor_that_is_not_there(client: httpx.Client, wired_gateway: Gateway) -> None:
    response = client.post(CHAT, json=chat(unique("rescued")))
    assert response.status_code == 200
    assert response.headers["x-gateway-provider"] == "spare"
    row = logged(wired_gateway, response.headers["x-request-id"])
    attempts = json.loads(row["attempts"])
    assert [attempt["provider"] for attempt in attempts] == ["closed", "spare"]
    assert attempts[0]["outcome"] == "upstream_connect"


@pytest.mark.parametrize("status", [400, 404, 422])
def test_it_tries_no_other_target_for_a_mistake_of_the_caller(
    client: httpx.Client, vendor: FakeVendor, status: int
) -> None:
    model = unique(f"pair~fail=1x{status}")
    response = client.post(CHAT, json=chat(model))
    assert response.status_code == status
    assert providers_asked(vendor, model) == ["openai"]


def test_it_tells_the_last_failure_when_all_targets_fail(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("pair~fail=99x503")
    response = client.post(CHAT, json=chat(model))
    assert response.status_code == 503
    assert response.headers["x-gateway-attempts"] == "2"
    assert response.json()["error"]["type"] == "api_error"
    assert providers_asked(vendor, model) == ["openai", "compat"]


def test_it_uses_a_vendors_connection_again(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique()
    for stream in (False, True, False, True):
        assert client.post(CHAT, json=chat(f"spare/{model}", stream=stream)).status_code == 200
    assert len({each["conn"] for each in vendor.asked(model)}) <= 2


# A vendor that is silent for longer than the first keep-alive comment (15 s). The requests run while the
# other tests of this module do; pytest runs a module's tests in their order.
SILENT = {
    "then an answer": "synthetic~first=15600~text=late",
    "then a refusal": "synthetic~first=15600~fail=99x400",
}


@pytest.fixture(scope="module", autouse=True)
def silent_starts(wired_gateway: Gateway, vendor: FakeVendor) -> Iterator[dict[str, "Future[Streamed]"]]:
    with (
        httpx.Client(base_url=wired_gateway.url, headers=wired_gateway.headers, timeout=60) as client,
        ThreadPoolExecutor() as pool,
    ):
        yield {
            name: pool.submit(streamed, client, f"replay/{unique(model)}") for name, model in SILENT.items()
        }


def test_it_keeps_the_connection_of_a_silent_stream_alive(
    silent_starts: dict[str, "Future[Streamed]"],
) -> None:
    stream = silent_starts["then an answer"].result(30)
    assert stream.status == 200
    assert stream.lines[0].startswith(":")
    assert stream.text == "late"
    assert stream.data[-1] == "[DONE]"


def test_it_tells_a_late_refusal_in_the_stream(silent_starts: dict[str, "Future[Streamed]"]) -> None:
    stream = silent_starts["then a refusal"].result(30)
    assert stream.status == 200
    assert stream.chunks[-1]["error"]["type"] == "invalid_request_error"
    assert "[DONE]" not in stream.data
