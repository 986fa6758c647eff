"""Vendors for tests: the conformance kit's fake one, in this process, and one that keeps every byte.

    with fake_vendor() as vendor, running_gateway(QUIET, files=wired(vendor)) as gateway:
        ...POST {"model": "replay/synthetic~fail=1x503"}...
        assert [each["status"] for each in vendor.asked("synthetic")] == [503, 200]

The model's name chooses the fault; ../shared/conformance/README.md lists them. `unique` makes a
name whose requests only this test finds.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from tests.servers import CHECKOUT, eventually, free_port

KIT = Path(os.environ.get("GATEWAY_CONFORMANCE") or CHECKOUT.parent / "shared" / "conformance")
UPSTREAM_KEY = "an-upstream-key-that-no-client-may-see"
# No breaker and two attempts: faults of one test say nothing to the next.
QUIET: Mapping[str, str] = {"CACHE_MODE": "none", "CB_ERROR_THRESHOLD": "0", "MAX_RETRIES": "2"}

# Keys of `wired`, taken as they are.
TEAM_KEY = "the-key-of-the-team-0123456789"
OTHER_KEY = "the-key-of-another-tenant-0123"
DISABLED_KEY = "a-key-that-is-disabled-0123456"
EXPIRED_KEY = "a-key-that-has-expired-01234567"
LIMITED_KEY = "a-key-for-the-demo-alone-012345"

_numbers = itertools.count(1)
_IN_PATH = re.compile(r"/models/([^/]+):\w+$")  # as Gemini is asked


def unique(model: str = "synthetic") -> str:
    """Return the fake vendor's model under a name of its own, so that its requests can be told apart."""
    return f"{model}~tag={os.getpid()}x{next(_numbers)}"


class FakeVendor:
    """The kit's replay_upstream, with its request log."""

    def __init__(self, running: Any) -> None:
        self._running = running
        self.url: str = running.url

    def under(self, url: str) -> "FakeVendor":
        """Return it under another address."""
        other = FakeVendor(self._running)
        other.url = url
        return other

    def asked(self, model: str) -> list[dict[str, Any]]:
        """Return the log of the requests for a model, by the name the gateway was asked for."""
        name = model.removeprefix("replay/").removeprefix("spare/").removeprefix("brief/")
        return [each for each in self._running.requests() if _model_of(each) == name]

    def everything(self) -> list[dict[str, Any]]:
        """Return the log of all requests."""
        found: list[dict[str, Any]] = self._running.requests()
        return found

    def learn(
        self,
        case: str,
        *,
        provider: str,
        status: int,
        body: str,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Have it give one more answer, for the model `case`; `provider` is the vendor that it plays."""
        told = {"content-type": content_type, **(headers or {})}
        answer = {"status": status, "headers": told, "body": body}
        self._running.state.cases[case] = {"id": case, "provider": provider, "kind": "", "response": answer}

    def rule(self, **rule: Any) -> None:
        """Have it treat some requests in a way of their own: see Rules in the kit's README."""
        self._running.rules(rule)

    def wait_for_outcome(self, model: str, outcome: str, *, within_s: float = 10) -> dict[str, Any]:
        """Wait until the last request for `model` has ended with `outcome`."""

        def found() -> dict[str, Any] | None:
            asked = self.asked(model)
            return asked[-1] if asked and outcome in (asked[-1].get("outcome") or "") else None

        return eventually(found, within_s=within_s, what=f"{outcome!r} of {model}") or {}


def _model_of(entry: Mapping[str, Any]) -> str:
    named = _IN_PATH.search(entry["path"])
    if named is not None:
        return unquote(named[1])
    body = entry.get("body")
    return str(body.get("model")) if isinstance(body, dict) else ""


@contextlib.contextmanager
def fake_vendor() -> Iterator[FakeVendor]:
    """Run the conformance kit's fake vendor on a free port."""
    script = KIT / "replay_upstream.py"
    if not script.is_file():
        pytest.skip("the conformance kit is not at ../shared/conformance (or GATEWAY_CONFORMANCE)")
    spec = importlib.util.spec_from_file_location("replay_upstream", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get("replay_upstream") or importlib.util.module_from_spec(spec)
    if "replay_upstream" not in sys.modules:
        sys.modules["replay_upstream"] = module
        spec.loader.exec_module(module)
    with module.start(port=0) as running:
        yield FakeVendor(running)


def wired(vendor: FakeVendor, **more: Any) -> dict[str, str]:
    """Return the configuration files of a gateway with the fake vendor behind it; `more` adds sections."""
    providers = [
        _provider("replay", f"{vendor.url}/openai/v1"),
        _provider("spare", f"{vendor.url}/compat/v1"),
        {
            **_provider("brief", f"{vendor.url}/openai/v1"),
            "timeouts": {"connect": 1, "first_content": 1, "idle": 1, "total": 3},
        },
        _provider("closed", f"http://127.0.0.1:{free_port()}/v1"),
    ]
    both = [{"provider": "replay"}, {"provider": "spare"}]
    config = {
        "version": 1,
        "providers": providers,
        "routes": [
            {"match": "pair*", "targets": both},
            {"match": "rescued*", "targets": [{"provider": "closed"}, {"provider": "spare"}]},
        ],
        "tenants": [{"name": "team"}, {"name": "other"}],
        "keys": [
            {"name": "team-key", "tenant": "team", "secret": TEAM_KEY},
            {"name": "other-key", "tenant": "other", "secret": OTHER_KEY},
            {"name": "disabled", "tenant": "team", "secret": DISABLED_KEY, "enabled": False},
            {
                "name": "expired",
                "tenant": "team",
                "secret": EXPIRED_KEY,
                "expires_at": "2020-01-01T00:00:00Z",
            },
            {"name": "limited", "tenant": "team", "secret": LIMITED_KEY, "allowed_models": ["demo/*"]},
        ],
        **more,
    }
    return {"config.yaml": yaml.safe_dump(config)}


def _provider(name: str, base_url: str) -> dict[str, Any]:
    return {"name": name, "dialect": "openai", "base_url": base_url, "api_key": UPSTREAM_KEY}


@dataclass
class RawVendor:
    """A vendor that keeps each request's bytes and gives one answer to all."""

    url: str
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def raw_vendor() -> Iterator[RawVendor]:
    """Run a vendor that shows what was really sent to it."""
    answer = {
        "id": "chatcmpl-raw",
        "object": "chat.completion",
        "created": 1,
        "model": "raw",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "kept"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    listing = {"object": "list", "data": [{"id": "raw", "created": 1, "owned_by": "tests"}]}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(listing)

        def do_POST(self) -> None:
            kept.bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
            kept.headers.append({name.lower(): value for name, value in self.headers.items()})
            self._reply(answer)

        def _reply(self, what: object) -> None:
            body = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept = RawVendor(url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def chat(model: str, text: str = "Hello there", **more: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def bearer(key: str) -> dict[str, str]:
    """Return a key as a header."""
    return {"Authorization": f"Bearer {key}"}


def data_lines(lines: Sequence[str]) -> list[str]:
    """Return what the `data:` lines of a stream carry."""
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
