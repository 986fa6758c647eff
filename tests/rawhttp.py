"""HTTP by hand, for requests that no client library would send."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.gateway import Gateway
from tests.upstream import TEAM_KEY, bearer, chat


@dataclass(frozen=True)
class Reply:
    """One response; of repeated headers the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error of OpenAI's envelope, which must be whole."""
        assert self.headers["content-type"] == "application/json", (self.status, self.headers, self.body)
        parsed = self.json()
        assert set(parsed) == {"error"}
        assert set(parsed["error"]) == {"message", "type", "param", "code"}
        assert parsed["error"]["message"]
        error: dict[str, Any] = parsed["error"]
        return error

    @property
    def anthropic_error(self) -> dict[str, Any]:
        """Return the error of Anthropic's envelope, which must be whole."""
        assert self.headers["content-type"] == "application/json", (self.status, self.headers, self.body)
        parsed = self.json()
        assert set(parsed) == {"type", "error", "request_id"}
        assert parsed["type"] == "error"
        assert parsed["error"]["message"]
        error: dict[str, Any] = parsed["error"]
        return error


class RawConnection:
    """One keep-alive connection."""

    def __init__(self, gateway: Gateway, *, timeout_s: float = 20) -> None:
        """Connect."""
        self._host = f"127.0.0.1:{gateway.port}"
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout_s)
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send one request and read its response."""
        self.send(method, path, headers, body)
        return self.read(method)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> None:
        """Send one request: its length is told unless the headers say otherwise."""
        self.socket.sendall(self.head(method, path, headers, body) + (body or b""))

    def head(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
        """Return a request's head as it goes out."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None and "transfer-encoding" not in {name.lower() for name in headers}:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def read(self, method: str = "GET") -> Reply:
        """Read one response. Raises ConnectionError when there is none."""
        status, headers = self.read_head()
        if method == "HEAD" or status in {204, 304} or status < 200:
            return Reply(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, b"".join(self.chunks()))
        return Reply(status, headers, self._file.read(int(headers["content-length"])))

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and headers."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server has closed the connection")
        status = int(line.split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    def chunks(self) -> Iterator[bytes]:
        """Read a chunked body as it arrives."""
        while True:
            line = self._file.readline()
            if not line:
                raise ConnectionError("the body has no end")
            size = int(line.split(b";")[0], 16)
            chunk = self._file.read(size)
            self._file.readline()
            if not size:
                return
            yield chunk


@contextlib.contextmanager
def connection(gateway: Gateway, *, timeout_s: float = 20) -> Iterator[RawConnection]:
    """Connect for the length of the block."""
    opened = RawConnection(gateway, timeout_s=timeout_s)
    try:
        yield opened
    finally:
        opened.close()


def errors_in(log: str) -> list[str]:
    """Return the log's lines at error level, and what no logger wrote: traces and stray prints."""
    found = []
    for line in log.splitlines():
        if not line.startswith("{"):
            if "Traceback" in line or "Exception" in line or "Error" in line:
                found.append(line)
            continue
        if json.loads(line).get("level") in {"error", "critical"}:
            found.append(line)
    return found


def assert_usable(opened: RawConnection) -> None:
    """A good request on the same connection is answered."""
    body = json.dumps(chat("demo/echo")).encode()
    reply = opened.ask("POST", "/v1/chat/completions", bearer(TEAM_KEY), body)
    assert reply.status == 200
    assert reply.json()["choices"]
