import orjson
import pytest

from providers.call import Call, Untranslatable
from providers.dialects.anthropic.dialect import Anthropic
from providers.errors import UnsupportedParameter, UpstreamError
from providers.tests.samples import cassettes, make_call, make_upstream
from providers.usage import Usage
from providers.wires import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES

ANTHROPIC = Anthropic()
HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01"}


def upstream(model="claude-sonnet-4-5", base_url="https://api.anthropic.test", **fields):
    return make_upstream("anthropic", model, dialect="anthropic", base_url=base_url, **fields)


def native(wire=MESSAGES, model="claude-sonnet-4-5", **fields):
    """Return a call in Anthropic's own format, whose canonical form nobody needs."""
    sent = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    raw = orjson.dumps(sent, option=orjson.OPT_INDENT_2)
    return Call(wire=wire, model=model, body={}, raw=raw, sent=sent)._replace(**fields)


# ---------------------------------------------------------------- where, and as whom


@pytest.mark.parametrize(
    ("credential", "header", "headers"),
    [
        ("", "", {}),
        ("key", "", {"x-api-key": "key"}),
        ("key", "X-API-Key", {"x-api-key": "key"}),
        ("key", "Authorization", {"authorization": "Bearer key"}),
        ("key", "api-key", {"api-key": "key"}),
    ],
)
def test_it_shows_the_credential(credential, header, headers):
    assert ANTHROPIC.auth_headers(credential, header) == headers


@pytest.mark.parametrize(
    ("base_url", "template", "path"),
    [
        ("https://api.anthropic.test", "{path}", "/v1/messages"),
        ("https://api.anthropic.test/", "{path}", "/v1/messages"),
        ("https://api.anthropic.test/v1", "{path}", "/messages"),
        ("https://api.anthropic.test/v1/", "{path}", "/messages"),
        ("https://cloud.test", "/{model}{path}?v=1", "/claude-sonnet-4-5/v1/messages?v=1"),
    ],
)
def test_it_finds_the_endpoint_under_the_base_url(base_url, template, path):
    target = upstream(base_url=base_url, path_template=template)
    assert ANTHROPIC.encode(make_call(), target).path == path
    assert ANTHROPIC.encode(native(), target).path == path


def test_it_says_the_version_it_speaks_or_the_clients():
    request = ANTHROPIC.encode(make_call(), upstream())
    assert request.headers == HEADERS
    assert ANTHROPIC.encode(make_call(), upstream()).headers is request.headers
    said = {"anthropic-version": "2026-10-21", "anthropic-beta": "files-api-2025-04-14", "x": "y"}
    assert ANTHROPIC.encode(native(headers=said), upstream()).headers == {
        "content-type": "application/json",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "files-api-2025-04-14",
    }


def test_it_reads_the_model_list():
    models = [
        {"type": "model", "id": "claude-a", "display_name": "A", "created_at": "2025-02-19T00:00:00Z"},
        {"type": "model", "id": "claude-b", "created_at": "1970-01-01T00:00:00"},
        {"id": "claude-c", "created_at": "soon"},
        {"id": "claude-d", "created_at": 7},
        {"id": 3},
        "claude",
    ]
    listed = ANTHROPIC.model_list(orjson.dumps({"data": models, "has_more": False}))
    assert [(model["id"], model["created"]) for model in listed] == [
        ("claude-a", 1739923200),
        ("claude-b", 0),
        ("claude-c", 0),
        ("claude-d", 0),
    ]
    assert {model["owned_by"] for model in listed} == {"anthropic"}


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS, RESPONSES])
def test_it_translates_every_other_format(wire):
    request = ANTHROPIC.encode(make_call(wire=wire, stream=True, store=True), upstream())
    body = orjson.loads(request.body)
    assert (body["model"], body["stream"]) == ("claude-sonnet-4-5", True)
    assert body["messages"][0]["content"] == [{"type": "text", "text": "hello"}]
    assert (request.wire, request.dropped_params) == ("", ("store",))


def test_it_refuses_what_the_canonical_form_cannot_say():
    call = make_call(wire=RESPONSES)._replace(only_native=Untranslatable("previous_response_id", "Stored."))
    with pytest.raises(UnsupportedParameter, match="Stored"):
        ANTHROPIC.encode(call, upstream())


def test_it_has_no_embeddings():
    with pytest.raises(UnsupportedParameter, match="Anthropic has no embeddings") as refused:
        ANTHROPIC.encode(make_call(wire=EMBEDDINGS), upstream())
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("wire", "path"), [(MESSAGES, "/v1/messages"), (COUNT_TOKENS, "/v1/messages/count_tokens")]
)
def test_it_passes_the_clients_own_request_on_untouched(wire, path):
    call = native(wire)
    request = ANTHROPIC.encode(call, upstream())
    assert request.body is call.raw
    assert (request.path, request.wire, request.dropped_params) == (path, wire, ())


def test_it_changes_the_models_name_alone():
    call = native(model="fast")
    assert orjson.loads(ANTHROPIC.encode(call, upstream()).body) == {
        **call.sent,
        "model": "claude-sonnet-4-5",
    }
    assert call.sent["model"] == "fast"


def test_it_writes_a_body_anew_that_could_be_read_in_two_ways():
    call = native(verbatim=False)
    body = ANTHROPIC.encode(call, upstream()).body
    assert body != call.raw
    assert orjson.loads(body) == call.sent


# ---------------------------------------------------------------- answers


def recorded(*kinds):
    return [
        param
        for param in cassettes("anthropic")
        if param.marks
        or (
            param.values[0]["kind"] in kinds
            and param.values[0]["response"]["status"] == 200
            and param.values[0]["response"]["body"].lstrip().startswith("{")
        )
    ]


@pytest.mark.parametrize("cassette", recorded("messages"))
def test_it_passes_a_recorded_answer_on_untouched(cassette):
    body = cassette["response"]["body"].encode()
    passed = ANTHROPIC.decode(b"\n" + body, native())
    translated = ANTHROPIC.decode(body, make_call())
    assert (passed.body, passed.wire) == (body.strip(), MESSAGES)
    assert passed.message == translated.message
    assert passed.usage == translated.usage
    assert passed.usage.total > 0
    assert passed.finish_reasons == translated.finish_reasons


@pytest.mark.parametrize("cassette", recorded("count_tokens"))
def test_it_passes_a_recorded_count_on_untouched(cassette):
    body = cassette["response"]["body"].encode()
    answer = ANTHROPIC.decode(body, native(COUNT_TOKENS))
    assert (answer.body, answer.wire, answer.usage) == (body, COUNT_TOKENS, None)
    assert answer.finish_reasons == ("stop",)


def test_it_passes_on_what_it_does_not_understand_of_an_answer():
    body = b'{"content":[{"type":"text","text":3}],"usage":{"input_tokens":1,"output_tokens":2}}'
    answer = ANTHROPIC.decode(body, native())
    assert (answer.body, answer.usage, answer.finish_reasons) == (body, Usage(1, 2), ("stop",))
    with pytest.raises(UpstreamError):
        _ = answer.message


@pytest.mark.parametrize("wire", [MESSAGES, COUNT_TOKENS])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content": 3}', b'{"error": {"type": "api_error"}}'])
def test_it_refuses_what_is_no_answer(wire, body):
    with pytest.raises(UpstreamError):
        ANTHROPIC.decode(body, native(wire))
