"""What tests of the hot path share: rows for a snapshot, a vendor at the transport, a client of the lane."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from django.conf import settings

from keys.caller import Caller
from providers.errors import UpstreamError
from providers.tests.samples import TEXT_STREAM, answer
from providers.upstream import Account, Upstream, UpstreamRequest
from proxy.compiling import compile_parts
from proxy.completion import Completion
from proxy.snapshot import Snapshot
from proxy.transport import Outgoing

SECRET = "a-test-key-of-24-characters"
JSON_HEADERS = {"content-type": "application/json"}
SSE_HEADERS = {"content-type": "text/event-stream"}


class Log:
    """Stands in for a module's structlog logger and remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def write(event: str, **fields: Any) -> None:
            self.lines.append((level, event, fields))

        return write

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of every line of one event."""
        return [fields for _, told, fields in self.lines if told == event]

    @property
    def problems(self) -> list[str]:
        """The events told at error level."""
        return [event for level, event, _ in self.lines if level in {"error", "exception"}]


# ---------------------------------------------------------------- configuration


def provider_row(name: str = "openai", **fields: Any) -> dict[str, Any]:
    """Return a provider as `proxy.rows` reads it."""
    return {
        "id": 1,
        "name": name,
        "dialect": "openai",
        "base_url": f"http://{name}.test/v1",
        "credential": "",
        "auth_header": "",
        "extra_headers": {},
        "enabled": True,
        "drop_unsupported_params": False,
        "shares_stored": False,
        "path_template": "",
        "quirks": {},
        "connect_timeout_s": 5.0,
        "first_content_timeout_s": None,
        "idle_timeout_s": 60.0,
        "total_timeout_s": None,
        "max_connections": 10,
        "max_concurrency": None,
        "max_queue": 100,
        "queue_timeout_s": 30.0,
        "credentials": [],
        **fields,
    }


def target_row(name: str, **fields: Any) -> dict[str, Any]:
    """Return a target: "provider" or "provider/model"."""
    provider, _, model = name.partition("/")
    return {
        "route_id": 1,
        "provider__name": provider,
        "model": model,
        "role": "normal",
        "weight": 1,
        "percent": None,
        "shadow_budget_nanousd_per_day": None,
        "context_window": None,
        **fields,
    }


def route_row(match: str, *targets: Any, kind: str = "exact", **fields: Any) -> dict[str, Any]:
    """Return a route; a target is "provider", "provider/model" or a row of it."""
    return {
        "id": 1,
        "match": match,
        "kind": kind,
        "priority": 0,
        "strategy": "ordered",
        "sticky": "",
        "sticky_header": "x-session-id",
        "connect_timeout_s": None,
        "first_content_timeout_s": None,
        "idle_timeout_s": None,
        "total_timeout_s": None,
        "hedge": False,
        "continue_streams": False,
        "targets": [target_row(each) if isinstance(each, str) else each for each in targets],
        **fields,
    }


def price_row(provider: str, model: str, **fields: Any) -> dict[str, Any]:
    """Return a price of one and two dollars per million tokens."""
    return {
        "id": 1,
        "provider__name": provider,
        "model": model,
        "input_nanousd_per_mtok": 10**9,
        "output_nanousd_per_mtok": 2 * 10**9,
        "cached_input_nanousd_per_mtok": None,
        "cache_write_nanousd_per_mtok": None,
        "context_window": None,
        "effective_from": 0.0,
        "source": "operator",
        **fields,
    }


def settings_row(**fields: Any) -> dict[str, Any]:
    """Return the one row of settings, all empty."""
    empty = {"default_provider__name": None, "default_model": "", "cache_ttl_s": None, "cache_epoch": 0}
    return {**empty, **fields}


def make_parts(*providers: Any, **parts: Any) -> dict[str, list[Any]]:
    """Return all small parts; providers by name or as rows."""
    rows = [provider_row(each) if isinstance(each, str) else each for each in providers]
    empty: dict[str, list[Any]] = {
        "models": [],
        "prices": [],
        "routes": [],
        "exclusions": [],
        "settings": [settings_row()],
        "tenants": [],
        "limits": [],
        "upstreams": [],
    }
    return {"providers": rows, **empty, **parts}


def make_snapshot(*providers: Any, callers: Mapping[bytes, Caller] | None = None, **parts: Any) -> Snapshot:
    """Return the snapshot of such parts."""
    return compile_parts(1, make_parts(*providers, **parts), callers or {})


def environment(**fields: Any) -> Any:
    """Return the test's environment with some values changed."""
    return replace(settings.GATEWAY, **fields)


class FakeVisit:
    """Remembers how it ended; `errors` are what it failed with."""

    def __init__(self, upstream: Upstream) -> None:
        self.target = self.upstream = upstream
        self.ends: list[str] = []
        self.errors: list[UpstreamError] = []

    def heard(self, headers: Mapping[str, str]) -> None:
        """Learn nothing."""

    def content(self) -> None:
        self.ends.append("content")

    def ended(self) -> None:
        self.ends.append("ended")

    def left(self) -> None:
        self.ends.append("left")

    def failed(self, error: UpstreamError) -> None:
        self.ends.append("failed")
        self.errors.append(error)


def make_completion(**fields: Any) -> Completion:
    """Return a Completion of a running request."""
    values = {"id": "boot-0-1", "request_id": "req-1", "at": 1_800_000_000.0, "endpoint": "chat", **fields}
    return Completion(**values)


def silent(record: bytes, attempts: int, prompt: str) -> None:
    """Log nothing of a request."""


class FakeSpool:
    """Remembers the lines, parsed."""

    full = False

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def append_open(self, completion_id: str, line: bytes) -> None:
        assert orjson.loads(line)["id"] == completion_id
        self.lines.append(orjson.loads(line))

    append_done = append_open

    @property
    def kinds(self) -> list[str]:
        """The kinds of line, in order."""
        return [line["kind"] for line in self.lines]

    @property
    def done(self) -> dict[str, Any]:
        """The one record of the end."""
        (record,) = [line for line in self.lines if line["kind"] == "done"]
        return record


class FakeMeter:
    """Counts in a list."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.completions: list[Completion] = []
        self.truncated_at: list[str] = []

    def finished(self, completion: Completion) -> None:
        self.completions.append(completion)

    def truncated(self, provider: str) -> None:
        self.truncated_at.append(provider)


# ---------------------------------------------------------------- the vendor


class FakeResponse:
    """A vendor's answer. `pieces` may hold errors to raise, and awaitables to wait for, in their places."""

    def __init__(self, *pieces: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers: Mapping[str, str] = JSON_HEADERS if headers is None else headers
        self.closed = self.finished = self.over = False
        self.watched: list[tuple[str, float, float | None]] = []
        self._script = pieces
        self.begin()

    def begin(self) -> None:
        """Start from the first piece, for the next request that gets this answer."""
        self._pieces = iter(self._script)

    async def read(self) -> bytes:
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        for piece in self._pieces:
            if isinstance(piece, BaseException):
                raise piece
            if not isinstance(piece, bytes):
                await piece
            elif piece:
                return piece
        return b""

    def watch(
        self,
        *,
        name: str,
        at: float,
        idle_s: float | None = None,
        tell_s: float | None = None,  # noqa: ARG002 - it is never silent
    ) -> None:
        self.watched.append((name, at, idle_s))

    def close(self) -> None:
        self.closed = True

    async def finish(self) -> None:
        self.finished = True


class FakeTransport:
    """Gives one scripted answer per request: a FakeResponse, an error to raise, or an awaitable before it."""

    def __init__(self, *script: Any) -> None:
        self.requests: list[tuple[Upstream, UpstreamRequest]] = []
        self.forwarded: list[tuple[Account, Outgoing, bytes]] = []
        self.responses: list[FakeResponse] = []
        self._script = list(script)

    async def open(self, upstream: Upstream, request: UpstreamRequest) -> FakeResponse:
        self.requests.append((upstream, request))
        return await self._next()

    async def forward(self, account: Account, request: Outgoing, *, answer_s: float) -> FakeResponse:
        """Take the whole body, then answer from the same script."""
        assert answer_s > 0
        body = request.body or b""
        if not isinstance(body, bytes):
            body = b"".join([piece async for piece in body])
        self.forwarded.append((account, request, body))
        return await self._next()

    async def _next(self) -> FakeResponse:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, UpstreamError):
            raise step
        response: FakeResponse = step if isinstance(step, FakeResponse) else await step()
        response.begin()
        self.responses.append(response)
        return response

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def asked(self) -> list[str]:
        """Which upstreams were asked, in order."""
        return [upstream.id for upstream, _ in self.requests]


def says(text: str = "Hello there.", **fields: Any) -> FakeResponse:
    """Return a whole answer."""
    return FakeResponse(orjson.dumps(answer(text, **fields)))


def streams(*pieces: Any) -> FakeResponse:
    """Return a stream; without pieces a whole one."""
    return FakeResponse(*(pieces or (TEXT_STREAM,)), headers=SSE_HEADERS)


def refuses(
    status: int, message: str = "no", *, headers: Mapping[str, str] | None = None, **error: Any
) -> FakeResponse:
    """Return an error in OpenAI's envelope."""
    body = orjson.dumps({"error": {"message": message, **error}})
    return FakeResponse(body, status=status, headers={**JSON_HEADERS, **(headers or {})})


# ---------------------------------------------------------------- the client


def chat_request(*, key: str = SECRET, path: str = "/v1/chat/completions", **fields: Any) -> "Client":
    """Return the client of one chat request; `headers` among the fields go out with it."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    headers |= fields.pop("headers", {})
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **fields}
    return Client("POST", path, orjson.dumps(body), **headers)


class Client:
    """Speaks ASGI to an application: sends one request, collects the answer, may leave at any time."""

    def __init__(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        query: str = "",
        address: str = "127.0.0.1",
        **headers: str,
    ) -> None:
        named = [
            (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()
        ]
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": named,
            "client": (address, 4711),
        }
        self.messages: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.got = asyncio.Event()
        self.received = 0
        pieces = [body] if isinstance(body, bytes) else list(body)
        self._pieces = [
            {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        ]

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            self.received += 1
            return self._pieces.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self.got.set()

    async def run(self, application: Any) -> "Client":
        """Run the request to its end."""
        await application(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        """The status, 0 without an answer."""
        return self.messages[0]["status"] if self.messages else 0

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers; a repeated one is joined."""
        joined: dict[str, str] = {}
        for name, value in self.messages[0]["headers"]:
            text = value.decode("latin-1")
            key = name.decode("latin-1")
            joined[key] = f"{joined[key]}, {text}" if key in joined else text
        return joined

    @property
    def body(self) -> bytes:
        """What has arrived of the body."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def whole(self) -> bool:
        """Has the answer ended?"""
        return (
            bool(self.messages) and not self.messages[-1].get("more_body", False) and len(self.messages) > 1
        )

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event; [DONE] as text."""
        texts = [
            text.removeprefix(b"data: ") for text in self.body.split(b"\n\n") if text.startswith(b"data: ")
        ]
        return ["[DONE]" if text == b"[DONE]" else orjson.loads(text) for text in texts]


async def until(condition: Callable[[], Any], *, turns: int = 2000) -> None:
    """Wait, a turn of the loop at a time, until `condition` holds."""
    for turn in range(turns):
        if condition():
            return
        await asyncio.sleep(0 if turn < turns // 2 else 0.001)
    raise AssertionError("it did not happen")


def spool_lines(directory: Any) -> list[dict[str, Any]]:
    """Return every line in a spool directory, in the order of its segments."""
    segments: Sequence[Any] = sorted(path for path in directory.iterdir() if path.suffix in {".open", ".seg"})
    return [orjson.loads(line) for path in segments for line in path.read_bytes().rstrip(b"\0").splitlines()]
