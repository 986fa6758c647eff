"""Streams of failing and of slow vendors, read by both SDKs: whole, or an error; and no more than is read.

Keep-alive comments come after 0.2 s here, so each stream that is late has some.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.fault_bodies import bodies
from tests.gateway import Gateway, running_gateway
from tests.resilience import (
    CALM,
    CHAT,
    KEY,
    anthropic_of,
    ask,
    client_of,
    configuration,
    error_of,
    metric,
    openai_of,
    provider,
    route,
    shown,
    text_of,
    told,
    treat,
)
from tests.servers import eventually
from tests.upstream import FakeVendor, chat, unique

HELLO: Any = [{"role": "user", "content": "Hello there"}]
SDKS = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
# What breaks a stream after its first content, as the vendor's options or as a case of tests/fault_bodies.py.
BREAKS = {
    "reset": "synthetic~tokens=30~reset=body:3000",
    "cut": "synthetic~tokens=30~eof=3000",
    "silent-end": "synthetic~tokens=30~end=3000",
    "stall": "synthetic~tokens=30~hang=body:3000",
    "error": "error-late~delay=50",
}


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    for case, dialect, stream, body in bodies():
        if dialect == "openai" and stream:
            learn_stream(vendor, case, body)
    providers = [provider(vendor, name) for name in ("first", "spare")]
    providers += [provider(vendor, f"breaks-{name}", timeouts={"idle": 1}) for name in BREAKS]
    providers.append(provider(vendor, "brief", timeouts={"first_content": 1}))
    routes = [route("pair*", "first", "spare"), route("late*", "brief", "spare"), route("alone*", "brief")]
    routes += [route(f"broken-{name}*", f"breaks-{name}", "spare") for name in BREAKS]
    env = {**CALM, "STREAM_KEEP_ALIVE": "0.2s"}
    with running_gateway(env, files=configuration(providers, routes)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


def learn_stream(vendor: FakeVendor, case: str, body: str) -> None:
    vendor.learn(case, provider="openai", status=200, body=body, content_type="text/event-stream")


def text_by(sdk: str, served: Gateway, model: str) -> str:
    """Return the text of a stream that the SDK holds to be whole."""
    if sdk == "openai":
        with openai_of(served) as client:
            chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))
        assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"
        assert len({each.id for each in chunks}) == 1
        return "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    with (
        anthropic_of(served) as other,
        other.messages.stream(model=model, max_tokens=1000, messages=HELLO) as stream,
    ):
        text = "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "end_turn"
        return text


def read_into(seen: list[str], sdk: str, served: Gateway, *, model: str) -> None:
    """Add the pieces of a stream's text to `seen`, for as long as the SDK gives some."""
    if sdk == "openai":
        with openai_of(served) as client:
            for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
                seen += filter(None, [chunk.choices[0].delta.content])
    else:
        with (
            anthropic_of(served) as other,
            other.messages.stream(model=model, max_tokens=1000, messages=HELLO) as stream,
        ):
            for text in stream.text_stream:
                seen += [text]


# ---------------------------------------------------------------- failures


@SDKS
@pytest.mark.parametrize("case", ["error-first", "error-early"])
def test_it_fails_over_until_there_is_content(
    served: Gateway, vendor: FakeVendor, case: str, sdk: str
) -> None:
    """The role alone, or the head of a message, is nothing that a client could use."""
    model = unique("pair")
    treat(vendor, model, "first", case=f"{case}~delay=50")
    assert len(text_by(sdk, served, model).split()) == 20
    assert shown(vendor, model) == ["first", "spare"]


@SDKS
@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_after_content_ends_in_an_error(
    served: Gateway, vendor: FakeVendor, name: str, sdk: str
) -> None:
    """Both SDKs raise it, it is counted, and nobody else is asked."""
    model, seen = unique(f"broken-{name}"), list[str]()
    treat(vendor, model, case=BREAKS[name])
    sample = f'gateway_streams_truncated_total{{provider="breaks-{name}"}}'
    before = metric(served, sample)
    kind = openai.APIError if sdk == "openai" else anthropic.APIStatusError
    with pytest.raises(kind) as caught:
        read_into(seen, sdk, served, model=model)
    body: Any = caught.value.body
    error = body if sdk == "openai" else body["error"]
    assert error["type"] == ("timeout_error" if name == "stall" else "api_error")
    assert len(seen) >= 2
    assert shown(vendor, model) == [f"breaks-{name}"]
    eventually(lambda: metric(served, sample) == before + 1, what="the count of the broken stream")


# ---------------------------------------------------------------- keep-alive comments


def lines_of(client: httpx.Client, model: str) -> tuple[httpx.Response, list[str]]:
    """Return a stream's lines: "" for a comment, else what it says."""
    answer = ask(client, model, stream=True)
    return answer, [line for line in answer.text.splitlines() if line]


def test_comments_come_before_and_between_the_pieces_of_a_slow_stream(client: httpx.Client) -> None:
    answer, lines = lines_of(client, unique("first/synthetic~first=700~tokens=3~delay=700"))
    assert len(text_of(answer).split()) == 3
    kinds = "".join("c" if line.startswith(":") else "d" for line in lines)
    assert re.match(r"c{2,}d+(c{2,}d){3,}", kinds), kinds
    assert set(lines) >= {": keep-alive", "data: [DONE]"}


@SDKS
def test_sdks_notice_nothing_of_comments(served: Gateway, sdk: str) -> None:
    text = text_by(sdk, served, unique("first/synthetic~first=500~tokens=4~delay=500"))
    assert len(text.split()) == 4


@SDKS
def test_it_fails_over_after_the_first_comment_too(served: Gateway, vendor: FakeVendor, sdk: str) -> None:
    model = unique("late")
    treat(vendor, model, "brief", hang="head")
    assert len(text_by(sdk, served, model).split()) == 20
    assert shown(vendor, model) == ["brief", "spare"]


def test_after_the_first_comment_a_failure_is_an_event(client: httpx.Client, served: Gateway) -> None:
    answer, lines = lines_of(client, unique("alone~hang=head"))
    assert answer.status_code == 200  # it had to be told before anybody knew
    assert lines[0] == ": keep-alive"
    assert error_of(answer)["code"] == "upstream_timeout"
    with anthropic_of(served) as sdk, pytest.raises(anthropic.APIStatusError) as caught:
        sdk.messages.create(
            model=unique("alone~hang=head"), max_tokens=9, messages=HELLO, stream=True
        ).__next__()
    error: Any = caught.value.body
    assert error["error"]["type"] == "timeout_error"


def test_a_stream_in_time_has_no_comment(client: httpx.Client) -> None:
    answer, lines = lines_of(client, unique("first/synthetic"))
    assert told(answer) == (200, "first", "1")
    assert all(line.startswith("data: ") for line in lines)


# ---------------------------------------------------------------- slow readers

EVENTS, EVENT_BYTES = 10_000, 4000


def large_stream() -> str:
    """Return a stream of 40 MB."""

    def event(delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-large", "object": "chat.completion.chunk", "created": 1, "model": "large"}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    words = event({"content": "x" * EVENT_BYTES}) * EVENTS
    return event({"role": "assistant", "content": ""}) + words + event({}, "stop") + "data: [DONE]\n\n"


def resident_bytes(gateway: Gateway) -> int:
    (web,) = gateway.children("web")
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{web}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_client_that_does_not_read_holds_up_its_vendor_and_nobody_else(
    served: Gateway, vendor: FakeVendor, client: httpx.Client
) -> None:
    """What it does not read stays at the vendor: the gateway keeps hardly any of it."""
    body = large_stream()
    learn_stream(vendor, "large", body)
    model = unique("first/large")
    assert told(ask(client, "first/synthetic", stream=True)) == (200, "first", "1")
    before = resident_bytes(served)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        slow.settimeout(60)
        slow.connect(("127.0.0.1", served.port))
        slow.sendall(request(model))
        sent = paused_at(vendor, model)
        assert sent < len(body) // 2
        assert resident_bytes(served) - before < 8_000_000
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: ask(client, unique("first/synthetic")), range(30)))
        assert {told(answer) for answer in answers} == {(200, "first", "1")}
        assert paused_at(vendor, model) == sent
        received = read_to(slow, b"data: [DONE]\n\n")
    assert received > EVENTS * EVENT_BYTES
    vendor.wait_for_outcome(model.removeprefix("first/"), "done")
    assert resident_bytes(served) - before < 16_000_000


def request(model: str) -> bytes:
    body = json.dumps(chat(model, stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def paused_at(vendor: FakeVendor, model: str) -> int:
    """Return how many bytes the vendor has got rid of, once that no longer changes."""
    last = [-1] * 10

    def steady() -> bool:
        entries = vendor.asked(model.removeprefix("first/"))
        last.append(entries[-1]["sent"] if entries else 0)
        return last[-1] > 0 and len(set(last[-25:])) == 1

    eventually(steady, what="a pause of the vendor")
    return last[-1]


def read_to(connection: socket.socket, end: bytes) -> int:
    """Read until `end` has come, and return how many bytes have."""
    tail, size = b"", 0
    while end not in tail:
        piece = connection.recv(1 << 20)
        assert piece, "the stream broke off"
        size += len(piece)
        tail = (tail + piece)[-200:]
    return size
