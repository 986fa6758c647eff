import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from providers.models import Credential, Provider
from providers.probe import probe

SECRET = 'sk-live-"quoted"-0123456789'


class Vendor:
    """A vendor on a real socket: answers every GET with what it is told, and remembers the headers."""

    def __init__(self):
        self.status, self.headers, self.body, self.pause_s = 200, {}, b'{"data": []}', 0.0
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def lists(self, *names):
        self.body = json.dumps(
            {"data": [{"id": name, "created": 7, "owned_by": "acme"} for name in names]}
        ).encode()


@contextmanager
def vendor_server() -> Iterator[Vendor]:
    vendor = Vendor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            vendor.seen.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
            time.sleep(vendor.pause_s)
            self.send_response(vendor.status)
            for name, text in {"content-length": str(len(vendor.body)), **vendor.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(vendor.body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vendor.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def vendor():
    with vendor_server() as running:
        yield running


def provider(url, *, secret=SECRET, **fields):
    made = Provider(name="acme", dialect="openai", base_url=url, **fields)
    made.set_credential(secret)
    return made


def test_it_returns_the_models_and_the_time_it_took(vendor):
    vendor.lists("small", "large")
    result = probe(provider(vendor.url))
    assert result.ok
    assert not result.error
    assert result.names == ["large", "small"]
    assert result.models[0] == {"id": "small", "created": 7, "owned_by": "acme"}
    assert result.latency_ms > 0


def test_it_asks_with_the_credential_and_the_extra_headers(vendor):
    probe(provider(vendor.url + "/", extra_headers={"OpenAI-Organization": "org-1"}))
    path, headers = vendor.seen[0]
    assert path == "/v1/models"
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["openai-organization"] == "org-1"


def test_it_uses_the_providers_own_auth_header(vendor):
    probe(provider(vendor.url, auth_header="api-key"))
    _, headers = vendor.seen[0]
    assert headers["api-key"] == SECRET
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("", "/v1/models"),
        (
            "/openai/deployments/{model}{path}?api-version=1",
            "/v1/openai/models?api-version=1",
        ),
        ("{path}?tenant=7", "/v1/models?tenant=7"),
    ],
)
def test_it_asks_where_the_providers_paths_are(vendor, template, path):
    vendor.lists("small")
    assert probe(provider(vendor.url, path_template=template)).names == ["small"]
    assert vendor.seen[0][0] == path


def test_it_answers_for_the_demo_provider_without_any_request():
    result = probe(Provider(name="demo", dialect="openai", base_url="demo://"))
    assert result.ok
    assert "echo" in result.names


def test_it_reports_the_vendors_own_words(vendor):
    vendor.status, vendor.body = (
        401,
        b'{"error": {"message": "No such key here.", "code": "invalid_api_key"}}',
    )
    result = probe(provider(vendor.url))
    assert not result.ok
    assert result.error == "Status 401: No such key here."


@pytest.mark.parametrize(
    "echo",
    [
        lambda secret: json.dumps({"error": {"message": f"bad key {secret}"}}),
        lambda secret: json.dumps({"error": {"message": f"bad key {quote(secret, safe='')}"}}),
        lambda secret: json.dumps({"error": {"message": "x" * 1990 + secret}}),
        lambda secret: f"plain text with {secret} in it",
        lambda secret: "bad key " + "".join(f"\\u{ord(letter):04x}" for letter in secret),
        lambda secret: '{"error": {"message": "' + "".join(f"\\u{ord(c):04x}" for c in secret) + '"}}',
    ],
    ids=["json", "url-quoted", "cut-in-the-middle", "text", "escaped-text", "json-escaped"],
)
def test_it_never_shows_a_credential_that_the_vendor_echoes(vendor, echo):
    vendor.status, vendor.body = 401, echo(SECRET).encode()
    result = probe(provider(vendor.url))
    assert not result.ok
    for shown in (result.error, repr(result)):
        assert SECRET not in shown
        assert SECRET[:12] not in shown
        assert quote(SECRET, safe="") not in shown


def test_it_hides_values_of_extra_headers_and_passwords_in_the_url(vendor):
    vendor.status, vendor.body = 400, b"team-secret-1 and hunter22 were refused"
    url = vendor.url.replace("://", "://user:hunter22@")
    result = probe(provider(url, extra_headers={"x-auth": "team-secret-1"}))
    assert result.error == "Status 400: [hidden] and [hidden] were refused"


@pytest.mark.parametrize("secret", ["naïve-key-ü", "two\nlines-of-key", "nul-\x00-byte"])
def test_it_does_not_quote_a_key_that_cannot_be_sent(vendor, secret):
    result = probe(provider(vendor.url, secret=secret))
    assert not result.ok
    assert secret not in result.error
    assert "HTTP cannot carry" in result.error


def test_it_says_so_when_the_variable_is_not_set(vendor, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    result = probe(provider(vendor.url, secret="${NO_SUCH_KEY}"))
    assert result.error == "The environment variable NO_SUCH_KEY is not set where the gateway runs."
    assert vendor.seen == []


def test_it_reads_the_variable(vendor, monkeypatch):
    monkeypatch.setenv("SUCH_KEY", "from-the-environment")
    assert probe(provider(vendor.url, secret="${SUCH_KEY}")).ok
    assert vendor.seen[0][1]["authorization"] == "Bearer from-the-environment"


def test_it_says_so_when_no_key_opens_the_credential(vendor, settings):
    stored = provider(vendor.url)
    settings.SECRET_KEYS = ("another-key",)
    result = probe(stored)
    assert "cannot be read" in result.error
    assert vendor.seen == []


def test_it_says_so_when_the_dialect_is_not_spoken(vendor, monkeypatch):
    monkeypatch.setattr("providers.probe.DIALECTS", {})
    result = probe(Provider(name="g", dialect="gemini", base_url=vendor.url))
    assert result.error == "This version does not speak the Gemini dialect yet."


def test_it_does_not_follow_a_redirect_with_the_key(vendor):
    vendor.status, vendor.headers = 302, {"location": vendor.url + "/elsewhere"}
    result = probe(provider(vendor.url))
    assert not result.ok
    assert "/elsewhere" in result.error
    assert len(vendor.seen) == 1


def test_it_gives_up_on_a_vendor_that_does_not_answer(vendor):
    vendor.pause_s = 1.0
    result = probe(provider(vendor.url), timeout_s=0.1)
    assert result.error == "No answer within 0.1 s."


def test_it_reports_a_refused_connection():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        result = probe(provider(f"http://127.0.0.1:{port}/v1"))
    assert not result.ok
    assert "refused" in result.error


@pytest.mark.parametrize(
    "url", ["http://[broken", "http://", "https://no such host/", "http://host:99999999/v1"]
)
def test_it_reports_an_impossible_url(url):
    result = probe(provider(url))
    assert not result.ok
    assert result.error


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 3}', b"\xff\xfe"])
def test_it_reports_an_answer_that_is_no_list(vendor, body):
    vendor.body = body
    result = probe(provider(vendor.url))
    assert not result.ok
    assert result.error


def test_it_stops_reading_an_endless_answer(vendor, monkeypatch):
    monkeypatch.setattr("providers.probe.MAX_BODY_BYTES", 1000)
    vendor.body = b"x" * 100_000
    assert "larger than" in probe(provider(vendor.url)).error


@pytest.mark.parametrize("base", ["", "/", "/v1beta", "/v1beta/", "/v1"])
def test_it_asks_for_a_version_once(vendor, base):
    vendor.body = b'{"models": [{"name": "models/gemini-2.5-flash"}]}'
    stored = Provider(name="g", dialect="gemini", base_url=vendor.url.removesuffix("/v1") + base)
    assert probe(stored).names == ["gemini-2.5-flash"]
    assert vendor.seen[0][0] == "/v1beta/models?pageSize=1000"


@pytest.mark.django_db
def test_it_asks_with_a_further_credential_where_the_providers_own_is_missing(vendor):
    vendor.lists("small")
    asked = provider(vendor.url, secret="${NO_SUCH_VARIABLE_HERE}")
    asked.save()
    assert "NO_SUCH_VARIABLE_HERE is not set" in probe(asked).error
    further = Credential(provider=asked, name="b")
    further.set_credential(SECRET)
    further.save()
    assert probe(asked).names == ["small"]
    assert vendor.seen[0][1]["authorization"] == f"Bearer {SECRET}"
