"""Calls, upstreams and wire bytes that tests share."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.call import Call
from providers.dialects import DIALECTS
from providers.dialects.base import Dialect
from providers.events import Event, Kind, PassedEvent
from providers.pricing import Rates, RateSchedule
from providers.upstream import Account, Timeouts, Upstream
from providers.wires import CHAT, COMPLETIONS

CHECKOUT = Path(__file__).resolve().parent.parent.parent
KIT = Path(os.environ.get("GATEWAY_CONFORMANCE") or CHECKOUT.parent / "shared" / "conformance")
RATES = Rates(price_id=7, effective_from=0.0, input=10**9, output=2 * 10**9)
DONE = b"data: [DONE]\n\n"


def make_call(*, stream: bool = False, wire: str = CHAT, **fields: Any) -> Call:
    """Return a call of one message, or with the body's `fields`."""
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **fields}
    if stream:
        body["stream"] = True
    options = body.get("stream_options") or {}
    return Call(
        wire=wire,
        model=body["model"],
        body=body,
        raw=orjson.dumps(body),
        stream=stream,
        wants_usage=bool(options.get("include_usage")),
        choices=body.get("n") or 1,
    )


def make_completions_call(model: str, **fields: Any) -> Call:
    """Return a call of `/v1/completions` with the body's `fields`."""
    body = {"model": model, **fields}
    return make_call(wire=COMPLETIONS)._replace(sent=body, stream=bool(fields.get("stream")))


def make_account(name: str = "openai", base_url: str = "http://127.0.0.1:9/v1", **fields: Any) -> Account:
    """Return an account; `timeouts` and all else may be given."""
    values: dict[str, Any] = {
        "dialect": "openai",
        "headers": {"authorization": "Bearer vendor-secret"},
        "timeouts": Timeouts(),
        "max_connections": 10,
        **fields,
    }
    return Account(name=name, base_url=base_url, **values)


def make_upstream(
    name: str = "openai", model: str = "gpt-4o", *, rates: Rates | None = RATES, **fields: Any
) -> Upstream:
    """Return an upstream of an account made from `fields`."""
    prices = RateSchedule(() if rates is None else (rates,))
    account = make_account(name, **fields)
    return Upstream(
        id=f"{name}/{model}", account=account, model=model, prices=prices, timeouts=account.timeouts
    )


def sse(chunk: Any) -> bytes:
    """Return one event, as OpenAI writes it."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def chunk(
    delta: Any = None, finish: str | None = None, *, index: int = 0, usage: Any = None, **fields: Any
) -> dict[str, Any]:
    """Return one chat chunk."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return {**whole, "choices": [choice], **({} if usage is None else {"usage": usage}), **fields}


def usage_chunk(prompt: int = 5, completion: int = 2) -> dict[str, Any]:
    """Return the chunk that `include_usage` asks for."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(usage=counts, choices=[])


def answer(text: str = "Hello there.", **fields: Any) -> dict[str, Any]:
    """Return a whole chat completion."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        **fields,
    }


TEXT_STREAM = b"".join(
    [
        sse(chunk({"role": "assistant", "content": ""})),
        sse(chunk({"content": "Hello"})),
        sse(chunk({"content": " there"})),
        sse(chunk({"content": "."})),
        sse(chunk(finish="stop")),
        sse(usage_chunk()),
        DONE,
    ]
)


def seen(events: Iterable[Event]) -> list[Any]:
    """Return everything that a relay and a renderer could see of the events.

    What passes unparsed is one event for each read of the network: it is taken apart here.
    """
    return [
        (event.kind, event.raw, event.wire, list(event.choices), event.usage, list(event.finish_reasons))
        + ((event.error.owner, event.error.code, event.error.message) if event.error else ())
        for event in _parted(events)
    ]


def _parted(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, PassedEvent):
            for raw in event.raw.split(b"\n\n")[:-1]:
                yield PassedEvent(raw + b"\n\n", event.wire, event._parse)
        else:
            yield event


def decode(pieces: Iterable[bytes], call: Call | None = None, dialect: Dialect | None = None) -> list[Event]:
    """Return the events of a stream that comes in `pieces`."""
    decoder = (dialect or DIALECTS["openai"]).stream(call or make_call(stream=True))
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


def ends_whole(events: Sequence[Event]) -> bool:
    """Does the stream end as a whole one?"""
    return bool(events) and events[-1].kind is Kind.DONE


def cassettes(*providers: str) -> list[Any]:
    """Return the recorded exchanges of `providers` as parameters; one that skips when there are none."""
    found = [path for name in providers for path in sorted((KIT / "cassettes" / name).glob("*.json"))]
    if not found:
        absent = pytest.mark.skip(reason=f"the recorded answers are not at {KIT}")
        return [pytest.param(None, marks=absent, id="absent")]
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in found]
