"""The table of bad requests, continued: what other formats and forms are refused with."""

import json
from typing import Any

from tests.bad_requests import HELLO, MODEL, Bad, method, nowhere, of
from tests.upstream import LIMITED_KEY, TEAM_KEY, bearer

MESSAGES, COUNT, RESPONSES = "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"
FORMS = "/v1/audio/transcriptions"
ASKED = {"model": MODEL, "messages": HELLO, "max_tokens": 9}


def message(path: str = MESSAGES, **fields: Any) -> Bad:
    """A request in Anthropic's format; a field that is None is left out."""
    body = {name: value for name, value in {**ASKED, **fields}.items() if value is not None}
    return Bad(400, json.dumps(body).encode(), path=path)


def said(*blocks: Any, role: str = "user") -> Bad:
    return message(messages=[{"role": role, "content": list(blocks)}])


def response(param: str | None, **fields: Any) -> Bad:
    """A request in the Responses format."""
    return of({"model": MODEL, "input": "Hello", **fields}, param=param, path=RESPONSES)


def form(body: bytes, *, param: str | None = None, code: str | None = None, boundary: str = "bound") -> Bad:
    """A form for a model that hears."""
    kind = f"multipart/form-data; boundary={boundary}" if boundary else "multipart/form-data"
    return Bad(
        400, body, param=param, code=code, path=FORMS, headers={**bearer(TEAM_KEY), "Content-Type": kind}
    )


def part(name: str, value: bytes) -> bytes:
    return b'--bound\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)


END = b"--bound--\r\n"
ANTHROPIC = {
    f"{name}, {path}": Bad(400, body, path=path)
    for path in (MESSAGES, COUNT)
    for name, body in {
        "nothing": b"",
        "cut off": json.dumps(ASKED).encode()[:-9],
        "a list": b"[]",
        "not UTF-8": b'{"model": "\xff"}',
        "too deep": b'{"a":' * 2000 + b"1" + b"}" * 2000,
        "no model, no messages": b"{}",
        "a model that is none": b'{"model": ["m"], "max_tokens": 9, "messages": []}',
    }.items()
} | {
    "max_tokens missing": message(max_tokens=None),
    "max_tokens zero": message(max_tokens=0),
    "max_tokens text": message(max_tokens="9"),
    "max_tokens true": message(max_tokens=True),
    "messages missing": message(messages=None),
    "messages are text": message(messages="Hello"),
    "count without messages": message(COUNT, messages=None),
    "count of text": message(COUNT, messages="Hello"),
    "a message is a number": message(messages=[1]),
    "a role is a list": message(messages=[{"role": [], "content": "x"}]),
    "a content is a number": message(messages=[{"role": "user", "content": 1}]),
    "a block is text": said("Hello"),
    "a block without a type": said({"text": "Hello"}),
    "a text that is none": said({"type": "text", "text": 1}),
    "an image without a source": said({"type": "image"}),
    "an image from nowhere": said({"type": "image", "source": {"type": "base64"}}),
    "a tool's use without a name": said({"type": "tool_use", "id": "t", "input": {}}, role="assistant"),
    "a tool's result of nothing": said({"type": "tool_result", "content": "x"}),
    "a system of numbers": message(system=[1]),
    "tools that are text": message(tools="x"),
    "a tool that is null": message(tools=[None]),
    "a choice of tools by number": message(tool_choice=1),
    "thinking without a budget": message(thinking={"type": "enabled"}),
    "a format of another type": message(output_format={"type": "text"}),
    "a stream that may be": message(stream="maybe"),
    "a beta for Anthropic alone": message(mcp_servers=[{"type": "url", "url": "https://x", "name": "x"}]),
    "GET messages": method("GET", MESSAGES),
    "DELETE count": method("DELETE", COUNT),
    "batches of messages": nowhere("POST", f"{MESSAGES}/batches"),
    "an unknown model's message": Bad(
        404, json.dumps({**ASKED, "model": "no-such"}).encode(), "not_found_error", path=MESSAGES
    ),
    "a forbidden model's message": Bad(
        403, json.dumps(ASKED).encode(), "permission_error", path=MESSAGES, headers=bearer(LIMITED_KEY)
    ),
    "a forbidden model's tokens": Bad(
        403, json.dumps(ASKED).encode(), "permission_error", path=COUNT, headers=bearer(LIMITED_KEY)
    ),
    "nobody's message": Bad(401, b"{}", "authentication_error", path=MESSAGES, headers={"X-Api-Key": "x"}),
    "nobody's models": Bad(
        401,
        None,
        "authentication_error",
        method="GET",
        path="/v1/models",
        headers={"Anthropic-Version": "2023-06-01"},
    ),
    "a message too large": Bad(413, b" " * (64 * 1024 + 1), "request_too_large", path=MESSAGES),
}
OPENAI = {
    "a response to nothing": Bad(400, b"", path=RESPONSES),
    "a response to half": Bad(400, b'{"model": "m", ', path=RESPONSES),
    "a response without a model": of({"input": "x"}, param="model", path=RESPONSES),
    "input missing": response("input", input=None),
    "input a number": response("input", input=1),
    "an item is a number": response("input[0]", input=[1]),
    "a part is a number": response("input[0].content[0]", input=[{"role": "user", "content": [1]}]),
    "a response in parts of a stream": response("stream", stream="x"),
    "tools of a response are text": response("tools", tools="x"),
    "a format of a response is text": response("text.format", text={"format": "x"}),
    "a state that is not here": Bad(
        400,
        b'{"model": "demo/echo", "input": "x", "previous_response_id": "resp_1"}',
        param="previous_response_id",
        code="unsupported_parameter",
        path=RESPONSES,
    ),
    "PUT responses": method("PUT", RESPONSES),
    "PATCH a response": method("PATCH", f"{RESPONSES}/resp_1"),
    "below a response": nowhere("GET", f"{RESPONSES}/resp_1/more"),
    "up from a response": nowhere("GET", f"{RESPONSES}/%2e%2e/models"),
    "echo text": of({"model": MODEL, "prompt": "x", "echo": "x"}, param="echo", path="/v1/completions"),
    "a completion's n": of({"model": MODEL, "prompt": "x", "n": 0}, param="n", path="/v1/completions"),
    "prompts of two kinds": of(
        {"model": MODEL, "prompt": ["x", 1]}, param="prompt[1]", path="/v1/completions"
    ),
    "an encoding": of(
        {"model": "demo/embed", "input": "x", "encoding_format": "int8"},
        param="encoding_format",
        path="/v1/embeddings",
    ),
    "no dimensions": of(
        {"model": "demo/embed", "input": "x", "dimensions": 0}, param="dimensions", path="/v1/embeddings"
    ),
    "inputs of two kinds": of(
        {"model": "demo/embed", "input": [1, "x"]}, param="input[1]", path="/v1/embeddings"
    ),
}
PASSED_ON = {
    "a moderation of half": Bad(400, b'{"input": ', path="/v1/moderations"),
    "a moderation by a number": of({"model": 1}, param="model", path="/v1/moderations"),
    "speech of nobody": Bad(400, b"{}", param="model", code="provider_not_named", path="/v1/audio/speech"),
    "speech of the demo": Bad(
        400, b'{"model": "demo/echo"}', param="model", code="unsupported_endpoint", path="/v1/audio/speech"
    ),
    "speech that is not allowed": Bad(
        403,
        json.dumps({"model": MODEL}).encode(),
        "permission_error",
        "model",
        "model_not_allowed",
        path="/v1/audio/speech",
        headers=bearer(LIMITED_KEY),
    ),
    "a form without a boundary": form(END, code="malformed_form", boundary=""),
    "a form with two boundaries": form(END, code="malformed_form", boundary="bound; boundary=other"),
    "a form that is none": form(b"\x00\xff" * 500, param="model", code="provider_not_named"),
    "an empty form": form(END, param="model", code="provider_not_named"),
    "half a form": form(part("file", b"x")[:-9], param="model", code="provider_not_named"),
    "a form with something behind": form(b"--bound!\r\n", code="malformed_form"),
    "two models": form(part("model", b"a") + part("model", b"b") + END, param="model"),
    "a model without an end": form(part("model", b"x" * 5000), param="model"),
    "a form's model with a NUL": form(part("model", b"\0") + END, param="model"),
    "a form for the demo": form(
        part("model", b"demo/echo") + END, param="model", code="unsupported_endpoint"
    ),
    "a form's unknown model": Bad(
        404,
        part("model", b"no-such") + END,
        "not_found_error",
        "model",
        "model_not_found",
        path=FORMS,
        headers={**bearer(TEAM_KEY), "Content-Type": "multipart/form-data; boundary=bound"},
    ),
    "a form of nobody": Bad(
        401,
        part("model", MODEL.encode()) + END,
        "authentication_error",
        code="missing_api_key",
        path=FORMS,
        headers={"Content-Type": "multipart/form-data; boundary=bound"},
    ),
    "files of nobody we know": Bad(
        404, None, "not_found_error", "provider", "provider_not_found", "GET", "/v1/files?provider=nobody"
    ),
    "files of everybody": Bad(
        403, None, "permission_error", None, "listing_not_allowed", "GET", "/v1/files?provider=replay"
    ),
    "files with a limited key": Bad(
        403,
        None,
        "permission_error",
        None,
        "model_not_allowed",
        "GET",
        "/v1/files/f?provider=replay",
        headers=bearer(LIMITED_KEY),
    ),
    "GET a transcription": method("GET", FORMS),
    "PUT a file": method("PUT", "/v1/files/f"),
    "up from a file": nowhere("GET", "/v1/files/.."),
    "a file with a space": nowhere("GET", "/v1/files/a%20b"),
    "a batch's contents": nowhere("GET", "/v1/batches/b/content"),
}
FORMATS = {**ANTHROPIC, **OPENAI, **PASSED_ON}
