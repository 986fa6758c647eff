"""Redaction of prompts, of whole answers in every format, and of streams."""

import copy
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Owner, UpstreamError
from providers.events import (
    Answer,
    Event,
    Kind,
    TextEvent,
    delta_event,
    done_event,
    failed_event,
    finish_event,
    usage_event,
)
from providers.usage import Usage
from providers.wires import EMBEDDINGS, MESSAGES
from proxy.assemble import assemble
from proxy.errors import BadRequest
from proxy.middleware.chain import ResponseChain
from proxy.middleware.patterns import KINDS, Kinds
from proxy.middleware.redaction import AnswerRedaction, Redaction
from proxy.middleware.scanner import redacted
from proxy.middleware.walking import MAX_DEPTH, Walk
from proxy.tests.middlewares import asked, context
from proxy.tests.test_middleware_patterns import TEXTS
from proxy.tests.test_plain import choice, chunk, decoded

ALL = Kinds(KINDS)
MAIL, CARD = "a@b.example", "4111 1111 1111 1111"
IMAGE = "data:image/png;base64,aGVsbG8="


@pytest.fixture
def redact(settings):
    unchanged = settings.GATEWAY

    def make(**env):
        settings.GATEWAY = replace(unchanged, **env)
        return Redaction()

    return make


# ---------------------------------------------------------------- prompts

PROMPTS = {
    "chat": (
        {
            "model": MAIL,
            "user": MAIL,
            "metadata": {"name": MAIL, "n": 4111111111111111},
            "messages": [
                {"role": "system", "content": f"Write to {MAIL}."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": CARD},
                        {"type": "image_url", "image_url": {"url": IMAGE}},
                        {
                            "type": "input_audio",
                            "input_audio": {"data": "sk-abcDEF0123456789abcdef", "format": "wav"},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "sk-abcDEF0123456789abcdef",
                            "type": "function",
                            "function": {"name": "a_b", "arguments": '{"card": 4111111111111111}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "sk-abcDEF0123456789abcdef", "content": MAIL},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "mail",
                        "description": f"as {MAIL}",
                        "parameters": {
                            "type": "object",
                            "properties": {"to": {"enum": [MAIL], "description": MAIL}},
                        },
                    },
                }
            ],
        },
        {
            "user": "[EMAIL]",
            "metadata": {"name": "[EMAIL]", "n": "[CARD]"},
            "messages.0.content": "Write to [EMAIL].",
            "messages.1.content.0.text": "[CARD]",
            "messages.2.tool_calls.0.function.arguments": '{"card": "[CARD]"}',
            "messages.3.content": "[EMAIL]",
            "tools.0.function.description": "as [EMAIL]",
            "tools.0.function.parameters.properties.to.description": "[EMAIL]",
        },
    ),
    "completions": (
        {"model": "m", "prompt": [MAIL, "x"], "suffix": CARD, "stop": ["\n"]},
        {"prompt.0": "[EMAIL]", "suffix": "[CARD]"},
    ),
    "embeddings": (
        {"model": "m", "input": [MAIL, [1, 2, 3]], "encoding_format": "float"},
        {"input.0": "[EMAIL]"},
    ),
    "messages": (
        {
            "model": "claude",
            "max_tokens": 5,
            "system": [{"type": "text", "text": MAIL, "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": MAIL},
                        },
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": MAIL, "signature": "c2ln"},
                        {"type": "tool_use", "id": "t", "name": "n", "input": {"name": MAIL, "n": [CARD]}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": MAIL}]},
            ],
        },
        {
            "system.0.text": "[EMAIL]",
            "messages.0.content.0.source.data": "[EMAIL]",
            "messages.1.content.1.input": {"name": "[EMAIL]", "n": ["[CARD]"]},
            "messages.2.content.0.content": "[EMAIL]",
        },
    ),
    "responses": (
        {
            "model": "m",
            "instructions": MAIL,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": MAIL}]},
                {"type": "function_call", "call_id": "c", "name": "n", "arguments": '{"a": "a@b.example"}'},
                {"type": "function_call_output", "call_id": "c", "output": CARD},
                {
                    "type": "reasoning",
                    "id": "r",
                    "summary": [],
                    "encrypted_content": "sk-abcDEF0123456789abcdef",
                },
            ],
        },
        {
            "instructions": "[EMAIL]",
            "input.0.content.0.text": "[EMAIL]",
            "input.1.arguments": '{"a": "[EMAIL]"}',
            "input.2.output": "[CARD]",
        },
    ),
    "simple": ({"message": MAIL}, {"message": "[EMAIL]"}),
}


def put(body, path, value):
    *way, last = path.split(".")
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body[step]
    body[int(last) if isinstance(body, list) else last] = value


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("length", ["10", "1000000", ""], ids=["here", "in a thread", "in chunks"])
async def test_it_redacts_the_texts_of_a_prompt_and_nothing_else(redact, name, length):
    body, changes = PROMPTS[name]
    before, expected = copy.deepcopy(body), copy.deepcopy(body)
    for path, value in changes.items():
        put(expected, path, value)
    headers = {"content-length": length} if length else {}
    request = asked(body)
    result = await redact().request(type(request)(name, headers, body, request.caller))
    assert result.body == expected
    assert body == before
    assert (result.endpoint, result.headers) == (name, headers)


async def test_a_prompt_with_nothing_in_it_is_the_same_object(redact):
    request = asked({"model": "m", "messages": [{"role": "user", "content": "hello"}], "n": 1, "x": [1, 2]})
    assert await redact().request(request) is request


async def test_what_is_no_json_passes(redact):
    form = type(asked())("audio.transcriptions", {}, None, asked().caller)
    assert await redact().request(form) is form


async def test_it_redacts_prompts_only_if_told(redact):
    request = asked({"message": MAIL})
    assert await redact(redact_directions=("answers",)).request(request) is request


async def test_it_redacts_only_the_kinds_that_are_on(redact):
    result = await redact(redact_kinds=("card",)).request(asked({"message": f"{MAIL} {CARD}"}))
    assert result.body == {"message": f"{MAIL} [CARD]"}


async def test_it_refuses_what_is_nested_too_deeply(redact):
    body: dict[str, object] = {"x": MAIL}
    for _ in range(MAX_DEPTH + 1):
        body = {"x": body}
    with pytest.raises(BadRequest, match="nested too deeply"):
        await redact().request(asked(body))


# ---------------------------------------------------------------- whole answers


def test_it_watches_answers_only_if_told_and_no_vectors(redact):
    assert redact(redact_directions=("prompts",)).begin(context()) is None
    assert redact().begin(context(wire=EMBEDDINGS)) is None
    assert redact().begin(context()) is not None


def whole(message, **fields):
    return Answer(usage=Usage(1, 2), finish_reasons=["stop"], **fields, message=message)


def test_it_redacts_a_whole_answer_in_the_canonical_form():
    message = {
        "role": "assistant",
        "content": MAIL,
        "reasoning_content": MAIL,
        "refusal": MAIL,
        "thinking_blocks": [{"type": "thinking", "thinking": MAIL, "signature": "x"}],
        "annotations": [
            {"type": "url_citation", "url_citation": {"url": "https://x.example", "title": MAIL}}
        ],
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n":4111111111111111}'}}
        ],
        "reasoning_details": [{"type": "reasoning.text", "text": MAIL}],
    }
    answer = whole(
        {"choices": [{"index": 0, "message": message, "logprobs": {"content": [{"token": "a@"}]}}]}
    )
    redacted_answer = AnswerRedaction(ALL, Walk(ALL, keep_signed=False)).answer(answer)
    assert MAIL not in str(redacted_answer.message)
    assert "4111" not in str(redacted_answer.message)
    (said,) = redacted_answer.message["choices"]
    assert said["logprobs"] is None
    assert said["message"]["tool_calls"][0]["function"]["arguments"] == '{"n":"[CARD]"}'
    assert said["message"]["thinking_blocks"] == [
        {"type": "thinking", "thinking": "[EMAIL]", "signature": ""}
    ]
    assert (redacted_answer.usage, redacted_answer.finish_reasons) == (Usage(1, 2), ["stop"])


def test_it_redacts_a_vendors_body_in_its_own_format():
    body = {"type": "message", "content": [{"type": "text", "text": MAIL}], "id": "msg_1"}
    answer = Answer(
        usage=None,
        finish_reasons=["stop"],
        body=orjson.dumps(body),
        wire=MESSAGES,
        parse=lambda body: {"canonical": orjson.loads(body)["content"][0]["text"]},
    )
    said = AnswerRedaction(ALL, Walk(ALL, keep_signed=False)).answer(answer)
    assert (said.wire, orjson.loads(said.body)["content"][0]["text"]) == (MESSAGES, "[EMAIL]")
    assert said.message == {"canonical": "[EMAIL]"}


@pytest.mark.parametrize(
    "said", [{"choices": [{"message": {"content": "hi"}}]}, {"data": [{"embedding": [0.5]}]}]
)
def test_an_answer_with_nothing_in_it_is_the_same_object(said):
    answer = whole(said)
    assert AnswerRedaction(ALL, Walk(ALL, keep_signed=False)).answer(answer) is answer


# ---------------------------------------------------------------- streams


def watch():
    return AnswerRedaction(ALL, Walk(ALL, keep_signed=False))


def through(events, watching=None):
    watching = watching or watch()
    return [made for event in events for made in watching.events([event])]


def message_of(events, index=0):
    choices = assemble(events, id="i", created=1, model="m")["choices"]
    return next(each for each in choices if each["index"] == index)["message"]


ENDED = [finish_event("stop"), usage_event(Usage(1, 2)), done_event()]


def test_a_pattern_over_many_chunks_is_still_found():
    out = through(
        [*map(TextEvent, ["Write to a", "@", "b.exam", "ple", " or 4111", " 1111 11", "11 1111"]), *ENDED]
    )
    assert message_of(out)["content"] == "Write to [EMAIL] or [CARD]"
    assert [event.kind for event in out[-3:]] == [Kind.FINISH, Kind.USAGE, Kind.DONE]
    assert not any("@" in str(event.choices) for event in out)


def test_prose_is_not_held_back_by_more_than_a_word():
    watching = watch()
    assert [each.text for each in watching.events([TextEvent("One two th")])] == ["One two "]
    assert watching.events([TextEvent("ree")]) == []
    assert [each.text for each in watching.events([TextEvent(" four.")])] == ["three "]


FIELDS = {
    "content": lambda piece: {"content": piece},
    "reasoning_content": lambda piece: {"reasoning_content": piece},
    "reasoning": lambda piece: {"reasoning": piece},
    "refusal": lambda piece: {"refusal": piece},
    "something_new": lambda piece: {"something_new": piece},
}


@given(
    text=TEXTS.filter(bool),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
    field=st.sampled_from(sorted(FIELDS)),
    end=st.sampled_from([ENDED, [done_event()], [failed_event(UpstreamError("x", owner=Owner.HEALTH))]]),
)
def test_every_text_of_a_stream_says_the_redaction_of_all_of_it(text, cuts, field, end):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:stop] for start, stop in pairwise(places)]
    out = through([*(delta_event(FIELDS[field](piece)) for piece in pieces), *end])
    assert message_of(out)[field] == redacted(text, ALL)


@given(texts=st.lists(TEXTS, min_size=2, max_size=2), rng=st.randoms(use_true_random=False))
def test_parallel_choices_are_texts_of_their_own(texts, rng):
    letters = [list(text) for text in texts]
    events = []
    while any(letters):
        index = rng.choice([place for place, left in enumerate(letters) if left])
        events.append(delta_event({"content": letters[index].pop(0)}, index=index))
    out = through([*events, finish_event("stop", index=0), finish_event("stop", index=1), done_event()])
    for index, text in enumerate(texts):
        assert (message_of(out, index)["content"] or "") == redacted(text, ALL)


def call_event(arguments, *, index=0, identity=None, name=None):
    function = {"arguments": arguments} | ({"name": name} if name else {})
    call = {"index": index, "function": function} | ({"id": identity, "type": "function"} if identity else {})
    return delta_event({"tool_calls": [call]})


def test_tool_calls_stay_json_and_apart_even_if_they_come_in_turns():
    events = [
        call_event("", identity="call_1", name="mail"),
        call_event("", index=1, identity="call_2", name="pay"),
        call_event('{"to": "a@b.'),
        call_event('{"card": 4111', index=1),
        call_event('example"}'),
        call_event('111111111111, "x": 1}', index=1),
        finish_event("tool_calls"),
        done_event(),
    ]
    out = through(events)
    first, second = message_of(out)["tool_calls"]
    assert (first["id"], first["function"]["name"]) == ("call_1", "mail")
    assert first["function"]["arguments"] == '{"to": "[EMAIL]"}'
    assert second["function"]["arguments"] == '{"card": "[CARD]", "x": 1}'


def test_calls_without_an_index_or_under_the_same_one_stay_apart():
    named = {"name": "f"}
    events = [
        delta_event({"tool_calls": [{"id": "1", "function": {"arguments": '{"a": "a@b.', **named}}]}),
        delta_event({"tool_calls": [{"function": {"arguments": 'example"}'}}]}),
        delta_event({"tool_calls": [{"id": "2", "function": {"arguments": '{"b": 1}', **named}}]}),
    ]
    out = through([*events, finish_event("tool_calls"), done_event()])
    assert [each["function"]["arguments"] for each in message_of(out)["tool_calls"]] == [
        '{"a": "[EMAIL]"}',
        '{"b": 1}',
    ]
    events = [
        call_event('{"a": 1}', identity="1", name="f"),
        call_event('{"b": "a@b.example"}', identity="2", name="f"),
    ]
    out = through([*events, finish_event("tool_calls"), done_event()])
    assert [each["function"]["arguments"] for each in message_of(out)["tool_calls"]] == [
        '{"a": 1}',
        '{"b": "[EMAIL]"}',
    ]


def test_half_arguments_are_let_go_in_their_call():
    out = through(
        [call_event('{"a": "half', index=1, identity="x", name="f"), finish_event("length"), done_event()]
    )
    (call,) = message_of(out)["tool_calls"]
    assert call["function"]["arguments"] == '{"a": "half'


def test_custom_tools_and_old_functions_are_redacted_too():
    events = [
        delta_event({"tool_calls": [{"index": 0, "id": "c", "custom": {"name": "n", "input": "to a@b."}}]}),
        delta_event({"tool_calls": [{"index": 0, "custom": {"input": "example"}}]}),
    ]
    out = through([*events, finish_event("tool_calls")])
    told = [
        call["custom"]["input"]
        for event in out
        for each in event.choices
        for call in each["delta"].get("tool_calls", ())
    ]
    assert "".join(told) == "to [EMAIL]"
    events = [
        delta_event({"function_call": {"name": "f", "arguments": '{"a": "a@b.'}}),
        delta_event({"function_call": {"arguments": 'example"}'}}),
    ]
    out = through([*events, finish_event("function_call")])
    assert message_of(out)["function_call"] == {"name": "f", "arguments": '{"a": "[EMAIL]"}'}


def test_thought_ends_before_words_and_words_before_a_call():
    events = [
        delta_event({"role": "assistant", "content": ""}, kind=Kind.META),
        delta_event({"reasoning_content": "think", "content": None}),
        delta_event({"content": "word"}),
        call_event("{}", identity="c", name="f"),
        *ENDED,
    ]
    deltas = [each["delta"] for event in through(events) for each in event.choices]
    assert [sorted(set(delta) - {"role"}) for delta in deltas] == [
        [],
        ["reasoning_content"],
        ["content"],
        ["tool_calls"],
        [],
    ]
    assert through(events)[0].kind is Kind.META


def test_thought_told_under_two_names_is_scanned_under_both():
    pieces = ["a@b", ".exam", "ple"]
    out = through(
        [*(delta_event({"reasoning": piece, "reasoning_content": piece}) for piece in pieces), *ENDED]
    )
    message = message_of(out)
    assert (message["reasoning"], message["reasoning_content"]) == ("[EMAIL]", "[EMAIL]")


def test_what_could_hide_text_is_withheld():
    signed = {"type": "thinking", "thinking": "fine", "signature": "x"}
    events = [
        delta_event({"reasoning_details": [{"text": "a@"}], "unknown": {"x": MAIL}, "number": 1}),
        delta_event({"thinking_blocks": [{"type": "thinking", "thinking": MAIL, "signature": "x"}, signed]}),
        delta_event({"annotations": [{"type": "url_citation", "url_citation": {"title": MAIL}}]}),
        delta_event({"audio": {"id": "a", "data": "aGk=", "transcript": "a@b.ex"}}),
        delta_event({"audio": {"transcript": "ample"}}),
        delta_event({"content": [{"type": "text", "text": "a@"}, "b.exa"]}),
        delta_event({"content": [{"type": "text", "text": "mple"}]}),
        *ENDED,
    ]
    out = through(events)
    assert not any(MAIL in str(event.choices) or "a@" in str(event.choices) for event in out)
    message = message_of(out)
    assert message["number"] == 1
    assert message["thinking_blocks"] == [signed]
    assert message["annotations"][0]["url_citation"]["title"] == "[EMAIL]"
    assert message["audio"]["transcript"] == "[EMAIL]"
    assert not {"reasoning_details", "unknown"} & set(message)


def test_probabilities_of_tokens_are_withheld():
    said = {"index": 0, "delta": {"content": "a@b.example"}, "logprobs": {"content": [{"token": "a@"}]}}
    end = {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": {"content": [{"token": "b"}]}}
    out = through(
        [Event(Kind.CONTENT, choices=[said]), Event(Kind.FINISH, choices=[end], finish_reasons=["stop"])]
    )
    assert not any(each.get("logprobs") for event in out for each in event.choices)


def test_content_in_the_event_that_finishes_is_redacted_and_goes_out_before():
    end = Event(
        Kind.FINISH,
        choices=[{"index": 0, "delta": {"content": "example"}, "finish_reason": "stop"}],
        finish_reasons=["stop"],
        usage=Usage(3, 4),
    )
    out = through([TextEvent("a@b."), end])
    assert [event.kind for event in out] == [Kind.CONTENT, Kind.FINISH]
    assert out[0].choices[0]["delta"] == {"content": "[EMAIL]"}
    assert (out[1].usage, out[1].finish_reasons, out[1].choices[0]["delta"]) == (Usage(3, 4), ["stop"], {})


def test_usage_told_beside_content_is_kept():
    event = Event(Kind.CONTENT, choices=[choice({"content": "a@"})], usage=Usage(1, 1))
    (told,) = through([event])
    assert (told.kind, told.usage, list(told.choices)) == (Kind.USAGE, Usage(1, 1), [])


def test_a_vendors_bytes_are_read_and_redacted_by_the_chain(redact):
    stream = [
        chunk(choice({"role": "assistant", "content": ""})),
        *[chunk(choice({"content": letter})) for letter in f"To {MAIL}, {CARD}."],
        chunk(choice({}, "stop")),
        b"data: [DONE]\n\n",
    ]
    for pieces in (lambda stream: [b"".join(stream)], list):
        watching = ResponseChain([redact()]).begin(context())
        out = [made for event in decoded(stream, pieces=pieces) for made in watching.events([event])]
        assert not any(event.raw for event in out)
        assert message_of(out)["content"] == "To [EMAIL], [CARD]."


def test_it_compiles_its_patterns_once(redact):
    assert redact()._kinds is redact()._kinds
