"""Nothing blocks the event loop during a request: threads, blocking sockets, files and sleeps raise."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.rawhttp import errors_in
from tests.servers import CHECKOUT, eventually, redis
from tests.upstream import (
    EXPIRED_KEY,
    LIMITED_KEY,
    QUIET,
    TEAM_KEY,
    FakeVendor,
    bearer,
    chat,
    data_lines,
    unique,
    wired,
)

CHAT = "/v1/chat/completions"
GUARDED = ("--app", "tests.guarded_app:application")


@contextlib.contextmanager
def guarded(vendor: FakeVendor, **variables: str) -> Iterator[Gateway]:
    # By name, so that the resolver is guarded too.
    by_name = vendor.under(vendor.url.replace("127.0.0.1", "localhost"))
    env = {**QUIET, "PYTHONPATH": str(CHECKOUT), "ANON_IP_RPM": "1000", "RPM_LIMIT": "100000", **variables}
    with running_gateway(env, arguments=GUARDED, files=wired(by_name)) as gateway:
        yield gateway


@contextlib.contextmanager
def with_memory(vendor: FakeVendor) -> Iterator[Gateway]:
    with guarded(vendor, CACHE_MODE="memory") as gateway:
        yield gateway


@contextlib.contextmanager
def with_redis(vendor: FakeVendor) -> Iterator[Gateway]:
    with redis() as store, guarded(vendor, CACHE_MODE="redis", REDIS_URL=store.url()) as gateway:
        yield gateway


STORES = (
    pytest.param(with_memory, id="memory"),
    pytest.param(with_redis, id="redis", marks=pytest.mark.broker),
)


@pytest.fixture(scope="module", params=STORES)
def served(request: pytest.FixtureRequest, vendor: FakeVendor) -> Iterator[Gateway]:
    with request.param(vendor) as gateway:
        yield gateway


def requests_of_every_kind(gateway: Gateway, vendor: FakeVendor) -> None:
    with httpx.Client(base_url=gateway.url, headers=bearer(TEAM_KEY), timeout=30) as client:

        def ask(body: dict[str, Any], status: int = 200, **headers: str) -> httpx.Response:
            response = client.post(CHAT, json=body, headers=headers)
            assert response.status_code == status, response.text
            return response

        model = f"replay/{unique()}"
        ask(chat(model))
        eventually(lambda: ask(chat(model)).headers["x-gateway-cache"] == "hit", what="a hit")
        assert data_lines(ask(chat(model, stream=True)).text.splitlines())[-1] == "[DONE]"
        assert data_lines(ask(chat(f"spare/{unique()}", stream=True)).text.splitlines())[-1] == "[DONE]"
        ask(chat("demo/echo", stream=True))
        ask(chat(unique("pair~fail=1x503")))
        ask(chat(unique("rescued")))
        ask(chat(f"replay/{unique('synthetic~fail=1x500~retry_after=0')}"))
        ask(chat("closed/absent"), 502)
        ask(chat(f"brief/{unique('synthetic~fail=9x429~retry_after=9')}"), 429)
        ask(chat(f"brief/{unique('synthetic~hang=head')}", stream=True), 504)
        ask(chat(f"replay/{unique('synthetic~tokens=30~reset=body:3000')}", stream=True))
        ask(chat("no-such-model"), 404)
        ask(chat(model), 401, authorization=f"Bearer {EXPIRED_KEY}")
        ask(chat(model), 401, authorization="Bearer sk-gw-nobody")
        ask(chat(model), 403, authorization=f"Bearer {LIMITED_KEY}")
        ask({"model": model}, 400)
        assert client.post("/v1/embeddings", json={"model": "demo/embed", "input": "x"}).status_code == 200
        assert client.post("/api/chat", json={"message": "Hello"}).status_code == 200
        assert client.get("/api/chat/stream?prompt=Hello").status_code == 200
        for path in ("/v1/models", "/v1/models/demo/echo", "/health", "/ready"):
            assert client.get(path).status_code == 200
        assert client.get("/metrics").status_code == 200
        formats_of_every_kind(client)
        gone = unique("synthetic~tokens=500~delay=50")
        with client.stream("POST", CHAT, json=chat(f"replay/{gone}", stream=True)) as response:
            next(response.iter_raw())
    vendor.wait_for_outcome(gone, "client-gone")


def formats_of_every_kind(client: httpx.Client) -> None:
    """Ask in the other formats, of a vendor that speaks them and of one that does not; pass things on."""
    message = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    forms = {"file": ("a.wav", b"sound" * 100_000)}
    named, other = {"x-gateway-provider": "replay"}, {"anthropic-version": "2023-06-01"}
    for model in (f"replay/{unique()}", "demo/echo"):
        for stream in (False, True):
            for path, body in (
                ("/v1/messages", message),
                ("/v1/responses", {"input": "Hello"}),
                ("/v1/completions", {"prompt": "Hello"}),
            ):
                for _ in range(2):  # the second one from the cache
                    sent = {"model": model, "stream": stream, **body}
                    answer = client.post(path, json=sent)
                    assert answer.status_code == 200, (path, sent, answer.text)
        counted = client.post("/v1/messages/count_tokens", json={"model": model, **message})
        assert counted.status_code == 200, counted.text
    assert client.get("/v1/models", headers=other).json()["has_more"] is False
    # The fake vendor has none of these, and says so.
    for refused in (
        client.post("/v1/moderations", json={"input": "x"}, headers=named),
        client.post("/v1/audio/transcriptions", data={"model": "replay/whisper"}, files=forms),
        client.post("/v1/files", data={"purpose": "batch"}, files=forms, headers=named),
        client.get("/v1/files/f/content", headers=named),
        client.delete("/v1/files/f", headers=named),
        client.post("/v1/batches/b/cancel", headers=named),
    ):
        assert refused.status_code in {404, 405, 501, 502}, refused.text
        assert refused.headers["x-gateway-provider"] == "replay", refused.text


def burst(gateway: Gateway) -> None:
    """Ask much at once: every pool needs more connections than it has."""
    url, headers = gateway.url + CHAT, bearer(TEAM_KEY)

    def ask(model: str) -> httpx.Response:
        # On a connection of its own: threads that share a pool close each other's.
        return httpx.post(url, headers=headers, json=chat(model), timeout=30)

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, [f"replay/{unique()}" for _ in range(200)]))
    assert {answer.status_code for answer in answers} == {200}


def test_no_request_blocks_the_event_loop(served: Gateway, vendor: FakeVendor) -> None:
    requests_of_every_kind(served, vendor)  # what happens once, at first use, may open files
    httpx.post(f"{served.url}/__guard")
    for _ in range(2):
        requests_of_every_kind(served, vendor)
    burst(served)
    assert httpx.get(f"{served.url}/__guard").json() == []
    assert errors_in(served.log()) == []


def test_the_guard_catches_what_blocks() -> None:
    """A guard that catches nothing would prove nothing."""
    trap = "tests.guarded_app"
    code = f"""
import asyncio, socket, time
import {trap} as guard
guard._armed.set()
async def main():
    for block in (
        lambda: asyncio.get_running_loop().run_in_executor(None, print),
        lambda: open("/dev/null"),
        lambda: time.sleep(0.01),
        lambda: socket.create_connection(("127.0.0.1", 9)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.socketpair()[0].recv(1),
    ):
        guard._in_request.set("/v1/x")
        try:
            block()
        except guard.BlocksTheLoop as caught:
            print("caught", caught)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.count("caught") == 6, done.stdout + done.stderr
