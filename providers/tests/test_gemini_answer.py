"""Answers and streams of generateContent, which are read by the same code."""

import orjson
import pytest

from providers.dialects.gemini.dialect import Gemini
from providers.errors import Owner, UpstreamError
from providers.events import Kind, TextEvent
from providers.tests.decoding import decoded
from providers.tests.samples import make_call
from providers.usage import Usage
from proxy.assemble import assemble

GEMINI = Gemini()
CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}
THOUGHT = {"text": "hm", "thought": True}


def candidate(*parts, reason="STOP", **fields):
    ended = {"finishReason": reason} if reason else {}
    return {"content": {"parts": list(parts), "role": "model"}, **ended, **fields}


def reply(*candidates, **fields):
    return {"candidates": list(candidates), "responseId": "r-1", **fields}


def decode(message):
    return GEMINI.decode(orjson.dumps(message), make_call())


def choice(*parts, **fields):
    return decode(reply(candidate(*parts, **fields))).message["choices"][0]


def stream(*pieces, end=b""):
    decoder = GEMINI.stream(make_call(stream=True))
    text = b"".join(b"data: " + orjson.dumps(piece) + b"\r\n\r\n" for piece in pieces)
    return [*decoder.feed(text + end), *decoder.close()]


def deltas(events):
    return [choice["delta"] for event in events for choice in event.choices if choice["delta"]]


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"text": "a"}, {"text": "b"}], {"content": "ab"}),
        ([], {"content": None}),
        ([{"text": ""}], {"content": None}),
        ([THOUGHT, THOUGHT, {"text": "a"}], {"reasoning_content": "hmhm", "content": "a"}),
        (
            [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
            {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        ),
        ([{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}], {"content": None}),
        (
            [{"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}, {"text": "a"}],
            {"content": "a"},
        ),
        ([{"toolCall": {"toolType": "GOOGLE_SEARCH"}}, {"text": "a"}], {"content": "a"}),
    ],
)
def test_it_reads_parts_alike_in_an_answer_and_in_a_stream(parts, expected):
    whole = {"role": "assistant", "content": None, "refusal": None, **expected}
    assert choice(*parts)["message"] == whole
    events = stream(*(reply(candidate(part, reason=None)) for part in parts), reply(candidate()))
    assembled = assemble(events, id="x", created=0, model="m")
    assert assembled["choices"][0]["message"] == whole


def test_it_gives_plain_text_as_the_cheap_event():
    first, *_ = stream(reply(candidate({"text": "a"})))
    assert isinstance(first, TextEvent)


def test_it_gives_a_call_whole_with_an_id_of_its_own():
    first, second = choice(CALL, CALL)["message"]["tool_calls"]
    assert first["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert first["type"] == "function"
    assert first["id"] != second["id"]
    assert len(first["id"]) <= 40  # OpenAI takes no longer one
    streamed = deltas(stream(reply(candidate(CALL, CALL))))
    assert [delta["tool_calls"] for delta in streamed] == [[{"index": 0, **first}], [{"index": 1, **second}]]


def test_it_makes_an_id_by_chance_where_the_answer_has_none():
    message = {"candidates": [candidate(CALL)]}
    ids = {decode(message).message["choices"][0]["message"]["tool_calls"][0]["id"] for _ in range(5)}
    assert len(ids) == 5


def test_it_keeps_an_id_that_google_gave_and_needs_no_arguments():
    (call,) = choice({"functionCall": {"name": "f", "id": "own"}})["message"]["tool_calls"]
    assert (call["id"], call["function"]["arguments"]) == ("own", "{}")


def test_it_counts_the_calls_of_each_candidate_apart():
    first, second = deltas(stream(reply(candidate(CALL), candidate(CALL, index=1))))
    assert (first["tool_calls"][0]["index"], second["tool_calls"][0]["index"]) == (0, 0)
    assert first["tool_calls"][0]["id"] != second["tool_calls"][0]["id"]


# ---------------------------------------------------------------- signatures


def test_it_gives_a_calls_signature_to_both_kinds_of_client():
    message = choice(THOUGHT, {**CALL, "thoughtSignature": "S"}, CALL)["message"]
    first, second = message["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "S"}}
    assert "extra_content" not in second
    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "hm", "signature": f"gemini:{first['id']}:S"}
    ]
    names = [*map(list, deltas(stream(reply(candidate(THOUGHT, {**CALL, "thoughtSignature": "S"})))))]
    assert names == [["reasoning_content"], ["thinking_blocks"], ["tool_calls"]]


def test_it_ends_the_thoughts_with_the_signature_of_the_text_after_them():
    signed = {"text": "a", "thoughtSignature": "S"}
    block = {"type": "thinking", "thinking": "hm", "signature": "gemini:S"}
    assert choice(THOUGHT, signed)["message"]["thinking_blocks"] == [block]
    assert deltas(stream(reply(candidate(THOUGHT, signed)))) == [
        {"reasoning_content": "hm"},
        {"thinking_blocks": [block]},
        {"content": "a"},
    ]


def test_it_keeps_a_signature_that_comes_after_the_text():
    parts = [THOUGHT, {"text": "a"}, {"text": "", "thoughtSignature": "S"}]
    late = {"type": "thinking", "thinking": "", "signature": "gemini:S"}
    # What was thought has been said already: a stream does not say it twice, a whole answer is complete.
    assert deltas(stream(reply(candidate(*parts))))[-1] == {"thinking_blocks": [late]}
    assert choice(*parts)["message"]["thinking_blocks"] == [{**late, "thinking": "hm"}]


def test_it_keeps_a_signature_on_a_thought():
    message = choice({**THOUGHT, "thoughtSignature": "S"}, {"text": "a"})["message"]
    assert message["thinking_blocks"] == [{"type": "thinking", "thinking": "hm", "signature": "gemini:S"}]


# ---------------------------------------------------------------- beside the text


def test_it_names_each_source_once():
    web = [{"web": {"uri": "https://a.test", "title": "A"}}, {"web": {"uri": "https://a.test"}}, {"maps": {}}]
    cited = {"citationSources": [{"uri": "https://b.test"}]}
    fields = {"groundingMetadata": {"groundingChunks": web}, "citationMetadata": cited}
    annotations = [
        {"type": "url_citation", "url_citation": {"url": "https://a.test", "title": "A"}},
        {"type": "url_citation", "url_citation": {"url": "https://b.test", "title": ""}},
    ]
    assert choice({"text": "a"}, **fields)["message"]["annotations"] == annotations
    piece = reply(candidate({"text": "a"}, **fields))
    assert [delta for delta in deltas(stream(piece, piece)) if "annotations" in delta] == [
        {"annotations": annotations}
    ]


def test_it_reads_logprobs():
    tokens = [{"token": "é", "logProbability": -0.5}, {"token": "f", "logProbability": -1}]
    result = {"chosenCandidates": tokens[:1], "topCandidates": [{"candidates": tokens}]}
    first, second = (
        {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
        {"token": "f", "logprob": -1, "bytes": [102]},
    )
    expected = {"content": [{**first, "top_logprobs": [first, second]}], "refusal": None}
    assert choice({"text": "é"}, logprobsResult=result)["logprobs"] == expected
    events = stream(reply(candidate({"text": "é"}, logprobsResult=result)))
    assert [c["logprobs"] for event in events for c in event.choices if c.get("logprobs")] == [expected]


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("reason", "parts", "expected"),
    [
        ("STOP", [{"text": "a"}], "stop"),
        ("STOP", [CALL], "tool_calls"),
        ("MAX_TOKENS", [CALL], "length"),
        ("SAFETY", [{"text": "a"}], "content_filter"),
        ("RECITATION", [], "content_filter"),
        ("BLOCKLIST", [], "content_filter"),
        ("PROHIBITED_CONTENT", [], "content_filter"),
        ("SPII", [], "content_filter"),
        ("IMAGE_SAFETY", [], "content_filter"),
        ("MALFORMED_FUNCTION_CALL", [], "content_filter"),
        ("NEW_REASON", [CALL], "content_filter"),
    ],
)
def test_it_says_why_it_ended_and_keeps_the_text(reason, parts, expected):
    ended = choice(*parts, reason=reason)
    assert ended["finish_reason"] == expected
    events = stream(reply(candidate(*parts, reason=reason)))
    assert [reason for event in events for reason in event.finish_reasons] == [expected]
    assert events[-1].kind is Kind.DONE
    if {"text": "a"} in parts:
        assert ended["message"]["content"] == "a"
        assert deltas(events) == [{"content": "a"}]


def test_it_takes_the_last_reason_of_models_that_say_one_in_every_chunk():
    events = stream(reply(candidate({"text": "a"})), reply(candidate({"text": "b"}, reason="MAX_TOKENS")))
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.CONTENT, Kind.FINISH, Kind.DONE]
    assert events[2].finish_reasons == ["length"]


def test_it_takes_an_unspecified_reason_for_none():
    assert stream(reply(candidate({"text": "a"}, reason="FINISH_REASON_UNSPECIFIED")))[-1].kind is Kind.ERROR


@pytest.mark.parametrize(
    "feedback", [{"blockReason": "SAFETY"}, {"blockReasonMessage": "no"}, {"safetyRatings": []}]
)
@pytest.mark.parametrize("usage", [{}, {"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}])
def test_it_answers_a_blocked_prompt_with_nothing(feedback, usage):
    answer = decode({"promptFeedback": feedback, **usage})
    expected = Usage(prompt=4) if usage else None
    assert (answer.finish_reasons, answer.usage) == (["content_filter"], expected)
    assert answer.message["choices"][0]["message"]["content"] is None
    events = stream({"promptFeedback": feedback, **usage})
    assert events[0].finish_reasons == ["content_filter"]
    assert events[-1].kind is Kind.DONE
    assert [event.usage for event in events if event.usage] == ([expected] if expected else [])


def test_it_ends_a_stream_that_is_blocked_after_some_text():
    started = reply(candidate({"text": "a"}, reason=None), promptFeedback={"safetyRatings": []})
    assert stream(started)[-1].kind is Kind.ERROR
    events = stream(started, {"promptFeedback": {"blockReason": "SAFETY"}})
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.FINISH, Kind.DONE]
    assert events[1].finish_reasons == ["content_filter"]


def test_it_wants_every_candidate_finished():
    started = reply(candidate({"text": "a"}), candidate({"text": "b"}, reason=None, index=1))
    assert stream(started)[-1].kind is Kind.ERROR
    events = stream(started, reply(candidate(reason="SAFETY", index=1)))
    finished = [(c["index"], c["finish_reason"]) for e in events for c in e.choices if c["finish_reason"]]
    assert finished == [(0, "stop"), (1, "content_filter")]


def test_it_gives_several_candidates_their_places():
    choices = decode(reply(candidate({"text": "a"}), candidate({"text": "b"}, index=1))).message["choices"]
    assert [(each["index"], each["message"]["content"]) for each in choices] == [(0, "a"), (1, "b")]


# ---------------------------------------------------------------- usage


def modalities(**tokens):
    return [{"modality": name, "tokenCount": number} for name, number in tokens.items()]


@pytest.mark.parametrize(
    ("metadata", "usage"),
    [
        (None, None),
        ({}, None),
        ({"serviceTier": "standard"}, None),
        ({"promptTokenCount": 0}, Usage()),
        (
            {
                "promptTokenCount": 7,
                "candidatesTokenCount": 4,
                "totalTokenCount": 31,
                "thoughtsTokenCount": 20,
            },
            Usage(prompt=7, completion=24, reasoning=20),
        ),
        # The candidates' tokens have the thoughts in them already.
        (
            {
                "promptTokenCount": 7,
                "candidatesTokenCount": 24,
                "totalTokenCount": 31,
                "thoughtsTokenCount": 20,
            },
            Usage(prompt=7, completion=24, reasoning=20),
        ),
        (
            {
                "promptTokenCount": 7,
                "toolUsePromptTokenCount": 3,
                "candidatesTokenCount": 4,
                "totalTokenCount": 14,
                "cachedContentTokenCount": 5,
            },
            Usage(prompt=10, completion=4, cached=5),
        ),
        ({"promptTokenCount": -1, "candidatesTokenCount": "4", "totalTokenCount": True}, Usage()),
        (
            {
                "promptTokenCount": 100,
                "promptTokensDetails": modalities(TEXT=40, AUDIO=30, IMAGE=10, VIDEO=12, DOCUMENT=8),
                "toolUsePromptTokenCount": 20,
                "toolUsePromptTokensDetails": modalities(IMAGE=5, TEXT=15),
                "cachedContentTokenCount": 50,
                "cacheTokensDetails": modalities(TEXT=25, AUDIO=20, IMAGE=5),
                "candidatesTokenCount": 30,
                "candidatesTokensDetails": modalities(TEXT=4, AUDIO=6, IMAGE=20),
                "thoughtsTokenCount": 3,
                "totalTokenCount": 153,
            },
            Usage(
                prompt=120,
                completion=33,
                cached=50,
                reasoning=3,
                audio_prompt=30,
                audio_cached=20,
                audio_completion=6,
                image_prompt=35,
                image_cached=5,
                image_completion=20,
            ),
        ),
        (
            {
                "promptTokenCount": 5,
                "promptTokensDetails": [*modalities(TEXT=5), 7, None, {"modality": []}, {"tokenCount": 3}],
                "cacheTokensDetails": "AUDIO",
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": "5"}],
            },
            Usage(prompt=5),
        ),
    ],
)
def test_it_counts_in_one_meaning(metadata, usage):
    assert decode(reply(candidate(), usageMetadata=metadata)).usage == usage


def test_it_takes_the_last_count_of_a_stream_and_never_adds():
    counts = [{"promptTokenCount": 169}, {"promptTokenCount": 79, "candidatesTokenCount": 12}]
    events = stream(
        *(reply(candidate({"text": "a"}), usageMetadata=each) for each in counts), reply(candidate())
    )
    assert [event.usage for event in events if event.usage] == [Usage(prompt=79, completion=12)]


# ---------------------------------------------------------------- broken


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        {"candidates": []},
        {"candidates": {}},
        {"candidates": ["x"]},
        {"candidates": [{"content": "x"}]},
        {"candidates": [{"content": {"parts": ["x"]}}]},
        {"candidates": [{"content": {"parts": [{"text": 3}]}}]},
        {"candidates": [{"content": {"parts": [{"text": 3, "thought": True}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "a", "thoughtSignature": 3}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": "{}"}}]}}]},
        {"candidates": [{"groundingMetadata": {"groundingChunks": 3}}]},
        {"promptFeedback": "no"},
    ],
)
def test_it_refuses_what_is_no_answer(message):
    with pytest.raises(UpstreamError) as raised:
        decode(message)
    assert (raised.value.owner, raised.value.code) == (Owner.HEALTH, "upstream_invalid_response")
    if message != {}:
        assert stream(message)[-1].kind is Kind.ERROR


def test_it_finds_an_error_that_came_with_status_200():
    failure = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    with pytest.raises(UpstreamError) as raised:
        decode(failure)
    assert raised.value.status == 503
    events = stream(reply(candidate({"text": "a"})), failure, reply(candidate({"text": "b"})))
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.ERROR]
    assert events[-1].error is not None
    assert events[-1].error.message == "overloaded"


def test_it_reads_nothing_after_the_end():
    assert [event.kind for event in stream(reply(candidate()), end=b"data: [DONE]\n\ndata: {}\n\n")] == [
        Kind.FINISH,
        Kind.DONE,
    ]


def test_it_passes_one_call_on_where_the_client_takes_no_more():
    body = reply(candidate(*({"functionCall": {"name": name, "args": {}}} for name in "ab")))
    call = make_call(parallel_tool_calls=False)
    whole = GEMINI.decode(orjson.dumps(body), call).message["choices"][0]
    assert [each["function"]["name"] for each in whole["message"]["tool_calls"]] == ["a"]
    assert whole["finish_reason"] == "tool_calls"
    piece = b"data: " + orjson.dumps(body) + b"\n\n"
    named = [each["tool_calls"][0]["function"]["name"] for each in deltas(decoded(GEMINI, [piece], call))]
    assert named == ["a"]
