"""A served gateway with all the shipped middlewares, before the real SDKs: what must not get out does not."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests.dialects import EACH, all_dialects
from tests.gateway import Gateway, running_gateway
from tests.servers import eventually
from tests.spills import CARD, CLEAN, IBAN, MAIL, SECRETS, SPILLED, TRACES, Sink, Tap, sink
from tests.upstream import QUIET, FakeVendor, chat, fake_vendor, unique

REDACTION = "proxy.middleware.redaction.Redaction"
MIDDLEWARES = {
    "REQUEST_MIDDLEWARE": REDACTION,
    "RESPONSE_MIDDLEWARE": f"{REDACTION},proxy.middleware.headers.ResponseHeaders,"
    "proxy.middleware.webhook.CompletionWebhook",
    "RESPONSE_HEADERS": '{"x-served-by": "a test"}',
    "CACHE_MODE": "memory",
}
ASKING: Any = [{"role": "user", "content": SPILLED}]
# What the fake vendor says in calls: the first of each `enum`, and these stand in no description.
PARAMETERS: Any = {
    "type": "object",
    "properties": {
        "to": {"type": "string", "enum": [f"{MAIL}\nand more"]},
        "card": {"type": "integer", "enum": [int(CARD.replace(" ", ""))]},
        "account": {"type": "string", "enum": [IBAN]},
        "count": {"type": "integer", "enum": [2]},
    },
    "required": ["to", "card", "account", "count"],
}
ARGUMENTS = {"to": "[EMAIL]\nand more", "card": "[CARD]", "account": "[IBAN]", "count": 2}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def spilling() -> Iterator[FakeVendor]:
    """A vendor that spills all it knows where a model's name says so, a word at a time, or less."""
    with fake_vendor() as vendor:
        rule = {"match": {"model": "tag=spill"}, "opts": {"text": SPILLED}}
        httpx.post(f"{vendor.url}/__replay/rules", json=rule).raise_for_status()
        yield vendor


@pytest.fixture(scope="module")
def records() -> Iterator[Sink]:
    with sink() as running:
        yield running


@pytest.fixture(scope="module")
def served(spilling: FakeVendor, records: Sink) -> Iterator[Gateway]:
    variables = {**QUIET, **MIDDLEWARES, "COMPLETION_WEBHOOK_URL": records.url}
    with running_gateway(variables, files=all_dialects(spilling.url)) as gateway:
        yield gateway


@pytest.fixture
def tap(served: Gateway) -> Iterator[Tap]:
    """Keep what the client of a test gets, and look through it at the end."""
    kept = Tap(served.port)
    yield kept
    kept.close()
    assert kept.responses
    for trace in TRACES:
        assert trace.encode() not in kept.got, trace
    assert kept.values("x-served-by") == ["a test"] * kept.responses


@pytest.fixture
def client(served: Gateway, tap: Tap) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{tap.url}/v1", api_key=served.key, max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture
def claude(served: Gateway, tap: Tap) -> Iterator[Anthropic]:
    with Anthropic(base_url=tap.url, api_key=served.key, max_retries=0, timeout=30) as made:
        yield made


def spilling_model(options: str = "~chunk=1") -> str:
    return f"synthetic{options}~tag=spill{next(_numbers)}"


def looked_into(vendor: FakeVendor, model: str, *, times: int = 1) -> None:
    """Check that the vendor has been asked so often, and never got to see what stood in the prompts."""
    asked = vendor.asked(model)
    assert len(asked) == times
    for each in asked:
        said = json.dumps(each["body"], ensure_ascii=False)
        assert not any(secret in said for secret in SECRETS)
        assert "[EMAIL]" in said
        assert "[CARD]" in said


def both(tap: Tap) -> None:
    assert tap.values("x-gateway-cache") == ["miss", "hit"]


# ---------------------------------------------------------------- words


@EACH
def test_a_chat_is_redacted_both_ways(client: OpenAI, spilling: FakeVendor, tap: Tap, dialect: str) -> None:
    model = spilling_model()
    for _ in range(2):
        answer = client.chat.completions.create(model=f"{dialect}/{model}", messages=ASKING)
        assert answer.choices[0].message.content == CLEAN
        assert answer.choices[0].finish_reason == "stop"
        assert answer.id
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len(SPILLED.split())
    both(tap)
    looked_into(spilling, model)


@EACH
def test_a_streamed_chat_is_redacted_both_ways(
    client: OpenAI, spilling: FakeVendor, tap: Tap, dialect: str
) -> None:
    model = spilling_model()
    for _ in range(2):
        chunks = list(
            client.chat.completions.create(
                model=f"{dialect}/{model}",
                messages=ASKING,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        spoken = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert "".join(choice.delta.content or "" for choice in spoken) == CLEAN
        assert [choice.finish_reason for choice in spoken if choice.finish_reason] == ["stop"]
        assert len({chunk.id for chunk in chunks}) == 1
        assert spoken[0].delta.role == "assistant"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == len(SPILLED.split())
    assert tap.got.count(b"data: [DONE]\n\n") == 2
    both(tap)
    looked_into(spilling, model)


@EACH
@STREAMED
def test_a_message_is_redacted_both_ways(
    claude: Anthropic, spilling: FakeVendor, tap: Tap, dialect: str, *, stream: bool
) -> None:
    model = spilling_model()
    for _ in range(2):
        asked: Any = {"model": f"{dialect}/{model}", "max_tokens": 100, "messages": ASKING}
        if stream:
            with claude.messages.stream(**asked) as events:
                spoken = "".join(events.text_stream)
                message = events.get_final_message()
            assert spoken == CLEAN
        else:
            message = claude.messages.create(**asked)
        assert [getattr(block, "text", None) for block in message.content] == [CLEAN]
        assert message.stop_reason == "end_turn"
        assert message.id.startswith("msg_")
        assert message.usage.output_tokens == len(SPILLED.split())
    assert tap.got.count(b"event: message_stop") == (2 if stream else 0)
    both(tap)
    looked_into(spilling, model)


@STREAMED
def test_a_response_is_redacted_both_ways(
    client: OpenAI, spilling: FakeVendor, tap: Tap, *, stream: bool
) -> None:
    model = spilling_model()
    for _ in range(2):
        if stream:
            with client.responses.stream(model=f"openai/{model}", input=SPILLED) as events:
                texts = [each.delta for each in events if each.type == "response.output_text.delta"]
                response: Any = events.get_final_response()
            assert "".join(texts) == CLEAN
        else:
            response = client.responses.create(model=f"openai/{model}", input=SPILLED)
        assert (response.output_text, response.status) == (CLEAN, "completed")
        assert response.usage is not None
        assert response.usage.output_tokens == len(SPILLED.split())
    both(tap)
    looked_into(spilling, model)


@STREAMED
def test_a_completion_is_redacted_both_ways(
    client: OpenAI, spilling: FakeVendor, tap: Tap, *, stream: bool
) -> None:
    model = spilling_model()
    for _ in range(2):
        if stream:
            chunks = list(
                client.completions.create(model=f"openai/{model}", prompt=SPILLED, stream=True, max_tokens=99)
            )
            text = "".join(chunk.choices[0].text for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            whole = client.completions.create(model=f"openai/{model}", prompt=SPILLED, max_tokens=99)
            text, reason = whole.choices[0].text, whole.choices[0].finish_reason
        assert (text, reason) == (CLEAN, "stop")
    both(tap)
    looked_into(spilling, model)


def test_what_is_embedded_is_redacted_and_vectors_are_not(
    client: OpenAI, spilling: FakeVendor, tap: Tap
) -> None:
    model = unique()
    vectors = [
        client.embeddings.create(model=f"openai/{model}", input=[SPILLED, text]).data[0].embedding
        for text in ("one", "one", "two")
    ]
    assert vectors[0] == vectors[1]
    assert len(vectors[0]) > 1
    assert tap.values("x-gateway-cache") == ["miss", "hit", "miss"]
    looked_into(spilling, model, times=2)


def test_a_stream_of_single_letters_is_redacted(client: OpenAI, spilling: FakeVendor) -> None:
    """Nothing of it can be known before its last letter but one."""
    case = f"letters-{next(_numbers)}"
    spilling.learn(case, provider="openai", status=200, body=letters(), content_type="text/event-stream")
    chunks = client.chat.completions.create(model=f"openai/{case}", messages=ASKING, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == CLEAN


def letters() -> str:
    """Return a stream of OpenAI's that spills a letter at a time."""
    whole = {"id": "chatcmpl-letters", "object": "chat.completion.chunk", "created": 1, "model": "letters"}
    deltas: list[Any] = [({"content": letter}, None) for letter in SPILLED]
    chunks = [
        {**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [({"role": "assistant", "content": ""}, None), *deltas, ({}, "stop")]
    ]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


# ---------------------------------------------------------------- tools


@EACH
@STREAMED
def test_arguments_are_redacted_and_stay_json(
    client: OpenAI, tap: Tap, dialect: str, *, stream: bool
) -> None:
    tool: Any = {"type": "function", "function": {"name": "pay", "parameters": PARAMETERS}}
    model = unique("synthetic~chunk=1~tool=2")
    for _ in range(2):
        asked: Any = {"model": f"{dialect}/{model}", "messages": ASKING, "tools": [tool]}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls
        assert [call.function.name for call in calls] == ["pay", "pay"]
        assert len({call.id for call in calls}) == 2
        assert [json.loads(call.function.arguments) for call in calls] == [ARGUMENTS, ARGUMENTS]
    both(tap)
    assert b"ada" not in tap.got
    assert b"4111" not in tap.got


@EACH
@STREAMED
def test_inputs_of_tools_are_redacted(claude: Anthropic, tap: Tap, dialect: str, *, stream: bool) -> None:
    model = unique("synthetic~chunk=1~tool=2")
    for _ in range(2):
        asked: Any = {
            "model": f"{dialect}/{model}",
            "max_tokens": 100,
            "messages": ASKING,
            "tools": [{"name": "pay", "input_schema": PARAMETERS}],
        }
        if stream:
            with claude.messages.stream(**asked) as events:
                message: Any = events.get_final_message()
        else:
            message = claude.messages.create(**asked)
        assert message.stop_reason == "tool_use"
        uses = [block for block in message.content if block.type == "tool_use"]
        assert [block.input for block in uses] == [ARGUMENTS, ARGUMENTS]
        assert len({block.id for block in uses}) == 2
    both(tap)
    assert b"ada" not in tap.got
    assert b"4111" not in tap.got


# ---------------------------------------------------------------- ends


def test_a_broken_stream_says_so_and_spills_nothing(client: OpenAI, tap: Tap) -> None:
    """Wherever it is cut."""
    for cut in range(600, 2000, 200):
        model = spilling_model(f"~end={cut}")
        chunks = client.chat.completions.create(model=f"openai/{model}", messages=ASKING, stream=True)
        said: list[str] = []
        with pytest.raises(openai.APIError, match="openai"):
            said.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert said
    assert b"[DONE]" not in tap.got


@STREAMED
def test_the_sink_gets_one_record_of_each_and_no_words(
    client: OpenAI, records: Sink, *, stream: bool
) -> None:
    ids = [f"for-the-sink-{stream}-{number}" for number in range(3)]
    model = spilling_model()
    for request_id in ids[:2]:
        answer = client.chat.completions.create(
            model=f"openai/{model}",
            messages=ASKING,
            stream=stream,
            extra_headers={"x-request-id": request_id},
        )
        assert list(answer)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=f"openai/{unique('synthetic~status=400')}",
            messages=ASKING,
            stream=stream,
            extra_headers={"x-request-id": ids[2]},
        )
    eventually(lambda: all(records.of(each) for each in ids), what="the records")
    (asked,), (again,), (failed,) = (records.of(each) for each in ids)
    assert [each["cache"] for each in (asked, again)] == ["miss", "hit"]
    assert [each["outcome"] for each in (asked, again, failed)] == ["ok", "ok", "error"]
    assert [each["status"] for each in (asked, again, failed)] == [200, 200, 400]
    assert len(asked["attempts"]) == 1
    assert asked["usage"]["completion"] == len(SPILLED.split())
    assert not any("prompt" in each or "answer" in each for each in (asked, again, failed))


@STREAMED
def test_the_sink_gets_the_words_that_the_client_got_where_it_is_to(
    spilling: FakeVendor, *, stream: bool
) -> None:
    with sink() as records:
        variables = {
            **QUIET,
            **MIDDLEWARES,
            "COMPLETION_WEBHOOK_URL": records.url,
            "COMPLETION_SINK_CONTENT": "true",
        }
        with running_gateway(variables, files=all_dialects(spilling.url)) as gateway:
            with httpx.Client(base_url=gateway.url, headers=gateway.headers, timeout=30) as raw:
                for dialect in ("openai", "anthropic"):
                    body = chat(f"{dialect}/{spilling_model()}", SPILLED, stream=stream)
                    headers = {"x-request-id": dialect}
                    assert raw.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
            gateway.stop()  # what is queued goes out
        for dialect in ("openai", "anthropic"):
            (record,) = records.of(dialect)
            assert record["answer"][0]["message"]["content"] == CLEAN
            assert record["prompt"]["messages"][-1]["content"] == CLEAN
        assert not any(trace in json.dumps(records.batches) for trace in TRACES)


def test_errors_have_the_headers_too(served: Gateway, tap: Tap) -> None:
    with httpx.Client(base_url=tap.url, headers=served.headers) as raw:
        assert raw.post("/v1/chat/completions", json={}, headers={"authorization": "no"}).status_code == 401
        assert raw.post("/v1/chat/completions", json={}).status_code == 400
        assert raw.post("/v1/chat/completions", json=chat("nobody/has-it")).status_code == 404
        refused = chat(f"openai/{unique('synthetic~status=422')}", SPILLED)
        assert raw.post("/v1/chat/completions", json=refused).status_code == 422
