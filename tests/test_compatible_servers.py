"""Compatible servers that differ from OpenAI, before a served gateway: their rows say how."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.gateway import Gateway, running_gateway
from tests.upstream import QUIET, UPSTREAM_KEY

AZURE_PATH = "/openai/deployments/{model}{path}?api-version=2024-10-21"
# What a strict server takes: any other field is an error to it.
STRICT = {"model", "messages", "max_tokens", "temperature", "stream", "tools"}


class Servers:
    """A server for each first step of a path, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def last(self) -> dict[str, Any]:
        return self.asked[-1]

    def requests(self) -> int:
        """How often something was to be answered; lists of models are asked for in the background."""
        return sum(bool(each["body"]) for each in self.asked)


def refusal(path: str, headers: dict[str, str], body: dict[str, Any]) -> str:
    """Return what the server at `path` does not like."""
    if path.startswith("/azure/"):
        if headers.get("api-key") != UPSTREAM_KEY or "authorization" in headers:
            return "Access denied due to invalid subscription key."
        if "/deployments/my-gpt/" not in path and "/openai/models" not in path:
            return "The API deployment for this resource does not exist."
        return "" if "api-version=2024-10-21" in path else "Resource not found"
    unknown = sorted(set(body) - STRICT)
    if unknown:
        return f"Unrecognized request argument supplied: {unknown[0]}"
    roles = {message["role"] for message in body.get("messages", ())}
    return "" if roles <= {"system", "user", "assistant", "tool"} else f"unknown role in {sorted(roles)}"


def answer(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "kept"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def streamed(body: dict[str, Any]) -> bytes:
    whole = answer(body)
    head = {name: whole[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    deltas = [({"role": "assistant", "content": "kept"}, None), ({}, "stop")]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Servers, str]]:
    seen = Servers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._take({})

        def do_POST(self) -> None:
            self._take(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _take(self, body: dict[str, Any]) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.asked.append({"path": self.path, "headers": headers, "body": body})
            problem = refusal(self.path, headers, body)
            if problem:
                self._reply(400, {"error": {"message": problem, "type": "invalid_request_error"}})
            elif urlsplit(self.path).path.endswith("/models"):
                self._reply(200, {"data": [{"id": "gpt-4o", "object": "model"}]})
            elif body.get("stream"):
                self._write(200, "text/event-stream", streamed(body))
            else:
                self._reply(200, answer(body))

        def _reply(self, status: int, what: object) -> None:
            self._write(status, "application/json", json.dumps(what).encode())

        def _write(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield seen, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(scope="module")
def gateway(servers: tuple[Servers, str]) -> Iterator[Gateway]:
    _, url = servers
    quirks = {
        "rename_params": {"max_completion_tokens": "max_tokens"},
        "unsupported_params": ["logit_bias", "seed", "user", "n"],
        "developer_role": "system",
        "stream_usage": False,
        "completions": False,
        "responses": False,
    }
    strict = {"dialect": "openai", "base_url": f"{url}/strict/v1", "api_key": UPSTREAM_KEY, "quirks": quirks}
    azure = {
        "name": "azure",
        "dialect": "openai",
        "base_url": f"{url}/azure",
        "api_key": UPSTREAM_KEY,
        "auth_header": "api-key",
        "path_template": AZURE_PATH,
        "quirks": {"completions": False, "responses": False},
    }
    providers = [
        azure,
        {"name": "strict", **strict},
        {"name": "lenient", **strict, "drop_unsupported_params": True},
    ]
    config = yaml.safe_dump({"version": 1, "providers": providers})
    with running_gateway(QUIET, files={"config.yaml": config}) as served:
        yield served


def ask(gateway: Gateway, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/{path}", headers=gateway.headers, json=body, timeout=30)


HELLO = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_it_asks_azure_by_deployment(gateway: Gateway, servers: tuple[Servers, str]) -> None:
    seen, _ = servers
    reply = ask(gateway, "chat/completions", model="azure/my-gpt", messages=HELLO, stream=True)
    assert reply.status_code == 200
    assert reply.text.endswith("data: [DONE]\n\n")
    asked = seen.last()
    assert asked["path"] == "/azure/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert asked["headers"]["api-key"] == UPSTREAM_KEY
    assert asked["body"]["stream_options"] == {"include_usage": True}
    text = ask(gateway, "completions", model="azure/my-gpt", prompt="Hello", echo=True)
    assert text.json()["choices"][0]["text"] == "Hellokept"
    assert "/deployments/my-gpt/chat/completions?" in seen.last()["path"]


def test_it_tells_of_a_deployment_that_azure_has_not(gateway: Gateway) -> None:
    reply = ask(gateway, "chat/completions", model="azure/other", messages=HELLO)
    assert reply.status_code == 400
    assert "deployment" in reply.json()["error"]["message"]


def test_it_fits_a_request_to_a_strict_server(gateway: Gateway, servers: tuple[Servers, str]) -> None:
    seen, _ = servers
    limits = {"max_completion_tokens": 7, "temperature": 0.5, "n": 1}
    reply = ask(gateway, "chat/completions", model="strict/llama", messages=HELLO, stream=True, **limits)
    assert reply.status_code == 200
    assert "x-gateway-dropped-params" not in reply.headers
    assert seen.last()["body"] == {
        "model": "llama",
        "messages": [{"role": "system", "content": "Be brief."}, HELLO[1]],
        "stream": True,
        "max_tokens": 7,
        "temperature": 0.5,
    }


def test_it_refuses_by_name_what_a_server_lacks(gateway: Gateway, servers: tuple[Servers, str]) -> None:
    seen, _ = servers
    before = seen.requests()
    reply = ask(gateway, "chat/completions", model="strict/llama", messages=HELLO, seed=7)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "seed")
    assert reply.json()["error"]["code"] == "unsupported_parameter"
    assert seen.requests() == before


@pytest.mark.parametrize("stream", [False, True])
def test_it_tells_what_it_dropped(gateway: Gateway, servers: tuple[Servers, str], stream: bool) -> None:
    seen, _ = servers
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    fields = {"seed": 7, "logit_bias": {"1": 5}, "user": "me", **options}
    reply = ask(gateway, "chat/completions", model="lenient/llama", messages=HELLO, **fields)
    assert reply.status_code == 200
    dropped = {"seed", "logit_bias", "user"} | ({"stream_options"} if stream else set())
    assert set(reply.headers["x-gateway-dropped-params"].split(", ")) == dropped
    assert not dropped & set(seen.last()["body"])


def test_it_drops_a_hint_wherever_it_is_not_known(gateway: Gateway) -> None:
    reply = ask(gateway, "chat/completions", model="strict/llama", messages=HELLO, user="me")
    assert (reply.status_code, reply.headers["x-gateway-dropped-params"]) == (200, "user")


def test_it_lists_the_models_where_azure_has_them(gateway: Gateway, servers: tuple[Servers, str]) -> None:
    seen, _ = servers
    probed = "from providers.models import Provider; from providers.probe import probe; "
    printed = gateway.manage("shell", "-c", probed + "print(probe(Provider.objects.get(name='azure')).names)")
    assert "['gpt-4o']" in printed
    assert any(
        each["path"] == "/azure/openai/models?api-version=2024-10-21"
        and each["headers"]["api-key"] == UPSTREAM_KEY
        for each in seen.asked
    )
