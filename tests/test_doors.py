"""Who gets in without a key: ALLOW_ANONYMOUS, the simple chat and its limit, and a gateway on the network."""

import json
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI

from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.servers import eventually
from tests.upstream import (
    DISABLED_KEY,
    EXPIRED_KEY,
    QUIET,
    TEAM_KEY,
    FakeVendor,
    bearer,
    chat,
    data_lines,
    wired,
)

CHAT = "/v1/chat/completions"
LIMIT = 3


@pytest.fixture(scope="module")
def open_gateway(vendor: FakeVendor) -> Iterator[Gateway]:
    """Everyone may come in; the simple chat is limited per address, as a trusted proxy tells it."""
    variables = {
        **QUIET,
        "ALLOW_ANONYMOUS": "true",
        "ANON_IP_RPM": str(LIMIT),
        "TRUSTED_PROXIES": "127.0.0.1",
        "DEFAULT_MODEL": "demo/echo",
    }
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def network_gateway(vendor: FakeVendor) -> Iterator[Gateway]:
    """A gateway on all addresses: nothing is open that was not opened."""
    variables = {
        **QUIET,
        "HOST": "0.0.0.0",
        "METRICS_TOKEN": "scrape-me",
        "CORS_ORIGINS": "https://a.example",
    }
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


def test_any_string_is_a_key_once_anonymous_is_allowed(open_gateway: Gateway) -> None:
    with OpenAI(base_url=f"{open_gateway.url}/v1", api_key="any-string", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="demo/echo", messages=[{"role": "user", "content": "Let me in"}]
        )
        assert raw.parse().choices[0].message.content == "Let me in"
        assert "demo/echo" in {model.id for model in client.models.list()}
    row = logged(open_gateway, raw.headers["x-request-id"])
    assert (row["key_ref"], row["tenant_ref"], row["outcome"]) == (None, None, "ok")


def test_no_key_at_all_is_fine_too(open_gateway: Gateway) -> None:
    assert httpx.post(f"{open_gateway.url}{CHAT}", json=chat("demo/echo")).status_code == 200


@pytest.mark.parametrize("key", [DISABLED_KEY, EXPIRED_KEY])
def test_a_key_that_was_taken_away_stays_so(open_gateway: Gateway, key: str) -> None:
    response = httpx.post(f"{open_gateway.url}{CHAT}", json=chat("demo/echo"), headers=bearer(key))
    assert response.status_code == 401


def test_a_real_key_is_still_known(open_gateway: Gateway) -> None:
    headers = {**bearer(TEAM_KEY), "x-request-id": "by-name"}
    assert httpx.post(f"{open_gateway.url}{CHAT}", json=chat("demo/echo"), headers=headers).status_code == 200
    assert logged(open_gateway, "by-name")["key_ref"] is not None


def test_a_keyless_call_is_told_the_switch(wired_gateway: Gateway) -> None:
    response = httpx.post(f"{wired_gateway.url}{CHAT}", json=chat("demo/echo"))
    assert response.status_code == 401
    message = response.json()["error"]["message"]
    assert "ALLOW_ANONYMOUS=true" in message
    assert "create_key" in message
    with (
        OpenAI(base_url=f"{wired_gateway.url}/v1", api_key="any-string", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="ALLOW_ANONYMOUS=true"),
    ):
        client.models.list()


def from_address(
    gateway: Gateway, address: str, method: str = "POST", path: str = "/api/chat"
) -> httpx.Response:
    body = {"json": {"message": "Hello"}} if method == "POST" else {}
    headers = {"X-Forwarded-For": address}
    return httpx.request(method, f"{gateway.url}{path}", headers=headers, timeout=30, **body)


def test_the_simple_chat_answers(open_gateway: Gateway) -> None:
    answer = from_address(open_gateway, "198.51.100.1").json()
    assert set(answer) == {"message", "model", "provider", "cached", "usage", "request_id"}
    assert (answer["message"], answer["provider"], answer["cached"]) == ("Hello", "demo", False)
    assert answer["usage"]["completion_tokens"] == 1
    assert logged(open_gateway, answer["request_id"])["outcome"] == "ok"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/chat/stream"),
        ("GET", "/api/chat/stream?prompt=Hello"),
        ("GET", "/api/chat/stream?message=Hello"),
    ],
)
def test_the_simple_chat_streams(open_gateway: Gateway, method: str, path: str) -> None:
    address = f"198.51.100.{len(path)}"
    response = from_address(open_gateway, address, method, path)
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, last, done = data_lines(response.text.splitlines())
    assert done == "[DONE]"
    assert "".join(json.loads(each)["delta"] for each in deltas) == "Hello"
    assert json.loads(last)["done"] is True
    assert json.loads(last)["usage"]["completion_tokens"] == 1


def test_the_simple_chat_is_limited_per_address(open_gateway: Gateway) -> None:
    paths = ["/api/chat", "/api/chat/stream", "/api/chat"]
    assert [from_address(open_gateway, "203.0.113.9", path=path).status_code for path in paths] == [
        200
    ] * LIMIT
    refused = from_address(open_gateway, "203.0.113.9")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "ANON_IP_RPM" in error["message"]
    # Another address has a count of its own; an address nobody can vouch for does not get one.
    assert from_address(open_gateway, "203.0.113.10").status_code == 200
    assert from_address(open_gateway, "1.2.3.4, 203.0.113.9").status_code == 429
    assert logged(open_gateway, refused.headers["x-request-id"])["status"] == 429


def test_the_simple_chat_wants_a_key_on_the_network(network_gateway: Gateway) -> None:
    url = f"{network_gateway.url}/api/chat"
    assert httpx.post(url, json={"message": "Hello"}).status_code == 401
    assert httpx.get(f"{url}/stream?prompt=Hello").status_code == 401
    answer = httpx.post(url, json={"message": "Hello"}, headers=bearer(TEAM_KEY))
    assert answer.json()["message"] == "Hello"
    for _ in range(LIMIT + 5):  # the limit per address is for those without a key
        assert httpx.post(url, json={"message": "Hello"}, headers=bearer(TEAM_KEY)).status_code == 200


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks for the route
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


@pytest.mark.optional(reason="a machine may have no address but loopback")
def test_strangers_on_the_network_see_no_detail(network_gateway: Gateway) -> None:
    url = f"http://{own_address()}:{network_gateway.port}"
    assert set(httpx.get(f"{url}/health").json()) == {"status"}
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}/metrics", headers=bearer("wrong")).status_code == 401
    assert "gateway_requests_total" in httpx.get(f"{url}/metrics", headers=bearer("scrape-me")).text
    assert "providers" in httpx.get(f"{url}/health", headers=bearer("scrape-me")).json()
    assert httpx.get(f"{url}/ready").status_code == 200
    assert httpx.get(f"{url}/accounts/login/").status_code == 200


def test_only_the_named_origins_may_read_in_a_browser(network_gateway: Gateway) -> None:
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        response = httpx.post(
            f"{network_gateway.url}{CHAT}",
            json=chat("demo/echo"),
            headers={**bearer(TEAM_KEY), "Origin": origin},
        )
        assert response.headers.get("access-control-allow-origin") == allowed


def test_a_websocket_to_nowhere_is_refused(network_gateway: Gateway) -> None:
    """WebSockets go to Channels, which knows no such socket: a refusal, no error."""
    handshake = (
        f"GET /ws/nowhere/ HTTP/1.1\r\nHost: 127.0.0.1:{network_gateway.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1:{network_gateway.port}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", network_gateway.port), timeout=20) as opened:
        opened.sendall(handshake.encode())
        assert opened.recv(4096).startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))
    assert '"level":"error"' not in network_gateway.log()


def test_the_demo_can_be_switched_off(network_gateway: Gateway) -> None:
    path = network_gateway.data_dir / "no-demo.yaml"
    path.write_text("version: 1\nproviders: [{name: demo, enabled: false}]\n")
    network_gateway.manage("apply_config", str(path))
    url = f"{network_gateway.url}{CHAT}"
    eventually(
        lambda: httpx.post(url, json=chat("demo/echo"), headers=bearer(TEAM_KEY)).status_code == 404,
        what="the end of the demo",
    )
    listed = httpx.get(f"{network_gateway.url}/v1/models", headers=bearer(TEAM_KEY)).json()["data"]
    assert not [model["id"] for model in listed if model["id"].startswith("demo/")]
