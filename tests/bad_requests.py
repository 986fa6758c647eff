"""The table of bad requests: what is sent, and what it must be answered with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.upstream import DISABLED_KEY, EXPIRED_KEY, LIMITED_KEY, OTHER_KEY, TEAM_KEY, bearer, chat

CHAT = "/v1/chat/completions"
MODEL = "replay/synthetic"
GOOD = json.dumps(chat(MODEL)).encode()
MISTYPED = "sk-gw-0000000000000000000000000000000000000000000000000"


@dataclass(frozen=True)
class Bad:
    """A request and what it must be answered with."""

    status: int
    body: bytes | None = None
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    method: str = "POST"
    path: str = CHAT
    headers: Mapping[str, str] = field(default_factory=lambda: bearer(TEAM_KEY))


def of(body: Any, *, param: str | None = None, path: str = CHAT, status: int = 400) -> Bad:
    """A body that is JSON."""
    return Bad(status, json.dumps(body).encode(), param=param, path=path)


def raw(body: bytes, *, param: str | None = None) -> Bad:
    """A body that is no JSON, or none that may be read."""
    return Bad(400, body, param=param)


def auth(headers: Mapping[str, str], code: str) -> Bad:
    return Bad(401, GOOD, type="authentication_error", code=code, headers=headers)


def method(name: str, path: str) -> Bad:
    return Bad(405, b"" if name == "POST" else None, code="method_not_allowed", method=name, path=path)


def nowhere(name: str, path: str) -> Bad:
    return Bad(
        404, b"{}" if name == "POST" else None, "not_found_error", code="unknown_path", method=name, path=path
    )


HELLO = chat(MODEL)["messages"]
BODIES = {
    "empty body": raw(b""),
    "white space": raw(b" \r\n\t"),
    "cut off": raw(GOOD[:-10]),
    "trailing comma": raw(b'{"model": "m", "messages": [],}'),
    "two objects": raw(GOOD + GOOD),
    "single quotes": raw(b"{'model': 'm'}"),
    "form data": raw(b"model=m&messages=x"),
    "null": raw(b"null"),
    "list": raw(b"[]"),
    "text": raw(b'"hello"'),
    "number": raw(b"1"),
    "NaN": raw(GOOD[:-1] + b', "temperature": NaN}'),
    "Infinity": raw(GOOD[:-1] + b', "temperature": -Infinity}'),
    "not UTF-8": raw(GOOD.replace(b"Hello", b"\xff\xfe")),
    "UTF-16": raw(GOOD.decode().encode("utf-16")),
    "a surrogate in UTF-8": raw(GOOD.replace(b"Hello", b"\xed\xa0\x80")),
    "a lone surrogate": raw(GOOD.replace(b"Hello", b"\\ud800")),
    "a control character": raw(GOOD.replace(b"Hello", b"\x00")),
    "compressed": raw(bytes.fromhex("1f8b0800000000000003") + b"\x00" * 20),
    "100,000 brackets": raw(b'{"model": "m", "messages": ' + b"[" * 50_000),
    "deeply nested objects": raw(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "no model": of({"messages": HELLO}, param="model"),
    "model null": of({"model": None, "messages": HELLO}, param="model"),
    "model empty": of({"model": "", "messages": HELLO}, param="model"),
    "model blank": of({"model": "  ", "messages": HELLO}, param="model"),
    "model a number": of({"model": 4, "messages": HELLO}, param="model"),
    "model a list": of({"model": ["m"], "messages": HELLO}, param="model"),
    "model too long": of({"model": "m" * 10_000, "messages": HELLO}, param="model"),
    "model with a NUL": of({"model": "no\0such", "messages": HELLO}, param="model"),
    "no messages": of({"model": MODEL}, param="messages"),
    "messages null": of({"model": MODEL, "messages": None}, param="messages"),
    "messages empty": of({"model": MODEL, "messages": []}, param="messages"),
    "messages an object": of({"model": MODEL, "messages": {}}, param="messages"),
    "messages text": of({"model": MODEL, "messages": "Hello"}, param="messages"),
    "a message is text": of({"model": MODEL, "messages": [*HELLO, "Hello"]}, param="messages[1]"),
    "a message is null": of({"model": MODEL, "messages": [None]}, param="messages[0]"),
    "no role": of({"model": MODEL, "messages": [{"content": "x"}]}, param="messages[0]"),
    "role a number": of({"model": MODEL, "messages": [{"role": 1, "content": "x"}]}, param="messages[0]"),
    "stream text": of(chat(MODEL, stream="yes"), param="stream"),
    "stream a number": of(chat(MODEL, stream=1), param="stream"),
    "n zero": of(chat(MODEL, n=0), param="n"),
    "n text": of(chat(MODEL, n="2"), param="n"),
    "n a fraction": of(chat(MODEL, n=1.5), param="n"),
    "n true": of(chat(MODEL, n=True), param="n"),
    "n huge": of(chat(MODEL, n=10**40), param="n"),
    "n far too many": of(chat(MODEL, n=100_000), param="n"),
    "stream_options text": of(chat(MODEL, stream=True, stream_options="x"), param="stream_options"),
    "stream_options without stream": of(
        chat(MODEL, stream_options={"include_usage": True}), param="stream_options"
    ),
    "the vendor's rule": of(chat(MODEL, temperature=9), param="temperature"),
    "prompt empty": of({"model": "demo/echo", "prompt": []}, param="prompt", path="/v1/completions"),
    "prompt a number": of({"model": "demo/echo", "prompt": 1}, param="prompt", path="/v1/completions"),
    "two prompts to a chat": Bad(
        400,
        b'{"model": "demo/echo", "prompt": ["a", "b"]}',
        param="prompt",
        code="unsupported_parameter",
        path="/v1/completions",
    ),
    "no input": of({"model": "demo/embed"}, param="input", path="/v1/embeddings"),
    "input empty": of({"model": "demo/embed", "input": []}, param="input", path="/v1/embeddings"),
    "input a number": of({"model": "demo/embed", "input": 1}, param="input", path="/v1/embeddings"),
    "embeddings without a model": of({"input": "x"}, param="model", path="/v1/embeddings"),
    "no message": of({}, param="message", path="/api/chat"),
    "message a number": of({"message": 1}, param="message", path="/api/chat"),
    "message blank": of({"message": " "}, param="message", path="/api/chat/stream"),
    "no prompt": Bad(400, param="prompt", method="GET", path="/api/chat/stream"),
}
ROUTES = {
    "unknown model": Bad(
        404,
        json.dumps(chat("no-such-model")).encode(),
        type="not_found_error",
        param="model",
        code="model_not_found",
    ),
    "model not allowed": Bad(
        403,
        GOOD,
        type="permission_error",
        param="model",
        code="model_not_allowed",
        headers=bearer(LIMITED_KEY),
    ),
    "no such model to look at": Bad(
        404, None, "not_found_error", "model", "model_not_found", "GET", "/v1/models/absent"
    ),
    "unknown path": nowhere("GET", "/v1/nothing"),
    "unknown path, POST": nowhere("POST", "/v1/chat/completion"),
    "unknown path, DELETE": nowhere("DELETE", "/v1/threads/1"),
    "below a known path": nowhere("POST", "/v1/chat/completions/more"),
    "a doubled slash": nowhere("POST", "/v1//chat/completions"),
    "an escape": nowhere("GET", "/v1/%00%ff%2e%2e/x"),
    "the root of the API": nowhere("GET", "/v1/"),
    "the root without a slash": nowhere("GET", "/v1"),
    "GET chat": method("GET", CHAT),
    "PUT chat": method("PUT", CHAT),
    "DELETE chat": method("DELETE", CHAT),
    "PATCH chat": method("PATCH", CHAT),
    "POST models": method("POST", "/v1/models"),
    "DELETE a model": method("DELETE", "/v1/models/demo/echo"),
    "GET completions": method("GET", "/v1/completions"),
    "GET embeddings": method("GET", "/v1/embeddings"),
    "GET simple chat": method("GET", "/api/chat"),
    "POST health": method("POST", "/health"),
    "POST metrics": method("POST", "/metrics"),
    "too large": Bad(413, b"x" * (64 * 1024 + 1), code="body_too_large"),
    "twice too large": Bad(413, b" " * (128 * 1024), code="body_too_large"),
    "one huge header": Bad(
        431, GOOD, code="headers_too_large", headers={**bearer(TEAM_KEY), "X-Junk": "x" * 66_000}
    ),
    "a thousand headers": Bad(
        431,
        GOOD,
        code="headers_too_large",
        headers=bearer(TEAM_KEY) | {f"X-Junk-{number}": "x" * 60 for number in range(1000)},
    ),
    "a huge header without a body": Bad(
        431, None, code="headers_too_large", method="GET", path="/v1/models", headers={"X-Junk": "x" * 66_000}
    ),
}
CALLERS = {
    "no key": auth({}, "missing_api_key"),
    "an empty key": auth({"Authorization": "Bearer "}, "missing_api_key"),
    "no scheme": auth({"Authorization": TEAM_KEY}, "missing_api_key"),
    "another scheme": auth({"Authorization": "Basic dGVhbTprZXk="}, "missing_api_key"),
    "unknown key": auth(bearer("this-is-the-key-of-nobody-at-all"), "invalid_api_key"),
    "mistyped key": auth(bearer(MISTYPED), "invalid_api_key"),
    "unknown x-api-key": auth({"X-Api-Key": "nobody"}, "invalid_api_key"),
    "disabled key": auth(bearer(DISABLED_KEY), "api_key_disabled"),
    "expired key": auth(bearer(EXPIRED_KEY), "api_key_expired"),
    "expired x-api-key": auth({"X-Api-Key": EXPIRED_KEY}, "api_key_expired"),
    "bytes": auth(bearer("\udcff\udcfe\udc80"), "invalid_api_key"),
    "a very long key": auth(bearer("k" * 60_000), "invalid_api_key"),
    "two keys in one": auth(bearer(f"{TEAM_KEY} {OTHER_KEY}"), "invalid_api_key"),
}
CASES = {**BODIES, **ROUTES, **CALLERS}
