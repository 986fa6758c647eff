"""A vendor for what is passed on: files, batches, forms, audio and images, over real sockets.

    with file_vendor() as vendor, running_gateway(QUIET, files=behind(vendor)) as gateway:
        ...
        assert vendor.asked("/v1/files")[-1].sha256 == sha256(content)

Beside /v1 it answers under /down/v1 (503 to all), /early/v1 (refuses a body that it has not read, and
hangs up), /polite/v1 (refuses it too, but reads what comes) and /cut/v1 (breaks answers off).
"""

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from tests.servers import eventually, free_port
from tests.upstream import DISABLED_KEY, LIMITED_KEY, TEAM_KEY, UPSTREAM_KEY

SPEECH = bytes(range(256)) * 400
KEPT_BYTES = 1 << 20
_PART = re.compile(rb'name="(\w+)"(?:; filename="[^"]*")?[^\r]*\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


@dataclass
class Asked:
    """One request as the vendor saw it. `body` is its first MiB, `outcome` how it ended for the vendor."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    body: bytes = b""
    sha256: str = ""
    outcome: str = "running"
    fields: dict[str, bytes] = field(default_factory=dict)


class FileVendor:
    """What it was asked, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Asked] = []
        self.files: dict[str, bytes] = {}

    def asked(self, path: str) -> list[Asked]:
        """Return the requests for a path, whatever its query."""
        return [each for each in self.requests if each.path.partition("?")[0] == path]

    def wait_for(self, outcome: str, path: str) -> Asked:
        """Wait until the last request for a path has ended so."""
        return eventually(
            lambda: next((each for each in self.asked(path)[-1:] if each.outcome == outcome), None),
            within_s=15,
            what=f"{outcome} at {path}",
        )  # type: ignore[return-value]  # never None: it fails instead


@contextlib.contextmanager
def file_vendor() -> Iterator[FileVendor]:
    """Run the vendor on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    vendor = FileVendor(f"http://127.0.0.1:{server.server_address[1]}")
    server.vendor = vendor  # type: ignore[attr-defined]  # for the handlers
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def behind(vendor: FileVendor) -> dict[str, str]:
    """Return the configuration files of a gateway with this vendor behind it."""

    def provider(name: str, base_url: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "dialect": "openai", "base_url": base_url, "api_key": UPSTREAM_KEY, **more}

    named = {name: provider(name, f"{vendor.url}/{name}/v1") for name in ("down", "early", "polite", "cut")}
    config = {
        "version": 1,
        "default_provider": "main",
        "providers": [
            provider("main", f"{vendor.url}/v1", shares_stored=True),
            provider("private", f"{vendor.url}/v1"),
            *named.values(),
            provider("closed", f"http://127.0.0.1:{free_port()}/v1"),
        ],
        "routes": [
            {"match": "rescued*", "targets": [{"provider": "down"}, {"provider": "main", "model": "spare"}]},
            {
                "match": "reached*",
                "targets": [{"provider": "closed"}, {"provider": "main", "model": "spare"}],
            },
        ],
        "tenants": [{"name": "team"}],
        "keys": [
            {"name": "team-key", "tenant": "team", "secret": TEAM_KEY},
            {"name": "disabled", "tenant": "team", "secret": DISABLED_KEY, "enabled": False},
            {"name": "limited", "tenant": "team", "secret": LIMITED_KEY, "allowed_models": ["tts*"]},
        ],
        "prices": [
            {
                "provider": "main",
                "model": "gpt-image-1",
                "input_usd_per_mtok": "5",
                "output_usd_per_mtok": "40",
            }
        ],
    }
    return {"config.yaml": yaml.safe_dump(config)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def _serve(self) -> None:
        vendor: FileVendor = self.server.vendor  # type: ignore[attr-defined]  # see file_vendor
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers)
        vendor.requests.append(asked)
        path = self.path.partition("?")[0]
        try:
            if path.startswith("/early/"):
                self._refuse_early(asked)
                return
            if path.startswith("/polite/"):
                self._json({"error": {"message": "too large for us", "code": "file_too_large"}}, 413)
            self._read(asked)
            if not path.startswith("/polite/"):
                self._answer(vendor, asked, path)
            asked.outcome = "answered"
        except (ConnectionError, TimeoutError, EOFError) as problem:
            asked.outcome = "disconnected"
            asked.fields["why"] = repr(problem).encode()
            self.close_connection = True

    def _refuse_early(self, asked: Asked) -> None:
        self._json({"error": {"message": "no such key", "code": "invalid_api_key"}}, 401)
        asked.outcome = "refused"
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        # As servers do that want their answer to be read: closing on unread bytes would reset it away.
        while self.connection.recv(1 << 16):
            pass

    def _read(self, asked: Asked) -> None:
        digest = hashlib.sha256()
        for piece in self._pieces():
            digest.update(piece)
            asked.received += len(piece)
            if len(asked.body) < KEPT_BYTES:
                asked.body += piece
        asked.sha256 = digest.hexdigest()
        asked.fields = {name.decode(): value for name, value in _PART.findall(asked.body)}

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                yield self._exactly(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length") or 0)
        while left:
            piece = self._exactly(min(left, 1 << 16))
            left -= len(piece)
            yield piece

    def _exactly(self, size: int) -> bytes:
        piece = self.rfile.read(size)
        if len(piece) < size:
            raise EOFError
        return piece

    def _answer(self, vendor: FileVendor, asked: Asked, path: str) -> None:
        if path.startswith("/down/"):
            self._json({"error": {"message": "we are down"}}, 503)
        elif path.startswith("/cut/"):
            self._cut()
        elif "/files" in path:
            self._files(vendor, asked, path)
        elif "/batches" in path:
            self._json(
                _batch(path.split("/")[3:])
                if path != "/v1/batches" or asked.method == "POST"
                else _list(_batch([]))
            )
        elif path.endswith("/audio/speech"):
            self._bytes(SPEECH, "audio/mpeg")
        elif path.endswith("/images/generations") and json.loads(asked.body).get("stream"):
            self._bytes(_IMAGE_EVENTS, "text/event-stream")
        else:
            self._json(
                _ANSWERS.get(path.removeprefix("/v1/"), {"id": path.rpartition("/")[2], "object": "response"})
            )

    def _files(self, vendor: FileVendor, asked: Asked, path: str) -> None:
        parts = path.split("/")[3:]
        if asked.method == "POST":
            vendor.files["file-1"] = asked.fields.get("file", b"")
            self._json(_file("file-1"))
        elif not parts:
            self._json(_list(_file("file-1")))
        elif parts[0] == "file-missing":
            self._json(
                {"error": {"message": "No such File object: file-missing", "type": "invalid_request_error"}},
                404,
            )
        elif parts[-1] == "content":
            self._bytes(
                vendor.files[parts[0]], "application/json", disposition='attachment; filename="a.jsonl"'
            )
        elif asked.method == "DELETE":
            self._json({"id": parts[0], "object": "file", "deleted": True})
        else:
            self._json(_file(parts[0]))

    def _cut(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "audio/mpeg")
        self.send_header("content-length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        self.close_connection = True

    def _json(self, what: object, status: int = 200) -> None:
        self._bytes(json.dumps(what).encode(), "application/json", status)

    def _bytes(self, body: bytes, kind: str, status: int = 200, *, disposition: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-ratelimit-remaining-requests", "41")
        self.send_header("set-cookie", "vendor=1")
        self.send_header("openai-processing-ms", "7")
        if disposition:
            self.send_header("content-disposition", disposition)
        self.end_headers()
        self.wfile.write(body)


def _list(*found: object) -> dict[str, Any]:
    return {"object": "list", "data": found, "has_more": False}


def _file(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": 10,
        "created_at": 1,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": "processed",
    }


def _batch(parts: list[str]) -> dict[str, Any]:
    return {
        "id": parts[0] if parts else "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "cancelling" if parts[-1:] == ["cancel"] else "validating",
        "created_at": 1,
        # Newer batches tell what all their requests have cost: not what this one does.
        "usage": {"input_tokens": 999, "output_tokens": 999, "total_tokens": 1998},
    }


_ANSWERS: dict[str, Any] = {
    "moderations": {
        "id": "modr-1",
        "model": "omni-moderation-latest",
        "results": [
            {"flagged": True, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
        ],
    },
    "images/generations": {
        "created": 1,
        "data": [{"b64_json": "aW1hZ2U="}],
        "usage": {"input_tokens": 100, "output_tokens": 1000, "total_tokens": 1100},
    },
    "images/edits": {"created": 1, "data": [{"b64_json": "aW1hZ2U="}]},
    "images/variations": {"created": 1, "data": [{"b64_json": "aW1hZ2U="}]},
    "audio/transcriptions": {"text": "hello", "usage": {"type": "duration", "seconds": 3}},
    "audio/translations": {"text": "hello"},
    "rerank": {"results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 15}},
}
_IMAGE_EVENTS = (
    b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image",'
    b'"b64_json":"aQ==","partial_image_index":0}\n\n'
    b'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"aW1n",'
    b'"usage":{"input_tokens":100,"output_tokens":1000,"total_tokens":1100}}\n\n'
)
